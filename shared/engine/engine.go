// Package engine orders commits. One sequencer decides, one appender makes
// durable, one publisher makes visible and answers:
//
//	Commit ─► sequencer: validate, LSN, stamp, digest ─► appender: one write, one fdatasync per group ─► publisher: apply, visible, answer
//	reads ◄───────────────────────────── state ◄──────────────────────────────────────────────────────────────┘
//
// Invariants, each with a test that crashes there:
//
//   - No answer, and nothing visible, before the fsync of its frame.
//   - Visibility order is log order: a group becomes visible at once, in order.
//   - An answer that depended on a frame that is not visible yet (a conflict, a
//     passed foreign key, a repeated request) waits until that frame is visible.
//   - After a failed write or fsync nothing more is acknowledged. Whoever waits
//     is told that the outcome is unknown; the next opening decides it.
//
// DESIGN.md in this folder gives the reasons and what was refused.
package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"

	"originchain/shared/clock"
	"originchain/shared/datadir"
	"originchain/shared/fault"
	"originchain/shared/lsn"
	"originchain/shared/table"
	"originchain/shared/wal"
)

// Limits of the pipeline.
const (
	// maxPendingBytes bounds what is decided and not yet visible; beyond it a
	// write is refused before it is appended.
	maxPendingBytes = 64 << 20
	// maxQueuedProposals bounds what waits for the sequencer.
	maxQueuedProposals = 8192
	// maxGroupBytes bounds one write of the appender, so that one fsync never
	// waits for the whole pending limit.
	maxGroupBytes = 8 << 20
	// groupsInFlight bounds the groups that are durable here and wait for others.
	groupsInFlight = 256
)

// Config is plain data.
type Config struct {
	// DataDir is the node's directory; see package datadir.
	DataDir    string
	InstanceID string
	NodeID     string
	// SegmentBytes and SegmentMaxAge say when a segment is sealed; 0 takes the
	// defaults of package wal.
	SegmentBytes  int64
	SegmentMaxAge time.Duration
	// CacheBytes and MemtableBytes size the state store; 0 takes its defaults.
	CacheBytes    int64
	MemtableBytes uint64
	// Follower says that a new directory takes its instance from a leader.
	Follower bool
	// Shared says that the node was given the archive or the lease store of its
	// instance. A restored copy then does not open as a writer before an operator has
	// accepted it; without either it becomes an instance of its own.
	Shared bool
	// ApplyDelay is how much later than the leader a follower shows a frame, by
	// the leader's clock; the frame is durable here at once.
	ApplyDelay time.Duration
}

// Deps are the edges of the process.
type Deps struct {
	FS    vfs.FS
	Log   logrus.FieldLogger
	Clock *clock.Clock
	// Rand is the source of salts; nil takes the system's. Tests seed it.
	Rand io.Reader
	// ObserveSync is told how long each commit fsync took; may be nil.
	ObserveSync func(time.Duration)
	// NoPreallocate is for simulated disks; see package wal.
	NoPreallocate bool
	// MayOpen is asked whether a node whose log ends at last may be a writer, before
	// it replays its log. Nil lets it.
	MayOpen func(ctx context.Context, who datadir.Identity, last lsn.Pos) error
	// TakeEpoch takes the epoch of a writer. Nil lets the directory decide alone.
	TakeEpoch func(context.Context, Opening) (lsn.Epoch, error)
	// Leader is where clients reach the writer that a follower follows, for the
	// answer to a write; nil, or "", where nobody knows.
	Leader func() string
	// Changed is told, by a follower alone, that frames changed records of tenants
	// or tokens; they are visible by then. May be nil.
	Changed func()
}

// Opening is a node that is about to be a writer.
type Opening struct {
	Who datadir.Identity
	// Last is where its log ends, Line which epochs it holds.
	Last wal.Tail
	Line []wal.EpochStart
	// Allot takes an epoch above atLeast in the data directory, durably.
	Allot func(atLeast lsn.Epoch) (lsn.Epoch, error)
	// Adopt keeps an epoch there that was allotted elsewhere for this opening, durably.
	Adopt func(epoch lsn.Epoch) error
	// Ended is the epoch up to which an operator has ended all others for this
	// directory, by accepting it; 0 for none.
	Ended lsn.Epoch
	// Claims are the nonces under which the directory has taken epochs in an archive
	// last; NoteClaims keeps others in their place, durably.
	Claims     []string
	NoteClaims func(nonces []string) error
}

// Engine is one open data directory, as a writer (Open, Run) or as a follower
// (OpenFollower, RunFollower).
type Engine struct {
	cfg   Config
	deps  Deps
	dir   *datadir.Dir
	log   *wal.Log
	store *table.Store
	// owner is whom the state tells of failures: a promoted follower's has another.
	owner *atomic.Pointer[Engine]
	epoch lsn.Epoch
	aside []wal.Divergent // what lay in the directory at the opening; it grows while closed alone

	pendings  sync.Pool // of *pending; the engine's own, since channels belong to one simulation
	proposals chan *pending
	queue     entryQueue
	// disk is how long the log's disk has been at what the appender gave it.
	disk    fsyncLag
	durable chan group
	rolled  chan struct{}

	answers  answerQueue
	catalogs catalogCache
	seq      sequencer
	applied  table.Applied // where the state stands; of whoever publishes, one at a time (hand)

	visible      atomic.Uint64 // LSN
	handed       atomic.Int64  // groups that the publisher has and has not published
	pendingBytes atomic.Int64
	follow       following
	paused       atomic.Pointer[Pause]
	gate         Gate           // nil: what is durable may be acknowledged
	retainFrom   func() lsn.LSN // nil: nobody else needs the log
	givenUp      chan struct{}  // closed when nobody waits for other nodes any more
	failure      atomic.Pointer[failure]
	failed       chan struct{}
	closing      sync.RWMutex // held by Commit while it hands over; Close takes it to stop new ones
	closed       bool
	boot         lsn.Pos
	restored     bool // a copy that is served for reading alone
}

type failure struct{ err error }

// Open locks the directory, recovers its state from its log, takes a new epoch
// and writes the epoch's frame. It starts nothing; Run serves commits.
func Open(ctx context.Context, cfg Config, deps Deps) (_ *Engine, err error) {
	e := newEngine(cfg, deps)
	defer e.releaseOn(&err)
	if err = e.openFiles(asWriter); err != nil {
		return nil, err
	}
	if err = e.begin(ctx); err != nil {
		return nil, err
	}
	return e, nil
}

// begin makes a writer of what is open.
func (e *Engine) begin(ctx context.Context) error {
	if err := e.mayOpen(ctx); err != nil {
		return err
	}
	if err := e.recover(ctx); err != nil {
		return err
	}
	if err := e.takeEpoch(ctx); err != nil {
		return err
	}
	// The state works in the background from here on, and may have failed there.
	return e.Failure()
}

// mayOpen asks before a frame is replayed that another history may not have. A
// directory that is refused and has no history is of no instance: it was made for a
// new one, and there is one already.
func (e *Engine) mayOpen(ctx context.Context) error {
	if e.deps.MayOpen == nil {
		return nil
	}
	last := e.log.Tail().Pos
	err := e.deps.MayOpen(ctx, e.dir.Identity(), last)
	if err == nil || last.LSN != 0 || e.cfg.InstanceID != "" {
		return err
	}
	at, stateErr := e.store.Applied()
	if stateErr != nil || at.Pos.LSN != 0 {
		return errors.Join(err, stateErr)
	}
	return errors.Join(err, e.dir.Disclaim())
}

func newEngine(cfg Config, deps Deps) *Engine {
	e := &Engine{
		cfg: cfg, deps: deps,
		proposals: make(chan *pending, maxQueuedProposals),
		durable:   make(chan group, groupsInFlight),
		rolled:    make(chan struct{}, 1),
		failed:    make(chan struct{}),
		givenUp:   make(chan struct{}),
	}
	e.pendings.New = newPending
	e.queue.init()
	e.follow.init()
	return e
}

// releaseOn gives everything back when an opening ends in an error.
func (e *Engine) releaseOn(err *error) {
	if *err != nil {
		*err = errors.Join(*err, e.release())
	}
}

// openFiles locks the directory and opens log and state.
func (e *Engine) openFiles(as opening) (err error) {
	if e.dir, err = datadir.Open(e.dirOptions()); err != nil {
		return err
	}
	if u, err := e.dir.Unusable(); err != nil {
		return err
	} else if u != nil {
		return fmt.Errorf("%w: %s", ErrUnusable, u.Reason)
	}
	if e.dir.Identity().Unclaimed {
		return ErrUnclaimed
	}
	base, err := e.settleRestored(as)
	if err != nil {
		return err
	}
	if err = e.openLog(base); err != nil {
		return err
	}
	if e.aside, err = wal.Divergents(e.deps.FS, e.dir.Path()); err != nil {
		return err
	}
	owner := new(atomic.Pointer[Engine])
	owner.Store(e)
	e.owner = owner
	e.store, err = table.Open(table.Options{
		FS: e.deps.FS, Dir: e.dir.State(), Log: e.deps.Log, CacheBytes: e.cfg.CacheBytes, MemtableBytes: e.cfg.MemtableBytes,
		OnFailure: func(err error) { owner.Load().fail("keep the state", err) },
	})
	return err
}

// Errors of an opening that a follower answers to.
var (
	// ErrUnusable: the state does not go with the log, since a rewind found none old
	// enough; the node needs a checkpoint of its leader.
	ErrUnusable = errors.New("the data directory waits for a leader's checkpoint; start it as a follower")
	// ErrUnclaimed: the directory was made by a follower that has not reached its
	// leader yet, and belongs to no instance.
	ErrUnclaimed = errors.New("the data directory belongs to no instance yet")
)

func (e *Engine) dirOptions() datadir.Options {
	return datadir.Options{FS: e.deps.FS, Path: e.cfg.DataDir, InstanceID: e.cfg.InstanceID, NodeID: e.cfg.NodeID, Follower: e.cfg.Follower}
}

// openLog opens the log; base is where one without a segment goes on.
func (e *Engine) openLog(base wal.Tail) (err error) {
	e.log, err = wal.Open(wal.Options{
		FS: e.deps.FS, Dir: e.dir.Log(), Instance: [16]byte(e.dir.Identity().InstanceID),
		SegmentBytes: e.cfg.SegmentBytes, SegmentMaxAge: e.cfg.SegmentMaxAge,
		Log: e.deps.Log, SyncObserver: e.deps.ObserveSync, NoPreallocate: e.deps.NoPreallocate, Base: base,
	})
	return err
}

// Run serves commits until ctx ends or the log fails, then drains: whatever was
// decided is made durable and answered first. It returns nil after a clean stop.
func (e *Engine) Run(ctx context.Context) error {
	e.store.Pace()
	// Before the stages run no index can be under construction: what is
	// unfinished now was left by a process that died.
	unfinished, err := e.unfinishedIndexes()
	if err != nil {
		e.fail("look for unfinished indexes", err)
	}
	var stages, tidying sync.WaitGroup
	for _, stage := range []func(){e.sequence, e.append, e.publish, e.maintain} {
		stages.Go(stage)
	}
	running, stop := context.WithCancel(ctx)
	tidying.Go(func() { e.dropIndexes(running, unfinished) })
	select {
	case <-ctx.Done():
	case <-e.failed:
	}
	defer e.giveUpAfter(stopGrace)()
	// The tidying waits for commits, and after a failure they are answered only
	// when intake has stopped: so it is told to go first.
	stop()
	// Nobody is left to give way to, and a checkpoint that is being made is waited for.
	e.store.StopPacing()
	tidying.Wait()
	e.stopIntake()
	stages.Wait()
	if f := e.failure.Load(); f != nil {
		return f.err
	}
	return nil
}

// stopGrace is how long a stop waits for other nodes to have what was appended.
const stopGrace = 10 * time.Second

// giveUpAfter lets go of frames that other nodes do not acknowledge: at once after
// a failure, else when grace has passed. The returned func ends that.
func (e *Engine) giveUpAfter(grace time.Duration) (stop func()) {
	if e.failure.Load() != nil {
		grace = 0
	}
	t := time.AfterFunc(grace, func() { close(e.givenUp) })
	return func() { t.Stop() }
}

// stopIntake refuses new commits and lets the stages run dry one by one.
func (e *Engine) stopIntake() {
	e.closing.Lock()
	defer e.closing.Unlock()
	if !e.closed {
		e.closed = true
		close(e.proposals)
	}
}

// Close writes the state's memory to disk, so that the next opening has little
// to replay, and releases the directory. Call it after Run has returned.
func (e *Engine) Close() error {
	e.stopIntake()
	var err error
	if e.failure.Load() == nil {
		err = e.store.Flush()
	}
	return errors.Join(err, e.release())
}

func (e *Engine) release() error {
	var errs []error
	if e.log != nil {
		errs = append(errs, e.log.Close())
	}
	if e.store != nil {
		errs = append(errs, e.store.Close())
	}
	if e.dir != nil {
		errs = append(errs, e.dir.Close())
	}
	return errors.Join(errs...)
}

// fail stops the engine for ever: the first error is the one that is kept.
func (e *Engine) fail(doing string, err error) {
	f := &failure{err: fmt.Errorf("%s: %w", doing, err)}
	if e.failure.CompareAndSwap(nil, f) {
		log := e.deps.Log.WithField("doing", doing).WithError(err)
		switch other := (*fenced)(nil); {
		case !errors.As(err, &other):
			log.Error("engine failed; nothing more is acknowledged")
		case other.planned:
			log.Info("this node's time as the writer ends as planned")
		default:
			log.Warn("another node is the writer; nothing more is acknowledged by this one")
		}
		close(e.failed)
	}
}

// Fence ends the engine because another node is the writer: what is not
// acknowledged yet never is by this one.
func (e *Engine) Fence(err error) { e.fail("go on as the writer", &fenced{error: err}) }

// Retire is Fence where this node has given the role away itself.
func (e *Engine) Retire(err error) { e.fail("go on as the writer", &fenced{error: err, planned: true}) }

// fenced is a failure that is no fault of this node.
type fenced struct {
	error
	planned bool
}

// Unwrap gives the cause.
func (f *fenced) Unwrap() error { return f.error }

// refusal is the answer of an engine that has failed to who sends more.
func refusal(err error) *fault.Error {
	if errors.As(err, new(*fenced)) {
		return fault.New(fault.Fenced, "another node is the writer now, and this one takes no more writes; nothing was written, send the request to the writer").WithRetry().Wrap(err)
	}
	return fault.New(fault.NotReady, "the server cannot write its log and is stopping; send the request to the next writer").WithRetry().Wrap(err)
}

// Failure says why the engine has stopped; nil while it runs.
func (e *Engine) Failure() error {
	if f := e.failure.Load(); f != nil {
		return f.err
	}
	return nil
}

// Failed is closed when the engine has failed.
func (e *Engine) Failed() <-chan struct{} { return e.failed }

func (e *Engine) errFailed(err error) error {
	if errors.As(err, new(*fenced)) {
		return fault.New(fault.Fenced, "another node is the writer now; retry with the same Idempotency-Key there").
			With("outcome", "unknown").WithRetry().Wrap(err)
	}
	return fault.New(fault.NotReady, "the server cannot write its log and is stopping; retry with the same Idempotency-Key against the next writer").
		With("outcome", "unknown").WithRetry().Wrap(err)
}

// Identity is the instance and node of the directory.
func (e *Engine) Identity() datadir.Identity { return e.dir.Identity() }

// Epoch is a writer's own epoch, and that of the newest visible frame of a
// follower.
func (e *Engine) Epoch() lsn.Epoch { return e.Visible().Epoch }

// Visible is the last frame that reads can see.
func (e *Engine) Visible() lsn.Pos {
	if p := e.follow.visible.Load(); p != nil {
		return *p
	}
	return lsn.Pos{Epoch: e.epoch, LSN: lsn.LSN(e.visible.Load())}
}

// CommitLSN is the last frame that may be acknowledged: nothing above it is visible
// on any node.
func (e *Engine) CommitLSN() lsn.LSN {
	switch {
	case e.follow.visible.Load() != nil:
		return e.follow.committed()
	case e.gate != nil:
		return lsn.LSN(e.visible.Load())
	}
	return e.Durable()
}

// Durable is the last frame that a crash cannot take.
func (e *Engine) Durable() lsn.LSN { return e.log.Durable() }

// BootLSN is the end of the log as it was found, which the state had to reach
// before the engine was opened.
func (e *Engine) BootLSN() lsn.LSN { return e.boot.LSN }

// Boot is the last frame of the log as it was found, before a writer's own first.
func (e *Engine) Boot() lsn.Pos { return e.boot }

// Log gives access to the segments, for status and tools.
func (e *Engine) Log() *wal.Log { return e.log }

// Applied is the frame the state stands at, with its digest.
func (e *Engine) Applied() (table.Applied, error) { return e.store.Applied() }

// Catalog returns the tenant's tables as they are visible now.
func (e *Engine) Catalog(tenant ulid.ULID) (*table.Catalog, error) {
	if c, ok := e.catalogs.find(tenant, lsn.LSN(e.visible.Load())); ok {
		return c, nil
	}
	snap, err := e.store.Snapshot()
	if err != nil {
		return nil, err
	}
	c, err := e.catalogs.load(snap, tenant)
	return c, errors.Join(err, snap.Close())
}

// View reads the visible state, each call the newest. A read of more than one
// key that must agree takes a Snapshot.
func (e *Engine) View() table.View { return e.store }

// Snapshot freezes the visible state.
func (e *Engine) Snapshot() (*table.Snapshot, error) { return e.store.Snapshot() }
