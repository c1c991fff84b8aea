package archive

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/object"
	"originchain/shared/objecttest"
)

// A survey that is asked for again and again reads no document twice, and still sees
// what is new and what is gone.
func TestARememberedSurveyReadsWhatIsNewAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := object.NewMemory("a")
		n := newNode(t, 1).open(3)
		s := n.shipper(memory)
		stop := started(t, s)
		const checkpoints = 20
		ship := func() CheckpointKey {
			n.write(2)
			out, err := n.checkpoint(s, map[string]string{"000001.sst": "one"})
			must(t, err)
			return out.Key
		}
		oldest := ship()
		for range checkpoints - 1 {
			ship()
		}
		store := objecttest.NewFaulty(memory, 1)
		surveyed := func(a *Archive) (found, gets, lists int) {
			before := len(store.Calls())
			got, err := a.Survey(t.Context())
			must(t, err)
			if len(got.Epochs) != 1 || len(got.Faults) != 0 {
				t.Errorf("%d epochs, %v", len(got.Epochs), got.Faults)
			}
			for _, c := range store.Calls()[before:] {
				switch c.Op {
				case "get":
					gets++
				case "list":
					lists++
				}
			}
			return len(got.Checkpoints), gets, lists
		}
		want := func(what string, found, gets, wantFound, wantGets int) {
			t.Helper()
			if found != wantFound || gets != wantGets {
				t.Errorf("%s: %d checkpoints by %d reads, want %d by %d", what, found, gets, wantFound, wantGets)
			}
		}
		a := Remembering(store)
		found, first, lists := surveyed(a)
		want("the first", found, first, checkpoints, 2+checkpoints) // the instance, the epoch, the heads
		found, gets, again := surveyed(a)
		want("the second", found, gets, checkpoints, 1)
		t.Logf("a call costs %d reads and %d lists, and the next one %d and %d", first, lists, gets, again)
		found, gets, _ = surveyed(New(store))
		want("one that remembers nothing", found, gets, checkpoints, 2+checkpoints)
		ship()
		found, gets, _ = surveyed(a)
		want("with a new one", found, gets, checkpoints+1, 2)
		must(t, memory.Delete(t.Context(), oldest.String()))
		found, gets, _ = surveyed(a)
		want("with one gone", found, gets, checkpoints, 1)
		if got := len(a.heads.docs); got != checkpoints {
			t.Errorf("%d heads are kept of %d", got, checkpoints)
		}
		a.heads.most = checkpoints
		ship()
		surveyed(a)
		found, gets, _ = surveyed(a)
		want("one more than are kept", found, gets, checkpoints+1, 2)
		must(t, stop())
	})
}

// A document of another size under a name that is known is read.
func TestADocumentIsRememberedByItsSize(t *testing.T) {
	c := &kept[EpochKey, int]{most: 10, docs: make(map[named]int)}
	for i, k := range []Sized[EpochKey]{{EpochKey{1}, 5}, {EpochKey{1}, 6}, {EpochKey{2}, 5}} {
		if got, err := c.read(t.Context(), k, func(context.Context, Sized[EpochKey]) (int, error) { return i, nil }); err != nil || got != i {
			t.Errorf("%v: %d, %v", k, got, err)
		}
	}
	c.only([]Sized[EpochKey]{{EpochKey{1}, 6}})
	if len(c.docs) != 1 {
		t.Errorf("%v", c.docs)
	}
}

// A stop ships what is durable without waiting for the tail's window, and says what it
// could not ship.
func TestFinishShipsTheTailAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := object.NewMemory("a")
		store := objecttest.NewFaulty(memory, 1)
		n := newNode(t, 2)
		n.segs = 1 << 20
		n.open(1)
		s := n.shipper(store, func(c *Config) { c.Tail, c.TailWindow = true, time.Hour })
		stop := started(t, s)
		n.write(5)
		began := time.Now()
		must(t, s.Finish(t.Context()))
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %s", took)
		}
		n.holds(memory, 1, n.log.Durable())
		must(t, s.Finish(t.Context())) // nothing is left

		from := n.log.Durable() + 1
		left := func(what string, ctx context.Context, cause error) {
			t.Helper()
			var u *UnshippedError
			if err := s.Finish(ctx); !errors.As(err, &u) || u.From != from || u.To != n.log.Durable() || !errors.Is(err, cause) {
				t.Errorf("%s: %v", what, err)
			}
		}
		n.write(3)
		s.PauseTail()
		left("paused", t.Context(), ErrTailPaused)
		s.ResumeTail()
		store.SetAway(true)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		left("away", ctx, context.DeadlineExceeded)
		store.SetAway(false)
		must(t, s.Finish(t.Context()))
		n.holds(memory, 1, n.log.Durable())
		must(t, stop())

		untailed := n.shipper(memory)
		n.write(1)
		must(t, untailed.Finish(t.Context()))
	})
}
