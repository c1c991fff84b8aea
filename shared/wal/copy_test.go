package wal

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"originchain/shared/frame"
	"originchain/shared/lsn"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// leaderLog writes a log of several epochs, sealed and open segments, and one
// frame that is longer than a segment.
func leaderLog(t testing.TB, o Options, src *source, epochs ...lsn.Epoch) *Log {
	t.Helper()
	for i, epoch := range epochs {
		l := mustOpen(t, o)
		must(t, l.BeginEpoch(epoch))
		for range 8 {
			must(t, l.Append(src.group(1, 300)))
			commit(t, l, src.group(3, 300))
		}
		commit(t, l, src.group(1, 6000))
		if i == len(epochs)-1 {
			commit(t, l, src.group(2, 100))
			return l
		}
		must(t, l.Close())
	}
	panic("no epoch")
}

func followerOptions(fs vfs.FS, dir string) Options {
	o := testOptions(fs, dir)
	o.SegmentBytes = 1 << 20 // the leader says where segments end
	return o
}

// keepBytes is the chunk as it stays when the reader goes on.
func keepBytes(c Chunk) Chunk {
	c.Bytes = bytes.Clone(c.Bytes)
	return c
}

// chunksOf reads all chunks of l from LSN from on.
func chunksOf(t testing.TB, l *Log, from lsn.LSN, limit int) []Chunk {
	t.Helper()
	r := mustChunks(t, l, from)
	var all []Chunk
	for {
		c, ok, err := r.Next(limit)
		must(t, err)
		if !ok {
			must(t, r.Close())
			return all
		}
		all = append(all, keepBytes(c))
	}
}

// follow copies what f lacks of l.
func follow(t testing.TB, f, l *Log, limit int) {
	t.Helper()
	for _, c := range chunksOf(t, l, f.Tail().Pos.LSN+1, limit) {
		must(t, f.Copy(c))
	}
	must(t, f.Sync())
}

// equalLogs holds two logs' files against each other: sealed ones whole, the
// open one up to its durable end.
func equalLogs(t testing.TB, a, b *Log) {
	t.Helper()
	if a.Tail() != b.Tail() || a.Durable() != b.Durable() {
		t.Fatalf("one log ends %s, durable %d, the other %s, durable %d", a.Tail(), a.Durable(), b.Tail(), b.Durable())
	}
	as, bs := a.Segments(), b.Segments()
	if len(as) != len(bs) {
		t.Fatalf("%d segments and %d", len(as), len(bs))
	}
	for i := range as {
		x, y := readFS(t, a.opts.FS, as[i].Path), readFS(t, b.opts.FS, bs[i].Path)
		if filepath.Base(as[i].Path) != filepath.Base(bs[i].Path) || as[i].Sealed != bs[i].Sealed {
			t.Fatalf("segment %s, sealed %t, and %s, sealed %t", as[i].Path, as[i].Sealed, bs[i].Path, bs[i].Sealed)
		}
		if !as[i].Sealed {
			x, y = x[:as[i].Bytes], y[:bs[i].Bytes]
		}
		if !bytes.Equal(x, y) {
			t.Fatalf("%s has other bytes than its copy", as[i].Path)
		}
	}
}

func readFS(t testing.TB, disk vfs.FS, path string) []byte {
	t.Helper()
	f, err := disk.Open(path)
	must(t, err)
	info, err := f.Stat()
	must(t, err)
	b := make([]byte, info.Size())
	must(t, readFull(f, b, 0))
	must(t, f.Close())
	return b
}

func TestCopyIsIdentical(t *testing.T) {
	for _, limit := range []int{1, 1000, 1 << 20} {
		for _, ahead := range []bool{false, true} {
			src := newSource(61)
			l := leaderLog(t, testOptions(vfs.Default, t.TempDir()), src, 1, 3)
			o := followerOptions(vfs.Default, t.TempDir())
			o.NoPreallocate = !ahead
			f := mustOpen(t, o)
			follow(t, f, l, limit)
			equalLogs(t, l, f)
			for range 5 {
				commit(t, l, src.group(4, 400))
				follow(t, f, l, limit)
				equalLogs(t, l, f)
			}
			if rolled, err := f.RollIfAged(time.UnixMicro(src.tail.Timestamp).Add(time.Hour)); rolled || err != nil {
				t.Fatalf("a copy rolls by itself: %t, %v", rolled, err)
			}
			_, err := l.RollIfAged(time.UnixMicro(src.tail.Timestamp).Add(time.Hour))
			must(t, err)
			follow(t, f, l, limit)
			equalLogs(t, l, f)
			must(t, f.Close())
			f = mustOpen(t, o)
			equalLogs(t, l, f)
			expect(t, f, src.frames)
			commit(t, l, src.group(4, 400))
			follow(t, f, l, limit)
			equalLogs(t, l, f)
			must(t, l.Close())
			must(t, f.Close())
		}
	}
}

// TestCopyIsNotDurableBeforeSync: durable and the mark wait for the fsync.
func TestCopyIsNotDurableBeforeSync(t *testing.T) {
	l := leaderLog(t, testOptions(vfs.Default, t.TempDir()), newSource(62), 1)
	f := mustOpen(t, followerOptions(vfs.Default, t.TempDir()))
	ch := f.Advanced()
	c := chunksOf(t, l, 1, 1)[0]
	must(t, f.Copy(c))
	if f.Durable() != 0 || f.Tail().Pos.LSN != 1 || f.mark.value.durable != 0 || closed(ch) {
		t.Fatalf("durable %d, tail %s, mark %d", f.Durable(), f.Tail(), f.mark.value.durable)
	}
	must(t, f.Sync())
	if f.Durable() != 1 || f.mark.value.durable != 1 || !closed(ch) {
		t.Fatalf("durable %d, mark %d after the sync", f.Durable(), f.mark.value.durable)
	}
	must(t, l.Close())
	must(t, f.Close())
}

// TestCopyAgain: chunks that are here in whole or in part, cut anyhow, change
// nothing or go on behind what is here.
func TestCopyAgain(t *testing.T) {
	l := leaderLog(t, testOptions(vfs.Default, t.TempDir()), newSource(63), 2, 4)
	small, large := chunksOf(t, l, 1, 1), chunksOf(t, l, 1, 2500)
	for n := range small {
		f := mustOpen(t, followerOptions(vfs.Default, t.TempDir()))
		for _, c := range small[:n] {
			must(t, f.Copy(c))
		}
		for _, c := range large {
			must(t, f.Copy(c))
		}
		must(t, f.Sync())
		for _, c := range slices.Concat(small, large) {
			must(t, f.Copy(c))
		}
		equalLogs(t, l, f)
		must(t, f.Close())
	}
	must(t, l.Close())
}

// TestCopyFromTheMiddle: an empty log begins with any segment, as after a
// bootstrap by checkpoint.
func TestCopyFromTheMiddle(t *testing.T) {
	l := leaderLog(t, testOptions(vfs.Default, t.TempDir()), newSource(64), 1)
	must(t, l.RemoveBefore(l.Segments()[2].First))
	o := followerOptions(vfs.Default, t.TempDir())
	f := mustOpen(t, o)
	chunks := chunksOf(t, l, l.FirstLSN(), 900)
	misnamed, foreign := keepBytes(chunks[0]), keepBytes(chunks[0])
	misnamed.Segment++
	h, err := frame.DecodeSegmentHeader(foreign.Bytes)
	must(t, err)
	h.Instance[0]++
	copy(foreign.Bytes, h.Append(nil))
	for what, c := range map[string]Chunk{"of another name": misnamed, "of another instance": foreign} {
		if err := f.Copy(c); !errors.Is(err, ErrBadChunk) || len(f.Segments()) != 0 {
			t.Fatalf("a segment %s begins the log: %v", what, err)
		}
	}
	for _, c := range chunks {
		must(t, f.Copy(c))
	}
	must(t, f.Sync())
	equalLogs(t, l, f)
	must(t, f.Close())
	f = mustOpen(t, o)
	equalLogs(t, l, f)
	must(t, f.Copy(chunksOf(t, l, l.FirstLSN(), 900)[0]))
	must(t, l.Close())
	must(t, f.Close())
}

// TestCopySealsBehindAHeader: the segment's end was never sent, since the leader
// has removed it; the next header proves where it is.
func TestCopySealsBehindAHeader(t *testing.T) {
	l := leaderLog(t, testOptions(vfs.Default, t.TempDir()), newSource(65), 1)
	f := mustOpen(t, followerOptions(vfs.Default, t.TempDir()))
	for _, c := range chunksOf(t, l, 1, 1) {
		c.Sealed = false
		must(t, f.Copy(c))
	}
	must(t, f.Sync())
	equalLogs(t, l, f)
	must(t, l.Close())
	must(t, f.Close())
}

// TestCopyReopensASeal: an opening as writer that never wrote has sealed the
// segment early; the leader's goes on, and may have ended by now.
func TestCopyReopensASeal(t *testing.T) {
	for _, ended := range []bool{false, true} {
		src := newSource(66)
		l := mustOpen(t, testOptions(vfs.Default, t.TempDir()))
		must(t, l.BeginEpoch(1))
		commit(t, l, src.group(2, 100))
		o := followerOptions(vfs.Default, t.TempDir())
		f := mustOpen(t, o)
		follow(t, f, l, 1)
		must(t, f.BeginEpoch(2))
		if err := f.Copy(chunksOf(t, l, 1, 1)[0]); err == nil {
			t.Fatal("a writer's log takes copies")
		}
		must(t, f.Close())
		f = mustOpen(t, o)
		if !f.Segments()[0].Sealed {
			t.Fatal("not sealed")
		}
		commit(t, l, src.group(2, 100))
		if !ended {
			follow(t, f, l, 1)
			equalLogs(t, l, f)
		}
		_, err := l.RollIfAged(time.UnixMicro(src.tail.Timestamp).Add(time.Hour))
		must(t, err)
		follow(t, f, l, 1<<20)
		equalLogs(t, l, f)
		must(t, l.Close())
		must(t, f.Close())
	}
}

// TestPromotedCopy: a copy becomes a writer, in the same process, and goes on.
func TestPromotedCopy(t *testing.T) {
	src := newSource(67)
	l := leaderLog(t, testOptions(vfs.Default, t.TempDir()), src, 1)
	o := testOptions(vfs.Default, t.TempDir())
	f := mustOpen(t, o)
	follow(t, f, l, 1000)
	must(t, l.Close())
	must(t, f.BeginEpoch(2))
	if f.mark.value.writer != 2 {
		t.Fatal("the mark does not name the epoch")
	}
	for range 10 {
		commit(t, f, src.group(2, 500))
	}
	expect(t, f, src.frames)
	must(t, f.Close())
	f = mustOpen(t, o)
	expect(t, f, src.frames)
	must(t, f.Close())
}

// files is a directory's content by name, the mark left out.
func files(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		if e.Name() != markName {
			all[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name()))
			must(t, err)
		}
	}
	return all
}

// TestCopyRefuses holds each guard against a chunk that only it refuses, and
// sees that nothing was written.
func TestCopyRefuses(t *testing.T) {
	src := newSource(68)
	l := leaderLog(t, testOptions(vfs.Default, t.TempDir()), src, 5, 7)
	all := chunksOf(t, l, 1, 1200)
	dir := t.TempDir()
	o := followerOptions(vfs.Default, dir)
	f := mustOpen(t, o)
	n := 1 // the third chunk of a segment, or a later one
	for all[n].Segment == 1 || all[n-1].Offset == 0 || all[n].Offset == 0 || all[n+1].Offset == 0 {
		n++
	}
	for _, c := range all[:n] {
		must(t, f.Copy(c))
	}
	must(t, f.Sync())
	newer := slices.IndexFunc(all, func(c Chunk) bool { return c.Segment > all[n].Segment && c.Offset == 0 })
	changed := func(c Chunk, at int) Chunk {
		c = keepBytes(c)
		c.Bytes[at] ^= 1
		return c
	}
	with := func(c Chunk, change func(*Chunk)) Chunk {
		c = keepBytes(c)
		change(&c)
		return c
	}
	header := func(c Chunk, change func(*frame.SegmentHeader)) Chunk {
		h, err := frame.DecodeSegmentHeader(c.Bytes)
		must(t, err)
		change(&h)
		return with(c, func(c *Chunk) { copy(c.Bytes, h.Append(nil)) })
	}
	before := files(t, dir)
	for what, c := range map[string]struct {
		chunk Chunk
		want  error
	}{
		"a flipped bit":              {changed(all[n], len(all[n].Bytes)-9), ErrBadChunk},
		"a flipped bit in the first": {changed(all[n], 130), ErrBadChunk},
		"half a frame":               {with(all[n], func(c *Chunk) { c.Bytes = c.Bytes[:len(c.Bytes)-8] }), ErrBadChunk},
		"zeros behind":               {with(all[n], func(c *Chunk) { c.Bytes = append(c.Bytes, make([]byte, 16)...) }), ErrBadChunk},
		"an odd offset":              {with(all[n], func(c *Chunk) { c.Offset++ }), ErrBadChunk},
		"an offset in the header":    {with(all[0], func(c *Chunk) { c.Offset, c.Bytes = 8, c.Bytes[8:] }), ErrBadChunk},
		"a negative offset": {with(all[0], func(c *Chunk) {
			c.Offset, c.Bytes = -8, slices.Insert(c.Bytes, frame.SegmentHeaderSize, make([]byte, 8)...)
		}), ErrBadChunk},
		"a gap in the segment":         {all[n+1], ErrGap},
		"a gap of segments":            {all[newer], ErrGap},
		"another segment's frames":     {with(all[n], func(c *Chunk) { c.Bytes = all[n+1].Bytes }), ErrBadChunk},
		"a seal before the end":        {with(all[n-1], func(c *Chunk) { c.Bytes, c.Sealed = nil, true }), ErrFork},
		"a flipped bit in what is":     {changed(all[n-1], len(all[n-1].Bytes)-9), ErrBadChunk},
		"a segment in another's midst": {with(all[n], func(c *Chunk) { c.Segment++ }), ErrFork},
		"another header":               {header(all[0], func(h *frame.SegmentHeader) { h.Seed++ }), ErrFork},
		"a flipped header":             {changed(all[0], 20), ErrBadChunk},
		"another instance":             {header(all[0], func(h *frame.SegmentHeader) { h.Instance[0]++ }), ErrBadChunk},
		"a seal of a segment to come":  {Chunk{Segment: f.Tail().Pos.LSN + 1, Sealed: true}, ErrBadChunk},
	} {
		tail := f.Tail()
		if err := f.Copy(c.chunk); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
		if f.Tail() != tail || f.Err() != nil || !maps.EqualFunc(before, files(t, dir), bytes.Equal) {
			t.Fatalf("%s left a trace", what)
		}
	}
	for _, c := range all[n:] {
		must(t, f.Copy(c))
	}
	must(t, f.Sync())
	equalLogs(t, l, f)
	must(t, l.Close())
	must(t, f.Close())
}

// TestCopyRefusesANextSegment is for the join: chunks with a header that is good
// and does not continue the log.
func TestCopyRefusesANextSegment(t *testing.T) {
	l := leaderLog(t, testOptions(vfs.Default, t.TempDir()), newSource(69), 5)
	all := chunksOf(t, l, 1, 1200)
	dir := t.TempDir()
	f := mustOpen(t, followerOptions(vfs.Default, dir))
	n := slices.IndexFunc(all, func(c Chunk) bool { return c.Segment > 1 })
	for _, c := range all[:n] {
		must(t, f.Copy(c))
	}
	must(t, f.Sync())
	before := files(t, dir)
	for what, c := range map[string]struct {
		change func(*frame.SegmentHeader)
		want   error
	}{
		"previous chain":  {func(h *frame.SegmentHeader) { h.PrevChain[0]++ }, ErrFork},
		"previous digest": {func(h *frame.SegmentHeader) { h.PrevDigest.Lo++ }, ErrBadChunk},
		"previous stamp":  {func(h *frame.SegmentHeader) { h.PrevTimestamp-- }, ErrBadChunk},
		"a lower epoch":   {func(h *frame.SegmentHeader) { h.Epoch-- }, ErrBadChunk},
		"another epoch":   {func(h *frame.SegmentHeader) { h.Epoch++ }, ErrBadChunk},
		"instance":        {func(h *frame.SegmentHeader) { h.Instance[3]++ }, ErrBadChunk},
		"first LSN":       {func(h *frame.SegmentHeader) { h.First++ }, ErrBadChunk},
		"seed":            {func(h *frame.SegmentHeader) { h.Seed++ }, ErrBadChunk},
	} {
		bad := keepBytes(all[n])
		h, err := frame.DecodeSegmentHeader(bad.Bytes)
		must(t, err)
		c.change(&h)
		copy(bad.Bytes, h.Append(nil))
		if err := f.Copy(bad); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
		if f.Err() != nil || !maps.EqualFunc(before, files(t, dir), bytes.Equal) {
			t.Fatalf("%s left a trace", what)
		}
	}
	alone := keepBytes(all[n])
	alone.Bytes = alone.Bytes[:frame.SegmentHeaderSize]
	if err := f.Copy(alone); !errors.Is(err, ErrBadChunk) {
		t.Errorf("a header alone: %v", err)
	}
	if err := f.Copy(all[n+1]); all[n+1].Segment != all[n].Segment || !errors.Is(err, ErrGap) {
		t.Errorf("frames without the header before them: %v", err)
	}
	must(t, f.Copy(all[n]))
	must(t, f.RemoveBefore(all[n].Segment))
	if err := f.Copy(all[0]); !errors.Is(err, ErrRemoved) {
		t.Errorf("a removed segment: %v", err)
	}
	must(t, l.Close())
	must(t, f.Close())
}
