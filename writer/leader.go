package writer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"originchain/shared/archive"
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
	// Clock counts the lease; nil takes the machine's.
	Clock lease.Clock
	// Place names the node's data directory apart from copies of it, for a restart
	// that does not wait for its own lease (lease.PlaceOf); nil always waits.
	Place func() (string, error)
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

// leader is the role of a writer that others follow.
type leader struct {
	cfg    Replication
	node   *Shell
	engine *engine.Engine
	holder *lease.Holder // nil without a record
	// archive is there in any case.
	archive *archiver
	hub     *replica.Hub
	server  *replica.Server
	listen  net.Listener
	// term is how long answers may be decided; nil without a record.
	term *lease.Term
	// handing is held by the switchover under way; giving is set while it changes the
	// record, and stays when it has.
	handing sync.Mutex
	giving  atomic.Pointer[giving]
	fenced  atomic.Uint64 // the higher epoch that was heard of
	waits   atomic.Bool   // under Strict, for followers, before anything is shown
	opened  time.Time
	// stood is the version of the record that was seen to stand for longer than a
	// lease: it is not waited for twice, before the replay and before the epoch.
	stood uint64
	// Renewing outlives the pipeline, which may still answer what it decided.
	renewing     context.Context
	stopRenewing context.CancelFunc
	// The streams outlive the pipeline, which waits for them at a stop.
	streams context.Context
	end     context.CancelFunc
	broken  chan error // how serving followers ended
	kept    chan error // how renewing ended
}

// MustFollowError says that another node is the writer, and this one follows it
// whatever its unit says.
type MustFollowError struct {
	// Address is where to stream from, "" where the record does not say.
	Address string
	Reason  string
	// Planned: this node has given the role away itself.
	Planned bool
}

// Error implements error.
func (e *MustFollowError) Error() string {
	if e.Address == "" {
		return fmt.Sprintf("this node may not write: %s; it follows whom --leader-addr or the record of --control names", e.Reason)
	}
	return fmt.Sprintf("this node may not write: %s; it follows %s", e.Reason, e.Address)
}

// newLeader prepares the role. The address is taken at once: one that is in use
// is a matter of the command line.
func newLeader(ctx context.Context, node *Shell, cfg Replication) (*leader, error) {
	l := &leader{cfg: cfg, node: node, archive: newArchiver(node), broken: make(chan error, 1), kept: make(chan error, 1)}
	l.streams, l.end = context.WithCancel(context.WithoutCancel(ctx))
	l.renewing, l.stopRenewing = context.WithCancel(context.WithoutCancel(ctx))
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
	if err := l.archive.open(e); err != nil {
		return err
	}
	acked := lsn.LSN(0)
	deps := replica.HubDeps{Log: l.node.deps.Log, Durable: e.Durable, Retained: l.retained}
	if l.holder != nil {
		acked = l.holder.Record().CommitLSN
		deps.Record, deps.Lease = record{l}, l.term
	}
	l.hub = replica.NewHub(replica.HubConfig{
		Epoch: e.Epoch(), Sync: l.cfg.Sync, Timeout: l.cfg.Timeout, Strict: l.cfg.Strict, Boot: e.Boot().LSN, RetainBytes: l.cfg.RetainBytes, RetainFor: retainFor,
	}, deps, acked)
	l.server = replica.NewServer(replica.ServerConfig{
		Instance: [16]byte(id.InstanceID), Node: id.NodeID, URL: l.node.cfg.URL, Epoch: e.Epoch(),
	}, replica.ServerDeps{
		Log: l.node.deps.Log, WAL: e.Log(), Hub: l.hub, Now: l.node.deps.Clock.Now, Shipped: l.archive.shipped,
		Admit: l.admit, Checkpoint: l.checkpoint, Fenced: l.fencedBy,
	})
	var gate engine.Gate
	if l.holder != nil {
		gate = l.hub // without a record nobody is in sync, and nobody else can write
	}
	e.Lead(gate, l.retainFrom)
	if l.holder != nil {
		go func() { defer close(l.kept); l.kept <- l.renew(l.renewing) }()
	}
	if l.listen != nil {
		go func() { l.broken <- l.serve() }()
	} else {
		l.broken <- nil
	}
	return nil
}

// close ends the renewals and the streams, and waits for that.
func (l *leader) close() error {
	l.archive.close()
	if l.holder != nil && l.hub != nil {
		l.stopRenewing()
		for range l.kept { // what it ended with was run's to say
		}
	}
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

// run keeps the record and the in-sync set until ctx ends, or until the node is no
// longer the writer.
func (l *leader) run(ctx context.Context, pipeline func(context.Context) error) error {
	// What the pipeline waits for goes on until it has ended.
	beside, end := context.WithCancel(context.WithoutCancel(ctx))
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer end()
		err := ended(pipeline(ctx))
		if err == nil { // a stop: a writer that another one follows ships nothing more
			l.archive.finish(beside)
		}
		return err
	})
	if l.cfg.Sync > 0 {
		g.Go(func() error { l.hub.Run(beside); return nil })
	}
	g.Go(func() error {
		err := l.archive.run(beside)
		var fenced *archive.FencedError
		if errors.As(err, &fenced) {
			other := &MustFollowError{Reason: err.Error()}
			l.fence(other)
			return &Ended{other}
		}
		return err
	})
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
		case err := <-l.kept:
			return err
		}
	})
	return g.Wait()
}

// ended tells the end of the role, because another node has it, from a failure.
func ended(err error) error {
	var other *MustFollowError
	switch {
	case errors.As(err, &other):
		return &Ended{other}
	case errors.Is(err, replica.ErrFenced):
		return &Ended{&MustFollowError{Reason: err.Error()}}
	}
	return err
}

func (l *leader) fencedBy(epoch lsn.Epoch) {
	if l.fenced.Swap(uint64(epoch)) == 0 {
		l.node.deps.Log.WithField("epoch", uint64(epoch)).Error("a follower has accepted a leader of a higher epoch; this node is no longer the writer")
		l.fence(&MustFollowError{Reason: fmt.Sprintf("epoch %d has begun, this node's was %d", epoch, l.engine.Epoch())})
	}
}

// fence ends the writer's work for good: nothing more is acknowledged.
func (l *leader) fence(reason error) {
	l.node.Fence(reason.Error())
	l.hub.Fence(reason)
	l.engine.Fence(fmt.Errorf("%w: %w", replica.ErrFenced, reason))
}

// retainFrom is the lowest LSN of the log that others need. For as long as a
// follower that is away keeps its log, so does whoever has not been seen since this
// opening, within the bounds.
//
// What the archive does not have stays in any case, however long it is away.
func (l *leader) retainFrom() lsn.LSN {
	from := l.hub.RetainFrom()
	if shipped := l.archive.shipped(); shipped < archive.MaxLSN {
		from = min(from, shipped+1)
	}
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
