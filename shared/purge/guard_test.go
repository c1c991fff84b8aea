package purge_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/archive"
	"originchain/shared/engine"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/objecttest"
	"originchain/shared/purge"
	"originchain/shared/restore"
	"originchain/shared/simdisk"
	"originchain/shared/table"
	"originchain/shared/wal"
)

// TestAnUnpurgedNodeGetsNothingIn: a writer whose log and state were not built behind a
// purge ships no frame and no checkpoint, and says why, whether it was running when the
// purge came to its end or is started on the old directory. One that was built anew does.
func TestAnUnpurgedNodeGetsNothingIn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := live(t)
		running := start(t, l.disk.KillClone(), l.store, "data", 2)
		<-time.After(time.Minute) // its epoch is in the archive, and it is idle
		run(t, optionsOf(l.store, theSubject))
		was := objects(t, l.store)
		for i, n := range []*node{running, start(t, l.disk, l.store, "data", 2)} {
			var unpurged *archive.UnpurgedError
			if i == 0 {
				n.person(tenantA, 5, "eve", "eve@own", "here")
			}
			<-time.After(5 * time.Minute)
			if _, err := n.s.ShipCheckpoint(t.Context(), "out", n.copyState("out"), n.engine.Durable); !errors.As(err, &unpurged) && !errors.Is(err, archive.ErrNotConnected) {
				t.Errorf("node %d: a checkpoint: %v", i, err)
			}
			if err := n.close(); !errors.As(err, &unpurged) || unpurged.Purges != 1 || unpurged.Behind != 0 {
				t.Errorf("node %d: %v", i, err)
			}
			// The epoch object and what is new come of who was running, and go by the tail.
			for name := range objects(t, l.store) {
				if _, there := was[name]; !there && !strings.HasPrefix(name, "tail/") {
					t.Errorf("node %d shipped %s", i, name)
				}
			}
		}
		if left := telling(t, l.store); len(left) > 0 {
			t.Errorf("%v tell of the subject", left)
		}
		disk := simdisk.New()
		_, err := restore.Run(t.Context(), restore.Options{Store: l.store, FS: disk, DataDir: "data", NodeID: "node-n", Request: restore.Request{Latest: true}})
		must(t, err)
		_, err = restore.Accept(t.Context(), restore.Acceptance{FS: disk, DataDir: "data", Archive: l.store, Ends: 2})
		must(t, err)
		n := start(t, disk, l.store, "data", 4)
		n.person(tenantA, 5, "eve", "eve@own", "here")
		n.checkpoint()
		last := n.end()
		if _, r := restored(t, l.store, 4, last); !r.Verified || r.CheckpointLSN == 0 {
			t.Errorf("the history goes on to %+v", r)
		}
		// A copy of its state keeps the mark: a follower that is made of it is as good.
		s, err := table.Open(table.Options{FS: disk, Dir: "out", Log: quiet(), ReadOnly: true})
		must(t, err)
		in, err := archive.New(l.store).Instance(t.Context())
		must(t, err)
		if n, err := s.Purges(in.Instance); n != 1 || err != nil {
			t.Errorf("the copy was built behind %d purges, %v", n, err)
		}
		if n, err := s.Purges([16]byte{1}); n != 0 || err != nil {
			t.Errorf("for another instance: %d, %v", n, err)
		}
		must(t, s.Close())
	})
}

// TestWhatGetsPastThePurge does not count, is told of, keeps another purge from being
// planned, and is erased when the purge is run again.
func TestWhatGetsPastThePurge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := live(t)
		before := copyOf(t, l.store)
		old, err := archive.New(before).Survey(t.Context())
		must(t, err)
		plan := shipOver(t, l)
		was := objects(t, l.store)
		// What an old node's puts may have been that were on their way: a segment of more
		// frames than any had, and files of a state.
		joined(t, l.store, before, old.Segments[0].Key, old.Segments[1].Key)
		for name, b := range objects(t, before) {
			if _, there := was[name]; !there && strings.HasPrefix(name, "objects/") {
				must(t, l.store.Put(t.Context(), name, object.Bytes(b)))
			}
		}
		if left := telling(t, l.store); len(left) < 2 {
			t.Fatalf("only %v tell of the subject", left)
		}
		s, err := archive.New(l.store).Survey(t.Context())
		must(t, err)
		if len(s.Unpurged) != 2 {
			t.Errorf("told of are %v", s.Unpurged)
		}
		if pairs, r := restored(t, l.store, 1, l.last); !r.Verified || len(pairs) == 0 {
			t.Errorf("restored %+v", r)
		}
		list, err := restore.List(t.Context(), l.store, restore.Request{})
		must(t, err)
		if len(list.Faults) == 0 || !strings.Contains(list.Faults[0], "past a purge") {
			t.Errorf("the list says %v", list.Faults)
		}
		if _, err := purge.MakePlan(t.Context(), optionsOf(l.store, theSubject)); !errors.As(err, new(*purge.UnfitError)) {
			t.Errorf("another purge: %v", err)
		}
		again, err := purge.Run(t.Context(), optionsOf(l.store, theSubject), plan)
		must(t, err)
		if left := telling(t, l.store); len(left) > 0 || !again.Resumed {
			t.Errorf("%v tell of the subject, %+v", left, again)
		}
		for name := range was {
			if strings.HasPrefix(name, "checkpoints/") && !strings.Contains(name, ".r") {
				continue // the one that was shipped over the purge
			}
			if _, there := objects(t, l.store)[name]; !there {
				t.Errorf("%s is gone", name)
			}
		}
	})
}

// shipOver ships a checkpoint of an old node during which a purge is made: its manifest
// gets there, and the node is told that it does not count.
func shipOver(t *testing.T, l *lived) (plan string) {
	t.Helper()
	store := objecttest.NewFaulty(l.store, 1)
	n := start(t, l.disk.KillClone(), store, "data", 2)
	n.person(tenantA, 5, "eve", "eve@own", "here")
	<-time.After(2 * time.Minute)
	store.SetHook(objecttest.Hook{Before: func(_ context.Context, c objecttest.Call) error {
		if c.Op == "put" && strings.HasPrefix(c.Keys[0], "checkpoints/") && plan == "" {
			p, _ := run(t, optionsOf(l.store, theSubject))
			plan = p.ID
		}
		return nil
	}})
	_, err := n.s.ShipCheckpoint(t.Context(), "out", n.copyState("out"), n.engine.Durable)
	if plan == "" || !errors.As(err, new(*archive.UnpurgedError)) && !errors.Is(err, archive.ErrIncomplete) {
		t.Fatalf("a checkpoint: %v", err)
	}
	<-time.After(time.Minute)
	if err := n.close(); !errors.As(err, new(*archive.UnpurgedError)) {
		t.Errorf("the node ended with %v", err)
	}
	return plan
}

// joined puts two segments as they were as one.
func joined(t *testing.T, to, from object.Store, keys ...archive.SegmentKey) {
	t.Helper()
	a := archive.New(from)
	in, err := a.Instance(t.Context())
	must(t, err)
	var w *wal.Rewrite
	var end wal.Tail
	for _, k := range keys {
		f, err := a.OpenFrames(t.Context(), k, in.Instance)
		must(t, err)
		if w == nil {
			w, err = wal.NewRewrite(f.Header())
			must(t, err)
		}
		for {
			fr, err := f.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			must(t, err)
			must(t, w.Keep(fr, f.Raw()))
		}
		end = f.Tail()
		must(t, f.Close())
	}
	k := archive.SegmentKey{Epoch: keys[0].Epoch, First: keys[0].First, Last: keys[1].Last}
	must(t, archive.New(to).PutRewritten(t.Context(), k, w.Bytes(true), in.Instance, end))
	must(t, w.Close())
}

// TestACopyFromBeforeThePurge does not become the instance's history, and a restore that
// was begun before it is not gone on with.
func TestACopyFromBeforeThePurge(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := live(t)
		o := restore.Options{Store: l.store, FS: simdisk.New(), DataDir: "copy", NodeID: "node-c", Request: restore.Request{Latest: true}}
		_, err := restore.Run(t.Context(), o)
		must(t, err)
		half := o
		half.DataDir = "half"
		half.Finish = func(context.Context, string, *restore.Plan) error { return errors.New("killed") }
		if _, err := restore.Run(t.Context(), half); err == nil {
			t.Fatal("it was not killed")
		}
		run(t, optionsOf(l.store, theSubject))
		before := objects(t, l.store)
		var passed *restore.PassedError
		if _, err := restore.Accept(t.Context(), restore.Acceptance{FS: o.FS, DataDir: "copy", Archive: l.store, Ends: 1}); !errors.As(err, &passed) {
			t.Errorf("accepted: %v", err)
		}
		half.Finish = nil
		if _, err := restore.Run(t.Context(), half); !errors.As(err, &passed) {
			t.Errorf("gone on with: %v", err)
		}
		if len(objects(t, l.store)) != len(before) {
			t.Error("an epoch was taken")
		}
	})
}

// TestFind: a node's log and its divergent files are looked into, also frames that the
// archive never had, and a purged archive's copy is clean.
func TestFind(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := live(t)
		disk := l.early
		// Behind the fork the old node writes the subject again, and ships none of it.
		n := start(t, l.disk, object.NewMemory("another"), "data", 2)
		n.person(tenantA, 7, mark, mark+"@divergent", "here")
		n.end()
		rewound, err := engine.Rewind(engine.Config{DataDir: "data", Shared: true}, engine.Deps{FS: l.disk, Log: quiet(), NoPreallocate: true}, l.last, nil)
		if err != nil && !errors.Is(err, engine.ErrNoCheckpoint) {
			t.Fatal(err)
		}
		if len(rewound.Aside) != 1 {
			t.Fatalf("set aside %+v", rewound)
		}
		find := func(fs vfs.FS, paths ...string) *purge.Found {
			t.Helper()
			o := optionsOf(l.store, theSubject)
			o.FS = fs
			got, err := purge.Find(t.Context(), o, paths)
			must(t, err)
			return got
		}
		frames := func(f *purge.Found) (out []lsn.LSN) {
			for i := range f.Files {
				out = append(out, f.Files[i].Frames...)
			}
			return out
		}
		for range 2 { // before the purge and after it
			if got := find(l.disk, rewound.Aside[0].Path); len(frames(got)) != 1 || frames(got)[0] != l.last+2 || got.Files[0].Epoch != 2 || !got.Any() {
				t.Errorf("in the divergent file: %+v", got)
			}
			if got := find(l.disk, "data"); len(frames(got)) != 1 || len(got.Unread) == 0 {
				t.Errorf("in the node's directory: %+v", got)
			}
			if got := find(disk, "data"); len(frames(got)) != 3 {
				t.Errorf("in the other node's directory: %+v", got)
			}
			if s, err := archive.New(l.store).Survey(t.Context()); err != nil || len(s.Redactions) == 0 {
				_, got := run(t, optionsOf(l.store, theSubject))
				holds(t, got.Remains, frames(find(disk, "data")))
			}
		}
		restoredDisk := simdisk.New()
		_, err = restore.Run(t.Context(), restore.Options{Store: l.store, FS: restoredDisk, DataDir: "data", Request: restore.Request{Latest: true}})
		must(t, err)
		if got := find(restoredDisk, "data"); got.Any() {
			t.Errorf("in a copy of the purged archive: %+v", got)
		}
		o := optionsOf(l.store, theSubject)
		if _, err := purge.Find(t.Context(), o, []string{"nowhere"}); !errors.Is(err, purge.ErrSelector) {
			t.Errorf("in no file: %v", err)
		}
		// A value of which nothing is known any more finds nothing, which says nothing.
		o.FS = restoredDisk
		o.Selector = purge.Selector{Tenant: tenantA, Schema: "shop.people", Column: "mail", Value: mark + "@first"}
		if _, err := purge.Find(t.Context(), o, []string{"data"}); !errors.Is(err, purge.ErrSelector) || !strings.Contains(err.Error(), "--pk") {
			t.Errorf("by a value that has gone: %v", err)
		}
	})
}

// holds: the report names the run of frames that a node's files were found to tell in.
func holds(t *testing.T, r purge.Remains, want []lsn.LSN) {
	t.Helper()
	if len(want) == 0 {
		t.Fatal("nothing was found in the node's files")
	}
	if len(r.Files) != 1 || len(r.Nodes) != 1 || len(r.States) == 0 || r.Files[0].Epoch != 1 || r.Files[0].From != want[0] || r.Files[0].To < want[len(want)-1] {
		t.Errorf("the report says %+v, the node's files tell at %v", r, want)
	}
	if !strings.Contains(r.Files[0].Divergent, "divergent-0000000000000001-") || !strings.HasPrefix(r.Files[0].Log, "log/") {
		t.Errorf("the report names %+v", r.Files[0])
	}
}

// TestOldVersionsGo: a purge erases versions until none is found, and fails if that has
// no end.
func TestOldVersionsGo(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := live(t)
		plan, err := purge.MakePlan(t.Context(), optionsOf(l.store, theSubject))
		must(t, err)
		store := &versioned{Store: objecttest.NewFaulty(l.store, 1), left: 3, less: 0}
		if _, err := purge.Run(t.Context(), optionsOf(store, theSubject), plan.ID); err == nil || !strings.Contains(err.Error(), "goes on making old versions") {
			t.Errorf("versions without end: %v", err)
		}
		store.less = 2
		got, err := purge.Run(t.Context(), optionsOf(store, theSubject), plan.ID)
		if err != nil || !got.Resumed || got.Versions != 4 || store.left != 0 {
			t.Errorf("gone on with: %v, %+v", err, got)
		}
	})
}

// versioned is a store that says it had old versions.
type versioned struct {
	object.Store
	left, less int
}

// EraseVersions implements object.Store.
func (v *versioned) EraseVersions(context.Context, string) (int, error) {
	n := v.left
	v.left = max(0, v.left-v.less)
	return n, nil
}
