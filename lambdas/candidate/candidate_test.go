package candidate

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/shared/lsn"
)

// A failover that somebody has begun and not finished is finished, whoever would be chosen: a command that was killed must not keep the instance without a writer.
func TestWhatWasBegunIsFinished(t *testing.T) {
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
		err := OrBegun("b", func(to string, begun bool) error {
			if begun != (len(asked) > 0) {
				t.Errorf("%s: %s was begun before: %t", c.name, to, begun)
			}
			asked = append(asked, to)
			return c.answers[to]
		})
		if d := cmp.Diff(c.asked, asked); d != "" || !errors.Is(err, c.want) {
			t.Errorf("%s: %v %s", c.name, err, d)
		}
	}
}

// The set comes first, then whose log takes writes, then who has the newest epoch, then the most of it; who does not
// answer and who writes are nobody's choice.
func TestBest(t *testing.T) {
	all := []failover.Node{{ID: "a"}, {ID: "b"}, {ID: "c"}, {ID: "d"}}
	at := func(epoch lsn.Epoch, n lsn.LSN) Standing {
		return Standing{Answers: true, Durable: lsn.Pos{Epoch: epoch, LSN: n}}
	}
	hangs := func(s Standing) Standing { s.Failing = true; return s }
	for _, c := range []struct {
		name string
		rec  lease.Record
		of   map[string]Standing
		want string
	}{
		{"nobody answers", lease.Record{Holder: "a"}, nil, ""},
		{"the holder alone", lease.Record{Holder: "a"}, map[string]Standing{"a": at(1, 9)}, ""},
		{"the longest log", lease.Record{Holder: "a"}, map[string]Standing{"a": at(1, 9), "b": at(1, 3), "c": at(1, 4), "d": {Durable: lsn.Pos{Epoch: 1, LSN: 9}}}, "c"},
		{"the newest epoch", lease.Record{Holder: "a"}, map[string]Standing{"b": at(2, 3), "c": at(1, 4)}, "b"},
		{"the set", lease.Record{Holder: "a", InSync: []string{"d"}}, map[string]Standing{"b": at(2, 3), "d": at(1, 1)}, "d"},
		{"the longest log has a disk that hangs", lease.Record{Holder: "a"}, map[string]Standing{"b": at(1, 3), "c": hangs(at(1, 4))}, "c"},
		{"so has the first one of the set", lease.Record{Holder: "a", InSync: []string{"b", "c"}}, map[string]Standing{"b": hangs(at(1, 9)), "c": at(1, 8), "d": at(1, 9)}, "c"},
		{"so has all of the set", lease.Record{Holder: "a", InSync: []string{"d"}}, map[string]Standing{"b": at(1, 9), "d": hangs(at(1, 9))}, "d"},
		{"so has the first of two that are alike", lease.Record{Holder: "a"}, map[string]Standing{"b": hangs(at(1, 4)), "c": at(1, 4)}, "c"},
		{"so has the second of two that are alike", lease.Record{Holder: "a"}, map[string]Standing{"b": at(1, 4), "c": hangs(at(1, 4))}, "b"},
		{"so has the one of the set that lacks nothing", lease.Record{Holder: "a", Epoch: 1, InSync: []string{"b", "c"}, CommitLSN: 9, Line: []lease.Opening{{Epoch: 1, FirstLSN: 1}}}, map[string]Standing{"b": hangs(at(1, 9)), "c": at(1, 8)}, "b"},
		{"so has everybody", lease.Record{Holder: "a"}, map[string]Standing{"b": hangs(at(1, 3)), "c": hangs(at(1, 4))}, "c"},
		{"who was in it", lease.Record{Holder: "a", Eligible: []string{"a", "c"}}, map[string]Standing{"b": at(2, 3), "c": at(1, 1)}, "c"},
	} {
		best, ok := Best(c.rec, all, func(id string) Standing { return c.of[id] })
		if best.ID != c.want || ok != (c.want != "") {
			t.Errorf("%s: %q, want %q", c.name, best.ID, c.want)
		}
	}
}

// A failover is left at its target from when the record names that until it has confirmed its
// epoch, as long as the failover is under way.
func TestLeft(t *testing.T) {
	given := lease.Record{Holder: "b", Epoch: 2, ConfirmedEpoch: 1}
	for _, c := range []struct {
		name string
		rec  lease.Record
		run  failover.Run
		want bool
	}{
		{"given", given, failover.Run{ID: "R", To: "b"}, true},
		{"to another", given, failover.Run{ID: "R", To: "c"}, false},
		{"it has failed", given, failover.Run{ID: "R", To: "b", Failed: true}, false},
		{"it is done", given, failover.Run{ID: "R", To: "b", Done: true}, false},
		{"it writes", lease.Record{Holder: "b", Epoch: 2, ConfirmedEpoch: 2}, failover.Run{ID: "R", To: "b"}, false},
		{"nobody ever wrote", lease.Record{}, failover.Run{}, false},
	} {
		if got := Left(c.rec, c.run); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}

// Who was given an epoch hangs only before it has opened that, and only if it says so itself.
func TestHangs(t *testing.T) {
	hangs := Standing{Answers: true, Failing: true}
	for _, c := range []struct {
		name string
		rec  lease.Record
		of   Standing
		want bool
	}{
		{"it was given it", lease.Record{Epoch: 2, ConfirmedEpoch: 1}, hangs, true},
		{"it takes writes", lease.Record{Epoch: 2, ConfirmedEpoch: 1}, Standing{Answers: true}, false},
		{"it is silent", lease.Record{Epoch: 2, ConfirmedEpoch: 1}, Standing{}, false},
		{"it has opened it", lease.Record{Epoch: 2, ConfirmedEpoch: 2}, hangs, false},
		{"it has given it up", lease.Record{Epoch: 2, ConfirmedEpoch: 1, Released: true}, hangs, false},
		{"there is no record", lease.Record{}, hangs, false},
	} {
		if got := Hangs(c.rec, c.of); got != c.want {
			t.Errorf("%s: %t", c.name, got)
		}
	}
}
