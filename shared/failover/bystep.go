package failover

import (
	"context"
	"fmt"
	"slices"
	"time"

	"originchain/shared/lease"
	"originchain/shared/lsn"
)

// Next is a step to be carried out of a failover that Begin began.
type Next struct {
	// Run is the failover's name, as Begin reported it. Step is one of StepNames but the
	// first.
	Run, Step string
	// Left is "dns" where that step's process has ended without a word, and the last one is to
	// go on without it; "" else.
	Left string
	// Zone is as in Request.
	Zone string
}

// Begin carries out the first step of a failover: it confirms what is to be done, and
// notes that it begins. Each of the others is a call of Continue then, in a process of
// its own: a function of a state machine. Execute is all of them in one process, and
// finishes what was left by these. Called again, it goes on with the failover that is
// under way for the same node. A report with the verdict Done and no run says that there
// is nothing to do. Errors are Execute's.
func Begin(ctx context.Context, d Deps, req Request, say Progress) (Report, error) {
	r := newRun(d, req, say)
	if err := r.open(ctx); err != nil {
		return r.end(err)
	}
	defer r.close()
	return r.end(r.step(ctx, 1, r.steps()[0]))
}

// Continue carries out one step of the failover that is under way. It can be repeated,
// and called twice at once, as Execute can. A step that is left is no error, except of
// the last, which says with a LeftError what is still to be done. StepError says that
// this is not the failover, or not the time, for the step; other errors are Execute's.
//
// Invariants:
//
//   - A step acts only once those before it have ended: a call that comes late, in another
//     order, or for another failover changes nothing.
//   - What a process has seen on its own clock counts for another one only by the record:
//     a holder whose lease had run out writes no more for as long as the record is the one
//     that it had then, since renewing makes another.
//   - Nobody is fenced for what was true when the failover was begun: unless the record shows
//     that the lease has run out, was released or is to be handed over, fence confirms anew,
//     and refuses (RefusedError) a writer that is well by now.
func Continue(ctx context.Context, d Deps, next Next, say Progress) (Report, error) {
	n := slices.Index(stepNames(), next.Step) + 1
	r := newRun(d, Request{Zone: next.Zone}, say)
	if n < 2 {
		return r.end(&StepError{Next: next, Why: "there is no such step"})
	}
	ended, err := r.resume(ctx, next, n)
	if err != nil || ended {
		return r.end(err)
	}
	defer r.close()
	return r.end(r.step(ctx, n, r.steps()[n-1]))
}

// StepError says why a step was not carried out: nothing was changed.
type StepError struct {
	Next Next
	Why  string
}

// Error implements error.
func (e *StepError) Error() string {
	return fmt.Sprintf("step %q of failover %s was not carried out, and nothing was changed: %s", e.Next.Step, e.Next.Run, e.Why)
}

// resume takes up the failover that is under way where step n is to go on; ended says
// that it has come to its end.
func (r *run) resume(ctx context.Context, next Next, n int) (ended bool, err error) {
	j, err := loadJournal(ctx, r.deps.Registry)
	if err != nil {
		return false, err
	}
	r.take(j, n)
	switch {
	case next.Run == "" || j.Run != next.Run:
		return false, &StepError{Next: next, Why: fmt.Sprintf("the failover begun last is %q", j.Run)}
	case j.State == failed:
		return false, &StepError{Next: next, Why: "it has failed: " + j.Error}
	case j.State == done:
		r.epoch, r.report.Epoch = j.Epoch, j.Epoch
		return true, nil
	}
	if err := r.leaveBehind(ctx, next); err != nil {
		return false, err
	}
	j = r.journal
	for before := 1; before < n; before++ {
		if !slices.ContainsFunc(j.Steps, func(s Step) bool { return s.N == before && (s.Outcome == OK || s.Outcome == Left) }) {
			return false, &StepError{Next: next, Why: fmt.Sprintf("%q has not ended", stepNames()[before-1])}
		}
	}
	if err := r.open(ctx); err != nil {
		return false, err
	}
	r.from, r.report.From = r.named(lease.Record{Holder: j.From}), j.From
	err = r.standing(ctx)
	if err == nil && !r.given && n > slices.Index(stepNames(), stepRaise)+1 {
		err = &StepError{Next: next, Why: fmt.Sprintf("the record names %s for epoch %d, and not %s", r.seen.Record.Holder, r.seen.Record.Epoch, r.to.ID)}
	}
	if err == nil && next.Step == stepFence && !r.given && !r.planned() && !r.seen.Record.Released && !r.ranOut(r.seen.Record, 0) {
		err = r.decide(ctx)
	}
	if err != nil {
		r.close()
		return false, err
	}
	if next.Step == stepUnit {
		r.ownUnit = r.readUnit(r.to)
		if !r.journal.Gone {
			r.oldUnit = r.readUnit(r.from)
		}
	}
	return false, nil
}

// leaveBehind notes of the step that is given up that it was left, unless it has ended.
func (r *run) leaveBehind(ctx context.Context, next Next) error {
	n := slices.Index(stepNames(), stepDNS) + 1
	ended := slices.ContainsFunc(r.journal.Steps, func(s Step) bool { return s.N == n && s.Outcome != Failed })
	switch {
	case next.Left == "":
		return nil
	case next.Left != stepDNS || next.Step != stepRecord:
		return &StepError{Next: next, Why: fmt.Sprintf("%q cannot be left", next.Left)}
	case ended || !slices.ContainsFunc(r.journal.Steps, func(s Step) bool { return s.N == n-1 && s.Outcome == OK }):
		return nil
	}
	out := Step{N: n, Name: stepDNS, Outcome: Left, Detail: "whoever was to do it has ended without a word"}
	r.report.Steps = append(slices.DeleteFunc(r.report.Steps, func(s Step) bool { return s.N == n }), out)
	return r.note(ctx, func(j *journal) { j.ended(out) })
}

// take takes over what the processes before have noted.
func (r *run) take(j journal, n int) {
	r.journal = j
	r.req.To, r.req.Allow = j.To, j.Allow
	r.fenced, r.inProcess, r.seen.Writer.Durable = j.Fenced, j.InProcess, lsn.LSN(j.Heard)
	r.decision = Decision{Verdict: Promote, Reasons: j.Reasons, AcceptLoss: j.AcceptLoss, From: j.LostFrom, To: j.LostTo}
	rep := &r.report
	rep.From, rep.To, rep.StartedAt, rep.Planned, rep.Verdict, rep.Reasons = j.From, j.To, j.StartedAt, j.Planned, Promote, append(rep.Reasons, j.Reasons...)
	for _, s := range j.Steps {
		if s.N < n {
			rep.Steps = append(rep.Steps, s)
			r.before += time.Duration(s.Seconds * float64(time.Second))
		}
	}
	slices.SortFunc(rep.Steps, func(a, b Step) int { return a.N - b.N })
}

// standing is how far the record has come: as the run began, or given to its target.
func (r *run) standing(ctx context.Context) error {
	rec, _, err := r.readRecord(ctx)
	if err != nil {
		return fmt.Errorf("read the record of who writes: %w; nothing was done, run again", err)
	}
	r.seen.Record = lease.Record{Holder: r.journal.holder(), Epoch: lsn.Epoch(r.journal.FromEpoch)}
	r.holder = r.named(r.seen.Record)
	given, err := r.movedTo(rec)
	if err == nil && !given {
		r.seen.Record, r.holder = rec, r.named(rec)
	}
	return err
}
