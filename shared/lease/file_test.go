package lease

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/fault"
	"originchain/shared/simdisk"
)

const dir = "/srv/control/lease"

func openFile(t *testing.T, d *simdisk.Disk) *File {
	t.Helper()
	f, err := OpenFile(d, dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func load(t *testing.T, d *simdisk.Disk) Record {
	t.Helper()
	r, _, err := openFile(t, d).Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// history stores three versions of a record and returns the last that was
// acknowledged.
func history(ctx context.Context, d *simdisk.Disk, acked func(version uint64)) error {
	f, err := OpenFile(d, dir)
	if err != nil {
		return err
	}
	r := first()
	for range 3 {
		r, err = f.CompareAndSet(ctx, r.Version, r)
		if err != nil {
			return err
		}
		acked(r.Version)
	}
	return nil
}

func first() Record {
	return Record{Instance: instance, Epoch: 1, Holder: "a", URL: "http://a", Line: []Opening{{Epoch: 1, FirstLSN: 1}}}
}

const crashes = 12

// TestPowerIsLostAtEveryCall: the record is the old one or the new one, and the
// new one once it was acknowledged; and it can be changed again.
func TestPowerIsLostAtEveryCall(t *testing.T) {
	type cut struct {
		disk  *simdisk.Disk
		acked uint64
	}
	var cuts []cut
	var acked uint64
	d := simdisk.New()
	d.OnCall(func(_ int, _ simdisk.Call, freeze func() *simdisk.Disk) { cuts = append(cuts, cut{freeze(), acked}) })
	if err := history(t.Context(), d, func(v uint64) { acked = v }); err != nil {
		t.Fatal(err)
	}
	d.OnCall(nil)
	cuts = append(cuts, cut{d, acked})
	seen := make(map[string]int)
	for n, c := range cuts {
		for seed := range uint64(crashes) {
			var options []simdisk.CrashOption
			if seed%2 == 1 {
				options = append(options, simdisk.AnyNames)
			}
			after := c.disk.CrashClone(rand.New(rand.NewPCG(seed, uint64(n))), options...)
			r := load(t, after)
			if r.Version < c.acked || r.Version > c.acked+1 {
				t.Fatalf("cut %d, seed %d: version %d, acknowledged was %d", n+1, seed, r.Version, c.acked)
			}
			seen[fmt.Sprint(r.Version-c.acked)]++
			if r.Version == 0 {
				r = first()
			}
			if _, err := openFile(t, after).CompareAndSet(t.Context(), r.Version, r); err != nil {
				t.Fatalf("cut %d, seed %d: %v", n+1, seed, err)
			}
		}
	}
	if len(cuts) < 20 || seen["0"] < 10 || seen["1"] < 10 {
		t.Errorf("%d cuts ended old (0) or new (1) as %v: both must be common", len(cuts), seen)
	}
}

// TestEveryCallFails: what a failed call returned is true after a crash, however
// often another process looked in between; and a record that was shown stays.
func TestEveryCallFails(t *testing.T) {
	probe := simdisk.New()
	if err := history(t.Context(), probe, func(uint64) {}); err != nil {
		t.Fatal(err)
	}
	unknown := 0
	for n, call := range probe.Calls() {
		for seed := range uint64(crashes) {
			d := simdisk.New()
			d.FailAt(n+1, syscall.EIO)
			var acked uint64
			err := history(t.Context(), d, func(v uint64) { acked = v })
			if d.Armed() != 0 {
				t.Fatalf("call %d (%s): the fault never fired", n+1, call.Op)
			}
			if err == nil {
				t.Fatalf("call %d (%s %s) failed and nobody noticed", n+1, call.Op, call.Path)
			}
			var maybe *OutcomeUnknownError
			most := acked
			if errors.As(err, &maybe) {
				most++
				unknown++
			}
			shown := load(t, d).Version
			after := load(t, d.CrashClone(rand.New(rand.NewPCG(seed, uint64(n))), simdisk.AnyNames)).Version
			if shown < acked || shown > most || after != shown {
				t.Fatalf("call %d (%s), seed %d: version %d was shown and %d is there after a crash; acknowledged was %d, possible %d",
					n+1, call.Op, seed, shown, after, acked, most)
			}
		}
	}
	if unknown == 0 {
		t.Error("no outcome was ever unknown")
	}
}

// TestAFailedSyncIsNotRetried: the store ends with it, for reads too, and its
// directory can be opened again.
func TestAFailedSyncIsNotRetried(t *testing.T) {
	for _, op := range []simdisk.Op{simdisk.OpSync, simdisk.OpSyncDir} {
		d := simdisk.New()
		f := openFile(t, d)
		d.Inject(simdisk.Fault{Ops: op, Err: syscall.EIO})
		if _, err := f.CompareAndSet(t.Context(), 0, first()); !errors.Is(err, syscall.EIO) {
			t.Fatalf("%s: got %v", op, err)
		}
		before := d.CallCount()
		if _, err := f.CompareAndSet(t.Context(), 0, first()); !errors.Is(err, ErrFailed) {
			t.Errorf("%s: a second write got %v", op, err)
		}
		if _, _, err := f.Load(t.Context()); !errors.Is(err, ErrFailed) {
			t.Errorf("%s: a read got %v", op, err)
		}
		if calls := d.Calls()[before:]; len(calls) > 0 {
			t.Errorf("%s: a failed store went on to %v", op, calls)
		}
		r := load(t, d)
		if r.Version == 0 {
			r = first()
		}
		if _, err := openFile(t, d).CompareAndSet(t.Context(), r.Version, r); err != nil {
			t.Errorf("%s: reopened: %v", op, err)
		}
	}
}

// TestARecordThatCannotBeMadeDurable: a record left by another process
// cannot be made durable, which says nothing of the write that was to come.
func TestARecordThatCannotBeMadeDurable(t *testing.T) {
	d := simdisk.New()
	if err := history(t.Context(), d, func(uint64) {}); err != nil {
		t.Fatal(err)
	}
	f := openFile(t, d)
	d.Inject(simdisk.Fault{Ops: simdisk.OpSyncDir, Err: syscall.EIO})
	_, err := f.CompareAndSet(t.Context(), 3, first())
	var unknown *OutcomeUnknownError
	if !errors.Is(err, syscall.EIO) || errors.As(err, &unknown) {
		t.Errorf("got %v", err)
	}
}

// TestADiskThatRefusesTheLockIsNotWaitedFor: nobody holds it.
func TestADiskThatRefusesTheLockIsNotWaitedFor(t *testing.T) {
	d := simdisk.New()
	f := openFile(t, d)
	d.Inject(simdisk.Fault{Ops: simdisk.OpCreate, Path: lockFile, Forever: true, Err: syscall.EROFS})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, _, err := f.Load(ctx); !errors.Is(err, syscall.EROFS) || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestAFullDiskLosesNothing(t *testing.T) {
	d := simdisk.New()
	f := openFile(t, d)
	want, err := f.CompareAndSet(t.Context(), 0, first())
	if err != nil {
		t.Fatal(err)
	}
	d.SetBudget(d.Used() + 10)
	if _, err := f.CompareAndSet(t.Context(), 1, want); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	d.SetBudget(1 << 20)
	got, _, err := f.Load(t.Context())
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Fatalf("%v (-want +got):\n%s", err, diff)
	}
	if _, err := f.CompareAndSet(t.Context(), 1, want); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

func TestAHalfWrittenTemporaryIsIgnored(t *testing.T) {
	d := simdisk.New()
	if err := history(t.Context(), d, func(uint64) {}); err != nil {
		t.Fatal(err)
	}
	write(t, d, temporaryFile, `{"format":1,"inst`)
	r := load(t, d)
	if r.Version != 3 {
		t.Fatalf("version %d", r.Version)
	}
	if _, err := openFile(t, d).CompareAndSet(t.Context(), 3, r); err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, d *simdisk.Disk, name, text string) {
	t.Helper()
	f, err := d.Create(dir+"/"+name, "")
	if err == nil {
		_, err = io.WriteString(f, text)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestDamageIsNamed(t *testing.T) {
	valid, err := func() ([]byte, error) { r := first(); r.Version = 1; return r.Encode() }()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"empty":     "",
		"torn":      string(valid[:len(valid)/2]),
		"two":       string(valid) + string(valid),
		"invalid":   strings.Replace(string(valid), `"holder":"a"`, `"holder":""`, 1),
		"formatted": strings.Replace(string(valid), `"format":1`, `"format":0`, 1),
		"huge":      string(valid) + strings.Repeat(" ", MaxRecordBytes),
	} {
		d := simdisk.New()
		f := openFile(t, d)
		write(t, d, recordFile, text)
		_, ok, err := f.Load(t.Context())
		var damage *fault.Corruption
		if !errors.As(err, &damage) || damage.File != dir+"/"+recordFile || ok {
			t.Errorf("%s: load got %v", name, err)
		}
		if _, err := f.CompareAndSet(t.Context(), 0, first()); !errors.As(err, &damage) {
			t.Errorf("%s: a damaged record is not 'no record'; got %v", name, err)
		}
	}
}

func TestALockThatIsHeldIsWaitedForUntilTheContextEnds(t *testing.T) {
	d := simdisk.New()
	f := openFile(t, d)
	lock, err := d.Lock(dir + "/" + lockFile)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Millisecond)
	defer cancel()
	if _, err := f.CompareAndSet(ctx, 0, first()); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, syscall.EAGAIN) {
		t.Fatalf("got %v", err)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.CompareAndSet(t.Context(), 0, first()); err != nil {
		t.Fatal(err)
	}
}
