package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/lambdas/documents"
	"originchain/shared/alarms"
	"originchain/shared/failover"
	"originchain/shared/incident"
	"originchain/shared/registry"
)

// flaky is a registry whose writes fail while it is away.
type flaky struct {
	registry.Store
	away bool
}

func (f *flaky) Save(ctx context.Context, key string, expect uint64, b []byte) (registry.Document, error) {
	if f.away {
		return registry.Document{}, errors.New("away")
	}
	return f.Store.Save(ctx, key, expect, b)
}

// book is a ledger over a registry that outlives it.
type book struct {
	*Ledger
	t   *testing.T
	reg *flaky
	at  time.Time
	// of the next restart
	instance string
	overFor  func(alarm, node string) time.Duration
}

func newBook(t *testing.T) *book {
	b := &book{t: t, reg: &flaky{Store: registry.NewMemory()}, at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	b.restart()
	return b
}

// restart is another oc-control, after a kill.
func (b *book) restart() {
	b.t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	store := incident.NewStore(documents.Of(b.reg), incident.Fixed{{ID: "hook", Webhook: "https://h.example", Secret: "0123456789abcdef", UpTo: alarms.Drift}}, func() time.Time { return b.at }, func() float64 { return 0 })
	b.Ledger = New(Deps{Incidents: store, Registry: b.reg, Log: log, Now: func() time.Time { return b.at }, Instance: b.instance, OverFor: b.overFor})
	if err := b.Load(b.t.Context(), true); err != nil {
		b.t.Fatal(err)
	}
}

// rounds has rounds once a second while an alarm stands so.
func (b *book) rounds(d time.Duration, s alarms.State) {
	for end := b.at.Add(d); b.at.Before(end); b.at = b.at.Add(time.Second) {
		var all []alarms.Status
		if s != "" {
			all = []alarms.Status{{Alarm: alarms.InstanceSilent, Node: "node-2", Severity: alarms.TenantDown, State: s, Summary: "A node has sent no heartbeat.", Runbook: "#x", Value: 4}}
		}
		_ = b.Round(b.t.Context(), all, true) // what it could not do shows
	}
}

// incidents are all there are, each with the texts of its updates.
func (b *book) incidents() (out []string) {
	b.t.Helper()
	ids, err := b.store.Active(b.t.Context())
	if err != nil {
		b.t.Fatal(err)
	}
	for _, id := range ids {
		i, ok, err := b.store.Get(b.t.Context(), id)
		if err != nil {
			b.t.Fatal(err)
		}
		if !ok {
			continue
		}
		if len(i.Owed) != len(i.Updates) {
			b.t.Errorf("%s owes %d deliveries of %d updates", id, len(i.Owed), len(i.Updates))
		}
		line := fmt.Sprintf("severity %d, %d updates", i.Severity, len(i.Updates))
		if i.Resolved != nil {
			line += ", over: " + i.Updates[len(i.Updates)-1].Text
		}
		out = append(out, line)
	}
	return out
}

func (b *book) want(want ...string) {
	b.t.Helper()
	got := b.incidents()
	ok := len(got) == len(want)
	for i := range want {
		ok = ok && strings.HasPrefix(got[i], want[i])
	}
	if !ok {
		b.t.Errorf("the incidents are %q, want %q", got, want)
	}
}

// An alarm that fires, comes and goes, and is over is one incident of two updates,
// wherever oc-control is killed.
func TestAnAlarmIsAnIncident(t *testing.T) {
	for _, killed := range []bool{false, true} {
		b := newBook(t)
		step := func(d time.Duration, s alarms.State) {
			b.rounds(d, s)
			if killed {
				b.restart()
			}
		}
		step(time.Minute, alarms.OK)
		step(time.Minute, alarms.Pending)
		b.want()
		step(3*time.Second, alarms.Firing)
		b.want("severity 1, 1 updates")
		step(calmFor/2, alarms.Resolved)
		step(3*time.Second, alarms.Firing)
		step(calmFor/2, alarms.Resolved)
		step(time.Second, alarms.Pending)
		b.want("severity 1, 1 updates")
		step(calmFor+2*time.Second, alarms.Resolved)
		b.want("severity 1, 2 updates, over: oc-controlplane-instance-silent of node-2 is as it should be")
		step(time.Second, alarms.Firing)
		b.want("severity 1, 2 updates, over", "severity 1, 1 updates")
	}
}

// What began while the registry was away is told when it is back, also if it is over by
// then.
func TestAnAlarmWhileTheRegistryIsAway(t *testing.T) {
	b := newBook(t)
	b.reg.away = true
	b.rounds(5*time.Second, alarms.Firing)
	b.rounds(time.Minute, alarms.Resolved)
	b.want()
	b.reg.away = false
	b.rounds(calmFor+2*time.Second, alarms.Resolved)
	b.want("severity 1, 2 updates, over")
}

// An alarm that the next control plane has no reading of ends, in the end.
func TestAnAlarmThatIsNotSeenAgain(t *testing.T) {
	b := newBook(t)
	b.rounds(time.Second, alarms.Firing)
	b.restart()
	b.rounds(unseenFor, alarms.NoData)
	b.want("severity 1, 1 updates")
	b.rounds(2*time.Second, alarms.NoData)
	b.want("severity 1, 2 updates, over: There has been no reading")
}

// journalled is the journal of failovers, as its JSON is.
func (b *book) journalled(run, state, to string, planned bool) {
	b.t.Helper()
	b.put("failover", map[string]any{"run": run, "state": state, "from": "node-1", "to": to, "epoch": 7, "planned": planned, "started_at": b.at, "error": "it is not fit"})
}

func (b *book) put(key string, v any) {
	b.t.Helper()
	doc, err := b.reg.Load(b.t.Context(), key)
	if err != nil {
		b.t.Fatal(err)
	}
	body, err := json.Marshal(v)
	if err == nil {
		_, err = b.reg.Save(b.t.Context(), key, doc.Version, body)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func TestAFailoverIsAnIncident(t *testing.T) {
	for _, killed := range []bool{false, true} {
		b := newBook(t)
		step := func() {
			b.rounds(2*time.Second, "")
			if killed {
				b.restart()
			}
		}
		step()
		b.want()
		b.journalled("R1", "running", "node-2", false)
		step()
		b.want("severity 1, 1 updates")
		b.journalled("R1", "failed", "node-2", false)
		step()
		step()
		b.want("severity 1, 2 updates")
		b.journalled("R2", "running", "node-3", false)
		step()
		b.put("last_failover", map[string]any{"run": "R2", "pause_seconds": 0.5, "lost_from": 5, "lost_to": 6, "from": "node-1"})
		b.journalled("R2", "done", "node-3", false)
		step()
		step()
		b.want("severity 1, 3 updates, over: node-3 is the writer, of epoch 7. From fence to ready it took 0.50 s. LSN 5 to 6")
		// One that was over before anybody looked, and one that was planned.
		b.journalled("R3", "done", "node-2", false)
		step()
		b.journalled("R4", "done", "node-3", true)
		step()
		b.want("severity 1, 3 updates", "severity 1, 2 updates, over", "severity 3, 2 updates, over")
	}
}

// A failover that nobody goes on with ends when a node has been writing for long.
func TestAFailoverThatIsLeft(t *testing.T) {
	b := newBook(t)
	b.journalled("R1", "running", "node-2", false)
	_ = b.Round(t.Context(), nil, false)
	b.rounds(writtenFor, "")
	b.want("severity 1, 1 updates")
	b.rounds(2*time.Second, "")
	b.want("severity 1, 2 updates, over: A node writes")
	b.at = b.at.Add(48 * time.Hour)
	b.journalled("R2", "done", "node-2", false)
	b.at = b.at.Add(48 * time.Hour)
	b.restart()
	b.rounds(2*time.Second, "")
	b.want("severity 1, 2 updates, over: A node writes") // what is history is not told
}

// A writer that dies while a planned switchover is an incident is one of its own: of that
// severity everybody is told, and of a switchover hardly anybody.
func TestAFaultIsNotHiddenByASwitchover(t *testing.T) {
	for _, killed := range []bool{false, true} {
		for _, run := range []string{"R1", "R2"} {
			b := newBook(t)
			b.journalled("R1", "running", "node-2", true)
			b.rounds(2*time.Second, "")
			b.want("severity 3, 1 updates")
			if run != "R1" {
				b.journalled("R1", "failed", "node-2", true)
				b.rounds(2*time.Second, "")
				b.want("severity 3, 2 updates")
			}
			b.journalled(run, "running", "node-2", false)
			if killed { // between the two writes
				r, _, err := failover.Latest(t.Context(), b.reg)
				if err == nil {
					err = b.begun(t.Context(), &r)
				}
				if err != nil {
					t.Fatal(err)
				}
				b.restart()
			}
			b.rounds(2*time.Second, "")
			b.want("severity 3", "severity 1, 1 updates")
			if all := b.incidents(); len(all) == 2 && !strings.Contains(all[0], "over: ") {
				t.Errorf("the switchover is open still: %q", all)
			}
			b.journalled(run, "done", "node-2", false)
			b.rounds(2*time.Second, "")
			b.want("severity 3", "severity 1, 2 updates, over: node-2 is the writer")
		}
	}
}

// A failover whose incident was dropped for younger ones is not told again.
func TestAFailoverIsNotToldAgainForItsIncidentIsDropped(t *testing.T) {
	b := newBook(t)
	retire := func(id string) {
		t.Helper()
		for range 2 { // updates
			_, claimed, _, err := b.store.Claim(t.Context(), id)
			if err == nil && len(claimed) > 0 {
				_, err = b.store.Settle(t.Context(), id, claimed[0], nil, true)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if err := b.store.Retire(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	b.journalled("R1", "done", "node-2", false)
	b.rounds(2*time.Second, "")
	b.want("severity 1, 2 updates, over")
	retire(failoverPrefix + "R1")
	b.at = b.at.Add(time.Second)
	for n := range incident.MaxPast {
		o := incident.Opening{ID: fmt.Sprint("x-", n), Severity: alarms.Drift, Title: "x", Text: "x"}
		_, err := b.store.Open(t.Context(), o)
		if err == nil {
			_, err = b.store.Resolve(t.Context(), o.ID, "over", "Over.")
		}
		if err != nil {
			t.Fatal(err)
		}
		retire(o.ID)
	}
	b.restart()
	b.rounds(2*time.Second, "")
	b.want()
}

// A ledger of one call goes by how long somebody else has seen the alarm not to fire.
func TestACallOfItsOwn(t *testing.T) {
	b := newBook(t)
	over := time.Duration(0)
	b.overFor = func(string, string) time.Duration { return over }
	call := func(s alarms.State) {
		t.Helper()
		b.restart()
		b.rounds(time.Second, s)
	}
	call(alarms.Firing)
	call(alarms.Firing)
	b.want("severity 1, 1 updates")
	over = calmFor - time.Second
	call(alarms.OK)
	b.want("severity 1, 1 updates")
	over = calmFor
	call(alarms.OK)
	call(alarms.OK)
	b.want("severity 1, 2 updates, over")
}

// Instances that share a store have incidents of their own, also where alarm and moment are
// the same.
func TestInstancesShareAStore(t *testing.T) {
	b := newBook(t)
	for _, b.instance = range []string{"one", "two", ""} {
		at := b.at
		b.restart()
		b.rounds(time.Second, alarms.Firing)
		b.at = at
	}
	b.want("severity 1, 1 updates", "severity 1, 1 updates", "severity 1, 1 updates")
	b.journalled("R1", "done", "node-2", false)
	for _, b.instance = range []string{"one", "two", "two"} {
		b.restart()
		b.rounds(2*time.Second, "")
	}
	// Each tells of its own journal, which is one here: what the other has told is no word of its.
	if got := b.incidents(); len(got) != 4 {
		t.Errorf("%q", got)
	}
	b.instance = "two"
	b.restart()
	b.rounds(calmFor+2*time.Second, alarms.OK)
	over := 0
	for _, i := range b.incidents() {
		if strings.Contains(i, "as it should be again") {
			over++
		}
	}
	if over != 1 {
		t.Errorf("%d alarms are over, want that of one instance", over)
	}
}
