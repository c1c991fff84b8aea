package failover

import (
	"context"
	"errors"
	"time"

	"originchain/shared/api"
	"originchain/shared/lease"
	"originchain/shared/lsn"
	"originchain/shared/registry"
)

// Run is the failover that was begun last, as the journal has it, for whoever tells
// others of it.
type Run struct {
	// ID names it.
	ID       string
	From, To string
	// Epoch is the one that To is given; 0 before that is known.
	Epoch     uint64
	Planned   bool
	StartedAt time.Time
	// Done: its target writes, and all that goes with it is done. Failed: its target
	// cannot become the writer by it any more, and Error says why. Neither: it is under
	// way, or waits for somebody to go on with it.
	Done, Failed bool
	Error        string
	// Held: it, or one before it, has stopped a server that was not let go since (LetGo).
	Held bool
}

// Latest is the run that was begun last; false if there was never one.
func Latest(ctx context.Context, reg registry.Store) (Run, bool, error) {
	j, err := loadJournal(ctx, reg)
	return Run{
		ID: j.Run, From: j.From, To: j.To, Epoch: j.Epoch, Planned: j.Planned, StartedAt: j.StartedAt,
		Done: j.State == done, Failed: j.State == failed, Error: j.Error, Held: len(j.Held) > 0,
	}, j.Run != "", err
}

// otherRun refuses while a run for another node can come to its end: that node answers, its
// log takes writes, and either nobody has taken the record since that run began and it could
// open, or it was given to it.
func (r *run) otherRun(ctx context.Context) error {
	j := &r.journal
	if j.State != running || j.To == r.to.ID {
		return nil
	}
	rec := r.seen.Record
	if uint64(rec.Epoch) != j.FromEpoch && rec.Holder != j.To {
		return nil
	}
	other, err := find(r.nodes, j.To)
	if err != nil {
		return nil
	}
	short, cancel := context.WithTimeout(ctx, standingTimeout)
	defer cancel()
	s, err := r.client.standing(short, other)
	// One that was given it and refuses to say has answered, and opens perhaps.
	no := new(answerError)
	opens := rec.Holder == j.To && errors.As(err, &no)
	if err != nil && !opens || s.Role == roleWriter && rec.Holder == j.To && rec.Confirmed() {
		return nil
	}
	if r.client.failingAfter(ctx, other, err) != 0 {
		return nil // who waits for it may wait for as long as its disk hangs
	}
	if rec.Holder != j.To && !j.mayLose(time.Now()) && !couldOpen(rec, s) {
		return nil // whoever began that run may have given up a guard, and was not heard of since
	}
	return &OtherRunError{Run: j.Run, To: j.To, Step: j.Step}
}

// couldOpen says whether a node that answers can be given the next epoch, as long as no
// guard is given up.
func couldOpen(rec lease.Record, s api.Replication) bool {
	last := lsn.Pos{Epoch: lsn.Epoch(s.DurableEpoch), LSN: lsn.LSN(s.DurableLSN)}
	return s.Promotable && (rec.SyncReplicas == 0 || rec.MayOpen(s.Node, last).Decision == lease.Open)
}
