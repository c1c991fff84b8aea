package plane

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/lambdas/local/control"
	"originchain/shared/alarms"
	"originchain/shared/api"
	"originchain/shared/failover"
	"originchain/shared/telemetry"
)

// scripted are steps whose outcomes are written down before.
type scripted struct {
	mu       sync.Mutex
	holds    string
	given    bool
	begun    string // to whom somebody else has begun to fail over
	decision failover.Decision
	busy     bool
	verdict  failover.Verdict // of the steps
	promoted []string
	asked    int
}

func (s *scripted) holder(context.Context) (string, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.holds, s.given, nil
}

func (s *scripted) decide(context.Context) (failover.Decision, string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	return s.decision, "node-2", nil
}

func (s *scripted) promote(_ context.Context, in control.Promotion, _ func(string)) (json.RawMessage, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy {
		return nil, &busyError{}
	}
	if s.begun != "" && s.begun != in.Target {
		return nil, &failover.OtherRunError{Run: "R", To: s.begun}
	}
	s.promoted = append(s.promoted, in.Target)
	if s.verdict == failover.Promote {
		s.holds = in.Target
	}
	return json.Marshal(failover.Report{Verdict: s.verdict})
}

// did is what was asked and promoted so far.
func (s *scripted) did() (asked int, promoted []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked, append([]string(nil), s.promoted...)
}

// beating has a heart running in a bubble while each node answers 10 times a second,
// except those that a test makes silent.
func beating(t *testing.T, s *scripted, story func(t *testing.T, silent func(node string), changes func() []alarms.Change)) {
	synctest.Test(t, func(t *testing.T) {
		log := logrus.New()
		log.SetOutput(io.Discard)
		var mu sync.Mutex
		var changes []alarms.Change
		silent := map[string]bool{}
		h := newHeart(s, log, telemetry.NewMetrics(), func(c []alarms.Change) {
			mu.Lock()
			defer mu.Unlock()
			changes = append(changes, c...)
		})
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		all.Go(func() { h.run(ctx) })
		all.Go(func() {
			for ctx.Err() == nil {
				for _, node := range []string{"node-1", "node-2"} {
					mu.Lock()
					quiet := silent[node]
					mu.Unlock()
					if quiet {
						continue
					}
					r := api.Replication{Role: "follower", Epoch: 1}
					if holder, given, _ := s.holder(ctx); holder == node && !given {
						r.Role = "writer"
						if node == "node-2" {
							r.Epoch = 2
						}
					}
					h.beat(node, &r)
				}
				rest(ctx, watchEvery)
			}
		})
		story(t, func(node string) {
			mu.Lock()
			defer mu.Unlock()
			silent[node] = true
		}, func() []alarms.Change {
			mu.Lock()
			defer mu.Unlock()
			return append([]alarms.Change(nil), changes...)
		})
		cancel()
		all.Wait()
	})
}

// pass lets time go by in a bubble.
func pass(t *testing.T, d time.Duration) {
	rest(t.Context(), d)
	synctest.Wait()
}

func TestASilentWriterIsReplacedOnce(t *testing.T) {
	s := &scripted{holds: "node-1", decision: failover.Decision{Verdict: failover.Promote}, verdict: failover.Promote}
	beating(t, s, func(t *testing.T, silent func(string), changes func() []alarms.Change) {
		pass(t, time.Minute)
		if asked, _ := s.did(); asked != 0 || len(changes()) != 2 { // each from no data to ok
			t.Errorf("all is well: asked %d times, %+v", asked, changes())
		}
		silent("node-1")
		pass(t, alarms.SilentAfter)
		if asked, _ := s.did(); asked != 0 {
			t.Error("too early")
		}
		pass(t, time.Second)
		c := changes()
		if _, promoted := s.did(); len(promoted) != 1 || promoted[0] != "node-2" || len(c) != 3 || c[2].Node != "node-1" || c[2].State != alarms.Firing {
			t.Errorf("promoted %q, %+v", promoted, c)
		}
		pass(t, time.Minute)
		if _, promoted := s.did(); len(promoted) != 1 {
			t.Errorf("the old writer is silent still, and %q were promoted", promoted)
		}
	})
}

// While the guard runs the steps nothing is started; a writer that is not confirmed dead
// is looked at again and again, and so is one whose failover came to nothing.
func TestWhatTheOtherDetectorDoes(t *testing.T) {
	s := &scripted{holds: "node-1", decision: failover.Decision{Verdict: failover.Wait}, verdict: failover.Wait}
	beating(t, s, func(t *testing.T, silent func(string), _ func() []alarms.Change) {
		pass(t, time.Second)
		silent("node-1")
		pass(t, 5*time.Second)
		if asked, promoted := s.did(); asked < 2 || len(promoted) != 0 {
			t.Errorf("not confirmed: asked %d times, promoted %q", asked, promoted)
		}
		s.mu.Lock()
		s.decision.Verdict, s.busy = failover.Promote, true
		s.mu.Unlock()
		pass(t, 10*time.Second)
		if _, promoted := s.did(); len(promoted) != 0 {
			t.Errorf("promoted %q beside another failover", promoted)
		}
		s.mu.Lock()
		s.busy = false
		s.mu.Unlock()
		pass(t, 4*time.Second)
		if _, promoted := s.did(); len(promoted) < 2 {
			t.Errorf("a failover that came to nothing was tried %d times", len(promoted))
		}
		s.mu.Lock()
		tried := len(s.promoted)
		s.holds = "node-2" // the guard was faster
		s.mu.Unlock()
		pass(t, time.Minute)
		if _, promoted := s.did(); len(promoted) > tried {
			t.Errorf("promoted %q after another one had", promoted)
		}
	})
}

// The steps are run by one at a time, whoever asks.
func TestTheStepsAreRunByOne(t *testing.T) {
	p := &Plane{nodes: []failover.Node{{ID: "node-2"}}, failing: newTurn()}
	if !p.failing.try("node-2") {
		t.Fatal("somebody has the turn")
	}
	h := &heart{steps: p, target: "node-2"}
	if err := h.failover(t.Context(), "node-1", failover.Decision{}); !errors.As(err, new(*busyError)) {
		t.Errorf("%v", err)
	}
	p.failing.end()
}

// What somebody else has begun and left is finished: a run for another node, and one that
// has given the epoch, whose record names the writer that was no more.
func TestTheOtherDetectorFinishesWhatWasBegun(t *testing.T) {
	for name, s := range map[string]*scripted{
		"a run for another node": {holds: "node-1", begun: "node-3"},
		"an epoch that is given": {holds: "node-2", given: true},
	} {
		t.Run(name, func(t *testing.T) {
			s.decision, s.verdict = failover.Decision{Verdict: failover.Promote}, failover.Promote
			want := cmp.Or(s.begun, "node-2")
			h := newHeart(s, logrus.New(), telemetry.NewMetrics(), func([]alarms.Change) {})
			d, err := h.confirm(t.Context(), "node-1")
			if err == nil {
				err = h.failover(t.Context(), "node-1", d)
			}
			if _, promoted := s.did(); err != nil || len(promoted) != 1 || promoted[0] != want {
				t.Errorf("promoted %q, want %s: %+v, %v", promoted, want, d, err)
			}
		})
	}
}

// Of a node that is not the record's nothing is confirmed, whoever is silent.
func TestOnlyTheHoldersDeathIsConfirmed(t *testing.T) {
	h := &heart{steps: &scripted{holds: "node-2", decision: failover.Decision{Verdict: failover.Promote}}}
	for writer, want := range map[string]failover.Verdict{"node-1": failover.Wait, "node-2": failover.Promote} {
		if d, err := h.confirm(t.Context(), writer); err != nil || d.Verdict != want {
			t.Errorf("%s: %+v, %v", writer, d, err)
		}
	}
}
