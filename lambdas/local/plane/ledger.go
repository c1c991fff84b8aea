package plane

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
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

// ledger has an incident for each alarm that fires and for each failover. It goes by what
// is so, and not by what has changed: whatever was missed, by a kill or a store that was
// away, is made good at the next round. What is open it finds again in the store.
type ledger struct {
	store    *incident.Store
	registry registry.Store
	log      logrus.FieldLogger
	now      func() time.Time

	open map[cause]*opened
	// failover is the incident of failovers that is open, "" if none is; settled is the run
	// that has its last word in one.
	failover string
	settled  string
	// mild: that incident is of a switchover, of which hardly anybody is told.
	mild bool
	// overtaken are incidents of switchovers that became failovers, which have their own.
	overtaken []string
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
	// since is when the alarm was first seen not to fire; zero while it fires.
	since time.Time
}

func newLedger(store *incident.Store, reg registry.Store, log logrus.FieldLogger) *ledger {
	return &ledger{store: store, registry: reg, log: log, now: time.Now, open: make(map[cause]*opened)}
}

// load finds what is open, and makes due what the control plane before had begun to tell:
// it is no more, because this one has the directory's lock.
func (l *ledger) load(ctx context.Context) error {
	ids, err := l.store.Active(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if err := l.store.TakeOver(ctx, id); err != nil {
			return err
		}
		i, ok, err := l.store.Get(ctx, id)
		switch {
		case err != nil:
			return err
		case !ok || i.Resolved != nil:
		case i.Cause.Failover != "":
			if l.failover != "" {
				l.overtaken = append(l.overtaken, l.failover)
			}
			l.failover, l.mild = id, i.Severity > alarms.TenantDown
		case i.Cause.Alarm != "":
			l.open[cause{i.Cause.Alarm, i.Cause.Node}] = &opened{Opening: incident.Opening{ID: id}, made: true}
		}
	}
	return nil
}

// round brings the incidents up to date. writes says that a node is a ready writer.
func (l *ledger) round(ctx context.Context, all []alarms.Status, writes bool) {
	var faults []error
	for i := range all {
		faults = append(faults, l.alarm(ctx, &all[i]))
	}
	faults = append(faults, l.failovers(ctx, writes))
	if ctx.Err() != nil {
		return
	}
	err, said := errors.Join(faults...), ""
	if err != nil {
		said = err.Error()
	}
	if said != "" && said != l.said {
		l.log.WithError(err).Error("incidents are not up to date; the next round tries again")
	}
	l.said = said
}

// alarm opens and ends the incident of one alarm.
func (l *ledger) alarm(ctx context.Context, s *alarms.Status) error {
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
		if _, err := l.store.Open(ctx, o.Opening); err != nil {
			return fmt.Errorf("open the incident of %s: %w", where(s), err)
		}
		o.made = true
		l.log.WithFields(logrus.Fields{"incident": o.ID, "alarm": s.Alarm, "node": s.Node}).Warn("an incident was opened")
	}
	return l.calm(ctx, c, o, s)
}

// calm ends the incident of an alarm that has been over for long enough.
func (l *ledger) calm(ctx context.Context, c cause, o *opened, s *alarms.Status) error {
	wait, why := calmFor, fmt.Sprintf("%s is as it should be again.", where(s))
	switch s.State {
	case alarms.Firing, alarms.Pending:
		o.since = time.Time{}
		return nil
	case alarms.NoData:
		wait, why = unseenFor, fmt.Sprintf("The control plane was started anew, and has had no reading of %s since.", where(s))
	case alarms.OK, alarms.Resolved:
	}
	if o.since.IsZero() {
		o.since = l.now()
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

// where names an alarm and whose it is.
func where(s *alarms.Status) string {
	if s.Node == "" {
		return s.Alarm
	}
	return s.Alarm + " of " + s.Node
}

func (l *ledger) opening(s *alarms.Status) incident.Opening {
	return incident.Opening{
		ID: incidentID(l.now(), cause{s.Alarm, s.Node}), Severity: s.Severity, Cause: incident.Cause{Alarm: s.Alarm, Node: s.Node},
		Title: s.Summary + " (" + where(s) + ")",
		Text:  incident.Clip(fmt.Sprintf("%s The reading is %.6g. What to do: docs/RUNBOOK.md%s", s.Summary, s.Value, s.Runbook)),
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
