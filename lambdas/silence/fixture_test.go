package silence

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/lambdas/alarmevent"
	"originchain/lambdas/instancetest"
	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/shared/registry"
)

const arn = "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:acme-oc-controlplane-instance-silent"

// fixture is an instance with its function.
type fixture struct {
	*instancetest.Instance
	t   *testing.T
	reg *away
	now time.Time
	h   *Handler
	// told is what an execution has called a person with, last the call before.
	told map[string]int
	last []byte
}

// away is a registry that cannot be written while it is away.
type away struct {
	registry.Store
	away bool
}

func (a *away) Save(ctx context.Context, key string, expect uint64, b []byte) (registry.Document, error) {
	if a.away {
		return registry.Document{}, errors.New("away")
	}
	return a.Store.Save(ctx, key, expect, b)
}

func newFixture(t *testing.T) *fixture {
	reg := &away{Store: registry.NewMemory()}
	f := &fixture{t: t, reg: reg, Instance: instancetest.New(t, lease.NewMemory(lease.Hooks{}), reg, 2), now: time.Date(2026, 3, 1, 12, 0, 5, 0, time.UTC)}
	log := logrus.New()
	log.SetOutput(io.Discard)
	f.h = NewHandler(Config{Instance: "acme", Zone: instancetest.Zone, AlarmARN: arn}, EventDeps{Failover: f.Deps(), Log: log, Now: func() time.Time { return f.now }})
	return f
}

func recorded(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// written is an approval as its file has it; null where nobody has answered.
func written(t testing.TB, p *Approval) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// call calls as the state machine does, which keeps what it has called a person with.
func (f *fixture) call(kind, execution string, round int, approval string) (Answer, error) {
	f.t.Helper()
	what := []byte(`{"watch": true}`)
	if kind == event {
		what = recorded(f.t, "eventbridge-alarm.json")
	}
	told := "null"
	if n, ok := f.told[execution]; ok {
		told = fmt.Sprint(n)
	}
	f.last = fmt.Appendf(nil, `{"event": %s, "execution": %q, "round": %d, "told": %s, "approval": %s}`, what, execution, round, told, approval)
	return f.send(execution)
}

// send makes the last call; anew, if its answer was lost, which has called nobody then.
func (f *fixture) send(execution string) (Answer, error) {
	f.t.Helper()
	a, err := f.h.Handle(f.t.Context(), f.last)
	if err == nil && called(a.Verdict) {
		if f.told == nil {
			f.told = make(map[string]int)
		}
		f.told[execution] = a.Noes
	}
	return a, err
}

// ask calls for an event.
func (f *fixture) ask(execution string, round int, approval *Approval) (Answer, error) {
	f.t.Helper()
	return f.call(event, execution, round, string(written(f.t, approval)))
}

func (f *fixture) wants(a Answer, err error, v Verdict, c failover.Code) {
	f.t.Helper()
	codes := []failover.Code{}
	for _, r := range a.Reasons {
		codes = append(codes, r.Code)
	}
	if err != nil || a.Verdict != v || c != "" && !strings.Contains(fmt.Sprint(codes), string(c)) {
		f.t.Errorf("the answer is %+v, %v; want %s for %s", a, err, v, c)
	}
}

// quick asks with an observer that has just begun, whose verdict is the first.
func (f *fixture) quick(execution string, round int) (Answer, error) {
	f.t.Helper()
	f.h.patience = time.Nanosecond
	return f.ask(execution, round, nil)
}

// changed is when the recorded event's alarm went off.
func changed() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 314e6, time.UTC) }

// alarm has the alarm stand so from then on, whoever asks.
func (f *fixture) alarm(state alarmevent.State, since time.Time) {
	f.h.deps.Alarm = func(_ context.Context, name string) (alarmevent.State, time.Time, error) {
		if name != "acme-oc-controlplane-instance-silent" {
			return "", time.Time{}, errors.New("whose alarm is " + name + "?")
		}
		return state, since, nil
	}
}

// watch calls for what the schedule has started.
func (f *fixture) watch(execution string, round int, approval *Approval) (Answer, error) {
	f.t.Helper()
	return f.call(watch, execution, round, string(written(f.t, approval)))
}

func (f *fixture) register() Register {
	f.t.Helper()
	r, err := Events(f.t.Context(), f.Registry)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// killAll kills every node.
func (f *fixture) killAll() {
	for _, id := range []string{"acme-a", "acme-b", "acme-c"} {
		f.Kill(id)
	}
}

// nobodyIsEntitled kills the writer while each follower lacks some of what it acknowledged:
// acme-b 10, acme-c 20.
func (f *fixture) nobodyIsEntitled() {
	for id, by := range map[string]uint64{"acme-b": 10, "acme-c": 20} {
		f.Alone(id)
		f.Behind(id, by)
	}
	f.Kill("acme-a")
}

// begunToC has somebody else begin a failover to acme-c.
func (f *fixture) begunToC() failover.Report {
	f.t.Helper()
	begun, err := failover.Begin(f.t.Context(), f.Deps(), failover.Request{To: "acme-c", Allow: failover.Overrides{AllowLag: failover.DefaultAllowLag}}, nil)
	if err != nil {
		f.t.Fatal(err)
	}
	return begun
}

// carryOut carries steps of a failover out.
func (f *fixture) carryOut(run string, steps ...string) {
	f.t.Helper()
	for _, step := range steps {
		if _, err := failover.Continue(f.t.Context(), f.Deps(), failover.Next{Run: run, Step: step, Zone: instancetest.Zone}, nil); err != nil {
			f.t.Fatal(err)
		}
	}
}

// finish carries the steps out that the state machine has carried out behind the function.
func (f *fixture) finish(run string) {
	f.t.Helper()
	f.carryOut(run, failover.StepNames()[1:]...)
}

// held has the watch w1 find the writer dead, and the failover that it begins stop the
// writer's server, and no more.
func (f *fixture) held() Answer {
	f.t.Helper()
	f.now = time.Now()
	f.Kill("acme-a")
	f.alarm(alarmevent.Alarm, f.now)
	a, err := f.watch("w1", 0, nil)
	f.wants(a, err, Verdict(failover.Promote), "")
	if a.Held != "" {
		f.t.Errorf("%+v", a)
	}
	f.carryOut(a.Run, "fence")
	return a
}

// forget has the register forget all.
func (f *fixture) forget() {
	f.t.Helper()
	doc, err := f.Registry.Load(f.t.Context(), registerKey)
	if err == nil {
		err = f.Registry.Delete(f.t.Context(), registerKey, doc.Version)
	}
	if err != nil {
		f.t.Fatal(err)
	}
}
