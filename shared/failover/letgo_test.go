package failover

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"originchain/shared/lease"
	"originchain/shared/lsn"
	"originchain/shared/serverunit"
)

// starts says how often a node was started.
func (w *world) starts(id string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(slices.DeleteFunc(slices.Clone(w.controls), func(c string) bool { return c != "start "+id }))
}

// Nor does who was given its epoch keep it from running whose log takes no writes: it may be the only
// one that has everything.
func TestTheOldWriterIsLetGoForATargetWhoseDiskHangs(t *testing.T) {
	for _, opening := range []bool{false, true} {
		bubble(t, func(t *testing.T, w *world) {
			w.kill("a", true)
			run := w.begunSteps(t, stepRaise)
			w.with("b", func(n *fakeNode) { n.unwell, n.opening = true, opening })
			said, err := LetGo(t.Context(), w.deps(), run)
			if err != nil || w.starts("a") != 1 || !strings.Contains(said, "takes no writes") {
				t.Errorf("opening: %t: it is started %d times: %q, %v", opening, w.starts("a"), said, err)
			}
		}, "b")
	}
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

// join makes nodes of the instance, which follow.
func (w *world) join(t *testing.T, ids ...string) {
	for _, id := range ids {
		n := Node{ID: id, Machine: "i-" + id, URL: "http://" + id, OpsURL: "http://" + id, ReplicationAddress: id + ":7001", Address: "10.0.1.1"}
		if err := SaveNode(t.Context(), w.reg, n); err != nil {
			t.Fatal(err)
		}
		w.mu.Lock()
		w.nodes[id] = &fakeNode{w: w, node: n, role: roleFollower, held: true, unit: unitOf(id, "--mode follower --leader-addr a:7001")}
		w.mu.Unlock()
	}
}

// forget takes a node out of the registry.
func (w *world) forget(t *testing.T, id string) {
	doc, err := w.reg.Load(t.Context(), nodePrefix+id)
	if err == nil {
		err = w.reg.Delete(t.Context(), nodePrefix+id, doc.Version)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// heldNow are the nodes that the journal says are held.
func (w *world) heldNow(t *testing.T) (nodes []string) {
	j, err := loadJournal(t.Context(), w.reg)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range j.Held {
		nodes = append(nodes, s.Node)
	}
	return nodes
}

// Machines that do not answer, from earlier failovers, use up no time of who can be started:
// all are started at once, in the time that a function has.
func TestWhoDoesNotAnswerKeepsNobodyHeld(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		lost := []string{"d", "e", "f", "g"}
		w.join(t, lost...)
		w.stoppedBefore(t, lost...)
		w.kill("a", false)
		run := w.begunSteps(t, stepRecord)
		d := w.deps()
		d.Control = never(w, lost...)
		ctx, cancel := context.WithTimeout(t.Context(), 2*restartTimeout)
		defer cancel()
		_, err := LetGo(ctx, d, run)
		if held := w.heldNow(t); err == nil || ctx.Err() != nil || w.starts("a") != 1 || !slices.Equal(held, lost) {
			t.Errorf("%v; a was started %d times, and held are %v", err, w.starts("a"), held)
		}
	}, "b")
}

// What is told names each that was held, and what became of it: those first that nobody has
// started, the last that was stopped first. It is worth another try if one of them is.
func TestAllThatWereHeldAreNamed(t *testing.T) {
	for deaf, want := range map[string]string{
		"":  "d is not started: the record names b for epoch 2, and it was stopped in 7; a is started, and follows b, the writer of epoch 2; c is started, and follows b, the writer of epoch 2",
		"c": "d is not started: the record names b for epoch 2, and it was stopped in 7; the server of c may be held, and was not let go: context deadline exceeded; a is started, and follows b, the writer of epoch 2",
	} {
		bubble(t, func(t *testing.T, w *world) {
			w.join(t, "d")
			w.stoppedBefore(t, "c", "d")
			if err := rewrite(t.Context(), w.reg, journalKey, func(j *journal) bool { j.Held[1].Epoch = 7; return true }); err != nil {
				t.Fatal(err)
			}
			w.kill("a", false)
			w.kill("c", true)
			run := w.begunSteps(t, stepRecord)
			d := w.deps()
			d.Control = never(w, deaf)
			_, err := LetGo(t.Context(), d, run)
			var held *HeldError
			if err == nil || err.Error() != want || errors.As(err, &held) != (deaf == "") {
				t.Errorf("%v\nwant %s", err, want)
			}
		}, "b")
	}
}

// A node that is not registered any more is held by nobody for ever: that is said once.
func TestWhoIsNotRegisteredIsForgotten(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.stoppedBefore(t, "x")
		w.kill("a", false)
		w.kill("c", false)
		w.with("b", func(n *fakeNode) { n.strict = true })
		run := w.begunSteps(t, stepRecord)
		if held := w.heldNow(t); !slices.Equal(held, []string{"x"}) || w.starts("a") != 1 {
			t.Fatalf("before the run's end %v are held, and a was started %d times", held, w.starts("a"))
		}
		_, err := LetGo(t.Context(), w.deps(), run)
		var held *HeldError
		if !errors.As(err, &held) || held.Node != "x" || !strings.Contains(err.Error(), `the registry has no node "x"`) {
			t.Errorf("%v", err)
		}
		if said, err := LetGo(t.Context(), w.deps(), run); err != nil || !strings.Contains(said, "nobody is held") {
			t.Errorf("and then: %q, %v", said, err)
		}
		if l, _, err := Latest(t.Context(), w.reg); err != nil || l.Held {
			t.Errorf("%+v, %v", l, err)
		}
	}, "b")
	bubble(t, func(t *testing.T, w *world) { // where that is not noted, it is no word yet
		w.kill("a", false)
		run := w.begunSteps(t, stepRecord)
		w.forget(t, "a")
		k := &trouble{at: 4, kill: func() {}} // journal, nodes, record, journal
		_, err := LetGo(t.Context(), w.troubled(k), run)
		var held *HeldError
		if err == nil || errors.As(err, &held) || !k.dead {
			t.Errorf("%v", err)
		}
		if _, err := LetGo(t.Context(), w.deps(), run); !errors.As(err, &held) || held.Node != "a" {
			t.Errorf("%v", err)
		}
	}, "b")
}

// The time of a machine that did not answer a stop is that machine's alone: the server of
// another one has all that its unit allows.
func TestOnlyWhoDidNotAnswerIsGivenLittleTime(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.stoppedBefore(t, "c")
		w.kill("a", false)
		w.kill("c", true)
		w.cut = "a"
		run := w.begunSteps(t, stepRecord)
		at := time.Now().Add(serverunit.StopTimeout)
		d := w.deps()
		d.Control = ending{w, 0, &at}
		if _, err := LetGo(t.Context(), d, run); err == nil || w.starts("c") != 1 || w.starts("a") != 0 {
			t.Errorf("%v: c was started %d times, a %d", err, w.starts("c"), w.starts("a"))
		}
	}, "b")
}

// Whoever lets a run's servers go while the next one stops the same node, in the same epoch,
// does not take that stop for its own.
func TestTheNextRunStopsWhoIsLetGo(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.stoppedBefore(t, "a")
		w.kill("a", true)
		d := w.deps()
		d.Control = &stoppedMeanwhile{w, func() {
			w.kill("a", false)
			rep, err := Begin(t.Context(), w.deps(), w.request("b"), nil)
			if err == nil {
				_, err = Continue(t.Context(), w.deps(), Next{Run: rep.Run, Step: stepFence, Zone: zone}, nil)
			}
			if err != nil {
				t.Error(err)
			}
		}}
		said, err := LetGo(t.Context(), d, "R0")
		if held := w.heldNow(t); err != nil || !slices.Equal(held, []string{"a"}) || !w.nodes["a"].held {
			t.Errorf("%q, %v: a is held: %t, and the journal says that of %v", said, err, w.nodes["a"].held, held)
		}
	}, "b")
}
