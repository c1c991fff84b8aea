package plane

import (
	"testing"
	"time"

	"originchain/shared/lease"
	"originchain/shared/lsn"
)

// An epoch that was given by a process which was killed then is opened: the old writer has
// retired, and the new one waits to be told.
func TestAnOrphanedEpochIsNoticed(t *testing.T) {
	take := func(r lease.Record, node, place string, last lsn.Pos) lease.Record {
		next, err := r.Take(lease.Candidate{Instance: "01HZX3V9J8Q2W4E6R8T0Y2M4K6", Node: node, URL: "http://" + node, Place: place, Last: last, AcceptLoss: true})
		if err != nil {
			t.Fatal(err)
		}
		return next
	}
	opened := take(lease.Record{}, "a", "here", lsn.Pos{})
	given := take(opened, "b", "", lsn.Pos{Epoch: 1, LSN: 9})
	again := take(given, "c", "", lsn.Pos{Epoch: 1, LSN: 9})
	var o orphan
	var at time.Time
	for i, step := range []struct {
		rec  lease.Record
		pass time.Duration
		want bool
	}{
		{opened, 0, false}, {opened, time.Hour, false}, {given, 0, false}, {given, orphanAfter - 1, false}, {given, 1, true}, {again, time.Hour, false},
		{again, orphanAfter, true}, {opened, 0, false}, {given, orphanAfter, false},
	} {
		at = at.Add(step.pass)
		if got := o.of(step.rec, at); got != step.want {
			t.Errorf("step %d: %t", i, got)
		}
	}
}
