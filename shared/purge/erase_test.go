package purge_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"originchain/shared/archive"
	"originchain/shared/object"
	"originchain/shared/objecttest"
	"originchain/shared/purge"
	"originchain/shared/restore"
	"originchain/shared/simdisk"
)

// TestNothingIsErasedWhileAManifestCannotBeRead: the files of a checkpoint whose manifest
// is damaged, or arrives so, belong to nobody as far as a list can tell. They stay.
func TestNothingIsErasedWhileAManifestCannotBeRead(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := live(t)
		plan, err := purge.MakePlan(t.Context(), optionsOf(l.store, theSubject))
		must(t, err)
		store := &flipped{Store: l.store}
		faulty := objecttest.NewFaulty(store, 1)
		faulty.SetHook(objecttest.Hook{After: func(_ context.Context, c objecttest.Call, err error) error {
			if c.Op == "put" && strings.HasPrefix(c.Keys[0], "redactions/") {
				store.from = "checkpoints/" // the purge counts, and what is read from now on is damaged
			}
			return err
		}})
		var damaged *archive.DamagedError
		if _, err := purge.Run(t.Context(), optionsOf(faulty, theSubject), plan.ID); !errors.As(err, &damaged) || !strings.Contains(err.Error(), "--confirm "+plan.ID) {
			t.Errorf("with damaged manifests: %v", err)
		}
		if _, r := restored(t, l.store, 1, l.last); !r.Verified || r.CheckpointLSN == 0 {
			t.Errorf("restored %+v", r)
		}
		again, err := purge.Run(t.Context(), optionsOf(l.store, theSubject), plan.ID)
		must(t, err)
		if left := telling(t, l.store); len(left) > 0 || !again.Resumed {
			t.Errorf("%v tell of the subject, %+v", left, again)
		}
		if _, r := restored(t, l.store, 1, l.last); !r.Verified || r.CheckpointLSN == 0 {
			t.Errorf("restored %+v", r)
		}
	})
}

// flipped is a store that gives a flipped byte of what has a prefix.
type flipped struct {
	object.Store
	from string // "" flips nothing
}

// Get implements object.Store.
func (f *flipped) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	r, err := f.Store.Get(ctx, key, off, n)
	if err != nil || f.from == "" || !strings.HasPrefix(key, f.from) {
		return r, err
	}
	b, err := io.ReadAll(r)
	if len(b) > 0 {
		b[0] ^= 1
	}
	return io.NopCloser(bytes.NewReader(b)), errors.Join(err, r.Close())
}

// TestACheckpointThatIsBeingMade behind the purge keeps its files, whose manifest is not
// there yet, while the purge is gone on with; and what announced one that is not is erased.
func TestACheckpointThatIsBeingMade(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := live(t)
		plan, _ := run(t, optionsOf(l.store, theSubject))
		disk := simdisk.New()
		_, err := restore.Run(t.Context(), restore.Options{Store: l.store, FS: disk, DataDir: "data", NodeID: "node-n", Request: restore.Request{Latest: true}})
		must(t, err)
		_, err = restore.Accept(t.Context(), restore.Acceptance{FS: disk, DataDir: "data", Archive: l.store, Ends: 1})
		must(t, err)
		store := objecttest.NewFaulty(l.store, 1)
		n := start(t, disk, store, "data", 3)
		n.person(tenantA, 5, "eve", "eve@own", "here")
		resumed := false
		store.SetHook(objecttest.Hook{Before: func(_ context.Context, c objecttest.Call) error {
			if c.Op == "put" && strings.HasPrefix(c.Keys[0], "checkpoints/") && !resumed {
				resumed = true
				_, err := purge.Run(t.Context(), optionsOf(l.store, theSubject), plan.ID)
				return err
			}
			return nil
		}})
		shipped, err := n.s.ShipCheckpoint(t.Context(), "out", n.copyState("out"), n.engine.Durable)
		if err != nil || !resumed || shipped.NewFiles == 0 {
			t.Fatalf("shipped %+v: %v", shipped, err)
		}
		last := n.end()
		if _, r := restored(t, l.store, 3, last); !r.Verified || r.CheckpointLSN != shipped.Key.LSN {
			t.Errorf("restored %+v", r)
		}
	})
}
