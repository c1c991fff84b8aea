package main

import (
	"os"

	"github.com/spf13/cobra"

	"originchain/shared/telemetry"
)

// defaultListen is used when it is free; a port that something else holds is
// replaced by a free one, unless the caller named it.
const defaultListen = "127.0.0.1:7420"

func command() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "demo",
		Short: "Start a writer and a follower with real data and show what they can do",
		Long: `Starts oc-server on a loopback port and another one that follows it, creates a
tenant, registers two tables, loads 3,376 airports and 20,000 flights, asks three
questions of them, and shows how far the follower is behind. Then it stays up
until Ctrl-C. Run again, it goes on with the data that is there.

Exit codes: 0 stopped in order; 1 something failed, and the message says what to do.`,
		Example:       "  make demo\n  go run ./scripts/demo --dir /tmp/oc-demo --once",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       telemetry.Version,
		RunE: func(c *cobra.Command, _ []string) error {
			o.listenGiven = c.Flags().Changed("listen")
			return run(c.Context(), o, os.Stdout)
		},
	}
	f := c.Flags()
	f.StringVar(&o.dir, "dir", "var/demo", "where the demo keeps its data, tokens and log")
	f.StringVar(&o.binary, "server", "bin/oc-server", "the server to run; `make build` makes it")
	f.StringVar(&o.listen, "listen", defaultListen, "loopback address to serve on")
	f.BoolVar(&o.once, "once", false, "stop after the queries")
	return c
}
