package simdisk

import (
	"context"
	"math/rand/v2"
	"syscall"
)

// Test is what of a testing.T is needed.
type Test interface {
	Helper()
	Context() context.Context
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Versions is a store on a disk that keeps one document, whose versions count from 1: what
// it must keep to whatever happens to the disk.
type Versions struct {
	// Write opens the store and writes some versions, one after the other, and tells of each
	// that is acknowledged.
	Write func(ctx context.Context, d *Disk, acked func(version uint64)) error
	// Shown opens the store and gives the version that it shows, 0 for none; Next writes
	// the one after that.
	Shown func(d *Disk) uint64
	Next  func(d *Disk) error
	// Unknown says of an error of Write that nobody knows whether the version was written.
	Unknown func(error) bool
}

// crashes is how many crashes follow each call.
const crashes = 12

// PowerIsLostAtEveryCall checks that the document is the old one or the new one, and the
// new one once it was acknowledged; and it can be changed again.
func (v Versions) PowerIsLostAtEveryCall(t Test) {
	t.Helper()
	type cut struct {
		disk  *Disk
		acked uint64
	}
	var cuts []cut
	var acked uint64
	d := New()
	d.OnCall(func(_ int, _ Call, freeze func() *Disk) { cuts = append(cuts, cut{freeze(), acked}) })
	if err := v.Write(t.Context(), d, func(version uint64) { acked = version }); err != nil {
		t.Fatalf("%v", err)
	}
	d.OnCall(nil)
	cuts = append(cuts, cut{d, acked})
	var kept, fresh int
	for n, c := range cuts {
		for seed := range uint64(crashes) {
			var options []CrashOption
			if seed%2 == 1 {
				options = append(options, AnyNames)
			}
			after := c.disk.CrashClone(rand.New(rand.NewPCG(seed, uint64(n))), options...)
			switch got := v.Shown(after); got {
			case c.acked:
				kept++
			case c.acked + 1:
				fresh++
			default:
				t.Fatalf("cut %d, seed %d: version %d, acknowledged was %d", n+1, seed, got, c.acked)
			}
			if err := v.Next(after); err != nil {
				t.Fatalf("cut %d, seed %d: %v", n+1, seed, err)
			}
		}
	}
	if len(cuts) < 20 || kept < 10 || fresh < 10 {
		t.Errorf("of %d cuts %d ended with the old one and %d with the new one: both must be common", len(cuts), kept, fresh)
	}
}

// EveryCallFails checks that what a failed call returned is true after a crash, however
// often another process looked in between; and what was shown stays.
func (v Versions) EveryCallFails(t Test) {
	t.Helper()
	probe := New()
	if err := v.Write(t.Context(), probe, func(uint64) {}); err != nil {
		t.Fatalf("%v", err)
	}
	unknown := 0
	for n, call := range probe.Calls() {
		for seed := range uint64(crashes) {
			d := New()
			d.FailAt(n+1, syscall.EIO)
			var acked uint64
			err := v.Write(t.Context(), d, func(version uint64) { acked = version })
			if d.Armed() != 0 {
				t.Fatalf("call %d (%s): the fault never fired", n+1, call.Op)
			}
			if err == nil {
				t.Fatalf("call %d (%s %s) failed and nobody noticed", n+1, call.Op, call.Path)
			}
			most := acked
			if v.Unknown(err) {
				most++
				unknown++
			}
			shown := v.Shown(d)
			after := v.Shown(d.CrashClone(rand.New(rand.NewPCG(seed, uint64(n))), AnyNames))
			if shown < acked || shown > most || after != shown {
				t.Fatalf("call %d (%s), seed %d: version %d was shown and %d is there after a crash; acknowledged was %d, possible %d",
					n+1, call.Op, seed, shown, after, acked, most)
			}
		}
	}
	if unknown == 0 {
		t.Errorf("no outcome was ever unknown")
	}
}
