package registry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

const crashes = 12

// A document is the old one or the new one after a loss of power at any call, and the
// new one once it was acknowledged.
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
	seen := map[string]int{}
	for n, c := range cuts {
		for seed := range uint64(crashes) {
			var options []simdisk.CrashOption
			if seed%2 == 1 {
				options = append(options, simdisk.AnyNames)
			}
			got := version(t, c.disk.CrashClone(rand.New(rand.NewPCG(seed, uint64(n))), options...))
			if got < c.acked || got > c.acked+1 {
				t.Fatalf("cut %d, seed %d: version %d, acknowledged was %d", n+1, seed, got, c.acked)
			}
			seen[fmt.Sprint(got-c.acked)]++
		}
	}
	if len(cuts) < 20 || seen["0"] < 10 || seen["1"] < 10 {
		t.Errorf("%d cuts ended old (0) or new (1) as %v: both must be common", len(cuts), seen)
	}
}

// What a failed call returned is true after a crash, and what was shown stays.
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
			if d.Armed() != 0 || err == nil {
				t.Fatalf("call %d (%s %s) failed and nobody noticed", n+1, call.Op, call.Path)
			}
			var maybe *OutcomeUnknownError
			most := acked
			if errors.As(err, &maybe) {
				most++
				unknown++
			}
			shown := version(t, d)
			after := version(t, d.CrashClone(rand.New(rand.NewPCG(seed, uint64(n))), simdisk.AnyNames))
			if shown < acked || shown > most || after != shown {
				t.Fatalf("call %d (%s), seed %d: version %d was shown and %d is there after a crash; acknowledged was %d, possible %d", n+1, call.Op, seed, shown, after, acked, most)
			}
		}
	}
	if unknown == 0 {
		t.Error("no outcome was ever unknown")
	}
}

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
