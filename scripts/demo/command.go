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
questions of them, and shows how far the follower is behind and what the archive
holds. Then it stays up until Ctrl-C. Run again, it goes on with the data that is
there.

Exit codes: 0 stopped in order; 1 something failed, and the message says what to do.`,
		Example:       "  make demo\n  go run ./scripts/demo --dir /tmp/oc-demo --once\n  make demo-restore",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       telemetry.Version,
		RunE: func(c *cobra.Command, _ []string) error {
			o.listenGiven = c.Flags().Changed("listen")
			return run(c.Context(), o, os.Stdout)
		},
	}
	f := c.PersistentFlags()
	f.StringVar(&o.dir, "dir", "var/demo", "where the demo keeps its data, tokens and log")
	f.StringVar(&o.binary, "server", "bin/oc-server", "the server to run; `make build` makes it")
	f.StringVar(&o.pitr, "pitr", "bin/oc-pitr", "the program that restores; `make build` makes it")
	f.StringVar(&o.listen, "listen", defaultListen, "loopback address to serve on")
	c.Flags().BoolVar(&o.once, "once", false, "stop after the queries")
	c.AddCommand(restoreCommand(&o))
	return c
}

func restoreCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "restore",
		Short: "Delete a table, restore to the second before, and show the rows again",
		Long: `Starts the demo's servers, with its data, notes the time, and a second later drops
the table demo.flights. When the archive holds that, too, oc-pitr restores the moment
before it into the directory "restored" beside the data; the copy is verified, and a
server is opened on it, as an instance of its own, that shows the rows again. Then
everything is stopped.

It always starts servers of its own: where a demo runs in the same directory already,
stop that one first, or name another directory with --dir. The restored copy stays
until the next run, which makes another. The table stays dropped in the demo's own
data; the next demo loads it again.

Ctrl-C ends it at any time: no server stays, and no copy that is not whole.

Exit codes: 0 the rows are there again; 1 something failed, and the message says what
to do; 130 ended by Ctrl-C before it was done.`,
		Example:               "  make demo-restore\n  go run ./scripts/demo restore --dir /tmp/oc-demo",
		Args:                  cobra.NoArgs,
		DisableFlagsInUseLine: true,
		RunE: func(c *cobra.Command, _ []string) error {
			o.listenGiven = c.Flags().Changed("listen")
			return runRestore(c.Context(), *o, os.Stdout, os.Stderr)
		},
	}
}
