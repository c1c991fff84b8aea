package pitr

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"originchain/shared/datadir"
	"originchain/shared/object"
	"originchain/shared/objecttest"
	"originchain/shared/restore"
	"originchain/shared/simdisk"
)

// TestARestoreKilledAnywhereGoesOn: the power fails at calls of a whole restore to the
// disk, and what the next boot finds goes on with the same arguments. It gives the
// same state; before that no server opens what is there.
func TestARestoreKilledAnywhereGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Record(t, object.NewMemory("archive"), 20)
		h := w.Lines[2]
		for _, req := range []restore.Request{{Epoch: 2, LSN: h.Last() - 3}, {Epoch: 1, LSN: w.Checkpoints[1][0] - 2}, {Epoch: 2, LSN: w.Checkpoints[2][0]}} {
			disk := simdisk.New()
			rng := rand.New(rand.NewPCG(7, uint64(req.LSN)))
			var crashed []*simdisk.Disk
			disk.OnCall(func(_ int, _ simdisk.Call, freeze func() *simdisk.Disk) {
				if rng.IntN(2) == 0 {
					crashed = append(crashed, freeze().CrashClone(rng))
				}
			})
			got, err := restore.Run(t.Context(), options(w.Store, disk, req))
			must(t, err)
			disk.OnCall(nil)
			sameState(t, h, req.LSN, got)
			if len(crashed) < 20 {
				t.Fatalf("only %d crashes", len(crashed))
			}
			for i, c := range crashed {
				resumes(t, w, fmt.Sprintf("crash %d to LSN %d", i, req.LSN), c, req)
			}
		}
	})
}

// resumes runs a restore again on what a kill left.
func resumes(t testing.TB, w *Workload, what string, disk *simdisk.Disk, req restore.Request) {
	t.Helper()
	whole := false
	if d, err := datadir.OpenExisting(disk, "/restored"); err == nil {
		whole = true
		must(t, d.Close())
	}
	got, err := restore.Run(t.Context(), options(w.Store, disk, req))
	var notEmpty *restore.NotEmptyError
	switch {
	case whole && errors.As(err, &notEmpty): // it had come to its very end
	case err != nil:
		t.Fatalf("%s: %v", what, err)
	default:
		sameState(t, w.Lines[req.Epoch], req.LSN, got)
	}
	e := openEngine(t, disk, false)
	at := e.Boot()
	if want := w.Lines[req.Epoch].At(req.LSN).Pos; at != want {
		t.Fatalf("%s: the directory opens at %v, want %v", what, at, want)
	}
	must(t, e.Close())
	if names, err := disk.List("/restored.restoring"); err == nil && !whole {
		t.Fatalf("%s: %v were left", what, names)
	}
}

// TestAStoreThatFailsAtEveryCall: a restore whose store ends it at each call in turn is
// run again on the same disk.
func TestAStoreThatFailsAtEveryCall(t *testing.T) {
	bubble(t, func(t *testing.T) {
		memory := object.NewMemory("archive")
		w := Record(t, memory, 20)
		h := w.Lines[2]
		req := restore.Request{Epoch: 2, Latest: true}
		for at := 1; ; at++ {
			disk, store := simdisk.New(), objecttest.NewFaulty(memory, 1)
			var calls atomic.Int64
			store.SetHook(objecttest.Hook{Before: func(context.Context, objecttest.Call) error {
				if calls.Add(1) == int64(at) {
					return object.ErrDenied
				}
				return nil
			}})
			_, err := restore.Run(t.Context(), options(store, disk, req))
			if err == nil {
				if at < 15 {
					t.Fatalf("only %d calls", at)
				}
				return
			}
			if !errors.Is(err, object.ErrDenied) {
				t.Fatalf("call %d denied: %v", at, err)
			}
			if _, err := disk.Stat("/restored"); err == nil {
				t.Fatalf("call %d denied: a directory is there", at)
			}
			got, err := restore.Run(t.Context(), options(store, disk, req))
			must(t, err)
			sameState(t, h, h.Last(), got)
		}
	})
}

// TestAStoreInABadHour: every kind of passing fault is met, and the restore is exact.
func TestAStoreInABadHour(t *testing.T) {
	faults := map[objecttest.Fault]float64{objecttest.Internal: 0.08, objecttest.SlowDown: 0.08, objecttest.WrongByte: 0.08, objecttest.Truncated: 0.08}
	met := map[objecttest.Fault]int{}
	bubble(t, func(t *testing.T) {
		memory := object.NewMemory("archive")
		w := Record(t, memory, 30)
		for seed := range uint64(12) {
			store := objecttest.NewFaulty(memory, seed)
			store.SetRates(faults)
			h := w.Lines[3]
			disk := simdisk.New()
			got, err := restore.Run(t.Context(), options(store, disk, restore.Request{Latest: true}))
			for try := 0; err != nil && try < 20; try++ { // as an operator would
				got, err = restore.Run(t.Context(), options(store, disk, restore.Request{Latest: true}))
			}
			must(t, err)
			sameState(t, h, h.Last(), got)
			for f := range faults {
				met[f] += store.Met(f)
			}
		}
	})
	for f := range faults {
		if met[f] == 0 {
			t.Errorf("no call met %s: nothing was tested", f)
		}
	}
}

// TestADiskThatIsFull: a restore that finds no space says so, leaves no directory, and
// goes on when there is space.
func TestADiskThatIsFull(t *testing.T) {
	var w *Workload
	bubble(t, func(t *testing.T) { w = Record(t, object.NewMemory("archive"), 20) })
	// Not in a bubble: Pebble leaves goroutines behind when its disk fails, as a process
	// does that is about to end.
	h := w.Lines[3]
	full := 0
	for budget := int64(1 << 10); ; budget = budget * 3 / 2 {
		disk := simdisk.New()
		disk.SetBudget(budget)
		_, err := restore.Run(t.Context(), options(w.Store, disk, restore.Request{Latest: true}))
		if err == nil {
			break
		}
		full++
		if !restore.NoSpace(err) {
			t.Fatalf("with %d bytes: %v", budget, err)
		}
		if _, err := disk.Stat("/restored"); err == nil {
			t.Fatalf("with %d bytes: a directory is there", budget)
		}
		again := disk.KillClone()
		again.SetBudget(math.MaxInt64)
		got, err := restore.Run(t.Context(), options(w.Store, again, restore.Request{Latest: true}))
		must(t, err)
		sameState(t, h, h.Last(), got)
	}
	if full < 3 {
		t.Fatalf("the disk was full %d times", full)
	}
}

// TestACopyThatIsKilledWhileItBecomesAnInstance: the power fails at calls of its first
// opening; the next one finds a whole state and an identity, and never its parent's
// history under two ids.
func TestACopyThatIsKilledWhileItBecomesAnInstance(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Record(t, object.NewMemory("archive"), 15)
		disk := simdisk.New()
		got, err := restore.Run(t.Context(), options(w.Store, disk, restore.Request{Latest: true}))
		must(t, err)
		rng := rand.New(rand.NewPCG(11, 1))
		var crashed []*simdisk.Disk
		disk.OnCall(func(_ int, _ simdisk.Call, freeze func() *simdisk.Disk) {
			crashed = append(crashed, freeze().CrashClone(rng))
		})
		must(t, openEngine(t, disk, false).Close())
		disk.OnCall(nil)
		if len(crashed) < 10 {
			t.Fatalf("only %d crashes", len(crashed))
		}
		for i, c := range crashed {
			for range 2 {
				e := openEngine(t, c, false)
				id := e.Identity()
				if e.Boot().LSN < got.LSN || id.InstanceID == got.Instance || id.ParentID == nil || *id.ParentID != got.Instance {
					t.Fatalf("crash %d: it opens as %+v at %v", i, id, e.Boot())
				}
				must(t, e.Close())
			}
		}
	})
}
