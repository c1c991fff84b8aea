package failover

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/shared/lease"
	"originchain/shared/registry"
)

// DefaultPatience is how long a run waits for a verdict other than Wait: a lease that
// runs out, and a little more.
const DefaultPatience = 2 * lease.Expiry

// Deps are the outside of a run.
type Deps struct {
	Lease    lease.Store
	Registry registry.Store
	Control  Control
	// DNS may be nil: the instance has no zone.
	DNS  DNS
	HTTP *http.Client
	// AdminToken is the nodes'.
	AdminToken string
	// Flags says of the server's flags whether they take a value, and false for one that
	// it does not know.
	Flags func(name string) (takesValue, known bool)
	// Migration is as in ObserverDeps.
	Migration func(context.Context) string
	// Observer is one that has watched the instance; nil: the run watches by itself, and
	// has to see the lease run out.
	Observer *Observer
}

// Request is what is wanted.
type Request struct {
	// From is the node that writes, To the one that is to, each by its id or that of its
	// machine. From may be empty: whoever the record names.
	From, To string
	// Planned: the writer may be well, and hands over then.
	Planned bool
	// DryRun decides and says what would be done.
	DryRun bool
	Allow  Overrides
	// Zone is the name that DNS answers with the writer's address; "" is none.
	Zone string
	// Patience bounds the wait for a verdict; 0 is DefaultPatience.
	Patience time.Duration
}

// Execute makes a node the writer, in eight steps. Each looks first whether it is done,
// so that a run that was killed anywhere is finished by the next one, and two at once
// end with one writer. The error is nil if the node is the writer and nothing is left to
// do: RefusedError, OtherRunError and MovedError say that it was not made one, LeftError
// that it was and what is left.
//
// Invariants:
//
//   - Nobody is fenced before the target was found fit.
//   - The record is taken in the version that fence has seen released, or unchanged for
//     lease.Expiry: a holder that renews in between is found out by the compare-and-set.
//   - No step acts before the registry has noted that it begins.
func Execute(ctx context.Context, d Deps, req Request, say Progress) (Report, error) {
	r := newRun(d, req, say)
	if err := r.open(ctx); err != nil {
		return r.end(err)
	}
	defer r.close()
	r.ownUnit, r.ahead = r.readUnit(r.to), true
	for i, s := range r.steps() {
		if err := r.step(ctx, i+1, s); err != nil {
			return r.end(err)
		}
	}
	return r.end(nil)
}

func newRun(d Deps, req Request, say Progress) *run {
	r := &run{deps: d, req: req, say: say, began: time.Now(), client: &client{http: d.HTTP, token: d.AdminToken}}
	r.report = Report{To: req.To, From: req.From, StartedAt: time.Now().UTC(), DryRun: req.DryRun, Reasons: []Reason{}, Steps: []Step{}, Notes: []string{}, Verdict: Wait}
	return r
}

// run is one process's work on a failover.
type run struct {
	deps   Deps
	req    Request
	say    Progress
	client *client
	began  time.Time
	// before is what the steps took that other processes have carried out.
	before time.Duration

	observer *Observer
	owned    bool            // the observer is this run's
	readCtx  context.Context // of what is read ahead
	stopRead context.CancelFunc
	reading  sync.WaitGroup
	ahead    bool // units are read before they are needed
	ownUnit  <-chan unitRead
	oldUnit  <-chan unitRead

	nodes    []Node
	from, to Node
	// holder is who the record names, and whom fence is about: from, or the target itself.
	holder   Node
	sight    Sight
	seen     Observation
	decision Decision
	// given: the record names the target already. finished: it writes already.
	given, finished bool
	// inProcess: the target was told to open in its process, and was not restarted for it.
	inProcess bool
	// gone: the old writer's machine did not answer in the time that there was for it.
	gone bool
	// fenced is the record at which the old writer's lease has run out, or was released: the
	// one that may be taken.
	fenced  recordMark
	epoch   uint64
	pause   time.Time // when the old writer was made to stop
	journal journal
	current int
	report  Report
}

type step struct {
	name string
	do   func(context.Context) (detail string, err error)
	// would is what a dry run says; nil: do changes nothing then.
	would func() string
}

func (r *run) steps() []step {
	name := stepNames()
	return []step{
		{name[0], r.confirm, nil},
		{name[1], r.fence, r.wouldFence},
		{name[2], r.unit, nil},
		{name[3], r.raise, r.wouldRaise},
		{name[4], r.promote, func() string { return "POST /v1/admin/promote at " + r.to.URL }},
		{name[5], r.smoke, func() string { return "/health and /ready at " + r.to.OpsURL }},
		{name[6], r.dns, r.wouldDNS},
		{name[7], r.record, func() string { return "the report would be " + reportKey + " in the registry" }},
	}
}

// open finds out who is meant.
func (r *run) open(ctx context.Context) (err error) {
	if r.nodes, err = Nodes(ctx, r.deps.Registry); err != nil {
		return err
	}
	if r.to, err = find(r.nodes, r.req.To); err != nil {
		return err
	}
	if r.req.From != "" {
		if r.from, err = find(r.nodes, r.req.From); err != nil {
			return err
		}
		if r.from.ID == r.to.ID {
			return fmt.Errorf("%s cannot take its own place; name the node that is to become the writer", r.to.ID)
		}
	}
	r.report.To, r.report.From = r.to.ID, r.from.ID
	r.observer = r.deps.Observer
	if r.owned = r.observer == nil; r.owned {
		r.observer = NewObserver(ObserverDeps{Lease: r.deps.Lease, Control: r.deps.Control, HTTP: r.deps.HTTP, AdminToken: r.deps.AdminToken, Migration: r.deps.Migration})
	}
	r.sight = Sight{Nodes: r.nodes, Target: r.to, Planned: r.req.Planned}
	r.readCtx, r.stopRead = context.WithCancel(ctx)
	return nil
}

func (r *run) close() {
	r.stopRead()
	r.reading.Wait()
	if r.owned {
		r.observer.Close()
	}
}

// leftover is why a step is left undone.
type leftover struct{ error }

func (l leftover) Unwrap() error { return l.error }

func leave(format string, args ...any) error { return leftover{fmt.Errorf(format, args...)} }

// tell notes what a person should know.
func (r *run) tell(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	r.report.Notes = append(r.report.Notes, text)
	r.emit(Event{N: r.current, Name: stepNames()[max(0, r.current-1)], Note: text})
}

func (r *run) emit(e Event) {
	e.Of = len(stepNames())
	if r.say != nil {
		r.say(e)
	}
}

// step runs one step: noted before and after, told and timed.
func (r *run) step(ctx context.Context, n int, s step) error {
	r.current = n
	began := time.Now()
	r.emit(Event{N: n, Name: s.name})
	out := Step{N: n, Name: s.name, Outcome: OK}
	var err error
	if dry := r.req.DryRun && s.name != stepConfirm; dry && s.would != nil {
		out.Outcome, out.Detail = Would, s.would()
	} else if out.Detail, err = s.do(ctx); dry {
		out.Outcome = Would
	}
	out.Seconds = time.Since(began).Seconds()
	var left leftover
	switch {
	case errors.As(err, &left):
		out.Outcome, out.Detail, err = Left, left.Error(), nil
	case err != nil:
		out.Outcome, out.Detail = Failed, err.Error()
	}
	r.report.Steps = append(r.report.Steps, out)
	if noted := r.ended(ctx, out); err == nil {
		err = noted
	}
	r.emit(Event{N: n, Name: s.name, Outcome: out.Outcome, Detail: out.Detail, Seconds: out.Seconds})
	return err
}

// ended notes what became of a step, and that the next one begins.
func (r *run) ended(ctx context.Context, s Step) error {
	if r.req.DryRun || s.Name == stepRecord && s.Outcome == OK {
		return nil // that step has noted the end of all
	}
	if s.Outcome == Failed && ctx.Err() != nil {
		return nil // killed: whoever goes on will see
	}
	return r.note(ctx, func(j *journal) {
		j.ended(s)
		j.Heard = max(j.Heard, uint64(r.seen.Writer.Durable))
		if r.fenced.Version > 0 {
			j.Fenced = r.fenced
		}
		if s.Name == stepFence {
			j.Gone = r.gone
		}
		if s.Name == stepPromote || s.Name == stepSmoke {
			j.InProcess = r.inProcess
		}
		if s.Outcome != Failed && s.N < len(stepNames()) {
			j.Step = stepNames()[s.N]
		}
	})
}

// end makes the report.
func (r *run) end(err error) (Report, error) {
	rep := &r.report
	rep.Seconds = r.took().Seconds()
	rep.Run, rep.LostFrom, rep.LostTo = r.journal.Run, r.journal.LostFrom, r.journal.LostTo
	if err == nil && !r.req.DryRun && r.current == len(stepNames()) {
		if left := r.left(); len(left) > 0 {
			err = &LeftError{To: r.to.ID, Epoch: r.epoch, Steps: left}
		}
	}
	if err != nil {
		rep.Error = err.Error()
	}
	return *rep, err
}

// took is how long the run has taken so far, in all processes that have carried it out.
func (r *run) took() time.Duration { return r.before + time.Since(r.began) }

// left are the steps that were left undone.
func (r *run) left() (out []Step) {
	for _, s := range r.report.Steps {
		if s.Outcome == Left {
			out = append(out, s)
		}
	}
	return out
}

// confirm waits for a verdict, and begins the run in the journal if it is to promote.
func (r *run) confirm(ctx context.Context) (string, error) {
	if err := r.decide(ctx); err != nil {
		return "", err
	}
	r.report.Verdict, r.report.Reasons, r.report.Planned = r.decision.Verdict, append(r.report.Reasons, r.decision.Reasons...), r.planned()
	r.report.Epoch = r.epoch
	if err := r.begin(ctx); err != nil {
		return "", err
	}
	var because []string
	for _, reason := range r.decision.Reasons {
		because = append(because, reason.Detail)
	}
	return strings.Join(because, "; "), nil
}

// planned: the writer is well and hands over.
func (r *run) planned() bool { return !r.given && !r.finished && r.decision.has(PlannedSwitch) }

func (d *Decision) has(c Code) bool {
	for _, r := range d.Reasons {
		if r.Code == c {
			return true
		}
	}
	return false
}

// decide looks until it knows what to do.
func (r *run) decide(ctx context.Context) error {
	patience := r.req.Patience
	if patience == 0 {
		patience = DefaultPatience
	}
	told := Code("")
	for {
		r.seen = r.observer.Look(ctx, r.sight)
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := r.meant(ctx); err != nil {
			return err
		}
		r.decision = Decide(r.seen, r.req.Allow)
		if r.decision.Verdict == Done {
			r.finished, r.epoch = true, uint64(r.seen.Target.Last.Epoch)
			return nil
		}
		if r.alreadyGiven() {
			r.given, r.epoch = true, uint64(r.seen.Record.Epoch)
			r.decision = Decision{Verdict: Promote, Reasons: []Reason{{Code: EpochGiven, Detail: fmt.Sprintf("the record gives epoch %d to %s, which has not opened it yet", r.epoch, r.to.ID)}}}
			return nil
		}
		switch last := r.decision.Reasons[len(r.decision.Reasons)-1]; {
		case r.decision.Verdict == Promote:
			if r.seen.RecordUnchanged >= lease.Expiry {
				r.fenced = markOf(r.seen.Record)
			}
			return nil
		case r.decision.Verdict != Wait, time.Since(r.began) >= patience:
			r.report.Verdict, r.report.Reasons = r.decision.Verdict, append(r.report.Reasons, r.decision.Reasons...)
			return &RefusedError{r.decision}
		case last.Code != told:
			r.tell("waiting: %s", last.Detail)
			told = last.Code
		}
		pause := time.NewTimer(r.decision.After)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return ctx.Err()
		}
	}
}

// meant checks that the record names who is said to write, and what is under way.
func (r *run) meant(ctx context.Context) (err error) {
	if r.seen.Record.Epoch == 0 {
		return nil // Decide has something to say of that
	}
	if r.journal, err = loadJournal(ctx, r.deps.Registry); err != nil {
		return err
	}
	holder := r.seen.Record.Holder
	r.holder = r.named(r.seen.Record)
	if holder != r.to.ID {
		if r.from.ID != "" && holder != r.from.ID {
			return fmt.Errorf("the record names %s as the writer, of epoch %d, and not %s; run again with --writer-instance %s if that is meant", holder, r.seen.Record.Epoch, r.from.ID, holder)
		}
		r.from = r.holder
	} else if r.from.ID == "" && r.journal.From != "" { // else nothing was ever journalled
		r.from = r.named(lease.Record{Holder: r.journal.From})
	}
	r.report.From = r.from.ID
	if r.ahead && r.oldUnit == nil && r.from.ID != "" {
		r.oldUnit = r.readUnit(r.from)
	}
	return r.otherRun(ctx)
}

// named is the node that a record names. One that is not registered is asked where the
// record says, and its machine is not known.
func (r *run) named(rec lease.Record) Node {
	n, err := find(r.nodes, rec.Holder)
	if err != nil {
		n = Node{ID: rec.Holder, URL: rec.URL, OpsURL: rec.URL}
	}
	return n
}

// alreadyGiven: the epoch was taken for the target, by this run or another, and what is
// left is to open it.
func (r *run) alreadyGiven() bool {
	rec, j := &r.seen.Record, &r.journal
	if rec.Given(r.to.ID) {
		return true
	}
	return rec.Holder == r.to.ID && !rec.Released && j.State == running && j.To == r.to.ID && uint64(rec.Epoch) > j.FromEpoch
}

// begin notes that this run is under way, or goes on with the one that is.
func (r *run) begin(ctx context.Context) error {
	j := &r.journal
	mine := j.State == running && j.To == r.to.ID
	now := uint64(r.seen.Record.Epoch)
	mine = mine && (r.given || r.finished || j.FromEpoch == now)
	if r.finished && !mine {
		r.journal = journal{}
		return nil
	}
	if r.req.DryRun {
		return nil
	}
	before, fresh := *j, ulid.MustNew(ulid.Now(), rand.Reader).String()
	var other *OtherRunError
	err := rewrite(ctx, r.deps.Registry, journalKey, func(on *journal) bool {
		switch {
		case mine && on.Run == before.Run, !mine && on.State == running && on.Run != before.Run && on.To == r.to.ID && on.FromEpoch == now:
			on.Runners++
		case on.Run != before.Run && on.State == running:
			other = &OtherRunError{Run: on.Run, To: on.To, Step: on.Step}
			return false
		default:
			*on = journal{Run: fresh, Held: on.Held, Stops: on.Stops, State: running, From: r.from.ID, To: r.to.ID, Holder: r.holder.ID, FromEpoch: now, StartedAt: r.report.StartedAt, Steps: []Step{}, Runners: 1}
			if r.given {
				on.FromEpoch, on.Epoch, on.Holder = now-1, now, r.from.ID
			}
		}
		if !r.given && !r.finished {
			on.Planned = r.planned() // or not any more, as the writer has died
			on.Reasons, on.Allow = r.decision.Reasons, r.req.Allow
		}
		on.Step = stepFence
		r.journal = *on
		return true
	})
	if err != nil {
		return fmt.Errorf("note in the registry that the failover begins; nothing was done: %w", err)
	}
	if other != nil {
		return other
	}
	if r.journal.Runners > 1 {
		r.tell("going on with failover %s, begun at %s by another process, which may still run: both do the same", r.journal.Run, r.journal.StartedAt.Format(time.RFC3339))
		r.report.Planned = r.report.Planned || r.journal.Planned
	}
	return nil
}
