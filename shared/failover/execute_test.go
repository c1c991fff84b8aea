package failover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/lease"
	"originchain/shared/lsn"
)

func outcomes(r Report) string {
	var out []string
	for _, s := range r.Steps {
		out = append(out, s.Name+":"+string(s.Outcome))
	}
	return strings.Join(out, " ")
}

const allOK = "confirm:ok fence:ok derive unit:ok raise epoch:ok promote:ok smoke:ok dns:ok record:ok"

// A writer whose process has ended for certain is replaced without any wait.
func TestAReapedWriterIsReplacedAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		var lines strings.Builder
		rep, err := Execute(t.Context(), w.deps(), w.request("b"), Print(&lines))
		if err != nil || rep.Verdict != Promote || rep.Epoch != 2 || rep.From != "a" || rep.To != "b" || rep.Planned || rep.LostTo != 0 {
			t.Fatalf("%+v, %v", rep, err)
		}
		w.isDone(t, "b", 2)
		if outcomes(rep) != allOK {
			t.Error(outcomes(rep))
		}
		if rep.Seconds >= 1 || rep.PauseSeconds <= 0 {
			t.Errorf("it took %v s, of which %v without a writer", rep.Seconds, rep.PauseSeconds)
		}
		if got := strings.Count(lines.String(), "\n"); got != 8 || !strings.HasPrefix(lines.String(), "[1/8] confirm … ok (0.") || !strings.Contains(lines.String(), "[8/8] record … ok (") {
			t.Errorf("%s", lines.String())
		}
	}, "b")
}

// Without a confirmed stop the lease must have run out, on the run's own clock.
func TestALeaseIsWaitedOut(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(w *world)
	}{
		{"its machine is gone", func(w *world) { w.stopFails = true; w.kill("a", false) }},
		{"it hangs, and cannot be stopped", func(w *world) {
			w.stopFails = true
			w.with("a", func(n *fakeNode) { n.hung = true; w.nodes["b"].streams = false })
		}},
		{"it hangs, and is stopped", func(w *world) { w.with("a", func(n *fakeNode) { n.hung = true; w.nodes["b"].streams = false }) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				c.do(w)
				rep, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
				if err != nil || rep.Epoch != 2 {
					t.Fatalf("%+v, %v", rep, err)
				}
				if rep.Seconds < lease.Expiry.Seconds() || rep.Seconds > lease.Expiry.Seconds()+3 {
					t.Errorf("it took %v s", rep.Seconds)
				}
				w.isDone(t, "b", 2)
			}, "b")
		})
	}
}

// A machine that nobody reaches costs the time of one courtesy beside its lease, and no
// more: what else would be asked of it is not waited for.
func TestAMachineThatIsCutOff(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.mu.Lock()
		w.cut = "a"
		w.mu.Unlock()
		w.with("a", func(n *fakeNode) { n.hung = true; w.nodes["b"].streams = false })
		rep, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
		if err != nil || rep.Epoch != 2 {
			t.Fatalf("%+v, %v", rep, err)
		}
		if most := lease.Expiry + stopCourtesy + time.Second/2; rep.Seconds > most.Seconds() {
			t.Errorf("it took %v s, more than %s", rep.Seconds, most)
		}
		if rec := w.record(); rec.Holder != "b" || !rec.Confirmed() {
			t.Errorf("%+v", rec)
		}
	}, "b")
}

// A page leaves the old writer alone, and everything else too.
func TestNothingIsTouchedWithoutAVerdict(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(w *world, r *Request)
		want string
	}{
		{"a target that is not entitled", func(w *world, r *Request) { w.kill("a", true); r.To = "c" }, "--accept-data-loss"},
		{"a writer that is well", func(*world, *Request) {}, "answers in"},
		{"a slow writer", func(w *world, _ *Request) { w.with("a", func(n *fakeNode) { n.slow = 1500 * time.Millisecond }) }, "--allow-slow-writer"},
		{"a writer that another one is", func(_ *world, r *Request) { r.From = "c" }, "--writer-instance a"},
		{"a node that nobody knows", func(_ *world, r *Request) { r.To = "x" }, "it has a, b, c"},
		{"itself", func(_ *world, r *Request) { r.To = "a" }, "own place"},
		{"a target that is away", func(w *world, _ *Request) { w.kill("a", true); w.kill("b", false) }, "does not answer"},
		{"a switchover that the writer refuses", func(w *world, r *Request) { w.noHandover, r.Planned = true, true }, "writes on"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				req := w.request("b")
				c.do(w, &req)
				before := w.record()
				rep, err := Execute(t.Context(), w.deps(), req, nil)
				if err == nil || !strings.Contains(err.Error(), c.want) || rep.Error != err.Error() {
					t.Errorf("%v, want %q", err, c.want)
				}
				after := w.record()
				after.Version = before.Version // a may have renewed
				if d := cmp.Diff(before, after); d != "" || len(w.controls) > 0 && c.want != "writes on" {
					t.Errorf("touched: %s\n%v", d, w.controls)
				}
				if j, err := loadJournal(t.Context(), w.reg); err != nil || j.State == running {
					t.Errorf("the journal: %+v, %v", j, err)
				}
			}, "b")
		})
	}
}

// A person may have a slow writer replaced all the same: it is stopped first, and if it
// cannot be stopped it stays the writer.
func TestASlowWriterIsReplacedByName(t *testing.T) {
	for _, stopFails := range []bool{false, true} {
		bubble(t, func(t *testing.T, w *world) {
			w.stopFails = stopFails
			w.with("a", func(n *fakeNode) { n.slow = 1500 * time.Millisecond })
			req := w.request("b")
			req.Allow.AllowSlowWriter = true
			_, err := Execute(t.Context(), w.deps(), req, nil)
			if stopFails {
				if err == nil || !strings.Contains(err.Error(), "still renews") {
					t.Errorf("%v", err)
				}
				w.isWriter(t, "a", 1)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			w.isDone(t, "b", 2)
		}, "b")
	}
}

// A writer that is well hands over; nobody is stopped.
func TestASwitchover(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		req := w.request("b")
		req.Planned = true
		rep, err := Execute(t.Context(), w.deps(), req, nil)
		if err != nil || !rep.Planned || rep.Epoch != 2 || rep.PauseSeconds <= 0 || rep.Seconds >= 1 || outcomes(rep) != allOK {
			t.Fatalf("%+v, %v", rep, err)
		}
		w.isDone(t, "b", 2)
		if got := strings.Join(w.controls, " "); got != "rewrite b" {
			t.Errorf("instance control was asked to %s", got)
		}
		// And back, whose unit was a writer's all along.
		w.with("a", func(n *fakeNode) { n.last = w.nodes["b"].last; n.applied = n.last.LSN })
		if _, err := w.change(func(r lease.Record) (lease.Record, error) { return r.Enter(lease.Claim{Node: "b", Epoch: 2}, "a") }); err != nil {
			t.Fatal(err)
		}
		req = Request{To: "i-a", Zone: zone, Planned: true}
		if rep, err = Execute(t.Context(), w.deps(), req, nil); err != nil || rep.Epoch != 3 || rep.From != "b" || rep.To != "a" {
			t.Fatalf("%+v, %v", rep, err)
		}
		w.isWriter(t, "a", 3)
	}, "b")
}

// A run again finds all done, and does nothing.
func TestAgainIsNothing(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		if _, err := Execute(t.Context(), w.deps(), w.request("b"), nil); err != nil {
			t.Fatal(err)
		}
		first, _, _ := LastFailover(t.Context(), w.reg)
		w.controls = nil
		rep, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
		if err != nil || rep.Verdict != Done || rep.Epoch != 2 || outcomes(rep) != allOK {
			t.Fatalf("%+v, %v", rep, err)
		}
		w.isDone(t, "b", 2)
		second, _, _ := LastFailover(t.Context(), w.reg)
		if d := cmp.Diff(first, second); d != "" || len(w.controls) > 0 {
			t.Errorf("%s\n%v", d, w.controls)
		}
	}, "b")
}

// A node that does not take its epoch in its process is restarted, and that is told.
func TestARestartIsTheFallback(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		w.with("b", func(n *fakeNode) { n.deaf = true })
		rep, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
		if err != nil || !strings.Contains(strings.Join(rep.Notes, "\n"), "restarted by its unit") {
			t.Fatalf("%+v, %v", rep, err)
		}
		w.isDone(t, "b", 2)
		if w.nodes["b"].restarts != 1 {
			t.Errorf("%d restarts", w.nodes["b"].restarts)
		}
	}, "b")
}

// A node that was told to open in its process, and hangs there, is restarted: soon if it
// answers nothing, else when the time to open is over.
func TestANodeThatHangsOpeningIsRestarted(t *testing.T) {
	for how, most := range map[string]time.Duration{"silent": hungAfter + 5*time.Second, "answering": smokeTimeout + 5*time.Second} {
		t.Run(how, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.kill("a", true)
				w.with("b", func(n *fakeNode) { n.hangs = how })
				rep, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
				if err != nil || !strings.Contains(strings.Join(rep.Notes, "\n"), "hangs: it is restarted") {
					t.Fatalf("%+v, %v", rep, err)
				}
				if rep.Seconds > most.Seconds() {
					t.Errorf("it took %v s of the bubble's clock", rep.Seconds)
				}
				w.isDone(t, "b", 2)
				if n := w.nodes["b"].restarts; n != 1 {
					t.Errorf("%d restarts", n)
				}
			}, "b")
		})
	}
}

// What keeps nobody from writing is left, said, and done by the next run.
func TestWhatIsLeftIsDoneByTheNextRun(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		w.mu.Lock()
		w.dnsFails = true
		w.mu.Unlock()
		rep, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
		var left *LeftError
		if !errors.As(err, &left) || len(left.Steps) != 1 || left.Steps[0].Name != stepDNS || rep.Epoch != 2 {
			t.Fatalf("%+v, %v", rep, err)
		}
		w.isWriter(t, "b", 2)
		w.dnsFails = false
		if rep, err = Execute(t.Context(), w.deps(), w.request("b"), nil); err != nil || rep.Verdict != Done {
			t.Fatalf("%+v, %v", rep, err)
		}
		w.isDone(t, "b", 2)
	}, "b")
}

// Instance control that is away keeps nobody from writing either, once the lease has run out.
func TestWithoutInstanceControl(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", false)
		w.controlAway = true
		_, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
		var left *LeftError
		if !errors.As(err, &left) || len(left.Steps) != 1 || left.Steps[0].Name != stepUnit {
			t.Fatalf("%v", err)
		}
		w.isWriter(t, "b", 2)
		w.controlAway = false
		if _, err := Execute(t.Context(), w.deps(), w.request("b"), nil); err != nil {
			t.Fatal(err)
		}
		w.isDone(t, "b", 2)
	}, "b")
}

// What is lost without a set is named to the LSN, from where the new writer really began.
func TestTheLostRangeIsRecorded(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.with("a", func(n *fakeNode) { n.last.LSN = 5060 })
		w.with("b", func(n *fakeNode) { n.last.LSN, n.applied, n.heard, n.more = 5015, 5015, 5050, 5 })
		w.kill("a", true)
		rep, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
		if err != nil || rep.LostFrom != 5021 || rep.LostTo != 5050 {
			t.Fatalf("%+v, %v", rep, err)
		}
		last, _, _ := LastFailover(t.Context(), w.reg)
		if last.LostFrom != 5021 || last.LostTo != 5050 {
			t.Errorf("%+v", last)
		}
		w.isDone(t, "b", 2)
	})
}

// A run for another node is refused by name while one can come to its end, and not when
// its target is gone.
func TestAnotherTargetIsRefusedByName(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		w.begun("R", "c")
		_, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
		var other *OtherRunError
		if !errors.As(err, &other) || other.To != "c" || other.Run != "R" || !strings.Contains(err.Error(), "--follower-instance c") {
			t.Fatalf("%v", err)
		}
		if rec := w.record(); rec.Epoch != 1 || rec.Released {
			t.Errorf("%+v", rec)
		}
		w.kill("c", false)
		if _, err := Execute(t.Context(), w.deps(), w.request("b"), nil); err != nil {
			t.Fatal(err)
		}
		w.isDone(t, "b", 2)
	}, "b", "c")
}

// Nor is one let go whose target was given the epoch, and refuses to say where it stands: between two
// roles a node does, for a moment, and opens.
func TestATargetThatOpensIsNotLetGo(t *testing.T) {
	for _, unwell := range []bool{false, true} {
		bubble(t, func(t *testing.T, w *world) {
			w.kill("a", true)
			w.begunSteps(t, stepRaise)
			w.with("b", func(n *fakeNode) { n.opening, n.unwell = true, unwell })
			req := w.request("c")
			req.From = ""
			_, err := Execute(t.Context(), w.deps(), req, nil)
			var other *OtherRunError
			if errors.As(err, &other) == unwell || unwell && err != nil {
				t.Errorf("unwell: %t: %v", unwell, err)
			}
		}, "b", "c")
	}
}

// A target that dies with an epoch given to it is followed by another one, after its
// lease has run out.
func TestATargetThatDiesIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		w.give("b")
		w.kill("b", false)
		req := w.request("c")
		req.From = ""
		rep, err := Execute(t.Context(), w.deps(), req, nil)
		if err != nil || rep.Epoch != 3 || rep.From != "b" {
			t.Fatalf("%+v, %v", rep, err)
		}
		w.isWriter(t, "c", 3)
	}, "b", "c")
}

// A target whose disk hangs from some step on comes to no end as long as it does, and another one
// takes its place as if it had died; the run that was for it goes on with nothing.
func TestATargetWhoseDiskHangsIsReplaced(t *testing.T) {
	for upTo, epoch := range map[string]lsn.Epoch{"fence": 2, stepUnit: 2, stepRaise: 3} {
		bubble(t, func(t *testing.T, w *world) {
			w.kill("a", true)
			run := w.begunSteps(t, upTo)
			w.with("b", func(n *fakeNode) { n.unwell = true })
			req := w.request("c")
			req.From = ""
			if _, err := Execute(t.Context(), w.deps(), req, nil); err != nil {
				t.Fatalf("from %s on: %v", upTo, err)
			}
			w.isWriter(t, "c", epoch)
			w.with("b", func(n *fakeNode) { n.unwell = false })
			if _, err := Continue(t.Context(), w.deps(), Next{Run: run, Step: StepNames()[slices.Index(StepNames(), upTo)+1], Zone: zone}, nil); err == nil {
				t.Errorf("from %s on: the run for b goes on", upTo)
			}
			w.isWriter(t, "c", epoch)
		}, "b", "c")
	}
}

// A writer that was to be stopped and was not, and that hangs from then on, is waited for
// as long as it may still believe that it writes.
func TestAStopThatFailsIsWaitedOut(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.with("a", func(n *fakeNode) { n.slow = 1500 * time.Millisecond })
		w.stopFails = true
		w.onStop = func() { w.nodes["a"].hung = true }
		req := w.request("b")
		req.Allow.AllowSlowWriter = true
		rep, err := Execute(t.Context(), w.deps(), req, nil)
		if err != nil || rep.PauseSeconds < lease.SelfFence.Seconds() || !strings.Contains(strings.Join(rep.Notes, "\n"), "could not be stopped") {
			t.Fatalf("%+v, %v", rep, err)
		}
		w.isDone(t, "b", 2)
	}, "b")
}

// A holder that comes back and renews after its lease ran out, and before its record was
// taken, stays the writer.
func TestAHolderThatRenewsInTime(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.with("a", func(n *fakeNode) { n.hung = true; w.nodes["b"].streams = false })
		w.stopFails = true
		w.onRewrite = func() {
			a := w.nodes["a"]
			a.hung = false
			if _, err := w.change(func(r lease.Record) (lease.Record, error) {
				return r.Renew(lease.Claim{Node: "a", Epoch: 1}, r.CommitLSN)
			}); err != nil {
				t.Error(err)
			}
			a.renewed = time.Now()
		}
		_, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
		if err == nil || !strings.Contains(err.Error(), "it lives") {
			t.Fatalf("%v", err)
		}
		w.isWriter(t, "a", 1)
	}, "b")
}

// A record that goes to a third node ends the run, and is left as it is.
func TestARecordThatMoves(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		w.onRewrite = func() { w.give("c") }
		_, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
		var moved *MovedError
		if !errors.As(err, &moved) || moved.Holder != "c" || moved.Epoch != 2 {
			t.Fatalf("%v", err)
		}
		if rec := w.record(); rec.Holder != "c" || rec.Epoch != 2 {
			t.Errorf("%+v", rec)
		}
	}, "b", "c")
}

// An epoch that was given is opened by whoever comes next, also without a journal, and
// also where the node had begun to open it.
func TestAGivenEpochIsOpened(t *testing.T) {
	for _, begun := range []bool{false, true} {
		bubble(t, func(t *testing.T, w *world) {
			w.kill("a", true)
			w.give("b")
			if begun {
				err := rewrite(t.Context(), w.reg, journalKey, func(j *journal) bool {
					*j = journal{Run: "R", State: running, From: "a", To: "b", FromEpoch: 1, Epoch: 2, Step: stepPromote, Runners: 1}
					for i, name := range stepNames()[:4] {
						j.ended(Step{N: i + 1, Name: name, Outcome: OK})
					}
					return true
				})
				if err != nil {
					t.Fatal(err)
				}
				w.adopts("b")
			}
			rep, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
			if err != nil || rep.Seconds > 2 {
				t.Fatalf("%+v, %v", rep, err)
			}
			w.isDone(t, "b", 2)
		}, "b")
	}
}

// A node that calls itself the writer, of whatever epoch, is none without the record.
func TestAZombieIsNoWriter(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		w.with("b", func(n *fakeNode) { n.role, n.epoch, n.renewed = roleWriter, 7, time.Now().Add(-time.Hour) })
		rep, _ := Execute(t.Context(), w.deps(), w.request("b"), nil)
		if rep.Verdict == Done {
			t.Errorf("%+v", rep)
		}
	}, "b")
}

// A dry run says what each step would do, and changes nothing anywhere.
func TestADryRunChangesNothing(t *testing.T) {
	for name, way := range ways() {
		bubble(t, func(t *testing.T, w *world) {
			req := w.request("b")
			req.DryRun = true
			way(w, &req)
			documents := func() string {
				docs, err := w.reg.List(t.Context(), "")
				return fmt.Sprintf("%+v %v", docs, err)
			}
			docs, rec := documents(), w.record()
			w.mu.Lock()
			units, controls := w.nodes["a"].unit+w.nodes["b"].unit, len(w.controls)
			w.mu.Unlock()
			var lines strings.Builder
			rep, err := Execute(t.Context(), w.deps(), req, Print(&lines))
			if err != nil || !rep.DryRun || rep.Verdict != Promote || strings.Count(outcomes(rep), ":would") != 7 {
				t.Errorf("%s: %+v, %v", name, rep, err)
			}
			after := w.record()
			after.Version = rec.Version // a may have renewed
			if d := cmp.Diff(rec, after); d != "" || documents() != docs {
				t.Errorf("%s: %s", name, d)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if w.nodes["a"].unit+w.nodes["b"].unit != units || len(w.controls) != controls || w.names[zone] != "10.0.0.1" {
				t.Errorf("%s: it changed something: %v", name, w.controls)
			}
			for _, want := range []string{"would be rewritten: /usr/bin/oc-server", "would be 10.0.0.2, TTL 60", "/v1/admin/promote"} {
				if !strings.Contains(lines.String(), want) {
					t.Errorf("%s: nothing of %q:\n%s", name, want, lines.String())
				}
			}
		}, "b")
	}
}

// An observer that has watched knows at once what a new one has to wait for.
func TestAnObserverThatHasWatched(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		d := w.deps()
		o := NewObserver(ObserverDeps{Lease: d.Lease, Control: d.Control, HTTP: d.HTTP, AdminToken: token, Migration: func(context.Context) string { return "Backfilling" }})
		defer o.Close()
		nodes, err := Nodes(t.Context(), w.reg)
		if err != nil || len(nodes) != 3 {
			t.Fatal(nodes, err)
		}
		see := func() Observation { return o.Look(t.Context(), Sight{Nodes: nodes, Target: w.nodes["b"].node}) }
		if got := see(); got.Writer.Silent != 0 || got.Writer.Status != 200 || got.Writer.Durable != 5010 || !got.Target.Answers || !got.Target.Promotable || !got.Target.Streams || got.RecordError != nil || got.Migration != "Backfilling" {
			t.Errorf("%+v", got)
		}
		w.stopFails = true
		pass(1500 * time.Millisecond)
		w.with("a", func(n *fakeNode) { n.hung = true; w.nodes["b"].streams = false })
		var last Observation
		for began := time.Now(); time.Since(began) < lease.Expiry+time.Second; pass(250 * time.Millisecond) {
			asked := time.Now()
			if last = see(); time.Since(asked) > lookPatience {
				t.Fatalf("a node that hangs held up a look for %s", time.Since(asked))
			}
		}
		if last.RecordUnchanged < lease.Expiry || last.Writer.Silent < 4*time.Second || last.RecordAge > time.Second {
			t.Errorf("%+v", last)
		}
		d.Observer, d.Migration = o, nil
		w.stopFails = false
		req := w.request("b")
		if _, err := Execute(t.Context(), d, req, nil); err == nil || !strings.Contains(err.Error(), "--allow-backfilling") {
			t.Fatalf("%v", err)
		}
		req.Allow.AllowBackfilling = true
		rep, err := Execute(t.Context(), d, req, nil)
		if err != nil || rep.Seconds > 1 {
			t.Fatalf("%+v, %v", rep, err)
		}
		w.isDone(t, "b", 2)
	}, "b")
}
