package silence

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"originchain/lambdas/alarmevent"
	"originchain/lambdas/documents"
	"originchain/shared/failover"
	"originchain/shared/registry"
)

const (
	registerKey    = "silence"
	registerFormat = 1
	// maxKept is how many events are kept of those that were acted upon, and of those that
	// were not: who sends many of the latter pushes out none of the former.
	maxKept = 40
	// abandonedAfter is when an event is anybody's again whose execution has not come back.
	abandonedAfter = 5 * time.Minute
)

// Register is the document of what came of events: the audit, and how a repeated one is
// told from the next. Its JSON is stable.
type Register struct {
	Format int `json:"format"`
	// Handled are the alarms that were acted upon, Ignored those that were not, oldest
	// first.
	Handled []Entry `json:"handled"`
	Ignored []Entry `json:"ignored"`
	// Started are the failovers that were started, within FlapWithin.
	Started []Start `json:"started"`
	// Noes counts how often a person has refused to have the writer replaced, and No is the last
	// time, until somebody approves who was told of it.
	Noes int `json:"noes,omitempty"`
	No   *No `json:"no,omitempty"`
	// Looking are the claims of calls that have not answered yet.
	Looking []Claim `json:"looking,omitempty"`
}

// Start is a failover that was started.
type Start struct {
	Run string    `json:"run"`
	At  time.Time `json:"at"`
}

// Entry is what came of one event.
type Entry struct {
	Key       string `json:"key"`
	Execution string `json:"execution"`
	// First and Last are when it was looked at.
	First time.Time `json:"first"`
	Last  time.Time `json:"last"`
	Round int       `json:"round"`
	// Epoch was the record's when it was looked at first.
	Epoch   uint64            `json:"epoch,omitempty"`
	Verdict Verdict           `json:"verdict"`
	Run     string            `json:"run,omitempty"`
	Reasons []failover.Reason `json:"reasons"`
	// ApprovedBy is who gave guards up, and Allow which.
	ApprovedBy string              `json:"approved_by,omitempty"`
	Allow      *failover.Overrides `json:"allow,omitempty"`
	// Rejected: ApprovedBy has said that the writer is not to be replaced.
	Rejected bool `json:"rejected,omitempty"`
	// Executions counts those that have had it.
	Executions int `json:"executions"`
}

// at is when the alarm of an entry came into its state; ok is false for what names none.
func (e *Entry) at() (alarm string, at time.Time, ok bool) {
	i := strings.LastIndexByte(e.Key, '@')
	if i < 0 {
		return "", at, false
	}
	at, err := time.Parse(alarmevent.KeyTime, e.Key[i+1:])
	return e.Key[:i], at, err == nil
}

// sameChange is how far apart an alarm's event and its description may have one change.
const sameChange = 5 * time.Second

// sameKey says whether two keys are of one change.
func sameKey(a, b string) bool {
	alarm, at, named := (&Entry{Key: a}).at()
	other, then, ok := (&Entry{Key: b}).at()
	return a == b || named && ok && other == alarm && at.Sub(then).Abs() <= sameChange
}

// find is the entry of a change of an alarm that was acted upon, by whatever way it was
// heard of.
func (r *Register) find(key string) (Entry, bool) {
	i := slices.IndexFunc(r.Handled, func(e Entry) bool { return sameKey(e.Key, key) })
	if i < 0 {
		return Entry{}, false
	}
	return r.Handled[i], true
}

// of is the entry that an execution has; the last, if it has several.
func (r *Register) of(execution string) (Entry, bool) {
	for _, e := range slices.Backward(r.Handled) {
		if e.Execution == execution {
			return e, true
		}
	}
	return Entry{}, false
}

// recent are the failovers that count against MaxFailovers; one that goes on counts once.
func (r *Register) recent(now time.Time) int {
	n := 0
	for _, s := range r.Started {
		if now.Sub(s.At) < FlapWithin {
			n++
		}
	}
	return n
}

// put keeps an entry, in place of the one before of the same event, and gives up the claim of
// its execution. Of those that were ignored each is kept.
func (r *Register) put(e Entry) {
	list := &r.Handled
	same := func(have Entry) bool { return have.Key == e.Key }
	e.Executions = 1
	r.free(e.Execution)
	if e.Verdict == Ignored && !e.Rejected {
		list = &r.Ignored
	} else if i := slices.IndexFunc(*list, same); i >= 0 {
		was := &(*list)[i]
		e.First, e.Epoch, e.Executions = was.First, was.Epoch, max(1, was.Executions)
		if was.Execution != e.Execution {
			e.Executions++
		}
		if e.Run == "" {
			e.Run = was.Run // which may be under way still
		}
		*list = slices.Delete(*list, i, i+1)
	}
	*list = append(*list, e)
	*list = slices.Clone((*list)[max(0, len(*list)-maxKept):])
	if e.Verdict == Verdict(failover.Promote) && e.ApprovedBy != "" {
		r.No = nil
	}
	started := func(s Start) bool { return s.Run == e.Run }
	if e.Verdict == Verdict(failover.Promote) && !slices.ContainsFunc(r.Started, started) {
		r.Started = append(r.Started, Start{Run: e.Run, At: e.Last})
	}
	r.Started = slices.Clone(r.Started[max(0, len(r.Started)-maxKept):])
}

// keep writes down what came of a change. It fails with refusedError where a person has said no
// since that was claimed: whoever is called is to be told of it.
func keep(ctx context.Context, reg registry.Store, e Entry, c change) error {
	var no error
	_, err := documents.Change(ctx, reg, registerKey, func(r *Register) bool {
		r.Format = registerFormat
		if no = nil; e.Verdict != Ignored {
			no = r.refusedSince(c)
		}
		if no != nil {
			return false
		}
		if e.Rejected {
			r.refuse(e)
		}
		r.put(e)
		return true
	})
	return errors.Join(err, no)
}

// Events is the register of an instance.
func Events(ctx context.Context, reg registry.Store) (Register, error) {
	return documents.Change(ctx, reg, registerKey, func(*Register) bool { return false })
}

// keyOf is the key of an event, or of one that could not be read.
func keyOf(e alarmevent.Event) string {
	const longest = 300
	if e.ARN == "" {
		return "unread"
	}
	k := e.Key()
	return k[:min(len(k), longest)]
}
