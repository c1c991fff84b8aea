package plane

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"originchain/lambdas/candidate"
	"originchain/lambdas/local/control"
	"originchain/lambdas/local/supervise"
	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/shared/lsn"
	"originchain/writer/config"
)

const (
	// guardEvery is how often the guard looks, restAfter the pause after a failover that
	// did not succeed.
	guardEvery = 100 * time.Millisecond
	restAfter  = time.Second
	// heldFor bounds how long a node is held while no other writes, and no failover is under
	// way: then it is started again where it was. One that does not start is tried again
	// after it, too.
	heldFor = 5 * time.Second
	// runsFor is how long a failover that another process carries out keeps nodes held.
	runsFor = time.Minute
)

// holding is what is known for the moment at which a process dies.
type holding struct {
	mu sync.Mutex
	// writer holds the record; another says that a member of its set answers, whose log takes
	// writes.
	writer  string
	another bool
}

func (h *holding) know(writer string, another bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.writer, h.another = writer, another
}

// afterDeath is what the supervisor does: a writer is not started in place while
// another node is in sync, which is promoted.
//
// Of a machine that nobody reaches nobody can know, and so its node is not held either.
func (p *Plane) afterDeath(machine, node string, e supervise.Exit) supervise.Next {
	if p.ways.isCut(machine) {
		return supervise.RestartLater
	}
	h := &p.holds
	h.mu.Lock()
	defer h.mu.Unlock()
	if node == h.writer && h.another && e.PID != 0 {
		return supervise.Hold
	}
	return supervise.RestartLater
}

// orphanAfter is how long an epoch may be given and not opened before the guard has it
// opened: whoever gave it does so at once, unless that process was killed.
const orphanAfter = 2 * time.Second

// orphan is an epoch that was given and is not opened.
type orphan struct {
	mu    sync.Mutex
	epoch lsn.Epoch
	since time.Time
}

// of says whether a record gives an epoch that nobody has opened for orphanAfter.
func (o *orphan) of(rec lease.Record, now time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case !rec.Given(rec.Holder):
		o.epoch = 0
	case o.epoch != rec.Epoch:
		o.epoch, o.since = rec.Epoch, now
	default:
		return now.Sub(o.since) >= orphanAfter
	}
	return false
}

func orphaned(rec lease.Record) failover.Decision {
	return failover.Decision{Verdict: failover.Promote, Reasons: []failover.Reason{{
		Code: failover.EpochGiven, Detail: fmt.Sprintf("epoch %d was given to %s, and nobody has it opened", rec.Epoch, rec.Holder),
	}}}
}

func waitedFor(rec lease.Record) failover.Decision {
	return failover.Decision{Verdict: failover.Page, Reasons: []failover.Reason{{
		Code: failover.TargetFailing, Detail: fmt.Sprintf("%s was given epoch %d, and says itself that its log takes no writes: it is waited for, and nobody who answers has all that was acknowledged: docs/RUNBOOK.md#health", rec.Holder, rec.Epoch),
	}}}
}

// happened wakes the guard.
func (p *Plane) happened(e supervise.Event) {
	switch {
	case e.Kind == supervise.Exited && !e.Exit.Wanted:
		p.log.WithField("node", e.Node).Warnf("%s: %s; %s", e.Node, e.Exit, e.Next)
	case e.Kind == supervise.LeaseGivenUp && e.Err != nil:
		p.log.WithField("node", e.Node).WithError(e.Err).Warn("the lease of a process that has ended was not given up; it runs out")
	}
	if e.Kind == supervise.Exited || e.Kind == supervise.LeaseGivenUp {
		select {
		case p.died <- struct{}{}:
		default:
		}
	}
}

// guard looks at the writer until ctx ends, and has another node take its place when
// package failover says so.
func (p *Plane) guard(ctx context.Context) {
	tick := time.NewTicker(guardEvery)
	defer tick.Stop()
	var said failover.Verdict
	blind := false // which was said
	for {
		select {
		case <-p.died:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		d, target, err := p.decide(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			if !blind {
				p.log.WithError(err).Error("the lease record cannot be read: nobody is made the writer until it can; where its store has failed, oc-control down and up open it again")
			}
			blind = true
			continue
		}
		blind = false
		if d.Verdict != said && d.Verdict != failover.Wait {
			p.log.WithField("verdict", d.Verdict).Warn(reasons(d))
		}
		said = d.Verdict
		if d.Verdict == failover.Promote {
			err := candidate.OrBegun(target, func(to string, _ bool) error {
				_, err := p.promote(ctx, control.Promotion{Target: to}, func(line string) { p.log.Info(line) })
				return err
			})
			if err != nil && ctx.Err() == nil {
				p.log.WithError(err).Error("no other node writes yet")
				p.letGo(ctx)
				rest(ctx, restAfter)
			}
			continue
		}
		p.letGo(ctx)
		p.learnLoss(ctx)
	}
}

func reasons(d failover.Decision) string {
	var all []string
	for _, r := range d.Reasons {
		all = append(all, r.Detail)
	}
	return strings.Join(all, "; ")
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// decide looks once. It keeps in mind what is to be done when the writer dies.
func (p *Plane) decide(ctx context.Context) (d failover.Decision, target string, err error) {
	rec, ok, err := p.record.Load(ctx)
	if err != nil || !ok {
		return d, "", err
	}
	if s := p.watch.of(rec.Holder); p.orphan.of(rec, time.Now()) && s.answers && !s.failing {
		return orphaned(rec), rec.Holder, nil
	}
	best, there := p.best(rec)
	p.holds.know(rec.Holder, there && slices.Contains(rec.InSync, best.ID) && !p.watch.of(best.ID).failing)
	if candidate.Hangs(rec, p.standing(rec.Holder)) && !candidate.Able(rec, best.ID, p.standing(best.ID)) {
		return waitedFor(rec), "", nil
	}
	if !there {
		return failover.Decision{Verdict: failover.Wait}, "", nil
	}
	o := p.observer.Look(ctx, failover.Sight{Nodes: p.nodes, Target: best})
	d = failover.Decide(o, failover.Overrides{AllowLag: failover.DefaultAllowLag})
	if d.Verdict == failover.Promote && p.begun.opens(rec, time.Now()) && p.runs(ctx, rec.Holder) {
		return failover.Decision{Verdict: failover.Wait}, "", nil
	}
	return d, best.ID, nil
}

// best is candidate.Best, by what the watch has heard.
func (p *Plane) best(rec lease.Record) (best failover.Node, ok bool) {
	return candidate.Best(rec, p.nodes, p.standing)
}

func (p *Plane) standing(id string) candidate.Standing {
	s := p.watch.of(id)
	return candidate.Standing{Answers: s.answers, Failing: s.failing, Durable: lsn.Pos{Epoch: lsn.Epoch(s.DurableEpoch), LSN: lsn.LSN(s.DurableLSN)}}
}

func (p *Plane) node(id string) (failover.Node, bool) {
	i := slices.IndexFunc(p.nodes, func(n failover.Node) bool { return n.ID == id })
	if i < 0 {
		return failover.Node{}, false
	}
	return p.nodes[i], true
}

// untilDown is a context that ends with the instance too; done is to be called.
func (p *Plane) untilDown(ctx context.Context) (until context.Context, done func()) {
	until, cancel := context.WithCancel(ctx)
	var waiting sync.WaitGroup
	waiting.Go(func() {
		select {
		case <-p.down:
			cancel()
		case <-until.Done():
		}
	})
	return until, func() { cancel(); waiting.Wait() }
}

// Promote implements control.Plane.
func (p *Plane) Promote(ctx context.Context, in control.Promotion, say func(string)) (json.RawMessage, error) {
	ctx, done := p.untilDown(ctx)
	defer done()
	if in.Target == "" {
		rec, _, err := p.record.Load(ctx)
		if err != nil {
			return nil, err
		}
		best, ok := p.best(rec)
		if !ok {
			return nil, errors.New("no follower answers: there is nobody to promote")
		}
		in.Target = best.ID
	}
	return p.promote(ctx, in, say)
}

// promote runs the steps, one run at a time, and what belongs to them on this machine.
func (p *Plane) promote(ctx context.Context, in control.Promotion, say func(string)) (json.RawMessage, error) {
	target, ok := p.node(in.Target)
	if !ok {
		return nil, fmt.Errorf("no node is called %q; oc-control status lists them", in.Target)
	}
	if err := p.failing.take(ctx, target.ID); err != nil {
		return nil, err
	}
	defer p.failing.end()
	hurrying, slower := context.WithCancel(ctx)
	var hurried sync.WaitGroup
	hurried.Go(func() { p.watch.hurry(hurrying, target) })
	report, err := p.execute(ctx, target, in, say)
	p.held.ran = report.Run
	slower()
	hurried.Wait()
	b, encodeErr := json.Marshal(report)
	if err = errors.Join(err, encodeErr); err != nil || in.DryRun {
		return b, err
	}
	p.watch.look(ctx, target)
	return b, nil
}

// execute runs the steps of package failover.
func (p *Plane) execute(ctx context.Context, target failover.Node, in control.Promotion, say func(string)) (failover.Report, error) {
	var text bytes.Buffer
	lines := failover.Print(&text)
	return failover.Execute(ctx, failover.Deps{
		Lease: p.record, Registry: p.registry, Control: p.reached, DNS: p.zone, HTTP: p.http, AdminToken: p.token, Flags: config.Known(), Observer: p.observer,
	}, failover.Request{To: target.ID, Planned: in.Planned, DryRun: in.DryRun, Allow: overrides(in), Zone: p.in.Name}, func(e failover.Event) {
		lines(e)
		if line := strings.TrimRight(text.String(), "\n"); line != "" {
			say(line)
		}
		text.Reset()
	})
}

// overrides are the guards that a person gives up.
func overrides(in control.Promotion) failover.Overrides {
	allow := failover.Overrides{
		AllowSlowWriter: in.AllowSlowWriter, AllowLag: failover.DefaultAllowLag, AllowBackfilling: in.AllowBackfilling, AcceptDataLoss: in.AcceptDataLoss,
	}
	if in.AllowLag != nil {
		allow.AllowLag = *in.AllowLag
	}
	return allow
}

// lastFailover is the report of the last one.
func (p *Plane) lastFailover(ctx context.Context) (json.RawMessage, error) {
	r, ok, err := failover.LastFailover(ctx, p.registry)
	if err != nil || !ok {
		return nil, err
	}
	return json.Marshal(r)
}
