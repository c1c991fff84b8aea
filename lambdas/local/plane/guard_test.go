package plane

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/shared/lsn"
)

// A failover that somebody has begun and not finished is finished, whoever the guard would
// have chosen: a command that was killed must not keep the instance without a writer.
func TestTheGuardFinishesWhatWasBegun(t *testing.T) {
	begun := fmt.Errorf("promote: %w", &failover.OtherRunError{Run: "R", To: "c", Step: "fence"})
	away := errors.New("away")
	for _, c := range []struct {
		name    string
		answers map[string]error
		asked   []string
		want    error
	}{
		{"nothing was begun", map[string]error{}, []string{"b"}, nil},
		{"it fails", map[string]error{"b": away}, []string{"b"}, away},
		{"another one was begun", map[string]error{"b": begun}, []string{"b", "c"}, nil},
		{"and fails", map[string]error{"b": begun, "c": away}, []string{"b", "c"}, away},
		{"they refuse one another", map[string]error{"b": begun, "c": begun}, []string{"b", "c"}, begun},
	} {
		var asked []string
		err := replace("b", func(to string) error { asked = append(asked, to); return c.answers[to] })
		if d := cmp.Diff(c.asked, asked); d != "" || !errors.Is(err, c.want) {
			t.Errorf("%s: %v %s", c.name, err, d)
		}
	}
}

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
