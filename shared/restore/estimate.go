package restore

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"

	"originchain/shared/archive"
	"originchain/shared/frame"
	"originchain/shared/object"
	recovery "originchain/shared/recover"
	"originchain/shared/table"
)

// probeTime bounds each half of a probe: of the store, and of the replay.
const probeTime = time.Second

// Estimate is about how long a restore takes, as a short probe of this machine and of
// the archive says.
type Estimate struct {
	// FetchBytesPerSecond and ReplayFramesPerSecond are what was measured; 0 where there
	// was nothing to measure with.
	FetchBytesPerSecond   int64 `json:"fetch_bytes_per_second"`
	ReplayFramesPerSecond int64 `json:"replay_frames_per_second"`
	// Seconds is the estimate: fetching and replaying overlap but for the checkpoint.
	Seconds float64 `json:"seconds"`
	// ProbeBytes is what the probe has read from the archive.
	ProbeBytes int64 `json:"probe_bytes"`
}

// Probe measures, for about two seconds, how fast the archive gives what the plan
// needs, and how fast frames are applied, in memory. It writes nothing.
func Probe(ctx context.Context, store object.Store, p *Plan) (*Estimate, error) {
	e := &Estimate{}
	counting := newAhead(store, nil)
	fetched, took, err := probeFetch(ctx, counting, p)
	if err != nil {
		return nil, err
	}
	if fetched > 0 {
		e.FetchBytesPerSecond = max(1, int64(float64(fetched)/took.Seconds()))
		e.Seconds = float64(p.CheckpointBytes) / float64(e.FetchBytesPerSecond)
	}
	if len(p.Pieces) > 0 {
		frames, took, err := probeReplay(ctx, archive.New(counting), p)
		if err != nil {
			return nil, err
		}
		e.ReplayFramesPerSecond = max(1, int64(float64(frames)/took.Seconds()))
		log := float64(p.Frames) / float64(e.ReplayFramesPerSecond)
		if e.FetchBytesPerSecond > 0 {
			log = max(log, float64(p.LogBytes)/float64(e.FetchBytesPerSecond))
		}
		e.Seconds += log
	}
	e.ProbeBytes = counting.read.Load()
	return e, nil
}

// probeFetch reads objects of the plan, one after the other, until its time is over.
func probeFetch(ctx context.Context, store *ahead, p *Plan) (n int64, took time.Duration, err error) {
	keys := []string{}
	for i := range p.Pieces {
		keys = append(keys, keyOf(&p.Pieces[i]))
	}
	if p.Checkpoint != nil {
		m, err := archive.New(store).Manifest(ctx, p.Checkpoint.Key())
		if err != nil {
			return 0, 0, err
		}
		for i := range m.Files {
			keys = append(keys, m.Files[i].Key().String())
		}
	}
	begun := time.Now()
	for _, k := range keys {
		if time.Since(begun) >= probeTime {
			break
		}
		err := again(ctx, func() error { return drain(ctx, store, k, begun, &n) })
		if err != nil {
			return 0, 0, err
		}
	}
	return n, max(time.Since(begun), time.Microsecond), nil
}

func drain(ctx context.Context, store object.Store, key string, begun time.Time, n *int64) (err error) {
	r, err := store.Get(ctx, key, 0, -1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	b := make([]byte, blockBytes)
	for time.Since(begun) < probeTime {
		m, err := r.Read(b)
		*n += int64(m)
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// probeReplay applies the first frames of the plan to an empty state in memory. What
// they replace is not there, which costs the same.
func probeReplay(ctx context.Context, a *archive.Archive, p *Plan) (frames int64, took time.Duration, err error) {
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	s, err := table.Open(table.Options{FS: vfs.NewMem(), Dir: "probe", Log: quiet, CacheBytes: 8 << 20})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	from := table.Applied{}
	if p.Checkpoint != nil {
		from = appliedOf(p.Checkpoint)
	}
	src := &bounded{source: newSource(ctx, a, p, from), until: time.Now().Add(probeTime)}
	defer func() { err = errors.Join(err, src.source.shut()) }()
	begun := time.Now()
	_, err = recovery.Replay(ctx, s, src, from, recovery.Options{AcceptMismatch: func(*recovery.MismatchError) {}})
	return src.n, max(time.Since(begun), time.Microsecond), err
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
