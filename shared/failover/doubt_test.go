package failover

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"originchain/shared/api"
	"originchain/shared/lease"
	"originchain/shared/lsn"
)

// A process that was reaped, of a node that runs from another directory by now, is not the
// one that holds the record: nothing of that one has ended.
func TestAReapedProcessOfAnotherDirectoryProvesNothing(t *testing.T) {
	for _, answers := range []bool{true, false} {
		bubble(t, func(t *testing.T, w *world) {
			w.with("a", func(n *fakeNode) { n.elsewhere, n.held, n.hung = true, true, !answers })
			w.with("b", func(n *fakeNode) { n.streams = answers })
			rep, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
			if answers {
				if err == nil {
					t.Errorf("%+v", rep)
				}
				w.isWriter(t, "a", 1)
				return
			}
			if err != nil || rep.Seconds < lease.Expiry.Seconds() {
				t.Errorf("%+v, %v", rep, err)
			}
			w.isDone(t, "b", 2)
		}, "b")
	}
}

// A writer that the lease store alone is cut off from acknowledges nothing: that it answers
// /health keeps nobody from taking its place, once the follower hears it no more.
func TestAWriterThatAnswersAndCannotRenewIsReplaced(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.stopFails = true
		w.with("a", func(n *fakeNode) { n.cut = true })
		w.with("b", func(n *fakeNode) { n.streams = false })
		rep, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
		if err != nil || rep.Seconds < lease.Expiry.Seconds() {
			t.Fatalf("%+v, %v", rep, err)
		}
		w.isDone(t, "b", 2)
	}, "b")
}

// A writer that says that it stays is believed at once, and its run stands in nobody's way.
// One that says that it hands over already, or does not know, is not taken for one that
// stays: the record tells.
func TestWhatAWriterAnswersToAHandover(t *testing.T) {
	type refusal struct {
		api.Error
		Outcome string `json:"outcome,omitempty"`
	}
	for _, c := range []struct {
		name   string
		status int
		said   refusal
		later  bool // the record is given away a moment later
		stays  bool
	}{
		{"it was not drained in time", 503, refusal{Error: api.Error{Error: "not_ready", Message: "f is late", Retry: true}}, false, true},
		{"the follower is not in sync", 409, refusal{Error: api.Error{Error: "conflict", Message: "f is not in sync"}}, false, true},
		{"it hands over already", 409, refusal{Error: api.Error{Error: "conflict", Message: "already", Retry: true}}, true, false},
		{"it does not know", 503, refusal{Error: api.Error{Error: "not_ready", Message: "nobody knows"}, Outcome: "unknown"}, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.onHandover = func() (int, any) {
					if c.later {
						w.running.Go(func() {
							pass(time.Second)
							w.with("a", func(n *fakeNode) { n.role = roleFollower })
							w.give("b")
						})
					}
					return c.status, c.said
				}
				req := w.request("b")
				req.Planned = true
				rep, err := Execute(t.Context(), w.deps(), req, nil)
				if !c.stays {
					if err != nil || rep.Epoch != 2 {
						t.Errorf("%+v, %v", rep, err)
					}
					w.isDone(t, "b", 2)
					return
				}
				if err == nil || !strings.Contains(err.Error(), "writes on: it answers") || rep.Seconds > 1 {
					t.Errorf("after %v s: %v", rep.Seconds, err)
				}
				if j, err := loadJournal(t.Context(), w.reg); err != nil || j.State != failed {
					t.Errorf("%+v, %v", j, err)
				}
				w.isWriter(t, "a", 1)
			}, "b")
		})
	}
}

// lostTo holds the end of a run for b against what it must be when another node has the
// record: it says so, and has not restarted b.
func (w *world) lostTo(t *testing.T, err error, holder string, epoch uint64) {
	t.Helper()
	var moved *MovedError
	if !errors.As(err, &moved) || moved.Holder != holder || moved.Epoch != epoch {
		t.Errorf("it says %v, want that %s has epoch %d", err, holder, epoch)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := w.nodes["b"].restarts; n != 0 {
		t.Errorf("%d restarts", n)
	}
}

// A node whose epoch was given to another one meanwhile is not restarted for it: it may
// follow that one, whose writes would wait for it.
func TestANodeThatLostItsEpochIsNotRestarted(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		w.onPromote = func(n *fakeNode) {
			if n.node.ID != "b" || w.record().Holder != "b" {
				return
			}
			w.give("c")
		}
		rep, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
		if !strings.HasSuffix(outcomes(rep), "promote:failed") {
			t.Errorf("%s", outcomes(rep))
		}
		w.lostTo(t, err, "c", 3)
	}, "b", "c")
}

// A node that opens, and whose epoch is given to another one meanwhile, is not waited for,
// nor restarted.
func TestANodeThatLosesItsEpochOpeningIsNotWaitedFor(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		w.with("b", func(n *fakeNode) { n.hangs = "answering" })
		w.onPromote = func(*fakeNode) {
			w.running.Go(func() {
				pass(time.Second)
				w.give("c")
			})
		}
		rep, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
		if rep.Seconds > 5 {
			t.Errorf("it took %v s of the bubble's clock", rep.Seconds)
		}
		w.lostTo(t, err, "c", 3)
	}, "b", "c")
}

// A node that says it writes is not the writer once the record names another: it may say so
// for as long as it does not know better.
func TestTheRecordIsAskedInTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		w.onPromote = func(n *fakeNode) {
			n.role, n.epoch = roleWriter, 2
			w.give("c")
		}
		rep, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
		var moved *MovedError
		if !errors.As(err, &moved) || moved.Holder != "c" || !strings.HasSuffix(outcomes(rep), "smoke:failed") {
			t.Errorf("%s: %v", outcomes(rep), err)
		}
	}, "b", "c")
}

// A run whose journal another one has taken ends there, and makes nobody the writer.
func TestAJournalThatIsAnothersEndsTheRun(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", false)
		w.onStop = func() { w.begun("X", "c") }
		_, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
		var moved *MovedError
		if !errors.As(err, &moved) || !strings.Contains(err.Error(), "another failover, to c") {
			t.Errorf("%v", err)
		}
		if rec := w.record(); rec.Holder != "a" {
			t.Errorf("%s holds epoch %d", rec.Holder, rec.Epoch)
		}
	}, "b", "c")
}

// A run that was begun for a node which cannot open, and has not got anywhere, stands in
// nobody's way; one for a node that can is to be finished.
func TestARunThatCannotEnd(t *testing.T) {
	for _, set := range [][]string{{"b"}, {"b", "c"}} {
		bubble(t, func(t *testing.T, w *world) {
			w.kill("a", true)
			w.begun("R", "c")
			_, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
			if len(set) == 1 {
				if err != nil {
					t.Fatal(err)
				}
				w.isDone(t, "b", 2)
				return
			}
			var other *OtherRunError
			if !errors.As(err, &other) || other.To != "c" {
				t.Fatal(err)
			}
			if _, err := Execute(t.Context(), w.deps(), w.request(other.To), nil); err != nil {
				t.Fatal(err)
			}
			w.isDone(t, "c", 2)
		}, set...)
	}
}

// A node that opens its epoch already, because another process has called it first, is not
// restarted for being between two roles.
func TestANodeBetweenTwoRolesIsNotRestarted(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		w.with("b", func(n *fakeNode) { n.between = 2 * promoteTries })
		if rep, err := Execute(t.Context(), w.deps(), w.request("b"), nil); err != nil {
			t.Fatalf("%+v, %v", rep, err)
		}
		w.isDone(t, "b", 2)
		w.with("b", func(n *fakeNode) {
			if n.restarts != 0 {
				t.Errorf("%d restarts", n.restarts)
			}
		})
	}, "b")
}

// A switchover whose writer dies is none any more: whoever goes on with it replaces a dead
// writer, and says so.
func TestASwitchoverBecomesAFailover(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		req := w.request("b")
		req.Planned = true
		w.onHandover = func() (int, any) {
			w.nodes["a"].end()
			w.nodes["a"].held = true
			return 503, api.Error{Error: "not_ready"}
		}
		ctx, cancel := context.WithCancel(t.Context())
		_, err := Execute(ctx, w.deps(), req, func(e Event) {
			if e.Name == stepFence && e.Outcome == "" {
				cancel() // it is killed in the middle of the handover
			}
		})
		if j, loadErr := loadJournal(t.Context(), w.reg); err == nil || loadErr != nil || j.State != running || !j.Planned {
			t.Fatalf("%+v, %v, %v", j, err, loadErr)
		}
		w.kill("a", true)
		rep, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
		if err != nil || rep.Planned {
			t.Errorf("%+v, %v", rep, err)
		}
		w.isDone(t, "b", 2)
		if r, _, err := LastFailover(t.Context(), w.reg); err != nil || r.Planned {
			t.Errorf("%+v, %v", r, err)
		}
	}, "b")
}

// A run that stood still until another node wrote does not point the name at its own: whoever
// pointed it at that one would not do so again.
func TestALateRunDoesNotPointTheName(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		_, err := Execute(t.Context(), w.deps(), w.request("b"), func(e Event) {
			if e.Name != stepDNS || e.Outcome != "" {
				return
			}
			w.kill("b", true)
			if _, err := w.change(func(r lease.Record) (lease.Record, error) {
				return r.Take(lease.Candidate{Instance: r.Instance, Node: "c", URL: "http://c", Last: lsn.Pos{Epoch: 2, LSN: 5011}, AcceptLoss: true})
			}); err != nil {
				t.Error(err)
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			w.names[zone] = "10.0.0.3"
		})
		var moved *MovedError
		if !errors.As(err, &moved) || moved.Holder != "c" {
			t.Errorf("%v", err)
		}
		if got := w.names[zone]; got != "10.0.0.3" {
			t.Errorf("%s is %s", zone, got)
		}
	}, "b", "c")
}

// A loss that somebody has accepted for a node which could not open without that word keeps
// others from being promoted for as long as that run may be at work, and no longer.
func TestAnAcceptedLossThatNobodyCameBackFor(t *testing.T) {
	for _, ago := range []time.Duration{time.Second, lossStands, -2 * lossStands} {
		bubble(t, func(t *testing.T, w *world) {
			w.kill("a", true)
			w.begun("R", "c")
			if err := rewrite(t.Context(), w.reg, journalKey, func(j *journal) bool {
				j.AcceptLoss, j.LostFrom, j.LostTo, j.AcceptedAt = true, 5001, 5010, time.Now().Add(-ago)
				return true
			}); err != nil {
				t.Fatal(err)
			}
			_, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
			var other *OtherRunError
			if refused := errors.As(err, &other); refused != (ago == time.Second) || !refused && err != nil {
				t.Fatalf("%s after a loss was accepted: %v", ago, err)
			}
			if other == nil {
				w.isDone(t, "b", 2)
			}
		}, "b")
	}
}

// Whoever accepts a loss notes when.
func TestWhenALossWasAccepted(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		w.with("c", func(n *fakeNode) { n.last.LSN, n.applied = 5000, 5000 })
		req := w.request("c")
		req.Allow.AcceptDataLoss = true
		if _, err := Execute(t.Context(), w.deps(), req, nil); err != nil {
			t.Fatal(err)
		}
		if j, err := loadJournal(t.Context(), w.reg); err != nil || !j.AcceptLoss || time.Since(j.AcceptedAt) > time.Minute {
			t.Errorf("%+v, %v", j, err)
		}
	}, "b")
}
