package wal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"originchain/shared/lsn"
	"originchain/shared/simdisk"
)

const (
	simDir    = "/data/log"
	simSource = 21
	simValue  = 400
)

// outcome is what a client of the log knows when it stops.
type outcome struct {
	src *source
	// acked is the highest LSN a Sync has acknowledged.
	acked lsn.LSN
	// removed is the highest LSN RemoveBefore was told is not needed.
	removed lsn.LSN
	err     error
}

// newDisk returns a disk with a durable data directory, and the number of the
// last call that took.
func newDisk(t *testing.T) (*simdisk.Disk, int) {
	t.Helper()
	d := simdisk.New()
	must(t, d.MkdirAll("/data", 0o755))
	must(t, syncDir(d, "/"))
	return d, d.CallCount()
}

func simOptions(d *simdisk.Disk) Options {
	o := testOptions(d, simDir)
	o.SegmentMaxAge = time.Hour
	return o
}

// workload opens the log three times and does everything a log is asked to,
// until the disk says no.
func workload(o Options) (out outcome) {
	out.src = newSource(simSource)
	rng := rand.New(rand.NewPCG(8, 8))
	for epoch := lsn.Epoch(1); epoch <= 3 && out.err == nil; epoch++ {
		var l *Log
		if l, out.err = Open(o); out.err != nil {
			return out
		}
		out.err = out.tenure(l, epoch, rng)
		out.err = errors.Join(out.err, l.Close())
	}
	return out
}

func (out *outcome) tenure(l *Log, epoch lsn.Epoch, rng *rand.Rand) error {
	if err := l.BeginEpoch(epoch); err != nil {
		return err
	}
	for i := range 9 {
		// The source must make the frame even if the append fails: it may be
		// on the disk all the same.
		if err := l.Append(out.src.group(1+rng.IntN(4), simValue)); err != nil {
			return err
		}
		if rng.IntN(4) > 0 {
			if err := l.Sync(); err != nil {
				return err
			}
			out.acked = l.Durable()
		}
		if i == 4 {
			if _, err := l.RollIfAged(time.UnixMicro(out.src.tail.Timestamp).Add(time.Hour)); err != nil {
				return err
			}
		}
		if i == 6 && epoch == 2 {
			out.removed = l.Segments()[1].Last
			if err := l.RemoveBefore(out.removed + 1); err != nil {
				return err
			}
		}
	}
	return nil
}

// checkAfter opens what a crash left: every acknowledged frame is there,
// nothing is invented, and the log goes on.
func checkAfter(t *testing.T, name string, d *simdisk.Disk, out outcome) {
	t.Helper()
	l, err := Open(simOptions(d))
	if err != nil {
		t.Fatalf("%s: open: %v", name, err)
	}
	first, kept := max(1, l.FirstLSN()), l.Tail().Pos.LSN
	if kept < out.acked || int(kept) > len(out.src.frames) || first > out.removed+1 {
		t.Fatalf("%s: LSN %d to %d left, %d were acknowledged and %d removed", name, first, kept, out.acked, out.removed)
	}
	// A second source replays the history that survived and goes on from it.
	src := newSource(simSource)
	src.group(int(kept), simValue)
	if kept > 0 && l.Tail().Digest != src.tail.Digest {
		t.Fatalf("%s: digest %s at LSN %d, the history's is %s", name, l.Tail().Digest, kept, src.tail.Digest)
	}
	must(t, l.BeginEpoch(l.Tail().Pos.Epoch+10))
	for range 3 {
		commit(t, l, src.group(2, simValue))
	}
	must(t, l.Close())
	l = mustOpen(t, simOptions(d.KillClone()))
	got, err := readAll(l, first)
	if err != nil || !same(got, src.frames[first-1:]) {
		t.Fatalf("%s: after going on: %d frames of %d, %v", name, len(got), len(src.frames), err)
	}
	must(t, l.Close())
}

// TestCrashAtEveryDiskCall loses power at every call of the workload, several
// ways each, and kills the process there as well.
func TestCrashAtEveryDiskCall(t *testing.T) {
	disk, made := newDisk(t)
	whole := workload(simOptions(disk))
	must(t, whole.err)
	calls := disk.CallCount()
	if calls < 150 || whole.acked == 0 || whole.removed == 0 {
		t.Fatalf("the workload is too small: %d calls, %+v", calls, whole.acked)
	}
	torn := 0
	for n := made; n < calls; n++ {
		d, _ := newDisk(t)
		d.CrashAfter(n)
		out := workload(simOptions(d))
		if !errors.Is(out.err, simdisk.ErrCrashed) {
			t.Fatalf("call %d: the crash did not show: %v", n, out.err)
		}
		for seed := range uint64(3) {
			rng := rand.New(rand.NewPCG(seed, uint64(n)))
			checkAfter(t, fmt.Sprintf("power lost after call %d, seed %d", n, seed), d.CrashClone(rng), out)
			checkAfter(t, fmt.Sprintf("power lost after call %d, any names, seed %d", n, seed), d.CrashClone(rng, simdisk.AnyNames), out)
		}
		checkAfter(t, fmt.Sprintf("killed after call %d", n), d.KillClone(), out)
		if out.acked < lsn.LSN(len(out.src.frames)) {
			torn++
		}
	}
	if torn < 20 {
		t.Errorf("only %d crashes hit a frame that was not acknowledged", torn)
	}
}

// TestCrashDuringRecovery loses power again at every call of the opening that
// follows a crash.
func TestCrashDuringRecovery(t *testing.T) {
	disk, made := newDisk(t)
	must(t, workload(simOptions(disk)).err)
	for n := made; n < disk.CallCount(); n += 17 {
		d, _ := newDisk(t)
		d.CrashAfter(n)
		out := workload(simOptions(d))
		rng := rand.New(rand.NewPCG(5, uint64(n)))
		for m := 0; ; m++ {
			second := d.CrashClone(rng)
			second.CrashAfter(m)
			l, err := Open(simOptions(second))
			if err == nil {
				err = l.BeginEpoch(90)
				_ = l.Close() // the power is out or this is the last round
			}
			second.CrashAfter(-1)
			checkAfter(t, fmt.Sprintf("power lost after call %d, then after call %d of recovery", n, m), second.CrashClone(rng), out)
			if err == nil {
				break
			}
		}
	}
}

// TestFailAtEveryDiskCall fails each call once: the log stops for ever, says
// so, and what was acknowledged is there after a restart.
func TestFailAtEveryDiskCall(t *testing.T) {
	disk, made := newDisk(t)
	must(t, workload(simOptions(disk)).err)
	for n := made + 1; n <= disk.CallCount(); n++ {
		for _, fault := range []simdisk.Fault{{From: n, Err: syscall.EIO}, {From: n, Err: syscall.ENOSPC, Ops: simdisk.OpWrite, Short: 700}} {
			d, _ := newDisk(t)
			d.Inject(fault)
			out := workload(simOptions(d))
			if out.err == nil && fault.Ops == 0 {
				t.Fatalf("call %d failed and nobody noticed: %+v", n, d.Calls()[n-1])
			}
			rng := rand.New(rand.NewPCG(6, uint64(n)))
			name := fmt.Sprintf("%v at call %d", fault.Err, n)
			checkAfter(t, name+", then power lost", d.CrashClone(rng), out)
			checkAfter(t, name+", then killed", d.KillClone(), out)
		}
	}
}

// TestFailStop holds each operation to what follows a failure.
func TestFailStop(t *testing.T) {
	for name, op := range map[string]simdisk.Op{"write": simdisk.OpWrite, "sync": simdisk.OpSync} {
		d, _ := newDisk(t)
		l := mustOpen(t, simOptions(d))
		must(t, l.BeginEpoch(1))
		src := newSource(31)
		commit(t, l, src.group(2, 50))
		d.Inject(simdisk.Fault{Ops: op, Err: syscall.EIO}) // spent after one hit
		err := l.Append(src.group(1, 50))
		if err == nil {
			err = l.Sync()
		}
		if !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
			t.Fatalf("%s: %v", name, err)
		}
		calls := d.CallCount()
		_, rollErr := l.RollIfAged(time.Now())
		for what, again := range map[string]error{
			"append": l.Append(src.group(1, 50)), "sync": l.Sync(), "begin": l.BeginEpoch(2), "roll": rollErr, "remove": l.RemoveBefore(1), "err": l.Err(),
		} {
			if again == nil || again.Error() != err.Error() || !errors.Is(again, ErrFailed) {
				t.Errorf("%s failed, then %s: %v, want the first failure", name, what, again)
			}
		}
		if second := l.fail("later", errors.New("another")); second.Error() != err.Error() {
			t.Errorf("%s failed, and a later failure took its place: %v", name, second)
		}
		if l.Durable() != 2 {
			t.Errorf("%s failed: durable is %d", name, l.Durable())
		}
		if err := l.Close(); !errors.Is(err, ErrFailed) {
			t.Errorf("%s failed, then close: %v", name, err)
		}
		if d.CallCount() != calls {
			t.Errorf("%s failed, and the log touched the disk again: %+v", name, d.Calls()[calls:])
		}
	}
}

// TestReadErrorsAreNotCorruption fails every read of an opening: the log must
// not open, and must not blame the data.
func TestReadErrorsAreNotCorruption(t *testing.T) {
	base, _ := newDisk(t)
	out := workload(simOptions(base))
	must(t, out.err)
	for skip := 0; ; skip++ {
		d := base.KillClone()
		d.Inject(simdisk.Fault{Ops: simdisk.OpRead, Skip: skip, Err: syscall.EIO})
		l, err := Open(simOptions(d))
		if err == nil {
			must(t, l.Close())
			if skip < 10 {
				t.Errorf("only %d reads failed", skip)
			}
			return
		}
		if !errors.Is(err, syscall.EIO) {
			t.Fatalf("read %d failed: %v", skip, err)
		}
		checkAfter(t, fmt.Sprintf("read %d failed", skip), d, out)
	}
}

// TestMarkIsDurableOnceTheEpochBegins: the first frame of an epoch may be torn,
// and then the mark must say who wrote it.
func TestMarkIsDurableOnceTheEpochBegins(t *testing.T) {
	for seed := range uint64(20) {
		d, _ := newDisk(t)
		l := mustOpen(t, simOptions(d))
		must(t, l.BeginEpoch(7))
		clone := d.CrashClone(rand.New(rand.NewPCG(seed, 1)), simdisk.AnyNames)
		must(t, l.Close())
		m, err := openMark(clone, simDir+"/"+markName)
		must(t, err)
		if !m.value.valid || m.value.writer != 7 || m.value.instance != testInstance {
			t.Fatalf("seed %d: the mark is %+v", seed, m.value)
		}
		must(t, m.file.Close())
	}
}

// TestCutIsDurable: what an opening cut off does not come back.
func TestCutIsDurable(t *testing.T) {
	d, _ := newDisk(t)
	l := mustOpen(t, simOptions(d))
	must(t, l.BeginEpoch(1))
	src := newSource(33)
	commit(t, l, src.group(2, 100))
	path, end := l.active.path, l.active.end
	f, err := openFile(d, path)
	must(t, err)
	_, err = f.WriteAt([]byte("torn by a crash"), end)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
	killed := d.KillClone()
	must(t, l.Close())
	l = mustOpen(t, simOptions(killed))
	for seed := range uint64(20) {
		clone := killed.CrashClone(rand.New(rand.NewPCG(seed, 1)))
		if info, err := clone.Stat(path); err != nil || info.Size() != end {
			t.Fatalf("seed %d: %d bytes, want %d: %v", seed, info.Size(), end, err)
		}
	}
	must(t, l.Close())
}

// TestOpenSyncsBeforeItTrusts: frames that only the page cache holds after a
// kill are durable once the log is open, and may then be served.
func TestOpenSyncsBeforeItTrusts(t *testing.T) {
	d, _ := newDisk(t)
	l := mustOpen(t, simOptions(d))
	must(t, l.BeginEpoch(1))
	src := newSource(34)
	commit(t, l, src.group(1, 100))
	must(t, l.Append(src.group(1, 100)))
	killed := d.KillClone()
	must(t, l.Close())
	l = mustOpen(t, simOptions(killed))
	if l.Durable() != 2 {
		t.Fatalf("durable is %d after a kill, want 2", l.Durable())
	}
	for seed := range uint64(20) {
		after := mustOpen(t, simOptions(killed.CrashClone(rand.New(rand.NewPCG(seed, 1)))))
		if after.Durable() != 2 {
			t.Fatalf("seed %d: LSN 2 was served and is gone", seed)
		}
		must(t, after.Close())
	}
	must(t, l.Close())
}
