package documents

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/alarms"
	"originchain/shared/incident"
	"originchain/shared/registry"
)

func stores(t *testing.T) map[string]registry.Store {
	t.Helper()
	folder, err := registry.OpenFolder(vfs.NewMem(), "/registry")
	if err != nil {
		t.Fatal(err)
	}
	return map[string]registry.Store{"memory": registry.NewMemory(), "folder": folder}
}

func TestDocumentsOfARegistry(t *testing.T) {
	for name, store := range stores(t) {
		d := Of(store)
		if _, _, ok, err := d.Load(t.Context(), "k/1"); ok || err != nil {
			t.Errorf("%s: nothing is there: %t, %v", name, ok, err)
		}
		if v, err := d.Save(t.Context(), "k/1", 0, []byte("a")); v != 1 || err != nil {
			t.Errorf("%s: %d, %v", name, v, err)
		}
		for _, expect := range []uint64{0, 2} {
			var conflict *registry.ConflictError
			if _, err := d.Save(t.Context(), "k/1", expect, []byte("b")); !Conflict(err) || !errors.As(err, &conflict) {
				t.Errorf("%s: expecting %d: %v", name, expect, err)
			}
		}
		if b, v, ok, err := d.Load(t.Context(), "k/1"); string(b) != "a" || v != 1 || !ok || err != nil {
			t.Errorf("%s: %s %d %t %v", name, b, v, ok, err)
		}
		if err := d.Delete(t.Context(), "k/1", 2); !Conflict(err) {
			t.Errorf("%s: remove another version: %v", name, err)
		}
		if _, err := d.Save(t.Context(), "", 0, nil); err == nil || Conflict(err) {
			t.Errorf("%s: a key that is none: %v", name, err)
		}
		if keys, err := d.List(t.Context(), "k/"); err != nil || !slices.Equal(keys, []string{"k/1"}) {
			t.Errorf("%s: %q, %v", name, keys, err)
		}
	}
	if incident.MaxBytes > registry.MaxBodyBytes {
		t.Errorf("an incident takes up to %d bytes, a registry %d", incident.MaxBytes, registry.MaxBodyBytes)
	}
}

// Several who write one incident lose no update, in the stores that there are.
func TestIncidentsBesideOthers(t *testing.T) {
	for name, store := range stores(t) {
		open := func() *incident.Store {
			return incident.NewStore(Of(store), incident.Fixed{{ID: "ops", Email: "a@b.c", UpTo: alarms.TenantDown}}, time.Now, func() float64 { return 0 })
		}
		if _, err := open().Open(t.Context(), incident.Opening{ID: "i", Severity: alarms.TenantDown, Title: "x", Text: "x"}); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for n := range 4 {
			all.Go(func() {
				for k := range 5 {
					if _, err := open().Add(t.Context(), "i", fmt.Sprint(n, "-", k), "x"); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		if i, _, err := open().Get(t.Context(), "i"); err != nil || len(i.Updates) != 21 || len(i.Owed) != 21 {
			t.Errorf("%s: %v, %+v", name, err, i)
		}
	}
}
