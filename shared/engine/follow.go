package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"originchain/shared/frame"
	"originchain/shared/lsn"
	recovery "originchain/shared/recover"
	"originchain/shared/table"
	"originchain/shared/wal"
)

// following is the follower's side of the pipeline: frames come from a leader,
// byte for byte, are made durable here, and become visible as far as the leader
// says that they are committed.
type following struct {
	// visible is where reads of a follower stand; nil: the engine is a writer.
	visible atomic.Pointer[lsn.Pos]
	wake    chan struct{} // more is durable or committed; holds one
	// caughtUp is closed when reads see no less than before a restart: all that was
	// in the log then, as far as a leader says that it is committed.
	caughtUp chan struct{}

	mu     sync.Mutex
	commit lsn.LSN
	// stamp is the leader's clock as of heard, micros; what is delayed counts
	// from it, since no wall clock of another machine is compared with ours.
	stamp int64
	heard time.Time
	// target is what must be visible before anything is read, and found what the state
	// had when it was opened: a writer that lost its epoch while it recovered has more
	// in it than a leader has said to be committed, which is told.
	target, found, told lsn.LSN

	// copied is when a chunk came that is no single group of the leader's: this node
	// was away, and copies.
	copied atomic.Int64
	// lag is how long the log's disk has been asked for what a leader sent.
	lag fsyncLag

	// The rest is the apply goroutine's.
	reader *wal.Reader
	held   *frame.Frame // read and not applied yet; valid until the reader's next call
}

func (f *following) init() { f.wake, f.caughtUp = make(chan struct{}, 1), make(chan struct{}) }

// caught notes that enough is visible to be read: applied, or all that is not held
// back by intent.
func (f *following) caught(applied lsn.LSN, delayed bool) {
	f.mu.Lock()
	enough := !f.heard.IsZero() && f.told >= f.found && (applied >= f.target || delayed)
	f.mu.Unlock()
	if !enough {
		return
	}
	select {
	case <-f.caughtUp:
	default:
		close(f.caughtUp)
	}
}

func (f *following) signal() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *following) committed() lsn.LSN {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.commit
}

// now is the leader's clock: its last stamp and what has passed since.
func (f *following) now() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.heard.IsZero() {
		return 0
	}
	return f.stamp + time.Since(f.heard).Microseconds()
}

// OpenFollower locks the directory and opens log and state as they are: nothing
// is replayed, since only a leader knows what of the log is committed. It takes
// no epoch. RunFollower applies.
func OpenFollower(cfg Config, deps Deps) (*Engine, error) {
	return openToRead(cfg, deps, asFollower)
}

func openToRead(cfg Config, deps Deps, as opening) (_ *Engine, err error) {
	e := newEngine(cfg, deps)
	defer e.releaseOn(&err)
	if err = e.openFiles(as); err != nil {
		return nil, err
	}
	if err = e.beginToRead(); err != nil {
		return nil, err
	}
	return e, nil
}

// beginToRead shows what the state has, of what is open.
func (e *Engine) beginToRead() error {
	at, err := e.store.Applied()
	if err != nil {
		return err
	}
	// A state that came as a checkpoint is ahead of the log until the log behind it
	// has come too. It is held against the log before anything is applied to it.
	if at.Pos.LSN <= e.log.Tail().Pos.LSN {
		if _, err = e.join(); err != nil {
			return err
		}
	}
	e.applied, e.boot = at, e.log.Tail().Pos
	e.follow.found = at.Pos.LSN
	e.show(at)
	return e.Failure()
}

// show moves what reads see. The state has it by now.
func (e *Engine) show(at table.Applied) {
	e.applied = at
	pos := at.Pos
	e.follow.visible.Store(&pos)
	e.visible.Store(uint64(pos.LSN))
}

// Copy appends a chunk of the leader's log. It is durable after SyncLog. Errors
// of package wal say whether it is the chunk or the disk that is wrong; the disk's
// stop the engine.
func (e *Engine) Copy(c wal.Chunk) error {
	if len(c.Bytes) >= copyingBytes {
		e.follow.copied.Store(time.Now().UnixNano())
	}
	newest := e.log.NewestFirst()
	err := e.follow.measured(func() error { return e.log.Copy(c) })
	if err == nil && e.log.NewestFirst() != newest {
		e.signalRoll()
	}
	return e.failLog("append to the log", err)
}

// SyncLog makes everything copied durable.
func (e *Engine) SyncLog() error {
	err := e.failLog("make the log durable", e.follow.measured(e.log.Sync))
	if err == nil {
		e.follow.signal()
	}
	return err
}

// measured has Waiting tell of a call of the log that does not return. Copying counts, since
// it syncs too where a segment ends. What is copied and not synced yet does not: a stream may
// end in between, and nothing waits until the next one.
func (f *following) measured(call func() error) error {
	f.lag.begin(time.Now())
	defer f.lag.end()
	return call()
}

// CaughtUp is closed once a follower shows all that was in its log when it was
// opened, as far as a leader says that it is committed; one that had nothing, once
// it shows what was committed when it first heard of a leader.
func (e *Engine) CaughtUp() <-chan struct{} { return e.follow.caughtUp }

// failLog stops the engine when the log has failed, and returns err.
func (e *Engine) failLog(doing string, err error) error {
	if errors.Is(err, wal.ErrFailed) {
		e.fail(doing, err)
	}
	return err
}

// Advance tells how far the leader's log is committed, and what its clock says.
// Neither goes back.
func (e *Engine) Advance(commit lsn.LSN, stamp int64) {
	f := &e.follow
	f.mu.Lock()
	if f.heard.IsZero() {
		f.target = commit
		if e.boot.LSN > 0 {
			f.target = min(e.boot.LSN, commit)
		}
	}
	f.commit, f.told = max(f.commit, commit), max(f.told, commit)
	if stamp > f.stamp {
		f.stamp, f.heard = stamp, time.Now()
	}
	f.mu.Unlock()
	f.signal()
}

// NewLeader says that another leader, or the same one anew, is heard from now on:
// what the one before said of commits may be of frames that this one does not have.
func (e *Engine) NewLeader() {
	f := &e.follow
	f.mu.Lock()
	defer f.mu.Unlock()
	f.commit = e.visibleLSN()
}

func (e *Engine) visibleLSN() lsn.LSN { return lsn.LSN(e.visible.Load()) }

// RunFollower applies what is durable here and committed, until ctx ends or the
// engine fails. It returns nil after a clean stop.
func (e *Engine) RunFollower(ctx context.Context) error {
	e.store.Pace()
	var stages sync.WaitGroup
	ended := make(chan struct{})
	stages.Go(func() { e.maintainUntil(ended) })
	for ctx.Err() == nil && e.failure.Load() == nil {
		wait, err := e.applyCommitted(ctx)
		if err != nil {
			e.fail("apply the leader's frames", err)
			break
		}
		e.rest(ctx, wait)
	}
	e.store.StopPacing()
	close(ended)
	stages.Wait()
	if r := e.follow.reader; r != nil {
		e.follow.reader, e.follow.held = nil, nil
		if err := r.Close(); err != nil {
			e.fail("close the log's reader", err)
		}
	}
	return e.Failure()
}

// rest waits until there may be more to apply, at most for wait unless it is 0.
func (e *Engine) rest(ctx context.Context, wait time.Duration) {
	var due <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		due = t.C
	}
	select {
	case <-ctx.Done():
	case <-e.failed:
	case <-e.follow.wake:
	case <-due:
	}
}

const (
	// copyingBytes is the size of a chunk from which the log is being caught up: chunks
	// are as full as they get.
	copyingBytes = 768 << 10
	// copyingFor is how long that counts after the last such chunk.
	copyingFor = 100 * time.Millisecond
	// copyingShare times as long as it worked an apply rests meanwhile.
	copyingShare = 3
)

// yield leaves disk and cores to the log while it is being caught up: what is durable
// here is safe, and is applied in the end just as soon. Applying never stops for it,
// since a follower may stay behind for as long as its leader is loaded.
func (e *Engine) yield(ctx context.Context, worked time.Duration) {
	if time.Since(time.Unix(0, e.follow.copied.Load())) >= copyingFor {
		return
	}
	t := time.NewTimer(copyingShare * worked)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-e.failed:
	}
}

// applyBytes bounds one batch of a follower: it is what readers wait for.
const applyBytes = 1 << 20

// applyCommitted applies all that may be visible now, and returns after how long
// there is more, if it is delayed alone.
func (e *Engine) applyCommitted(ctx context.Context) (wait time.Duration, err error) {
	for ctx.Err() == nil {
		start := time.Now()
		limit := min(e.Durable(), e.follow.committed())
		e.follow.caught(e.applied.Pos.LSN, false)
		if e.applied.Pos.LSN >= limit {
			return 0, nil
		}
		b := newFollowed(e)
		if wait, err = b.gather(limit); err != nil {
			return 0, errors.Join(err, b.Close())
		}
		if b.At() == e.applied {
			e.follow.caught(0, true)
			return wait, b.Close()
		}
		if err = b.commit(); err != nil {
			return 0, err
		}
		e.yield(ctx, time.Since(start))
	}
	return 0, nil
}

// followed is one batch of a follower.
type followed struct {
	*recovery.Batch
	e       *Engine
	records bool // tenants or tokens are among what changes
}

func newFollowed(e *Engine) *followed {
	return &followed{Batch: recovery.NewBatch(e.store, e.applied), e: e}
}

// gather adds committed frames up to limit, as long as they are old enough.
func (b *followed) gather(limit lsn.LSN) (wait time.Duration, err error) {
	horizon := int64(0)
	if b.e.cfg.ApplyDelay > 0 {
		horizon = b.e.follow.now() - b.e.cfg.ApplyDelay.Microseconds()
	}
	for b.At().Pos.LSN < limit && b.Size() < applyBytes {
		f, err := b.e.peek()
		if err != nil {
			return 0, err
		}
		if b.e.cfg.ApplyDelay > 0 && f.Timestamp > horizon {
			return time.Duration(f.Timestamp-horizon) * time.Microsecond, nil
		}
		if err := b.AddFrame(f); err != nil {
			return 0, err
		}
		if err := b.note(f); err != nil {
			return 0, err
		}
		b.e.follow.held = nil
	}
	return 0, nil
}

// peek is the next frame of the own log.
func (e *Engine) peek() (*frame.Frame, error) {
	f := &e.follow
	if f.held != nil {
		return f.held, nil
	}
	if f.reader == nil {
		if _, err := e.join(); err != nil {
			return nil, err
		}
		r, err := e.log.NewReader(e.applied.Pos.LSN + 1)
		if err != nil {
			return nil, err
		}
		f.reader = r
	}
	next, err := f.reader.Next()
	if errors.Is(err, io.EOF) {
		err = fmt.Errorf("the log ends before LSN %d, which was durable", e.Durable())
	}
	f.held = next
	return next, err
}

// note sees which caches a frame makes stale. A catalog is another one from its
// frame on; who reads a snapshot with the frame in it loads it from there.
func (b *followed) note(f *frame.Frame) error {
	ops, err := f.Ops()
	if err != nil {
		return err
	}
	var op frame.Op
	for {
		ok, err := ops.Next(&op)
		if err != nil || !ok {
			return err
		}
		p, ok := table.SplitKey(op.Key)
		switch {
		case !ok:
		case p.Space == table.SpaceSchemas:
			b.e.catalogs.put(p.Tenant, f.LSN, nil)
		case p.Space == table.SpaceTenants, p.Space == table.SpaceTokens:
			b.records = true
		}
	}
}

func (b *followed) commit() error {
	if err := b.Commit(); err != nil {
		return err
	}
	b.e.show(b.At())
	if b.records && b.e.deps.Changed != nil {
		b.e.deps.Changed()
	}
	return nil
}
