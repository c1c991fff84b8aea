package failover

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"originchain/shared/lease"
	"originchain/shared/lsn"
)

// starts says how often a node was started.
func (w *world) starts(id string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(w.controls), func(c string) bool { return c != "start "+id }))
}

// The old writer's server runs again once another node writes, and not before; once, and
// not again when somebody stops it later.
func TestTheOldWriterIsLetGo(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", false)
		run := w.begunSteps(t, stepRaise)
		var held *HeldError
		if _, err := LetGo(t.Context(), w.deps(), run); !errors.As(err, &held) || !strings.Contains(err.Error(), "may be about to write") {
			t.Errorf("%v", err)
		}
		for _, name := range StepNames()[4:] {
			if _, err := Continue(t.Context(), w.deps(), Next{Run: run, Step: name, Zone: zone}, nil); err != nil {
				t.Fatal(err)
			}
		}
		w.controlAway = true
		if _, err := LetGo(t.Context(), w.deps(), run); err == nil || errors.As(err, &held) {
			t.Errorf("nobody reaches its machine, and what is said is %v", err)
		}
		w.controlAway = false
		for range 2 {
			if said, err := LetGo(t.Context(), w.deps(), run); err != nil || said == "" {
				t.Errorf("%q, %v", said, err)
			}
		}
		w.isWriter(t, "b", 2)
		w.with("a", func(n *fakeNode) {
			if !n.up || n.held {
				t.Error("a is not started")
			}
			n.end()
			n.held = true // by hand
		})
		if said, err := LetGo(t.Context(), w.deps(), run); err != nil || w.starts("a") != 1 {
			t.Errorf("what was stopped by hand since is started %d times: %q, %v", w.starts("a"), said, err)
		}
	}, "b")
}

// A run that stops behind fence has left an instance with nobody who writes: its old writer
// is let go where the record names it, or where who was given the epoch is gone.
func TestTheOldWriterOfARunThatDoesNotGoOn(t *testing.T) {
	for name, c := range map[string]struct {
		upTo string
		then func(t *testing.T, w *world)
		want string // what is said; "" is that it stays held
	}{
		"fenced":                      {stepFence, func(*testing.T, *world) {}, "nobody has taken its place"},
		"its target is not fit":       {stepUnit, func(_ *testing.T, w *world) { w.with("b", func(n *fakeNode) { n.last.LSN = 10 }) }, "nobody has taken its place"},
		"its target answers":          {stepRaise, func(*testing.T, *world) {}, ""},
		"its target is gone":          {stepRaise, func(_ *testing.T, w *world) { w.kill("b", false) }, "nobody else may have everything"},
		"another node has the record": {stepFence, func(_ *testing.T, w *world) { w.give("c"); w.open(w.nodes["c"], 2, 0) }, "follows c, the writer of epoch 2"},
		"it has the record again":     {stepRaise, func(_ *testing.T, w *world) { w.give("a") }, ""},
		"another run has begun":       {stepFence, func(_ *testing.T, w *world) { w.begun("R", "c") }, ""},
		"a record of before":          {stepFence, func(t *testing.T, w *world) { w.stoppedIn(t, 7) }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.kill("a", false)
				run := w.begunSteps(t, c.upTo)
				c.then(t, w)
				said, err := LetGo(t.Context(), w.deps(), run)
				var held *HeldError
				if c.want == "" && (!errors.As(err, &held) || w.starts("a") > 0) || c.want != "" && (err != nil || !strings.Contains(said, c.want) || w.starts("a") != 1) {
					t.Errorf("%q, %v; it was started %d times", said, err, w.starts("a"))
				}
			}, "b", "c")
		})
	}
}

// stoppedIn has the journal say in which epoch the holder was stopped.
func (w *world) stoppedIn(t *testing.T, epoch lsn.Epoch) {
	if err := rewrite(t.Context(), w.reg, journalKey, func(j *journal) bool { j.FromEpoch, j.Holder = uint64(epoch), "c"; return true }); err != nil {
		t.Fatal(err)
	}
}

// Who was not stopped is not started: it has handed over, or had ended by itself.
func TestWhoWasNotStoppedIsNotLetGo(t *testing.T) {
	for _, planned := range []bool{false, true} {
		bubble(t, func(t *testing.T, w *world) {
			req := w.request("b")
			if req.Planned = planned; !planned {
				w.release("a")
				w.kill("a", true)
			}
			rep, err := Execute(t.Context(), w.deps(), req, nil)
			if err != nil {
				t.Fatal(err)
			}
			if said, err := LetGo(t.Context(), w.deps(), rep.Run); err != nil || w.starts("a") != 0 {
				t.Errorf("%q, %v; it was started %d times", said, err, w.starts("a"))
			}
			if _, err := LetGo(t.Context(), w.deps(), ""); err == nil {
				t.Error("of no run there is nothing to let go")
			}
		}, "b")
	}
}

// release has the record say that its holder has ended.
func (w *world) release(id string) {
	if _, err := w.change(func(r lease.Record) (lease.Record, error) { return r.Release(lease.Claim{Node: id, Epoch: r.Epoch}, 0) }); err != nil {
		w.t.Error(err)
	}
}

// What one run has stopped is let go by the one that takes its place, whoever stopped it.
func TestWhatARunBeforeHasStopped(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", false)
		w.begunSteps(t, stepFence)
		w.kill("b", false)
		req := w.request("c")
		req.From = ""
		rep, err := Execute(t.Context(), w.deps(), req, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := LetGo(t.Context(), w.deps(), rep.Run); err != nil || w.starts("a") != 1 {
			t.Errorf("%v; it was started %d times", err, w.starts("a"))
		}
		w.isWriter(t, "c", 2)
	}, "b", "c")
}

// Whoever lets go may be killed at any call: the next one does it, and the one after that
// nothing more.
func TestLettingGoIsKilledAnywhere(t *testing.T) {
	cuts := 0
	for whole := false; !whole; {
		cuts++
		for _, after := range []bool{false, true} {
			bubble(t, func(t *testing.T, w *world) {
				w.kill("a", false)
				rep, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				k := &trouble{at: cuts, after: after, kill: cancel}
				_, err = LetGo(ctx, w.troubled(k), rep.Run)
				if whole = !k.dead; whole != (err == nil) && !after {
					t.Errorf("cut %d: %v", cuts, err)
				}
				for range 2 {
					if _, err := LetGo(t.Context(), w.deps(), rep.Run); err != nil {
						t.Error(err)
					}
				}
				w.isDone(t, "b", 2)
				if n := w.starts("a"); n < 1 || n > 2 || !w.nodes["a"].up {
					t.Errorf("cut %d, after: %t: it was started %d times", cuts, after, n)
				}
			}, "b")
		}
	}
	if cuts < 5 {
		t.Errorf("%d cuts are too few", cuts)
	}
}
