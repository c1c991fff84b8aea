package failover

import (
	"strings"
	"testing"
)

// The old writer's server runs again once another node writes, and not before.
func TestTheOldWriterIsLetGo(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		if err := LetGo(t.Context(), w.deps(), Report{From: "a", To: "b", Epoch: 2}); err == nil || !strings.Contains(err.Error(), "the record names a for epoch 1") {
			t.Errorf("%v", err)
		}
		rep, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
		if err != nil {
			t.Fatal(err)
		}
		late := rep
		late.Epoch = 3
		if err := LetGo(t.Context(), w.deps(), late); err == nil || w.nodes["a"].up {
			t.Errorf("started for an epoch that nobody has: %v", err)
		}
		if err := LetGo(t.Context(), w.deps(), rep); err != nil {
			t.Error(err)
		}
		w.isWriter(t, "b", 2)
		if !w.nodes["a"].up || w.nodes["a"].held {
			t.Error("a is not started")
		}
		w.stopFails, w.controlAway = true, true
		if err := LetGo(t.Context(), w.deps(), rep); err == nil {
			t.Error("nobody reaches its machine, and nothing is said")
		}
	}, "b")
}
