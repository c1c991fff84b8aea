package silence

import (
	"context"
	"errors"
	"slices"

	"originchain/shared/failover"
	"originchain/shared/registry"
)

// refusedError is that a person has said no while somebody looked at the change.
type refusedError struct{ entry Entry }

// Error implements error.
func (e *refusedError) Error() string { return e.entry.no() }

// no says who has refused.
func (e *Entry) no() string { return e.ApprovedBy + " has refused to have the writer replaced" }

// knows says whether the person who has answered a call was told of the no. That a call tells
// is noted before it is made: an answer of the function that is lost has called nobody, and what
// is asked anew then carries the word of a person who was called before. So it counts only once
// the execution has called somebody more.
func (e *Entry) knows(ask Ask) bool {
	return slices.ContainsFunc(e.Told, func(t Telling) bool { return t.Execution == ask.Execution && t.Asked < ask.Asked })
}

// tells has an entry keep that the execution of a call tells somebody of the no. The first such
// call stays, as who was told by it knows.
func (e *Entry) tells(ask Ask) {
	if slices.ContainsFunc(e.Told, func(t Telling) bool { return t.Execution == ask.Execution }) {
		return
	}
	e.Told = append(slices.Clone(e.Told), Telling{ask.Execution, ask.Asked})
	e.Told = e.Told[max(0, len(e.Told)-maxKept):]
}

// refusedSince says whether there is a no that was not there before. A no minds no claim, and
// whoever has that is the only one who writes the entry otherwise: a refused entry that was
// written anew has been refused anew.
func (e *Entry) refusedSince(before Entry) bool {
	return e.Rejected && (!before.Rejected || !e.Last.Equal(before.Last))
}

// refusedSince is the no of a change that was not there before; nil for none.
func (r *Register) refusedSince(key string, before Entry) error {
	if now, seen := r.find(key); seen && now.refusedSince(before) {
		return &refusedError{now}
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
		err = known.refusedSince(keyOf(s.c.event), s.c.entry)
	}
	if err != nil {
		return registry.Document{}, err
	}
	return s.Store.Save(ctx, key, expect, body)
}

// overruled ends a look in which a person has said no. What it has begun has fenced nobody, and
// is not gone on with. Who has answered meanwhile is told of the no by the next call, which
// finds it in the register.
func (h *Handler) overruled(ctx context.Context, c change, no Entry) (a Answer, err error) {
	switch {
	case c.ask.answered():
		a = waits(c.ask, UnderWay, no.no())
		return a, free(ctx, h.deps.Failover.Registry, c.ask.Execution)
	case c.quiet:
		a, err = h.nothing(c.ask, NobodyApproved, "%s", no.no()), free(ctx, h.deps.Failover.Registry, c.ask.Execution)
	default:
		a, err = h.ignore(ctx, c, NobodyApproved, "%s", no.no())
	}
	return a, errors.Join(err, h.letGo(ctx, no, &a))
}

// letGo has an answer name what is held of a change that a person has said no to: nobody else
// would let it go.
func (h *Handler) letGo(ctx context.Context, entry Entry, a *Answer) (err error) {
	a.AgainSeconds = 1
	a.Held, err = h.held(ctx, entry, a)
	return err
}

// remind has a person who is called know of the no that stands: each time, since another may
// be on call by then.
func (c *change) remind(a *Answer) {
	if c.entry.Rejected && called(a.Verdict) {
		a.because(NobodyApproved, "%s, which stands until somebody approves who was told of it", c.entry.no())
	}
}

// stands has an entry keep the no of the one before: what a person has refused stays so until
// somebody who was told of it has approved.
func (e *Entry) stands(before Entry, ask Ask) {
	if !before.Rejected || e.Rejected || e.Verdict == Ignored || e.Verdict == Verdict(failover.Promote) {
		return
	}
	e.Rejected, e.ApprovedBy, e.Allow, e.Told = true, before.ApprovedBy, before.Allow, before.Told
	if called(e.Verdict) { // c.remind has told
		e.tells(ask)
	}
}
