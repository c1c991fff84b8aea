package lease

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// What the record said last can be asked for while the store hangs: readiness and
// the handshake of a follower depend on it.
func TestTheRecordIsKnownWhileTheStoreHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := NewMemory(Hooks{})
		first, err := Record{}.Take(Candidate{Instance: "01JADE00000000000000000001", Node: "a", URL: "http://a"})
		if err != nil {
			t.Fatal(err)
		}
		if first, err = store.CompareAndSet(t.Context(), 0, first); err != nil {
			t.Fatal(err)
		}
		hang := make(chan struct{})
		h := NewHolder(hanging{store, hang}, first)
		done := make(chan error, 1)
		go func() { done <- h.Renew(t.Context(), 0) }()
		synctest.Wait()
		if got := h.Record(); got.Version != first.Version {
			t.Errorf("version %d", got.Version)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := h.Leave(ctx, "b"); err == nil {
			t.Error("a change beside the one that hangs")
		}
		close(hang)
		if err := <-done; err != nil || h.Record().Version != first.Version+1 {
			t.Errorf("%v, version %d", err, h.Record().Version)
		}
	})
}

// hanging is a store that takes its time to answer a write.
type hanging struct {
	*Memory
	until chan struct{}
}

func (s hanging) CompareAndSet(ctx context.Context, expect uint64, next Record) (Record, error) {
	<-s.until
	return s.Memory.CompareAndSet(ctx, expect, next)
}
