package failover

import (
	"testing"
	"time"

	"originchain/shared/api"
	"originchain/shared/lease"
)

// before is when a directory was made that has all that its node had.
func before() time.Time { return time.Now().Add(-time.Hour) }

// Until the old writer is back the report has what was heard of it; then, to the LSN, what
// it has set aside.
func TestTheLostRangeBecomesExact(t *testing.T) {
	of := func(epoch, first, last uint64) api.SetAside {
		return api.SetAside{File: "f", Epoch: epoch, FirstLSN: first, LastLSN: last}
	}
	for _, c := range []struct {
		name     string
		node     string
		epoch    uint64 // of the last frame of its log
		aside    []api.SetAside
		from, to uint64
		exact    bool
	}{
		{"frames that nobody had heard of", "a", 2, []api.SetAside{of(1, 5021, 5060)}, 5021, 5060, true},
		{"in two files", "a", 2, []api.SetAside{of(1, 5021, 5040), of(1, 5041, 5061)}, 5021, 5061, true},
		{"of a log that parts further down", "a", 2, []api.SetAside{of(1, 4000, 5060)}, 5021, 5060, true},
		{"files of another time", "a", 3, []api.SetAside{of(1, 4000, 4100), of(1, 5021, 5055), of(1, 9000, 9100), of(2, 5021, 5070), of(3, 5071, 5080)}, 5021, 5055, true},
		{"it has not joined the line yet", "a", 1, []api.SetAside{of(1, 5021, 5060)}, 5021, 5050, false},
		{"another node", "c", 2, []api.SetAside{of(1, 5021, 5060)}, 5021, 5050, false},
		{"its log is lost", "a", 2, nil, 5021, 5050, false},
		{"part of its log is lost", "a", 2, []api.SetAside{of(1, 5021, 5049)}, 5021, 5050, false},
		{"a file cannot be read", "a", 2, []api.SetAside{of(1, 5021, 5060), of(1, 5061, 0)}, 5021, 5050, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *world) {
				w.with("b", func(n *fakeNode) { n.last.LSN, n.applied, n.heard, n.more = 5015, 5015, 5050, 5 })
				w.kill("a", true)
				rep, err := Execute(t.Context(), w.deps(), w.request("b"), nil)
				if err != nil || rep.LostFrom != 5021 || rep.LostTo != 5050 || rep.LostExact {
					t.Fatalf("%+v, %v", rep, err)
				}
				back := api.Replication{Node: c.node, Role: roleFollower, DurableEpoch: c.epoch, SetAside: c.aside}
				r, changed, err := Returned(t.Context(), w.reg, w.record(), back, before())
				if err != nil || changed != c.exact {
					t.Fatalf("%+v, %t, %v", r, changed, err)
				}
				last, _, err := LastFailover(t.Context(), w.reg)
				if err != nil || last.LostFrom != c.from || last.LostTo != c.to || last.LostExact != c.exact {
					t.Errorf("LSN %d to %d, exact %t, %v", last.LostFrom, last.LostTo, last.LostExact, err)
				}
				if j, err := loadJournal(t.Context(), w.reg); err != nil || j.LostFrom != c.from || j.LostTo != c.to {
					t.Errorf("the journal: LSN %d to %d, %v", j.LostFrom, j.LostTo, err)
				}
				if _, again, err := Returned(t.Context(), w.reg, w.record(), back, before()); again || err != nil {
					t.Errorf("it changes twice: %v", err)
				}
			})
		})
	}
}

// A follower that had all is no loss, and that is exact once the old writer is back; of an
// epoch that the record has forgotten nothing is said.
func TestNoLossIsExactToo(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		if _, err := Execute(t.Context(), w.deps(), w.request("b"), nil); err != nil {
			t.Fatal(err)
		}
		back := api.Replication{Node: "a", DurableEpoch: 2}
		if r, changed, err := Returned(t.Context(), w.reg, lease.Record{}, back, before()); changed || err != nil {
			t.Errorf("%+v, %v", r, err)
		}
		for _, made := range []time.Time{{}, time.Now(), time.Now().Add(time.Hour)} { // nobody knows, or its disk was replaced
			if r, changed, err := Returned(t.Context(), w.reg, w.record(), back, made); changed || err != nil {
				t.Errorf("made at %s: %+v, %v", made, r, err)
			}
		}
		if r, changed, err := Returned(t.Context(), w.reg, w.record(), back, before()); !changed || !r.LostExact || r.LostFrom != 0 || r.LostTo != 0 || err != nil {
			t.Errorf("%+v, %t, %v", r, changed, err)
		}
	}, "b")
}

// Of two files that begin at one place the later epoch's is what the node had last.
func TestTheLastHistoryCounts(t *testing.T) {
	rec := lease.Record{ConfirmedEpoch: 3, Line: []lease.Opening{{Epoch: 1, FirstLSN: 1}, {Epoch: 3, FirstLSN: 81, Parent: 1}}}
	files := []api.SetAside{{Epoch: 2, FirstLSN: 101, LastLSN: 140}, {Epoch: 1, FirstLSN: 81, LastLSN: 100}, {Epoch: 1, FirstLSN: 101, LastLSN: 150}}
	if from, to, ok := lostRange(rec, 3, files); !ok || from != 81 || to != 140 {
		t.Errorf("LSN %d to %d, %t", from, to, ok)
	}
}
