package pitr

import (
	"context"
	"errors"
	"flag"
	"math/rand/v2"
	"testing"
	"time"

	"originchain/shared/archive"
	"originchain/shared/datadir"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/objecttest"
	"originchain/shared/restore"
	"originchain/shared/simdisk"
)

var points = flag.Int("points", 12, "how many LSNs and how many moments of each line are restored to")

// sameState says that a restore gave the state that a line had after a frame.
func sameState(t testing.TB, h History, want lsn.LSN, got *restore.Result) {
	t.Helper()
	x := h.At(want)
	if got.LSN != want || got.Epoch != x.Pos.Epoch || got.Digest != x.Digest || !got.Verified || got.Timestamp.UnixMicro() != x.Stamp {
		t.Fatalf("restored %+v, the line had %+v", got, x)
	}
}

// TestEveryPointOfEveryLineIsRestored: to random LSNs and moments of three lines and of
// a copy that went on, the digest is the one that the line had there.
func TestEveryPointOfEveryLineIsRestored(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Record(t, object.NewMemory("archive"), 60)
		w.Lines[5] = goOn(t, w, 2, w.Lines[2].Last()-20, 5)
		rng := rand.New(rand.NewPCG(1, 2))
		for epoch, h := range w.Lines {
			for range *points {
				at := 1 + lsn.LSN(rng.Int64N(int64(h.Last())))
				got, err := restore.Run(t.Context(), options(w.Store, simdisk.New(), restore.Request{Epoch: epoch, LSN: at}))
				must(t, err)
				sameState(t, h, at, got)

				first, last := h.At(1).Stamp, h.At(h.Last()).Stamp
				stamp := first + rng.Int64N(last-first+1)
				got, err = restore.Run(t.Context(), options(w.Store, simdisk.New(), restore.Request{Epoch: epoch, Time: time.UnixMicro(stamp)}))
				must(t, err)
				// Every commit stamped at or before it, and none later.
				sameState(t, h, h.Stamped(stamp), got)
			}
		}
		got, err := restore.Run(t.Context(), options(w.Store, simdisk.New(), restore.Request{Latest: true}))
		must(t, err)
		sameState(t, w.Lines[5], w.Lines[5].Last(), got)
	})
}

// goOn restores to a point of a line, accepts the copy and lets it write and ship.
func goOn(t testing.TB, w *Workload, line lsn.Epoch, at lsn.LSN, epoch lsn.Epoch) History {
	t.Helper()
	disk := simdisk.New()
	got, err := restore.Run(t.Context(), options(w.Store, disk, restore.Request{Epoch: line, LSN: at}))
	must(t, err)
	sameState(t, w.Lines[line], at, got)
	took, err := restore.Accept(t.Context(), restore.Acceptance{FS: disk, DataDir: "/restored", Archive: w.Store, Ends: 3})
	must(t, err)
	if took.Ends != 3 || took.Epoch != 4 {
		t.Fatalf("accepted with %+v", took)
	}
	n := Begin(t, disk, w.Store, "/restored", epoch, w.Lines[line][:at], Straight)
	if e := n.Engine.Identity(); e.InstanceID != got.Instance || e.NodeID != "node-r" || e.ParentID != nil {
		t.Fatalf("the accepted copy is %+v", e)
	}
	n.Write(30)
	n.Checkpoint()
	n.Write(20)
	n.End()
	return n.Lived
}

// TestAnAcceptanceEndsWhatWasNamedAlone: an epoch that begins while it is decided is
// live, and must be named.
func TestAnAcceptanceEndsWhatWasNamedAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Record(t, object.NewMemory("archive"), 20)
		disk := simdisk.New()
		got, err := restore.Run(t.Context(), options(w.Store, disk, restore.Request{Latest: true}))
		must(t, err)
		newest, err := archive.New(w.Store).HighestEpoch(t.Context())
		must(t, err)
		store := objecttest.NewFaulty(w.Store, 1)
		begun := false
		store.SetHook(objecttest.Hook{Before: func(ctx context.Context, c objecttest.Call) error {
			// The object of an epoch is what the acceptance reads last before it takes one.
			if c.Op != "list" || c.Keys[0] != "epochs/" || c.Nth < 2 || begun {
				return nil
			}
			begun = true
			_, err := archive.AllotEpoch(ctx, w.Store, archive.Claimant{Instance: got.Instance, Node: "fast", AllowCrossRegion: true}, archive.Allotment{AtLeast: newest, Ended: newest})
			return err
		}})
		_, err = restore.Accept(t.Context(), restore.Acceptance{FS: disk, DataDir: "/restored", Archive: store, Ends: newest})
		var live *restore.LiveError
		if !begun || !errors.As(err, &live) || live.Live != newest+1 || live.Node != "fast" || live.Named != newest {
			t.Fatalf("begun %t: %v", begun, err)
		}
		took, err := restore.Accept(t.Context(), restore.Acceptance{FS: disk, DataDir: "/restored", Archive: w.Store, Ends: newest + 1})
		if err != nil || took.Epoch != newest+2 {
			t.Errorf("%+v: %v", took, err)
		}
	})
}

// TestARestoredDirectoryAlone: without archive and lease store it is a new instance.
func TestARestoredDirectoryAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Record(t, object.NewMemory("archive"), 20)
		disk := simdisk.New()
		got, err := restore.Run(t.Context(), options(w.Store, disk, restore.Request{Latest: true}))
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

func openAlone(t testing.TB, disk *simdisk.Disk, got *restore.Result) {
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
