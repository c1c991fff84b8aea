package follower

import (
	"context"
	"fmt"
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"originchain/shared/api"
	"originchain/shared/fault"
	"originchain/shared/lsn"
	pb "originchain/shared/replica/replicapb"
	"originchain/shared/telemetry"
	"originchain/shared/wal"
	"originchain/writer"
)

// connected takes note of a stream.
func (f *Follower) connected(w *pb.Welcome) {
	url, node := w.GetUrl(), w.GetNode()
	f.status.url.Store(&url)
	f.status.leader.Store(&node)
	f.status.epoch.Store(w.GetEpoch())
	f.status.trouble.Store(nil)
	f.status.connected.Store(true)
	f.shell.LeaderFound()
	f.deps.Log.WithField("leader", node).WithField("epoch", w.GetEpoch()).Info("following")
}

// lost takes note of why there is no stream, and says it once.
func (f *Follower) lost(err error) {
	if err == nil {
		return
	}
	reason := err.Error()
	before := f.status.trouble.Swap(&reason)
	if f.status.connected.Swap(false) || before == nil || *before != reason {
		f.deps.Log.WithError(err).Warn("not connected to the leader; trying again")
	}
}

// observe takes note of the leader's positions.
func (f *Follower) observe(p *pb.Position) {
	f.status.durable.Store(p.GetDurableLsn())
	f.status.commit.Store(p.GetCommitLsn())
	f.status.shipped.Store(p.GetShippedLsn())
}

// retainFrom keeps the log that the archive does not have: if this node becomes the
// writer, it ships on from there. A leader without an archive says that all is shipped.
func (f *Follower) retainFrom() lsn.LSN {
	shipped := f.status.shipped.Load()
	if shipped == math.MaxUint64 {
		return math.MaxUint64
	}
	return lsn.LSN(shipped) + 1
}

func (f *Follower) leaderURL() string {
	if url := f.status.url.Load(); url != nil {
		return *url
	}
	return ""
}

// role is what the node says of itself.
type role struct{ *Follower }

// Mode implements writer.Role.
func (role) Mode() string { return writer.RoleFollower }

// MayAnswer implements writer.Role: a follower's reads are as old as they say.
func (role) MayAnswer() error { return nil }

// Promote implements writer.Role: the role ends, and whoever runs it opens the data
// directory as a writer. That the record gives the epoch to this node is seen here, so
// that nobody is made a writer by a call alone; and again where the epoch is opened.
func (r role) Promote(ctx context.Context, epoch lsn.Epoch) (bool, error) {
	switch {
	case r.deps.Control == nil:
		return false, fault.New(fault.Conflict, "this node has no record of who writes; start it with --control, or as a writer")
	case !r.cfg.Promotable:
		return false, fault.New(fault.Conflict, "this node only ever follows; promote one that runs oc-server")
	}
	rec, ok, err := r.deps.Control.Load(ctx)
	if err != nil {
		return false, fault.New(fault.NotReady, "the record of who writes cannot be read: without it nobody is promoted").WithRetry().Wrap(err)
	}
	node := r.node.Load()
	if !ok || node == nil || rec.Holder != *node || rec.Epoch != epoch || rec.Released {
		return false, fault.New(fault.Conflict, "the record of who writes does not give epoch %d to this node: it names %s for epoch %d; take the epoch for it first", epoch, rec.Holder, rec.Epoch)
	}
	select {
	case r.promoted <- epoch:
	default: // one is under way
	}
	return false, nil
}

// HandOver implements writer.Role: there is nothing to hand over.
func (r role) HandOver(context.Context, api.HandoverRequest) (lsn.Pos, error) {
	f := fault.New(fault.ReadOnly, "this node follows a writer; ask that one to hand over")
	if url := r.leaderURL(); url != "" {
		f = f.With("leader", url)
	}
	return lsn.Pos{}, f
}

// Standing implements writer.Role: how far behind the leader this one is.
func (r role) Standing() writer.Standing {
	applied := uint64(r.shell.Visible().LSN)
	return writer.Standing{AppliedLag: max(r.status.durable.Load(), applied) - applied}
}

// Leader implements writer.Role.
func (r role) Leader() string { return r.leaderURL() }

// Degraded implements writer.Role.
func (role) Degraded(lsn.LSN) bool { return false }

// Checks implements writer.Role: a follower is ready while its leader is connected.
func (r role) Checks(into map[string]api.Check) {
	delete(into, "lease")
	delete(into, "pipeline")
	if delay := r.shell.Config().Engine.ApplyDelay; delay > 0 {
		log := into["log"]
		log.OK = log.OK || r.shell.Failure() == nil
		log.Detail += fmt.Sprintf("; what is newer than %s waits by intent", delay)
		into["log"] = log
	}
	if r.status.connected.Load() {
		into["leader"] = api.Check{OK: true, Detail: fmt.Sprintf("following %s in epoch %d", *r.status.leader.Load(), r.status.epoch.Load())}
		return
	}
	detail := "no leader was reached yet"
	if t := r.status.trouble.Load(); t != nil {
		detail = telemetry.Redact(*t)
	}
	into["leader"] = api.Check{Detail: detail}
}

// Replication implements writer.Role.
func (r role) Replication(into *api.Replication) {
	into.Connected, into.LeaderDurableLSN = r.status.connected.Load(), r.status.durable.Load()
	into.Promotable = r.cfg.Promotable && r.deps.Control != nil
}

// Topology implements writer.Role: a follower knows the writer and itself.
func (r role) Topology() api.Topology {
	out := api.Topology{Writer: r.leaderURL(), Epoch: r.status.epoch.Load()}
	if own := r.shell.Config().URL; own != "" {
		out.Followers = []string{own}
	}
	return out
}

// metrics are what a follower measures. docs/METRICS.md lists them.
type metrics struct {
	stale     prometheus.Counter
	aside     prometheus.Counter
	bootBytes prometheus.Gauge
	bootTotal prometheus.Gauge
}

func newMetrics(r *telemetry.Metrics, f *Follower) *metrics {
	r.GaugeFunc("oc_replication_leader_connected", "1 while a follower has a stream from its leader, else 0.", func() float64 {
		if f.status.connected.Load() {
			return 1
		}
		return 0
	})
	return &metrics{
		stale:     r.Counter("oc_replication_stale_leaders_total", "Streams refused because their leader's epoch was lower than one accepted before."),
		aside:     r.Counter("oc_replication_set_aside_frames_total", "Frames set aside because the leader's history does not have them."),
		bootBytes: r.Gauge("oc_replication_bootstrap_bytes", "Bytes of the leader's checkpoint that have arrived, in the bootstrap under way or the last one."),
		bootTotal: r.Gauge("oc_replication_bootstrap_total_bytes", "Bytes of that checkpoint."),
	}
}

func (m *metrics) bootstrapped(done, total uint64) {
	m.bootBytes.Set(float64(done))
	m.bootTotal.Set(float64(total))
}

func (m *metrics) setAside(files []wal.Divergent) {
	for _, d := range files {
		m.aside.Add(float64(d.Last - d.First + 1))
	}
}
