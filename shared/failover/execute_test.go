package failover

import (
	"errors"
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
		w.with("b", func(n *fakeNode) { n.last.LSN, n.applied, n.heard = 5020, 5020, 5050 })
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
		if err := rewrite(t.Context(), w.reg, journalKey, func(j *journal) bool {
			*j = journal{Run: "R", State: running, From: "a", To: "c", FromEpoch: 1, Step: stepFence, Runners: 1}
			return true
		}); err != nil {
			t.Fatal(err)
		}
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

// A target that dies with an epoch given to it is followed by another one, after its
// lease has run out.
func TestATargetThatDiesIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		stored, err := w.change(func(r lease.Record) (lease.Record, error) {
			return r.Take(lease.Candidate{Instance: r.Instance, Node: "b", URL: "http://b", Last: lsn.Pos{Epoch: 1, LSN: 5010}})
		})
		if err != nil || stored.Epoch != 2 {
			t.Fatal(err)
		}
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
