package failover

import (
	"context"
	"errors"
	"fmt"

	"originchain/shared/lease"
)

// HeldError says why a server that a failover may have stopped is not started again.
type HeldError struct{ Node, Why string }

// Error implements error.
func (e *HeldError) Error() string { return fmt.Sprintf("%s is not started: %s", e.Node, e.Why) }

// LetGo starts the server again that a run has stopped, and which nothing else starts
// since: the holder that the record named when the run began. It is for after the run's last
// step, and for where the run does not go on; where a supervisor starts its nodes by itself
// there is no need for it. It can be repeated. A HeldError says that the server is not to be
// started, other errors that nobody knows whether it is.
//
// Invariants:
//
//   - Nobody is started beside a writer that may not know of it: the record names the one
//     that was stopped, in the epoch in which it was, and whoever starts takes another; or
//     another node has confirmed an epoch above, or was given it and does not answer, while
//     who is held may be the only one that has everything.
//   - What another run has stopped, or has begun since, is that one's. So is what was stopped
//     after the run has let go once.
func LetGo(ctx context.Context, d Deps, run string) (detail string, err error) {
	j, err := loadJournal(ctx, d.Registry)
	if err != nil {
		return "", err
	}
	id := j.holder()
	switch {
	case run == "" || j.Run != run:
		return "", &HeldError{Node: "what failover " + run + " has stopped", Why: fmt.Sprintf("the failover begun last is %q", j.Run)}
	case !j.Stopped:
		return fmt.Sprintf("%s was not stopped, and need not be started", id), nil
	case j.LetGo:
		return fmt.Sprintf("%s was let go before", id), nil
	}
	nodes, err := Nodes(ctx, d.Registry)
	if err != nil {
		return "", err
	}
	old, err := find(nodes, id)
	if err != nil {
		return "", err
	}
	var rec lease.Record
	if err := steadily(ctx, func() error { rec, _, err = d.Lease.Load(ctx); return err }); err != nil {
		return "", fmt.Errorf("%s is not started: read the record of who writes: %w", id, err)
	}
	if detail, err = letGo(ctx, d, &j, nodes, rec); err != nil {
		return "", err
	}
	short, cancel := context.WithTimeout(ctx, restartTimeout+pace(d.Control))
	defer cancel()
	if err := asOf(d.Control, uint64(rec.Epoch)).Start(short, old); err != nil {
		return "", fmt.Errorf("the server of %s may be held, and was not let go: %w", id, err)
	}
	err = rewrite(ctx, d.Registry, journalKey, func(now *journal) bool {
		change := now.Run == run && !now.LetGo
		now.LetGo = true
		return change
	})
	if err != nil {
		return "", fmt.Errorf("%s is started, which was not noted in the registry: %w", id, err)
	}
	return detail, nil
}

// letGo says why the holder that a run has stopped may be started, by the record.
func letGo(ctx context.Context, d Deps, j *journal, nodes []Node, rec lease.Record) (string, error) {
	id := j.holder()
	switch {
	case rec.Holder == id && uint64(rec.Epoch) == j.FromEpoch:
		return fmt.Sprintf("%s is started again: nobody has taken its place, and the record names it for epoch %d", id, rec.Epoch), nil
	case rec.Holder == id:
		return "", &HeldError{Node: id, Why: fmt.Sprintf("the record names it for epoch %d, and what was stopped is its epoch %d", rec.Epoch, j.FromEpoch)}
	case uint64(rec.Epoch) <= j.FromEpoch:
		return "", &HeldError{Node: id, Why: fmt.Sprintf("the record names %s for epoch %d, and it was stopped in %d", rec.Holder, rec.Epoch, j.FromEpoch)}
	case rec.Confirmed():
		return fmt.Sprintf("%s is started, and follows %s, the writer of epoch %d", id, rec.Holder, rec.Epoch), nil
	}
	other, err := find(nodes, rec.Holder)
	if err == nil {
		short, cancel := context.WithTimeout(ctx, standingTimeout)
		defer cancel()
		_, err = (&client{http: d.HTTP, token: d.AdminToken}).standing(short, other)
		// One that refuses to say has answered, and opens perhaps.
		if silent := new(silentError); err != nil && !errors.As(heardOf(err), &silent) {
			return "", fmt.Errorf("%s is not started: %s was given epoch %d, and nobody knows whether it opens: %w", id, rec.Holder, rec.Epoch, err)
		}
	}
	if err == nil {
		return "", &HeldError{Node: id, Why: fmt.Sprintf("%s was given epoch %d, has not confirmed it, and answers: it may be about to write", rec.Holder, rec.Epoch)}
	}
	return fmt.Sprintf("%s is started: %s was given epoch %d, and does not answer (%v); nobody else may have everything", id, rec.Holder, rec.Epoch, err), nil
}
