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
