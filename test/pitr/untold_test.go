package pitr

import (
	"context"
	"errors"
	"testing"

	"originchain/shared/archive"
	"originchain/shared/lease"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/restore"
	"originchain/shared/simdisk"
)

// TestAnEpochThatCannotBeReadMayBeLive: its object is gone or damaged, and what it has
// shipped is there. A copy of the line before does not end it unnamed, nor takes its
// number: two histories would stand under one.
func TestAnEpochThatCannotBeReadMayBeLive(t *testing.T) {
	for name, how := range map[string]func(t *testing.T, store object.Store, key string){
		"gone": func(*testing.T, object.Store, string) {},
		"damaged": func(t *testing.T, store object.Store, key string) {
			must(t, store.Put(context.WithoutCancel(t.Context()), key, object.Bytes([]byte("{"))))
		},
	} {
		bubble(t, func(t *testing.T) {
			w := Record(t, object.NewMemory("archive"), 25)
			m := lease.NewMemory(lease.Hooks{})
			key := archive.EpochKey{Epoch: 3}.String()
			must(t, w.Store.Delete(t.Context(), key))
			how(t, w.Store, key)
			disk := simdisk.New()
			o := options(w.Store, disk, restore.Request{Epoch: 2, Latest: true})
			o.ThenAccept(restore.Acceptance{Ends: 2, Control: m, URL: "http://127.0.0.1:1"})
			_, err := restore.Run(t.Context(), o)
			var live *restore.LiveError
			if !errors.As(err, &live) || live.Live != 3 || live.Named != 2 {
				t.Errorf("%s: %v", name, err)
			}
			nothingIn(t, disk)
			if rec, ok, err := m.Load(t.Context()); ok || err != nil {
				t.Errorf("%s: the record was taken: %+v, %v", name, rec, err)
			}
			o.ThenAccept(restore.Acceptance{Ends: 3, Control: m, URL: "http://127.0.0.1:1"})
			got, err := restore.Run(t.Context(), o)
			if err != nil || got.AcceptedEpoch != 4 {
				t.Fatalf("%s: %+v, %v", name, got, err)
			}
			s, err := archive.New(w.Store).Survey(t.Context())
			must(t, err)
			if l, ok := s.Line(4); !ok || l.Has(lsn.Pos{Epoch: 3, LSN: got.LSN + 1}) {
				t.Errorf("%s: the line of the copy is %+v", name, l.Reaches)
			}
		})
	}
}
