package failover

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"originchain/shared/serverunit"
)

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

// opened is the run to b that has begun, as another process goes on with it.
func (w *world) opened(t *testing.T, d Deps) *run {
	t.Helper()
	r := newRun(d, w.request("b"), nil)
	err := r.open(t.Context())
	if err == nil {
		r.journal, err = loadJournal(t.Context(), w.reg)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// It is not tried before the new writer opens: whoever is held would be refused, once and for
// all that is known of who writes.
func TestNobodyIsBroughtBackTooEarly(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", false)
		run := w.begunSteps(t, stepRaise)
		r := w.opened(t, w.deps())
		defer r.close()
		if r.journal.Run != run {
			t.Fatal(r.journal)
		}
		back := r.bringBack(t.Context())
		pass(3 * aloneAfter)
		if back.tell(); w.starts("a") != 0 || len(r.report.Notes) > 0 {
			t.Errorf("a was started %d times while b was only given the epoch: %q", w.starts("a"), r.report.Notes)
		}
		w.adopts("b")
		pass(aloneAfter)
		if back.end(); w.starts("a") != 1 || !strings.Contains(strings.Join(r.report.Notes, "\n"), "to follow b, which opens epoch 2") {
			t.Errorf("a was started %d times while b opens: %q", w.starts("a"), r.report.Notes)
		}
	}, "b")
}

// Whoever another process has let go meanwhile is not started a second time: somebody may have
// stopped it by hand since.
func TestWhoWasLetGoMeanwhileIsNotBroughtBack(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.stoppedBefore(t, "c") // which is held all the time
		w.kill("a", false)
		w.begunSteps(t, stepRaise)
		w.adopts("b")
		d := w.deps()
		d.Control = never(w, "c")
		r := w.opened(t, d)
		defer r.close()
		back := r.bringBack(t.Context())
		if err := rewrite(t.Context(), w.reg, journalKey, func(j *journal) bool { j.Held = j.Held[:1]; return true }); err != nil {
			t.Fatal(err)
		}
		pass(3 * aloneAfter)
		if back.end(); w.starts("a") != 0 || len(r.report.Notes) > 0 {
			t.Errorf("a was started %d times: %q", w.starts("a"), r.report.Notes)
		}
	}, "b")
}

// unanswered is an instance control by which a start of some nodes is never answered; ends
// is how each such call came to its end.
type unanswered struct {
	*world
	nodes []string
	ends  *[]error
}

func never(w *world, nodes ...string) unanswered { return unanswered{w, nodes, new([]error)} }

func (u unanswered) Start(ctx context.Context, n Node) error {
	if slices.Contains(u.nodes, n.ID) {
		<-ctx.Done()
		u.mu.Lock()
		defer u.mu.Unlock()
		*u.ends = append(*u.ends, ctx.Err())
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return u.world.Start(ctx, n)
}

// stoppedBefore has the journal say that a run before has stopped nodes, and has not let them go.
func (w *world) stoppedBefore(t *testing.T, nodes ...string) {
	if err := rewrite(t.Context(), w.reg, journalKey, func(j *journal) bool {
		*j = journal{Run: "R0", State: done, From: nodes[0], To: "a"}
		for _, n := range nodes {
			j.stops(n, 1)
		}
		return true
	}); err != nil {
		t.Fatal(err)
	}
}

// Machines that were lost in earlier failovers, and do not answer, keep nobody else from being
// brought back: nor the one that this run has stopped.
func TestWhoIsBroughtBackIsNotKeptByOthers(t *testing.T) {
	for name, prepare := range map[string]func(t *testing.T, w *world) Deps{
		"one of before does not answer": func(t *testing.T, w *world) Deps {
			w.stoppedBefore(t, "c")
			d := w.deps()
			d.Control = never(w, "c")
			return d
		},
		"the old writer's does not answer, and one of before is well": func(t *testing.T, w *world) Deps {
			w.stoppedBefore(t, "c")
			w.with("c", func(n *fakeNode) { n.held = true })
			w.cut = "a"
			d := w.deps()
			d.Control = never(w, "a")
			return d
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.kill("a", false)
				w.kill("c", false)
				w.with("b", func(n *fakeNode) { n.strict = true })
				d := prepare(t, w)
				rep, err := Execute(t.Context(), d, w.request("b"), nil)
				if err != nil || w.starts("a")+w.starts("c") != 1 {
					t.Fatalf("a was started %d times, c %d: %v\n%q", w.starts("a"), w.starts("c"), err, rep.Notes)
				}
				w.isDone(t, "b", 2)
			}, "b")
		})
	}
}

// A new writer that answers is not restarted for the time that others take to be brought back.
func TestANewWriterIsNotRestartedForWhoDoesNotAnswer(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", false)
		w.kill("c", false)
		w.with("b", func(n *fakeNode) { n.strict = true })
		d := w.deps()
		d.Control = never(w, "a")
		rep, err := Execute(t.Context(), d, w.request("b"), nil)
		if n := w.nodes["b"].restarts; err == nil || !strings.Contains(err.Error(), "does not serve as the writer") || n != 0 {
			t.Errorf("b, which answers, and is alone, was restarted %d times: %v\n%q", n, err, rep.Notes)
		}
	}, "b")
}

// comesBack is an instance control that never answers a start, by which another node comes up
// by itself meanwhile.
type comesBack struct {
	unanswered
	other string
}

func (c comesBack) Start(ctx context.Context, n Node) error {
	c.with(c.other, func(f *fakeNode) { f.start() })
	return c.unanswered.Start(ctx, n)
}

// Once the new writer is there nobody waits for those who are brought back: what is under way
// is called back, and known to be held.
func TestANewWriterThatIsThereWaitsForNobody(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", false)
		w.kill("c", false)
		w.with("b", func(n *fakeNode) { n.strict = true })
		d, u := w.deps(), never(w, "a")
		d.Control = comesBack{u, "c"}
		rep, err := Execute(t.Context(), d, w.request("b"), nil)
		if err != nil {
			t.Fatalf("%v\n%q", err, rep.Notes)
		}
		w.isDone(t, "b", 2)
		if ends := *u.ends; len(ends) != 1 || !errors.Is(ends[0], context.Canceled) {
			t.Errorf("the starts of a have ended as %v", ends)
		}
		if l, _, err := Latest(t.Context(), w.reg); err != nil || !l.Held {
			t.Errorf("a is not known to be held: %+v, %v", l, err)
		}
	}, "b")
}

// late is an instance control that has started a node some time after it was called back.
type late struct {
	*world
	node string
}

func (l late) Start(ctx context.Context, n Node) error {
	if n.ID != l.node {
		return l.world.Start(ctx, n)
	}
	<-ctx.Done()
	pass(time.Second)
	return l.world.Start(context.WithoutCancel(ctx), n)
}

// A start that is under way as it ends is waited for: nothing is done to a node any more once
// whoever asked for the failover has the answer.
func TestTheEndWaitsForWhatIsUnderWay(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", false)
		w.begunSteps(t, stepRaise)
		w.adopts("b")
		d := w.deps()
		d.Control = late{w, "a"}
		r := w.opened(t, d)
		defer r.close()
		back := r.bringBack(t.Context())
		pass(2 * aloneAfter)
		if back.end(); w.starts("a") != 1 {
			t.Errorf("a was started %d times by the end", w.starts("a"))
		}
	}, "b")
}

// ending is an instance control of a server that takes its time to end once it is stopped,
// and that is started no earlier.
type ending struct {
	*world
	takes time.Duration
	at    *time.Time
}

func (ending) Pace() time.Duration { return 3 * time.Second }

func (e ending) over(ctx context.Context) error {
	return paced{takes: time.Until(*e.at)}.way(ctx)
}

func (e ending) Stop(ctx context.Context, n Node) (Process, error) {
	*e.at = time.Now().Add(e.takes)
	p, err := e.world.Stop(ctx, n) // it is held at once, and acknowledges nothing
	if over := e.over(ctx); over != nil {
		return Process{}, over
	}
	return p, err
}

func (e ending) Start(ctx context.Context, n Node) error {
	if err := e.over(ctx); err != nil {
		return err
	}
	return e.world.Start(ctx, n)
}

// That a machine has not answered a stop in a second says nothing of it: a server that ends
// slowly is brought back all the same once it has.
func TestWhoIsSlowToStopIsBroughtBack(t *testing.T) {
	for _, takes := range []time.Duration{3 * time.Second, 5 * time.Second, serverunit.StopTimeout} {
		bubble(t, func(t *testing.T, w *world) {
			w.with("a", func(n *fakeNode) { n.hung = true })
			w.with("b", func(n *fakeNode) { n.streams, n.strict = false, true })
			w.kill("c", false)
			pass(8 * time.Second) // its lease runs out
			d := w.deps()
			d.Control = ending{w, takes, new(time.Time)}
			rep, err := Begin(t.Context(), d, w.request("b"), nil)
			for _, name := range StepNames()[1:] {
				if err != nil {
					break
				}
				rep, err = Continue(t.Context(), d, Next{Run: rep.Run, Step: name, Zone: zone}, nil)
			}
			if err != nil || w.starts("a") != 1 {
				t.Fatalf("a takes %s to end, and was started %d times: %v\n%q", takes, w.starts("a"), err, rep.Notes)
			}
			w.isWriter(t, "b", 2)
			if j, err := loadJournal(t.Context(), w.reg); err != nil || j.State != done || w.names[zone] != "10.0.0.2" {
				t.Errorf("a takes %s to end: the journal is %s, and the name %s, %v", takes, j.State, w.names[zone], err)
			}
		}, "b")
	}
}
