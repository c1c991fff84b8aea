package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"originchain/scripts/demo/data"
	"originchain/shared/engine"
	"originchain/shared/frame"
	"originchain/shared/lsn"
	recovery "originchain/shared/recover"
	"originchain/shared/rows"
	"originchain/shared/table"
	"originchain/shared/wal"
)

const (
	// replayBytes is how much log is replayed, counted in uncompressed frame bodies.
	replayBytes      = 1 << 30
	replayBytesQuick = 8 << 20
	// frameRows is the size of the frames: what `_batch` makes.
	frameRows = 10_000
	// pebbleShare of the rate of bare Pebble must be reached.
	pebbleShare = 0.6
	// applyBytes is how much is applied at once, by replay's own default.
	applyBytes = 4 << 20
	// preparing is how many frames are prepared ahead of the commit.
	preparing = 2
)

// benchRecovery replays a log of flights with one secondary index into an empty
// state, then applies the same operations to a bare Pebble.
func benchRecovery(ctx context.Context, b *bench) (err error) {
	dir := filepath.Join(b.work, "recovery")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	logDir := filepath.Join(dir, "log")
	instance, rows, err := b.buildLog(ctx, filepath.Join(dir, "source"), logDir, b.pick(replayBytes, replayBytesQuick))
	if err != nil {
		return fmt.Errorf("build the log: %w", err)
	}
	if err := b.probe(); err != nil { // the figures' disk is that of now
		return err
	}
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	log, err := wal.Open(wal.Options{FS: vfs.Default, Dir: logDir, Instance: instance, ReadOnly: true, Log: quiet})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	took, err := replay(ctx, log, filepath.Join(dir, "state"), quiet)
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	bodies, read, err := readBodies(log)
	if err != nil {
		return err
	}
	bare, err := applyBare(bodies, filepath.Join(dir, "bare"))
	if err != nil {
		return fmt.Errorf("bare Pebble: %w", err)
	}
	rate, bareRate := float64(rows)/took.Seconds(), float64(rows)/bare.Seconds()
	size := fmt.Sprintf("%s flights with one secondary index, %.0f MiB of log as uncompressed bodies (%.0f MiB stored), flush included",
		number(float64(rows)), float64(read.bodyBytes)/(1<<20), float64(read.storedBytes)/(1<<20))
	b.add(figure{Name: "recovery", Unit: "rows/s", Target: "≥ 150,000 rows/s", Limit: 150_000, Measured: rate, What: "replay of " + size})
	b.add(figure{
		Name: "recovery-vs-pebble", Unit: "× Pebble", Target: "≥ 0.6 of bare Pebble", Limit: pebbleShare, Measured: rate / bareRate,
		What: "the same replay against a bare Pebble that is handed the same operations, decoded, from memory",
		Note: fmt.Sprintf("Pebble %s rows/s", number(bareRate)),
	})
	return nil
}

// buildLog fills an engine through its pipeline and keeps every segment of its
// log under keep: the engine itself lets go of those its checkpoints cover.
func (b *bench) buildLog(ctx context.Context, dir, keep string, bodyBytes int) (instance [16]byte, rows int, err error) {
	flights, err := data.Flights()
	if err != nil {
		return instance, 0, err
	}
	if err := os.MkdirAll(keep, 0o755); err != nil {
		return instance, 0, err
	}
	p, err := openEngine(ctx, engine.Config{DataDir: dir}, indexedManifest)
	if err != nil {
		return instance, 0, err
	}
	instance = [16]byte(p.engine.Identity().InstanceID)
	source := filepath.Join(dir, "log")
	frames, err := p.fill(ctx, flights, bodyBytes, func() error { return linkSegments(source, keep, false) })
	if err = errors.Join(err, p.close()); err != nil {
		return instance, 0, err
	}
	return instance, frames * frameRows, errors.Join(linkSegments(source, keep, true), os.RemoveAll(dir))
}

// linkSegments gives each segment a second name in to; everything gives also
// the rest of the log's files one, once the log is closed.
func linkSegments(from, to string, everything bool) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !everything && filepath.Ext(e.Name()) != ".log" {
			continue
		}
		err := os.Link(filepath.Join(from, e.Name()), filepath.Join(to, e.Name()))
		if err != nil && !errors.Is(err, os.ErrExist) && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// fill commits frames of flights until the log has so many bytes of bodies. Two
// goroutines prepare rows, one commits.
func (p *inProcess) fill(ctx context.Context, flights []data.Flight, bodyBytes int, after func() error) (frames int, err error) {
	first, err := p.prepare(flights, 0)
	if err != nil {
		return 0, err
	}
	size, err := p.commitFrame(ctx, first)
	if err != nil {
		return 0, err
	}
	frames = bodyBytes/size + 1
	g, ctx := errgroup.WithContext(ctx)
	ready := make(chan []*rows.Prepared, preparing)
	for w := range preparing {
		g.Go(func() error {
			for n := 1 + w; n < frames; n += preparing {
				prepared, err := p.prepare(flights, int64(n)*frameRows)
				if err != nil {
					return err
				}
				select {
				case ready <- prepared:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		for range frames - 1 {
			select {
			case prepared := <-ready:
				if err := p.putFrame(ctx, prepared, nil); err != nil {
					return err
				}
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := after(); err != nil {
				return err
			}
		}
		return nil
	})
	return frames, g.Wait()
}

// prepare makes one frame's rows, with ids above firstID.
func (p *inProcess) prepare(flights []data.Flight, firstID int64) ([]*rows.Prepared, error) {
	prepared := make([]*rows.Prepared, frameRows)
	for i := range prepared {
		id := firstID + int64(i) + 1
		var err error
		if prepared[i], err = rows.Prepare(p.table, flightRow(&flights[int(id)%len(flights)], id), nil); err != nil {
			return nil, err
		}
	}
	return prepared, nil
}

// putFrame commits rows as one frame; pos may be nil.
func (p *inProcess) putFrame(ctx context.Context, prepared []*rows.Prepared, pos *lsn.Pos) error {
	out, err := p.engine.Commit(ctx, engine.Proposal{Tenant: benchTenant, Build: func(b *rows.Builder) error {
		for _, row := range prepared {
			if _, err := b.Put(row, rows.Any()); err != nil {
				return err
			}
		}
		return nil
	}})
	if pos != nil {
		*pos = out.Pos
	}
	return err
}

// commitFrame commits rows as one frame and returns the size of its body. All
// frames that follow have rows of the same shape, so about the same size.
func (p *inProcess) commitFrame(ctx context.Context, prepared []*rows.Prepared) (bodyBytes int, err error) {
	var pos lsn.Pos
	if err := p.putFrame(ctx, prepared, &pos); err != nil {
		return 0, err
	}
	r, err := p.engine.Log().NewReader(pos.LSN)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	f, err := r.Next()
	if err != nil {
		return 0, err
	}
	return len(f.Body), nil
}

// replay recovers an empty state from the whole log, as an opening does, and
// writes it to disk.
func replay(ctx context.Context, log *wal.Log, dir string, quiet logrus.FieldLogger) (took time.Duration, err error) {
	start := time.Now()
	store, err := table.Open(table.Options{FS: vfs.Default, Dir: dir, Log: quiet})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, store.Close(), os.RemoveAll(dir)) }()
	r, err := log.NewReader(1)
	if err != nil {
		return 0, err
	}
	at, err := recovery.Replay(ctx, store, r, table.Applied{}, recovery.Options{})
	if err = errors.Join(err, r.Close()); err != nil {
		return 0, err
	}
	if err := store.Flush(); err != nil {
		return 0, err
	}
	took = time.Since(start)
	if tail := log.Tail(); at.Pos != tail.Pos || at.Digest != tail.Digest {
		return 0, fmt.Errorf("the state stands at %v, the log ends at %v", at.Pos, tail.Pos)
	}
	return took, nil
}

// logSize is how much a log holds: its bodies uncompressed, and as they are stored.
type logSize struct{ bodyBytes, storedBytes int64 }

// readBodies reads the frames of a log into memory.
func readBodies(log *wal.Log) (bodies [][]byte, size logSize, err error) {
	r, err := log.NewReader(1)
	if err != nil {
		return nil, size, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for {
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			return bodies, size, nil
		}
		if err != nil {
			return nil, size, err
		}
		ops, err := frame.OpsOf(f.Kind, f.Body)
		if err != nil {
			return nil, size, err
		}
		size.bodyBytes += int64(len(f.Body))
		size.storedBytes += int64(f.Stored)
		bodies = append(bodies, append([]byte(nil), ops...))
	}
}

// applyBare hands the operations of a log to a bare Pebble, with the settings of
// our own state, and returns the time that Pebble took: decoding is not counted.
func applyBare(bodies [][]byte, dir string) (took time.Duration, err error) {
	defer debug.FreeOSMemory()
	db, err := pebble.Open(dir, bareOptions())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close(), os.RemoveAll(dir)) }()
	batch := db.NewBatch()
	var ops []frame.Op
	for i, body := range bodies {
		if ops, err = frame.DecodeOps(body); err != nil {
			return 0, err
		}
		start := time.Now()
		if err := setAll(batch, ops); err != nil {
			return 0, err
		}
		if batch.Len() >= applyBytes || i == len(bodies)-1 {
			if err := errors.Join(batch.Commit(pebble.NoSync), batch.Close()); err != nil {
				return 0, err
			}
			batch = db.NewBatch()
		}
		took += time.Since(start)
	}
	start := time.Now()
	err = errors.Join(batch.Close(), db.Flush())
	return took + time.Since(start), err
}

func setAll(batch *pebble.Batch, ops []frame.Op) error {
	for i := range ops {
		var err error
		switch op := &ops[i]; op.Type {
		case frame.Put:
			err = batch.Set(op.Key, op.Value, nil)
		case frame.Delete:
			err = batch.Delete(op.Key, nil)
		case frame.RangeDelete:
			err = batch.DeleteRange(op.Key, op.End, nil)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// bareOptions are those of the state store, so that the comparison is of the
// work above Pebble and not of its settings.
func bareOptions() *pebble.Options {
	o := &pebble.Options{
		DisableWAL: true, FormatMajorVersion: pebble.FormatValueSeparation, CacheSize: 128 << 20, MaxOpenFiles: 512,
		MemTableSize: 32 << 20, MemTableStopWritesThreshold: 4, L0CompactionThreshold: 4, L0StopWritesThreshold: 24, LBaseMaxBytes: 64 << 20,
		CompactionConcurrencyRange: func() (int, int) { return 1, max(1, runtime.GOMAXPROCS(0)-1) },
		Logger:                     silent{},
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

// silent drops Pebble's messages.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}

// Fatalf must not return.
func (silent) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
