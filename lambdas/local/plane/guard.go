package plane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"originchain/lambdas/local/control"
	"originchain/shared/failover"
	"originchain/shared/lease"
)

const (
	// guardEvery is how often the guard looks at the writer.
	guardEvery = 100 * time.Millisecond
	// restAfter is the pause after a failover that was not to be, or did not succeed.
	restAfter = time.Second
)

// errBusy says that a failover is under way.
var errBusy = errors.New("a failover is under way; oc-control status says when it is over")

// guard watches the writer until ctx ends, and sees to it that there is another one when
// it is gone. What it starts decides by itself whether the writer is.
func (p *Plane) guard(ctx context.Context) {
	tick := time.NewTicker(guardEvery)
	defer tick.Stop()
	for {
		select {
		case <-p.died:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		rec, ok, err := p.record.Load(ctx)
		if err != nil || !ok || !p.suspicious(ctx, rec) {
			continue
		}
		if err := p.failOver(ctx, rec); err != nil && ctx.Err() == nil {
			p.log.WithError(err).Error("no other node is the writer yet")
			rest(ctx, restAfter)
		}
	}
}

func rest(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// suspicious says whether there is reason to ask if the writer is gone: its process has
// ended and is held; or it has been silent for longer than a blip; or its followers say
// that they do not hear it.
func (p *Plane) suspicious(ctx context.Context, rec lease.Record) bool {
	holder, ok := p.node(rec.Holder)
	if !ok {
		return false
	}
	if process, err := p.machines.Process(ctx, holder); err == nil && process.Reaped {
		return true
	}
	seen := p.watch.of(holder.ID)
	return !seen.answers && time.Since(seen.heard) >= failover.BlipFor
}

// failOver makes the best follower the writer.
func (p *Plane) failOver(ctx context.Context, rec lease.Record) error {
	target, ok := p.best(rec)
	if !ok {
		return errors.New("no follower answers; the writer is started again where it was")
	}
	_, err := p.promote(ctx, control.Promotion{Target: target.ID}, func(line string) { p.log.Info(line) })
	return err
}

// best is the follower that may open and whose log goes furthest; members of the set
// come first.
func (p *Plane) best(rec lease.Record) (best failover.Node, ok bool) {
	rank := func(n failover.Node, s sight) (bool, uint64, uint64) {
		return slices.Contains(rec.InSync, n.ID) || slices.Contains(rec.Eligible, n.ID), s.Epoch, s.DurableLSN
	}
	for _, n := range p.nodes {
		s := p.watch.of(n.ID)
		if n.ID == rec.Holder || !s.answers {
			continue
		}
		if !ok {
			best, ok = n, true
			continue
		}
		member, epoch, durable := rank(n, s)
		otherMember, otherEpoch, otherDurable := rank(best, p.watch.of(best.ID))
		switch {
		case member != otherMember:
			if member {
				best = n
			}
		case epoch > otherEpoch, epoch == otherEpoch && durable > otherDurable:
			best = n
		}
	}
	return best, ok
}

func (p *Plane) node(id string) (failover.Node, bool) {
	i := slices.IndexFunc(p.nodes, func(n failover.Node) bool { return n.ID == id })
	if i < 0 {
		return failover.Node{}, false
	}
	return p.nodes[i], true
}

// Promote implements control.Plane.
func (p *Plane) Promote(ctx context.Context, in control.Promotion, say func(string)) (json.RawMessage, error) {
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
	if !p.failing.TryLock() {
		return nil, errBusy
	}
	defer p.failing.Unlock()
	rec, _, err := p.record.Load(ctx)
	if err != nil {
		return nil, err
	}
	before, known := p.node(rec.Holder)
	report, promoted, err := p.execute(ctx, before, target, in, say)
	if err != nil || !promoted || in.DryRun {
		return report, err
	}
	p.point()
	if known && before.ID != target.ID {
		// It finds out by itself that it follows; its unit is to say so, too.
		if err := p.demoteUnit(ctx, before, target); err != nil {
			p.log.WithError(err).Warnf("the unit of %s still says that it writes; it follows whatever its unit says", before.ID)
		}
		if err := p.machines.Start(ctx, before); err != nil {
			p.log.WithError(err).Errorf("%s is not started again", before.ID)
		}
	}
	return report, p.dir.SaveEndpoints(p.in, target.ID)
}
