package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"originchain/shared/frame"
	"originchain/shared/lsn"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testInstance = [16]byte{1: 0xAB, 15: 1}

func quiet() logrus.FieldLogger {
	l := logrus.New()
	l.SetOutput(io.Discard)
	return l
}

// testOptions open a small, deterministic log without its goroutine.
func testOptions(fs vfs.FS, dir string) Options {
	return Options{
		FS: fs, Dir: dir, Instance: testInstance, SegmentBytes: MinSegmentBytes, Log: quiet(),
		NoPreallocate: true, Rand: rand.NewChaCha8([32]byte{3}),
	}
}

// source makes frames that form a log: it plays puts and deletes on a map and
// keeps what it made, so that a log can be held against it.
type source struct {
	rng    *rand.Rand
	state  map[string][]byte
	tail   Tail
	frames []made
}

// made is one frame as the log must give it back.
type made struct {
	LSN    lsn.LSN
	Digest lsn.Digest
	Body   []byte
}

func newSource(seed uint64) *source {
	return &source{rng: rand.New(rand.NewPCG(seed, 1)), state: map[string][]byte{}, tail: Tail{Timestamp: 1_700_000_000_000_000}}
}

// entry makes the next frame, with values of about size bytes.
func (s *source) entry(size int) Entry {
	var ops []frame.Op
	for i := range 1 + s.rng.IntN(3) {
		key := fmt.Sprintf("%d/key-%d", i, s.rng.IntN(8))
		old, had := s.state[key]
		op := frame.Op{Type: frame.Put, Key: []byte(key), HadOld: had}
		if had {
			op.Old = frame.PairHash(op.Key, old)
		}
		if had && s.rng.IntN(4) == 0 {
			op.Type = frame.Delete
			delete(s.state, key)
		} else {
			op.Value = make([]byte, size/2+s.rng.IntN(size+1))
			for j := range op.Value {
				op.Value[j] = byte(s.rng.Uint32())
			}
			s.state[key] = op.Value
		}
		ops = append(ops, op)
	}
	s.tail.Pos.LSN++
	s.tail.Timestamp += int64(s.rng.IntN(1000))
	s.tail.Digest = s.tail.Digest.Add(frame.Delta(ops))
	e := Entry{
		Kind: frame.KindData, LSN: s.tail.Pos.LSN, Timestamp: s.tail.Timestamp, Wall: s.tail.Timestamp + 7,
		Digest: s.tail.Digest, Body: frame.AppendOps(nil, ops),
	}
	binary.LittleEndian.PutUint64(e.Salt[:], s.rng.Uint64())
	s.frames = append(s.frames, made{LSN: e.LSN, Digest: e.Digest, Body: e.Body})
	return e
}

func (s *source) group(n, size int) []Entry {
	var g []Entry
	for range n {
		g = append(g, s.entry(size))
	}
	return g
}

func mustOpen(t testing.TB, o Options) *Log {
	t.Helper()
	l, err := Open(o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return l
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// commit appends one group and syncs it.
func commit(t testing.TB, l *Log, g []Entry) {
	t.Helper()
	must(t, l.Append(g))
	must(t, l.Sync())
}

// readAll reads what is durable from LSN from on.
func readAll(l *Log, from lsn.LSN) (got []made, err error) {
	r, err := l.NewReader(from)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for {
		f, err := r.Next()
		if errors.Is(err, io.EOF) {
			return got, nil
		} else if err != nil {
			return got, err
		}
		got = append(got, made{LSN: f.LSN, Digest: f.Digest, Body: bytes.Clone(f.Body)})
	}
}

// expect holds the log against the first frames of the source.
func expect(t testing.TB, l *Log, want []made) {
	t.Helper()
	got, err := readAll(l, 1)
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	if !same(want, got) {
		t.Fatalf("the log does not hold what was written (-want +got)\n%s", cmp.Diff(want, got))
	}
}

// copyDir is a crash of the process: what was written is there, nothing was
// closed.
func copyDir(t testing.TB, from string) string {
	t.Helper()
	to := t.TempDir()
	must(t, os.CopyFS(to, os.DirFS(from)))
	return to
}

func TestAppendSyncRead(t *testing.T) {
	l := mustOpen(t, testOptions(vfs.Default, t.TempDir()))
	src := newSource(1)
	if err := l.Append(src.group(1, 10)); err == nil {
		t.Fatal("append before BeginEpoch")
	}
	src = newSource(1)
	must(t, l.BeginEpoch(5))
	r, err := l.NewReader(1)
	must(t, err)
	if _, err := r.Next(); !errors.Is(err, io.EOF) {
		t.Fatalf("empty log: %v", err)
	}
	for range 40 {
		must(t, l.Append(src.group(1+src.rng.IntN(4), 200)))
		if l.Durable() >= l.Tail().Pos.LSN {
			t.Fatal("durable without a sync")
		}
		for n := len(src.frames); ; {
			f, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			must(t, err)
			if f.LSN > l.Durable() || int(f.LSN) > n || f.Epoch != 5 {
				t.Fatalf("read %d in epoch %d, durable is %d", f.LSN, f.Epoch, l.Durable())
			}
		}
		must(t, l.Sync())
		if l.Durable() != l.Tail().Pos.LSN || l.Tail().Digest != src.tail.Digest {
			t.Fatalf("tail %s durable %d, want %s", l.Tail(), l.Durable(), src.tail)
		}
	}
	expect(t, l, src.frames)
	if got, err := readAll(l, 33); err != nil || got[0].LSN != 33 {
		t.Fatalf("read from 33: %v", err)
	}
	must(t, r.Close())
	if len(l.Segments()) < 5 {
		t.Fatalf("only %d segments: the log does not roll by size", len(l.Segments()))
	}
	must(t, l.Close())
	if err := l.Append(src.group(1, 1)); !errors.Is(err, ErrClosed) {
		t.Fatalf("append after close: %v", err)
	}
}

func TestAppendRefusesWhatDoesNotContinue(t *testing.T) {
	l := mustOpen(t, testOptions(vfs.Default, t.TempDir()))
	must(t, l.BeginEpoch(1))
	src := newSource(2)
	commit(t, l, src.group(2, 20))
	tail := l.Tail()
	good := src.entry(20)
	for name, change := range map[string]func(*Entry){
		"a gap": func(e *Entry) { e.LSN++ }, "a repeat": func(e *Entry) { e.LSN-- },
		"an earlier stamp": func(e *Entry) { e.Timestamp = tail.Timestamp - 1 },
		"an unknown kind":  func(e *Entry) { e.Kind = 9 },
		"a broken body":    func(e *Entry) { e.Body = []byte{200} },
		"a body too large": func(e *Entry) { e.Body = make([]byte, frame.MaxBody+1) },
	} {
		bad := good
		change(&bad)
		if err := l.Append([]Entry{bad}); err == nil {
			t.Errorf("%s is appended", name)
		}
		if l.Tail() != tail || l.Err() != nil {
			t.Fatalf("%s left a trace: %s, %v", name, l.Tail(), l.Err())
		}
	}
	if err := l.BeginEpoch(1); err == nil {
		t.Error("an epoch begins twice")
	}
	commit(t, l, []Entry{good})
	expect(t, l, src.frames)
	must(t, l.Close())
}

// TestReopenAtEveryPoint closes or crashes the process after every group.
func TestReopenAtEveryPoint(t *testing.T) {
	for seed := range uint64(6) {
		dir := t.TempDir()
		src := newSource(seed)
		for epoch := lsn.Epoch(1); epoch < 12; epoch++ {
			l := mustOpen(t, testOptions(vfs.Default, dir))
			expect(t, l, src.frames)
			if want := lsn.LSN(len(src.frames)); l.Durable() != want || l.Tail().Digest != src.tail.Digest {
				t.Fatalf("seed %d epoch %d: %s, durable %d, want %d", seed, epoch, l.Tail(), l.Durable(), want)
			}
			must(t, l.BeginEpoch(epoch))
			for range src.rng.IntN(5) {
				commit(t, l, src.group(1+src.rng.IntN(6), 300))
			}
			if src.rng.IntN(2) == 0 {
				must(t, l.Close())
				continue
			}
			dir = copyDir(t, dir)
			must(t, l.Close())
		}
	}
}

func TestRollByAge(t *testing.T) {
	o := testOptions(vfs.Default, t.TempDir())
	o.SegmentMaxAge = time.Second
	l := mustOpen(t, o)
	must(t, l.BeginEpoch(1))
	src := newSource(3)
	if rolled, err := l.RollIfAged(time.Now()); rolled || err != nil {
		t.Fatalf("an empty log rolled: %v", err)
	}
	commit(t, l, src.group(1, 10))
	first := time.UnixMicro(src.tail.Timestamp)
	if rolled, err := l.RollIfAged(first.Add(time.Second - time.Microsecond)); rolled || err != nil {
		t.Fatalf("rolled too early: %v", err)
	}
	if rolled, err := l.RollIfAged(first.Add(time.Second)); !rolled || err != nil {
		t.Fatalf("not rolled: %v", err)
	}
	if s := l.Segments(); len(s) != 1 || !s[0].Sealed {
		t.Fatalf("segments %+v", s)
	}
	src.tail.Timestamp += 5000
	commit(t, l, src.group(1, 10))
	src.tail.Timestamp += time.Second.Microseconds()
	must(t, l.Append(src.group(1, 10)))
	if s := l.Segments(); len(s) != 3 || l.Durable() != 2 {
		t.Fatalf("an append with an aged segment: %d segments, durable %d", len(s), l.Durable())
	}
	must(t, l.Close())
}

func TestFrameLargerThanASegment(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, testOptions(vfs.Default, dir))
	must(t, l.BeginEpoch(1))
	src := newSource(4)
	commit(t, l, append(append(src.group(2, 10), src.group(2, 200_000)...), src.group(2, 10)...))
	if s := l.Segments(); len(s) != 4 || s[1].First != 3 || s[1].Last != 3 || s[3].First != 5 {
		t.Fatalf("segments %+v", s)
	}
	must(t, l.Close())
	l = mustOpen(t, testOptions(vfs.Default, dir))
	expect(t, l, src.frames)
	must(t, l.Close())
}

func TestPrepareAheadGivesTheSameLog(t *testing.T) {
	var logs [2][]byte
	for i := range logs {
		dir := t.TempDir()
		o := testOptions(vfs.Default, dir)
		o.SegmentBytes = 1 << 20
		l := mustOpen(t, o)
		must(t, l.BeginEpoch(1))
		src := newSource(5)
		g := append(src.group(3, 100_000), src.group(3, 10)...)
		for j := range g {
			if i == 1 {
				must(t, l.Prepare(&g[j]))
			}
		}
		commit(t, l, g)
		must(t, l.Close())
		raw, err := os.ReadFile(filepath.Join(dir, segmentName(1)))
		must(t, err)
		logs[i] = raw
	}
	if !bytes.Equal(logs[0], logs[1]) {
		t.Fatal("an entry prepared ahead is written differently")
	}
}

func TestRemoveBefore(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, testOptions(vfs.Default, dir))
	must(t, l.BeginEpoch(1))
	src := newSource(6)
	for range 20 {
		commit(t, l, src.group(2, 300))
	}
	all := l.Segments()
	must(t, l.RemoveBefore(all[2].First))
	if l.FirstLSN() != all[2].First {
		t.Fatalf("first LSN %d, want %d", l.FirstLSN(), all[2].First)
	}
	must(t, l.RemoveBefore(all[3].First+1)) // inside a segment: it stays
	if l.FirstLSN() != all[3].First {
		t.Fatalf("first LSN %d, want %d", l.FirstLSN(), all[3].First)
	}
	if _, err := l.NewReader(all[3].First - 1); !errors.Is(err, ErrRemoved) {
		t.Fatalf("reader below the log: %v", err)
	}
	must(t, l.RemoveBefore(1<<60))
	if s := l.Segments(); len(s) != 1 || s[0].First != all[len(all)-1].First {
		t.Fatalf("segments %+v: the newest must stay", s)
	}
	must(t, l.Close())
	l = mustOpen(t, testOptions(vfs.Default, dir))
	got, err := readAll(l, l.FirstLSN())
	must(t, err)
	if diff := cmp.Diff(src.frames[l.FirstLSN()-1:], got); diff != "" {
		t.Fatal(diff)
	}
	must(t, l.Close())
}

func TestReaderFollowsTheAppender(t *testing.T) {
	l := mustOpen(t, testOptions(vfs.Default, t.TempDir()))
	must(t, l.BeginEpoch(1))
	src := newSource(7)
	const frames = 200
	synced := make(chan struct{}, frames)
	read := make(chan error, 1)
	go func() {
		r, err := l.NewReader(1)
		if err != nil {
			read <- err
			return
		}
		for next := lsn.LSN(1); next <= frames; {
			f, err := r.Next()
			if errors.Is(err, io.EOF) {
				<-synced
				continue
			}
			if err != nil || f.LSN != next {
				read <- fmt.Errorf("frame %d: %w", next, err)
				return
			}
			next++
		}
		read <- r.Close()
	}()
	for range frames {
		commit(t, l, src.group(1, 150))
		synced <- struct{}{}
	}
	must(t, <-read)
	must(t, l.Close())
}

func TestOptionsAreChecked(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"no file system": func(o *Options) { o.FS = nil }, "no instance": func(o *Options) { o.Instance = [16]byte{} },
		"no logger": func(o *Options) { o.Log = nil }, "segment size": func(o *Options) { o.SegmentBytes = 64 },
		"segment age": func(o *Options) { o.SegmentMaxAge = -1 },
		"a file system that cannot truncate": func(o *Options) {
			// It takes a log file to notice.
			o.FS = vfs.NewMem()
			must(t, o.FS.MkdirAll(o.Dir, 0o755))
			f, err := o.FS.Create(o.FS.PathJoin(o.Dir, segmentName(1)), diskCategory)
			must(t, err)
			must(t, f.Close())
		},
	} {
		o := testOptions(vfs.Default, t.TempDir())
		change(&o)
		if _, err := Open(o); err == nil {
			t.Errorf("%s: opened", name)
		}
	}
}
