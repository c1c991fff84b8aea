package wal

import (
	"bytes"
	"errors"
	"maps"
	"testing"

	"originchain/shared/lsn"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// twins are two logs with one history up to a fork, in which they differ; seeds
// and headers are the same, so that only frames tell them apart.
func twins(t testing.TB, same, more int) (a, b *Log) {
	t.Helper()
	logs := [2]*Log{}
	for i := range logs {
		l := mustOpen(t, testOptions(vfs.Default, t.TempDir()))
		must(t, l.BeginEpoch(1))
		src := newSource(70)
		for n := range same + more {
			g := src.group(1, 100)
			if n >= same {
				g[0].Wall += int64(i)
			}
			commit(t, l, g)
		}
		logs[i] = l
	}
	return logs[0], logs[1]
}

func TestCopyFindsAFork(t *testing.T) {
	for what, c := range map[string]struct{ same, ours, theirs int }{
		"the last frame differs":        {3, 1, 1},
		"several differ":                {3, 3, 5},
		"what is new follows another":   {3, 2, 2},
		"the fork is in an old segment": {3, 60, 60},
	} {
		a, b := twins(t, c.same, max(c.ours, c.theirs))
		dir := t.TempDir()
		f := mustOpen(t, followerOptions(vfs.Default, dir))
		have := lsn.LSN(c.same + c.ours)
		for _, c := range chunksOf(t, a, 1, 1) {
			if c.Last <= have {
				must(t, f.Copy(c))
			}
		}
		must(t, f.Sync())
		before := files(t, dir)
		from := lsn.LSN(1)
		if what == "what is new follows another" {
			f2, b2 := twins(t, c.same, c.ours+1)
			must(t, errors.Join(a.Close(), b.Close()))
			a, b, from = f2, b2, have+1
		}
		var err error
		for _, c := range chunksOf(t, b, from, 1) {
			if err = f.Copy(c); err != nil {
				if c.First != lsn.LSN(3)+1 && from == 1 {
					t.Errorf("%s: found at LSN %d", what, c.First)
				}
				break
			}
		}
		if !errors.Is(err, ErrFork) || !maps.EqualFunc(before, files(t, dir), bytes.Equal) {
			t.Errorf("%s: %v", what, err)
		}
		must(t, errors.Join(a.Close(), b.Close(), f.Close()))
	}
}

// TestCopyAfterOwnWrites: a node that was promoted and wrote has a segment of
// its own behind the one that goes on elsewhere.
func TestCopyAfterOwnWrites(t *testing.T) {
	src := newSource(66)
	l := mustOpen(t, testOptions(vfs.Default, t.TempDir()))
	must(t, l.BeginEpoch(1))
	commit(t, l, src.group(2, 100))
	o := followerOptions(vfs.Default, t.TempDir())
	f := mustOpen(t, o)
	follow(t, f, l, 1)
	must(t, f.BeginEpoch(2))
	own := newSource(66)
	own.group(2, 100)
	commit(t, f, own.group(1, 50))
	must(t, f.Close())
	f = mustOpen(t, o)
	commit(t, l, src.group(2, 100))
	c := chunksOf(t, l, 3, 1<<20)[0]
	if err := f.Copy(c); !errors.Is(err, ErrFork) {
		t.Fatalf("the segment goes on elsewhere: %v", err)
	}
	_, err := f.SetAside(2, t.TempDir())
	must(t, err)
	must(t, f.Copy(c))
	must(t, f.Sync())
	equalLogs(t, l, f)
	must(t, l.Close())
	must(t, f.Close())
}

// TestCopyFindsALongerFrame: the frame that differs reaches past the end of the
// log.
func TestCopyFindsALongerFrame(t *testing.T) {
	logs := [2]*Log{}
	for i, size := range []int{20, 4000} {
		l := mustOpen(t, testOptions(vfs.Default, t.TempDir()))
		must(t, l.BeginEpoch(1))
		src := newSource(72)
		commit(t, l, src.group(1, size))
		logs[i] = l
	}
	f := mustOpen(t, followerOptions(vfs.Default, t.TempDir()))
	follow(t, f, logs[0], 1000)
	ours, theirs := chunksOf(t, logs[0], 1, 1<<20)[0], chunksOf(t, logs[1], 1, 1<<20)[0]
	if theirs.Segment != ours.Segment || len(theirs.Bytes) <= len(ours.Bytes) {
		t.Fatalf("LSN 1 has %d bytes and %d", len(ours.Bytes), len(theirs.Bytes))
	}
	if err := f.Copy(theirs); !errors.Is(err, ErrFork) {
		t.Fatal(err)
	}
	equalLogs(t, logs[0], f)
	must(t, errors.Join(logs[0].Close(), logs[1].Close(), f.Close()))
}
