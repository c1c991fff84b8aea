package restore

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"originchain/shared/object"
)

// walking is a store that breaks off every list after three objects, and every second
// one, or all, before the first.
type walking struct {
	*object.Memory
	tries, walks int
	always       bool
}

var errLine = errors.New("the line broke")

func (w *walking) Each(ctx context.Context, prefix, after string, visit func(object.Info) error) error {
	if w.tries++; w.always || w.tries%2 == 1 {
		return errLine
	}
	w.walks++
	met := 0
	return object.Each(ctx, w.Memory, prefix, after, func(info object.Info) error {
		if met++; met > 3 {
			return errLine
		}
		return visit(info)
	})
}

// TestAListGoesOnWhereItBrokeOff: each object is visited once, by the store's own walk;
// what stands still is given up, and what the visitor says is no fault of the store.
func TestAListGoesOnWhereItBrokeOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &walking{Memory: object.NewMemory("a")}
		const n = 30 // more breaks than a read has tries
		for i := range n {
			if err := w.Put(t.Context(), fmt.Sprintf("k/%03d", i), object.Bytes(nil)); err != nil {
				t.Fatal(err)
			}
		}
		var got []string
		err := object.Each(t.Context(), Patient(w), "k/", "", func(info object.Info) error { got = append(got, info.Key); return nil })
		if err != nil || len(got) != n || got[n-1] != "k/029" || w.walks != n/3 {
			t.Errorf("%d objects in %d walks: %v", len(got), w.walks, err)
		}
		stop, tries := errors.New("enough"), w.tries
		if err := object.Each(t.Context(), Patient(w), "k/", "", func(object.Info) error { return stop }); err != stop || w.tries > tries+2 {
			t.Errorf("%v in %d tries", err, w.tries-tries)
		}
		w.always, w.tries = true, 0
		if err := object.Each(t.Context(), Patient(w), "k/", "", func(object.Info) error { return nil }); !errors.Is(err, errLine) || w.tries != readTries {
			t.Errorf("%v in %d tries", err, w.tries)
		}
	})
}
