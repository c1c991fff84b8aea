package writer

import (
	"context"
	"fmt"
	"time"

	"originchain/shared/api"
	"originchain/shared/lsn"
	"originchain/shared/replica"
)

// Mode implements Role.
func (l *leader) Mode() string { return RoleWriter }

// Leader implements Role.
func (l *leader) Leader() string { return "" }

// Degraded implements Role.
func (l *leader) Degraded(at lsn.LSN) bool { return l.hub != nil && l.hub.Degraded(at) }

// Promote implements Role: a writer is one already.
func (l *leader) Promote(_ context.Context, epoch lsn.Epoch) (bool, error) {
	if own := l.engine.Epoch(); own < epoch {
		return false, notGiven("this node is the writer of epoch %d, and not of %d: it takes a later one when it is started again", own, epoch)
	}
	return true, nil
}

// MayAnswer implements Role.
func (l *leader) MayAnswer() error {
	if g := l.giving.Load(); g != nil {
		if err := g.refusal(); err != nil {
			return err
		}
	}
	if l.term == nil || l.term.Held() {
		return nil
	}
	return replica.LeaseLost()
}

// Standing implements Role.
func (l *leader) Standing() (s Standing) {
	if l.hub == nil {
		return s
	}
	visible := l.engine.Visible().LSN
	for _, f := range l.hub.Followers() {
		if f.InSync {
			s.InSync++
		}
		if f.Connected {
			s.Connected++
			s.AppliedLag = max(s.AppliedLag, uint64(visible-min(visible, f.Applied)))
		}
	}
	s.Degraded = l.hub.DegradedFrames()
	if l.term != nil {
		s.LeaseRemaining = max(0, l.term.Remaining())
	}
	return s
}

// Checks implements Role.
func (l *leader) Checks(into map[string]api.Check) {
	if l.holder != nil {
		rec := l.holder.Record()
		into[checkLease] = api.Check{OK: rec.Confirmed() && !rec.Released && l.term.Held(),
			Detail: fmt.Sprintf("the record names this node for epoch %d; renewed %s ago", rec.Epoch, l.term.Age().Truncate(time.Millisecond))}
	}
	l.archive.check(into)
	if l.hub == nil {
		return
	}
	if l.waits.Load() {
		into[checkLog] = api.Check{Detail: "the log ends with frames that may not have been acknowledged; --sync-strict shows them when enough followers have them"}
	}
	have, want := l.hub.Short()
	if want > 0 {
		into["in_sync"] = api.Check{OK: have >= want, Degraded: have < want && !l.cfg.Strict,
			Detail: fmt.Sprintf("%d of %d followers are in sync and answer", have, want)}
	}
	for _, f := range l.hub.Followers() {
		into["follower "+f.Node] = api.Check{OK: f.Connected, Degraded: !f.Connected,
			Detail: fmt.Sprintf("durable to LSN %d, applied to %d, in sync: %t", f.Durable, f.Applied, f.InSync)}
	}
}

// Replication implements Role.
func (l *leader) Replication(into *api.Replication) {
	if l.hub == nil {
		return
	}
	into.InSync = l.hub.InSync()
	for _, f := range l.hub.Followers() {
		into.Followers = append(into.Followers, api.FollowerInfo{
			Node: f.Node, Address: f.URL, Connected: f.Connected, Sync: f.InSync,
			DurableLSN: uint64(f.Durable), AppliedLSN: uint64(f.Applied), LagLSN: into.LSN - min(into.LSN, uint64(f.Applied)),
		})
	}
}

// Topology implements Role.
func (l *leader) Topology() api.Topology {
	out := api.Topology{Writer: l.node.cfg.URL}
	if l.hub == nil {
		return out
	}
	for _, f := range l.hub.Followers() {
		if f.Connected && f.URL != "" {
			out.Followers = append(out.Followers, f.URL)
		}
	}
	return out
}
