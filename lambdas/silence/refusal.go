package silence

import (
	"context"
	"errors"
	"time"

	"originchain/shared/registry"
)

// No is that a person has refused to have the writer replaced.
type No struct {
	By string    `json:"by"`
	At time.Time `json:"at"`
}

func (n *No) text() string { return n.By + " has refused to have the writer replaced" }

// refusedError is that a person has said no while somebody looked at the change.
type refusedError struct{ no No }

// Error implements error.
func (e *refusedError) Error() string { return e.no.text() }

// refuse notes that a person says no. A call that is made anew says the same no.
func (r *Register) refuse(e Entry) {
	if had, seen := r.find(e.Key); seen && had.Rejected && had.Execution == e.Execution {
		return
	}
	r.Noes++
	r.No = &No{By: e.ApprovedBy, At: e.Last}
}

// stands is the no that stands in the way of what is asked; nil for none. One stands for every
// change of the alarm that had come when it was said, so that the alarm is left alone until it
// has been over once; and against the word of whoever was called before it was said, whatever
// that person was called for.
func (r *Register) stands(at time.Time, ask Ask) *No {
	if r.No == nil || r.No.At.Before(at) && !ask.untold(r.Noes) {
		return nil
	}
	return r.No
}

// untold says that a person was called before the last of so many noes was said.
func (a *Ask) untold(noes int) bool { return a.Told != nil && *a.Told < noes }

// refused says that a no stands of which the person was not told who has answered.
func (c *change) refused() bool { return c.no != nil && c.ask.untold(c.known.Noes) }

// refusedSince is the no that was said since a change was claimed; nil for none.
func (r *Register) refusedSince(c change) error {
	if no := r.stands(c.event.At, c.ask); no != nil && r.Noes > c.known.Noes {
		return &refusedError{*no}
	}
	return nil
}

// heedful is the registry of a failover that is about to begin: nothing is noted there once a
// person has said no. A look at the register before failover.Begin would be too early, as that
// watches the writer for many seconds before it notes that it begins.
type heedful struct {
	registry.Store
	c *change
}

// Save implements registry.Store.
func (s heedful) Save(ctx context.Context, key string, expect uint64, body []byte) (registry.Document, error) {
	known, err := Events(ctx, s.Store)
	if err == nil {
		err = known.refusedSince(*s.c)
	}
	if err != nil {
		return registry.Document{}, err
	}
	return s.Store.Save(ctx, key, expect, body)
}

// overruled ends a look in which a person has said no. What it has begun has fenced nobody, and
// is not gone on with. Who has answered meanwhile is told of the no by the next call, which
// finds it in the register.
func (h *Handler) overruled(ctx context.Context, c change, no No) (Answer, error) {
	err := free(ctx, h.deps.Failover.Registry, c.ask.Execution)
	if c.ask.Told != nil {
		return waits(c.ask, UnderWay, no.text()), err
	}
	a, left := h.leaveAlone(ctx, c, no.text())
	return a, errors.Join(err, left)
}

// leaveAlone answers that a person has said no, and names what is held of the change: nobody
// else would let it go.
func (h *Handler) leaveAlone(ctx context.Context, c change, why string) (a Answer, err error) {
	if c.quiet {
		a = h.nothing(c.ask, NobodyApproved, "%s", why)
	} else if a, err = h.ignore(ctx, c, NobodyApproved, "%s", why); err != nil {
		return Answer{}, err
	}
	a.AgainSeconds = 1
	a.Held, err = h.held(ctx, c.entry, &a)
	return a, err
}

// remind has a person who is called know of the no that stands: each time, since another may
// be on call by then.
func (c *change) remind(a *Answer) {
	if c.no != nil && called(a.Verdict) {
		a.because(NobodyApproved, "%s, which stands until somebody approves who was told of it", c.no.text())
	}
}
