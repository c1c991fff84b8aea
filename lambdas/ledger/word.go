package ledger

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/sirupsen/logrus"

	"originchain/shared/alarms"
	"originchain/shared/incident"
)

// Word is what a state machine has to say of the failover that it carries out, and what
// its own journal does not tell: that a person is asked, or that it cannot go on.
type Word struct {
	// Execution is whose word it is, Step where it was: the same word is said once.
	Execution, Step string
	// Run is the failover; "" if none was begun.
	Run  string
	Text string
}

// Say adds a word to the incident of the failover, or of the alarm that it began with. If
// there is none, one is opened, as that alarm's: it ends with it.
func (l *Ledger) Say(ctx context.Context, w Word) error {
	silent := cause{alarm: alarms.InstanceSilent}
	id := l.failover
	if w.Run == "" || id == "" {
		for c, o := range l.open {
			if c.alarm == alarms.InstanceSilent {
				silent, id = c, o.ID
			}
		}
	}
	if id == "" {
		o := &opened{Opening: incident.Opening{
			ID: incidentID(l.now(), cause{silent.alarm, l.instance}), Severity: alarms.TenantDown, Cause: incident.Cause{Alarm: silent.alarm, Instance: l.instance},
			Title: "The writer is silent, and has not been replaced", Text: incident.Clip(w.Text),
		}}
		i, err := l.store.Open(ctx, o.Opening)
		if err != nil {
			return fmt.Errorf("open the incident of a failover that does not go on: %w", err)
		}
		o.ID, o.made, l.open[silent] = i.ID, true, o
		if i.Updates[0].Text == o.Text {
			l.log.WithField("incident", o.ID).Warn("an incident was opened")
			return nil
		}
		id = i.ID // somebody else has opened it meanwhile
	}
	key := fmt.Sprintf("word-%08x", crc32.ChecksumIEEE([]byte(w.Execution+" "+w.Step)))
	_, err := l.store.Add(ctx, id, key, incident.Clip(w.Text))
	if err != nil && !errors.Is(err, incident.ErrFull) && !errors.Is(err, incident.ErrResolved) {
		return fmt.Errorf("add to incident %s: %w", id, err)
	}
	l.log.WithFields(logrus.Fields{"incident": id, "step": w.Step, "execution": w.Execution}).Warn("an incident has news")
	return nil
}
