package notify

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	registered "originchain/lambdas/documents"
	"originchain/lambdas/outcome"
	"originchain/shared/alarms"
	"originchain/shared/aws/cwalarms"
	"originchain/shared/incident"
	"originchain/shared/notice"
	"originchain/shared/registry"
)

// sent keeps mail, also of those that are under way at the same time.
type sent struct {
	mu  sync.Mutex
	all []notice.Message
}

func (s *sent) Send(_ context.Context, m notice.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, m)
	return nil
}

// desk is the function with an instance whose alarms stand as a test says.
type desk struct {
	*Handler
	t     *testing.T
	mail  *sent
	state string
	since time.Time
	fail  error
	now   time.Time
	store *incident.Store
	// reg has the journal of failovers; ill are alarms that do not stand well, by name.
	reg registry.Store
	ill map[string]cwalarms.Alarm
	log strings.Builder
	// book is of acme; elsewhere are alarms of other instances, by the prefix of their names.
	book      *Book
	elsewhere map[string][]cwalarms.Alarm
}

func newDesk(t *testing.T) *desk {
	d := &desk{t: t, mail: &sent{}, state: "OK", now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), reg: registry.NewMemory(), ill: map[string]cwalarms.Alarm{}}
	d.since = d.now
	log := logrus.New()
	log.SetOutput(&d.log)
	docs := registered.Of(registry.NewMemory())
	d.store = incident.NewStore(docs, incident.Fixed{{ID: "ops", Email: "ops@acme.example", UpTo: alarms.Drift}}, func() time.Time { return d.now }, func() float64 { return 0 })
	d.book = &Book{Incidents: d.store, Registry: d.reg, Instance: "acme", Now: func() time.Time { return d.now }, Alarms: d.alarms}
	d.Handler = NewHandler(HandlerDeps{Notifier: New(d.store, nil, d.mail, log), Keep: d.book.Keep(log), Account: "123456789012", Region: "eu-central-1", Log: log})
	return d
}

// alarms are all of the table, well for a year where the test says nothing of them.
func (d *desk) alarms(_ context.Context, prefix string) (out []cwalarms.Alarm, err error) {
	if prefix != "acme-" {
		return d.elsewhere[prefix], d.fail
	}
	for _, c := range alarms.ForCloudWatch(alarms.Table()) {
		a := cwalarms.Alarm{Name: c.Of("acme", "acme-a"), State: "OK", Since: d.now.AddDate(-1, 0, 0)}
		if c.Alarm == alarms.InstanceSilent {
			a.State, a.Since = d.state, d.since
		}
		if ill, ok := d.ill[c.Alarm]; ok {
			a.State, a.Since = ill.State, ill.Since
		}
		if a.State != "" {
			out = append(out, a)
		}
	}
	return out, d.fail
}

func (d *desk) call(file string) Answer {
	d.t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		d.t.Fatal(err)
	}
	a, err := d.Handle(d.t.Context(), raw)
	if err != nil {
		d.t.Fatalf("%s: %v", file, err)
	}
	return a
}

// A queue's batch is read message by message: one that says nothing is given back, alone.
func TestABatch(t *testing.T) {
	d := newDesk(t)
	d.state = "ALARM"
	a := d.call("sqs-batch.json")
	if diff := cmp.Diff([]ItemFailure{{"19dd0b57-b21e-4ac1-bd88-01bbb068cb99"}}, a.BatchItemFailures); diff != "" || a.Delivered != 1 || len(d.mail.all) != 1 || !strings.Contains(d.mail.all[0].Text, "heartbeat") {
		t.Errorf("%+v, %+v %s", a, d.mail.all, diff)
	}
	if a = d.call("sqs-batch.json"); a.Delivered != 0 || len(d.mail.all) != 1 {
		t.Errorf("told again: %+v", a)
	}
	// Where incidents cannot be kept, all are given back.
	d.fail = errors.New("away")
	if a = d.call("sqs-batch.json"); len(a.BatchItemFailures) != 3 {
		t.Errorf("%+v", a)
	}
}

// The schedule ends what is over, although no message came.
func TestTheSchedule(t *testing.T) {
	d := newDesk(t)
	d.state = "ALARM"
	d.call("schedule.json")
	d.state, d.since = "OK", d.now
	d.now = d.now.Add(10 * time.Second)
	d.call("schedule.json")
	if len(d.mail.all) != 1 {
		t.Fatalf("%d were told", len(d.mail.all))
	}
	d.now = d.now.Add(time.Minute)
	d.call("schedule.json")
	if len(d.mail.all) != 2 || !strings.Contains(d.mail.all[1].Subject, "resolved") {
		t.Errorf("%+v", d.mail.all)
	}
}

func TestAStateMachineSays(t *testing.T) {
	d := newDesk(t)
	d.call("say.json")
	if len(d.mail.all) != 1 || !strings.Contains(d.mail.all[0].Text, "does not go on by itself") {
		t.Errorf("%+v", d.mail.all)
	}
	d.deps.Keep = nil
	if _, err := d.Handle(t.Context(), []byte(`{"say":{"text":"x"}}`)); outcome.Of(err) != outcome.Input || err == nil {
		t.Errorf("a function that keeps no incidents took a word: %v", err)
	}
}

func TestACallByNobody(t *testing.T) {
	d := newDesk(t)
	for _, raw := range []string{"", "[]", "{}", `{"source":"aws.s3"}`, `{"Records":[{"eventSource":"aws:s3","messageId":"m"}]}`, `{"Records":[{"eventSource":"aws:sqs"}]}`} {
		if a, err := d.Handle(t.Context(), []byte(raw)); err == nil || outcome.Of(err) != outcome.Input {
			t.Errorf("%q: %+v, %v", raw, a, err)
		}
	}
}

// An alarm fires, and a deployment has it no more: its incident ends, and says so. While how
// alarms stand is not known nothing of the kind is.
func TestAnAlarmThatIsNotDeployedAnyMore(t *testing.T) {
	d := newDesk(t)
	d.state, d.since = "ALARM", d.now
	d.call("schedule.json")
	ids, err := d.store.Active(t.Context())
	if err != nil || len(ids) != 1 {
		t.Fatal(ids, err)
	}
	d.state = ""
	over := func() bool {
		i, _, err := d.store.Get(t.Context(), ids[0])
		if err != nil {
			t.Fatal(err)
		}
		return i.Resolved != nil && strings.Contains(i.Updates[len(i.Updates)-1].Text, "not watched any more")
	}
	d.now = d.now.Add(time.Minute)
	d.call("schedule.json")
	if over() {
		t.Error("it may be made anew by the deployment that is on its way")
	}
	d.now, d.fail = d.now.Add(time.Hour), errors.New("AccessDenied")
	_, _ = d.Handle(t.Context(), []byte(`{"source":"aws.scheduler"}`))
	if over() {
		t.Error("nobody knows how alarms stand")
	}
	d.fail = nil
	d.call("schedule.json")
	if !over() {
		t.Error("it never ends")
	}
}
