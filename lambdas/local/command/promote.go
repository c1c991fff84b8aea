package command

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"originchain/lambdas/local/control"
	"originchain/lambdas/local/drill"
	"originchain/lambdas/local/layout"
	"originchain/scripts/call"
)

func (c *command) promoteCommand() *cobra.Command {
	var p control.Promotion
	var asJSON bool
	cmd := &cobra.Command{
		Use: "promote", Short: "Make a follower the writer",
		Long: `Makes a follower the writer, in the eight steps of a failover. It is refused while the
writer is well, unless --planned: then the writer hands over, nothing that was
acknowledged is lost, and writes pause for less than a second.

Each further flag gives up one guard; the report of a refusal names the one that helps.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, _, err := c.client()
			if err != nil {
				return err
			}
			report, err := client.Promote(cmd.Context(), p, func(line string) { c.sayf(c.Stderr, "%s", line) })
			if len(report) > 0 && asJSON {
				if err := c.document(report); err != nil {
					return err
				}
			}
			if err != nil {
				return err
			}
			return refused(report)
		},
	}
	f := cmd.Flags()
	f.StringVar(&p.Target, "target", "", "the follower to be promoted (default: the one that has most)")
	f.BoolVar(&p.Planned, "planned", false, "the writer is well and hands over")
	f.BoolVar(&p.DryRun, "dry-run", false, "say what would be done, and do nothing")
	f.BoolVar(&p.AllowSlowWriter, "allow-slow-writer", false, "promote although the writer answers, slowly")
	f.Uint64Var(&p.AllowLag, "allow-lag", 0, "promote although the follower is this many LSNs behind (default 1000)")
	f.BoolVar(&p.AllowBackfilling, "allow-backfilling", false, "promote in the middle of a migration's backfill")
	f.BoolVar(&p.AcceptDataLoss, "accept-data-loss", false, "promote although acknowledged writes may be lost; the report names which")
	f.BoolVar(&asJSON, "json", false, "print the report as one JSON document")
	return cmd
}

// refused is an error unless the report says that the target is the writer.
func refused(report json.RawMessage) error {
	var r struct {
		Verdict string `json:"verdict"`
	}
	if err := json.Unmarshal(report, &r); err != nil {
		return fmt.Errorf("the report of the promotion: %w", err)
	}
	if r.Verdict == "promote" || r.Verdict == "done" {
		return nil
	}
	return &refusedError{r.Verdict}
}

// drillWriters write during a drill.
const drillWriters = 8

func (c *command) drillCommand() *cobra.Command {
	var kind string
	var asJSON bool
	cmd := &cobra.Command{
		Use: "drill", Short: "Fail the writer under load, and see what clients see",
		Long: `Writes rows through the endpoint, makes the fault, and waits until another node writes
and the old writer follows it. Then every write that was acknowledged is looked for. The
report also goes into the directory drills of the instance.

  kill       kill -9 of the writer
  stop       the writer freezes (SIGSTOP) until another one writes
  disk       the writer's disk takes nothing any more`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, dir, err := c.client()
			if err != nil {
				return err
			}
			switch kind {
			case control.FaultKill, control.FaultStop, control.FaultDisk:
			default:
				return &usageError{fmt.Errorf("--fault %q: it is %s, %s or %s", kind, control.FaultKill, control.FaultStop, control.FaultDisk)}
			}
			r, err := c.drill(cmd.Context(), client, dir, kind)
			if err != nil {
				return err
			}
			if err := c.told(dir, r, asJSON); err != nil {
				return err
			}
			if r.Verdict != drill.Passed {
				return errLost
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&kind, "fault", control.FaultKill, "what is done to the writer")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the report as one JSON document")
	return cmd
}

func (c *command) drill(ctx context.Context, client *control.Client, dir layout.Dir, kind string) (r drill.Report, err error) {
	before, err := client.Status(ctx)
	if err != nil {
		return r, err
	}
	e, err := dir.ReadEndpoints()
	if err != nil {
		return r, err
	}
	token, err := layout.Secret(e.TokenFile)
	if err != nil {
		return r, err
	}
	var made control.Fault
	return drill.Run(ctx, drill.Plan{
		Load:  drill.Load{Client: &call.Client{URL: e.Endpoint, Token: token}, Tenant: e.Tenant, Name: "d" + strconv.FormatInt(time.Now().UnixNano(), 36), Writers: drillWriters},
		Fault: kind, Epoch: before.Epoch,
		Do: func(ctx context.Context) (time.Time, error) {
			made, err = client.Fault(ctx, kind)
			return made.At, err
		},
		Undo: func(ctx context.Context) error { return client.Undo(ctx, made) },
		Rejoined: func(ctx context.Context) error {
			return inSync(ctx, client, made.Node)
		},
		Report: func(ctx context.Context) (json.RawMessage, error) {
			s, err := client.Status(ctx)
			return s.LastFailover, err
		},
		Say: func(format string, args ...any) { c.sayf(c.Stderr, format, args...) },
	})
}

// statusPoll is the pause between two looks at the status.
const statusPoll = 50 * time.Millisecond

// inSync waits until a node follows in sync.
func inSync(ctx context.Context, client *control.Client, node string) error {
	tick := time.NewTicker(statusPoll)
	defer tick.Stop()
	for {
		s, err := client.Status(ctx)
		if err != nil {
			return err
		}
		for _, f := range s.Followers {
			if f.Node.Node == node && f.InSync {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// told writes the report, and tells it.
func (c *command) told(dir layout.Dir, r drill.Report, asJSON bool) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(string(dir), "drills", r.StartedAt.Format("20060102T150405.000Z")+"-"+r.Fault+".json")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := layout.WriteFile(path, append(b, '\n')); err != nil {
		return err
	}
	if asJSON {
		return c.document(r)
	}
	c.sayf(c.Stdout, `%s: %s
  epoch                    %d, then %d
  fault to first ack       %.2f s
  longest pause in acks    %.2f s
  old writer in sync again %.2f s later
  writes acknowledged      %d, of which %d are lost%s
  refused, not written     %d
  outcome unknown          %d
  report                   %s`, r.Fault, r.Verdict, r.EpochBefore, r.EpochAfter, r.FirstAck, r.Pause, r.Rejoined, r.Acked, len(r.Lost), lostList(r.Lost), sum(r.Failed), r.Unknown, path)
	return nil
}

// shownLost bounds how many lost writes are shown; the report has all.
const shownLost = 10

func lostList(lost []string) string {
	if len(lost) == 0 {
		return ""
	}
	return ": " + strings.Join(lost[:min(len(lost), shownLost)], ", ")
}

func sum(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}
