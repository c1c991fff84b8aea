package failover

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"originchain/shared/lease"
)

// byStep carries a failover out with a process for each step, as a state machine does: a
// step that fails is tried again, up to three times. k is the trouble of the first try of
// each; nil is none.
func (w *world) byStep(t *testing.T, k *trouble, req Request) (Report, error) {
	t.Helper()
	var rep Report
	for i, name := range StepNames() {
		var err error
		for range 3 {
			ctx, cancel := context.WithCancel(t.Context())
			d := w.deps()
			if k != nil && !k.dead {
				k.kill = cancel
				d = w.troubled(k)
			}
			if i == 0 {
				rep, err = Begin(ctx, d, req, nil)
			} else {
				rep, err = Continue(ctx, d, Next{Run: rep.Run, Step: name, Zone: req.Zone}, nil)
			}
			cancel()
			req.Planned = true // of a second try
			var left *LeftError
			if err == nil || errors.As(err, &left) {
				break
			}
		}
		if err != nil || rep.Run == "" {
			return rep, err
		}
	}
	return rep, nil
}

// A failover whose steps are processes of their own ends as one in a single process.
func TestStepByStep(t *testing.T) {
	for name, way := range ways() {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				req := w.request("b")
				way(w, &req)
				began := time.Now()
				rep, err := w.byStep(t, nil, req)
				if err != nil || rep.Epoch != 2 || rep.From != "a" || rep.To != "b" || rep.Planned != (name == "planned") {
					t.Fatalf("%+v, %v", rep, err)
				}
				if outcomes(rep) != allOK {
					t.Error(outcomes(rep))
				}
				// Nobody waits for a lease a second time.
				if took := time.Since(began); took > lease.Expiry+4*time.Second {
					t.Errorf("it took %s", took)
				}
				if got, _, err := LastFailover(t.Context(), w.reg); err != nil || got.Seconds <= 0 || got.Seconds > time.Since(began).Seconds() {
					t.Errorf("the report says %v s, %v", got.Seconds, err)
				}
				w.isDone(t, "b", 2)
			}, "b")
		})
	}
}

// A step that is killed at any call is carried out by the next try.
func TestAStepIsKilledAnywhere(t *testing.T) {
	for name, way := range ways() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cutting(t, func(t *testing.T, w *world, k *trouble) {
				req := w.request("b")
				way(w, &req)
				if _, err := w.byStep(t, k, req); err != nil {
					t.Errorf("%v", err)
				}
				w.isDone(t, "b", 2)
			})
		})
	}
}

// Of two state machines that an alarm starts, both come to their end, with one writer.
func TestStepByStepTwice(t *testing.T) {
	for name, way := range ways() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, w *world) {
				req := w.request("b")
				way(w, &req)
				done := make(chan error, 2)
				for range 2 {
					go func() { _, err := w.byStep(t, nil, req); done <- err }()
				}
				for range 2 {
					if err := <-done; err != nil {
						t.Error(err)
					}
				}
				w.isDone(t, "b", 2)
			}, "b")
		})
	}
}

// begunSteps has a failover begun from a, which is dead, to b.
func (w *world) begunSteps(t *testing.T, upTo string) (run string) {
	t.Helper()
	rep, err := Begin(t.Context(), w.deps(), w.request("b"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range StepNames()[1 : slices.Index(StepNames(), upTo)+1] {
		if _, err := Continue(t.Context(), w.deps(), Next{Run: rep.Run, Step: name, Zone: zone}, nil); err != nil {
			t.Fatal(err)
		}
	}
	return rep.Run
}

// A step that is not the next one of the failover under way changes nothing, and says why.
func TestAStepOutOfTurn(t *testing.T) {
	for _, c := range []struct {
		name, upTo string
		next       func(run string) Next
		meanwhile  func(t *testing.T, w *world)
		want       string
	}{
		{"too early", stepConfirm, func(run string) Next { return Next{Run: run, Step: stepRaise, Zone: zone} }, nil, `"fence" has not ended`},
		{"before its epoch is taken", stepUnit, func(run string) Next { return Next{Run: run, Step: stepPromote, Zone: zone} }, nil, `"raise epoch" has not ended`},
		{"of no failover", stepFence, func(string) Next { return Next{Step: stepUnit, Zone: zone} }, nil, "the failover begun last is"},
		{"of another failover", stepFence, func(string) Next { return Next{Run: "01JADE", Step: stepUnit, Zone: zone} }, nil, "the failover begun last is"},
		{"unknown", stepFence, func(run string) Next { return Next{Run: run, Step: "format", Zone: zone} }, nil, "no such step"},
		{"confirm again", stepFence, func(run string) Next { return Next{Run: run, Step: stepConfirm, Zone: zone} }, nil, "no such step"},
		{"of one that failed", stepFence, func(run string) Next { return Next{Run: run, Step: stepUnit, Zone: zone} }, func(t *testing.T, w *world) {
			if err := rewrite(t.Context(), w.reg, journalKey, func(j *journal) bool { j.State, j.Error = failed, "it was not fit"; return true }); err != nil {
				t.Fatal(err)
			}
		}, "it was not fit"},
		{"when another node has the record", stepRaise, func(run string) Next { return Next{Run: run, Step: stepPromote, Zone: zone} }, func(_ *testing.T, w *world) { w.give("c") }, "c holds epoch 3"},
		{"of a registry that says more than the record", stepUnit, func(run string) Next { return Next{Run: run, Step: stepPromote, Zone: zone} }, func(t *testing.T, w *world) {
			if err := rewrite(t.Context(), w.reg, journalKey, func(j *journal) bool { j.ended(Step{N: 4, Name: stepRaise, Outcome: OK}); return true }); err != nil {
				t.Fatal(err)
			}
		}, "the record names a for epoch 1, and not b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.kill("a", true)
				run := w.begunSteps(t, c.upTo)
				if c.meanwhile != nil {
					c.meanwhile(t, w)
				}
				asked, rec := len(w.controls), w.record()
				before, err := w.reg.Load(t.Context(), journalKey)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := Continue(t.Context(), w.deps(), c.next(run), nil); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v, want %q", err, c.want)
				}
				after, err := w.reg.Load(t.Context(), journalKey)
				if err != nil || after.Version != before.Version || len(w.controls) != asked || w.record().Version != rec.Version {
					t.Errorf("it has changed something: %v, %s", w.controls[asked:], after.Body)
				}
			}, "b", "c")
		})
	}
}

// A step of a failover that has come to its end has nothing to do.
func TestAStepAfterTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		run := w.begunSteps(t, stepRecord)
		asked, rec := len(w.controls), w.record()
		const byHand = "10.0.0.9"
		w.names[zone] = byHand
		for _, name := range StepNames()[1:] {
			rep, err := Continue(t.Context(), w.deps(), Next{Run: run, Step: name, Zone: zone}, nil)
			if err != nil || rep.Epoch != 2 || rep.To != "b" {
				t.Errorf("%s: %+v, %v", name, rep, err)
			}
		}
		if now := w.record(); len(w.controls) != asked || now.Epoch != rec.Epoch || w.names[zone] != byHand {
			t.Errorf("%v, %s", w.controls[asked:], w.names[zone])
		}
		w.isWriter(t, "b", 2)
	}, "b")
}

// A holder that renews after its lease was seen to run out lives: what one process has
// seen of it counts for another one only as long as the record is as it was.
func TestAHolderComesBackBetweenTwoSteps(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.stopFails = true
		w.with("a", func(n *fakeNode) { n.hung = true; w.nodes["b"].streams = false })
		run := w.begunSteps(t, stepUnit)
		w.with("a", func(n *fakeNode) { n.hung = false })
		w.stopFails = false
		pass(3 * time.Second)
		if _, err := Continue(t.Context(), w.deps(), Next{Run: run, Step: stepRaise, Zone: zone}, nil); err == nil || !strings.Contains(err.Error(), "renewed") {
			t.Errorf("raise: %v", err)
		}
		// Days later, a fence of the same failover finds a writer that is well.
		pass(72 * time.Hour)
		var refused *RefusedError
		if _, err := Continue(t.Context(), w.deps(), Next{Run: run, Step: stepFence, Zone: zone}, nil); !errors.As(err, &refused) || !refused.Decision.has(WriterAnswers) {
			t.Errorf("fence: %v", err)
		}
		w.isWriter(t, "a", 1)
	}, "b")
}

// Name and report are changed by processes that reach no node.
func TestStepsThatReachNoNode(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		run := w.begunSteps(t, stepSmoke)
		d := w.deps()
		d.HTTP = &http.Client{Transport: noNetwork{}}
		d.Control = nil
		for _, name := range []string{stepDNS, stepRecord} {
			if _, err := Continue(t.Context(), d, Next{Run: run, Step: name, Zone: zone}, nil); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.isDone(t, "b", 2)
	}, "b")
}

type noNetwork struct{}

func (noNetwork) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("no route to host")
}

// What a step has left is no error of its own, and of the last it is: the failover stays
// open, and the steps can be carried out again.
func TestAStepLeaves(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		run := w.begunSteps(t, stepSmoke)
		w.dnsFails = true
		rep, err := Continue(t.Context(), w.deps(), Next{Run: run, Step: stepDNS, Zone: zone}, nil)
		if err != nil || rep.Steps[len(rep.Steps)-1].Outcome != Left {
			t.Errorf("%+v, %v", rep, err)
		}
		var left *LeftError
		if _, err := Continue(t.Context(), w.deps(), Next{Run: run, Step: stepRecord, Zone: zone}, nil); !errors.As(err, &left) || len(left.Steps) != 1 {
			t.Errorf("%v", err)
		}
		w.dnsFails = false
		for _, name := range []string{stepDNS, stepRecord} {
			if _, err := Continue(t.Context(), w.deps(), Next{Run: run, Step: name, Zone: zone}, nil); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		w.isDone(t, "b", 2)
	}, "b")
}

// In a table that was put back to an earlier day a version comes a second time: it is no
// word of the lease that ran out at the first.
func TestAVersionThatComesAgain(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.stopFails = true
		w.kill("a", false)
		run := w.begunSteps(t, stepUnit)
		if err := rewrite(t.Context(), w.reg, journalKey, func(j *journal) bool { j.Fenced.CommitLSN++; return true }); err != nil {
			t.Fatal(err)
		}
		if _, err := Continue(t.Context(), w.deps(), Next{Run: run, Step: stepRaise, Zone: zone}, nil); err == nil || w.record().Epoch != 1 {
			t.Errorf("%v, %+v", err, w.record())
		}
	}, "b")
}

// Where whoever was to point the name has died without a word, the last step can go on
// without it, and says so; the name can follow later.
func TestANameThatNobodyPointed(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		run := w.begunSteps(t, stepSmoke)
		for _, next := range []Next{{Run: run, Step: stepRecord, Zone: zone}, {Run: run, Step: stepRecord, Left: stepSmoke, Zone: zone}, {Run: run, Step: stepSmoke, Left: stepDNS, Zone: zone}, {Run: "other", Step: stepRecord, Left: stepDNS}} {
			var turn *StepError
			if _, err := Continue(t.Context(), w.deps(), next, nil); !errors.As(err, &turn) {
				t.Errorf("%+v: %v", next, err)
			}
		}
		last := Next{Run: run, Step: stepRecord, Left: stepDNS, Zone: zone}
		for range 2 {
			var left *LeftError
			if _, err := Continue(t.Context(), w.deps(), last, nil); !errors.As(err, &left) || len(left.Steps) != 1 || left.Steps[0].Name != stepDNS {
				t.Errorf("%v", err)
			}
		}
		if rep, ok, err := LastFailover(t.Context(), w.reg); !ok || err != nil || rep.Error == "" {
			t.Errorf("%+v, %v", rep, err)
		}
		if _, err := Continue(t.Context(), w.deps(), Next{Run: run, Step: stepDNS, Zone: zone}, nil); err != nil {
			t.Error(err)
		}
		if _, err := Continue(t.Context(), w.deps(), last, nil); err != nil {
			t.Error(err)
		}
		w.isDone(t, "b", 2)
	}, "b")
}

// A step that was left has ended: that a later try of it fails does not make it one that
// never did.
func TestAStepThatWasLeftFails(t *testing.T) {
	for _, c := range []struct{ before, later, want Outcome }{
		{Left, Failed, Left}, {Left, Left, Left}, {Left, OK, OK}, {OK, Failed, OK}, {OK, Left, OK}, {Failed, Failed, Failed}, {Failed, Left, Left}, {Failed, OK, OK},
	} {
		var j journal
		j.ended(Step{N: 7, Name: stepDNS, Outcome: c.before})
		j.ended(Step{N: 7, Name: stepDNS, Outcome: c.later, Detail: "again"})
		if len(j.Steps) != 1 || j.Steps[0].Outcome != c.want || c.before == c.want && c.before == OK && j.Steps[0].Detail != "" {
			t.Errorf("%s, and then %s: %+v, want %s", c.before, c.later, j.Steps, c.want)
		}
	}
}
