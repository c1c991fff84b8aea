package wal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"originchain/shared/lsn"
	"originchain/shared/simdisk"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Two logs are written in turn, and neither is opened anew: after each turn their files
// are equal, and what was appended and not synced before an epoch ended is in both.
func TestTwoLogsAreWrittenInTurn(t *testing.T) {
	for _, ahead := range []bool{false, true} {
		src := newSource(91)
		open := func() *Log {
			o := testOptions(vfs.Default, t.TempDir())
			o.NoPreallocate = !ahead
			return mustOpen(t, o)
		}
		w, f := open(), open()
		for epoch := range lsn.Epoch(7) {
			must(t, w.BeginEpoch(epoch+1))
			for range 6 * epoch { // none in the first: an epoch may end as it began
				must(t, w.Append(src.group(1, 300)))
				commit(t, w, src.group(2, 300))
			}
			must(t, w.Append(src.group(1, 300)))
			if err := w.Copy(Chunk{Segment: 1}); err == nil || !strings.Contains(err.Error(), "end the epoch first") {
				t.Fatalf("a copy in an epoch of its own: %v", err)
			}
			must(t, w.EndEpoch())
			if last := src.tail.Pos.LSN; w.Durable() != last {
				t.Fatalf("the epoch ended with LSN %d, durable up to %d", last, w.Durable())
			}
			if err := w.Append([]Entry{{LSN: src.tail.Pos.LSN + 1}}); err == nil || !strings.Contains(err.Error(), "before BeginEpoch") {
				t.Fatalf("an append after the end of the epoch: %v", err)
			}
			follow(t, f, w, 1000)
			equalLogs(t, w, f)
			w, f = f, w
		}
		for _, l := range []*Log{w, f} {
			expect(t, l, src.frames)
			o := l.opts
			must(t, l.Close())
			l = mustOpen(t, o)
			expect(t, l, src.frames)
			must(t, l.Close())
		}
	}
}

// A node that ended its epoch is cut at every call to its disk, while it does and while it
// copies what the next writer wrote: all that was durable is there, and it goes on.
func TestAnEndedEpochIsCutAnywhere(t *testing.T) {
	src := newSource(92)
	const own = 12
	// written is the node on disk d when its epoch is about to end.
	written := func(d *simdisk.Disk) *Log {
		o := simOptions(d)
		o.SegmentBytes = MinSegmentBytes
		l := mustOpen(t, o)
		must(t, l.BeginEpoch(1))
		src = newSource(92)
		for range own - 1 {
			commit(t, l, src.group(1, 400))
		}
		must(t, l.Append(src.group(1, 400)))
		return l
	}
	d, _ := newDisk(t)
	first := written(d)
	next := mustOpen(t, testOptions(vfs.Default, t.TempDir()))
	must(t, first.EndEpoch())
	follow(t, next, first, 1000)
	must(t, first.Close())
	must(t, next.BeginEpoch(2))
	for range 20 {
		commit(t, next, src.group(1, 400))
	}
	chunks := chunksOf(t, next, own+1, 1000)
	for cut := 1; ; cut++ {
		d, _ := newDisk(t)
		l := written(d)
		out := copied{acked: l.Durable()}
		d.CrashAfter(d.CallCount() + cut)
		rng := rand.New(rand.NewPCG(uint64(cut), 3))
		out.err = l.EndEpoch()
		for i := 0; out.err == nil && i < len(chunks); i++ {
			out.acked = l.Durable()
			if out.err = l.Copy(chunks[i]); out.err == nil && rng.IntN(3) == 0 {
				out.err = l.Sync()
			}
		}
		whole := out.err == nil && !d.Crashed()
		_ = l.Close() // of a disk that is gone
		checkCopyAfter(t, fmt.Sprintf("power lost after call %d", cut), d.CrashClone(rng), out, next)
		checkCopyAfter(t, fmt.Sprintf("killed after call %d", cut), d.KillClone(), out, next)
		if whole {
			if cut < 40 {
				t.Errorf("the workload is too small: %d calls", cut)
			}
			must(t, next.Close())
			return
		}
	}
}

// A disk that did not make durable what was appended is not asked again: an epoch does
// not end on it, nor on a log that is closed, and nothing more counts as durable.
func TestAnEpochDoesNotEndOnAFailedLog(t *testing.T) {
	for name, before := range map[string]func(*Log) error{
		"it fails as the epoch ends": func(*Log) error { return nil },
		"it has failed before":       func(l *Log) error { return l.Sync() },
	} {
		t.Run(name, func(t *testing.T) {
			d, _ := newDisk(t)
			src, l := newSource(93), mustOpen(t, simOptions(d))
			must(t, l.BeginEpoch(1))
			commit(t, l, src.group(2, 300))
			must(t, l.Append(src.group(1, 300)))
			d.Inject(simdisk.Fault{Ops: simdisk.OpSync, Err: syscall.EIO}) // once
			if err := before(l); name == "it has failed before" && !errors.Is(err, syscall.EIO) {
				t.Fatal(err)
			}
			for range 2 {
				if err := l.EndEpoch(); !errors.Is(err, syscall.EIO) {
					t.Errorf("the epoch ended: %v", err)
				}
			}
			if l.Durable() != 2 {
				t.Errorf("durable up to LSN %d, of which a disk said so for 2", l.Durable())
			}
			if err := l.Copy(Chunk{Segment: 1}); !errors.Is(err, syscall.EIO) {
				t.Errorf("a copy into it: %v", err)
			}
			_ = l.Close() // which has failed
			if err := l.EndEpoch(); !errors.Is(err, ErrClosed) {
				t.Errorf("the epoch of a closed log ended: %v", err)
			}
		})
	}
}
