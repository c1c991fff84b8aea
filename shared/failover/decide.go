package failover

import (
	"fmt"
	"time"

	"originchain/shared/lease"
)

// Verdict is what is to be done.
type Verdict string

// The verdicts.
const (
	// Promote: the target may become the writer now.
	Promote Verdict = "promote"
	// Wait: nothing yet; look again.
	Wait Verdict = "wait"
	// ShedLoad: the writer answers, and slowly. Another one would be no faster, and a
	// failover costs seconds: send less.
	ShedLoad Verdict = "shed_load"
	// Page: a person is to decide.
	Page Verdict = "page"
	// Done: the target is the writer.
	Done Verdict = "done"
)

// Code names a reason.
type Code string

// The reasons. Those with an override can be given up by name.
const (
	AlreadyWriter   Code = "already_writer"
	NoRecord        Code = "no_record"
	RecordUnread    Code = "record_unreadable"
	WriterStopped   Code = "writer_stopped"
	WriterReleased  Code = "writer_released"
	WriterAnswers   Code = "writer_answers"
	WriterSlow      Code = "writer_slow"
	WriterFailing   Code = "writer_failing"
	Blip            Code = "blip"
	ObserverCut     Code = "observer_cut"
	LeaseRuns       Code = "lease_runs"
	LeaseExpired    Code = "lease_expired"
	FollowerHears   Code = "follower_hears_writer"
	TargetSilent    Code = "target_silent"
	TargetFailing   Code = "target_failing"
	NotPromotable   Code = "not_promotable"
	NotEntitled     Code = "not_entitled"
	FollowerBehind  Code = "follower_behind"
	ApplyBehind     Code = "apply_behind"
	Backfilling     Code = "migration_backfilling"
	PlannedSwitch   Code = "planned"
	OverriddenGuard Code = "overridden"
	EpochGiven      Code = "epoch_given"
)

// Reason is one thing that was weighed.
type Reason struct {
	Code   Code   `json:"code"`
	Detail string `json:"detail"`
	// Override is the flag that gives this guard up; "" if nothing does.
	Override string `json:"override,omitempty"`
}

// Decision is a verdict with all that led to it.
type Decision struct {
	Verdict Verdict  `json:"verdict"`
	Reasons []Reason `json:"reasons"`
	// After is when to look again, for Wait.
	After time.Duration `json:"-"`
	// AcceptLoss: the record is to be taken as lease.Candidate.AcceptLoss says. From
	// and To are what may be lost then, both included; none if To < From.
	AcceptLoss bool   `json:"accept_loss,omitempty"`
	From       uint64 `json:"lost_from,omitempty"`
	To         uint64 `json:"lost_to,omitempty"`
}

// Overrides are the guards that a person has given up. Its JSON is stable.
type Overrides struct {
	AllowSlowWriter  bool   `json:"allow_slow_writer,omitempty"`
	AllowLag         uint64 `json:"allow_lag,omitempty"` // LSNs; DefaultAllowLag unless a person says otherwise
	AllowBackfilling bool   `json:"allow_backfilling,omitempty"`
	AcceptDataLoss   bool   `json:"accept_data_loss,omitempty"`
	// Loss bounds AcceptDataLoss to what a person was told; nil: whatever it is, as a flag has it.
	Loss *Loss `json:"loss,omitempty"`
}

// Loss are LSNs that may be lost, both included; none if To < From.
type Loss struct {
	From uint64 `json:"from"`
	To   uint64 `json:"to"`
}

// mayLose says whether a loss was accepted.
func (o *Overrides) mayLose(from, to uint64) bool {
	none := to == 0 || to < from
	return o.AcceptDataLoss && (o.Loss == nil || none || o.Loss.From <= from && to <= o.Loss.To)
}

const (
	// DefaultAllowLag is how many LSNs a target may be behind.
	DefaultAllowLag = 1000
	// BlipFor is how long a writer that is not known dead may be silent without
	// anything being done.
	BlipFor = 2 * time.Second
	// SlowAnswer is when an answer to /health is slow.
	SlowAnswer = time.Second
	// freshRecord is how old a reading of the record may be to say anything.
	freshRecord = 2 * time.Second
	// lookAgain is the usual pause of Wait.
	lookAgain = 250 * time.Millisecond
	// backfilling is the state of a migration during which nobody is promoted unasked.
	backfilling = "Backfilling"
)

// Decide weighs an observation. Reasons are in the order in which they were weighed;
// the last decided, unless several guards stand, which are all named.
func Decide(o Observation, allow Overrides) Decision {
	d := &deciding{o: o, allow: allow}
	if v := d.known(); v != "" {
		return d.end(v)
	}
	if v := d.gone(); v != "" {
		return d.end(v)
	}
	return d.end(d.fit())
}

type deciding struct {
	o     Observation
	allow Overrides
	out   Decision
}

func (d *deciding) end(v Verdict) Decision {
	d.out.Verdict = v
	if v == Wait && d.out.After == 0 {
		d.out.After = lookAgain
	}
	return d.out
}

func (d *deciding) because(c Code, override, format string, args ...any) {
	d.out.Reasons = append(d.out.Reasons, Reason{Code: c, Detail: fmt.Sprintf(format, args...), Override: override})
}

// known says whether enough is known to decide anything.
func (d *deciding) known() Verdict {
	switch o := &d.o; {
	case o.Target.Answers && o.Target.Writer && o.Target.Last.Epoch >= o.Record.Epoch:
		d.because(AlreadyWriter, "", "%s is the writer of epoch %d", o.Target.Node, o.Target.Last.Epoch)
		return Done
	case o.RecordError != nil:
		d.because(RecordUnread, "", "the lease record cannot be read: %v; without it nobody can know that only one node writes", o.RecordError)
		return d.patient(o.RecordAge)
	case o.RecordAge > freshRecord:
		d.because(RecordUnread, "", "the lease record was last read %s ago", o.RecordAge)
		return Wait
	case o.Record.Epoch == 0:
		d.because(NoRecord, "", "there is no lease record: the instance was never written with one; start its writer with --control")
		return Page
	}
	return ""
}

// patient waits for what may come back by itself, and calls a person in the end.
func (d *deciding) patient(since time.Duration) Verdict {
	if since < pageAfter {
		return Wait
	}
	return Page
}

// pageAfter is how long the control plane waits for what it depends on.
const pageAfter = 30 * time.Second

// gone says whether the holder answers no more, for certain: "" if so.
func (d *deciding) gone() Verdict {
	o := &d.o
	switch {
	case o.Record.Released:
		d.because(WriterReleased, "", "%s has released epoch %d", o.Record.Holder, o.Record.Epoch)
		return ""
	case o.Writer.Stopped:
		d.because(WriterStopped, "", "the process of %s has ended and is not started again", o.Record.Holder)
		return ""
	case o.RecordUnchanged >= lease.Expiry:
		return d.expired()
	case o.Writer.Silent == 0:
		return d.answers()
	}
	return d.silent()
}

// expired is about a holder that has not renewed for so long that it acknowledges nothing,
// be it that something still answers /health where it is said to be: a server that is cut
// off from the lease store, hangs in its last write, or is another one at that address.
func (d *deciding) expired() Verdict {
	o := &d.o
	d.because(LeaseExpired, "", "%s has not renewed epoch %d for %s, and acknowledges nothing from %s on", o.Record.Holder, o.Record.Epoch, o.RecordUnchanged, lease.SelfFence)
	if w := &o.Writer; w.Silent == 0 && w.Status >= 500 {
		d.because(WriterFailing, "", "%s answers /health with %d: its log takes no writes", o.Record.Holder, w.Status)
		return ""
	}
	if o.Target.Answers && o.Target.Streams {
		// Two detectors: a store that its holder alone cannot reach makes no failover
		// worth its price as long as the follower hears the holder.
		d.because(FollowerHears, "", "%s still hears %s: it is not gone, but cannot renew; mend the way between it and the lease store, or stop its server and run again", o.Target.Node, o.Record.Holder)
		return d.patient(o.RecordUnchanged)
	}
	return ""
}

// answers is about a writer that answers.
func (d *deciding) answers() Verdict {
	w := &d.o.Writer
	slow := w.Took >= SlowAnswer
	switch {
	case d.o.Planned && !slow && d.o.Record.Holder != d.o.Target.Node: // nobody hands over to itself
		d.because(PlannedSwitch, "", "%s is well and hands epoch %d over", d.o.Record.Holder, d.o.Record.Epoch)
		return ""
	case w.Status >= 500:
		d.because(WriterFailing, "", "%s answers /health with %d: its process ends by itself when its log has failed. When its disk hangs its lease runs out as soon as a follower is there that has all it acknowledged; while none is, it goes on renewing until somebody ends it: docs/RUNBOOK.md#health", d.o.Record.Holder, w.Status)
		return Wait
	case slow && d.allow.AllowSlowWriter:
		d.because(OverriddenGuard, "", "%s answers in %s: given up by --allow-slow-writer", d.o.Record.Holder, w.Took)
		return ""
	case slow:
		d.because(WriterSlow, "--allow-slow-writer", "%s answers, in %s: shed load; another writer on the same load is no faster", d.o.Record.Holder, w.Took)
		return ShedLoad
	}
	d.because(WriterAnswers, "", "%s answers in %s", d.o.Record.Holder, w.Took)
	return Wait
}

// silent is about a writer that does not answer the observer, whose lease runs.
func (d *deciding) silent() Verdict {
	o := &d.o
	left := lease.Expiry - o.RecordUnchanged
	switch {
	case o.Writer.Silent < BlipFor:
		d.because(Blip, "", "%s has been silent for %s, less than %s", o.Record.Holder, o.Writer.Silent, BlipFor)
	case o.RecordUnchanged < 2*lease.RenewEvery:
		why := ""
		if o.Writer.Error != "" {
			why = ": " + o.Writer.Error
		}
		d.because(ObserverCut, "", "%s renewed its lease %s ago: it lives, and the observer cannot reach it%s", o.Record.Holder, o.RecordUnchanged, why)
	default:
		d.because(LeaseRuns, "", "%s has not renewed for %s; its lease runs for %s more", o.Record.Holder, o.RecordUnchanged, left)
		d.out.After = min(left, lookAgain)
	}
	return Wait
}

// fit says whether the target may be promoted.
func (d *deciding) fit() Verdict {
	t := &d.o.Target
	switch {
	case t.Failing != 0:
		d.because(TargetFailing, "", "%s answers /health with %d: its log takes no writes, and it is waited for. Somebody can name another node, which may lack what this one has: docs/RUNBOOK.md#health", t.Node, t.Failing)
		return d.patient(d.o.RecordUnchanged)
	case !t.Answers:
		d.because(TargetSilent, "", "%s does not answer: %s", t.Node, t.Error)
		return d.patient(d.o.RecordUnchanged)
	case !t.Promotable:
		d.because(NotPromotable, "", "%s only ever follows; choose a node that runs oc-server", t.Node)
		return Page
	}
	stands := d.entitled()
	stands = d.applied() || stands
	if d.o.Migration == backfilling && d.guard(d.allow.AllowBackfilling, Backfilling, "--allow-backfilling", "a migration is in %s: the new writer starts its backfill again from the log", d.o.Migration) {
		stands = true
	}
	if stands {
		return Page
	}
	return Promote
}

// guard notes a guard, and reports whether it stands.
func (d *deciding) guard(allowed bool, c Code, flag, format string, args ...any) (stands bool) {
	if allowed {
		d.because(OverriddenGuard, "", "%s: given up by %s", fmt.Sprintf(format, args...), flag)
		return false
	}
	d.because(c, flag, format, args...)
	return true
}

// entitled says whether what the target's log lacks is a guard that stands. Without a set
// nobody may open by the record, and how far behind the target is decides.
func (d *deciding) entitled() (stands bool) {
	o, t := &d.o, &d.o.Target
	v := o.Record.MayOpen(t.Node, t.Last)
	if v.Decision == lease.Open {
		return false
	}
	if t.Last.LSN == 0 {
		d.because(NotEntitled, "", "the log of %s is empty: an empty directory never becomes the writer of an instance that exists; restore it from the archive", t.Node)
		return true
	}
	from, to := o.Record.AtRisk(t.Last)
	to = max(to, o.Writer.Durable)
	d.out.AcceptLoss = true
	if to >= from {
		d.out.From, d.out.To = uint64(from), uint64(to)
	}
	behind := uint64(0)
	if to >= from {
		behind = uint64(to-from) + 1
	}
	unused := o.Record.SyncReplicas == 0 && len(o.Record.InSync) == 0 && len(o.Record.Eligible) == 0
	if unused && v.Reason == lease.NotEntitled {
		if behind <= d.allow.AllowLag {
			return false
		}
		d.because(FollowerBehind, fmt.Sprintf("--allow-lag %d", behind), "%s lacks LSN %d to %d, %d of them, more than %d", t.Node, from, to, behind, d.allow.AllowLag)
		return true
	}
	what := "what it lacks is not known to be anything"
	if behind > 0 {
		what = fmt.Sprintf("LSN %d to %d may be lost, which were acknowledged", from, to)
	}
	accepted := d.allow.mayLose(d.out.From, d.out.To)
	if d.allow.AcceptDataLoss && !accepted {
		what += fmt.Sprintf("; a loss of LSN %d to %d was accepted, and not this", d.allow.Loss.From, d.allow.Loss.To)
	}
	return d.guard(accepted, NotEntitled, "--accept-data-loss", "%s: %s", v.Detail, what)
}

// applied says whether the target would take too long to show what it has.
func (d *deciding) applied() (stands bool) {
	t := &d.o.Target
	if t.Applied >= t.Last.LSN {
		return false
	}
	if behind := uint64(t.Last.LSN - t.Applied); behind > d.allow.AllowLag {
		d.because(ApplyBehind, fmt.Sprintf("--allow-lag %d", behind), "%s has applied LSN %d of %d: %d frames are to be applied before it answers", t.Node, t.Applied, t.Last.LSN, behind)
		return true
	}
	return false
}
