package failover

import (
	"testing"
	"time"

	"originchain/shared/lease"
	"originchain/shared/lsn"
)

// watching is an observer of the world that two may share.
func (w *world) watching(t *testing.T) (o *Observer, sight func(to string) Sight) {
	t.Helper()
	nodes, err := Nodes(t.Context(), w.reg)
	if err != nil {
		t.Fatal(err)
	}
	d := w.deps()
	o = NewObserver(ObserverDeps{Lease: d.Lease, Control: d.Control, HTTP: d.HTTP, AdminToken: token})
	return o, func(to string) Sight {
		n, err := find(nodes, to)
		if err != nil {
			t.Fatal(err)
		}
		return Sight{Nodes: nodes, Target: n}
	}
}

// Two that look at once, each for a target of its own, as a guard and an operator's command
// do, each see their own: what another node says decides nothing about this one.
func TestTwoThatLookForOtherTargets(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.with("b", func(n *fakeNode) { n.slow, n.last.LSN = 50*time.Millisecond, 4000 })
		o, sight := w.watching(t)
		defer o.Close()
		w.running.Go(func() {
			pass(10 * time.Millisecond)
			if seen := o.Look(t.Context(), sight("c")).Target; seen.Node != "c" || !seen.Answers {
				t.Errorf("who looks at c sees %+v", seen)
			}
		})
		if seen := o.Look(t.Context(), sight("b")).Target; seen.Node != "b" || seen.Last.LSN != 4000 {
			t.Errorf("who looks at b sees %+v", seen)
		}
	}, "b")
}

// That the process of the holder before has ended says nothing of the one that the record
// names by now; nor that it answers.
func TestWhatIsKnownOfAHolderIsOfThatOne(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		o, sight := w.watching(t)
		defer o.Close()
		if seen := o.Look(t.Context(), sight("c")).Writer; seen.Silent != 0 || seen.Stopped {
			t.Fatalf("a writes: %+v", seen)
		}
		give := func(to string) {
			if _, err := w.change(func(r lease.Record) (lease.Record, error) {
				return r.Take(lease.Candidate{Instance: r.Instance, Node: to, URL: "http://" + to, Last: lsn.Pos{Epoch: 1, LSN: 5010}})
			}); err != nil {
				t.Fatal(err)
			}
			if _, _, err := o.Record(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		w.kill("a", true)
		if seen := o.Look(t.Context(), sight("c")).Writer; !seen.Stopped {
			t.Fatalf("a has ended: %+v", seen)
		}
		give("b")
		if seen := o.observation(sight("c")).Writer; seen.Stopped || seen.Silent == 0 {
			t.Errorf("b, which nobody has asked yet, is taken for a: %+v", seen)
		}
	}, "b")
}
