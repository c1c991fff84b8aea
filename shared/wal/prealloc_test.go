package wal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"originchain/shared/simdisk"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// await waits on the preallocator's own condition until ok, which it calls with
// mu held.
func (p *preallocator) await(ok func() bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !ok() {
		p.cond.Wait()
	}
}

// idle reports that no step runs and none is due. The caller holds mu.
func (p *preallocator) idle() bool { return !p.stepping && !p.due() }

func startTest(t *testing.T, d *simdisk.Disk, limit int64) *preallocator {
	t.Helper()
	return startPreallocator(d, "/"+nextName, limit, func(err error) { t.Errorf("preallocation: %v", err) })
}

func TestPreallocatorKeepsAheadOfTheAppender(t *testing.T) {
	d := simdisk.New()
	const limit = zeroAhead + 3*zeroStep + 100
	p := startTest(t, d, limit)
	p.await(p.idle)
	if p.file != nil {
		t.Fatal("zeroed before it was asked")
	}
	p.start()
	p.await(p.idle)
	if p.zeroed != zeroAhead {
		t.Fatalf("%d bytes zeroed with nothing appended, want %d", p.zeroed, zeroAhead)
	}
	p.appended(zeroStep - 1)
	p.await(p.idle)
	if p.zeroed != zeroAhead {
		t.Fatal("a step before a whole step was appended")
	}
	// A commit that never ends must not starve it.
	p.commit(true)
	for i := int64(1); i <= 6; i++ {
		p.appended(zeroStep)
		p.await(p.idle)
		if want := min(limit, zeroAhead+i*zeroStep); p.zeroed != want {
			t.Fatalf("%d bytes zeroed after %d steps appended, want %d", p.zeroed, i, want)
		}
	}
	f, err := p.take()
	must(t, err)
	info, err := f.Stat()
	must(t, err)
	if info.Size() != limit {
		t.Fatalf("the file is %d bytes, want %d", info.Size(), limit)
	}
	must(t, f.Close())
	must(t, p.close())
}

func TestPreallocatorYieldsToACommit(t *testing.T) {
	p := startTest(t, simdisk.New(), 64<<20)
	p.commit(true)
	p.start()
	p.await(p.idle)
	if p.file != nil {
		t.Fatal("a step began while a commit waited")
	}
	p.commit(false)
	p.await(func() bool { return p.zeroed == zeroAhead })
	must(t, p.close())
}

func TestPreallocatorLeavesNothingBehind(t *testing.T) {
	d := simdisk.New()
	p := startTest(t, d, 64<<20)
	p.start()
	p.await(func() bool { return p.zeroed > 0 })
	must(t, p.close())
	if names, err := d.List("/"); err != nil || len(names) != 0 {
		t.Fatalf("left %v, %v", names, err)
	}
}

// TestPreallocatorFailureStopsTheLog: a file whose fsync failed once looks
// clean to the next one, so it must not become a segment.
func TestPreallocatorFailureStopsTheLog(t *testing.T) {
	d, _ := newDisk(t)
	o := simOptions(d)
	o.NoPreallocate = false
	l := mustOpen(t, o)
	must(t, l.BeginEpoch(1))
	d.Inject(simdisk.Fault{Ops: simdisk.OpSync, Path: nextName, Skip: 1, Err: syscall.EIO}) // the first is the header's
	src := newSource(41)
	must(t, l.Append(src.group(1, 50)))
	l.next.await(func() bool { return l.next.err != nil })
	if _, err := l.next.take(); !errors.Is(err, syscall.EIO) {
		t.Errorf("the failed file is handed over: %v", err)
	}
	if err := l.Sync(); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
		t.Errorf("sync: %v", err)
	}
	if err := l.Close(); !errors.Is(err, ErrFailed) {
		t.Errorf("close: %v", err)
	}
}

// TestCrashWithPreallocation is the crash sweep with the goroutine running: the
// order of calls then varies, what must hold does not.
func TestCrashWithPreallocation(t *testing.T) {
	options := func(d *simdisk.Disk) Options {
		o := simOptions(d)
		o.NoPreallocate = false
		return o
	}
	disk, made := newDisk(t)
	must(t, workload(options(disk)).err)
	for n := made; n < disk.CallCount(); n += 3 {
		d, _ := newDisk(t)
		d.CrashAfter(n)
		out := workload(options(d))
		rng := rand.New(rand.NewPCG(9, uint64(n)))
		checkAfter(t, fmt.Sprintf("power lost after call %d", n), d.CrashClone(rng, simdisk.AnyNames), out)
	}
}

// TestSegmentsAreZeroedAhead checks on a real log what the preallocator is for:
// no segment but the last carries zeros, and appends land in written space.
func TestSegmentsAreZeroedAhead(t *testing.T) {
	dir := t.TempDir()
	o := testOptions(vfs.Default, dir)
	o.NoPreallocate, o.SegmentBytes = false, 2<<20
	l := mustOpen(t, o)
	must(t, l.BeginEpoch(1))
	src := newSource(42)
	for range 12 {
		commit(t, l, src.group(2, 150_000))
		l.next.await(l.next.idle)
		if len(l.Segments()) == 1 {
			continue
		}
		info, err := l.active.file.Stat()
		must(t, err)
		if info.Size() < o.SegmentBytes {
			t.Fatalf("segment %s was not zeroed ahead: %d bytes", l.active.path, info.Size())
		}
	}
	if len(l.Segments()) < 3 {
		t.Fatalf("%d segments", len(l.Segments()))
	}
	must(t, l.Close())
	l = mustOpen(t, o)
	expect(t, l, src.frames)
	must(t, l.Close())
}
