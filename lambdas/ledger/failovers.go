package ledger

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/shared/alarms"
	"originchain/shared/failover"
	"originchain/shared/incident"
)

const (
	failoverPrefix = "failover-"
	// tooOldFor is how old a run may be that nobody was told of: an older one is history.
	tooOldFor = incident.GiveUpAfter
	// faultSuffix ends the id of the incident of a run that began as a switchover.
	faultSuffix = "-fault"
	// againSuffix ends that of a run that was gone on with when its first was over.
	againSuffix = "-again"
	// writtenFor is how long a writer must be ready for a failover to be over that has not
	// come to its own end.
	writtenFor = time.Minute
	// quietFor is that where alarms alone tell of the writer: they come late, and a step of
	// the run may be at work for minutes after it.
	quietFor = 5 * time.Minute
)

// failovers has an incident for the failover that was begun last, whoever has carried it
// out: it reads the journal. Runs that fail, and the next one, are one incident.
func (l *Ledger) failovers(ctx context.Context, writes bool) error {
	run, ok, err := failover.Latest(ctx, l.registry)
	if err != nil || !ok {
		return err
	}
	if !writes {
		l.written = time.Time{}
	} else if l.written.IsZero() {
		l.written = l.now()
		if l.writtenFor != nil {
			l.written = l.written.Add(-l.writtenFor())
		}
	}
	if err := l.overtake(ctx, &run); err != nil {
		return err
	}
	if run.ID == l.settled && l.failover == "" {
		return nil
	}
	if l.failover == "" {
		if known, err := l.told(ctx, &run); err != nil || known {
			return err
		}
		if err := l.begun(ctx, &run); err != nil {
			return err
		}
	}
	return l.went(ctx, &run)
}

// told says whether an incident has this run's last word, or the run is history.
func (l *Ledger) told(ctx context.Context, run *failover.Run) (bool, error) {
	if again, err := l.resumed(ctx, run); err != nil || again {
		return false, err
	}
	if l.now().Sub(run.StartedAt) > tooOldFor {
		l.settled = run.ID
		return true, nil
	}
	past, err := l.store.Past(ctx)
	if err != nil {
		return false, err
	}
	if dropped, err := l.dropped(ctx, past, run); err != nil || dropped {
		return dropped, err
	}
	active, err := l.store.Active(ctx)
	if err != nil {
		return false, err
	}
	for _, id := range slices.Backward(append(past, active...)) {
		if !strings.HasPrefix(id, failoverPrefix) {
			continue
		}
		i, ok, err := l.store.Get(ctx, id)
		if err != nil {
			return false, err
		}
		if ok && i.Cause.Instance != l.instance {
			continue
		}
		if ok && i.Resolved != nil && (i.Cause.Failover == run.ID || slices.ContainsFunc(i.Updates, func(u incident.Update) bool { return strings.HasSuffix(u.Key, "-"+run.ID) })) {
			l.settled = run.ID
			return true, nil
		}
		break // the last one decides: runs come one after the other
	}
	return false, nil
}

// resumed says whether a run has come to its end that was gone on with once its incident was
// over without that: a failover goes on with the one that is under way, however old it is.
// That the writer was lost anew is known by the alarm, which has changed since.
func (l *Ledger) resumed(ctx context.Context, run *failover.Run) (bool, error) {
	if l.overFor == nil || !run.Done {
		return false, nil
	}
	changed := l.overFor(alarms.InstanceSilent, "")
	if changed <= 0 {
		return false, nil // the alarm is not known; the next round knows
	}
	first, ok, err := l.store.Get(ctx, failoverPrefix+run.ID)
	if err != nil || !ok || first.Resolved == nil || first.Updates[len(first.Updates)-1].Key != leftKey(run) || !l.now().Add(-changed).After(*first.Resolved) {
		return false, err
	}
	_, known, err := l.store.Get(ctx, failoverPrefix+run.ID+againSuffix)
	l.again = err == nil && !known
	return l.again, err
}

// overtake has an incident of its own for a failover that was not planned, where that of a
// switchover is open: who is told of faults alone has not heard of that one. The new one is
// opened first, so that a kill in between leaves one too many.
func (l *Ledger) overtake(ctx context.Context, run *failover.Run) error {
	if l.failover != "" && l.mild && !run.Planned {
		was := l.failover
		if err := l.begun(ctx, run); err != nil {
			return err
		}
		l.overtaken = append(l.overtaken, was)
	}
	for len(l.overtaken) > 0 {
		_, err := l.store.Resolve(ctx, l.overtaken[0], "overtaken", "The writer was lost meanwhile, which is an incident of its own.")
		if err != nil && !errors.Is(err, incident.ErrResolved) {
			return fmt.Errorf("resolve incident %s: %w", l.overtaken[0], err)
		}
		l.overtaken = l.overtaken[1:]
	}
	return nil
}

// dropped says whether the incident of a run that has ended may have been dropped for
// younger ones: then it was told long ago.
func (l *Ledger) dropped(ctx context.Context, past []string, run *failover.Run) (bool, error) {
	if len(past) < incident.MaxPast || !run.Done && !run.Failed {
		return false, nil
	}
	i, ok, err := l.store.Get(ctx, past[0])
	if err != nil || !ok || i.Resolved == nil || !i.Resolved.After(run.StartedAt) {
		return false, err
	}
	l.settled = run.ID
	return true, nil
}

func (l *Ledger) begun(ctx context.Context, run *failover.Run) error {
	id := failoverPrefix + run.ID
	switch {
	case l.failover == id:
		id += faultSuffix
	case l.again:
		id += againSuffix
	}
	o := incident.Opening{
		ID: id, Severity: alarms.TenantDown, Cause: incident.Cause{Failover: run.ID, Node: run.From, Instance: l.instance},
		Title: fmt.Sprintf("%s takes the place of the writer %s", run.To, run.From),
		Text:  incident.Clip(fmt.Sprintf("%s has been confirmed gone, and %s is made the writer. Nobody has to do anything while this goes on; docs/RUNBOOK.md#a-failover says what to do when it does not end.", run.From, run.To)),
	}
	if run.Planned {
		o.Severity, o.Text = alarms.Drift, fmt.Sprintf("A planned switchover: %s hands over to %s.", run.From, run.To)
	}
	if _, err := l.store.Open(ctx, o); err != nil {
		return fmt.Errorf("open the incident of failover %s: %w", run.ID, err)
	}
	l.failover, l.mild = o.ID, run.Planned
	l.log.WithFields(logrus.Fields{"incident": o.ID, "from": run.From, "to": run.To}).Warn("an incident was opened")
	return nil
}

// left says whether a node has been a ready writer for so long that a run which has not come
// to its end is over all the same. Where alarms tell of the writer, what was well before the
// run was begun says nothing of it.
func (l *Ledger) left(run *failover.Run) bool {
	switch {
	case l.written.IsZero():
		return false
	case l.writtenFor == nil:
		return l.now().Sub(l.written) >= writtenFor
	}
	return l.now().Sub(l.written) >= quietFor && l.now().Sub(run.StartedAt) >= quietFor
}

func leftKey(run *failover.Run) string { return "left-" + run.ID }

// next adds that another run goes on in the incident that is open: of one that nothing shows
// to be over, whoever hears of it must hear of what comes next too.
func (l *Ledger) next(ctx context.Context, run *failover.Run) error {
	own := failoverPrefix + run.ID
	if l.writtenFor == nil || slices.Contains([]string{own, own + faultSuffix, own + againSuffix}, l.failover) {
		return nil
	}
	_, err := l.store.Add(ctx, l.failover, "begun-"+run.ID, incident.Clip(fmt.Sprintf("Another failover has begun since: %s takes the place of %s.", run.To, run.From)))
	if err != nil && !errors.Is(err, incident.ErrFull) && !errors.Is(err, incident.ErrResolved) {
		return fmt.Errorf("add to incident %s: %w", l.failover, err)
	}
	return nil
}

// went adds how the run has ended to the incident that is open.
func (l *Ledger) went(ctx context.Context, run *failover.Run) error {
	if err := l.next(ctx, run); err != nil {
		return err
	}
	switch {
	case run.Done:
		text, err := l.ended(ctx, run)
		if err != nil {
			return err
		}
		return l.over(ctx, run, "done-"+run.ID, text)
	case l.left(run) && l.writtenFor == nil:
		return l.over(ctx, run, leftKey(run), "A node writes and is ready, and has been for a minute. The failover has not come to its own end: oc-control status says who writes.")
	case l.left(run):
		return l.over(ctx, run, leftKey(run), fmt.Sprintf("The writer answers and holds its lease, and the nodes are ready: no alarm has said otherwise for %s. The failover has not come to its own end: the dashboard of the instance says who writes.", quietFor))
	case run.Failed && run.ID != l.settled:
		_, err := l.store.Add(ctx, l.failover, "failed-"+run.ID, incident.Clip(fmt.Sprintf("%s could not be made the writer: %s. Who else can is looked for; docs/RUNBOOK.md#a-failover", run.To, run.Error)))
		if err != nil && !errors.Is(err, incident.ErrFull) {
			return fmt.Errorf("add to incident %s: %w", l.failover, err)
		}
		l.settled = run.ID
	}
	return nil
}

func (l *Ledger) over(ctx context.Context, run *failover.Run, key, text string) error {
	if _, err := l.store.Resolve(ctx, l.failover, key, incident.Clip(text)); err != nil && !errors.Is(err, incident.ErrResolved) {
		return fmt.Errorf("resolve incident %s: %w", l.failover, err)
	}
	l.log.WithField("incident", l.failover).Info("an incident is over")
	l.failover, l.settled = "", run.ID
	return nil
}

// ended is what is to be said of a run that made a writer.
func (l *Ledger) ended(ctx context.Context, run *failover.Run) (string, error) {
	text := fmt.Sprintf("%s is the writer, of epoch %d.", run.To, run.Epoch)
	r, ok, err := failover.LastFailover(ctx, l.registry)
	if err != nil || !ok || r.Run != run.ID {
		return text, err
	}
	if r.PauseSeconds > 0 {
		text += fmt.Sprintf(" From fence to ready it took %.2f s.", r.PauseSeconds)
	}
	if r.LostTo > 0 {
		text += fmt.Sprintf(" LSN %d to %d, which %s had, are not on its line; they are kept in a file when it comes back.", r.LostFrom, r.LostTo, r.From)
	}
	return text, nil
}
