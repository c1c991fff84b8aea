package wal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"originchain/shared/lsn"
	"originchain/shared/simdisk"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// copied is what a follower knows when it stops.
type copied struct {
	acked lsn.LSN
	err   error
}

// copyWorkload opens the log twice and copies chunks into it, a sync after some.
func copyWorkload(o Options, chunks []Chunk) (out copied) {
	rng := rand.New(rand.NewPCG(18, 1))
	for _, until := range []int{len(chunks) / 2, len(chunks)} {
		l, err := Open(o)
		if err != nil {
			return copied{out.acked, err}
		}
		for _, c := range chunks[:until] {
			if err = l.Copy(c); err == nil && c.Last > out.acked && rng.IntN(4) == 0 {
				err = l.Sync()
				out.acked = l.Durable()
			}
			if err != nil {
				break
			}
		}
		if out.err = errors.Join(err, l.Close()); out.err != nil {
			return out
		}
	}
	return out
}

// checkCopyAfter opens what a crash left of a copy: a prefix of the leader's
// history with everything acknowledged, and copying goes on to an equal log.
func checkCopyAfter(t *testing.T, name string, d *simdisk.Disk, out copied, leader *Log) {
	t.Helper()
	l, err := Open(copyOptions(d))
	if err != nil {
		t.Fatalf("%s: open: %v", name, err)
	}
	tail := l.Tail()
	if tail.Pos.LSN < out.acked {
		t.Fatalf("%s: LSN %d left, %d was acknowledged", name, tail.Pos.LSN, out.acked)
	}
	if chain, _, err := leader.ChainAt(tail.Pos.LSN); err != nil || chain != tail.Chain {
		t.Fatalf("%s: another history at LSN %d, %v", name, tail.Pos.LSN, err)
	}
	follow(t, l, leader, 1000)
	equalLogs(t, leader, l)
	must(t, l.Close())
}

func copyOptions(d *simdisk.Disk) Options {
	o := simOptions(d)
	o.SegmentBytes = 1 << 20
	return o
}

// sweepCopies loses power, and kills, at every disk call of a follower on a disk
// that fresh makes.
func sweepCopies(t *testing.T, leader *Log, fresh func() *simdisk.Disk) {
	chunks := chunksOf(t, leader, 1, 1000)
	disk := fresh()
	made := disk.CallCount()
	must(t, copyWorkload(copyOptions(disk), chunks).err)
	calls, torn := disk.CallCount(), 0
	for n := made; n < calls; n++ {
		d := fresh()
		d.CrashAfter(n)
		out := copyWorkload(copyOptions(d), chunks)
		if !errors.Is(out.err, simdisk.ErrCrashed) {
			t.Fatalf("call %d: the crash did not show: %v", n, out.err)
		}
		for seed := range uint64(3) {
			rng := rand.New(rand.NewPCG(seed, uint64(n)))
			checkCopyAfter(t, fmt.Sprintf("power lost after call %d, seed %d", n, seed), d.CrashClone(rng), out, leader)
			checkCopyAfter(t, fmt.Sprintf("power lost after call %d, any names, seed %d", n, seed), d.CrashClone(rng, simdisk.AnyNames), out, leader)
		}
		checkCopyAfter(t, fmt.Sprintf("killed after call %d", n), d.KillClone(), out, leader)
		if out.acked < leader.Durable() {
			torn++
		}
	}
	if calls-made < 60 || torn < 20 {
		t.Errorf("the workload is too small: %d calls, %d of them with frames at risk", calls-made, torn)
	}
}

func TestCopyCrashAtEveryDiskCall(t *testing.T) {
	leader := leaderLog(t, testOptions(vfs.Default, t.TempDir()), newSource(81), 1, 3)
	sweepCopies(t, leader, func() *simdisk.Disk {
		d, _ := newDisk(t)
		return d
	})
	must(t, leader.Close())
}

// TestCopyCrashAfterOwnEpoch is a node that wrote part of the epoch it copies
// the rest of: its mark must not claim what it did not write.
func TestCopyCrashAfterOwnEpoch(t *testing.T) {
	leader := mustOpen(t, testOptions(vfs.Default, t.TempDir()))
	must(t, leader.BeginEpoch(1))
	src := newSource(82)
	for range 25 {
		commit(t, leader, src.group(2, 250))
	}
	sweepCopies(t, leader, func() *simdisk.Disk {
		d, _ := newDisk(t)
		l := mustOpen(t, simOptions(d)) // the same seeds, so the same bytes
		must(t, l.BeginEpoch(1))
		own := newSource(82)
		commit(t, l, own.group(2, 250))
		commit(t, l, own.group(2, 250))
		must(t, l.Close())
		return d
	})
	must(t, leader.Close())
}

// TestCopyFailAtEveryDiskCall fails each call once: the log stops for ever, and
// after a restart copying goes on.
func TestCopyFailAtEveryDiskCall(t *testing.T) {
	leader := leaderLog(t, testOptions(vfs.Default, t.TempDir()), newSource(83), 1, 3)
	chunks := chunksOf(t, leader, 1, 1000)
	disk, made := newDisk(t)
	must(t, copyWorkload(copyOptions(disk), chunks).err)
	for n := made + 1; n <= disk.CallCount(); n++ {
		for _, fault := range []simdisk.Fault{{From: n, Err: syscall.EIO}, {From: n, Err: syscall.ENOSPC, Ops: simdisk.OpWrite, Short: 700}} {
			d, _ := newDisk(t)
			d.Inject(fault)
			out := copyWorkload(copyOptions(d), chunks)
			if out.err == nil && fault.Ops == 0 {
				t.Fatalf("call %d failed and nobody noticed: %+v", n, d.Calls()[n-1])
			}
			rng := rand.New(rand.NewPCG(6, uint64(n)))
			name := fmt.Sprintf("%v at call %d", fault.Err, n)
			checkCopyAfter(t, name+", then power lost", d.CrashClone(rng), out, leader)
			checkCopyAfter(t, name+", then killed", d.KillClone(), out, leader)
		}
	}
	must(t, leader.Close())
}

func TestCopyFailStop(t *testing.T) {
	leader := leaderLog(t, testOptions(vfs.Default, t.TempDir()), newSource(84), 1)
	chunks := chunksOf(t, leader, 1, 1000)
	for _, op := range []simdisk.Op{simdisk.OpWrite, simdisk.OpSync} {
		d, _ := newDisk(t)
		l := mustOpen(t, copyOptions(d))
		must(t, l.Copy(chunks[0]))
		d.Inject(simdisk.Fault{Ops: op, Err: syscall.EIO})
		err := l.Copy(chunks[1])
		if err == nil {
			err = l.Sync()
		}
		if !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
			t.Fatalf("%s: %v", op, err)
		}
		calls := d.CallCount()
		if again := l.Copy(chunks[1]); again == nil || again.Error() != err.Error() || d.CallCount() != calls {
			t.Errorf("%s failed, then copy: %v", op, again)
		}
		if err := l.Close(); !errors.Is(err, ErrFailed) {
			t.Error(err)
		}
	}
	must(t, leader.Close())
}
