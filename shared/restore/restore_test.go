package restore

import (
	"context"
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"originchain/shared/datadir"
	"originchain/shared/lsn"
	"originchain/shared/simdisk"
)

var points = flag.Int("points", 12, "how many LSNs and how many moments of each line are restored to")

// sameState says that a restore gave the state that a line had after a frame.
func sameState(t testing.TB, h history, want lsn.LSN, got *Result) {
	t.Helper()
	x := h.at(want)
	if got.LSN != want || got.Epoch != x.Pos.Epoch || got.Digest != x.Digest || !got.Verified || got.Timestamp.UnixMicro() != x.Stamp {
		t.Fatalf("restored %+v, the line had %+v", got, x)
	}
}

// TestEveryPointOfEveryLineIsRestored: to random LSNs and moments of three lines and of
// a copy that went on, the digest is the one that the line had there.
func TestEveryPointOfEveryLineIsRestored(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := record(t, 60)
		w.lines[5] = w.goOn(t, 2, w.lines[2].last()-20, 5)
		rng := rand.New(rand.NewPCG(1, 2))
		for epoch, h := range w.lines {
			for range *points {
				at := 1 + lsn.LSN(rng.Int64N(int64(h.last())))
				got, err := Run(t.Context(), options(w.store, simdisk.New(), Request{Epoch: epoch, LSN: at}))
				must(t, err)
				sameState(t, h, at, got)

				first, last := h.at(1).Stamp, h.at(h.last()).Stamp
				stamp := first + rng.Int64N(last-first+1)
				got, err = Run(t.Context(), options(w.store, simdisk.New(), Request{Epoch: epoch, Time: time.UnixMicro(stamp)}))
				must(t, err)
				// Every commit stamped at or before it, and none later.
				sameState(t, h, h.stamped(stamp), got)
			}
		}
		got, err := Run(t.Context(), options(w.store, simdisk.New(), Request{Latest: true}))
		must(t, err)
		sameState(t, w.lines[5], w.lines[5].last(), got)
	})
}

// goOn restores to a point of a line, accepts the copy and lets it write and ship.
func (w *workload) goOn(t testing.TB, line lsn.Epoch, at lsn.LSN, epoch lsn.Epoch) history {
	t.Helper()
	disk := simdisk.New()
	got, err := Run(t.Context(), options(w.store, disk, Request{Epoch: line, LSN: at}))
	must(t, err)
	sameState(t, w.lines[line], at, got)
	took, err := Accept(t.Context(), Acceptance{FS: disk, DataDir: "/restored", Archive: w.store, Ends: 3})
	must(t, err)
	if took.Ends != 3 || took.Epoch != 4 {
		t.Fatalf("accepted with %+v", took)
	}
	n := begin(t, disk, w.store, "/restored", epoch, w.lines[line][:at], straight)
	if e := n.e.Identity(); e.InstanceID != got.Instance || e.NodeID != "node-r" || e.ParentID != nil {
		t.Fatalf("the accepted copy is %+v", e)
	}
	n.write(30)
	n.checkpoint()
	n.write(20)
	n.end()
	return n.lived
}

// TestARestoredDirectoryAlone: without archive and lease store it is a new instance.
func TestARestoredDirectoryAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := record(t, 20)
		disk := simdisk.New()
		got, err := Run(t.Context(), options(w.store, disk, Request{Latest: true}))
		must(t, err)
		for range 2 {
			dir, err := datadir.OpenExisting(disk, "/restored")
			must(t, err)
			r, err := dir.Restored()
			must(t, err)
			if r.Base.LSN != got.LSN || r.Base.Digest != got.Digest || r.Instance != got.Instance {
				t.Fatalf("the directory says %+v, restored was %+v", r, got)
			}
			must(t, dir.Close())
			openAlone(t, disk, got)
		}
	})
}

func openAlone(t testing.TB, disk *simdisk.Disk, got *Result) {
	t.Helper()
	e := openEngine(t, disk, false)
	id := e.Identity()
	if id.InstanceID == got.Instance || id.ParentID == nil || *id.ParentID != got.Instance {
		t.Fatalf("opened alone it is %+v", id)
	}
	if e.Epoch() <= 3 || e.Visible().LSN < got.LSN+1 {
		t.Fatalf("it goes on with %v, after LSN %d and epochs up to 3", e.Visible(), got.LSN)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	must(t, e.Run(ctx))
	must(t, e.Close())
}
