package failover

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"originchain/shared/lsn"
)

// holders are the ways in which the record names nobody that is registered, or the very
// node that is to write.
func holders() map[string]struct {
	way   func(t *testing.T, w *world)
	epoch lsn.Epoch
	flags string
} {
	type holder = struct {
		way   func(t *testing.T, w *world)
		epoch lsn.Epoch
		flags string
	}
	return map[string]holder{
		"unregistered": {func(t *testing.T, w *world) {
			w.kill("a", false)
			doc, err := w.reg.Load(t.Context(), nodePrefix+"a")
			if err == nil {
				err = w.reg.Delete(t.Context(), nodePrefix+"a", doc.Version)
			}
			if err != nil {
				t.Fatal(err)
			}
		}, 2, ""},
		"the target, for the first time": {func(_ *testing.T, w *world) { w.reopen("b") }, 3, ""},
		"the target, after a failover": {func(t *testing.T, w *world) {
			w.kill("a", true)
			if _, err := Execute(t.Context(), w.deps(), w.request("b"), nil); err != nil {
				t.Fatal(err)
			}
			w.with("a", func(n *fakeNode) { n.held = false; n.start() })
			w.with("b", func(n *fakeNode) {
				n.end()
				n.unit = unitOf("b", "--mode follower --leader-addr a:7001")
				n.start()
			})
		}, 3, "--sync-replicas=1"},
	}
}

// reopen has a node written the last epoch, and follow since, whoever it would follow.
func (w *world) reopen(id string) {
	w.give(id)
	w.adopts(id)
	w.confirms(id)
	w.with("a", func(n *fakeNode) { n.role = roleFollower })
	w.with(id, func(n *fakeNode) { n.last = lsn.Pos{Epoch: 2, LSN: 5011}; n.applied, n.streams = 5011, false })
}

// stops says whether a node was stopped.
func (w *world) stopped(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Contains(w.controls, "stop "+id)
}

// A holder that is not registered, and one that is the target itself, are no obstacle for
// the steps behind the first, in one process or in many, killed anywhere. Who wrote before
// the holder is left alone: it follows.
func TestTheHolderIsNoNodeOfTheRun(t *testing.T) {
	for name, c := range holders() {
		for _, steps := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, by steps %t", name, steps), func(t *testing.T) {
				t.Parallel()
				cutting(t, func(t *testing.T, w *world, k *trouble) {
					c.way(t, w)
					w.flags = c.flags
					w.mu.Lock()
					w.controls = nil
					w.mu.Unlock()
					pass(time.Second)
					req := w.request("b")
					req.From = ""
					var err error
					if steps {
						_, err = w.byStep(t, k, req)
					} else if _, err = w.execute(t, k, req); k.dead {
						_, err = w.execute(t, &trouble{}, req)
					}
					if err != nil {
						t.Errorf("%v", err)
					}
					w.isDone(t, "b", c.epoch)
					if w.stopped("a") || w.stopped("b") {
						t.Errorf("%v: neither is the holder that is to be fenced", w.controls)
					}
				})
			})
		}
	}
}
