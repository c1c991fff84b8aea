package main

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/spf13/cobra"

	"originchain/scripts/kill9/rounds"
	"originchain/shared/telemetry"
)

func command() *cobra.Command {
	var c rounds.Config
	cmd := &cobra.Command{
		Use:   "kill9",
		Short: "Kill oc-server under load and check what it kept",
		Long: `Each round runs oc-server under load, ends it with kill -9 at a random moment,
starts it again, and checks that every acknowledged row is there, that no batch
is torn, that nothing is there that nobody sent, and that repeated requests get
their first answers. At the end the digest of the state is recomputed from every key.

Exit codes: 0 every round held; 1 a check failed or something could not be run.
A failing run prints its seed: give it as --seed for the same plan of writes and kills.`,
		Example:       "  go run ./scripts/kill9 --rounds 50 --seed 7",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       telemetry.Version,
	}
	f := cmd.Flags()
	f.StringVar(&c.Binary, "server", "bin/oc-server", "the server to run; `make build` makes it")
	f.StringVar(&c.Dir, "dir", "", "directory for the data; empty takes a temporary one")
	f.IntVar(&c.Rounds, "rounds", 50, "how many kills")
	f.IntVar(&c.Clients, "clients", 16, "how many clients write at once")
	f.Uint64Var(&c.Seed, "seed", 0, "plan of writes and kills; 0 takes a random one and prints it")
	f.DurationVar(&c.MinLife, "min-life", 20*time.Millisecond, "shortest time under load")
	f.DurationVar(&c.MaxLife, "max-life", 400*time.Millisecond, "longest time under load")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return run(cmd, c) }
	return cmd
}

func run(cmd *cobra.Command, c rounds.Config) (err error) {
	out := cmd.OutOrStdout()
	if c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	if c.Dir == "" {
		if c.Dir, err = os.MkdirTemp("", "kill9-"); err != nil {
			return err
		}
		defer func() {
			if err != nil {
				err = fmt.Errorf("%w\nthe data directory is kept for a look: %s", err, c.Dir)
				return
			}
			err = errors.Join(err, os.RemoveAll(c.Dir))
		}()
	}
	sayf(out, "kill -9, %d rounds, %d clients, seed %d\n", c.Rounds, c.Clients, c.Seed)
	c.Progress = func(r rounds.Round) {
		sayf(out, "round %3d: killed after %6s; %5d writes acknowledged, %2d under way (%d survived), %d kills while opening, ready again in %s\n",
			r.N, r.Life.Round(time.Millisecond), r.Acked, r.Unknown, r.Kept, r.Openings, r.Recovery.Round(time.Millisecond))
	}
	report, err := rounds.Run(cmd.Context(), c)
	if err != nil {
		return err
	}
	sayf(out, "held: %d rounds, %d acknowledged writes, %d under way (%d survived), %d rows, slowest recovery %s; digest equal over %d keys\n",
		report.Rounds, report.Acked, report.Unknown, report.Kept, report.Rows, report.SlowestRecovery.Round(time.Millisecond), report.Keys)
	return nil
}

// sayf prints for the person in front of the terminal; a closed stdout does not
// make a round fail.
func sayf(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
