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
}

// Engine is one open data directory in the writer role.
type Engine struct {
	cfg   Config
	deps  Deps
	dir   *datadir.Dir
	log   *wal.Log
	store *table.Store
	epoch lsn.Epoch

	proposals chan *pending
	queue     entryQueue
	durable   chan group
	rolled    chan struct{}

	answers  answerQueue
	catalogs catalogCache
	seq      sequencer
	applied  table.Applied // where the state stands; of whoever publishes, one at a time (hand)

	visible      atomic.Uint64 // LSN
	handed       atomic.Int64  // groups that the publisher has and has not published
	pendingBytes atomic.Int64
	failure      atomic.Pointer[failure]
	failed       chan struct{}
	closing      sync.RWMutex // held by Commit while it hands over; Close takes it to stop new ones
	closed       bool
	bootLSN      lsn.LSN
}

type failure struct{ err error }

// Open locks the directory, recovers its state from its log, takes a new epoch
// and writes the epoch's frame. It starts nothing; Run serves commits.
func Open(ctx context.Context, cfg Config, deps Deps) (_ *Engine, err error) {
	e := &Engine{
		cfg: cfg, deps: deps,
		proposals: make(chan *pending, maxQueuedProposals),
		durable:   make(chan group, 1),
		rolled:    make(chan struct{}, 1),
		failed:    make(chan struct{}),
	}
	e.queue.init()
	defer func() {
		if err != nil {
			err = errors.Join(err, e.release())
		}
	}()
	if e.dir, err = datadir.Open(datadir.Options{FS: deps.FS, Path: cfg.DataDir, InstanceID: cfg.InstanceID, NodeID: cfg.NodeID}); err != nil {
		return nil, err
	}
	if err = e.openLog(); err != nil {
		return nil, err
	}
	e.store, err = table.Open(table.Options{
		FS: deps.FS, Dir: e.dir.State(), Log: deps.Log, CacheBytes: cfg.CacheBytes, MemtableBytes: cfg.MemtableBytes,
		OnFailure: func(err error) { e.fail("keep the state", err) },
	})
	if err != nil {
		return nil, err
	}
	if err = e.recover(ctx); err != nil {
		return nil, err
	}
	if err = e.takeEpoch(); err != nil {
		return nil, err
	}
	// The state works in the background from here on, and may have failed there.
	return e, e.Failure()
}

func (e *Engine) openLog() (err error) {
	e.log, err = wal.Open(wal.Options{
		FS: e.deps.FS, Dir: e.dir.Log(), Instance: [16]byte(e.dir.Identity().InstanceID),
		SegmentBytes: e.cfg.SegmentBytes, SegmentMaxAge: e.cfg.SegmentMaxAge,
		Log: e.deps.Log, SyncObserver: e.deps.ObserveSync, NoPreallocate: e.deps.NoPreallocate,
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
		e.deps.Log.WithField("doing", doing).WithError(err).Error("engine failed; nothing more is acknowledged")
		close(e.failed)
	}
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
	return fault.New(fault.NotReady, "the server cannot write its log and is stopping; retry with the same Idempotency-Key against the next writer").
		With("outcome", "unknown").WithRetry().Wrap(err)
}

// Identity is the instance and node of the directory.
func (e *Engine) Identity() datadir.Identity { return e.dir.Identity() }

// Epoch is this opening's epoch.
func (e *Engine) Epoch() lsn.Epoch { return e.epoch }

// Visible is the last frame that reads can see.
func (e *Engine) Visible() lsn.Pos {
	return lsn.Pos{Epoch: e.epoch, LSN: lsn.LSN(e.visible.Load())}
}

// Durable is the last frame that a crash cannot take.
func (e *Engine) Durable() lsn.LSN { return e.log.Durable() }

// BootLSN is the end of the log as it was found, which the state had to reach
// before the engine was opened.
func (e *Engine) BootLSN() lsn.LSN { return e.bootLSN }

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
