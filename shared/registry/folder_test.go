package registry

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"testing"

	"originchain/shared/fault"
	"originchain/shared/simdisk"
)

const dir = "/srv/control/registry"

func openFolder(t *testing.T, d *simdisk.Disk) *Folder {
	t.Helper()
	f, err := OpenFolder(d, dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func version(t *testing.T, d *simdisk.Disk) uint64 {
	t.Helper()
	got, err := openFolder(t, d).Load(t.Context(), "nodes/a")
	if err != nil {
		t.Fatal(err)
	}
	if want := ""; got.Version > 0 {
		want = strings.Repeat("x", int(got.Version))
		if string(got.Body) != want {
			t.Fatalf("version %d is %q", got.Version, got.Body)
		}
	}
	return got.Version
}

// history saves three versions of a document, after another one.
func history(ctx context.Context, d *simdisk.Disk, acked func(uint64)) error {
	f, err := OpenFolder(d, dir)
	if err != nil {
		return err
	}
	if _, err := f.Save(ctx, "nodes/b", 0, []byte("b")); err != nil {
		return err
	}
	for v := range uint64(3) {
		if _, err := f.Save(ctx, "nodes/a", v, []byte(strings.Repeat("x", int(v)+1))); err != nil {
			return err
		}
		acked(v + 1)
	}
	return nil
}

func versions(t *testing.T) simdisk.Versions {
	return simdisk.Versions{
		Write: history,
		Shown: func(d *simdisk.Disk) uint64 { return version(t, d) },
		Next: func(d *simdisk.Disk) error {
			_, err := openFolder(t, d).Save(t.Context(), "nodes/a", version(t, d), nil)
			return err
		},
		Unknown: func(err error) bool { return errors.As(err, new(*OutcomeUnknownError)) },
	}
}

func TestPowerIsLostAtEveryCall(t *testing.T) { versions(t).PowerIsLostAtEveryCall(t) }
func TestEveryCallFails(t *testing.T)         { versions(t).EveryCallFails(t) }

// The registry ends with a failed fsync, and its directory can be opened again.
func TestAFailedSyncIsNotRetried(t *testing.T) {
	for _, op := range []simdisk.Op{simdisk.OpSync, simdisk.OpSyncDir} {
		d := simdisk.New()
		f := openFolder(t, d)
		d.Inject(simdisk.Fault{From: d.CallCount() + 1, Ops: op, Err: syscall.EIO})
		if _, err := f.Save(t.Context(), "k", 0, nil); err == nil {
			t.Fatalf("%s: no error", op)
		}
		d.Heal()
		if _, err := f.Load(t.Context(), "k"); !errors.Is(err, ErrFailed) {
			t.Errorf("%s: then %v", op, err)
		}
		if _, err := openFolder(t, d).Load(t.Context(), "k"); err != nil {
			t.Errorf("%s: opened again: %v", op, err)
		}
	}
}

// A flipped bit anywhere in a file is damage, and names the file.
func TestDamageIsTold(t *testing.T) {
	d := simdisk.New()
	if _, err := openFolder(t, d).Save(t.Context(), "nodes/a", 0, []byte("body")); err != nil {
		t.Fatal(err)
	}
	name := dir + "/nodes%2Fa.doc"
	text, err := d.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	for off := range text {
		if err := d.FlipBit(name, int64(off)); err != nil {
			t.Fatal(err)
		}
		_, err := openFolder(t, d).Load(t.Context(), "nodes/a")
		var damaged *fault.Corruption
		if newer := err != nil && strings.Contains(err.Error(), "newer"); !newer && (!errors.As(err, &damaged) || damaged.File != name) {
			t.Errorf("byte %d of %q: %v", off, text, err)
		}
		if err := d.FlipBit(name, int64(off)); err != nil {
			t.Fatal(err)
		}
	}
}
