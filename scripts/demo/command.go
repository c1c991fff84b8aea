package main

import (
	"os"

	"github.com/spf13/cobra"

	"originchain/shared/telemetry"
)

func command() *cobra.Command {
	var o options
	c := &cobra.Command{
		Use:   "demo",
		Short: "Have an instance up with real data in it, and show what it can do",
		Long: `Has an instance up as oc-control does: a writer, a follower and an archive behind one
endpoint. Registers two tables, loads 3,376 airports and 20,000 flights, asks three
questions of them, and shows how far the follower is behind and what the archive holds.
Then it says when another node becomes the writer, until Ctrl-C, which takes the instance
down in order. Run again, it goes on with the data that is there.

A demo that was killed leaves its instance up: the next one ends it in order and starts
it again, and so does oc-control down with the same --dir.

Exit codes: 0 stopped in order; 1 something failed, and the message says what to do.`,
		Example:       "  make demo\n  go run ./scripts/demo --dir /tmp/oc-demo --once\n  make demo-restore",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       telemetry.Version,
		RunE:          func(c *cobra.Command, _ []string) error { return run(c.Context(), o, os.Stdout) },
	}
	f := c.PersistentFlags()
	f.StringVar(&o.dir, "dir", "var/demo", "the directory of the instance")
	c.Flags().BoolVar(&o.once, "once", false, "take the instance down after the tour")
	programs := func(c *cobra.Command) *cobra.Command {
		c.Flags().StringVar(&o.bin, "bin", "bin", "where oc-control, oc-server and oc-pitr are; `make build` makes them")
		return c
	}
	c.AddCommand(programs(restoreCommand(&o)), loadCommand(&o))
	return programs(c)
}

func loadCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:                   "load",
		Short:                 "Load the real data into an instance that is up",
		Example:               "  bin/oc-control up --dir var/instance --detach\n  go run ./scripts/demo load --dir var/instance",
		Args:                  cobra.NoArgs,
		DisableFlagsInUseLine: true,
		RunE:                  func(c *cobra.Command, _ []string) error { return runLoad(c.Context(), *o, os.Stdout) },
	}
}

func restoreCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "restore",
		Short: "Delete a table, restore to the second before, and show the rows again",
		Long: `Has the demo's instance up, with its data, notes the time, and a second later drops the
table demo.flights. When the archive holds that, too, oc-pitr restores the moment before
it into the directory "restored" beside the data; the copy is verified, and a server is
opened on it, as an instance of its own, that shows the rows again. Then everything is
stopped.

Where a demo runs in the same directory already, stop that one first, or name another
directory with --dir. The restored copy stays until the next run, which makes another. The
table stays dropped in the demo's own data; the next demo loads it again.

Ctrl-C ends it at any time: nothing stays up, and no copy that is not whole.

Exit codes: 0 the rows are there again; 1 something failed, and the message says what
to do; 130 ended by Ctrl-C before it was done.`,
		Example:               "  make demo-restore\n  go run ./scripts/demo restore --dir /tmp/oc-demo",
		Args:                  cobra.NoArgs,
		DisableFlagsInUseLine: true,
		RunE:                  func(c *cobra.Command, _ []string) error { return runRestore(c.Context(), *o, os.Stdout, os.Stderr) },
	}
}
