package archive

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/lsn"
	"originchain/shared/object"
)

// TestACheckpointThatIsBrokenHoldsUpNoOther: a writer that is idle makes its checkpoint at
// the same place again, and finds there one that has lost a file, or cannot be read. No
// try mends that; the next one, at another place, is whole.
func TestACheckpointThatIsBrokenHoldsUpNoOther(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, store object.Store, k CheckpointKey){
		"a file is gone": func(t *testing.T, store object.Store, _ CheckpointKey) {
			must(t, store.Delete(context.WithoutCancel(t.Context()), objects(t, store, objectPrefix)[0]))
		},
		"a file is cut": func(t *testing.T, store object.Store, _ CheckpointKey) {
			key := objects(t, store, objectPrefix)[0]
			must(t, store.Delete(context.WithoutCancel(t.Context()), key))
			must(t, store.Put(context.WithoutCancel(t.Context()), key, object.Bytes([]byte("another"))))
		},
		"the manifest is damaged": func(t *testing.T, store object.Store, k CheckpointKey) {
			must(t, store.Delete(context.WithoutCancel(t.Context()), k.String()))
			must(t, store.Put(context.WithoutCancel(t.Context()), k.String(), object.Bytes([]byte("{"))))
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := object.NewMemory("a")
				n := newNode(t, 1).open(1)
				s := n.shipper(store)
				stop := started(t, s)
				n.write(5)
				ship := func() (Shipped, error) {
					ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
					defer cancel()
					dir := n.stateDir("copy", map[string]string{"1.sst": "one", "MANIFEST": "m"})
					return s.ShipCheckpoint(ctx, dir, n.applied(), func() lsn.LSN { return n.log.Durable() })
				}
				first, err := ship()
				must(t, err)
				spoil(t, store, first.Key)
				if _, err := ship(); !errors.Is(err, ErrIncomplete) {
					t.Errorf("at the same place: %v", err)
				}
				n.write(1)
				next, err := ship()
				if err != nil || next.Present {
					t.Errorf("at another place: %+v, %v", next, err)
				}
				m, err := New(store).Manifest(t.Context(), next.Key)
				must(t, err)
				must(t, New(store).Complete(t.Context(), &m))
				must(t, stop())
				must(t, n.log.Close())
			})
		})
	}
}
