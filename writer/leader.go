package writer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"originchain/shared/datadir"
	"originchain/shared/engine"
	"originchain/shared/lease"
	"originchain/shared/lsn"
	"originchain/shared/mtls"
	"originchain/shared/replica"
)

// Replication says how a writer serves followers, and whom it waits for.
type Replication struct {
	// Listen is the address that followers stream from; Advertised is what the
	// record tells others of it, by default the address itself.
	Listen     string
	Advertised string
	// TLS is what both sides show each other; nil is plain, which is for loopback.
	TLS *mtls.Identity
	// Net makes the listener; nil takes the machine's network.
	Net func(ctx context.Context, address string) (net.Listener, error)
	// Control keeps the record of who writes; nil leaves that to the data directory.
	Control lease.Store
	// Sync, Timeout and Strict say whom an acknowledgement waits for; see
	// replica.HubConfig.
	Sync    int
	Timeout time.Duration
	Strict  bool
	// RetainBytes bounds the log that is kept for followers that are behind.
	RetainBytes int64
}

// retainFor is how long the log is kept for a follower that is not there.
const retainFor = time.Hour

// recordEvery is how often the record says how far acknowledgements may be.
const recordEvery = time.Second

// leader is the role of a writer that others follow.
type leader struct {
	cfg    Replication
	node   *Shell
	engine *engine.Engine
	holder *lease.Holder // nil without a record
	hub    *replica.Hub
	server *replica.Server
	listen net.Listener
	// renewed is when the record was last renewed, in nanoseconds; fenced is the
	// higher epoch that was heard of.
	renewed atomic.Int64
	fenced  atomic.Uint64
	opened  time.Time
	// stood is the version of the record that was seen to stand for longer than a
	// lease: it is not waited for twice, before the replay and before the epoch.
	stood uint64
	lost  chan struct{} // closed when the node is no longer the writer
	// The streams outlive the pipeline, which waits for them at a stop.
	streams context.Context
	end     context.CancelFunc
	broken  chan error // how serving followers ended
}

// MustFollowError says that another node is the writer, and this one follows it
// whatever its unit says.
type MustFollowError struct {
	// Address is where to stream from, "" where the record does not say.
	Address string
	Reason  string
}

// Error implements error.
func (e *MustFollowError) Error() string {
	return fmt.Sprintf("this node may not write: %s; it follows %s", e.Reason, e.Address)
}

// newLeader prepares the role. The address is taken at once: one that is in use
// is a matter of the command line.
func newLeader(ctx context.Context, node *Shell, cfg Replication) (*leader, error) {
	l := &leader{cfg: cfg, node: node, lost: make(chan struct{}), broken: make(chan error, 1)}
	l.streams, l.end = context.WithCancel(context.WithoutCancel(ctx))
	if cfg.Listen == "" {
		return l, nil
	}
	open := cfg.Net
	if open == nil {
		open = func(ctx context.Context, address string) (net.Listener, error) {
			return new(net.ListenConfig).Listen(ctx, "tcp", address)
		}
	}
	var err error
	if l.listen, err = open(ctx, cfg.Listen); err != nil {
		return nil, fmt.Errorf("listen for followers at %s: %w; free the address or choose another with --replication-listen", cfg.Listen, err)
	}
	return l, nil
}

// address is where followers stream from.
func (l *leader) address() string {
	switch {
	case l.cfg.Advertised != "":
		return l.cfg.Advertised
	case l.listen != nil:
		return l.listen.Addr().String()
	}
	return ""
}

// takeEpoch is the engine's question for an epoch, where a record answers it.
func (l *leader) takeEpoch(ctx context.Context, who datadir.Identity, last lsn.Pos, allot func(lsn.Epoch) (lsn.Epoch, error)) (lsn.Epoch, error) {
	rec, err := l.vacant(ctx, who.NodeID, last)
	if err != nil {
		return 0, err
	}
	// The directory first: an epoch that was taken in the record and forgotten
	// here could be allotted again.
	epoch, err := allot(rec.Epoch)
	if err != nil {
		return 0, err
	}
	next, err := rec.Take(lease.Candidate{
		Instance: who.InstanceID.String(), Node: who.NodeID, Last: last, AtLeast: epoch - 1,
		ReplicationAddress: l.address(), URL: l.node.cfg.URL,
	})
	if err != nil {
		return 0, err
	}
	stored, err := l.cfg.Control.CompareAndSet(ctx, rec.Version, next)
	if err != nil {
		return 0, fmt.Errorf("take epoch %d in the record: %w", next.Epoch, err)
	}
	l.holder = lease.NewHolder(l.cfg.Control, stored)
	return stored.Epoch, nil
}

// vacant returns the record once the node may take it: it is entitled to, and the
// holder is this node, has stopped, or has not renewed for the time of a lease by
// this node's own clock.
func (l *leader) vacant(ctx context.Context, node string, last lsn.Pos) (lease.Record, error) {
	rec, _, err := l.cfg.Control.Load(ctx)
	if err != nil {
		return rec, fmt.Errorf("read the record of who writes: %w", err)
	}
	for seen := time.Now(); ; {
		v := rec.MayOpen(node, last)
		switch {
		case v.Decision == lease.Follow:
			return rec, &MustFollowError{Address: v.ReplicationAddress, Reason: v.Detail}
		case v.Decision != lease.Open:
			return rec, &lease.RefusedError{Verdict: v}
		case rec.Epoch == 0, rec.Holder == node, rec.Released, rec.Version == l.stood, time.Since(seen) > leaseExpiry:
			l.stood = rec.Version
			return rec, nil
		}
		wait(ctx, recordEvery/2)
		now, _, err := l.cfg.Control.Load(ctx)
		if err != nil {
			return rec, fmt.Errorf("read the record of who writes: %w", err)
		}
		if now.Version != rec.Version {
			return now, &MustFollowError{Address: now.ReplicationAddress, Reason: fmt.Sprintf("%s holds epoch %d and renews it", now.Holder, now.Epoch)}
		}
	}
}

// leaseExpiry is how long a record stands without a renewal before another node
// may take it.
const leaseExpiry = 6 * time.Second

// selfFence is how long a writer whose record cannot be renewed counts as ready.
const selfFence = 4 * time.Second

// open makes the hub and begins to serve followers, so that those of the epoch
// before can come back.
func (l *leader) open(e *engine.Engine) error {
	l.engine, l.opened = e, time.Now()
	id := e.Identity()
	if own := l.cfg.TLS; own != nil && !own.Self().Is(id.InstanceID.String(), id.NodeID) {
		return fmt.Errorf("the certificate in --replication-tls-dir is of %s, and this is node %s of instance %s; give the node its own", own.Self(), id.NodeID, id.InstanceID)
	}
	// What a stop in the middle of a follower's checkpoint left.
	if err := l.node.deps.FS.RemoveAll(l.node.deps.FS.PathJoin(l.node.cfg.Engine.DataDir, bootstrapDir)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	acked := lsn.LSN(0)
	if l.holder != nil {
		acked = l.holder.Record().CommitLSN
	}
	l.hub = replica.NewHub(replica.HubConfig{
		Epoch: e.Epoch(), Sync: l.cfg.Sync, Timeout: l.cfg.Timeout, Strict: l.cfg.Strict, RetainBytes: l.cfg.RetainBytes, RetainFor: retainFor,
	}, replica.HubDeps{Log: l.node.deps.Log, Record: record{l}, Durable: e.Durable, Retained: l.retained}, acked)
	l.server = replica.NewServer(replica.ServerConfig{
		Instance: [16]byte(id.InstanceID), Node: id.NodeID, URL: l.node.cfg.URL, Epoch: e.Epoch(),
	}, replica.ServerDeps{
		Log: l.node.deps.Log, WAL: e.Log(), Hub: l.hub, Now: l.node.deps.Clock.Now, Shipped: func() lsn.LSN { return 0 },
		Admit: l.admit, Checkpoint: l.checkpoint, Fenced: l.fencedBy,
	})
	var gate engine.Gate
	if l.cfg.Sync > 0 {
		gate = l.hub
	}
	e.Lead(gate, l.retainFrom)
	if l.listen != nil {
		go func() { l.broken <- l.serve() }()
	} else {
		l.broken <- nil
	}
	return nil
}

// close ends the streams and waits for that.
func (l *leader) close() error {
	if l.server == nil {
		if l.listen == nil {
			return nil
		}
		return l.listen.Close()
	}
	l.end()
	return <-l.broken
}

// serve answers followers until the streams end.
func (l *leader) serve() error {
	stop := context.AfterFunc(l.streams, l.server.Stop)
	defer stop()
	l.node.deps.Log.WithField("address", l.listen.Addr().String()).WithField("tls", l.cfg.TLS != nil).Info("serving followers")
	return l.server.Serve(l.listen, l.cfg.TLS)
}

// confirm is the second step of the epoch: the followers that may have more than
// was acknowledged get the time to come back, the record names those that did, and
// from then on the node acknowledges.
func (l *leader) confirm(ctx context.Context) error {
	members := []string{}
	visible := l.engine.Visible().LSN
	if l.holder != nil {
		if l.cfg.Sync > 0 {
			eligible := slices.DeleteFunc(l.holder.Record().Eligible, func(n string) bool { return n == l.engine.Identity().NodeID })
			members = l.hub.AwaitMembers(ctx, eligible, visible)
			slices.Sort(members)
			members = members[:min(len(members), l.cfg.Sync)]
		}
		err := l.holder.Confirm(ctx, l.engine.Boot(), members)
		var fenced *lease.FencedError
		if errors.As(err, &fenced) {
			return &MustFollowError{Reason: err.Error()}
		} else if err != nil {
			return fmt.Errorf("confirm epoch %d in the record: %w", l.engine.Epoch(), err)
		}
		l.renewed.Store(time.Now().UnixNano())
	}
	l.hub.Begin(visible, members)
	return nil
}

// run keeps the record and the in-sync set until ctx ends, or until the node is no
// longer the writer.
func (l *leader) run(ctx context.Context, pipeline func(context.Context) error) error {
	// What the pipeline waits for goes on until it has ended.
	beside, end := context.WithCancel(context.WithoutCancel(ctx))
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer end()
		err := pipeline(ctx)
		if errors.Is(err, replica.ErrFenced) {
			return &Ended{&MustFollowError{Reason: err.Error()}}
		}
		return err
	})
	if l.cfg.Sync > 0 {
		g.Go(func() error { l.hub.Run(beside); return nil })
	}
	if l.holder != nil {
		g.Go(func() error { return l.renew(beside) })
	}
	g.Go(func() error {
		select {
		case <-beside.Done():
			return nil
		case err := <-l.broken:
			l.broken <- err
			if err == nil {
				<-beside.Done()
			}
			return err
		case <-l.lost:
			err := &MustFollowError{Reason: fmt.Sprintf("epoch %d has begun, this node's was %d", l.fenced.Load(), l.engine.Epoch())}
			l.fence(err)
			return &Ended{err}
		}
	})
	return g.Wait()
}

// renew tells the record how far acknowledgements may be. At a stop it says so.
func (l *leader) renew(ctx context.Context) error {
	tick := time.NewTicker(recordEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := l.holder.Renew(ctx, l.engine.CommitLSN())
		var fenced *lease.FencedError
		switch {
		case err == nil:
			l.renewed.Store(time.Now().UnixNano())
		case errors.As(err, &fenced):
			l.fence(err)
			return &Ended{&MustFollowError{Reason: err.Error()}}
		case ctx.Err() == nil:
			l.node.deps.Log.WithError(err).Error("the record of who writes could not be renewed")
		}
	}
}

// release says in the record that this node has stopped, so that nobody waits.
func (l *leader) release(ctx context.Context) {
	if l.holder == nil {
		return
	}
	if err := l.holder.Release(ctx); err != nil {
		l.node.deps.Log.WithError(err).Warn("the record still names this node, which has stopped; a successor waits until it would have expired")
	}
}

func (l *leader) fencedBy(epoch lsn.Epoch) {
	if l.fenced.Swap(uint64(epoch)) == 0 {
		l.node.deps.Log.WithField("epoch", uint64(epoch)).Error("a follower has accepted a leader of a higher epoch; this node is no longer the writer")
		close(l.lost)
	}
}

// fence ends the writer's work for good: nothing more is acknowledged.
func (l *leader) fence(reason error) {
	l.hub.Fence(reason)
	l.engine.Fence(fmt.Errorf("%w: %w", replica.ErrFenced, reason))
}

// retainFrom is the lowest LSN of the log that others need. For as long as a
// follower that is away keeps its log, so does whoever has not been seen since this
// opening, within the bounds.
func (l *leader) retainFrom() lsn.LSN {
	from := l.hub.RetainFrom()
	if time.Since(l.opened) > retainFor {
		return from
	}
	var kept int64
	segments := l.engine.Log().Segments()
	for i := len(segments) - 1; i >= 0; i-- {
		if kept += segments[i].Bytes; kept > l.cfg.RetainBytes {
			break
		}
		from = min(from, segments[i].First)
	}
	return from
}

// retained is how many bytes of log stand from an LSN to the end, whole segments.
func (l *leader) retained(from lsn.LSN) (n int64) {
	for _, s := range l.engine.Log().Segments() {
		if s.Last >= from {
			n += s.Bytes
		}
	}
	return n
}

// bootstrapDir is where the copy for a follower stands while it is streamed.
const bootstrapDir = "checkpoint.out"

func (l *leader) checkpoint(context.Context) (*replica.Checkpoint, error) {
	fs := l.node.deps.FS
	dir := fs.PathJoin(l.node.cfg.Engine.DataDir, bootstrapDir)
	if err := fs.RemoveAll(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	at, err := l.engine.CopyState(dir)
	if err != nil {
		return nil, err
	}
	return &replica.Checkpoint{FS: fs, Dir: dir, LSN: at.Pos.LSN, Remove: func() error { return fs.RemoveAll(dir) }}, nil
}

// admit takes a node out of the record that is named there and has lost what it
// stands for. Until the epoch is confirmed that is all of the log as it was found.
func (l *leader) admit(ctx context.Context, node string, last lsn.LSN) error {
	if l.holder == nil {
		return nil
	}
	rec := l.holder.Record()
	if !rec.Confirmed() && slices.Contains(rec.Eligible, node) && last < l.engine.Boot().LSN {
		return l.holder.Leave(ctx, node)
	}
	return l.hub.Readmit(ctx, node, last)
}

// record is the in-sync set in the record of who writes.
type record struct{ l *leader }

// Enter implements replica.Record.
func (r record) Enter(ctx context.Context, node string) error {
	return r.fenced(r.l.holder.Enter(ctx, node))
}

// Leave implements replica.Record.
func (r record) Leave(ctx context.Context, node string) error {
	return r.fenced(r.l.holder.Leave(ctx, node))
}

func (record) fenced(err error) error {
	var fenced *lease.FencedError
	if errors.As(err, &fenced) {
		return fmt.Errorf("%w: %w", replica.ErrFenced, err)
	}
	return err
}
