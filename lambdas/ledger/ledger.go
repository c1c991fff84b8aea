// Package ledger keeps the incidents of an instance: one for each alarm that fires, and
// for each failover. oc-control keeps it for as long as it runs; the functions on AWS
// make one for each call, and find in the store what those before had open.
package ledger

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/shared/alarms"
	"originchain/shared/incident"
	"originchain/shared/registry"
)

const (
	// calmFor is how long an alarm must have been over before its incident is: one that
	// comes and goes is one incident, of which people are told once.
	calmFor = 15 * time.Second
	// unseenFor is after how long an incident ends whose alarm has had no reading since
	// this control plane was started.
	unseenFor = 15 * time.Minute
)

// Deps are what a Ledger works with.
type Deps struct {
	Incidents *incident.Store
	// Registry is the instance's, with the journal of failovers.
	Registry registry.Store
	Log      logrus.FieldLogger
	Now      func() time.Time
	// Instance is whose incidents these are, where several share the store; "" where there
	// is one.
	Instance string
	// OverFor is for how long an alarm that does not fire has not, where somebody else
	// keeps that; nil: since the Ledger saw it first.
	OverFor func(alarm, node string) time.Duration
	// WrittenFor is for how long a node has been a ready writer, where somebody else keeps
	// that; nil: since the Ledger saw it first.
	WrittenFor func() time.Duration
}

// Ledger has an incident for each alarm that fires and for each failover. It goes by what
// is so, and not by what has changed: whatever was missed, by a kill or a store that was
// away, is made good at the next round. What is open it finds again in the store. It is
// not safe for concurrent use; two of the same instance, at the same moment too, open
// nothing twice.
type Ledger struct {
	store    *incident.Store
	registry registry.Store
	log      logrus.FieldLogger
	now      func() time.Time
	instance string
	overFor  func(alarm, node string) time.Duration
	// writtenFor is nil where this Ledger sees the writer itself.
	writtenFor func() time.Duration

	open map[cause]*opened
	// others are the incidents of other instances that are open, by whose they are.
	others map[string][]string
	// failover is the incident of failovers that is open, "" if none is; settled is the run
	// that has its last word in one.
	failover string
	settled  string
	// mild: that incident is of a switchover, of which hardly anybody is told.
	mild bool
	// overtaken are incidents of switchovers that became failovers, which have their own.
	overtaken []string
	// again: the run has had an incident that was over before it was.
	again bool
	// written is since when a ready writer was seen without a break.
	written time.Time
	// said is the last failure that was logged: the next round has the same one.
	said string
}

// cause is the alarm of a node.
type cause struct{ alarm, node string }

// opened is an incident that is not over.
type opened struct {
	incident.Opening
	// made: it is in the store.
	made bool
	// begun is when it was opened.
	begun time.Time
	// since is when the alarm was first seen not to fire; zero while it fires.
	since time.Time
}

// New makes a Ledger that knows of nothing yet.
func New(d Deps) *Ledger {
	return &Ledger{store: d.Incidents, registry: d.Registry, log: d.Log, now: d.Now, instance: d.Instance, overFor: d.OverFor, writtenFor: d.WrittenFor, open: make(map[cause]*opened), others: make(map[string][]string)}
}

// Load finds what is open. alone says that whoever kept it before is no more: what that
// one had begun to tell is made due at once.
func (l *Ledger) Load(ctx context.Context, alone bool) error {
	ids, err := l.store.Active(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if alone {
			if err := l.store.TakeOver(ctx, id); err != nil {
				return err
			}
		}
		i, ok, err := l.store.Get(ctx, id)
		switch {
		case err != nil:
			return err
		case !ok || i.Resolved != nil:
		case i.Cause.Instance != l.instance:
			l.others[i.Cause.Instance] = append(l.others[i.Cause.Instance], id)
		case i.Cause.Failover != "":
			if l.failover != "" {
				l.overtaken = append(l.overtaken, l.failover)
			}
			l.failover, l.mild = id, i.Severity > alarms.TenantDown
		case i.Cause.Alarm != "":
			l.open[cause{i.Cause.Alarm, i.Cause.Node}] = &opened{Opening: incident.Opening{ID: id}, made: true, begun: i.Opened}
		}
	}
	return nil
}

// Round brings the incidents up to date, and says what could not be: the next round makes
// it good. writes says that a node is a ready writer. A failure is logged when it is new.
func (l *Ledger) Round(ctx context.Context, all []alarms.Status, writes bool) error {
	var faults []error
	for i := range all {
		faults = append(faults, l.alarm(ctx, &all[i]))
	}
	faults = append(faults, l.failovers(ctx, writes))
	err, said := errors.Join(faults...), ""
	if ctx.Err() != nil {
		return err
	}
	if err != nil {
		said = err.Error()
	}
	if said != "" && said != l.said {
		l.log.WithError(err).Error("incidents are not up to date; the next round tries again")
	}
	l.said = said
	return err
}

// alarm opens and ends the incident of one alarm.
func (l *Ledger) alarm(ctx context.Context, s *alarms.Status) error {
	c := cause{s.Alarm, s.Node}
	o := l.open[c]
	if o == nil && s.State == alarms.Firing {
		o = &opened{Opening: l.opening(s)}
		l.open[c] = o // under this id until it is made
	}
	if o == nil {
		return nil
	}
	if !o.made {
		i, err := l.store.Open(ctx, o.Opening)
		if err != nil {
			return fmt.Errorf("open the incident of %s: %w", where(s), err)
		}
		o.ID, o.made, o.begun = i.ID, true, i.Opened
		l.log.WithFields(logrus.Fields{"incident": o.ID, "alarm": s.Alarm, "node": s.Node}).Warn("an incident was opened")
	}
	return l.calm(ctx, c, o, s)
}

// calm ends the incident of an alarm that has been over for long enough.
func (l *Ledger) calm(ctx context.Context, c cause, o *opened, s *alarms.Status) error {
	wait, why := calmFor, fmt.Sprintf("%s is as it should be again.", where(s))
	switch s.State {
	case alarms.Firing, alarms.Pending:
		o.since = time.Time{}
		return nil
	case alarms.NoData:
		wait, why = unseenFor, fmt.Sprintf("There has been no reading of %s for %s: nothing is known of it.", where(s), unseenFor)
	case alarms.OK, alarms.Resolved:
	}
	if o.since.IsZero() {
		o.since = l.now()
		if l.overFor != nil {
			o.since = o.since.Add(-l.overFor(s.Alarm, s.Node))
		}
	}
	if l.now().Sub(o.since) < wait {
		return nil
	}
	if _, err := l.store.Resolve(ctx, o.ID, "resolved", why); err != nil && !errors.Is(err, incident.ErrResolved) {
		return fmt.Errorf("resolve incident %s: %w", o.ID, err)
	}
	delete(l.open, c)
	l.log.WithFields(logrus.Fields{"incident": o.ID, "alarm": s.Alarm, "node": s.Node}).Info("an incident is over")
	return nil
}

// Unwatched ends the incidents of alarms that are not among all that there are: nobody would
// ever see those end. One that was opened of late is left: a deployment may be on its way that
// makes its alarm anew.
func (l *Ledger) Unwatched(ctx context.Context, all []alarms.Status) error {
	var faults []error
	for c, o := range l.open {
		if !o.made || l.now().Sub(o.begun) < unseenFor || slices.ContainsFunc(all, func(s alarms.Status) bool { return c == cause{s.Alarm, s.Node} }) {
			continue
		}
		why := fmt.Sprintf("%s is not watched any more: its alarm is not deployed. Nothing is known of it.", where(&alarms.Status{Alarm: c.alarm, Node: c.node}))
		if _, err := l.store.Resolve(ctx, o.ID, "resolved", why); err != nil && !errors.Is(err, incident.ErrResolved) {
			faults = append(faults, fmt.Errorf("resolve incident %s: %w", o.ID, err))
			continue
		}
		delete(l.open, c)
		l.log.WithFields(logrus.Fields{"incident": o.ID, "alarm": c.alarm, "node": c.node}).Warn("an incident is over, whose alarm is not there any more")
	}
	return errors.Join(faults...)
}

// where names an alarm and whose it is.
func where(s *alarms.Status) string {
	if s.Node == "" {
		return s.Alarm
	}
	return s.Alarm + " of " + s.Node
}

func (l *Ledger) opening(s *alarms.Status) incident.Opening {
	reading := fmt.Sprintf(" The reading is %.6g.", s.Value)
	if math.IsNaN(s.Value) {
		reading = "" // who watches it keeps that
	}
	return incident.Opening{
		ID: incidentID(l.now(), cause{s.Alarm, strings.Trim(l.instance+"-"+s.Node, "-")}), Severity: s.Severity,
		Cause: incident.Cause{Alarm: s.Alarm, Node: s.Node, Instance: l.instance},
		Title: s.Summary + " (" + where(s) + ")",
		Text:  incident.Clip(fmt.Sprintf("%s%s What to do: docs/RUNBOOK.md%s", s.Summary, reading, s.Runbook)),
	}
}

// incidentID begins with the time, so that ids sort by it. The name is there for people;
// the sum tells two that are the same after it was cut.
func incidentID(at time.Time, c cause) string {
	const longest = 64
	id := at.UTC().Format("20060102T150405Z") + "-" + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_', r == '-', r == '.':
			return r
		}
		return -1
	}, strings.TrimSuffix(c.alarm+"-"+c.node, "-"))
	if len(id) <= longest {
		return id
	}
	sum := fmt.Sprintf("-%08x", crc32.ChecksumIEEE([]byte(c.alarm+" "+c.node)))
	return id[:longest-len(sum)] + sum
}
