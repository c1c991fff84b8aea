package command

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"originchain/lambdas/local/control"
	"originchain/lambdas/local/drill"
	"originchain/lambdas/local/layout"
	"originchain/scripts/call"
)

const (
	// drillWriters write during a drill.
	drillWriters = 8
	// planned is the drill that is no fault: the writer hands over.
	planned = "planned"
	// maxRuns bounds --runs.
	maxRuns = 10_000
	// faultTimeout bounds the making of a fault.
	faultTimeout = 10 * time.Second
	// A seed draws from so many writers, and so long before the fault, which covers more
	// than two renewals of the lease.
	seededWriters = 16
	seededBefore  = 2500 * time.Millisecond
)

func drillKinds() []string {
	return []string{control.FaultKill, control.FaultStop, control.FaultDisk, control.FaultPartition, planned}
}

func (c *command) drillCommand() *cobra.Command {
	var o drillOptions
	cmd := &cobra.Command{
		Use: "drill", Short: "Fail the writer under load, and see what clients see",
		Long: `Writes rows through the endpoint, makes the fault, and waits until another node writes
and the old writer follows it. Then every write that was acknowledged is looked for. The
report also goes into the directory drills of the instance.

  kill       kill -9 of the writer
  stop       the writer freezes (SIGSTOP) until another one writes
  disk       the writer's disk takes nothing any more, until another one writes
  partition  the writer is cut off from the lease store, its follower, the endpoint and
             whoever watches it, and goes on by itself until another one writes
  planned    the writer is well and hands over`,
		Example: "  oc-control drill --dir var/instance --fault kill --runs 100",
		RunE: func(cmd *cobra.Command, _ []string) error {
			client, dir, err := c.client()
			if err != nil {
				return err
			}
			if !slices.Contains(drillKinds(), o.kind) {
				return &usageError{fmt.Errorf("--fault %q: it is one of %s", o.kind, strings.Join(drillKinds(), ", "))}
			}
			if o.runs < 1 || o.runs > maxRuns {
				return &usageError{fmt.Errorf("--runs %d: 1 to %d", o.runs, maxRuns)}
			}
			return c.drills(cmd.Context(), client, dir, o)
		},
	}
	cmd.Flags().StringVar(&o.kind, "fault", control.FaultKill, "what is done to the writer")
	cmd.Flags().IntVar(&o.runs, "runs", 1, "how often")
	cmd.Flags().Uint64Var(&o.seed, "seed", 0, "draw how many write, and for how long before the fault, for each run: the same for the same seed;\n0: "+
		strconv.Itoa(drillWriters)+" for a second")
	cmd.Flags().BoolVar(&o.json, "json", false, "print one JSON document for each run")
	return cmd
}

// drillOptions are the flags of drill.
type drillOptions struct {
	kind string
	runs int
	seed uint64
	json bool
}

// load is how many write in a run, and for how long before the fault; 0 is as usual.
func (o *drillOptions) load(run int) (writers int, before time.Duration) {
	if o.seed == 0 {
		return drillWriters, 0
	}
	r := rand.New(rand.NewPCG(o.seed, uint64(run)))
	return 1 + r.IntN(seededWriters), 1 + time.Duration(r.Int64N(int64(seededBefore)))
}

// drills drills several times, and sums up.
func (c *command) drills(ctx context.Context, client *control.Client, dir layout.Dir, o drillOptions) error {
	var all []drill.Report
	defer func() { // also of the runs before one that went wrong
		if o.runs > 1 && len(all) > 0 {
			c.sayf(c.Stderr, "%s", summary(o, all))
		}
	}()
	for i := range o.runs {
		if o.runs > 1 {
			c.sayf(c.Stderr, "run %d of %d", i+1, o.runs)
		}
		r, err := c.drill(ctx, client, dir, o, i)
		if err == nil || r.Acked > 0 {
			err = errors.Join(err, c.told(dir, r, o.json)) // what was found is told, however it ended
		}
		if len(r.Lost)+len(r.Phantoms) > 0 {
			err = errors.Join(errLost, err)
		}
		if err == nil || errors.Is(err, errLost) {
			all = append(all, r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// summary is what several drills have found.
func summary(o drillOptions, all []drill.Report) string {
	var acked, lost, refused, phantoms, unknown int
	for _, r := range all {
		acked, lost, refused, phantoms, unknown = acked+r.Acked, lost+len(r.Lost), refused+r.Refused(), phantoms+len(r.Phantoms), unknown+r.Unknown
	}
	return fmt.Sprintf("%s, %d of %d runs, seed %d: fault to first ack %s; longest pause in acks %s; first ack to old writer in sync again %s; %d writes acknowledged, %d lost, %d refused (%d of them written), %d unknown",
		o.kind, len(all), o.runs, o.seed, spread(all, func(r drill.Report) float64 { return r.FirstAck }), spread(all, func(r drill.Report) float64 { return r.Pause }),
		spread(all, func(r drill.Report) float64 { return r.Rejoined }), acked, lost, refused, phantoms, unknown)
}

// spread is the median and the worst of what each run took that another node wrote in.
func spread(all []drill.Report, of func(drill.Report) float64) string {
	var took []float64
	for _, r := range all {
		if r.EpochAfter > 0 {
			took = append(took, of(r))
		}
	}
	if len(took) == 0 {
		return "never"
	}
	slices.Sort(took)
	return fmt.Sprintf("p50 %.2f s, max %.2f s", took[len(took)/2], took[len(took)-1])
}

func (c *command) drill(ctx context.Context, client *control.Client, dir layout.Dir, o drillOptions, run int) (r drill.Report, err error) {
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
	kind := o.kind
	writers, lull := o.load(run)
	load := drill.Load{Client: &call.Client{URL: e.Endpoint, Token: token}, Tenant: e.Tenant, Name: "d" + strconv.FormatInt(time.Now().UnixNano(), 36), Writers: writers}
	if kind == control.FaultPartition {
		load.Beside = &call.Client{URL: before.Writer.Address, Token: token}
	}
	made := control.Fault{Fault: kind}
	old := before.Writer.Node
	return drill.Run(ctx, drill.Plan{
		Load:  load,
		Fault: kind, Epoch: before.Epoch, Before: lull,
		Do: func(ctx context.Context) (time.Time, uint64, error) {
			if kind == planned {
				at := time.Now()
				_, err := client.Promote(ctx, control.Promotion{Planned: true}, func(line string) { c.sayf(c.Stderr, "%s", line) })
				return at, before.Epoch, err
			}
			// Whoever interrupts this wants the fault to end, and so its answer is waited for.
			asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), faultTimeout)
			defer cancel()
			if made, err = client.Fault(asking, kind); err != nil {
				return made.At, 0, err // Undo ends it wherever it may have been made, or be made yet
			}
			old = made.Node
			return made.At, made.Epoch, nil
		},
		Undo:     func(ctx context.Context) error { return client.Undo(ctx, made) },
		Rejoined: func(ctx context.Context) error { return inSync(ctx, client, old) },
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
	c.sayf(c.Stdout, "%s\n  report                   %s", r.Text(), path)
	return nil
}
