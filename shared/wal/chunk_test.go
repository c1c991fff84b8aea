package wal

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"originchain/shared/fault"
	"originchain/shared/frame"
	"originchain/shared/lsn"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// drain reads all chunks there are and joins them to files, by segment; sealed
// says which have ended.
type drain struct {
	files  map[lsn.LSN][]byte
	sealed map[lsn.LSN]bool
	last   lsn.LSN
}

func newDrain() *drain { return &drain{files: map[lsn.LSN][]byte{}, sealed: map[lsn.LSN]bool{}} }

func (d *drain) add(t testing.TB, c Chunk) {
	t.Helper()
	if int64(len(d.files[c.Segment])) != c.Offset || d.sealed[c.Segment] {
		t.Fatalf("a chunk at offset %d of segment %d, which has %d bytes, sealed %t", c.Offset, c.Segment, len(d.files[c.Segment]), d.sealed[c.Segment])
	}
	if (c.First == 0) != (len(c.Bytes) == 0) || (c.First != 0 && c.First != d.last+1) || (len(c.Bytes) == 0 && !c.Sealed) {
		t.Fatalf("a chunk of LSN %d to %d in %d bytes after LSN %d", c.First, c.Last, len(c.Bytes), d.last)
	}
	d.last = max(d.last, c.Last)
	d.files[c.Segment] = append(d.files[c.Segment], c.Bytes...)
	d.sealed[c.Segment] = c.Sealed
}

func (d *drain) all(t testing.TB, r *ChunkReader, limit int) {
	t.Helper()
	for {
		c, ok, err := r.Next(limit)
		must(t, err)
		if !ok {
			return
		}
		d.add(t, c)
	}
}

// hold compares what was read with the files of the log.
func (d *drain) hold(t testing.TB, l *Log) {
	t.Helper()
	if d.last != l.Durable() {
		t.Fatalf("read up to LSN %d, durable is %d", d.last, l.Durable())
	}
	for _, s := range l.Segments() {
		raw, err := os.ReadFile(s.Path)
		must(t, err)
		got := d.files[s.First]
		if !bytes.HasPrefix(raw, got) || d.sealed[s.First] != s.Sealed {
			t.Fatalf("segment %d: other bytes, or sealed is not %t", s.First, s.Sealed)
		}
		if h, err := frame.DecodeSegmentHeader(raw); s.Sealed && err == nil {
			_, at, err := readFooter(bytes.NewReader(raw), &h, int64(len(raw)))
			if err != nil || at != int64(len(got)) {
				t.Fatalf("segment %d ends at %d, read up to %d: %v", s.First, at, len(got), err)
			}
		}
	}
}

func mustChunks(t testing.TB, l *Log, from lsn.LSN) *ChunkReader {
	t.Helper()
	r, err := l.NewChunkReader(from)
	must(t, err)
	return r
}

func TestChunksAreTheDurableBytes(t *testing.T) {
	for _, limit := range []int{1, 700, 5000, 1 << 20} {
		l := mustOpen(t, testOptions(vfs.Default, t.TempDir()))
		r, d := mustChunks(t, l, 1), newDrain()
		d.all(t, r, limit)
		must(t, l.BeginEpoch(1))
		src := newSource(51)
		for i := range 60 {
			must(t, l.Append(src.group(1+i%4, 300)))
			d.all(t, r, limit)
			if d.last > l.Durable() {
				t.Fatal("read what is not durable")
			}
			must(t, l.Sync())
			d.all(t, r, limit)
			d.hold(t, l)
			if i == 30 {
				_, err := l.RollIfAged(time.UnixMicro(src.tail.Timestamp).Add(time.Hour))
				must(t, err)
				d.all(t, r, limit)
				d.hold(t, l)
			}
		}
		must(t, r.Close())
		must(t, l.Close())
	}
}

func TestChunkLimit(t *testing.T) {
	l := mustOpen(t, testOptions(vfs.Default, t.TempDir()))
	must(t, l.BeginEpoch(1))
	src := newSource(52)
	for range 20 {
		commit(t, l, src.group(3, 200))
	}
	commit(t, l, src.group(1, 9000))
	r := mustChunks(t, l, 1)
	long := 0
	for {
		c, ok, err := r.Next(2000)
		must(t, err)
		if !ok {
			break
		}
		if len(c.Bytes) > 2000 {
			long++
			if c.First != c.Last {
				t.Errorf("%d bytes in %d frames, the limit is 2000", len(c.Bytes), c.Last-c.First+1)
			}
		}
	}
	if long == 0 {
		t.Error("no frame is longer than the limit")
	}
	must(t, r.Close())
	must(t, l.Close())
}

// TestChunksFromEveryLSN begins at each frame: what comes is the rest of the
// log, and a segment that ended just before is sealed first.
func TestChunksFromEveryLSN(t *testing.T) {
	l := mustOpen(t, testOptions(vfs.Default, t.TempDir()))
	must(t, l.BeginEpoch(1))
	src := newSource(53)
	for range 25 {
		commit(t, l, src.group(2, 300))
	}
	whole := newDrain()
	r := mustChunks(t, l, 1)
	whole.all(t, r, 900)
	must(t, r.Close())
	ends := map[lsn.LSN]SegmentInfo{}
	for _, s := range l.Segments() {
		ends[s.Last] = s
	}
	for from := lsn.LSN(1); from <= l.Durable()+1; from++ {
		r := mustChunks(t, l, from)
		c, ok, err := r.Next(900)
		must(t, err)
		if s, is := ends[from-1]; is && s.Sealed {
			if !ok || !c.Sealed || len(c.Bytes) != 0 || c.Segment != s.First || c.Offset != int64(len(whole.files[s.First])) {
				t.Fatalf("from LSN %d, behind a seal: %+v", from, c)
			}
			c, ok, err = r.Next(900)
			must(t, err)
			if c.Offset != 0 {
				t.Fatalf("from LSN %d: the next segment begins at offset %d", from, c.Offset)
			}
		}
		next := from
		for ok {
			if len(c.Bytes) > 0 {
				if c.First != next || !bytes.Equal(c.Bytes, whole.files[c.Segment][c.Offset:c.Offset+int64(len(c.Bytes))]) {
					t.Fatalf("from LSN %d: other bytes at LSN %d", from, c.First)
				}
				next = c.Last + 1
			}
			c, ok, err = r.Next(900)
			must(t, err)
		}
		if next != l.Durable()+1 {
			t.Fatalf("from LSN %d: ends at LSN %d", from, next-1)
		}
		must(t, r.Close())
	}
	if _, err := l.NewChunkReader(l.Durable() + 2); err == nil || !strings.Contains(err.Error(), "is durable up to") {
		t.Errorf("reads from beyond the end: %v", err)
	}
	if _, err := l.NewChunkReader(0); err == nil {
		t.Error("reads from LSN 0")
	}
	must(t, l.Close())
}

// TestChunksOfRemovedSegments: what is being read stays, what was not begun is
// gone, and the error says where the log begins.
func TestChunksOfRemovedSegments(t *testing.T) {
	l := mustOpen(t, testOptions(vfs.Default, t.TempDir()))
	must(t, l.BeginEpoch(1))
	src := newSource(54)
	open, d := (*ChunkReader)(nil), newDrain()
	for range 30 {
		commit(t, l, src.group(2, 300))
		if open == nil { // sees the first segment while it is not yet sealed
			open = mustChunks(t, l, 1)
			c, _, err := open.Next(1)
			must(t, err)
			d.add(t, c)
		}
	}
	want, err := os.ReadFile(l.Segments()[0].Path)
	must(t, err)
	end := l.Segments()[0].Last
	early := mustChunks(t, l, 1)
	must(t, l.RemoveBefore(l.Segments()[3].First))
	for !d.sealed[1] {
		c, ok, err := open.Next(900)
		must(t, err)
		if !ok {
			t.Fatal("a removed segment ends without its seal")
		}
		d.add(t, c)
	}
	if d.last != end || !bytes.HasPrefix(want, d.files[1]) {
		t.Fatalf("read up to LSN %d of %d from the removed segment", d.last, end)
	}
	for _, r := range []*ChunkReader{open, early} {
		if _, ok, err := r.Next(900); ok || !errors.Is(err, ErrRemoved) || !strings.Contains(err.Error(), fmt.Sprintf("begins at %d", l.FirstLSN())) {
			t.Fatalf("the next segment is removed: %t, %v", ok, err)
		}
		must(t, r.Close())
	}
	if _, err := l.NewChunkReader(l.FirstLSN() - 1); !errors.Is(err, ErrRemoved) {
		t.Fatalf("from below the first: %v", err)
	}
	r := mustChunks(t, l, l.FirstLSN())
	if c, ok, err := r.Next(1); err != nil || !ok || c.Offset != 0 || c.First != l.FirstLSN() {
		t.Fatalf("from the first: %+v, %t, %v", c, ok, err)
	}
	must(t, r.Close())
	must(t, l.Close())
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func TestAdvanced(t *testing.T) {
	l := mustOpen(t, testOptions(vfs.Default, t.TempDir()))
	must(t, l.BeginEpoch(1))
	src := newSource(55)
	ch := l.Advanced()
	if ch != l.Advanced() {
		t.Error("each waiter costs a channel")
	}
	must(t, l.Append(src.group(1, 50)))
	if closed(ch) {
		t.Fatal("an append alone advances")
	}
	must(t, l.Sync())
	if !closed(ch) {
		t.Fatal("a sync does not advance")
	}
	if ch = l.Advanced(); closed(ch) {
		t.Fatal("advanced before anything happened")
	}
	must(t, l.Sync())
	if closed(ch) {
		t.Fatal("an idle sync advances")
	}
	_, err := l.RollIfAged(time.UnixMicro(src.tail.Timestamp).Add(time.Hour))
	must(t, err)
	if !closed(ch) {
		t.Fatal("a seal does not advance")
	}
	r := mustChunks(t, l, 1)
	newDrain().all(t, r, 1<<20)
	ch = l.Advanced()
	must(t, l.Append(src.group(1, 50)))
	must(t, l.Close())
	if !closed(ch) || !closed(l.Advanced()) || !closed(l.Advanced()) {
		t.Fatal("close does not advance")
	}
	c, ok, err := r.Next(1 << 20) // Close has synced it
	if !ok || err != nil || c.First != 2 {
		t.Fatalf("what Close made durable: %+v, %t, %v", c, ok, err)
	}
	if _, ok, err := r.Next(1 << 20); ok || !errors.Is(err, ErrClosed) {
		t.Fatalf("behind the end of a closed log: %t, %v", ok, err)
	}
	must(t, r.Close())
}

func TestAdvancedOnFailure(t *testing.T) {
	l := mustOpen(t, testOptions(vfs.Default, t.TempDir()))
	ch := l.Advanced()
	_ = l.fail("test", errors.New("broken"))
	if !closed(ch) || !closed(l.Advanced()) {
		t.Fatal("a failure does not advance")
	}
	r := mustChunks(t, l, 1)
	if _, ok, err := r.Next(1); ok || !errors.Is(err, ErrFailed) {
		t.Fatalf("a failed log: %t, %v", ok, err)
	}
	must(t, r.Close())
	if err := l.Close(); !errors.Is(err, ErrFailed) {
		t.Fatal(err)
	}
}

// TestChunksRefuseDamage: lengths, LSNs and the header are looked at.
func TestChunksRefuseDamage(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, testOptions(vfs.Default, dir))
	must(t, l.BeginEpoch(1))
	commit(t, l, newSource(56).group(3, 100))
	path := l.Segments()[0].Path
	raw, err := os.ReadFile(path)
	must(t, err)
	for what, at := range map[string]int{
		"a length": frame.SegmentHeaderSize + 3, "an LSN": frame.SegmentHeaderSize + 17, "a header": 40, "no frame": -1,
	} {
		bad := bytes.Clone(raw)
		if at < 0 {
			clear(bad[frame.SegmentHeaderSize:])
		} else {
			bad[at] ^= 0x40
		}
		must(t, os.WriteFile(path, bad, 0o644))
		r := mustChunks(t, l, 1)
		var damage *fault.Corruption
		if _, ok, err := r.Next(1 << 20); ok || !errors.As(err, &damage) || damage.File != path {
			t.Errorf("%s: %t, %v", what, ok, err)
		}
		must(t, r.Close())
	}
	must(t, os.WriteFile(path, raw, 0o644))
	must(t, l.Close())
}

// TestChunksBesideTheAppender is for the race detector as well: readers follow
// while the log is appended to, rolled and trimmed.
func TestChunksBesideTheAppender(t *testing.T) {
	o := testOptions(vfs.Default, t.TempDir())
	o.NoPreallocate = false
	l := mustOpen(t, o)
	must(t, l.BeginEpoch(1))
	src := newSource(57)
	const groups = 150
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			r, err := l.NewChunkReader(1)
			if err != nil {
				t.Error(err)
				return
			}
			d := newDrain()
			for {
				more := l.Advanced()
				c, ok, err := r.Next(3000)
				switch {
				case errors.Is(err, ErrRemoved):
					d = newDrain()
					d.last = l.FirstLSN() - 1
					_ = r.Close()
					if r, err = l.NewChunkReader(d.last + 1); err != nil && !errors.Is(err, ErrRemoved) {
						t.Error(err)
						return
					} else if err != nil {
						r = &ChunkReader{log: l, next: 1}
					}
				case errors.Is(err, ErrClosed):
					if d.last != src.tail.Pos.LSN {
						t.Errorf("read up to %d of %d", d.last, src.tail.Pos.LSN)
					}
					_ = r.Close()
					return
				case err != nil:
					t.Error(err)
					return
				case !ok:
					<-more
				default:
					d.add(t, c)
				}
			}
		})
	}
	for i := range groups {
		commit(t, l, src.group(2, 400))
		if i%20 == 19 {
			must(t, l.RemoveBefore(l.Segments()[len(l.Segments())-2].First))
		}
	}
	must(t, l.Close())
	wg.Wait()
}

// readCounter counts the reads of the files it opens for reading.
type readCounter struct {
	vfs.FS
	reads int
}

type countedFile struct {
	vfs.File
	fs *readCounter
}

func (c *readCounter) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	f, err := c.FS.Open(name, opts...)
	return countedFile{f, c}, err
}

func (f countedFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.reads++
	return f.File.ReadAt(p, off)
}

// TestAChunkIsOneRead: a chunk costs one pread, two where a frame is longer than
// the limit; and nothing is read to begin at the end of the log.
func TestAChunkIsOneRead(t *testing.T) {
	disk := &readCounter{FS: vfs.Default}
	l := leaderLog(t, testOptions(disk, t.TempDir()), newSource(59), 1)
	disk.reads = 0
	long := 0
	chunks := chunksOf(t, l, 1, 2000)
	for _, c := range chunks {
		if len(c.Bytes) > 2000 {
			long++
		}
	}
	if long == 0 || disk.reads != len(chunks)+long {
		t.Errorf("%d reads for %d chunks, %d of them longer than the limit", disk.reads, len(chunks), long)
	}
	disk.reads = 0
	r := mustChunks(t, l, l.Durable()+1)
	if _, ok, err := r.Next(2000); ok || err != nil || disk.reads != 0 {
		t.Errorf("%d reads at the end: %t, %v", disk.reads, ok, err)
	}
	must(t, r.Close())
	must(t, l.Close())
}
