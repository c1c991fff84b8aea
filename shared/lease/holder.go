package lease

import (
	"context"
	"errors"
	"sync"

	"originchain/shared/lsn"
)

// Holder changes the record on behalf of the node that holds it. It is the one
// owner of the record in its process: changes happen one after the other.
type Holder struct {
	store Store
	by    Claim
	// changing has room for the one change under way, however long the store takes.
	changing chan struct{}

	mu  sync.Mutex // never held while the store is asked
	rec Record     // written by who is in changing
}

// NewHolder makes the Holder of a record that was just taken.
func NewHolder(store Store, rec Record) *Holder {
	return &Holder{store: store, by: Claim{Node: rec.Holder, Epoch: rec.Epoch}, changing: make(chan struct{}, 1), rec: rec}
}

// Record is the record as last seen.
func (h *Holder) Record() Record {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.rec.clone()
}

// Confirm is Record.Confirm, stored. As with all changes of a Holder, a
// FencedError says that the record is another's; after any other error the change
// may have happened or not, and can be asked for again.
func (h *Holder) Confirm(ctx context.Context, last lsn.Pos, inSync []string, replicas int) error {
	return h.change(ctx, func(r Record) (Record, error) { return r.Confirm(h.by, last, inSync, replicas) })
}

// Enter is Record.Enter, stored.
func (h *Holder) Enter(ctx context.Context, follower string) error {
	return h.change(ctx, func(r Record) (Record, error) { return r.Enter(h.by, follower) })
}

// Leave is Record.Leave, stored.
func (h *Holder) Leave(ctx context.Context, follower string) error {
	return h.change(ctx, func(r Record) (Record, error) { return r.Leave(h.by, follower) })
}

// Renew is Record.Renew, stored.
func (h *Holder) Renew(ctx context.Context, commit lsn.LSN) error {
	return h.change(ctx, func(r Record) (Record, error) { return r.Renew(h.by, max(commit, r.CommitLSN)) })
}

// Release is Record.Release, stored.
func (h *Holder) Release(ctx context.Context, commit lsn.LSN) error {
	return h.change(ctx, func(r Record) (Record, error) { return r.Release(h.by, commit) })
}

// change applies a rule to the record as it is. When somebody else has changed it,
// such as a supervisor, the rule is asked again about what was found; when nobody
// can tell whether a write happened, the record is read first. A write that takes
// effect late finds another version, or is the one that was wanted.
func (h *Holder) change(ctx context.Context, rule func(Record) (Record, error)) error {
	select {
	case h.changing <- struct{}{}:
		defer func() { <-h.changing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for {
		now := h.Record()
		next, err := rule(now)
		if err != nil {
			return err
		}
		stored, err := h.store.CompareAndSet(ctx, now.Version, next)
		var conflict *ConflictError
		var unknown *OutcomeUnknownError
		switch {
		case err == nil:
			h.saw(stored)
			return nil
		case errors.As(err, &conflict):
			h.saw(conflict.Found)
		case errors.As(err, &unknown):
			if err := h.reload(ctx); err != nil {
				return errors.Join(unknown, err)
			}
		default:
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// reload reads the record; one that is gone is nobody's.
func (h *Holder) reload(ctx context.Context) error {
	rec, _, err := h.store.Load(ctx)
	if err == nil {
		h.saw(rec)
	}
	return err
}

func (h *Holder) saw(rec Record) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rec = rec
}
