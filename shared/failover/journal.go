package failover

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"originchain/shared/lease"
	"originchain/shared/registry"
)

// journal is the one failover of the instance that is under way, or was the last: a
// document of the registry that each step changes by compare-and-set before it acts and
// after. Whoever finds it running for the node it was asked to promote goes on with it.
//
// It decides nothing that the lease record decides: two processes that go on with it at
// once, or one that was thought dead, can only do again what is done.
type journal struct {
	Run   string       `json:"run"`
	State journalState `json:"state"`
	From  string       `json:"from"`
	To    string       `json:"to"`
	// Holder is who the record named when the run began, and whom fence is about: From,
	// unless the record named To already, which did not write. It need not be registered.
	Holder string `json:"holder,omitempty"`
	// FromEpoch is the record's when the run began; Epoch the one that To is given, 0
	// before that is known.
	FromEpoch uint64    `json:"from_epoch"`
	Epoch     uint64    `json:"epoch"`
	Planned   bool      `json:"planned"`
	StartedAt time.Time `json:"started_at"`
	// Step is under way; Steps are what has ended.
	Step  string `json:"step"`
	Steps []Step `json:"steps"`
	// Runners counts the processes that have gone at it.
	Runners    int  `json:"runners"`
	AcceptLoss bool `json:"accept_loss"`
	// AcceptedAt is when AcceptLoss was, by the clock of whoever noted it.
	AcceptedAt time.Time `json:"accepted_at,omitzero"`
	LostFrom   uint64    `json:"lost_from"`
	LostTo     uint64    `json:"lost_to"`
	Error      string    `json:"error,omitempty"`
	// What a step needs of those before it, where each is a process of its own: why it was
	// begun, with which guards given up; up to where the old writer was heard to be durable;
	// the record at which its lease had run out; whether the target was told to open in its
	// process.
	Reasons   []Reason   `json:"reasons,omitempty"`
	Allow     Overrides  `json:"allow"`
	Heard     uint64     `json:"heard,omitempty"`
	Fenced    recordMark `json:"fenced,omitzero"`
	InProcess bool       `json:"in_process,omitempty"`
	// Held are the nodes that this run, or one before it, has told to stop, or may have, and
	// which were not started again since. Stops counts what was told.
	Held  []stopped `json:"held,omitempty"`
	Stops uint64    `json:"stops,omitempty"`
	// Gone: the old writer's machine did not answer when it was to be stopped, and is asked
	// nothing more.
	Gone bool `json:"gone,omitempty"`
}

// holder is Holder, of a journal that an earlier build wrote too.
func (j *journal) holder() string {
	if j.Holder == "" {
		return j.From
	}
	return j.Holder
}

// stopped is a node whose server was told to stop, and is held by that: in which epoch, and
// by which stop of all.
type stopped struct {
	Node  string `json:"node"`
	Epoch uint64 `json:"epoch"`
	N     uint64 `json:"n"`
}

// stops notes that a node is told to stop, before it is.
func (j *journal) stops(node string, epoch uint64) {
	j.Stops++
	j.Held = append(slices.DeleteFunc(j.Held, func(s stopped) bool { return s.Node == node }), stopped{node, epoch, j.Stops})
}

// runs notes that what was stopped is started again, unless it was stopped since.
func (j *journal) runs(s stopped) {
	j.Held = slices.DeleteFunc(j.Held, func(held stopped) bool { return held == s })
}

// lossStands is how long a loss that was accepted keeps others from being promoted, if
// nobody takes the record by it: it is noted right before that.
const lossStands = 5 * time.Minute

// mayLose says whether somebody has accepted a loss for this run a short while ago.
func (j *journal) mayLose(now time.Time) bool {
	age := now.Sub(j.AcceptedAt)
	return j.AcceptLoss && age > -lossStands && age < lossStands
}

// recordMark tells a record from those before and after it. A version alone would do, but
// in a table that was put back to an earlier day versions come a second time.
type recordMark struct {
	Version   uint64 `json:"version"`
	Epoch     uint64 `json:"epoch"`
	Holder    string `json:"holder"`
	CommitLSN uint64 `json:"commit_lsn"`
}

func markOf(r lease.Record) recordMark {
	return recordMark{Version: r.Version, Epoch: uint64(r.Epoch), Holder: r.Holder, CommitLSN: uint64(r.CommitLSN)}
}

type journalState string

const (
	// running: it can come to its end, when its process does not then by another.
	running journalState = "running"
	// done: its target writes, and all that goes with it is done.
	done journalState = "done"
	// failed: its target cannot become the writer by it any more.
	failed journalState = "failed"
)

// ended is a step that has ended. One that was done before stays as it was, and one that
// was left is not undone by a try that fails: those behind it may have been carried out.
func (j *journal) ended(s Step) {
	for i := range j.Steps {
		if j.Steps[i].N == s.N {
			if was := j.Steps[i].Outcome; was != OK && (was != Left || s.Outcome != Failed) {
				j.Steps[i] = s
			}
			return
		}
	}
	j.Steps = append(j.Steps, s)
}

func loadJournal(ctx context.Context, reg registry.Store) (j journal, err error) {
	doc, err := load(ctx, reg, journalKey)
	if err == nil && doc.Version > 0 {
		err = json.Unmarshal(doc.Body, &j)
	}
	if err != nil {
		return j, fmt.Errorf("read the journal of failovers in the registry: %w", err)
	}
	return j, nil
}

// note changes the journal of this run. It fails with MovedError if it is another run's.
func (r *run) note(ctx context.Context, change func(*journal)) error {
	if r.journal.Run == "" {
		return nil // nothing is under way, all was done before
	}
	moved := false
	err := rewrite(ctx, r.deps.Registry, journalKey, func(now *journal) bool {
		if moved = now.Run != r.journal.Run; moved {
			r.journal.To, r.journal.State = now.To, now.State
			return false
		}
		change(now)
		r.journal = *now
		return true
	})
	switch {
	case err != nil:
		return fmt.Errorf("note in the registry how far the failover is: %w", err)
	case moved:
		return &MovedError{What: fmt.Sprintf("another failover, to %s, has begun since", r.journal.To), Holder: r.seen.Record.Holder, Epoch: uint64(r.seen.Record.Epoch)}
	}
	return nil
}
