package archive

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/objecttest"
	"originchain/shared/wal"
)

// TestAnEpochIsAllottedOnce: of nodes that race to end the same epoch, over a store
// that loses answers, at most one gets the next, and it is the one that its object
// names.
func TestAnEpochIsAllottedOnce(t *testing.T) {
	lost, won := 0, 0
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			memory := object.NewMemory("a")
			store := objecttest.NewFaulty(memory, seed)
			store.SetRates(map[objecttest.Fault]float64{objecttest.LostAnswer: 0.3, objecttest.LostAndTold: 0.1, objecttest.Internal: 0.1})
			var mu sync.Mutex
			var wg sync.WaitGroup
			got := make(map[lsn.Epoch]string)
			for i := range 6 {
				wg.Go(func() {
					name := fmt.Sprint("node-", i)
					epoch, err := AllotEpoch(t.Context(), store, Claimant{Instance: testInstance, Node: name}, Allotment{AtLeast: 3, Ended: 3})
					var fenced *FencedError
					if errors.As(err, &fenced) && (fenced.Epoch != 4 || fenced.Node == "" || fenced.Node == name) {
						t.Errorf("%s: %v", name, err)
					}
					if err != nil {
						return // it gave up; nobody has an epoch by that
					}
					mu.Lock()
					defer mu.Unlock()
					got[epoch] += name
				})
			}
			wg.Wait()
			for epoch, name := range got {
				if d, err := New(memory).Epoch(t.Context(), EpochKey{epoch}); err != nil || d.Node != name || epoch != 4 {
					t.Errorf("epoch %d of %s: %+v, %v", epoch, name, d, err)
				}
				won++
			}
			lost += store.Met(objecttest.LostAnswer)
		})
	}
	if lost == 0 || won == 0 {
		t.Errorf("%d answers were lost and %d nodes won: nothing was tested", lost, won)
	}
}

// TestALogThatBeginsAboveTheArchive leaves a gap, says so, and asks for a checkpoint.
func TestALogThatBeginsAboveTheArchive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := object.NewMemory("a")
		n := newNode(t, 1).open(1)
		n.write(80)
		n.roll()
		n.write(1)
		must(t, n.log.RemoveBefore(n.log.Tail().Pos.LSN))
		first := n.log.FirstLSN()
		s := n.shipper(store)
		stop := started(t, s)
		n.write(20)
		n.roll()
		time.Sleep(time.Second)
		select {
		case <-s.CheckpointWanted():
		default:
			t.Error("no checkpoint was asked for")
		}
		if st := s.Status(); st.GapFrom != 1 || st.GapTo != uint64(first-1) || st.ShippedLSN != uint64(n.log.Durable()) {
			t.Errorf("%+v, the log begins at %d", st, first)
		}
		must(t, stop())
		survey, err := New(store).Survey(t.Context())
		must(t, err)
		if len(survey.Gaps) != 1 || survey.Gaps[0] != (GapKey{Epoch: 1, From: 1, To: first - 1}) {
			t.Errorf("%+v", survey.Gaps)
		}
		// A second start finds the same, and makes no second gap.
		stop = started(t, n.shipper(store))
		must(t, stop())
		if got := objects(t, store, gapPrefix); len(got) != 1 {
			t.Errorf("%q", got)
		}
		must(t, n.log.Close())
	})
}

// TestWhatRetentionHasLetGoOfIsNotShippedAgain: nor is anything taken for shipped that
// other lines let go of.
func TestWhatRetentionHasLetGoOfIsNotShippedAgain(t *testing.T) {
	line := []wal.EpochStart{{Epoch: 2, First: 1}, {Epoch: 5, First: 901}}
	for _, c := range []struct {
		name string
		kept []KeptFrom
		want lsn.LSN
	}{
		{"nothing is known", nil, 0},
		{"of the first epoch", []KeptFrom{{2, 400}, {5, 901}}, 399},
		{"all of the first", []KeptFrom{{5, 950}}, 949},
		{"up to where the line leaves it", []KeptFrom{{2, 901}}, 900},
		{"above where the line leaves it", []KeptFrom{{2, 1000}}, 0},
		{"other epochs", []KeptFrom{{1, 7}, {3, 9}}, 0},
	} {
		b := Boundary{Highest: 5, Kept: c.kept}
		if got := b.floor(line); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// TestANewShipperKnowsTheAgeOfTheNewestCheckpoint.
func TestANewShipperKnowsTheAgeOfTheNewestCheckpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := object.NewMemory("a")
		n := newNode(t, 1).open(1)
		s := n.shipper(store)
		time.Sleep(time.Minute)
		if st := s.Status(); st.CheckpointSeconds != 60 || st.CheckpointLSN != 0 {
			t.Errorf("with none: %+v", st)
		}
		stop := started(t, s)
		_, err := n.checkpoint(s, map[string]string{"a": "b"})
		must(t, err)
		must(t, stop())
		time.Sleep(time.Hour)
		s = n.shipper(store)
		stop = started(t, s)
		if st := s.Status(); st.CheckpointSeconds != 3600 || st.CheckpointLSN != uint64(n.log.Durable()) {
			t.Errorf("an hour later: %+v", st)
		}
		must(t, stop())
		must(t, n.log.Close())
	})
}
