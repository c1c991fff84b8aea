package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"originchain/shared/archive"
	"originchain/shared/durable"
	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/table"
)

// DefaultScratchBytes bounds what a Stream keeps on disk unless it is told otherwise:
// half of what a Lambda has at most.
const DefaultScratchBytes = 5 << 30

// scratchEvery is after how many bytes of operations the scratch is looked at. It may
// be above its limit by that, and by what a compaction writes before it removes what it
// was made from: at most as much again.
const scratchEvery = 16 << 20

// Sizes of what a Stream holds in memory of the checkpoint and of the scratch.
const (
	streamCacheBytes    = 32 << 20
	streamMemtableBytes = 16 << 20
)

// StreamOptions say what is looked at, and what it may take.
type StreamOptions struct {
	Store   object.Store
	Request Request
	// FS and Scratch are where the changes of the log behind the checkpoint go: a
	// directory that does not exist yet, or is empty. Who made it removes it.
	FS      vfs.FS
	Scratch string
	// ScratchBytes bounds them; 0 takes DefaultScratchBytes.
	ScratchBytes int64
	// Planned and Begin are as in Options.
	Planned func(p *Plan)
	Begin   func(name, unit string, total int64) (advance func(n int64), end func())
}

// ScratchError says that the log behind the checkpoint changes more than the scratch
// may hold. Nothing is known of the archive by it.
type ScratchError struct {
	Limit, Needs int64
	// LSN is how far the log was read, Target how far it is to be.
	LSN, Target lsn.LSN
}

// Error implements error.
func (e *ScratchError) Error() string {
	return fmt.Sprintf("at LSN %d of %d the changes of the log take %d bytes of scratch, and may take %d: nothing was verified. "+
		"Give more with --scratch-bytes, take a target nearer to a checkpoint, or verify with --mode full, which needs the space of the whole state", e.LSN, e.Target, e.Needs, e.Limit)
}

// Streamed is the state of an instance at a frame without a data directory: what its
// checkpoint holds is read in the archive, and the changes of the log behind it are on
// disk. It is read forwards, as a table.View.
type Streamed struct {
	table.View
	Plan *Plan
	// At is the frame, with the digest that its writer recorded, less what purges took.
	At table.Applied

	store    *ahead
	base     *table.Store // nil without a checkpoint
	remote   *remoteFS
	delta    *table.Delta
	scratch  int64
	quiet    logrus.FieldLogger
	opts     *StreamOptions
	archive  *archive.Archive
	recorded lsn.Digest
}

// Stream makes the state that a Run would restore, for reading alone. Every object of
// the checkpoint was read by then and held against its hash, and every frame against
// the one before it; the digest of the state is for whoever reads it to its end. The
// state lasts as long as ctx.
func Stream(ctx context.Context, o StreamOptions) (_ *Streamed, err error) {
	quiet := logrus.New()
	quiet.SetOutput(io.Discard) // what Pebble has to say comes back as errors
	if o.Begin == nil {
		o.Begin = func(string, string, int64) (func(int64), func()) { return func(int64) {}, func() {} }
	}
	if o.ScratchBytes == 0 {
		o.ScratchBytes = DefaultScratchBytes
	}
	holds, err := contents(o.FS, o.Scratch)
	if err != nil {
		return nil, err
	} else if holds != "" {
		return nil, &NotEmptyError{Path: o.Scratch, Holds: holds}
	}
	s := &Streamed{opts: &o, quiet: quiet}
	if s.Plan, err = MakePlan(ctx, o.Store, o.Request); err != nil {
		return nil, err
	}
	if o.Planned != nil {
		o.Planned(s.Plan)
	}
	if err := durable.MakeDirs(o.FS, o.Scratch); err != nil {
		return nil, local(err)
	}
	if err := s.fill(ctx); err != nil {
		if stopped := ctx.Err(); stopped != nil {
			err = fmt.Errorf("the verification was stopped before its end: %w", context.Cause(ctx))
		}
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// fill reads the checkpoint and the log, both at the same time.
func (s *Streamed) fill(ctx context.Context) error {
	from := table.Applied{}
	if c := s.Plan.Checkpoint; c != nil {
		from = appliedOf(c)
	}
	keys := []string{}
	for i := range s.Plan.Pieces {
		keys = append(keys, keyOf(&s.Plan.Pieces[i]))
	}
	s.store = newAhead(s.opts.Store, keys)
	s.archive = archive.New(s.store)
	fetch, stop := context.WithCancel(ctx)
	g, gctx := errgroup.WithContext(fetch)
	g.Go(func() error { return ignoreStop(s.store.run(gctx)) })
	g.Go(func() error {
		defer stop() // what was fetched and is not needed
		base, err := s.openBase(ctx, gctx)
		if err != nil {
			return s.Plan.beginFault(err)
		}
		s.delta, err = table.OpenDelta(table.Options{
			FS: s.opts.FS, Dir: s.opts.Scratch, Log: s.quiet, CacheBytes: streamCacheBytes, MemtableBytes: streamMemtableBytes,
		}, base)
		if err != nil {
			return local(err)
		}
		s.View = s.delta
		return s.replay(gctx, from)
	})
	return g.Wait()
}

// openBase opens the checkpoint where it is, after all of it was read once. The state
// is read until ctx ends; what is done here, until gctx does.
func (s *Streamed) openBase(ctx, gctx context.Context) (table.View, error) {
	c := s.Plan.Checkpoint
	if c == nil {
		return table.Empty{}, nil
	}
	var m archive.Manifest
	err := again(gctx, func() (err error) {
		m, err = s.archive.Manifest(gctx, c.Key())
		return err
	})
	if err != nil {
		return nil, err
	}
	advance, end := s.opts.Begin("checkpoint", "bytes", m.Bytes)
	err = checkFiles(gctx, s.archive, &m, advance)
	end()
	if err != nil {
		return nil, err
	}
	if s.remote, err = newRemoteFS(ctx, s.store, s.archive, &m); err != nil {
		return nil, err
	}
	s.base, err = table.Open(table.Options{FS: s.remote, Dir: remoteDir, Log: s.quiet, ReadOnly: true, CacheBytes: streamCacheBytes})
	if err != nil {
		return nil, errors.Join(s.remote.chunks.failed(), err)
	}
	at, err := s.base.Applied()
	if err != nil {
		return nil, err
	}
	return s.base, holdStand(s.opts.Store, c, at)
}

// replay takes the operations of the log up to the target.
func (s *Streamed) replay(ctx context.Context, from table.Applied) (err error) {
	advance, end := s.opts.Begin("log", "frames", int64(s.Plan.Target.LSN-from.Pos.LSN))
	defer end()
	src := newSource(ctx, s.archive, s.Plan, from)
	defer func() { err = errors.Join(err, src.shut()) }()
	unseen := 0
	for {
		f, err := src.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return err
		}
		n, err := s.take(f)
		if err != nil {
			return err
		}
		advance(1)
		if unseen += n; unseen >= scratchEvery {
			unseen = 0
			if err := s.watchScratch(f.LSN); err != nil {
				return err
			}
		}
	}
	t := src.at
	s.At = table.Applied{Pos: t.Pos, Chain: t.Chain, Digest: t.Digest, Stamp: t.Timestamp}
	s.recorded = t.Digest
	if err := s.settlePurges(); err != nil {
		return err
	}
	if err := s.delta.Settle(); err != nil {
		return local(err)
	}
	return s.watchScratch(t.Pos.LSN)
}

// take hands the operations of a frame on.
func (s *Streamed) take(f *frame.Frame) (size int, err error) {
	ops, err := f.Ops()
	if err != nil {
		return 0, fmt.Errorf("frame %d: %w", f.LSN, err)
	}
	var op frame.Op
	for {
		ok, err := ops.Next(&op)
		if err != nil {
			return 0, fmt.Errorf("frame %d: %w", f.LSN, err)
		}
		if !ok {
			return size, nil
		}
		if err := s.delta.Add(&op); err != nil {
			return 0, local(fmt.Errorf("frame %d: %w", f.LSN, err))
		}
		size += len(op.Key) + len(op.Value)
	}
}

// watchScratch ends a Stream whose scratch has become too large.
func (s *Streamed) watchScratch(at lsn.LSN) error {
	n := int64(s.delta.DiskBytes())
	s.scratch = max(s.scratch, n)
	if n <= s.opts.ScratchBytes {
		return nil
	}
	return &ScratchError{Limit: s.opts.ScratchBytes, Needs: n, LSN: at, Target: s.Plan.Target.LSN}
}

// settlePurges takes purged rows out of the counters, as in a restore.
func (s *Streamed) settlePurges() error {
	lacks := s.Plan.survey.Lacks(s.At.Pos)
	if len(lacks) == 0 {
		return nil
	}
	if err := s.delta.Settle(); err != nil {
		return local(err)
	}
	ops, digest, err := settled(s.delta, lacks, s.At)
	if err != nil {
		return err
	}
	for i := range ops {
		if err := s.delta.Add(&ops[i]); err != nil {
			return local(err)
		}
	}
	s.At.Digest = digest
	return nil
}

// Result is what a Run says of the same state, but for what is known at the end of a
// reading: keys, and whether the digest was found.
func (s *Streamed) Result(begun time.Time) *Result {
	p := s.Plan
	res := &Result{
		LSN: s.At.Pos.LSN, Epoch: s.At.Pos.Epoch, Timestamp: moment(s.At.Stamp), Digest: s.At.Digest, Segments: len(p.Pieces),
		BytesFetched: s.store.read.Load(), Seconds: time.Since(begun).Seconds(), Instance: p.Instance, Line: p.Line, Gaps: p.Gaps, Purged: s.At.Digest != s.recorded, Unread: p.Unread(),
	}
	if p.Checkpoint != nil {
		res.CheckpointLSN = p.Checkpoint.LSN
	}
	return res
}

// ScratchBytes is the most that the scratch was seen to take.
func (s *Streamed) ScratchBytes() int64 { return s.scratch }

// Failed is what kept a part of the checkpoint from being read, if anything did. What
// was found in the state is not to be believed then.
func (s *Streamed) Failed() error {
	if s.remote == nil {
		return nil
	}
	return s.remote.chunks.failed()
}

// Close ends the reading.
func (s *Streamed) Close() (err error) {
	if s.delta != nil {
		err = s.delta.Close()
	}
	if s.base != nil {
		err = errors.Join(err, s.base.Close())
	}
	return err
}
