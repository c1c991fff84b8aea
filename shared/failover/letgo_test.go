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
		"it has written since":        {stepRaise, func(_ *testing.T, w *world) { w.give("a"); w.adopts("a"); w.confirms("a") }, "was started since"},
		"its target opens":            {stepRaise, func(_ *testing.T, w *world) { w.adopts("b") }, "to follow b, which opens epoch 2"},
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
				starts := 1
				if c.want == "" || strings.Contains(c.want, "since") {
					starts = 0
				}
				if c.want == "" != errors.As(err, &held) || c.want != "" && err != nil || !strings.Contains(said, c.want) || w.starts("a") != starts {
					t.Errorf("%q, %v; it was started %d times", said, err, w.starts("a"))
				}
			}, "b", "c")
		})
	}
}

// adopts has the record say that its holder opens its epoch; confirms, that it has.
func (w *world) adopts(id string) {
	if _, err := w.change(func(r lease.Record) (lease.Record, error) {
		return r.Adopt(lease.Candidate{Instance: r.Instance, Node: id, URL: "http://" + id, Last: lsn.Pos{Epoch: 1, LSN: 5010}, Place: "place-" + id})
	}); err != nil {
		w.t.Errorf("%s adopts the epoch: %v", id, err)
	}
}

func (w *world) confirms(id string) {
	if _, err := w.change(func(r lease.Record) (lease.Record, error) {
		return r.Confirm(lease.Claim{Node: id, Epoch: r.Epoch}, lsn.Pos{Epoch: 1, LSN: 5010}, nil, 0)
	}); err != nil {
		w.t.Errorf("%s confirms the epoch: %v", id, err)
	}
}

// A target that answers, and does not say how far it is, opens perhaps: nobody knows yet.
func TestATargetThatRefusesToSay(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", false)
		run := w.begunSteps(t, stepRaise)
		d := w.deps()
		d.AdminToken = "of another instance"
		said, err := LetGo(t.Context(), d, run)
		var held *HeldError
		if err == nil || errors.As(err, &held) || !strings.Contains(err.Error(), "nobody knows whether it opens") || w.starts("a") != 0 {
			t.Errorf("%q, %v; it was started %d times", said, err, w.starts("a"))
		}
	}, "b")
}

// What was stopped by a run whose target died before it was let go is let go by the next.
func TestTheTargetDiesBeforeAnybodyIsLetGo(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", false)
		w.begunSteps(t, stepRecord)
		w.kill("b", true)
		req := w.request("c")
		req.From, req.Allow.AcceptDataLoss = "", true
		rep, err := Execute(t.Context(), w.deps(), req, nil)
		if err != nil {
			t.Fatalf("%+v, %v", rep, err)
		}
		said, err := LetGo(t.Context(), w.deps(), rep.Run)
		if err != nil || w.starts("a") != 1 || w.starts("b") != 1 {
			t.Errorf("%q, %v: a was started %d times, b %d", said, err, w.starts("a"), w.starts("b"))
		}
		if l, _, err := Latest(t.Context(), w.reg); err != nil || l.Held {
			t.Errorf("%+v, %v", l, err)
		}
	}, "b", "c")
}

// stoppedMeanwhile is an instance control by which a server is stopped again right after it
// was started.
type stoppedMeanwhile struct {
	*world
	again func()
}

func (s *stoppedMeanwhile) Start(ctx context.Context, n Node) error {
	err := s.world.Start(ctx, n)
	if s.again != nil {
		s.again()
		s.again = nil
	}
	return err
}

// Whoever does the same run stops the server again while it is let go: it is held then, and
// that is known.
func TestAServerIsStoppedAgainMeanwhile(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", false)
		run := w.begunSteps(t, stepUnit)
		d := w.deps()
		d.Control = &stoppedMeanwhile{w, func() {
			err := rewrite(t.Context(), w.reg, journalKey, func(j *journal) bool { j.stops("a", 1); return true })
			if _, stopErr := w.Stop(t.Context(), w.nodes["a"].node); err != nil || stopErr != nil {
				t.Error(err, stopErr)
			}
		}}
		for try := range 2 {
			if _, err := LetGo(t.Context(), d, run); err != nil {
				t.Fatal(err)
			}
			l, _, err := Latest(t.Context(), w.reg)
			if err != nil || l.Held != (try == 0) || w.nodes["a"].held != (try == 0) {
				t.Errorf("try %d: the journal says held: %t, and it is %t, %v", try, l.Held, w.nodes["a"].held, err)
			}
		}
	}, "b")
}

// Under --sync-strict the only follower of a new writer may be the one that is held.
func TestAStrictWriterWaitsForWhoIsHeld(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", false)
		w.kill("c", false)
		w.with("b", func(n *fakeNode) { n.strict = true })
		rep, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
		if err != nil || rep.Seconds > 20 || w.starts("a") != 1 {
			t.Fatalf("%+v, %v; a was started %d times", rep, err, w.starts("a"))
		}
		w.isDone(t, "b", 2)
		if l, _, err := Latest(t.Context(), w.reg); err != nil || l.Held {
			t.Errorf("%+v, %v", l, err)
		}
	}, "b")
}

// It is not tried before the new writer opens: the old one would be refused for good.
func TestNobodyIsBroughtBackTooEarly(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", false)
		w.begunSteps(t, stepRaise)
		r := newRun(w.deps(), w.request("b"), nil)
		if err := r.open(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer r.close()
		var err error
		if r.journal, err = loadJournal(t.Context(), w.reg); err != nil {
			t.Fatal(err)
		}
		if r.bringBack(t.Context()) || w.starts("a") != 0 {
			t.Errorf("a was started %d times while b was only given the epoch", w.starts("a"))
		}
		w.adopts("b")
		if !r.bringBack(t.Context()) || w.starts("a") != 1 {
			t.Errorf("a was started %d times while b opens", w.starts("a"))
		}
	}, "b")
}

// stoppedIn has the journal say in which epoch a node was stopped.
func (w *world) stoppedIn(t *testing.T, epoch lsn.Epoch) {
	if err := rewrite(t.Context(), w.reg, journalKey, func(j *journal) bool { j.Held[0].Epoch = uint64(epoch); return true }); err != nil {
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
