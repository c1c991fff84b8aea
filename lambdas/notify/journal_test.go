package notify

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"originchain/shared/alarms"
	"originchain/shared/aws/cwalarms"
)

// journalled is the journal of failovers, as its JSON is; it is begun now.
func (d *desk) journalled(run, state, from, to string, began time.Time) {
	d.t.Helper()
	doc, err := d.reg.Load(d.t.Context(), "failover")
	if err != nil {
		d.t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"run": run, "state": state, "from": from, "to": to, "epoch": 7, "started_at": began, "error": "it is not fit"})
	if err == nil {
		_, err = d.reg.Save(d.t.Context(), "failover", doc.Version, body)
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// turns is how the alarm of a silent writer stands from now on.
func (d *desk) turns(state string) { d.state, d.since = state, d.now }

// minutes has the schedule call once a minute.
func (d *desk) minutes(n int) {
	d.t.Helper()
	for range n {
		d.now = d.now.Add(time.Minute)
		d.call("schedule.json")
	}
}

// failovers are their incidents, each with the last of what was said.
func (d *desk) failovers() (open, over []string) {
	d.t.Helper()
	active, err := d.store.Active(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	past, err := d.store.Past(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	for _, id := range append(past, active...) {
		i, ok, err := d.store.Get(d.t.Context(), id)
		if err != nil || !ok {
			d.t.Fatal(id, ok, err)
		}
		switch line := id + ": " + i.Updates[len(i.Updates)-1].Text; {
		case i.Cause.Failover == "":
		case i.Resolved == nil:
			open = append(open, line)
		default:
			over = append(over, line)
		}
	}
	return open, over
}

// want is which incidents of failovers there are, by how they begin.
func (d *desk) want(when string, wantOpen, wantOver []string) {
	d.t.Helper()
	same := func(got, want []string) bool {
		if len(got) != len(want) {
			return false
		}
		for i := range want {
			if !strings.HasPrefix(got[i], want[i]) {
				return false
			}
		}
		return true
	}
	if open, over := d.failovers(); !same(open, wantOpen) || !same(over, wantOver) {
		d.t.Errorf("%s: open are %q, want %q; over are %q, want %q", when, open, wantOpen, over, wantOver)
	}
}

// told says how many mails of a subject there were.
func (d *desk) told(text string) (n int) {
	for _, m := range d.mail.all {
		if strings.Contains(m.Subject+m.Text, text) {
			n++
		}
	}
	return n
}

const leftText = "The writer answers and holds its lease"

// A failover that does not come to its own end is over when the alarms have said for some time
// that there is a writer, and whoever is to be told hears of the next one.
func TestAFailoverThatIsLeft(t *testing.T) {
	for _, state := range []string{"running", "failed"} {
		d := newDesk(t)
		d.turns("ALARM")
		d.journalled("R1", state, "a", "b", d.now)
		d.minutes(10)
		d.turns("OK")
		d.minutes(4)
		if open, over := d.failovers(); len(open) != 1 || len(over) != 0 {
			t.Errorf("%s, too early: %q, %q", state, open, over)
		}
		d.minutes(1)
		d.want(state, nil, []string{"failover-R1: " + leftText})
		d.minutes(30)
		if n := d.told(leftText); n != 1 {
			t.Errorf("%s: that it is over was told %d times", state, n)
		}
		d.now = d.now.Add(240 * time.Hour)
		d.turns("ALARM")
		d.journalled("R2", "running", "a", "c", d.now)
		d.minutes(1)
		d.want("the next", []string{"failover-R2: a has been confirmed gone"}, []string{"failover-R1: "})
		if n := d.told("c takes the place of the writer a"); n == 0 {
			t.Errorf("%s: the next failover is told to nobody", state)
		}
		d.journalled("R2", "done", "a", "c", d.now)
		d.minutes(2)
		d.turns("OK") // alarms come late
		d.minutes(10)
		d.want("the next has ended", nil, []string{"failover-R1: ", "failover-R2: c is the writer"})
		if n := d.told("c is the writer, of epoch 7"); n != 1 {
			t.Errorf("%s: how it ended was told %d times", state, n)
		}
	}
}

// A handover begins while all is well: how it was before says nothing of it.
func TestAHandoverIsNotLeftAtOnce(t *testing.T) {
	d := newDesk(t)
	d.minutes(60)
	d.journalled("R1", "running", "a", "b", d.now)
	d.minutes(4)
	d.want("it goes on", []string{"failover-R1: "}, nil)
	d.minutes(1)
	d.want("it does not", nil, []string{"failover-R1: " + leftText})
}

// While one of the alarms that tell of a writer rings, is not known, or is not there, nothing
// says that there is one: the incident stays, and tells of the run that comes next.
func TestAFailoverIsOpenUntilThereIsAWriter(t *testing.T) {
	for _, name := range []string{alarms.InstanceSilent, "/ready", "oc_lease_remaining_ms", "oc_replication_leader_connected"} {
		for _, state := range []string{"ALARM", "INSUFFICIENT_DATA", ""} {
			d := newDesk(t)
			d.journalled("R1", "running", "a", "b", d.now)
			d.ill[name] = cwalarms.Alarm{State: state, Since: d.now}
			d.minutes(60)
			d.want(name+" "+state, []string{"failover-R1: "}, nil)
			d.journalled("R2", "running", "b", "c", d.now)
			d.minutes(2)
			d.want(name+" "+state, []string{"failover-R1: Another failover has begun since: c takes the place of b."}, nil)
			if n := d.told("Another failover has begun"); n != 1 {
				t.Errorf("%s %s: told %d times", name, state, n)
			}
			d.ill[name] = cwalarms.Alarm{State: "OK", Since: d.now}
			d.minutes(4)
			d.want("too early", []string{"failover-R1: "}, nil)
			d.minutes(1)
			d.want("there is one", nil, []string{"failover-R1: " + leftText})
			d.minutes(5)
			d.want("nothing is told again", nil, []string{"failover-R1: " + leftText})
		}
	}
}

// The next failover may go on with the run that was left, however old that is: when it has
// come to its end, and the writer was silent anew, it is told. What ends a little after its
// incident is not.
func TestAFailoverThatIsLeftAndGoneOnWith(t *testing.T) {
	for _, silent := range []bool{false, true} {
		d := newDesk(t)
		began := d.now
		d.turns("ALARM")
		d.journalled("R1", "running", "a", "b", began)
		d.minutes(1)
		d.turns("OK")
		d.minutes(6)
		d.want("left", nil, []string{"failover-R1: " + leftText})
		want := []string{"failover-R1: " + leftText}
		if silent {
			d.now = d.now.Add(240 * time.Hour)
			d.turns("ALARM")
			d.minutes(3)
			d.turns("OK")
			want = append(want, "failover-R1-again: b is the writer, of epoch 7.")
		}
		d.journalled("R1", "done", "a", "b", began)
		if !silent { // an alarm that is not known has not changed
			d.state = ""
			d.minutes(1)
			d.state = "OK"
		}
		d.minutes(10)
		d.want("done", nil, want)
		if n := d.told("b is the writer"); n != len(want)-1 {
			t.Errorf("silent %t: told %d times", silent, n)
		}
		if n := strings.Count(d.log.String(), `msg="an incident was opened" from=a incident=failover-R1-again`); n != len(want)-1 {
			t.Errorf("silent %t: opened %d times:\n%s", silent, n, d.log.String())
		}
	}
}
