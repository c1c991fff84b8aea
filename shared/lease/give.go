package lease

import (
	"context"
	"errors"
	"fmt"
	"time"

	"originchain/shared/lsn"
)

// readBackEvery is how often a record is read of which nobody can tell whether it was
// given away.
const readBackEvery = 50 * time.Millisecond

// NotGivenError says that the record was not given away, and will not be: it is the
// holder's as before.
type NotGivenError struct{ Err error }

// Error implements error.
func (e *NotGivenError) Error() string {
	return "the record was not given to another node: " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *NotGivenError) Unwrap() error { return e.Err }

// Give is Record.HandOver, stored by one compare-and-set, and returns the record then.
// While nobody can tell whether that took effect the record is read back, until life
// ends: the caller decides nothing meanwhile. ctx bounds the write alone.
//
// A NotGivenError says that all is as before, a FencedError that the record is
// another's. After any other error life has ended, and nobody knows.
func (h *Holder) Give(ctx, life context.Context, c Candidate, commit lsn.LSN, alone bool) (Record, error) {
	select {
	case h.changing <- struct{}{}:
		defer func() { <-h.changing }()
	case <-ctx.Done():
		return Record{}, &NotGivenError{ctx.Err()}
	}
	now := h.Record()
	next, err := now.HandOver(h.by, c, commit, alone)
	if err != nil {
		return Record{}, h.notGiven(now, err)
	}
	stored, err := h.store.CompareAndSet(ctx, now.Version, next)
	var conflict *ConflictError
	var unknown *OutcomeUnknownError
	switch {
	case err == nil:
		h.saw(stored)
		return stored, nil
	case errors.As(err, &conflict):
		h.saw(conflict.Found)
		return Record{}, h.notGiven(conflict.Found, err)
	case errors.As(err, &unknown):
		return h.settle(life, now, next, err)
	}
	return Record{}, h.notGiven(now, err)
}

// notGiven is why a record that is still the holder's was not given, or that it is
// another's.
func (h *Holder) notGiven(found Record, err error) error {
	if fenced := found.fence(h.by); fenced != nil {
		return fenced
	}
	return &NotGivenError{err}
}

// settle finds out whether a write took effect. One that has not may yet: a renewal at
// its version, once stored, keeps it from that for good.
func (h *Holder) settle(life context.Context, now, next Record, cause error) (Record, error) {
	for {
		found, _, err := h.store.Load(life)
		if err == nil && found.Version == now.Version {
			found, err = h.forestall(life, now)
		}
		switch {
		case err != nil:
		case found.Holder == next.Holder && found.Epoch == next.Epoch:
			h.saw(found)
			return found, nil
		default:
			h.saw(found)
			return Record{}, h.notGiven(found, cause)
		}
		wait := time.NewTimer(readBackEvery)
		select {
		case <-wait.C:
		case <-life.Done():
			wait.Stop()
			return Record{}, fmt.Errorf("nobody knows whether the record was given to %s: %w", next.Holder, errors.Join(cause, err, life.Err()))
		}
	}
}

// forestall renews the record as it was, and returns what stands there then.
func (h *Holder) forestall(life context.Context, now Record) (Record, error) {
	renewed, err := now.Renew(h.by, now.CommitLSN)
	if err != nil {
		return Record{}, err
	}
	stored, err := h.store.CompareAndSet(life, now.Version, renewed)
	if conflict := (*ConflictError)(nil); errors.As(err, &conflict) {
		return conflict.Found, nil
	}
	return stored, err
}
