package lease

import (
	"context"
	"errors"
	"io"
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

func versions(t *testing.T) simdisk.Versions {
	return simdisk.Versions{
		Write: history,
		Shown: func(d *simdisk.Disk) uint64 { return load(t, d).Version },
		Next: func(d *simdisk.Disk) error {
			r := load(t, d)
			if r.Version == 0 {
				r = first()
			}
			_, err := openFile(t, d).CompareAndSet(t.Context(), r.Version, r)
			return err
		},
		Unknown: func(err error) bool { return errors.As(err, new(*OutcomeUnknownError)) },
	}
}

func TestPowerIsLostAtEveryCall(t *testing.T) { versions(t).PowerIsLostAtEveryCall(t) }
func TestEveryCallFails(t *testing.T)         { versions(t).EveryCallFails(t) }

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
		if err := versions(t).Next(d); err != nil {
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
