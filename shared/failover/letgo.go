package failover

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"originchain/shared/lease"
)

// HeldError says why a server that a failover may have stopped is not started again.
type HeldError struct{ Node, Why string }

// Error implements error.
func (e *HeldError) Error() string { return fmt.Sprintf("%s is not started: %s", e.Node, e.Why) }

// LetGo starts the servers again that a run has stopped, or one before it whose LetGo did not
// come to that, and which nothing else starts since. It is for after the run's last step, and
// for where the run does not go on; where a supervisor starts its nodes by itself there is no
// need for it. It can be repeated. A HeldError says that a server is not to be started, other
// errors that nobody knows whether it is.
//
// Invariants:
//
//   - Nobody is started beside a writer that may not know of it: the record names the one
//     that was stopped, in the epoch in which it was, and whoever starts takes another; or
//     another node opens an epoch above, or was given it and does not answer, while who is
//     held may be the only one that has everything.
//   - What a run that has begun since has stopped, or is to let go, is that one's. A server is
//     noted as started only if it was not stopped again meanwhile, by whoever does the same.
func LetGo(ctx context.Context, d Deps, run string) (detail string, err error) {
	j, err := loadJournal(ctx, d.Registry)
	if err != nil {
		return "", err
	}
	switch {
	case run == "" || j.Run != run:
		return "", &HeldError{Node: "what failover " + run + " has stopped", Why: fmt.Sprintf("the failover begun last is %q", j.Run)}
	case len(j.Held) == 0:
		return "nobody is held: who was stopped was let go before", nil
	}
	nodes, err := Nodes(ctx, d.Registry)
	if err != nil {
		return "", err
	}
	var rec lease.Record
	if err := steadily(ctx, func() error { rec, _, err = d.Lease.Load(ctx); return err }); err != nil {
		return "", fmt.Errorf("%s is not started: read the record of who writes: %w", j.Held[0].Node, err)
	}
	var said []string
	var unknown, forbidden []error
	for _, s := range j.Held {
		one, err := start(ctx, d, &j, s, nodes, rec)
		var held *HeldError
		switch {
		case err == nil:
			said = append(said, one)
		case errors.As(err, &held):
			forbidden = append(forbidden, err)
		default:
			unknown = append(unknown, err)
		}
	}
	if len(unknown) > 0 { // it is worth another try
		return "", errors.Join(unknown...)
	}
	return strings.Join(said, "; "), errors.Join(forbidden...)
}

// start starts a server that was stopped, if that may be, and notes that it was.
func start(ctx context.Context, d Deps, j *journal, s stopped, nodes []Node, rec lease.Record) (detail string, err error) {
	old, err := find(nodes, s.Node)
	if err != nil {
		return "", &HeldError{Node: s.Node, Why: err.Error()}
	}
	detail, since, err := letGo(ctx, d, s, nodes, rec)
	if err != nil {
		return "", err
	}
	if !since {
		bound := restartTimeout
		if j.Gone && s.Node == j.holder() { // its machine has not answered a stop
			bound = stopTimeout
		}
		short, cancel := context.WithTimeout(ctx, bound+pace(d.Control))
		defer cancel()
		if err := asOf(d.Control, uint64(rec.Epoch)).Start(short, old); err != nil {
			return "", fmt.Errorf("the server of %s may be held, and was not let go: %w", s.Node, err)
		}
	}
	err = rewrite(ctx, d.Registry, journalKey, func(now *journal) bool {
		had := len(now.Held)
		now.runs(s)
		return len(now.Held) < had
	})
	if err != nil {
		return "", fmt.Errorf("%s is started, which was not noted in the registry: %w", s.Node, err)
	}
	return detail, nil
}

// letGo says by the record why a node that was stopped may be started; since: it was already.
func letGo(ctx context.Context, d Deps, s stopped, nodes []Node, rec lease.Record) (detail string, since bool, err error) {
	id := s.Node
	switch {
	case rec.Holder == id && uint64(rec.Epoch) == s.Epoch:
		return fmt.Sprintf("%s is started again: nobody has taken its place, and the record names it for epoch %d", id, rec.Epoch), false, nil
	case rec.Holder == id && uint64(rec.Epoch) > s.Epoch && rec.Confirmed():
		return fmt.Sprintf("%s was started since, and has opened epoch %d", id, rec.Epoch), true, nil
	case rec.Holder == id:
		return "", false, &HeldError{Node: id, Why: fmt.Sprintf("the record names it for epoch %d, and what was stopped is its epoch %d", rec.Epoch, s.Epoch)}
	case uint64(rec.Epoch) <= s.Epoch:
		return "", false, &HeldError{Node: id, Why: fmt.Sprintf("the record names %s for epoch %d, and it was stopped in %d", rec.Holder, rec.Epoch, s.Epoch)}
	case rec.Adopted() && !rec.Confirmed():
		return fmt.Sprintf("%s is started, to follow %s, which opens epoch %d", id, rec.Holder, rec.Epoch), false, nil
	case rec.Confirmed():
		return fmt.Sprintf("%s is started, and follows %s, the writer of epoch %d", id, rec.Holder, rec.Epoch), false, nil
	}
	other, err := find(nodes, rec.Holder)
	if err == nil {
		short, cancel := context.WithTimeout(ctx, standingTimeout)
		defer cancel()
		_, err = (&client{http: d.HTTP, token: d.AdminToken}).standing(short, other)
		// One that refuses to say has answered, and opens perhaps.
		if silent := new(silentError); err != nil && !errors.As(heardOf(err), &silent) {
			return "", false, fmt.Errorf("%s is not started: %s was given epoch %d, and nobody knows whether it opens: %w", id, rec.Holder, rec.Epoch, err)
		}
	}
	if err == nil {
		return "", false, &HeldError{Node: id, Why: fmt.Sprintf("%s was given epoch %d, has not confirmed it, and answers: it may be about to write", rec.Holder, rec.Epoch)}
	}
	return fmt.Sprintf("%s is started: %s was given epoch %d, and does not answer (%v); nobody else may have everything", id, rec.Holder, rec.Epoch, err), false, nil
}
