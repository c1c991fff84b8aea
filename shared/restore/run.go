package restore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"originchain/shared/archive"
	"originchain/shared/datadir"
	"originchain/shared/durable"
	"originchain/shared/lsn"
	"originchain/shared/object"
	recovery "originchain/shared/recover"
	"originchain/shared/table"
)

// Options say what is restored, and where to.
type Options struct {
	Store   object.Store
	Request Request
	FS      vfs.FS
	// DataDir does not exist yet, or is empty.
	DataDir string
	// NodeID is the restored node's; "" makes one.
	NodeID string
	// Pause leaves a directory that is read-only until it is accepted, wherever it is
	// opened.
	Pause bool
	// AcceptMismatch takes a state whose digest is not its frame's.
	AcceptMismatch bool
	// Finish is called when all is verified and the directory is laid out, before it
	// appears under its name: at is where it is until then. May be nil.
	Finish func(ctx context.Context, at string, p *Plan) error
	// Planned is told of the plan before anything is fetched. May be nil.
	Planned func(p *Plan)
	// Admit may refuse the plan before anything is fetched, or left behind. May be nil.
	Admit func(ctx context.Context, p *Plan) error
	// Begin is told of each phase, as in package verification. May be nil.
	Begin func(name, unit string, total int64) (advance func(n int64), end func())
	// CacheBytes and MemtableBytes size the state while it is filled; 0 takes the defaults.
	CacheBytes    int64
	MemtableBytes uint64
}

// Result is what was restored.
type Result struct {
	LSN       lsn.LSN    `json:"lsn"`
	Epoch     lsn.Epoch  `json:"epoch"`
	Timestamp time.Time  `json:"timestamp"`
	Digest    lsn.Digest `json:"digest"`
	// Verified says that a scan of every key of the restored state gave the digest that
	// the target frame carries.
	Verified bool `json:"verified"`
	// CheckpointLSN is 0 where the replay began at LSN 1.
	CheckpointLSN lsn.LSN `json:"checkpoint_lsn"`
	// Unread are documents of the archive that cannot be read, such as the manifest of a
	// newer checkpoint: the restore has done without them.
	Unread []string `json:"unread,omitempty"`
	// Segments are the objects of the log that the plan had, parts of the tail among them.
	Segments int `json:"segments"`
	// BytesFetched is what this run has read from the archive.
	BytesFetched int64   `json:"bytes_fetched"`
	Seconds      float64 `json:"seconds"`

	Instance ulid.ULID `json:"instance_id"`
	Line     lsn.Epoch `json:"line_epoch"`
	DataDir  string    `json:"data_dir"`
	Keys     uint64    `json:"keys"`
	Gaps     []Hole    `json:"gaps"`
	// Purged says that purges have taken rows out of what was restored: Digest is that of
	// the frame without what the records of the purges say.
	Purged bool `json:"purged,omitempty"`
	// Mismatch is what was accepted by AcceptMismatch.
	Mismatch *datadir.Mismatch `json:"digest_mismatch,omitempty"`
	Paused   bool              `json:"paused,omitempty"`
	// AcceptedEpoch is what an acceptance took; 0 without one.
	AcceptedEpoch lsn.Epoch `json:"accepted_epoch,omitempty"`
}

// run is one restore.
type run struct {
	o      *Options
	stage  *staging
	plan   *Plan
	store  *ahead
	a      *archive.Archive
	begun  time.Time
	result Result
	log    logrus.FieldLogger
	// anew says that an earlier run's choice of where to begin was overruled.
	anew bool
	// mismatch is the first thing that AcceptMismatch let pass.
	mismatch *recovery.MismatchError
}

// Run restores. What it refuses leaves nothing behind; what it could not finish is
// gone on with by another Run with the same options.
func Run(ctx context.Context, o Options) (_ *Result, err error) {
	quiet := logrus.New()
	quiet.SetOutput(io.Discard) // what Pebble has to say comes back as errors
	if o.Begin == nil {
		o.Begin = func(string, string, int64) (func(int64), func()) { return func(int64) {}, func() {} }
	}
	r := &run{o: &o, begun: time.Now(), log: quiet}
	// "dir" and "dir/" are one directory, and what is unfinished stands beside it.
	o.DataDir = o.FS.PathJoin(o.DataDir)
	r.stage = &staging{fs: o.FS, path: o.DataDir + stagingSuffix, target: o.DataDir, args: o.arguments()}
	// The plan first: a target that cannot be reached leaves no trace.
	if err := r.stage.look(); err != nil {
		return nil, err
	}
	if r.stage.delivered == nil {
		if err := r.makePlan(ctx, r.stage.work); err != nil {
			return nil, err
		}
	}
	if err = r.stage.open(); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.stage.lock.Close()) }()
	if err := r.work(ctx); err != nil {
		return nil, err
	}
	if err := r.stage.remove(); err != nil {
		return nil, err
	}
	if d := r.stage.delivered; d != nil && o.Finish != nil && d.Accepted == nil {
		return nil, fmt.Errorf("%s was put in place by an earlier run, and is not accepted: run oc-pitr accept on it", o.DataDir)
	}
	return r.stage.work.Result, nil
}

// makePlan plans for what was asked, or for the very frame that an earlier run found:
// the latest point may be a later one by now. What was finished needs no plan, unless
// this run is asked for more than that one was.
func (r *run) makePlan(ctx context.Context, w *work) (err error) {
	req := r.o.Request
	named := req.Checkpoint
	if w != nil {
		r.a = archive.New(patient{r.o.Store})
		if err := r.holdPurges(ctx, w.Purges); err != nil {
			return err
		}
		if w.Phase == finished && !w.elsewhere(named) && (r.o.Finish == nil || w.Result.AcceptedEpoch > 0) {
			return nil
		}
		req.Epoch, req.LSN, req.Time, req.Latest = w.Line, w.LSN, time.Time{}, false
		if !w.Instance.IsZero() { // which an earlier version did not note
			req.Instance = w.Instance
		}
	}
	if r.plan, err = MakePlan(ctx, r.o.Store, req); err != nil {
		return err
	}
	switch {
	case w == nil:
	case w.elsewhere(named):
		r.anew = true // another way to the same state: what was replayed goes
	default:
		r.plan.beginAt(w.Checkpoint)
	}
	if r.o.Planned != nil {
		r.o.Planned(r.plan)
	}
	if r.o.Admit != nil {
		return r.o.Admit(ctx, r.plan)
	}
	return nil
}

// elsewhere reports that a replay was begun, or decided to be, at another place than the
// one that is named now.
func (w *work) elsewhere(name *lsn.LSN) bool {
	if name == nil {
		return false
	}
	at := lsn.LSN(0)
	if w.Checkpoint != nil {
		at = w.Checkpoint.LSN
	}
	return at != *name
}

// beginAt begins the replay at the checkpoint that an earlier run has begun with, or at
// LSN 1 with nil, if it is still there.
func (p *Plan) beginAt(c *checkpoint) {
	at := Begin{}
	if c != nil {
		at = Begin{c.LSN, c.Epoch}
	}
	if slices.Contains(begins(p.line, p.Target.LSN), at) {
		p.start(at)
	}
}

// work does what is left to do.
func (r *run) work(ctx context.Context) error {
	s := r.stage
	switch {
	case s.delivered != nil:
		return nil
	case s.work == nil:
		s.work = &work{Arguments: s.args, Phase: fetching, Instance: r.plan.Instance, Line: r.plan.Line, LSN: r.plan.Target.LSN, Checkpoint: checkpointOf(r.plan.Checkpoint), Purges: len(r.plan.survey.Redactions)}
	case r.anew:
		s.work.Phase, s.work.Checkpoint, s.work.Result, s.work.Recorded = fetching, checkpointOf(r.plan.Checkpoint), nil, nil
	case s.work.Phase == finished && r.plan != nil:
		s.work.Phase = replaying // and verified once more: what is in the directory changes
	}
	if s.work.Phase != finished {
		if err := s.save(); err != nil {
			return err
		}
		if err := r.restore(ctx); err != nil {
			return err
		}
	}
	return s.deliver()
}

func (r *run) restore(ctx context.Context) error {
	if err := r.fs().MkdirAll(r.stage.data(), 0o700); err != nil {
		return local(err)
	}
	at, err := r.fill(ctx)
	if err != nil {
		return err
	}
	if err := r.verify(ctx, at); err != nil {
		return err
	}
	return r.finish(ctx, at)
}

func (r *run) fs() vfs.FS { return r.o.FS }

// fill makes the state: files and frames are fetched at the same time.
func (r *run) fill(ctx context.Context) (at table.Applied, err error) {
	// What a kill left of a state that was being filled goes on from where it stands.
	from := table.Applied{}
	resumes := r.stage.work.Phase == replaying
	if resumes {
		if from, err = r.standsAt(false); err != nil {
			return at, err
		}
	} else if c := r.plan.Checkpoint; c != nil {
		from = appliedOf(c)
	}
	keys := []string{}
	for _, p := range pieces(r.plan.line, from.Pos.LSN+1, r.plan.Target.LSN) {
		keys = append(keys, keyOf(&p))
	}
	r.store = newAhead(r.o.Store, keys)
	r.a = archive.New(r.store)
	fetch, stop := context.WithCancel(ctx)
	g, gctx := errgroup.WithContext(fetch)
	g.Go(func() error { return ignoreStop(r.store.run(gctx)) })
	g.Go(func() (err error) {
		defer stop() // what was fetched and is not needed
		if !resumes {
			if err = r.layOut(gctx); err != nil {
				return r.plan.beginFault(err)
			}
		}
		at, err = r.replay(gctx)
		return err
	})
	err = g.Wait()
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("the restore was stopped before its end: %w; run it again with the same arguments, and it goes on", context.Cause(ctx))
	}
	return at, err
}

func ignoreStop(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func appliedOf(c *archive.Checkpoint) table.Applied {
	return table.Applied{Pos: lsn.Pos{Epoch: c.Epoch, LSN: c.LSN}, Chain: c.Chain, Digest: c.Digest, Stamp: c.Stamp}
}

// standsAt is where the state stands. One that an earlier run has begun to fill is
// opened for writing: the kill may have come before it was a state at all.
func (r *run) standsAt(readOnly bool) (at table.Applied, err error) {
	s, err := r.open(readOnly)
	if err != nil {
		return at, err
	}
	at, err = s.Applied()
	return at, errors.Join(err, s.Close())
}

func (r *run) open(readOnly bool) (*table.Store, error) {
	return table.Open(table.Options{
		FS: r.fs(), Dir: r.stage.state(), Log: r.log, ReadOnly: readOnly, CacheBytes: r.o.CacheBytes, MemtableBytes: r.o.MemtableBytes,
	})
}

// layOut fetches the checkpoint and takes note, durably, that all of it is there: from
// then on the files are the state's own.
func (r *run) layOut(ctx context.Context) error {
	w := r.stage.work
	dir := r.stage.state()
	if c := r.plan.Checkpoint; c == nil {
		if err := ignoreMissing(r.fs().RemoveAll(dir)); err != nil {
			return local(err)
		}
		if err := r.fs().MkdirAll(dir, 0o700); err != nil {
			return local(err)
		}
	} else {
		var m archive.Manifest
		err := again(ctx, func() (err error) {
			m, err = r.a.Manifest(ctx, c.Key())
			return err
		})
		if err != nil {
			return err
		}
		advance, end := r.o.Begin("checkpoint", "bytes", m.Bytes)
		err = layOut(ctx, r.fs(), r.a, &m, dir, advance)
		end()
		if err != nil {
			return err
		}
		if err := r.holdCheckpoint(c); err != nil {
			return err
		}
	}
	if err := durable.SyncDir(r.fs(), r.stage.data()); err != nil {
		return local(err)
	}
	w.Phase, w.Checkpoint = replaying, checkpointOf(r.plan.Checkpoint)
	return r.stage.save()
}

// holdCheckpoint holds what the files say of themselves against the manifest.
func (r *run) holdCheckpoint(c *archive.Checkpoint) error {
	at, err := r.standsAt(true)
	if err != nil {
		return err
	}
	return holdStand(r.o.Store, c, at)
}

func holdStand(store object.Store, c *archive.Checkpoint, at table.Applied) error {
	if at == appliedOf(c) {
		return nil
	}
	return &archive.DamagedError{Store: store.String(), Key: c.Key().String(),
		Err: fmt.Errorf("its files stand at LSN %d with digest %s, it says LSN %d with digest %s", at.Pos.LSN, at.Digest, c.LSN, c.Digest)}
}

// replay applies the frames up to the target.
func (r *run) replay(ctx context.Context) (at table.Applied, err error) {
	s, err := r.open(false)
	if err != nil {
		return at, local(err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	from, err := s.Applied()
	if err != nil {
		return at, err
	}
	if from.Pos.LSN > r.plan.Target.LSN {
		return at, fmt.Errorf("the state in %s stands at LSN %d, above the target; remove %s and restore anew", r.stage.state(), from.Pos.LSN, r.stage.path)
	}
	advance, end := r.o.Begin("replay", "frames", int64(r.plan.Target.LSN-from.Pos.LSN))
	defer end()
	told := from.Pos.LSN
	src := newSource(ctx, r.a, r.plan, from)
	defer func() { err = errors.Join(err, src.shut()) }()
	at, err = recovery.Replay(ctx, s, src, from, recovery.Options{
		Progress: func(n lsn.LSN) { advance(int64(n - told)); told = n }, AcceptMismatch: r.tolerate(),
	})
	if err != nil {
		return at, digestFault(err)
	}
	if at, err = r.settlePurges(s, src.at.Digest, at); err != nil {
		return at, err
	}
	if err := s.SetPurges(r.plan.Instance, uint64(len(r.plan.survey.Redactions))); err != nil {
		return at, local(err)
	}
	return at, local(s.Flush())
}

// tolerate is what becomes of a pair that is not what its frame replaces.
func (r *run) tolerate() func(*recovery.MismatchError) {
	if !r.o.AcceptMismatch {
		return nil
	}
	return func(e *recovery.MismatchError) {
		if r.mismatch == nil {
			r.mismatch = e
		}
	}
}

func ignoreMissing(err error) error {
	if isMissing(err) {
		return nil
	}
	return err
}
