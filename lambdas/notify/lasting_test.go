package notify

import (
	"testing"
	"time"
)

// An alarm that fires for long has one incident for as long as it does, and calls once.
func TestAnIncidentLastsAsLongAsItsAlarm(t *testing.T) {
	d := newDesk(t)
	d.turns("ALARM")
	for range 3 {
		d.minutes(2)
		d.now = d.now.Add(10 * time.Hour)
	}
	d.minutes(1)
	if ids, err := d.store.Active(t.Context()); err != nil || len(ids) != 1 || len(d.mail.all) != 1 {
		t.Errorf("%q, %v: told %d times", ids, err, len(d.mail.all))
	}
}
