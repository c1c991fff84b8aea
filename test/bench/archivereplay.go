package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"

	"originchain/shared/archive"
	"originchain/shared/object"
	"originchain/shared/restore"
	"originchain/shared/wal"
)

const (
	// restoredBytes is how much log is restored, counted in uncompressed frame bodies.
	restoredBytes = 256 << 20
	// replayShare of the rate of the engine's recovery must be reached.
	replayShare = 0.9
)

// benchReplay restores the log that the engine's recovery is measured with, from an
// archive of the same segments.
func benchReplay(ctx context.Context, b *bench) (err error) {
	dir := filepath.Join(b.work, "replay")
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	logDir := filepath.Join(dir, "log")
	instance, rows, err := b.buildLog(ctx, filepath.Join(dir, "source"), logDir, b.pick(restoredBytes, replayBytesQuick))
	if err != nil {
		return fmt.Errorf("build the log: %w", err)
	}
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	log, err := wal.Open(wal.Options{FS: vfs.Default, Dir: logDir, Instance: instance, ReadOnly: true, Log: quiet})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	store := object.NewFolder(filepath.Join(dir, "archive"))
	if err := shipLog(ctx, store, log, ulid.ULID(instance), quiet); err != nil {
		return fmt.Errorf("ship the log: %w", err)
	}
	if err := b.probe(); err != nil {
		return err
	}
	engine, err := replay(ctx, log, filepath.Join(dir, "state"), quiet)
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	quick, err := restoreInto(ctx, store, filepath.Join(dir, "restored"))
	if err != nil {
		return err
	}
	phase := quick.phases["replay"]
	b.add(figure{
		Name: "restore-replay", Unit: "× recovery", Limit: replayShare, Target: "≥ 0.9 × the engine's recovery", Measured: engine.Seconds() / phase.Seconds(),
		What: fmt.Sprintf("replay of a restore from LSN 1 out of an archive in a folder, against the engine's recovery from the same segments: %s flights with one secondary index, both with their flush", number(float64(rows))),
		Note: fmt.Sprintf("%s rows/s against %s rows/s; the restore as a whole, with its scan of every key, took %.2f s", number(float64(rows)/phase.Seconds()), number(float64(rows)/engine.Seconds()), quick.result.Seconds),
	})
	return b.overlap(ctx, store, filepath.Join(dir, "slowly"), quick)
}

// overlap restores from a store that takes about as long to give the log as the replay
// takes.
func (b *bench) overlap(ctx context.Context, store object.Store, dir string, quick *phased) error {
	alone := quick.phases["replay"]
	pace := float64(quick.plan.LogBytes) / alone.Seconds()
	got, err := restoreInto(ctx, &slowStore{Store: store, pace: pace}, dir)
	if err != nil {
		return err
	}
	both := got.phases["replay"]
	b.add(figure{
		Name: "restore-overlap", Unit: "× alone", AtMost: true, Target: "-", Measured: both.Seconds() / alone.Seconds(),
		What: "the same replay out of a store that gives the log in the time that the replay takes: 1 is all of the fetching behind the replay, 2 none",
		Note: fmt.Sprintf("%.2f s without waiting, %.2f s with a store that gives %s MB/s", alone.Seconds(), both.Seconds(), number(pace/1e6)),
	})
	return nil
}

// shipLog makes an archive of a log that has ended.
func shipLog(ctx context.Context, store object.Store, log *wal.Log, instance ulid.ULID, quiet logrus.FieldLogger) (err error) {
	s, err := archive.NewShipper(archive.Config{Instance: instance, Epoch: log.Tail().Pos.Epoch, Node: "bench", Region: "local", Tail: true},
		archive.Deps{Store: store, Log: log, FS: vfs.Default, Logger: quiet})
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeoutCause(ctx, archiveWithin, fmt.Errorf("not within %s", archiveWithin))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	for {
		st := s.Status()
		if st.RecoverableLSN >= uint64(log.Tail().Pos.LSN) {
			stop()
			return <-ended
		}
		pauseUntil(ctx, time.Now().Add(archivePoll))
		select {
		case err := <-ended:
			return errors.Join(err, fmt.Errorf("shipping ended at LSN %d: %w (%s)", st.RecoverableLSN, context.Cause(ctx), st.LastError))
		default:
		}
	}
}

// phased is a restore, and how long its phases took.
type phased struct {
	result *restore.Result
	plan   *restore.Plan
	phases map[string]time.Duration
}

// restoreInto restores the newest point in this process and removes the copy.
func restoreInto(ctx context.Context, store object.Store, dir string) (p *phased, err error) {
	p = &phased{phases: make(map[string]time.Duration)}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var mu sync.Mutex
	p.result, err = restore.Run(ctx, restore.Options{
		Store: store, Request: restore.Request{Latest: true}, FS: vfs.Default, DataDir: dir,
		Planned: func(plan *restore.Plan) { p.plan = plan },
		Begin: func(name, _ string, _ int64) (func(int64), func()) {
			start := time.Now()
			return func(int64) {}, func() {
				mu.Lock()
				defer mu.Unlock()
				p.phases[name] += time.Since(start)
			}
		},
	})
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	if !p.result.Verified {
		return nil, errors.New("the restore was not verified")
	}
	return p, nil
}

// slowStore gives all that is read of it at one pace, in bytes per second.
type slowStore struct {
	object.Store
	pace float64

	mu   sync.Mutex
	free time.Time // when what was given so far is through
}

// Get implements object.Store.
func (s *slowStore) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	r, err := s.Store.Get(ctx, key, off, n)
	if err != nil {
		return nil, err
	}
	return &slowReader{ReadCloser: r, ctx: ctx, s: s}, nil
}

// through is when so many bytes more are through.
func (s *slowStore) through(n int, now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.free.Before(now) {
		s.free = now
	}
	s.free = s.free.Add(time.Duration(float64(n) / s.pace * float64(time.Second)))
	return s.free
}

type slowReader struct {
	io.ReadCloser
	ctx context.Context //nolint:containedctx // a reader has no other way to end
	s   *slowStore
}

// Read implements io.Reader.
func (r *slowReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	pauseUntil(r.ctx, r.s.through(n, time.Now()))
	return n, err
}
