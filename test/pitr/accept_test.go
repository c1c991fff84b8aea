package pitr

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"originchain/shared/archive"
	"originchain/shared/lease"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/restore"
	"originchain/shared/simdisk"
)

// thenAccept restores the latest point and accepts it, both on a disk.
func thenAccept(t testing.TB, store object.Store, disk *simdisk.Disk, a restore.Acceptance) (*restore.Result, error) {
	t.Helper()
	o := options(store, disk, restore.Request{Latest: true})
	a.URL = "http://127.0.0.1:1"
	o.ThenAccept(a)
	return restore.Run(t.Context(), o)
}

// doubts is an error if the refusal is not of that epoch, for that reason.
func doubts(t testing.TB, err error, live lsn.Epoch, why restore.Doubt) {
	t.Helper()
	var refused *restore.LiveError
	if !errors.As(err, &refused) || refused.Live != live || refused.Doubt != why {
		t.Fatalf("it says %v, want epoch %d: %s", err, live, why)
	}
}

// mustHaveHighest holds the newest epoch of an archive against what it must be.
func mustHaveHighest(t testing.TB, store object.Store, want lsn.Epoch) {
	t.Helper()
	if got, err := archive.New(store).HighestEpoch(t.Context()); err != nil || got != want {
		t.Errorf("the archive's newest epoch is %d, %v; want %d", got, err, want)
	}
}

// nothingIn reports what a restore that was refused at once has left.
func nothingIn(t testing.TB, disk *simdisk.Disk) {
	t.Helper()
	for _, dir := range []string{"/restored", "/restored.restoring"} {
		if _, err := disk.Stat(dir); err == nil {
			t.Errorf("there is %s", dir)
		}
	}
}

// TestAnIdleWriterIsNotTakenForADeadOne: it ships nothing, like one that is dead, and goes
// on as if nothing had been asked. Named it ends, and nothing else that is named does.
func TestAnIdleWriterIsNotTakenForADeadOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		store := object.NewMemory("archive")
		w := Begin(t, simdisk.New(), store, "data", 1, nil, Straight)
		defer w.StopQuietly()
		w.Create()
		w.Write(20)
		w.settle()
		for _, ends := range []lsn.Epoch{0, 2} {
			disk := simdisk.New()
			_, err := thenAccept(t, store, disk, restore.Acceptance{Ends: ends})
			doubts(t, err, 1, restore.ArchiveAlone)
			if !strings.Contains(err.Error(), w.Engine.Identity().NodeID) || !strings.Contains(err.Error(), "--ends-epoch 1") {
				t.Errorf("named %d it says %v", ends, err)
			}
			nothingIn(t, disk)
		}
		mustHaveHighest(t, store, 1)
		w.Write(3)
		w.settle()
		got, err := thenAccept(t, store, simdisk.New(), restore.Acceptance{Ends: 1})
		must(t, err)
		sameState(t, w.Lived, w.Lived.Last(), got)
		if got.AcceptedEpoch != 2 {
			t.Errorf("accepted %+v", got)
		}
	})
}

// shipper is the node that ships the archive's newest epoch.
func shipper(t testing.TB, store object.Store) string {
	t.Helper()
	newest, err := archive.New(store).HighestEpoch(t.Context())
	must(t, err)
	e, err := archive.New(store).Epoch(t.Context(), archive.EpochKey{Epoch: newest})
	must(t, err)
	return e.Node
}

// held is a record of an epoch that a node holds, of the archive's instance.
func held(t testing.TB, store object.Store, node string, epoch lsn.Epoch) (*lease.Memory, *lease.Holder) {
	t.Helper()
	plan, err := restore.MakePlan(t.Context(), store, restore.Request{Latest: true})
	must(t, err)
	m := lease.NewMemory(lease.Hooks{})
	rec, err := lease.Record{}.Take(lease.Candidate{Instance: plan.Instance.String(), Node: node, URL: "http://127.0.0.1:2", AtLeast: epoch - 1})
	must(t, err)
	rec, err = m.CompareAndSet(t.Context(), 0, rec)
	must(t, err)
	return m, lease.NewHolder(m, rec)
}

// TestWhatARecordMustSayToBeTrusted: that its holder has stopped, of the newest epoch.
func TestWhatARecordMustSayToBeTrusted(t *testing.T) {
	renew := func(t *testing.T, h *lease.Holder) { must(t, h.Renew(t.Context(), 0)) }
	release := func(t *testing.T, h *lease.Holder) { must(t, h.Release(t.Context(), 0)) }
	for name, c := range map[string]struct {
		epoch lsn.Epoch
		// does is what the holder does before, or after a while.
		before func(*testing.T, *lease.Holder)
		after  time.Duration
		does   func(*testing.T, *lease.Holder)
		doubt  restore.Doubt
		// node holds the record, unless it is the one that ships.
		node string
	}{
		"released":                      {epoch: 3, before: release},
		"above the archive":             {epoch: 9, before: release},
		"silent for a lease":            {epoch: 3},
		"released while it is watched":  {epoch: 3, after: lease.Expiry / 2, does: release},
		"released at the last moment":   {epoch: 3, after: lease.Expiry - time.Millisecond, does: release},
		"renewed":                       {epoch: 3, after: lease.RenewEvery, does: renew, doubt: restore.LeaseRenewed},
		"renewed at the last moment":    {epoch: 3, after: lease.Expiry - time.Millisecond, does: renew, doubt: restore.LeaseRenewed},
		"released, behind the archive":  {epoch: 2, before: release, doubt: restore.RecordBehind},
		"silent, behind the archive":    {epoch: 2, doubt: restore.RecordBehind},
		"released, by another node":     {epoch: 3, before: release, node: "other", doubt: restore.RecordForeign},
		"renewed, of a much newer line": {epoch: 9, after: lease.RenewEvery, does: renew, doubt: restore.LeaseRenewed},
	} {
		bubble(t, func(t *testing.T) {
			w := Record(t, object.NewMemory("archive"), 15)
			node := c.node
			if node == "" {
				node = shipper(t, w.Store)
			}
			m, h := held(t, w.Store, node, c.epoch)
			if c.before != nil {
				c.before(t, h)
			}
			if c.does != nil {
				defer time.AfterFunc(c.after, func() { c.does(t, h) }).Stop()
			}
			live, disk := max(3, c.epoch), simdisk.New()
			got, err := thenAccept(t, w.Store, disk, restore.Acceptance{Control: m})
			if c.doubt != "" {
				doubts(t, err, live, c.doubt)
				nothingIn(t, disk)
				mustHaveHighest(t, w.Store, 3)
				return
			}
			if err != nil || got.AcceptedEpoch != live+1 {
				t.Fatalf("%s: %+v, %v", name, got, err)
			}
			mustHaveHighest(t, w.Store, live+1)
			rec, _, err := m.Load(t.Context())
			if err != nil || rec.Holder != "node-r" || rec.Epoch != live+1 {
				t.Errorf("%s: the record is %+v, %v", name, rec, err)
			}
		})
	}
}

// TestARecordThatIsNotThere speaks for nobody, with an archive or without.
func TestARecordThatIsNotThere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Record(t, object.NewMemory("archive"), 15)
		m, disk := lease.NewMemory(lease.Hooks{}), simdisk.New()
		_, err := thenAccept(t, w.Store, disk, restore.Acceptance{Control: m})
		doubts(t, err, 3, restore.NoRecord)
		_, err = restore.Run(t.Context(), options(w.Store, disk, restore.Request{Latest: true}))
		must(t, err)
		a := restore.Acceptance{FS: disk, DataDir: "/restored", Control: m, URL: "http://127.0.0.1:1"}
		_, err = restore.Accept(t.Context(), a)
		doubts(t, err, 3, restore.NoRecord)
		a.Ends = 3
		took, err := restore.Accept(t.Context(), a)
		if err != nil || took.Epoch != 4 || took.Ends != 3 {
			t.Errorf("%+v, %v", took, err)
		}
	})
}

// TestWhatLivedDuringARestoreIsNotGivenUpUnnamed, though it has stopped again by its end.
// The copy is there, and the same restore goes on once the epoch is named.
func TestWhatLivedDuringARestoreIsNotGivenUpUnnamed(t *testing.T) {
	for why, does := range map[restore.Doubt]func(t *testing.T, w *Writer, h *lease.Holder){
		restore.RecordChanged: func(t *testing.T, _ *Writer, h *lease.Holder) { must(t, h.Renew(t.Context(), 0)) },
		restore.ArchiveGrown: func(_ *testing.T, w *Writer, _ *lease.Holder) {
			w.Write(2)
			w.settle()
		},
	} {
		bubble(t, func(t *testing.T) {
			store, disk := object.NewMemory("archive"), simdisk.New()
			writer := Begin(t, simdisk.New(), store, "data", 1, nil, Straight)
			defer writer.StopQuietly()
			writer.Create()
			writer.Write(20)
			writer.settle()
			m, h := held(t, store, shipper(t, store), 1)
			o := options(store, disk, restore.Request{Latest: true})
			a := restore.Acceptance{Control: m, URL: "http://127.0.0.1:1"}
			o.ThenAccept(a)
			o.Begin = func(name, _ string, _ int64) (func(int64), func()) {
				if name == "scan" {
					does(t, writer, h)
				}
				return func(int64) {}, func() {}
			}
			_, err := restore.Run(t.Context(), o)
			doubts(t, err, 1, why)
			mustHaveHighest(t, store, 1)
			if _, err := disk.Stat("/restored.restoring/data"); err != nil {
				t.Errorf("%s: the copy: %v", why, err)
			}
			o.Begin, a.Ends = nil, 1
			o.ThenAccept(a)
			got, err := restore.Run(t.Context(), o)
			if err != nil || got.AcceptedEpoch != 2 {
				t.Errorf("%s: named: %+v, %v", why, got, err)
			}
		})
	}
}

// TestAHolderThatComesBackIsNotCutOff: it renews when its lease was seen to have run out
// already. The record refuses the acceptance, before the archive is closed to the holder.
func TestAHolderThatComesBackIsNotCutOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		w := Record(t, object.NewMemory("archive"), 15)
		m, h := held(t, w.Store, shipper(t, w.Store), 3)
		back := &returning{Memory: m, before: func() { must(t, h.Renew(t.Context(), 0)) }}
		_, err := thenAccept(t, w.Store, simdisk.New(), restore.Acceptance{Control: back})
		var conflict *lease.ConflictError
		if !errors.As(err, &conflict) || conflict.Found.Holder != shipper(t, w.Store) {
			t.Errorf("it says %v", err)
		}
		mustHaveHighest(t, w.Store, 3)
	})
}

// returning is a record whose holder does something right before it is taken.
type returning struct {
	*lease.Memory
	before func()
}

// CompareAndSet implements lease.Store.
func (r *returning) CompareAndSet(ctx context.Context, expect uint64, next lease.Record) (lease.Record, error) {
	r.before()
	return r.Memory.CompareAndSet(ctx, expect, next)
}
