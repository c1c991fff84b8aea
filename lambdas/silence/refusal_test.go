package silence

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"originchain/lambdas/alarmevent"
	"originchain/shared/failover"
	"originchain/shared/registry"
)

// refuses has a person whom an execution has called say no.
func (f *fixture) refuses(execution, by string) {
	f.t.Helper()
	a, err := f.ask(execution, 0, &Approval{By: by})
	f.wants(a, err, Ignored, NobodyApproved)
}

// tells says whether an answer names who has refused.
func tells(a Answer, who string) bool {
	return strings.Contains(fmt.Sprint(a.Reasons), who+" has refused to have the writer replaced")
}

// disagreed has jo of execution one and kim of execution two called, and kim say no.
func disagreed(t *testing.T) (*fixture, Answer) {
	f := guarded(t)
	page := f.page()
	f.now = f.now.Add(time.Minute)
	f.has("two", failover.Page)
	f.refuses("two", "kim")
	return f, page
}

// Whatever a person answers who was not told of another's no, be it nothing that can be read or
// void anyway: it stands, the person is called again and told of it, and approves then, or not.
func TestWhoIsCalledAgainIsToldOfANo(t *testing.T) {
	for name, first := range map[string]func(page Answer) string{
		"cannot be read": func(Answer) string { return `"yes"` },
		"approves":       func(page Answer) string { return string(written(t, of(page))) },
		"approves what is not so": func(page Answer) string {
			page.Epoch++
			return string(written(t, of(page)))
		},
	} {
		f, page := disagreed(t)
		for range 2 { // whoever is called for the second time may be another than before
			a, err := f.answers(event, "one", first(page))
			f.wants(a, err, Verdict(failover.Page), ApprovalVoid)
			if r := f.register(); !tells(a, "kim") || a.Run != "" || r.No == nil || r.No.By != "kim" {
				t.Errorf("%s: told %+v; %+v", name, a, r)
			}
			if name == "approves" {
				break // who has been told is heard
			}
		}
		a, err := f.ask("one", 0, of(page))
		f.wants(a, err, Verdict(failover.Promote), failover.OverriddenGuard)
		if r := f.register(); r.No != nil || r.Noes != 1 || r.Handled[0].ApprovedBy != "jo" {
			t.Errorf("%s: %+v", name, r)
		}
	}
}

// Where the answer of the function is lost nobody was called: what the person has answered who was
// called before is not carried out, however often that is asked anew. Only the word of who was
// called with the no in it is.
func TestACallMadeAnewTellsOfANo(t *testing.T) {
	for _, kind := range []string{event, watch} {
		f, page := disagreed(t)
		a, err := f.answers(kind, "one", string(written(t, of(page))))
		for range 3 {
			f.wants(a, err, Verdict(failover.Page), ApprovalVoid)
			if r := f.register(); !tells(a, "kim") || a.Run != "" || r.No == nil {
				t.Errorf("%s: %+v; %+v", kind, a, r)
			}
			a, err = f.send("one")
		}
		f.begun(false)
		a, err = f.answers(kind, "one", string(written(t, of(page))))
		f.wants(a, err, Verdict(failover.Promote), failover.OverriddenGuard)
	}
}

// Each is told who approves; who was told once need not be again because others were since, but
// of another no.
func TestEachIsToldOfANo(t *testing.T) {
	f, page := disagreed(t)
	for _, execution := range []string{"one", "three"} {
		a, err := f.ask(execution, 0, of(page))
		f.wants(a, err, Verdict(failover.Page), ApprovalVoid)
		if !tells(a, "kim") {
			t.Errorf("%s: %+v", execution, a)
		}
	}
	f.refuses("four", "max")
	a, err := f.ask("one", 0, of(page))
	f.wants(a, err, Verdict(failover.Page), ApprovalVoid)
	if !tells(a, "max") {
		t.Errorf("%+v", a)
	}
	a, err = f.ask("three", 0, of(page))
	f.wants(a, err, Verdict(failover.Page), ApprovalVoid)
	a, err = f.ask("one", 0, of(page))
	f.wants(a, err, Verdict(failover.Promote), failover.OverriddenGuard)
}

// open has the writer dead and somebody called for it by execution one, and nothing in the way
// of a failover from then on.
func open(t *testing.T) (*fixture, Answer) {
	f := newFixture(t)
	f.Kill("acme-a")
	f.alarm(alarmevent.Alarm, changed())
	f.change(func(r *Register) {
		for i := range MaxFailovers {
			r.Started = append(r.Started, Start{Run: fmt.Sprint("r", i), At: f.now})
		}
	})
	page, err := f.ask("one", 0, nil)
	f.wants(page, err, Verdict(failover.Page), Flapping)
	f.change(func(r *Register) { r.Started = nil })
	f.now = f.now.Add(abandonedAfter)
	return f, page
}

// No answer is no approval: where somebody has refused, nothing is begun by it, though nothing
// but the no is in the way, and who was called is called again.
func TestNoAnswerAfterANo(t *testing.T) {
	f, page := open(t)
	f.refuses("two", "kim")
	for _, text := range []string{string(written(t, of(page))), "null"} {
		a, err := f.answers(event, "one", text)
		f.wants(a, err, Verdict(failover.Page), ApprovalVoid)
		none := text == "null" && strings.Contains(fmt.Sprint(a.Reasons), "it is void")
		if r := f.register(); !tells(a, "kim") || none || a.Run != "" || r.No == nil {
			t.Errorf("%s: %+v; %+v", text, a, r)
		}
	}
	f.begun(false)
	a, err := f.ask("one", 0, of(page))
	f.wants(a, err, Verdict(failover.Promote), failover.WriterStopped)
}

// begun checks whether a failover was begun, and that none has done anything.
func (f *fixture) begun(want bool) {
	f.t.Helper()
	run, got, err := failover.Latest(f.t.Context(), f.Registry)
	if err != nil || got != want || strings.Contains(fmt.Sprint(f.Calls()), "stop") {
		f.t.Errorf("begun: %t, want %t: %+v, %v; %v", got, want, run, err, f.Calls())
	}
}

// moment is when a person says no while somebody looks: as a document of the registry is read
// or written for the n-th time.
type moment struct {
	op, key string
	n       int64
}

// moments are those before failover.Begin is called, while that watches the writer, when it
// notes that it has begun, and when the answer is noted: the later two are too late to keep it
// from that.
func moments() []moment {
	return []moment{{"read", "failover", 1}, {"read", "failover", 3}, {"write", "failover", 1}, {"write", registerKey, 2}}
}

func (m moment) late() bool { return m.op == "write" }

// interrupted is a registry at which something happens at a moment, once.
type interrupted struct {
	registry.Store
	at   moment
	had  atomic.Int64
	done atomic.Bool
	do   func()
}

func (i *interrupted) now(op, key string) {
	if i.at.op == op && i.at.key == key && i.had.Add(1) == i.at.n {
		i.do()
		i.done.Store(true)
	}
}

func (i *interrupted) Load(ctx context.Context, key string) (registry.Document, error) {
	i.now("read", key)
	return i.Store.Load(ctx, key)
}

func (i *interrupted) Save(ctx context.Context, key string, expect uint64, body []byte) (registry.Document, error) {
	i.now("write", key)
	return i.Store.Save(ctx, key, expect, body)
}

// when has something happen at a moment of the next call.
func (f *fixture) when(at moment, do func()) (happened func() bool) {
	i := &interrupted{Store: f.Registry, at: at, do: do}
	f.h.deps.Failover.Registry = i
	return func() bool {
		f.h.deps.Failover.Registry = f.Registry
		return i.done.Load()
	}
}

// A no that comes while an event or a watch is looked at is not lost: no failover begins after
// it, one that has begun is not gone on with, and none begins later.
func TestANoWhileSomebodyLooks(t *testing.T) {
	for _, at := range moments() {
		for _, kind := range []string{event, watch} {
			f, _ := open(t)
			happened := f.when(at, func() { f.refuses("one", "kim") })
			a, err := f.first(kind, "late")
			f.wants(a, err, Ignored, NobodyApproved)
			if !happened() || a.Run != "" || a.Held != "" || !tells(a, "kim") {
				t.Errorf("%s %v: %+v", kind, at, a)
			}
			f.begun(at.late())
			r := f.register()
			if e := r.Handled[0]; len(r.Handled) != 1 || !e.Rejected || e.Execution != "one" || e.ApprovedBy != "kim" || len(r.Started) != 0 || len(r.Looking) != 0 {
				t.Errorf("%s %v: %+v", kind, at, r)
			}
			if audited := kind == event; audited != (len(r.Ignored) == 1) {
				t.Errorf("%s %v: %+v", kind, at, r.Ignored)
			}
			for _, wait := range []time.Duration{time.Minute, ApprovalLasts} {
				f.now = f.now.Add(wait)
				a, err = f.watch("w"+wait.String(), 0, nil)
				f.wants(a, err, Ignored, NobodyApproved)
			}
			f.begun(at.late())
		}
	}
}

// A person who approves while another says no is told of that, and asked again.
func TestANoWhileAnApprovalIsLookedAt(t *testing.T) {
	for _, at := range moments() {
		f, page := open(t)
		f.has("two", failover.Page)
		happened := f.when(at, func() { f.refuses("two", "kim") })
		a, err := f.ask("one", 0, of(page))
		f.wants(a, err, Verdict(failover.Wait), UnderWay)
		if r := f.register(); !happened() || a.Round != 1 || a.AfterSeconds < 1 || a.Run != "" || len(r.Started) != 0 || len(r.Looking) != 0 {
			t.Errorf("%v: %+v; %+v", at, a, r)
		}
		a, err = f.ask("one", 1, of(page)) // as the state machine does after a wait
		f.wants(a, err, Verdict(failover.Page), ApprovalVoid)
		if !tells(a, "kim") {
			t.Errorf("%v: %+v", at, a)
		}
		f.begun(at.late())
		a, err = f.ask("one", 0, of(page))
		f.wants(a, err, Verdict(failover.Promote), failover.WriterStopped)
		f.finish(a.Run)
		f.IsWriter("acme-b", 2)
	}
}

// What cannot be read is waited with as well, and a page that does not tell of the no is not sent.
func TestANoWhileWhatCannotBeReadIsLookedAt(t *testing.T) {
	f, _ := open(t)
	f.has("two", failover.Page)
	happened := f.when(moments()[0], func() { f.refuses("two", "kim") })
	a, err := f.answers(event, "one", `"yes"`)
	f.wants(a, err, Verdict(failover.Wait), UnderWay)
	a2, err := f.answers(event, "one", `"yes"`)
	f.wants(a2, err, Verdict(failover.Page), ApprovalVoid)
	if !happened() || !tells(a2, "kim") {
		t.Errorf("%+v", a2)
	}
}

// Who was called and has said nothing is called again where another has refused, before or in
// that moment, and told of it.
func TestNoAnswerAndANo(t *testing.T) {
	for _, kind := range []string{event, watch} {
		f := guarded(t)
		page, err := f.first(kind, "one")
		f.wants(page, err, Verdict(failover.Page), failover.NotEntitled)
		f.now = f.now.Add(time.Minute)
		f.has("two", failover.Page)
		f.refuses("two", "kim")
		a, err := f.answers(kind, "one", "null")
		f.wants(a, err, Verdict(failover.Page), NobodyApproved)
		if !tells(a, "kim") {
			t.Errorf("%s: %+v", kind, a)
		}
		a, err = f.answers(kind, "one", string(written(t, of(page))))
		f.wants(a, err, Verdict(failover.Promote), failover.OverriddenGuard)
	}
	f, _ := open(t)
	happened := f.when(moments()[0], func() { f.refuses("two", "kim") })
	a, err := f.answers(event, "one", "null")
	f.wants(a, err, Verdict(failover.Wait), UnderWay)
	a, err = f.call(event, "one", a.Round, "null")
	f.wants(a, err, Verdict(failover.Page), NobodyApproved)
	if !happened() || !tells(a, "kim") {
		t.Errorf("%+v", a)
	}
	f.begun(false)
}

// An execution whose failover is turned back finds the no that came meanwhile, and names what is
// held of it.
func TestWhatIsHeldWhereAFailoverIsTurnedBackToANo(t *testing.T) {
	f := newFixture(t)
	f.Kill("acme-a")
	f.alarm(alarmevent.Alarm, changed())
	a, err := f.ask("one", 0, nil)
	f.wants(a, err, Verdict(failover.Promote), failover.WriterStopped)
	run := a.Run
	a, err = f.answers(watch, "w9", `{"approve": false, "by": "kim"}`)
	f.wants(a, err, Ignored, NobodyApproved)
	f.carryOut(run, "fence")
	a, err = f.ask("one", 1, nil)
	f.wants(a, err, Ignored, NobodyApproved)
	if a.Held != run {
		t.Errorf("%+v, want %s", a, run)
	}
}

// Who knows of one no and approves does not know of the next, which comes meanwhile.
func TestASecondNoWhileAnApprovalIsLookedAt(t *testing.T) {
	for _, at := range moments() {
		f, page := open(t)
		f.refuses("two", "kim")
		a, err := f.ask("one", 0, of(page))
		f.wants(a, err, Verdict(failover.Page), ApprovalVoid)
		f.has("three", failover.Page)
		f.now = f.now.Add(time.Minute)
		happened := f.when(at, func() { f.refuses("three", "max") })
		a, err = f.ask("one", 0, of(page))
		f.wants(a, err, Verdict(failover.Wait), UnderWay)
		a, err = f.ask("one", 1, of(page))
		f.wants(a, err, Verdict(failover.Page), ApprovalVoid)
		if !happened() || !tells(a, "max") {
			t.Errorf("%v: %+v", at, a)
		}
		f.begun(at.late())
	}
}

// A no that finds no way into the register because that cannot be read keeps a failover from
// beginning as well: nobody knows.
func TestARegisterThatCannotBeReadWhenItBegins(t *testing.T) {
	f, _ := open(t)
	gone := &unreadable{Store: f.Registry}
	happened := f.when(moments()[1], func() { gone.away.Store(true) })
	f.h.deps.Failover.Registry.(*interrupted).Store = gone
	if a, err := f.watch("w1", 0, nil); err == nil || !happened() {
		t.Errorf("%+v", a)
	}
	f.begun(false)
}

// unreadable is a registry whose register cannot be read while it is away.
type unreadable struct {
	registry.Store
	away atomic.Bool
}

func (u *unreadable) Load(ctx context.Context, key string) (registry.Document, error) {
	if key == registerKey && u.away.Load() {
		return registry.Document{}, fmt.Errorf("%s is away", key)
	}
	return u.Store.Load(ctx, key)
}

// What a failover has stopped is let go where a person says no while it is confirmed anew, by
// its own execution or by a watch.
func TestWhatIsHeldAfterANoWhileSomebodyLooks(t *testing.T) {
	for execution, round := range map[string]int{"w1": 1, "w2": 0} {
		f := newFixture(t)
		run := f.held().Run
		f.now = f.now.Add(abandonedAfter)
		happened := f.when(moments()[0], func() {
			a, err := f.watch("w0", 0, &Approval{By: "kim"})
			f.wants(a, err, Ignored, NobodyApproved)
		})
		a, err := f.watch(execution, round, nil)
		f.wants(a, err, Ignored, NobodyApproved)
		if !happened() || a.Held != run || a.AgainSeconds < 1 || a.Run != "" {
			t.Errorf("%s: %+v, want %s", execution, a, run)
		}
	}
}

// An event and a watch tell of one change at times that are a little apart: it has one entry,
// which says what came of it last.
func TestAChangeHasOneEntry(t *testing.T) {
	f, _ := open(t)
	f.alarm(alarmevent.Alarm, changed().Add(40*time.Millisecond))
	a, err := f.watch("w1", 0, nil)
	f.wants(a, err, Verdict(failover.Promote), failover.WriterStopped)
	r := f.register()
	if e := r.Handled[0]; len(r.Handled) != 1 || e.Key != arn+"@20260301T120000.314Z" || e.Execution != "w1" || e.Run != a.Run || e.Executions != 2 {
		t.Errorf("%+v", r)
	}
	late, err := f.ask("late", 0, nil)
	f.wants(late, err, Ignored, Repeated)
}

// later has the alarm be over, and on again after some time.
func (f *fixture) later(by time.Duration) {
	f.now = f.now.Add(by)
	f.alarm(alarmevent.Alarm, f.now)
}

// A no is one to all that was asked before it, of whatever change of the alarm: who answers a page
// of an earlier change is told of it as well, and so is who answers one of a later change, where
// the no is the answer to an earlier one.
func TestANoOfAnotherChange(t *testing.T) {
	for _, kind := range []string{event, watch} {
		for name, order := range map[string][2]string{"of a later change": {"one", "w2"}, "of an earlier change": {"w2", "one"}} {
			f := guarded(t)
			page, err := f.first(kind, "one")
			f.wants(page, err, Verdict(failover.Page), failover.NotEntitled)
			f.later(10 * time.Minute)
			page, err = f.first(watch, "w2")
			f.wants(page, err, Verdict(failover.Page), failover.NotEntitled)
			kinds := map[string]string{"one": kind, "w2": watch}
			yes, no := order[0], order[1]
			a, err := f.answers(kinds[no], no, `{"approve": false, "by": "kim"}`)
			f.wants(a, err, Ignored, NobodyApproved)
			f.now = f.now.Add(time.Minute)
			for _, text := range []string{string(written(t, of(page))), `"yes"`} {
				a, err = f.answers(kinds[yes], yes, text)
				f.wants(a, err, Verdict(failover.Page), ApprovalVoid)
				if !tells(a, "kim") || a.Run != "" {
					t.Errorf("%s %s: %s: %+v", kind, name, text, a)
				}
			}
			f.begun(false)
			a, err = f.answers(kinds[yes], yes, string(written(t, of(page))))
			f.wants(a, err, Verdict(failover.Promote), failover.OverriddenGuard)
		}
	}
}

// A watch whose change another execution has taken over, and in which somebody has said no, is
// told so however the alarm stands by then; and what it cannot read is not passed over in silence.
func TestANoWhereAWatchWasOvertaken(t *testing.T) {
	for _, state := range []alarmevent.State{alarmevent.Alarm, alarmevent.OK, alarmevent.InsufficientData} {
		for _, text := range []string{"", `"yes"`, "null"} {
			f := guarded(t)
			page, err := f.watch("w1", 0, nil)
			f.wants(page, err, Verdict(failover.Page), failover.NotEntitled)
			f.now = f.now.Add(6 * time.Minute)
			late, err := f.ask("two", 0, nil)
			f.wants(late, err, Verdict(failover.Page), failover.NotEntitled)
			f.refuses("two", "kim")
			f.now = f.now.Add(time.Minute)
			f.alarm(state, f.now)
			if text == "" {
				text = string(written(t, of(page)))
			}
			a, err := f.answers(watch, "w1", text)
			f.wants(a, err, Verdict(failover.Page), NobodyApproved)
			if !tells(a, "kim") || a.Run != "" {
				t.Errorf("%s: %s: %+v", state, text, a)
			}
		}
	}
}

// What had come when a no was said is left alone, be it looked at first after that; what comes
// later is another question, and the no is nothing to it.
func TestANoIsOver(t *testing.T) {
	f, _ := open(t)
	f.refuses("one", "kim")
	a, err := f.watch("w1", 0, nil)
	f.wants(a, err, Ignored, NobodyApproved)
	f.alarm(alarmevent.Alarm, f.now.Add(-time.Second)) // it came while the person thought of it
	a, err = f.watch("w2", 0, nil)
	f.wants(a, err, Ignored, NobodyApproved)
	f.begun(false)
	f.later(time.Minute)
	a, err = f.watch("w3", 0, nil)
	f.wants(a, err, Verdict(failover.Promote), failover.WriterStopped)
	if r := f.register(); tells(a, "kim") || r.No == nil {
		t.Errorf("%+v; nobody has approved against the no: %+v", a, r)
	}
}

// Once somebody has approved who knew of a no it stands in nobody's way, who was not told of it
// either.
func TestANoThatWasOverruled(t *testing.T) {
	f, page := disagreed(t)
	for _, want := range []failover.Verdict{failover.Page, failover.Promote} {
		a, err := f.ask("one", 0, of(page))
		f.wants(a, err, Verdict(want), "")
	}
	f.now = f.now.Add(abandonedAfter)
	a, err := f.ask("three", 0, of(page))
	f.wants(a, err, Verdict(failover.Promote), "")
}

// A no is counted once, however often its call is made; one by somebody else is another.
func TestANoIsCountedOnce(t *testing.T) {
	f, _ := disagreed(t)
	for range 2 {
		a, err := f.send("two")
		f.wants(a, err, Ignored, NobodyApproved)
	}
	if r := f.register(); r.Noes != 1 || r.No.By != "kim" {
		t.Errorf("%+v", r)
	}
	f.refuses("one", "max")
	if r := f.register(); r.Noes != 2 || r.No.By != "max" {
		t.Errorf("%+v", r)
	}
}
