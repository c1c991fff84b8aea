// Package follower is the role that copies a leader's log: it finds out how its
// own history meets the leader's, goes back or starts anew where it must, then
// writes the leader's bytes to its own log, acknowledges them, applies what is
// committed, and serves reads.
package follower

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"originchain/shared/datadir"
	"originchain/shared/engine"
	"originchain/shared/fault"
	"originchain/shared/lease"
	"originchain/shared/lsn"
	"originchain/shared/mtls"
	"originchain/shared/replica"
	pb "originchain/shared/replica/replicapb"
	"originchain/shared/telemetry"
	"originchain/writer"
)

// Config is plain data.
type Config struct {
	// Leader is the address to stream from, where the record does not say.
	Leader string
	// Promotable followers may be in sync and become writers.
	Promotable bool
}

// Deps are the edges of the role.
type Deps struct {
	FS      vfs.FS
	Log     *logrus.Logger
	Metrics *telemetry.Metrics
	// Control is the record of who writes; nil where there is none.
	Control lease.Store
	// TLS is what both sides show each other; nil is plain.
	TLS *mtls.Identity
	// Dial connects to a leader; nil takes the machine's network.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Follower is one node in the follower role.
type Follower struct {
	shell *writer.Shell
	cfg   Config
	deps  Deps

	status  status
	metrics *metrics
	// node is this node's id, once its directory is open.
	node atomic.Pointer[string]
	// promoted holds the epoch that the role is to end for.
	promoted chan lsn.Epoch
	from     *engine.Engine // what Run goes on with, of a writer
}

// status is what the node knows of its leader; it is read by anyone.
type status struct {
	connected atomic.Bool
	url       atomic.Pointer[string]
	leader    atomic.Pointer[string] // the node
	epoch     atomic.Uint64
	durable   atomic.Uint64 // the leader's
	commit    atomic.Uint64
	shipped   atomic.Uint64          // the archive's, as the leader says; 0 until it has said anything
	trouble   atomic.Pointer[string] // why there is no stream
}

// New makes the follower role of a node. It starts nothing and touches no file.
func New(shell *writer.Shell, cfg Config, deps Deps) *Follower {
	f := &Follower{shell: shell, cfg: cfg, deps: deps, promoted: make(chan lsn.Epoch, 1)}
	f.metrics = newMetrics(deps.Metrics, f)
	return f
}

// GoOnWith has the next Run go on with what a writer has open that has handed over,
// instead of opening the data directory. From then on e is the Follower's to close.
func (f *Follower) GoOnWith(e *engine.Engine) { f.from = e }

// Run follows until ctx ends: nil then. It returns an error when the directory
// cannot be opened or the log or the state has failed, and a *writer.PromotedError when
// the node is to go on as a writer. It may be called again after that.
func (f *Follower) Run(ctx context.Context) (err error) {
	defer func() {
		// It ended before it came to open anything.
		if from := f.from; from != nil {
			f.from = nil
			err = errors.Join(err, from.Close())
		}
	}()
	f.shell.SetRole(role{f})
	for ctx.Err() == nil {
		err := f.tenure(ctx)
		var ended *writer.Ended
		if !errors.As(err, &ended) {
			return err
		}
		if promoted := new(writer.PromotedError); errors.As(ended.Err, &promoted) {
			return promoted
		}
		if err := f.prepareAgain(ctx, ended.Err); err != nil && ctx.Err() == nil {
			return f.shell.OpenFailed(ctx, err)
		}
	}
	return nil
}

// parted is why a tenure ends whose log does not continue into the leader's.
type parted struct {
	welcome *pb.Welcome
	last    lsn.LSN // of the own log
}

func (p *parted) Error() string {
	if p.welcome.GetWay() == pb.Welcome_BOOTSTRAP {
		return fmt.Sprintf("the leader's log begins at LSN %d, and the own one ends at %d: a checkpoint is needed", p.welcome.GetOldestLsn(), p.last)
	}
	return fmt.Sprintf("the own log ends at LSN %d and has shared frames with the leader's up to %d", p.last, p.welcome.GetForkLsn())
}

// tenure follows with one opening of the directory, until it has to be opened anew
// (a *writer.Ended) or something fails.
func (f *Follower) tenure(ctx context.Context) error {
	cfg := f.shell.Config().Engine
	cfg.Follower = true
	deps := f.shell.EngineDeps()
	deps.Leader = f.leaderURL
	var served atomic.Pointer[writer.Served]
	deps.Changed = func() {
		if s := served.Load(); s != nil {
			s.RecordsChanged()
		}
	}
	e, err := f.open(cfg, deps)
	if errors.Is(err, engine.ErrUnusable) || errors.Is(err, engine.ErrUnclaimed) {
		return &writer.Ended{Err: err}
	}
	if err != nil {
		return f.shell.OpenFailed(ctx, err)
	}
	e.Lead(nil, f.retainFrom)
	err = f.follow(ctx, e, &served)
	f.status.connected.Store(false)
	if promoted := new(writer.PromotedError); errors.As(err, &promoted) {
		promoted.Engine = e
		return err
	}
	return errors.Join(err, e.Close())
}

func (f *Follower) open(cfg engine.Config, deps engine.Deps) (*engine.Engine, error) {
	if from := f.from; from != nil {
		f.from = nil
		return engine.Demote(from, cfg, deps)
	}
	return engine.OpenFollower(cfg, deps)
}

// follow keeps an open engine in step with the leader, and serves it once a leader
// has said how much of it is committed and that is visible: a read never goes back
// behind what the node showed before it was started again, and never sees what the
// node wrote itself as a writer and its successor does not have.
func (f *Follower) follow(ctx context.Context, e *engine.Engine, served *atomic.Pointer[writer.Served]) error {
	if own, id := f.deps.TLS, e.Identity(); own != nil && !own.Self().Is(id.InstanceID.String(), id.NodeID) {
		return fmt.Errorf("the certificate in --replication-tls-dir is of %s, and this is node %s of instance %s; give the node its own", own.Self(), id.NodeID, id.InstanceID)
	}
	// The rest of a checkpoint that turned out not to be needed.
	if err := f.deps.FS.RemoveAll(e.Dir().NextState()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	s, err := f.shell.Prepare(e)
	if err != nil {
		return err
	}
	served.Store(s)
	node := e.Identity().NodeID
	f.node.Store(&node)
	f.deps.Log.WithField("lsn", uint64(e.Visible().LSN)).WithField("durable_lsn", uint64(e.Durable())).Info("looking for the leader")
	return f.shell.Serve(ctx, s, e.CaughtUp(), true, func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		g.Go(func() error { return e.RunFollower(ctx) })
		g.Go(func() error { return f.stream(ctx, e) })
		g.Go(func() error { return f.awaitPromotion(ctx) })
		return g.Wait()
	})
}

// awaitPromotion ends the role when it is asked to.
func (f *Follower) awaitPromotion(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case epoch := <-f.promoted:
		f.shell.Redirect(fault.New(fault.ReadOnly, "this node is about to be the writer, of epoch %d; nothing was written, send the request again", epoch).WithRetry())
		return &writer.Ended{Err: &writer.PromotedError{Epoch: epoch}}
	}
}

// stream follows one stream after the other.
func (f *Follower) stream(ctx context.Context, e *engine.Engine) error {
	for ctx.Err() == nil {
		s, err := f.connect(ctx, e)
		if err != nil || s == nil {
			return err
		}
		e.NewLeader()
		f.connected(s.Welcome)
		s.Observe = f.observe
		began := time.Now()
		err = s.Run(e)
		if e.Failure() != nil || ctx.Err() != nil {
			return nil // RunFollower says it
		}
		f.lost(err)
		if time.Since(began) < lastRetry {
			pause(ctx, firstRetry)
		}
	}
	return nil
}

const (
	firstRetry = 50 * time.Millisecond
	lastRetry  = 2 * time.Second
	// eagerFor is for how long a follower asks again every firstRetry: a leader that is
	// handed over to is there within it, and waits for who was in sync.
	eagerFor = 3 * time.Second
)

// nextRetry is the wait after one of length retry, by one who looks since began.
func nextRetry(retry time.Duration, began time.Time) time.Duration {
	if time.Since(began) < eagerFor {
		return firstRetry
	}
	return min(2*retry, lastRetry)
}

// connect looks for the leader until one's log continues the own one; nil without
// an error: ctx has ended. A *writer.Ended says that the directory must be
// prepared first.
func (f *Follower) connect(ctx context.Context, e *engine.Engine) (*replica.Stream, error) {
	for began, retry := time.Now(), firstRetry; ctx.Err() == nil; retry = nextRetry(retry, began) {
		s, err := f.hello(ctx, e)
		var p *parted
		var local *replica.DiskError
		switch {
		case errors.As(err, &p):
			return nil, &writer.Ended{Err: p}
		case errors.As(err, &local):
			return nil, err
		case err == nil:
			return s, nil
		case e.Failure() != nil:
			return nil, e.Failure()
		}
		f.lost(err)
		pause(ctx, retry)
	}
	return nil, nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// hello opens one stream. The epoch of its leader is remembered before a byte of
// it is taken.
func (f *Follower) hello(ctx context.Context, e *engine.Engine) (_ *replica.Stream, err error) {
	conn, err := f.dial(ctx)
	if err != nil {
		return nil, err
	}
	keep := false
	defer func() {
		if !keep {
			err = errors.Join(err, conn.Close())
		}
	}()
	hello, err := f.helloOf(e)
	if err != nil {
		return nil, err
	}
	s, err := conn.Open(ctx, hello)
	if errors.Is(err, replica.ErrStaleLeader) {
		f.metrics.stale.Inc()
	}
	if err != nil {
		return nil, err
	}
	if err := f.accept(e, s.Welcome); err != nil {
		s.Close()
		return nil, err
	}
	if s.Welcome.GetWay() != pb.Welcome_TAIL {
		s.Close()
		return nil, &parted{welcome: s.Welcome, last: lsn.LSN(hello.GetLastLsn())}
	}
	keep = true
	s.OnEnd(func() { _ = conn.Close() })
	return s, nil
}

// accept holds a leader against what was accepted before.
func (f *Follower) accept(e *engine.Engine, w *pb.Welcome) error {
	if instance := e.Identity().InstanceID; string(w.GetInstance()) != string(instance[:]) {
		return fmt.Errorf("the leader %s is of another instance; check --leader-addr", w.GetNode())
	}
	return f.acceptEpoch(e.Dir(), lsn.Epoch(w.GetEpoch()))
}

// acceptEpoch keeps a leader's epoch in the directory. What fails then but for a
// stale leader is this node's disk.
func (f *Follower) acceptEpoch(dir *datadir.Dir, epoch lsn.Epoch) error {
	err := dir.AcceptEpoch(epoch)
	switch {
	case errors.Is(err, datadir.ErrStaleLeader):
		f.metrics.stale.Inc()
	case err != nil:
		err = &replica.DiskError{Err: fmt.Errorf("keep the leader's epoch %d: %w", epoch, err)}
	}
	return err
}

// helloOf says where the own log ends. A state without a log, as a checkpoint
// leaves it, says where the state ends.
func (f *Follower) helloOf(e *engine.Engine) (*pb.Hello, error) {
	id := e.Identity()
	accepted, err := e.Dir().AcceptedEpoch()
	if err != nil {
		return nil, &replica.DiskError{Err: err}
	}
	// A log that this node wrote itself speaks for its epoch too.
	accepted = max(accepted, e.Log().Tail().Pos.Epoch)
	h := &pb.Hello{Instance: id.InstanceID[:], Node: id.NodeID, Url: f.shell.Config().URL, AcceptedEpoch: uint64(accepted), Promotable: f.cfg.Promotable}
	last := e.Log().Tail()
	pos, chain := last.Pos, last.Chain
	if e.Log().FirstLSN() == 0 {
		at, err := e.Applied()
		if err != nil {
			return nil, err
		}
		pos, chain = at.Pos, at.Chain
	}
	h.LastLsn, h.LastEpoch = uint64(pos.LSN), uint64(pos.Epoch)
	if pos.LSN > 0 {
		h.Chain = chain[:]
	}
	for _, s := range e.Log().Epochs() {
		h.Line = append(h.Line, &pb.EpochStart{Epoch: uint64(s.Epoch), FirstLsn: uint64(s.First)})
	}
	return h, nil
}

// dial connects to where the record says that the leader is, or to the address
// that was given.
func (f *Follower) dial(ctx context.Context) (*replica.Conn, error) {
	address := f.cfg.Leader
	if f.deps.Control != nil {
		rec, ok, err := f.deps.Control.Load(ctx)
		if err != nil {
			return nil, fmt.Errorf("read the record of who writes: %w", err)
		}
		if ok && rec.ReplicationAddress != "" {
			address = rec.ReplicationAddress
		}
	}
	if address == "" {
		return nil, errors.New("nobody says where the leader is: give --leader-addr, or --control with a record")
	}
	return replica.Dial(address, f.deps.TLS, f.deps.Dial)
}
