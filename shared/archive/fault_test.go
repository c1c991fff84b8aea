package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/objecttest"
	"originchain/shared/wal"
)

// anyFault are the rates of a store in a bad hour.
func anyFault(rate float64) map[objecttest.Fault]float64 {
	return map[objecttest.Fault]float64{
		objecttest.Internal: rate, objecttest.SlowDown: rate, objecttest.LostAnswer: rate, objecttest.LostAndTold: rate,
		objecttest.WrongByte: rate, objecttest.Truncated: rate,
	}
}

// TestTheArchiveIsWholeWhateverTheStoreDoes: a writer appends, rolls and takes new
// epochs while the store fails in every way and is away for hours. What counts as
// shipped is in the archive at every moment, and in the end everything is.
func TestTheArchiveIsWholeWhateverTheStoreDoes(t *testing.T) {
	met := make(map[objecttest.Fault]int)
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rng := rand.New(rand.NewPCG(seed, 9))
				memory := object.NewMemory("a")
				store := objecttest.NewFaulty(memory, seed)
				n := newNode(t, seed).open(1)
				for epoch := lsn.Epoch(1); epoch <= 4; epoch++ {
					if epoch > 1 {
						must(t, n.log.Close())
						n.open(epoch)
					}
					store.SetRates(anyFault(0.08))
					s := n.shipper(store, func(c *Config) { c.Tail = seed%2 == 0 })
					stop := running(t, s)
					for range 25 {
						switch rng.IntN(8) {
						case 0:
							store.SetAway(true)
							time.Sleep(time.Duration(1+rng.IntN(4)) * time.Hour)
						case 1:
							store.SetAway(false)
						case 2:
							n.roll()
						}
						n.write(1 + rng.IntN(12))
						time.Sleep(time.Duration(rng.IntN(3000)) * time.Millisecond)
						if st := s.Status(); st.ShippedLSN > 0 {
							n.holds(memory, newestOf(t, memory), lsn.LSN(st.ShippedLSN))
							n.holds(memory, newestOf(t, memory), lsn.LSN(st.RecoverableLSN))
						}
					}
					store.SetAway(false)
					if epoch == 4 {
						store.SetRates(nil)
						n.roll()
						time.Sleep(5 * time.Minute)
						if st := s.Status(); st.ShippedLSN != uint64(n.log.Durable()) || st.LastError != "" || st.UnshippedSeconds != 0 {
							t.Errorf("in the end: %+v, durable %d", st, n.log.Durable())
						}
					}
					must(t, stop())
				}
				n.holds(memory, 4, n.log.Durable())
				must(t, n.log.Close())
				for f := range anyFault(1) {
					met[f] += store.Met(f)
				}
				met[objecttest.Away] += store.Met(objecttest.Away)
			})
		})
	}
	for _, f := range []objecttest.Fault{objecttest.Internal, objecttest.SlowDown, objecttest.LostAnswer, objecttest.LostAndTold, objecttest.WrongByte, objecttest.Truncated, objecttest.Away} {
		if met[f] == 0 {
			t.Errorf("no call met %s: nothing was tested", f)
		}
	}
}

func newestOf(t testing.TB, store object.Store) lsn.Epoch {
	t.Helper()
	s, err := New(store).Survey(t.Context())
	must(t, err)
	return s.Newest()
}

// TestAShipperKilledAtEveryCall: killed before and after each call to the store, and
// begun anew, it ships the rest, and no object twice.
func TestAShipperKilledAtEveryCall(t *testing.T) {
	for at := 1; ; at++ {
		finished := false
		synctest.Test(t, func(t *testing.T) {
			memory := object.NewMemory("a")
			n := newNode(t, 5).open(1)
			n.write(60)
			n.roll()
			for _, after := range []bool{false, true} {
				store := objecttest.NewFaulty(memory, 1)
				ctx, cancel := context.WithCancel(t.Context())
				calls, mu := 0, sync.Mutex{}
				die := func() error {
					mu.Lock()
					defer mu.Unlock()
					if calls++; calls == at {
						cancel()
						return context.Canceled
					}
					return nil
				}
				if after {
					store.SetHook(objecttest.Hook{After: func(_ context.Context, _ objecttest.Call, err error) error {
						return errors.Join(err, die())
					}})
				} else {
					store.SetHook(objecttest.Hook{Before: func(context.Context, objecttest.Call) error { return die() }})
				}
				s := n.shipper(store, func(c *Config) { c.Tail = true })
				done := make(chan error, 1)
				go func() { done <- s.Run(ctx) }()
				time.Sleep(10 * time.Second)
				mu.Lock()
				finished = calls < at
				mu.Unlock()
				cancel()
				must(t, <-done)
				n.write(5)
			}
			s := n.shipper(memory)
			stop := running(t, s)
			n.roll()
			time.Sleep(10 * time.Second)
			if s.ShippedLSN() != n.log.Durable() {
				t.Errorf("killed at call %d: shipped %d of %d", at, s.ShippedLSN(), n.log.Durable())
			}
			must(t, stop())
			n.holds(memory, 1, n.log.Durable())
			must(t, n.log.Close())
		})
		if finished {
			if at < 15 {
				t.Fatalf("only %d calls", at)
			}
			return
		}
	}
}

// TestAZombieIsFenced: a writer that was superseded while it slept ships nothing that
// counts, and learns the epoch that has superseded it.
func TestAZombieIsFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := object.NewMemory("a")
		old := newNode(t, 6).open(1)
		old.write(30)
		zombie := old.shipper(store)
		stop := running(t, zombie)
		time.Sleep(time.Second)
		// The follower is promoted with all but the last frames, and leaves the rest out.
		fork := old.log.Durable() - 3
		heir := old.copyTo("node-b", fork).open(2)
		heir.write(20)
		heir.roll()
		s := heir.shipper(store)
		stopHeir := running(t, s)
		time.Sleep(time.Second)
		old.write(30)
		old.roll()
		var fenced *FencedError
		if err := <-ended(stop); !errors.As(err, &fenced) || fenced.Own != 1 || fenced.Epoch != 2 {
			t.Fatalf("the zombie: %v", err)
		}
		if zombie.ShippedLSN() > fork+3 {
			t.Errorf("the zombie counts %d as shipped, it was superseded at %d", zombie.ShippedLSN(), fork)
		}
		var again *FencedError
		if err := old.shipper(store).Run(t.Context()); !errors.As(err, &again) {
			t.Errorf("the zombie begun anew: %v", err)
		}
		must(t, stopHeir())
		if s.ShippedLSN() != heir.log.Durable() {
			t.Errorf("the heir shipped %d of %d", s.ShippedLSN(), heir.log.Durable())
		}
		heir.holds(store, 2, heir.log.Durable())
		must(t, old.log.Close())
		must(t, heir.log.Close())
	})
}

// ended is what a run ends with by itself, within a while.
func ended(stop func() error) <-chan error {
	out := make(chan error, 1)
	time.Sleep(time.Minute)
	out <- stop()
	return out
}

// TestATakenNameIsReadBeforeItIsJudged: the same history under a name that is taken is
// a success whoever wrote it; another one under the own epoch is a fence.
func TestATakenNameIsReadBeforeItIsJudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := object.NewMemory("a")
		n := newNode(t, 7).open(1)
		n.write(30)
		n.roll()
		heir := n.copyTo("node-b", n.log.Durable())
		info := n.log.Segments()[0]
		k := SegmentKey{Epoch: 1, First: info.First, Last: info.Last}
		// Somebody else's bytes, by another compressor: the same segment.
		body := rawSegment(t, n, info)
		must(t, store.Put(t.Context(), k.String(), body))
		s := n.shipper(store)
		s.listed = nil // as if it had come after the listing
		rep, err := s.verifySegment(info, nil)
		must(t, err)
		if err := s.sameSegment(t.Context(), k, rep.Tail.Chain); err != nil {
			t.Errorf("the same history: %v", err)
		}
		// Another history of the same epoch under a name that ours has.
		other := newNode(t, 8).open(1)
		other.write(30)
		other.roll()
		foreign := other.log.Segments()[0]
		fk := SegmentKey{Epoch: 1, First: foreign.First, Last: foreign.Last}
		second := object.NewMemory("b")
		must(t, second.Put(t.Context(), fk.String(), rawSegment(t, other, foreign)))
		var fenced *FencedError
		if err := n.shipper(second).sameSegment(t.Context(), fk, rep.Tail.Chain); !errors.As(err, &fenced) || fenced.Epoch != 1 {
			t.Errorf("another history under the own epoch: %v", err)
		}
		heir.open(2)
		var conflict *ConflictError
		if err := heir.shipper(second).sameSegment(t.Context(), fk, rep.Tail.Chain); !errors.As(err, &conflict) {
			t.Errorf("another history under an ancestor's: %v", err)
		}
		must(t, n.log.Close())
		must(t, other.log.Close())
		must(t, heir.log.Close())
	})
}

// rawSegment is the object of a segment.
func rawSegment(t testing.TB, n *node, info wal.SegmentInfo) object.Body {
	t.Helper()
	body, _, err := compressed(n.opener(info.Path), info.Bytes, newRoom(keepBytes), func(r io.ReadCloser) error {
		_, err := io.Copy(io.Discard, r)
		return errors.Join(err, r.Close())
	})
	must(t, err)
	return body
}
