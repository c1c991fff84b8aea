package plane

import (
	"context"
	"time"

	"originchain/shared/failover"
	"originchain/shared/lease"
)

// held is what is known of nodes whose process has ended and whose units are held: a
// writer that died, and whoever was stopped for another to write. Who has the turn
// (Plane.failing) uses it.
type held struct {
	nodes map[string]heldNode
	// ran is the last run of a failover in this process: it has ended.
	ran string
}

// heldNode says since when a node was seen held, and when it was last started in vain.
type heldNode struct{ since, tried time.Time }

// due says whether a node is to be started again now.
func (h *held) due(id string, followed bool, now time.Time) bool {
	n, known := h.nodes[id]
	if !known {
		if h.nodes == nil {
			h.nodes = make(map[string]heldNode)
		}
		n.since = now
		h.nodes[id] = n
	}
	from := n.tried
	if from.IsZero() && !followed {
		from = n.since
	}
	return from.IsZero() || now.Sub(from) >= heldFor
}

// letGo lets nodes run that are held: at once where another one writes, whoever has carried
// out the failover, and else after heldFor. They find out by themselves whether they write
// or follow, whatever their units say.
//
// Nobody else would start them: whoever stopped one for another to write may have been
// killed, and that other one may have died before it wrote. Then the one that is held may
// be the only one that has everything.
func (p *Plane) letGo(ctx context.Context) {
	if !p.failing.try("") {
		return
	}
	defer p.failing.end()
	rec, ok, err := p.record.Load(ctx)
	if err != nil || !ok {
		return // the guard says so
	}
	for _, n := range p.nodes {
		process, err := p.machines.Process(ctx, n)
		if err != nil || !process.Reaped {
			delete(p.held.nodes, n.ID)
			continue
		}
		follows, now := followed(rec, n), time.Now()
		if !p.held.due(n.ID, follows, now) || !follows && p.carriedOut(ctx) {
			continue
		}
		p.held.nodes[n.ID] = heldNode{since: p.held.nodes[n.ID].since, tried: now}
		if !follows {
			p.log.Warnf("nobody has taken the place of %s within %s: it is started again", n.ID, heldFor)
		}
		if err := p.machines.Start(ctx, n); err != nil && ctx.Err() == nil {
			p.log.WithError(err).Errorf("%s is not started again; it is tried every %s", n.ID, heldFor)
		}
	}
}

// followed says whether another node than n writes.
func followed(rec lease.Record, n failover.Node) bool {
	return n.ID != rec.Holder && rec.Confirmed() && !rec.Released
}

// carriedOut says whether another process, such as scripts/promote-follower.sh, makes a
// node the writer: what it has stopped is its business, for a while.
func (p *Plane) carriedOut(ctx context.Context) bool {
	run, ok, err := failover.Latest(ctx, p.registry)
	return err == nil && ok && !run.Done && !run.Failed && run.ID != p.held.ran && time.Since(run.StartedAt) < runsFor
}
