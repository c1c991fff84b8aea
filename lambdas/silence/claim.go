package silence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"originchain/lambdas/alarmevent"
	"originchain/lambdas/documents"
	"originchain/shared/failover"
	"originchain/shared/registry"
)

const (
	// claimLasts is how long a claim is one: longer than a call of the function can take, and
	// so that of a call that has died is not waited for much longer.
	claimLasts = 3 * time.Minute
	// freeTimeout bounds the giving up of a claim, which is over by itself after claimLasts.
	freeTimeout = 2 * time.Second
)

// Claim is that an execution looks at a change now, and may begin a failover or call a person:
// nobody else does until its answer is noted.
type Claim struct {
	Key       string    `json:"key"`
	Execution string    `json:"execution"`
	At        time.Time `json:"at"`
}

// claim has an execution look at a change; false, and who has it, if another one does.
func (r *Register) claim(c Claim) (by Claim, ok bool) {
	r.Looking = slices.DeleteFunc(r.Looking, func(had Claim) bool {
		return c.At.Sub(had.At) >= claimLasts || had.Execution == c.Execution && sameKey(had.Key, c.Key)
	})
	if i := slices.IndexFunc(r.Looking, func(had Claim) bool { return sameKey(had.Key, c.Key) }); i >= 0 {
		return r.Looking[i], false
	}
	r.Looking = append(r.Looking, c)
	r.Looking = slices.Clone(r.Looking[max(0, len(r.Looking)-maxKept):])
	return c, true
}

// free gives up what an execution has claimed, and says whether that was anything.
func (r *Register) free(execution string) bool {
	before := len(r.Looking)
	r.Looking = slices.DeleteFunc(r.Looking, func(c Claim) bool { return c.Execution == execution })
	return len(r.Looking) < before
}

// free gives up what an execution has claimed and leaves no answer of.
func free(ctx context.Context, reg registry.Store, execution string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), freeTimeout)
	defer cancel()
	_, err := documents.Change(ctx, reg, registerKey, func(r *Register) bool { return r.free(execution) })
	return err
}

// change is a change of the alarm that is looked at.
type change struct {
	ask   Ask
	event alarmevent.Event
	known Register
	entry Entry
	// quiet: of a watch that has begun nothing yet; what is nothing to do leaves no trace then.
	// only: of one while somebody else has the change: it does no more than promote.
	quiet, only bool
	// no is the one that stands; nil for none.
	no *No
}

// look claims a change and confirms it, unless stands says why that is not to be.
func (h *Handler) look(ctx context.Context, c change, stands func(c *change, seen bool) (failover.Code, string)) (Answer, error) {
	code, why, err := h.claim(ctx, &c, stands)
	switch {
	case err != nil:
		return Answer{}, err
	case c.ask.refuses():
		return h.leaveAlone(ctx, c, (&No{By: c.ask.said.By}).text())
	case code == "":
		a, err := h.confirm(ctx, c)
		if no := new(refusedError); errors.As(err, &no) {
			return h.overruled(ctx, c, no.no)
		}
		if err != nil || c.quiet { // else its note has given the claim up
			err = errors.Join(err, free(ctx, h.deps.Failover.Registry, c.ask.Execution))
		}
		return a, err
	case code == UnderWay && !c.quiet:
		return waits(c.ask, code, why), nil
	case code == NobodyApproved:
		return h.leaveAlone(ctx, c, why)
	case c.quiet:
		return h.nothing(c.ask, code, "%s", why), nil
	}
	return h.ignore(ctx, c, code, "%s", why)
}

// waits answers that the same is to be asked again soon.
func waits(ask Ask, code failover.Code, why string) Answer {
	a := Answer{Round: ask.Round + 1, Reasons: []failover.Reason{}}
	a.AgainSeconds = seconds(pause(a.Round))
	a.wait(code, why, pause(a.Round))
	return a
}

// claim claims a change in the register, by a compare-and-set: of two calls at once the second
// sees what the first has written. stands is asked of the register that is replaced.
func (h *Handler) claim(ctx context.Context, c *change, stands func(c *change, seen bool) (failover.Code, string)) (code failover.Code, why string, err error) {
	key := keyOf(c.event)
	c.known, err = documents.Change(ctx, h.deps.Failover.Registry, registerKey, func(r *Register) bool {
		var seen bool
		c.entry, seen = r.find(key)
		if _, at, ok := c.entry.at(); ok {
			c.event.At = at // of the change as it is known
		}
		c.no = r.stands(c.event.At, c.ask)
		if code, why = stands(c, seen); code != "" || c.ask.refuses() {
			return false
		}
		by, ok := r.claim(Claim{Key: key, Execution: c.ask.Execution, At: h.deps.Now().UTC()})
		if !ok {
			code, why = UnderWay, fmt.Sprintf("execution %s looks at it since %s", by.Execution, by.At.Format(time.RFC3339))
		}
		r.Format = registerFormat
		return ok
	})
	return code, why, err
}

// closed says that a verdict is the last of its execution.
func closed(v Verdict) bool { return v == Verdict(failover.Done) || v == Ignored }

// called says that a person was called by a verdict.
func called(v Verdict) bool {
	return v == Verdict(failover.Page) || v == Verdict(failover.ShedLoad)
}

// eventStands says why an event is not to be looked at.
func (h *Handler) eventStands(c *change, seen bool) (failover.Code, string) {
	entry, now := &c.entry, h.deps.Now()
	mine := seen && entry.Execution == c.ask.Execution && now.Sub(entry.First) < ExecutionLasts
	switch age := now.Sub(c.event.At); {
	case c.ask.Told != nil:
		return h.answerStands(c, seen)
	case c.no != nil:
		return NobodyApproved, c.no.text()
	case seen && entry.Execution != c.ask.Execution && (closed(entry.Verdict) || now.Sub(entry.Last) < abandonedAfter):
		return Repeated, entry.has()
	case !mine && age > MaxEventAge:
		return TooOld, fmt.Sprintf("it is %s old, more than %s: whoever is silent by now has an alarm of its own", age.Round(time.Second), MaxEventAge)
	case !seen && age < -EventSlack:
		return FromTheFuture, fmt.Sprintf("it is %s ahead of this clock", (-age).Round(time.Second))
	}
	return "", ""
}

// watchStands says why a watch has nothing to do with a change.
func (h *Handler) watchStands(c *change, seen bool) (failover.Code, string) {
	entry := &c.entry
	live := h.deps.Now().Sub(entry.Last)
	c.only = false
	switch other := seen && entry.Execution != c.ask.Execution; {
	case c.ask.Told != nil:
		return h.answerStands(c, seen)
	case c.no != nil:
		return NobodyApproved, c.no.text()
	case !other:
		return "", ""
	case live < abandonedAfter:
		return Repeated, entry.has()
	}
	c.only = called(entry.Verdict) && live < ApprovalLasts || live < abandonedAfter<<min(max(0, entry.Executions-1), maxRedrives)
	return "", ""
}

// answerStands says why what a person was called for is not looked at yet: another execution is
// about to replace the writer, and two do not at once. It is waited for, and if it comes to no
// end, this one goes on.
func (h *Handler) answerStands(c *change, seen bool) (failover.Code, string) {
	entry := &c.entry
	other := seen && entry.Execution != c.ask.Execution
	if other && !closed(entry.Verdict) && !called(entry.Verdict) && h.deps.Now().Sub(entry.Last) < abandonedAfter {
		return UnderWay, entry.has()
	}
	return "", ""
}

// has says who has a change.
func (e *Entry) has() string {
	return fmt.Sprintf("execution %s has it, and its verdict at %s was %s", e.Execution, e.Last.UTC().Format(time.RFC3339), e.Verdict)
}
