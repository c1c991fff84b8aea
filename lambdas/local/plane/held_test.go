package plane

import (
	"encoding/json"
	"testing"
	"time"

	"originchain/shared/lease"
	"originchain/shared/lsn"
)

// A writer that was stopped for another one to write is started again when that one dies
// before it writes: it is the only one left that has everything, and nobody else would.
func TestAWriterThatWasStoppedForNobodyRunsAgain(t *testing.T) {
	s := newStage(t, 1, "")
	last := lsn.Pos{Epoch: 1, LSN: 10}
	s.write(func(r lease.Record) (lease.Record, error) {
		return r.Take(lease.Candidate{Instance: s.in.ID, Node: "node-2", URL: s.nodes[1].URL, Last: last})
	})
	s.up()
	runs := func() bool { return s.runs(t.Context(), "node-1") }
	s.until("node-1 runs", runs)
	if p, err := s.machines.Stop(t.Context(), s.nodes[0]); err != nil || !p.Reaped {
		t.Fatalf("%+v, %v", p, err)
	}
	s.until("node-1 runs again", runs)
}

// While another process carries out a failover, what it has stopped stays so, for a while;
// a run of this process has ended by the time that anybody looks.
func TestWhatAFailoverHasStopped(t *testing.T) {
	s := newStage(t, 1, "")
	version := uint64(0)
	for _, c := range []struct {
		state string
		age   time.Duration
		ran   string
		want  bool
	}{{"running", 0, "", true}, {"running", 0, "R", false}, {"running", runsFor, "", false}, {"failed", 0, "", false}, {"done", 0, "", false}} {
		body, err := json.Marshal(map[string]any{"run": "R", "state": c.state, "started_at": time.Now().Add(-c.age)})
		if err == nil {
			_, err = s.registry.Save(t.Context(), "failover", version, body)
		}
		if err != nil {
			t.Fatal(err)
		}
		version++
		s.held.ran = c.ran
		if got := s.carriedOut(t.Context()); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}

// One that is followed is started at once, any other after a while; neither again and
// again where it does not start.
func TestWhenANodeIsLetGo(t *testing.T) {
	var h held
	at := time.Time{}.Add(time.Hour)
	for i, step := range []struct {
		pass     time.Duration
		followed bool
		want     bool
	}{{0, false, false}, {heldFor - 1, false, false}, {0, true, true}, {1, false, true}, {0, true, true}} {
		at = at.Add(step.pass)
		if got := h.due("a", step.followed, at); got != step.want {
			t.Errorf("step %d: %t", i, got)
		}
	}
	h.nodes["a"] = heldNode{since: at, tried: at}
	for _, followed := range []bool{true, false} {
		if h.due("a", followed, at.Add(heldFor-1)) || !h.due("a", followed, at.Add(heldFor)) {
			t.Errorf("tried in vain, followed: %t", followed)
		}
	}
}
