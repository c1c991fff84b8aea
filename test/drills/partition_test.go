package drills

import (
	"fmt"
	"testing"
	"time"

	"originchain/test/netns"
	"originchain/test/settle"
)

// cut is a partition of one direction: packets that a host drops.
type cut struct {
	name string
	on   func(i *instance) *node
	way  netns.Direction
	what func(i *instance) string
	// moves: another node takes over while it lasts. Else the writer must still be the
	// same in the end.
	moves bool
}

func aWriter(i *instance) *node   { return i.writer() }
func aFollower(i *instance) *node { return i.others(i.writer())[0] }

func toOrFrom(where string, port int, end string) func(*instance) string {
	return func(i *instance) string {
		return fmt.Sprintf("ip %s %s tcp %s %d", where, i.net.Gateway(), end, port)
	}
}

func cuts() []cut {
	return []cut{
		{"the writer does not hear its follower", aWriter, netns.Arriving, func(i *instance) string { return "ip saddr " + aFollower(i).IP }, false},
		{"the follower does not hear its writer", aFollower, netns.Arriving, func(i *instance) string { return "ip saddr " + aWriter(i).IP }, false},
		// The lease runs out: nobody renews it.
		{"the writer is not heard by the lease store", aWriter, netns.Leaving, toOrFrom("daddr", leasePort, "dport"), true},
		// Renewals arrive, and the writer never learns of it.
		{"the writer does not hear the lease store", aWriter, netns.Arriving, toOrFrom("saddr", leasePort, "sport"), true},
		// The writer renews its lease, so that nobody may take its place, whatever
		// clients say of it.
		{"clients are not heard by the writer", aWriter, netns.Arriving, toOrFrom("saddr", apiPort, "dport"), false},
		{"clients do not hear the writer", aWriter, netns.Leaving, toOrFrom("daddr", apiPort, "sport"), false},
	}
}

// cutFor is how long a cut lasts that moves nobody: longer than the wait for an
// acknowledgement, a lease, and its expiry.
const cutFor = 8 * time.Second

func TestOneWay(t *testing.T) {
	t.Parallel()
	r := random(t)
	pick := r.IntN(2)
	for n, c := range cuts() {
		if !*all && n%2 != pick {
			continue // of each pair of directions one, by the seed
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			i := newInstance(t, 1)
			l := i.begin()
			l.breaks.Store(true) // a request may wait for its answer until the client gives up
			host, was, epoch, at := c.on(i), i.writer(), uint64(i.record().Epoch), time.Now()
			i.must(host.Drop(c.way, c.what(i)))
			if c.moves {
				l.succeeded(c.name, at, epoch)
			} else {
				settle.Pause(t.Context(), cutFor)
			}
			settle.Eventually(t, "the cut drops packets", func() error {
				n, err := host.Dropped()
				if err == nil && n == 0 {
					err = fmt.Errorf("none yet")
				}
				return err
			})
			i.must(host.Heal())
			l.flow()
			if now := i.record(); !c.moves && (now.Holder != was.ID || uint64(now.Epoch) != epoch) {
				t.Errorf("%s holds epoch %d: nobody had reason to replace %s of epoch %d", now.Holder, now.Epoch, was.ID, epoch)
			}
			l.settle()
		})
	}
}
