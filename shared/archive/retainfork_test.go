package archive

import (
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/lsn"
	"originchain/shared/object"
)

// An epoch that came to nothing has no frame, and so no line that needs anything: where
// a later one forks below it, what its parent has between the two is on the parent's line
// alone. An operator does that who accepts a restore to the latest point, and then one to
// an earlier point.
func TestRetentionKeepsWhatAnEpochThatCameToNothingBeganBehind(t *testing.T) {
	for _, empty := range []int{1, 2} {
		synctest.Test(t, func(t *testing.T) {
			store := object.NewMemory("a")
			n := newNode(t, 1).open(1)
			s := n.shipper(store)
			stop := started(t, s)
			n.write(5)
			n.roll()
			fork := n.log.Durable()
			n.write(5)
			n.roll()
			time.Sleep(time.Minute)
			must(t, stop())
			end := n.log.Tail()
			heir := n.copyTo("node-b", fork)
			must(t, n.log.Close())

			epoch := lsn.Epoch(1)
			for range empty {
				who := Claimant{Instance: testInstance, Node: "accepted", Region: "eu-central-1"}
				taken, err := AllotEpoch(t.Context(), store, who, Allotment{At: end, AtLeast: epoch, Ended: epoch})
				must(t, err)
				end.Pos.Epoch, epoch = taken, taken
			}
			n = heir.open(epoch + 1)
			s = n.shipper(store)
			stop = started(t, s)
			n.write(3)
			n.roll()
			_, err := n.checkpoint(s, map[string]string{"1.sst": "1"})
			must(t, err)
			time.Sleep(time.Minute)
			must(t, stop())

			until := time.Now().Add(-time.Hour) // all that was written is in the window
			_, before := inWindow(t, store, until.UnixMicro())
			out, err := New(store).Retain(t.Context(), Retention{Until: until})
			must(t, err)
			if len(out.Segments) > 0 {
				t.Errorf("segments of the window were removed: %v", out.Segments)
			}
			stillReachable(t, store, before)
			must(t, n.log.Close())
		})
	}
}
