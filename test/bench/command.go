package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"originchain/shared/aws/s3object/s3test/gateway"
	"originchain/shared/telemetry"
	"originchain/test/bench/load"
)

func command() *cobra.Command {
	var o options
	names := make([]string, 0, len(groups()))
	for _, g := range groups() {
		names = append(names, g.name)
	}
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure the server against its targets",
		Long: `Runs every benchmark and prints, for each figure, its target, what was measured,
and how long an fsync took on this disk in the same run. The client of the HTTP
benchmarks is a process of its own on the same cores, and so are a writer and
its follower. Some figures are compared with PostgreSQL, run in a directory of
its own with its defaults, and its archive with pgBackRest's; restores with Litestream's too. A
peer that is not here, and cannot be installed, is reported as not here.

Exit codes: 0 every figure was produced (whether or not it met its target);
1 a figure could not be produced, or one missed its target under --strict.`,
		Example:       "  make bench\n  go run ./test/bench --only recovery --json recovery.json",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       telemetry.Version,
		RunE:          func(c *cobra.Command, _ []string) error { return measure(c.Context(), o, c.OutOrStdout()) },
	}
	f := c.Flags()
	f.StringVar(&o.only, "only", "", "run only these, separated by commas: "+strings.Join(names, ", ")+"; replication is all three of it, archive all five")
	f.StringVar(&o.json, "json", "", "write the figures to this file as JSON")
	f.StringVar(&o.binary, "server", "bin/oc-server", "the server to measure; `make build` makes it")
	f.StringVar(&o.pitr, "pitr", "bin/oc-pitr", "the program that restores; `make build` makes it")
	f.StringVar(&o.dir, "dir", "var", "directory on the disk to measure; a temporary one is made in it and removed")
	f.StringVar(&o.readme, "write-readme", "", "replace the benchmark block of this file, between <!-- bench:begin --> and <!-- bench:end -->")
	f.IntVar(&o.rounds, "rounds", lossRounds, "how many machines archive-loss takes away, for each store")
	f.StringVar(&o.litestream, "litestream", "", "the Litestream to compare restores with (default: one of the release compared with, installed for the run)")
	f.BoolVar(&o.quick, "quick", false, "a fraction of the time and data: shows that every figure is produced, not what it is")
	f.BoolVar(&o.strict, "strict", false, "fail when a figure misses its target")
	c.AddCommand(&cobra.Command{
		Use:    "load",
		Short:  "Be the client of a benchmark: a specification on stdin, a result on stdout",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(c *cobra.Command, _ []string) error { return load.Main(c.InOrStdin(), c.OutOrStdout()) },
	})
	c.AddCommand(&cobra.Command{
		Use:    "gateway DIR",
		Short:  "Be the S3 of a benchmark, on a directory, until the input ends",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE:   func(_ *cobra.Command, args []string) error { return gateway.Serve(args[0]) },
	})
	return c
}

// options are the flags.
type options struct {
	only, json, binary, pitr, dir, readme, litestream string
	rounds                                            int
	quick, strict                                     bool
}

// chosen returns the groups that --only names, or whose names begin so; all
// without it.
func (o *options) chosen() ([]group, error) {
	if o.rounds < 1 {
		return nil, fmt.Errorf("--rounds %d: it is at least 1", o.rounds)
	}
	if o.only == "" {
		return groups(), nil
	}
	var out []group
	for _, name := range strings.Split(o.only, ",") {
		found := false
		for _, g := range groups() {
			if name = strings.TrimSpace(name); g.name == name || strings.HasPrefix(g.name, name+"-") {
				out, found = append(out, g), true
			}
		}
		if !found {
			return nil, fmt.Errorf("--only %s: there is no such benchmark; see --help for their names", name)
		}
	}
	return out, nil
}

// binaryThere says what to do when there is no server to measure.
func (o *options) binaryThere() error {
	for _, path := range []string{o.binary, o.pitr} {
		if _, err := os.Stat(path); err != nil {
			return fmt.Errorf("%w; run `make build` first, in the root of the repository", err)
		}
	}
	return nil
}
