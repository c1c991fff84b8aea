package silence

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/lambdas/alarmevent"
	"originchain/lambdas/candidate"
	"originchain/shared/alarms"
	"originchain/shared/failover"
	"originchain/shared/lease"
)

const (
	// MaxEventAge is how old an event may be when it is looked at first.
	MaxEventAge = 15 * time.Minute
	// EventSlack is how far ahead of this clock it may be.
	EventSlack = 5 * time.Minute
	// ExecutionLasts is for how long an event is its execution's that has looked at it in time:
	// as long as one may run.
	ExecutionLasts = 24 * time.Hour
	// MaxRounds is how often a verdict is waited for.
	MaxRounds = 20
)

// Verdict is the function's answer: one of package failover's, or Ignored.
type Verdict string

// Ignored says that nothing is to be done about the event, and nobody called.
const Ignored Verdict = "ignored"

// The reasons for which an event is ignored, beside failover.AlreadyWriter and
// failover.WriterAnswers.
const (
	Malformed       failover.Code = "malformed"
	Forged          failover.Code = "forged"
	UnknownInstance failover.Code = "unknown_instance"
	OtherAlarm      failover.Code = "other_alarm"
	NotAlarm        failover.Code = "not_alarm"
	TooOld          failover.Code = "too_old"
	FromTheFuture   failover.Code = "from_the_future"
	Repeated        failover.Code = "repeated"
	FailedOver      failover.Code = "already_failed_over"
	NobodyApproved  failover.Code = "rejected"
	// NothingWritten: the instance has no record of who writes, as before its first start.
	NothingWritten failover.Code = "nothing_written"
	// ApprovalVoid is no reason to ignore an event: what was approved is not what is so now,
	// and a person is asked again.
	ApprovalVoid failover.Code = "approval_void"
	// UnderWay: a failover of somebody else is, or was until now.
	UnderWay failover.Code = "under_way"
)

// Config says whose alarm is listened to.
type Config struct {
	// Instance is its short name, Zone the name of its writer in DNS.
	Instance, Zone string
	// AlarmARN is that of the instance's alarm.
	AlarmARN string
}

// AlarmName is that of an instance's alarm.
func AlarmName(instance string) string { return instance + "-" + alarms.InstanceSilent }

// EventDeps are what a Handler works with.
type EventDeps struct {
	// Failover has all but the Observer: each call watches for itself.
	Failover failover.Deps
	// Alarm tells how an alarm stands, and since when.
	Alarm func(ctx context.Context, name string) (alarmevent.State, time.Time, error)
	Log   logrus.FieldLogger
	Now   func() time.Time
}

// Handler is the function behind the alarm on AWS: it makes of an event the verdict that
// the state machine goes on with.
//
// Invariants:
//
//   - An event alone starts nothing: failover.Begin observes anew and decides. A forged one
//     costs a look, at most.
//   - Every event that is read leaves an entry in the register, and one in the log, with
//     its reasons. A register that cannot be written is an error, and the call is repeated.
//     A watch that finds nothing to do leaves none: it comes every other minute.
//   - A change of the alarm is acted upon by one execution, which has claimed it in the register
//     before it looks, and a repeated call of that one goes on with the failover that it has
//     begun.
//   - Of what a person answers nothing is thrown away. An approval of what is so now is carried
//     out, whoever has the change by then; with anything else that is no no, a person is asked
//     again, and told why.
type Handler struct {
	cfg  Config
	deps EventDeps
	// patience is failover.Request's: 0, but in tests.
	patience time.Duration
}

// NewHandler makes a Handler.
func NewHandler(cfg Config, deps EventDeps) *Handler { return &Handler{cfg: cfg, deps: deps} }

// Answer is what the function answers. Its JSON is stable.
type Answer struct {
	Verdict Verdict `json:"verdict"`
	// Run names the failover that was begun; "" for none.
	Run string `json:"run"`
	// Epoch and Writer are the record's, LostFrom and LostTo what may be lost with Target, as
	// failover.Decision has them.
	Epoch    uint64 `json:"epoch"`
	Writer   string `json:"writer"`
	Target   string `json:"target"`
	LostFrom uint64 `json:"lost_from"`
	LostTo   uint64 `json:"lost_to"`
	// AfterSeconds is when to ask again, Round what to ask with then.
	AfterSeconds int `json:"after_seconds"`
	Round        int `json:"round"`
	// AgainSeconds is when to ask again where a step of the failover finds that it cannot go on.
	AgainSeconds int `json:"again_seconds"`
	// Held names a failover that does not go on, and has stopped a server: it is to be let go.
	// "" for none.
	Held string `json:"held"`
	// Noes counts how often a person has refused by then: whoever is called is told of the last
	// one, if that stands.
	Noes    int               `json:"noes"`
	Reasons []failover.Reason `json:"reasons"`
}

// Handle answers one call. An error is to be retried, if outcome.Of says so.
func (h *Handler) Handle(ctx context.Context, raw []byte) (Answer, error) {
	ask, err := decode(raw)
	if err != nil {
		return Answer{}, err
	}
	if watch, err := isWatch(ask.Event); err != nil {
		return h.ignore(ctx, change{ask: ask}, Malformed, "%v", err)
	} else if watch {
		return h.watch(ctx, ask)
	}
	e, err := alarmevent.Parse(ask.Event)
	if err != nil {
		return h.ignore(ctx, change{ask: ask, event: e}, Malformed, "%v", err)
	}
	if ask.Execution == "" {
		ask.Execution = "event " + e.ID
	}
	if code, why := h.stranger(e); code != "" {
		return h.ignore(ctx, change{ask: ask, event: e}, code, "%s", why)
	}
	return h.look(ctx, change{ask: ask, event: e}, h.eventStands)
}

// stranger says why an event is not one of this instance's alarm going off.
func (h *Handler) stranger(e alarmevent.Event) (failover.Code, string) {
	want := strings.SplitN(h.cfg.AlarmARN, ":", 7)
	switch name := AlarmName(h.cfg.Instance); {
	case len(want) == 7 && (e.Account != want[4] || e.Region != want[3]):
		return Forged, fmt.Sprintf("it is of account %s and region %s, and this is %s and %s", e.Account, e.Region, want[4], want[3])
	case e.Alarm != name && strings.HasSuffix(e.Alarm, "-"+alarms.InstanceSilent):
		return UnknownInstance, fmt.Sprintf("%q is the alarm of another instance than %s", e.Alarm, h.cfg.Instance)
	case e.Alarm != name:
		return OtherAlarm, fmt.Sprintf("%q says nothing of who writes", e.Alarm)
	case e.ARN != h.cfg.AlarmARN:
		return Forged, fmt.Sprintf("its alarm is %s, and the instance's %s", e.ARN, h.cfg.AlarmARN)
	case e.State != alarmevent.Alarm:
		return NotAlarm, fmt.Sprintf("the alarm is %s", e.State)
	}
	return "", ""
}

// confirm finds out who is to write, and has package failover decide.
func (h *Handler) confirm(ctx context.Context, c change) (Answer, error) {
	ask, e, entry := c.ask, c.event, c.entry
	d := &h.deps.Failover
	rec, written, err := d.Lease.Load(ctx)
	const never = "there is no record of who writes: nobody ever has, and nobody is to be replaced"
	switch {
	case err != nil:
		return Answer{}, fmt.Errorf("read who writes: %w", err)
	case !written:
		return h.close(ctx, c, NothingWritten, never)
	}
	if entry.Epoch == 0 {
		entry.Epoch = ask.since(uint64(rec.Epoch))
	}
	nodes, err := failover.Nodes(ctx, d.Registry)
	if err != nil {
		return Answer{}, err
	}
	heard, mute := h.listen(ctx, nodes)
	switch why, err := h.over(ctx, e, rec, entry, heard); {
	case err != nil:
		return Answer{}, err
	case why != "":
		return h.close(ctx, c, FailedOver, why)
	}
	a := Answer{Epoch: uint64(rec.Epoch), Writer: rec.Holder, Round: ask.Round + 1, Noes: c.known.Noes, Reasons: []failover.Reason{}}
	left, err := h.left(ctx, rec, heard)
	if err != nil {
		return Answer{}, err
	}
	void := c.void(rec, nodes, left)
	a.Target = h.target(ask, rec, nodes, heard, left, void)
	a.passes(rec, nodes, heard)
	none := nobody(rec, nodes, heard, mute)
	switch {
	case void != "", c.no != nil && ask.said == nil:
		if err := h.askAgain(ctx, c, void, none, &a); err != nil {
			return Answer{}, err
		}
	case a.Target == "":
		a.wait(none.Code, none.Detail, 0)
	case c.known.recent(h.deps.Now()) >= MaxFailovers && ask.said == nil && !h.goesOn(ctx, entry):
		a.Verdict = Verdict(failover.Page)
		a.because(Flapping, "%d failovers were started within %s: find out why writers die before there is another", c.known.recent(h.deps.Now()), FlapWithin)
	default:
		now := c
		if ask.said != nil && carriedOut(ask.said, rec) {
			now.ask.said = &Approval{Approve: true, By: ask.said.By}
		}
		if err := h.decide(ctx, now, &a, false); err != nil {
			return Answer{}, err
		}
	}
	a.paced()
	c.unanswered(&a)
	c.remind(&a)
	if a.Held, err = h.held(ctx, entry, &a); err != nil {
		return Answer{}, err
	}
	if c.idle(&a) {
		return h.leave(a), nil
	}
	return a, h.note(ctx, c, entry.Epoch, a)
}

// close answers that nothing is to be done: a watch leaves no trace of that.
func (h *Handler) close(ctx context.Context, c change, code failover.Code, why string) (Answer, error) {
	if c.quiet {
		return h.nothing(c.ask, code, "%s", why), nil
	}
	return h.ignore(ctx, c, code, "%s", why)
}

// heldFor is how long a failover of somebody else may stand before it is one that does not
// go on.
const heldFor = 5 * time.Minute

// held is the failover that has stopped a server and does not go on, if this one is not to.
// One that is done has a writer, and what it holds is perhaps on a machine that was lost, which
// takes minutes to find out: that is for when nothing else is to be done, or nobody is there
// who could be the writer but who is held. A failover that begins takes it over.
func (h *Handler) held(ctx context.Context, entry Entry, a *Answer) (string, error) {
	if a.Verdict == Verdict(failover.Promote) {
		return "", nil
	}
	run, ok, err := failover.Latest(ctx, h.deps.Failover.Registry)
	if err != nil || !ok || !run.Held {
		return "", err
	}
	if run.Done && a.Target != "" && !closed(a.Verdict) {
		return "", nil
	}
	if run.Done || run.Failed || run.ID == entry.Run || h.deps.Now().Sub(run.StartedAt) >= heldFor {
		return run.ID, nil
	}
	return "", nil
}

// goesOn says that the failover that an event has begun is under way still: it is counted.
func (h *Handler) goesOn(ctx context.Context, entry Entry) bool {
	run, ok, err := failover.Latest(ctx, h.deps.Failover.Registry)
	return err == nil && ok && entry.Run != "" && run.ID == entry.Run && !run.Done && !run.Failed
}

// over says why nothing is to be done any more: another node, or the same in another epoch,
// has become the writer since the event, answers, and takes writes. A record alone is no
// reason: who has it may have died as well, and has no alarm of its own while this one goes
// on.
func (h *Handler) over(ctx context.Context, e alarmevent.Event, rec lease.Record, entry Entry, heard map[string]told) (string, error) {
	run, ok, err := failover.Latest(ctx, h.deps.Failover.Registry)
	if err != nil {
		return "", err
	}
	since := ok && run.Done && run.StartedAt.After(e.At) || uint64(rec.Epoch) > entry.Epoch
	w, answers := heard[rec.Holder]
	if !since || !answers || w.failing || w.Role != "writer" || w.Epoch < uint64(rec.Epoch) {
		return "", nil
	}
	return fmt.Sprintf("%s is the writer of epoch %d, which began after the alarm", rec.Holder, rec.Epoch), nil
}

// left says that the record was given to its holder by a failover that is under way still,
// and the holder answers, whose log takes writes: nobody else can become the writer before that
// is finished, or has failed.
func (h *Handler) left(ctx context.Context, rec lease.Record, heard map[string]told) (bool, error) {
	run, ok, err := failover.Latest(ctx, h.deps.Failover.Registry)
	holder, answers := heard[rec.Holder]
	return ok && answers && !holder.failing && candidate.Left(rec, run), err
}

// target is the node that a person names, the one that a failover was left at, or the fittest.
// Where the record gives the epoch to one whose log takes no writes it is another that is able, and
// else nobody: who was stopped for it is to be let go first.
func (h *Handler) target(ask Ask, rec lease.Record, nodes []failover.Node, heard map[string]told, left bool, void string) string {
	of := func(id string) candidate.Standing { return standing(heard, id) }
	hangs := candidate.Hangs(rec, of(rec.Holder))
	if p := ask.said; p != nil && (void == "" || !hangs) && slices.ContainsFunc(nodes, func(n failover.Node) bool { return n.ID == p.To }) {
		if to, answers := heard[p.To]; p.To != rec.Holder || answers && !to.failing && carriedOut(p, rec) {
			return p.To
		}
	}
	if left {
		return rec.Holder
	}
	best, _ := candidate.Best(rec, nodes, of)
	if hangs && !candidate.Able(rec, best.ID, of(best.ID)) {
		return ""
	}
	return best.ID
}

func standing(heard map[string]told, id string) candidate.Standing {
	r, ok := heard[id]
	return candidate.Standing{Answers: ok, Failing: r.failing, Durable: r.durable()}
}

// passes names who is passed over for the target. What a writer answers is weighed with the
// others' answers.
func (a *Answer) passes(rec lease.Record, nodes []failover.Node, heard map[string]told) {
	if a.Target == "" {
		return
	}
	for _, n := range nodes {
		if r, ok := heard[n.ID]; ok && r.failing && n.ID != a.Target && (n.ID != rec.Holder || !rec.Confirmed()) {
			a.because(failover.TargetFailing, "%s, whose log ends with LSN %d of epoch %d, is passed over: it says itself that it takes no writes: docs/RUNBOOK.md#health", n.ID, r.DurableLSN, r.DurableEpoch)
		}
	}
}

// decide has package failover decide, and begin if it is to be and this is no dry run. What
// was approved is given up for the node that it was approved for.
func (h *Handler) decide(ctx context.Context, c change, a *Answer, dry bool) error {
	var report failover.Report
	d := h.deps.Failover
	d.Registry = heedful{d.Registry, &c}
	err := candidate.OrBegun(a.Target, func(to string, begun bool) (err error) {
		allow := failover.Overrides{AllowLag: failover.DefaultAllowLag}
		if c.ask.said != nil && !begun {
			allow = c.ask.said.allows()
		}
		report, err = failover.Begin(ctx, d, failover.Request{To: to, Allow: allow, Zone: h.cfg.Zone, Patience: h.patience, DryRun: dry}, nil)
		return err
	})
	var refused *failover.RefusedError
	var other *failover.OtherRunError
	var moved *failover.MovedError
	switch no := new(refusedError); {
	case errors.As(err, &no):
		return no
	case errors.As(err, &other), errors.As(err, &moved):
		a.wait(UnderWay, err.Error(), 0) // it ends, or is given up
	case errors.As(err, &refused):
		of := refused.Decision
		a.Verdict, a.AfterSeconds, a.LostFrom, a.LostTo = Verdict(of.Verdict), seconds(of.After), of.From, of.To
		a.Reasons = append(a.Reasons, of.Reasons...)
	case err != nil:
		return fmt.Errorf("whether %s is dead could not be confirmed: %w", a.Writer, err)
	default:
		a.Verdict, a.Run, a.Target = Verdict(report.Verdict), report.Run, report.To
		if report.Verdict == failover.Done && report.Run != "" {
			a.Verdict = Verdict(failover.Promote) // what was left is finished by the same steps
		}
		if report.From != "" {
			a.Writer = report.From
		}
		a.Reasons = append(a.Reasons, report.Reasons...)
	}
	return nil
}

// seconds is a pause as a state machine has it: in whole ones.
func seconds(d time.Duration) int { return max(1, int((d+time.Second-1)/time.Second)) }

func (a *Answer) because(c failover.Code, format string, args ...any) {
	a.Reasons = append(a.Reasons, failover.Reason{Code: c, Detail: fmt.Sprintf(format, args...)})
}

func (a *Answer) wait(c failover.Code, why string, after time.Duration) {
	a.Verdict, a.AfterSeconds = Verdict(failover.Wait), seconds(after)
	a.because(c, "%s", why)
}

// ignore answers that nothing is to be done, and why.
func (h *Handler) ignore(ctx context.Context, c change, code failover.Code, format string, args ...any) (Answer, error) {
	a := Answer{Verdict: Ignored, Round: c.ask.Round + 1, Reasons: []failover.Reason{}}
	a.because(code, format, args...)
	return a, h.note(ctx, c, 0, a)
}

// maxReasonBytes bounds what is kept of a reason, which may quote an event.
const maxReasonBytes = 400

// note audits an answer.
func (h *Handler) note(ctx context.Context, c change, epoch uint64, a Answer) error {
	now, said := h.deps.Now().UTC(), c.ask.said
	entry := Entry{Rejected: c.ask.refuses(), Key: keyOf(c.event), Execution: c.ask.Execution, First: now, Last: now, Round: a.Round, Epoch: epoch, Verdict: a.Verdict, Run: a.Run, Reasons: []failover.Reason{}}
	for _, r := range a.Reasons {
		r.Detail = strings.ToValidUTF8(r.Detail[:min(len(r.Detail), maxReasonBytes)], "")
		entry.Reasons = append(entry.Reasons, r)
	}
	fields := logrus.Fields{"verdict": a.Verdict, "event": c.event.ID, "alarm": c.event.Alarm, "run": a.Run, "writer": a.Writer, "target": a.Target, "round": a.Round, "reasons": entry.Reasons}
	if said != nil {
		allow := said.allows()
		entry.ApprovedBy, entry.Allow = said.By, &allow
		fields["approved_by"] = said.By
	}
	h.deps.Log.WithFields(fields).Warn("an event of an alarm was looked at")
	if err := keep(ctx, h.deps.Failover.Registry, entry, c); err != nil {
		return fmt.Errorf("note what came of an event: %w", err)
	}
	return nil
}
