package restore

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"originchain/shared/archive"
	"originchain/shared/frame"
	"originchain/shared/object"
	recovery "originchain/shared/recover"
	"originchain/shared/table"
)

// Bounds of a probe: of its reading of the checkpoint, and of its replay, whose
// state is read back whole; without a replay, of its reading of the checkpoint's pairs.
const (
	probeFetchTime  = 700 * time.Millisecond
	probeReplayTime = 1300 * time.Millisecond
	probeScanTime   = 500 * time.Millisecond
)

// Estimate is about how long a restore takes, as a short restore of a part of it on
// this machine, out of this archive, says.
type Estimate struct {
	// FetchBytesPerSecond is how fast the archive gave what was asked of it: files of the
	// checkpoint, written and synced, or objects of the log. ReplayFramesPerSecond and
	// ScanBytesPerSecond are what was measured of the rest. 0 where there was nothing to
	// measure with.
	FetchBytesPerSecond   int64 `json:"fetch_bytes_per_second"`
	ReplayFramesPerSecond int64 `json:"replay_frames_per_second"`
	ScanBytesPerSecond    int64 `json:"scan_bytes_per_second"`
	// Seconds is the estimate, the sum of Phases.
	Seconds float64        `json:"seconds"`
	Phases  EstimatePhases `json:"phases"`
	// ProbeBytes is what the probe has read from the archive.
	ProbeBytes int64 `json:"probe_bytes"`
	// NoDisk says why the disk was not measured: then nothing is in the estimate for it.
	NoDisk string `json:"disk_not_measured,omitempty"`
}

// EstimatePhases are the parts of a restore that come one after the other. Frames are
// fetched while others are replayed, and flushed and compacted meanwhile: that is one.
type EstimatePhases struct {
	Plan       float64 `json:"plan"`
	Checkpoint float64 `json:"checkpoint"`
	Replay     float64 `json:"replay"`
	Flush      float64 `json:"flush"`
	Scan       float64 `json:"scan"`
	Finish     float64 `json:"finish"`
}

func (p *EstimatePhases) sum() float64 {
	return p.Plan + p.Checkpoint + p.Replay + p.Flush + p.Scan + p.Finish
}

// ProbeOptions say where a restore would go to.
type ProbeOptions struct {
	// FS and DataDir are those of the restore. The probe works in a directory of its own
	// in the nearest one above it that is there, and removes it. "" measures no disk.
	FS      vfs.FS
	DataDir string
	// Planned is how long the plan took, which a restore makes again.
	Planned time.Duration
}

// Probe measures, for about two seconds, how fast a restore by the plan gets on: it
// restores a part, in the way that Run does, and removes it.
func Probe(ctx context.Context, store object.Store, p *Plan, o ProbeOptions) (_ *Estimate, err error) {
	r := &probe{plan: p, e: &Estimate{}, store: newAhead(store, nil)}
	r.e.Phases.Plan = o.Planned.Seconds()
	clean := r.place(&o)
	defer func() { err = errors.Join(err, clean()) }()
	if p.Checkpoint != nil {
		if err := r.checkpoint(ctx); err != nil {
			return nil, p.beginFault(err)
		}
	}
	if err := r.replay(ctx); err != nil {
		return nil, err
	}
	r.e.Seconds, r.e.ProbeBytes = r.e.Phases.sum(), r.store.read.Load()
	return r.e, nil
}

// probe is one probe.
type probe struct {
	plan  *Plan
	e     *Estimate
	store *ahead
	fs    vfs.FS
	dir   string
}

const probeSuffix = ".oc-pitr-probe-"

// place finds where to work: on the disk of the data directory to be, or in memory
// where that cannot be, which the estimate says.
func (r *probe) place(o *ProbeOptions) (clean func() error) {
	r.fs, r.dir = vfs.NewMem(), "probe"
	if o.DataDir == "" {
		r.e.NoDisk = "no --data-dir says where it would be"
		return func() error { return nil }
	}
	above := o.FS.PathDir(o.DataDir)
	for {
		if _, err := o.FS.Stat(above); err == nil || o.FS.PathDir(above) == above {
			break
		}
		above = o.FS.PathDir(above)
	}
	dir := o.FS.PathJoin(above, probeSuffix+ulid.Make().String())
	if err := o.FS.MkdirAll(dir, 0o700); err != nil {
		r.e.NoDisk = err.Error()
		return func() error { return nil }
	}
	r.fs, r.dir = o.FS, dir
	return func() error { return ignoreMissing(o.FS.RemoveAll(dir)) }
}

// checkpoint fetches files of the checkpoint as a restore does, until its time is over.
func (r *probe) checkpoint(ctx context.Context) error {
	a := archive.New(r.store)
	m, err := a.Manifest(ctx, r.plan.Checkpoint.Key())
	if err != nil {
		return err
	}
	dir := r.fs.PathJoin(r.dir, "files")
	if err := r.fs.MkdirAll(dir, 0o700); err != nil {
		return local(err)
	}
	begun := time.Now()
	before := r.store.read.Load()
	limited, stop := context.WithTimeout(ctx, probeFetchTime)
	defer stop()
	g, gctx := errgroup.WithContext(limited)
	g.SetLimit(filesInFlight)
	for i := range m.Files {
		if gctx.Err() != nil {
			break
		}
		g.Go(func() error { return again(gctx, func() error { return fetchFile(gctx, r.fs, a, &m.Files[i], dir) }) })
	}
	if err := g.Wait(); err != nil && limited.Err() == nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	rate := float64(r.store.read.Load()-before) / max(time.Since(begun), time.Microsecond).Seconds()
	r.e.FetchBytesPerSecond = max(1, int64(rate))
	r.e.Phases.Checkpoint = float64(r.plan.CheckpointBytes) / float64(r.e.FetchBytesPerSecond)
	return ignoreMissing(r.fs.RemoveAll(dir))
}

// sample is what the probe's replay has done.
type sample struct {
	frames int64
	// applied is how long they took to be applied, fetched meanwhile, flushing until they
	// were on disk then, and the state closed; size is what they take there.
	applied, flushing time.Duration
	size              uint64
	// opening is how long the state took to be opened and closed, saving a small file to
	// be durable under its name.
	opening, saving time.Duration
}

// replay applies the first frames of the plan to an empty state, flushes that and reads
// it back. What the frames replace is not there, which costs the same.
func (r *probe) replay(ctx context.Context) (err error) {
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	o := table.Options{FS: r.fs, Dir: r.fs.PathJoin(r.dir, "state"), Log: quiet}
	if err := r.fs.MkdirAll(o.Dir, 0o700); err != nil {
		return local(err)
	}
	var x sample
	s, err := table.Open(o)
	if err != nil {
		return local(err)
	}
	if x.frames, x.applied, err = r.apply(ctx, s); err != nil {
		return errors.Join(err, s.Close())
	}
	begun := time.Now()
	if err := s.Flush(); err != nil {
		return errors.Join(local(err), s.Close())
	}
	x.size = s.DiskBytes()
	if err := s.Close(); err != nil {
		return local(err)
	}
	x.flushing = time.Since(begun)
	begun = time.Now()
	if err := (&staging{fs: r.fs, path: r.dir, work: &work{}}).save(); err != nil {
		return err
	}
	x.saving = time.Since(begun)
	return r.scan(ctx, o, &x)
}

// opensOfARestore is how often a restore opens the state: holdCheckpoint, replay, verify.
// savesOfARestore is about how often it makes a small file durable (its own work, three
// times, and those of the data directory): a round number, not counted call by call.
const (
	savesOfARestore = 8
	opensOfARestore = 3
)

// conclude makes phases of a sample; it returns how large the state will be.
//
// The sample's flush is charged once, however long the replay is: frames before are
// flushed while those behind them are applied, and in the end about as much waits in
// memory as the sample had, since both fill the same memtables. A constant, then, of one
// flush: on two busy cores, one run each, 1.6 s at the end of a restore of 160 MB of log
// where the sample's took 1.8 s, and 1.0 s at that of 330 MB where it took 0.8 s. What compactions cost that only a large
// state has is not measured.
func (r *probe) conclude(x *sample) (state float64) {
	ph := &r.e.Phases
	ph.Finish = savesOfARestore*x.saving.Seconds() + opensOfARestore*x.opening.Seconds()
	state = float64(r.plan.CheckpointBytes)
	if x.frames == 0 {
		return state
	}
	r.e.ReplayFramesPerSecond = max(1, int64(float64(x.frames)/x.applied.Seconds()))
	times := float64(r.plan.Frames) / float64(x.frames)
	ph.Replay, ph.Flush = x.applied.Seconds()*times, x.flushing.Seconds()
	return state + float64(x.size)*times
}

// apply replays for a while.
func (r *probe) apply(ctx context.Context, s *table.Store) (n int64, took time.Duration, err error) {
	if len(r.plan.Pieces) == 0 {
		return 0, 0, nil
	}
	before := r.store.read.Load()
	defer func() {
		if r.e.FetchBytesPerSecond == 0 && took > 0 { // there is no checkpoint
			r.e.FetchBytesPerSecond = max(1, int64(float64(r.store.read.Load()-before)/took.Seconds()))
		}
	}()
	from := table.Applied{}
	if r.plan.Checkpoint != nil {
		from = appliedOf(r.plan.Checkpoint)
	}
	keys := []string{}
	for i := range r.plan.Pieces {
		keys = append(keys, keyOf(&r.plan.Pieces[i]))
	}
	store := newAhead(r.store, keys)
	fetch, stop := context.WithCancel(ctx)
	g, gctx := errgroup.WithContext(fetch)
	g.Go(func() error { return ignoreStop(store.run(gctx)) })
	src := &bounded{source: newSource(ctx, archive.New(store), r.plan, from), until: time.Now().Add(probeReplayTime)}
	begun := time.Now()
	g.Go(func() (err error) {
		defer stop()
		defer func() { err = errors.Join(err, src.source.shut()) }()
		_, err = recovery.Replay(gctx, s, src, from, recovery.Options{AcceptMismatch: func(*recovery.MismatchError) {}})
		return err
	})
	err = g.Wait()
	return src.n, max(time.Since(begun), time.Microsecond), err
}

// scan reads the probe's state back as a restore does in the end.
func (r *probe) scan(ctx context.Context, o table.Options, x *sample) (err error) {
	o.ReadOnly = true
	begun := time.Now()
	s, err := table.Open(o)
	if err != nil {
		return local(err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if _, err := s.Applied(); err != nil {
		return err
	}
	x.opening = time.Since(begun)
	begun = time.Now()
	_, keys, err := table.ScanDigest(s)
	if err != nil {
		return err
	}
	took := max(time.Since(begun), time.Microsecond).Seconds()
	state := r.conclude(x)
	if x.frames == 0 && r.plan.Checkpoint != nil {
		return r.scanCheckpoint(ctx)
	}
	if keys > 0 {
		r.e.ScanBytesPerSecond = max(1, int64(float64(x.size)/took))
		r.e.Phases.Scan = state / float64(r.e.ScanBytesPerSecond)
	}
	return nil
}

// scanCheckpoint reads the beginning of the checkpoint where it is, where there is no
// log behind it to make a state of.
func (r *probe) scanCheckpoint(ctx context.Context) (err error) {
	a := archive.New(r.store)
	m, err := a.Manifest(ctx, r.plan.Checkpoint.Key())
	if err != nil {
		return err
	}
	fs, err := newRemoteFS(ctx, r.store, a, &m)
	if err != nil {
		return err
	}
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	s, err := table.Open(table.Options{FS: fs, Dir: remoteDir, Log: quiet, ReadOnly: true, CacheBytes: streamCacheBytes})
	if err != nil {
		return errors.Join(fs.chunks.failed(), err)
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	begun, before := time.Now(), r.store.read.Load()
	limited := &timed{View: s, until: begun.Add(probeScanTime)}
	_, keys, err := table.ScanDigest(limited)
	if err = errors.Join(fs.chunks.failed(), err); err != nil || keys == 0 {
		return err
	}
	rate := float64(r.store.read.Load()-before) / max(time.Since(begun), time.Microsecond).Seconds()
	r.e.ScanBytesPerSecond = max(1, int64(rate))
	r.e.Phases.Scan = float64(m.Bytes) / max(1, rate)
	return nil
}

// timed is a View whose reading ends when its time is over.
type timed struct {
	table.View
	until time.Time
}

// Iter implements table.View.
func (v *timed) Iter(lower, upper []byte, reverse bool) (table.Iterator, error) {
	it, err := v.View.Iter(lower, upper, reverse)
	if err != nil {
		return nil, err
	}
	return &timedIter{it, v.until, 0}, nil
}

type timedIter struct {
	table.Iterator
	until time.Time
	n     int
}

// Next implements table.Iterator.
func (i *timedIter) Next() bool {
	if i.n++; i.n%stopEvery == 0 && time.Now().After(i.until) {
		return false
	}
	return i.Iterator.Next()
}

// bounded is a source that ends when its time is over.
type bounded struct {
	source *source
	until  time.Time
	n      int64
}

// Next implements recover.Source.
func (b *bounded) Next() (*frame.Frame, error) {
	if time.Now().After(b.until) {
		return nil, io.EOF
	}
	f, err := b.source.Next()
	if err == nil {
		b.n++
	}
	return f, err
}
