package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"

	"github.com/spf13/cobra"

	"originchain/shared/cli"
	"originchain/shared/failover"
	"originchain/writer/config"
)

// name is what the command is called by, in its messages too.
const name = "promote-follower.sh"

// The exit codes: those of every command, and its own.
const (
	exitOK      = cli.ExitOK
	exitFailure = cli.ExitFailure
	exitUsage   = cli.ExitUsage
	exitRefused = 3
	exitOther   = 4
	exitLeft    = 5
)

const long = `Make a follower the writer of its instance: confirm, fence, derive unit, raise
epoch, promote, smoke, dns, record. A writer that is well hands over. Run it again after
any interruption: it finishes the job.

Exit codes:
  0  the node is the writer, or --dry-run has said what would be done
  1  failed; the message says how far it came. Run it again when that is mended
  2  usage
  3  nothing was done: a guard stands, or the writer is well. The message names the
     flags that give the guards up
  4  a failover to another node is under way
  5  the node is the writer, and something was left: run it again`

// program is what the outside of the command is made of.
type program struct {
	version        string
	args           []string
	stdout, stderr io.Writer
	reach          providers
}

// options are the command line.
type options struct {
	writer, follower, provider string
	// dir is for local, instance and region for aws.
	dir, instance, region string
	dryRun, asJSON        bool
	allow                 failover.Overrides
}

func run(ctx context.Context, p program) int {
	var o options
	cmd := &cobra.Command{
		Use: name + " --writer-instance ID --follower-instance ID", Short: "Make a follower the writer", Long: long,
		Version: fmt.Sprintf("%s, %s", p.version, runtime.Version()),
		Args:    cli.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return p.promote(cmd.Context(), &o) },
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&o.writer, "writer-instance", "", "the node that writes, by its id or its machine's")
	f.StringVar(&o.follower, "follower-instance", "", "the node that is to")
	f.StringVar(&o.provider, "provider", "local", "where the instance runs: aws, or local under oc-control")
	f.StringVar(&o.dir, "dir", "", "the directory of oc-control, with --provider local")
	f.StringVar(&o.instance, "instance", "", "the instance's name, with --provider aws")
	f.StringVar(&o.region, "region", "", "the instance's region, with --provider aws; that of the environment unless given")
	f.BoolVar(&o.dryRun, "dry-run", false, "decide, say what each step would do, and change nothing")
	f.BoolVar(&o.allow.AllowSlowWriter, "allow-slow-writer", false, "replace a writer that answers, and slowly")
	f.Uint64Var(&o.allow.AllowLag, "allow-lag", failover.DefaultAllowLag, "LSNs that the follower may be behind")
	f.BoolVar(&o.allow.AllowBackfilling, "allow-backfilling", false, "do it while a migration is backfilling")
	f.BoolVar(&o.allow.AcceptDataLoss, "accept-data-loss", false, "promote a node that lacks what may have been acknowledged")
	f.BoolVar(&o.asJSON, "json", false, "print the report as one JSON document on standard output, and the steps on standard error")
	return cli.Run(ctx, cmd, cli.Streams{Args: p.args, Stdout: p.stdout, Stderr: p.stderr}, code)
}

// code is the exit code of a run that has failed.
func code(err error) int {
	var refused *failover.RefusedError
	var other *failover.OtherRunError
	var left *failover.LeftError
	switch {
	case errors.As(err, &other):
		return exitOther
	case errors.As(err, &left):
		return exitLeft
	case errors.As(err, &refused):
		return exitRefused
	}
	return exitFailure
}

func (p program) promote(ctx context.Context, o *options) (err error) {
	if o.writer == "" || o.follower == "" {
		return cli.Usage(errors.New("name both nodes: --writer-instance and --follower-instance"))
	}
	open, ok := p.reach[o.provider]
	if !ok {
		return cli.Usage(fmt.Errorf("--provider %q is neither aws nor local", o.provider))
	}
	deps, zone, err := open(ctx, o)
	if err != nil {
		return err
	}
	deps.Flags = config.Known()
	steps := p.stdout
	if o.asJSON {
		steps = p.stderr
	}
	report, err := failover.Execute(ctx, deps, failover.Request{
		From: o.writer, To: o.follower, Planned: true, DryRun: o.dryRun, Allow: o.allow, Zone: zone,
	}, failover.Print(steps))
	if o.provider == providerAWS && !o.dryRun && ctx.Err() == nil { // oc-control does it by itself
		p.letGo(ctx, deps, &report)
	}
	if o.asJSON {
		enc := json.NewEncoder(p.stdout)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return errors.Join(err, enc.Encode(report))
	}
	if err == nil && !o.dryRun {
		_, _ = fmt.Fprintf(p.stdout, "%s is the writer of epoch %d; %.2f s\n", report.To, report.Epoch, report.Seconds)
	}
	return err
}

// letGo starts the old writer's server again, where the failover has begun to stop it, however
// it has ended: nobody else would.
func (p program) letGo(ctx context.Context, deps failover.Deps, report *failover.Report) {
	const confirmed = 1 // steps
	if report.Run == "" || len(report.Steps) <= confirmed {
		return
	}
	said, err := failover.LetGo(ctx, deps, report.Run)
	var held *failover.HeldError
	switch {
	case errors.As(err, &held):
		said = err.Error()
	case err != nil:
		said = err.Error() + "; start it there when its machine is well"
	}
	report.Notes = append(report.Notes, said)
	_, _ = fmt.Fprintf(p.stderr, "%s: %s\n", name, said)
}
