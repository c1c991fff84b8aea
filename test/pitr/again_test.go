package pitr

import (
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/archive"
	"originchain/shared/datadir"
	"originchain/shared/lease"
	"originchain/shared/object"
	"originchain/shared/purge"
	"originchain/shared/restore"
	"originchain/shared/simdisk"
)

// killedAt restores, and gives the disk as a kill leaves it right before the first call
// that is as told.
func killedAt(t testing.TB, o restore.Options, as func(c simdisk.Call) bool) *simdisk.Disk {
	t.Helper()
	o.FS = simdisk.New()
	return killedOn(t, o, as)
}

// killedOn is killedAt on the disk of the options.
func killedOn(t testing.TB, o restore.Options, as func(c simdisk.Call) bool) *simdisk.Disk {
	t.Helper()
	disk, ok := o.FS.(*simdisk.Disk)
	if !ok {
		t.Fatalf("%T is no disk that can be killed", o.FS)
	}
	var left *simdisk.Disk
	disk.OnCall(func(_ int, c simdisk.Call, freeze func() *simdisk.Disk) {
		if left == nil && as(c) {
			left = freeze().KillClone()
		}
	})
	_, err := restore.Run(t.Context(), o)
	must(t, err)
	if left == nil {
		t.Fatal("it never came to that")
	}
	return left
}

// delivers is the rename that puts a restored directory in its place.
func delivers(c simdisk.Call) bool {
	return c.Op == simdisk.OpRename && strings.HasSuffix(c.Path, "/data")
}

// tidiesUp is what comes behind it.
func tidiesUp(c simdisk.Call) bool {
	return c.Op == simdisk.OpRemove && strings.HasSuffix(c.Path, ".restoring/LOCK")
}

// TestWhatWasDeliveredAndIsGone is restored anew: an earlier run's word is not taken for
// a directory that is not there, or is another.
func TestWhatWasDeliveredAndIsGone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Record(t, object.NewMemory("archive"), 20)
		o := options(w.Store, nil, restore.Request{Latest: true})
		disk := killedAt(t, o, tidiesUp)
		must(t, disk.RemoveAll("/restored"))
		o.FS = disk
		got, err := restore.Run(t.Context(), o)
		must(t, err)
		sameState(t, w.Lines[3], w.Lines[3].Last(), got)
		if r, err := datadir.RestoredIn(disk, "/restored"); err != nil || r == nil || r.Base.LSN != got.LSN {
			t.Errorf("the directory says %+v, %v", r, err)
		}

		disk = killedAt(t, o, tidiesUp)
		must(t, disk.RemoveAll("/restored"))
		other := options(w.Store, disk, restore.Request{LSN: 4})
		other.DataDir = "/other"
		_, err = restore.Run(t.Context(), other)
		must(t, err)
		must(t, disk.Rename("/other", "/restored"))
		o.FS = disk
		if got, err := restore.Run(t.Context(), o); !errors.As(err, new(*restore.NotEmptyError)) {
			t.Errorf("over another copy: %+v, %v", got, err)
		}
	})
}

// TestAFinishedRestoreIsNotDeliveredPastAPurge: the kill came right before the rename.
func TestAFinishedRestoreIsNotDeliveredPastAPurge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Subjects(t, object.NewMemory("archive"))
		o := options(w.Store, nil, restore.Request{Latest: true})
		disk := killedAt(t, o, delivers)
		p := purgeOptions(w.Store)
		purged := func() {
			plan, err := purge.MakePlan(t.Context(), p)
			must(t, err)
			_, err = purge.Run(t.Context(), p, plan.ID)
			must(t, err)
		}
		purged()
		o.FS = disk
		var passed *restore.PassedError
		if _, err := restore.Run(t.Context(), o); !errors.As(err, &passed) || !strings.Contains(passed.What, ".restoring") {
			t.Errorf("gone on with: %v", err)
		}
		if _, err := disk.Stat("/restored"); err == nil {
			t.Error("it was put in place")
		}
		// One that comes to its end while a restore is made is met too.
		o.FS = simdisk.New()
		p.Selector.PK = "2000"
		o.Begin = func(name, _ string, _ int64) (func(int64), func()) {
			if name == "scan" {
				purged()
			}
			return func(int64) {}, func() {}
		}
		if _, err := restore.Run(t.Context(), o); !errors.As(err, &passed) {
			t.Errorf("made meanwhile: %v", err)
		}
	})
}

// TestWhatIsNoRecordIsNoPurge: an object that somebody has put beside the records keeps
// nothing from being restored.
func TestWhatIsNoRecordIsNoPurge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Record(t, object.NewMemory("archive"), 20)
		must(t, w.Store.Put(t.Context(), "redactions/readme.txt", object.Bytes([]byte("records of purges"))))
		o := options(w.Store, simdisk.New(), restore.Request{Latest: true})
		got, err := restore.Run(t.Context(), o)
		must(t, err)
		sameState(t, w.Lines[3], w.Lines[3].Last(), got)
	})
}

// TestAnAcceptanceIsNotForgotten when the restore was finished without it, and killed.
func TestAnAcceptanceIsNotForgotten(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Record(t, object.NewMemory("archive"), 20)
		o := options(w.Store, nil, restore.Request{Latest: true})
		accepting := func(disk *simdisk.Disk) restore.Options {
			o := o
			o.FS = disk
			o.ThenAccept(restore.Acceptance{Ends: 3})
			return o
		}
		disk := killedAt(t, o, delivers)
		got, err := restore.Run(t.Context(), accepting(disk))
		must(t, err)
		if got.AcceptedEpoch != 4 {
			t.Errorf("restored %+v", got)
		}
		sameState(t, w.Lines[3], w.Lines[3].Last(), got)
		// In place already it says what is left to do.
		disk = killedAt(t, o, tidiesUp)
		if got, err := restore.Run(t.Context(), accepting(disk)); err == nil || !strings.Contains(err.Error(), "oc-pitr accept") {
			t.Errorf("in place: %+v, %v", got, err)
		}
		_, err = restore.Accept(t.Context(), restore.Acceptance{FS: disk, DataDir: "/restored", Archive: w.Store, Ends: 4})
		must(t, err)
		// One that was accepted by then needs nothing to be named again, though its own epoch
		// is the newest now.
		w = Record(t, object.NewMemory("archive"), 20)
		o.Store = w.Store
		disk = killedOn(t, accepting(simdisk.New()), delivers)
		got, err = restore.Run(t.Context(), accepting(disk))
		if err != nil || got.AcceptedEpoch != 4 {
			t.Errorf("accepted, and killed: %+v, %v", got, err)
		}
	})
}

// TestASlashBehindTheDirectory changes nothing, as the shell puts one there.
func TestASlashBehindTheDirectory(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Record(t, object.NewMemory("archive"), 15)
		disk := simdisk.New()
		o := options(w.Store, disk, restore.Request{Latest: true})
		o.DataDir += "/"
		got, err := restore.Run(t.Context(), o)
		must(t, err)
		sameState(t, w.Lines[3], w.Lines[3].Last(), got)
		must(t, openEngine(t, disk, false).Close())
	})
}

// locking is a file system on which something happens right before a lock is taken.
type locking struct {
	vfs.FS
	name string
	do   func()
}

// Lock implements vfs.FS.
func (l *locking) Lock(name string) (io.Closer, error) {
	if name == l.name && l.do != nil {
		do := l.do
		l.do = nil
		do()
	}
	return l.FS.Lock(name)
}

// TestWhatAnotherRunDecidedIsSeen, also when it came to its end between the look and the
// lock: nothing is done by what was known before it.
func TestWhatAnotherRunDecidedIsSeen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Record(t, object.NewMemory("archive"), 20)
		o := options(w.Store, nil, restore.Request{Latest: true})
		rng := rand.New(rand.NewPCG(3, 9))
		half := killedAt(t, o, func(c simdisk.Call) bool {
			return strings.Contains(c.Path, "/restored.restoring/data/state/") && rng.IntN(20) == 0
		})
		for name, disk := range map[string]*simdisk.Disk{"nothing was there": simdisk.New(), "a half was there": half} {
			o.FS = &locking{FS: disk, name: "/restored.restoring/LOCK", do: func() {
				// The other run gets as far as the rename.
				other := o
				other.FS = disk
				disk.Inject(simdisk.Fault{Ops: simdisk.OpRename, Path: "/restored.restoring/data", Err: syscall.EIO})
				if _, err := restore.Run(t.Context(), other); !errors.Is(err, syscall.EIO) {
					t.Errorf("%s: the other: %v", name, err)
				}
			}}
			if _, err := restore.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "run again") {
				t.Errorf("%s: %v", name, err)
			}
			o.FS = disk
			got, err := restore.Run(t.Context(), o)
			must(t, err)
			sameState(t, w.Lines[3], w.Lines[3].Last(), got)
		}
	})
}

// TestAnotherInstanceUnderTheSameName does not go on with what was begun.
func TestAnotherInstanceUnderTheSameName(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Record(t, object.NewMemory("archive"), 20)
		theirs := Record(t, object.NewMemory("archive"), 20)
		o := options(w.Store, nil, restore.Request{Epoch: 1, LSN: w.Checkpoints[1][0]})
		o.FS = killedAt(t, o, func(c simdisk.Call) bool {
			return c.Op == simdisk.OpCreate && strings.Contains(c.Path, "instance.json")
		})
		o.Store = theirs.Store
		if got, err := restore.Run(t.Context(), o); !errors.As(err, new(*archive.ForeignError)) {
			t.Errorf("gone on with: %+v, %v", got, err)
		}
	})
}

// TestAnAcceptanceWithAnEmptyRecord still has to name the epoch that the archive knows: a
// record that is not there, or lags behind, does not say that nothing is live.
func TestAnAcceptanceWithAnEmptyRecord(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Record(t, object.NewMemory("archive"), 20)
		disk := simdisk.New()
		got, err := restore.Run(t.Context(), options(w.Store, disk, restore.Request{Latest: true}))
		must(t, err)
		for name, rec := range records(t, got.Instance.String()) {
			_, err = restore.Accept(t.Context(), restore.Acceptance{FS: disk, DataDir: "/restored", Archive: w.Store, Control: rec, URL: "http://127.0.0.1:1"})
			var live *restore.LiveError
			if !errors.As(err, &live) || live.Live != 3 {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

// records are two that speak of no holder: one that is empty, and one whose holder has
// released an epoch long ago.
func records(t testing.TB, instance string) map[string]lease.Store {
	t.Helper()
	out := map[string]lease.Store{"no record": lease.NewMemory(lease.Hooks{}), "an old record": lease.NewMemory(lease.Hooks{})}
	rec, err := lease.Record{}.Take(lease.Candidate{Instance: instance, Node: "node-1", URL: "http://127.0.0.1:2"})
	must(t, err)
	rec, err = out["an old record"].CompareAndSet(t.Context(), 0, rec)
	must(t, err)
	rec, err = rec.Release(lease.Claim{Node: "node-1", Epoch: rec.Epoch}, 0)
	must(t, err)
	_, err = out["an old record"].CompareAndSet(t.Context(), 1, rec)
	must(t, err)
	return out
}
