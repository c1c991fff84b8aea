package silence

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"originchain/lambdas/alarmevent"
	"originchain/lambdas/instancetest"
	"originchain/shared/failover"
)

// An alarm whose event never came is found by the next watch, and its event, should it come
// late, is the same change.
func TestAWatchFindsAnAlarmThatNobodyHas(t *testing.T) {
	f := newFixture(t)
	f.Kill("acme-a")
	f.now = f.now.Add(3 * time.Hour) // however long it has been on
	f.alarm(alarmevent.Alarm, changed().Add(40*time.Millisecond))
	a, err := f.watch("w1", 0, nil)
	f.wants(a, err, Verdict(failover.Promote), failover.WriterStopped)
	for _, again := range []func() (Answer, error){
		func() (Answer, error) { return f.watch("w2", 0, nil) },
		func() (Answer, error) { return f.ask("late", 0, nil) },
	} {
		other, err := again()
		f.wants(other, err, Ignored, Repeated)
	}
	same, err := f.watch("w1", 1, nil)
	f.wants(same, err, Verdict(failover.Promote), "")
	f.finish(a.Run)
	f.IsWriter("acme-b", 2)
	f.now = f.now.Add(2 * abandonedAfter)
	over, err := f.watch("w3", 0, nil)
	f.wants(over, err, Ignored, FailedOver)
	if r := f.register(); same.Run != a.Run || len(r.Handled) != 1 || r.Handled[0].Key != arn+"@20260301T120000.354Z" || len(r.Started) != 1 || len(r.Ignored) != 1 {
		t.Errorf("%+v", r) // of the late event there is one, and of watches that found nothing none
	}
}

// A watch that finds nothing to do leaves no trace, and changes nothing.
func TestAWatchThatFindsNothing(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(f *fixture)
		want failover.Code
	}{
		"the alarm is off":    {func(f *fixture) { f.Kill("acme-a"); f.alarm(alarmevent.OK, changed()) }, NotAlarm},
		"it has no data":      {func(f *fixture) { f.Kill("acme-a"); f.alarm(alarmevent.InsufficientData, changed()) }, NotAlarm},
		"the writer answers":  {func(f *fixture) { f.alarm(alarmevent.Alarm, changed()) }, failover.WriterAnswers},
		"an execution has it": {func(f *fixture) { f.alarm(alarmevent.Alarm, changed()); _, _ = f.quick("one", 0) }, Repeated},
		"a person has rejected": {func(f *fixture) {
			f.Kill("acme-a")
			f.alarm(alarmevent.Alarm, changed())
			a, err := f.ask("one", 1, &Approval{By: "jo"})
			f.wants(a, err, Ignored, NobodyApproved)
			f.now = f.now.Add(20 * time.Hour)
		}, NobodyApproved},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.h.patience = time.Nanosecond
			c.set(f)
			before, calls := f.register(), len(f.Calls())
			a, err := f.watch("w1", 0, nil)
			f.wants(a, err, Ignored, c.want)
			if r := f.register(); len(r.Handled) != len(before.Handled) || len(r.Ignored) != len(before.Ignored) || strings.Contains(strings.Join(f.Calls()[calls:], " "), "stop") {
				t.Errorf("%+v; %v", r, f.Calls())
			}
		})
	}
	f := newFixture(t)
	f.h.deps.Alarm = func(context.Context, string) (alarmevent.State, time.Time, error) {
		return "", time.Time{}, errors.New("throttled")
	}
	if a, err := f.watch("w1", 0, nil); err == nil {
		t.Errorf("what could not be read is no alarm that is off: %+v", a)
	}
}

// What only looks like a watch is ignored, audited, and changes nothing.
func TestAWatchThatIsNone(t *testing.T) {
	for _, event := range []string{
		`{"watch": false}`, `{"watch": "true"}`, `{"watch": 1}`, `{"watch": null}`, `{"watch": {"watch": true}}`,
		`{"watch": true, "detail-type": "CloudWatch Alarm State Change"}`, `{"watch": true, "Records": []}`, `{"watch": true, "source": "aws.cloudwatch"}`,
	} {
		f := newFixture(t)
		f.Kill("acme-a")
		f.alarm(alarmevent.Alarm, changed())
		a, err := f.h.Handle(t.Context(), []byte(`{"event": `+event+`, "execution": "w1", "round": 0}`))
		f.wants(a, err, Ignored, Malformed)
		if r := f.register(); len(r.Ignored) != 1 || len(f.Calls()) != 0 {
			t.Errorf("%s: %+v, %v", event, r, f.Calls())
		}
	}
}

// A change whose execution has died or given up is taken up again, after a while that grows
// from time to time; what can be done without a person is done before that.
func TestAChangeIsTakenUpAgain(t *testing.T) {
	f := newFixture(t)
	f.killAll()
	f.alarm(alarmevent.Alarm, changed())
	a, err := f.ask("one", 0, nil)
	f.wants(a, err, Verdict(failover.Wait), failover.TargetSilent)
	for n, after := range []time.Duration{abandonedAfter, 2 * abandonedAfter, 4 * abandonedAfter} {
		f.now = f.now.Add(after - time.Second)
		early, err := f.watch("early", 0, nil)
		f.wants(early, err, Ignored, "")
		f.now = f.now.Add(time.Second)
		a, err = f.watch(string(rune('x'+n)), 0, nil)
		f.wants(a, err, Verdict(failover.Wait), failover.TargetSilent)
	}
	// Not to be taken up for an hour; a node that is there is promoted before.
	f.now = f.now.Add(abandonedAfter)
	early, err := f.watch("early", 0, nil)
	f.wants(early, err, Ignored, failover.TargetSilent)
	if err := f.Deps().Control.Start(t.Context(), f.Node("acme-c")); err != nil {
		t.Fatal(err)
	}
	a, err = f.watch("last", 0, nil)
	f.wants(a, err, Verdict(failover.Promote), failover.WriterStopped)
}

// While a person is waited for, the change is looked at all the same: what stood in the way
// may have gone. Nobody is called twice.
func TestAPersonIsWaitedFor(t *testing.T) {
	f := newFixture(t)
	f.nobodyIsEntitled()
	f.alarm(alarmevent.Alarm, changed())
	a, err := f.ask("one", 0, nil)
	f.wants(a, err, Verdict(failover.Page), failover.NotEntitled)
	f.now = f.now.Add(time.Hour)
	w, err := f.watch("w1", 0, nil)
	f.wants(w, err, Ignored, failover.NotEntitled)
	f.now = f.now.Add(ApprovalLasts - 2*time.Hour)
	w, err = f.watch("w2", 0, nil)
	f.wants(w, err, Ignored, failover.NotEntitled)
	// Nobody has come: another person is called.
	f.now = f.now.Add(time.Hour)
	w, err = f.watch("w3", 0, nil)
	f.wants(w, err, Verdict(failover.Page), failover.NotEntitled)
	word := Approval{Approve: true, By: "jo", Epoch: w.Epoch, Writer: w.Writer, To: w.Target, LossFrom: w.LostFrom, LossTo: w.LostTo, Allow: failover.Overrides{AcceptDataLoss: true}}
	f.alarm(alarmevent.OK, f.now) // it goes on with what it has begun
	no, err := f.watch("w3", 0, &Approval{By: "jo"})
	f.wants(no, err, Ignored, NobodyApproved)
	w, err = f.watch("w3", 0, &word)
	f.wants(w, err, Verdict(failover.Page), ApprovalVoid)
	w, err = f.watch("w3", 0, &word)
	f.wants(w, err, Verdict(failover.Promote), failover.OverriddenGuard)
}

// Pauses grow, so that what is away for minutes is waited for; a step that cannot go on comes
// back with the same.
func TestPausesGrow(t *testing.T) {
	f := newFixture(t)
	f.killAll()
	total, last := 0, 0
	for round := range MaxRounds {
		a, err := f.ask("one", round, nil)
		if round == MaxRounds-1 {
			f.wants(a, err, Verdict(failover.Page), failover.TargetSilent)
			break
		}
		f.wants(a, err, Verdict(failover.Wait), failover.TargetSilent)
		if a.AfterSeconds < last || a.AgainSeconds != a.AfterSeconds {
			t.Errorf("round %d: %+v, after %d", round, a, last)
		}
		total, last = total+a.AfterSeconds, a.AfterSeconds
	}
	if total < 300 || total > 900 || last != int(maxPause/time.Second) {
		t.Errorf("%d s in all, %d at last", total, last)
	}
}

// A failover that has stopped a server and does not go on is named, so that it is let go:
// one's own at once, somebody else's when it has stood for a while.
func TestWhatIsHeldIsNamed(t *testing.T) {
	f := newFixture(t)
	a := f.held()
	f.Kill("acme-b")
	f.Kill("acme-c")
	mine, err := f.watch("w1", 1, nil)
	f.wants(mine, err, Verdict(failover.Wait), failover.TargetSilent)
	if mine.Held != a.Run {
		t.Errorf("%+v", mine)
	}
	f.forget()
	for _, c := range []struct {
		after time.Duration
		want  string
	}{{time.Minute, ""}, {heldFor, a.Run}} {
		f.now = f.now.Add(c.after)
		other, err := f.watch("of-another "+c.after.String(), 0, nil)
		if err != nil || other.Held != c.want {
			t.Errorf("after %s: %+v, %v; want %q", c.after, other, err, c.want)
		}
	}
	if _, err := failover.LetGo(t.Context(), f.Deps(), a.Run); err != nil {
		t.Fatal(err)
	}
	f.Kill("acme-a")
	f.now = f.now.Add(time.Hour)
	if gone, err := f.watch("w9", 0, nil); err != nil || gone.Held != "" {
		t.Errorf("%+v, %v", gone, err)
	}
}

// What a failover that is done holds keeps nobody waiting who could do something else: only
// where nothing else is to be done, or nobody else is there, is it named.
func TestWhatADoneFailoverHoldsDelaysNothing(t *testing.T) {
	f := newFixture(t)
	a := f.held()
	f.carryOut(a.Run, failover.StepNames()[2:]...)
	f.now = f.now.Add(heldFor)
	f.alarm(alarmevent.Alarm, f.now)
	f.change(func(r *Register) {
		*r = Register{Format: registerFormat}
		for i := range MaxFailovers {
			r.Started = append(r.Started, Start{Run: fmt.Sprint("r", i), At: f.now})
		}
	})
	other := map[string]string{"acme-b": "acme-c", "acme-c": "acme-b"}[a.Target]
	f.Kill(a.Target)
	page, err := f.watch("w2", 0, nil)
	f.wants(page, err, Verdict(failover.Page), Flapping)
	if page.Target != other || page.Held != "" {
		t.Errorf("it waits for a machine that was lost: %+v", page)
	}
	f.Kill(other)
	wait, err := f.watch("w2", 1, nil)
	f.wants(wait, err, Verdict(failover.Wait), failover.TargetSilent)
	if wait.Held != a.Run {
		t.Errorf("nobody but who is held could take its place: %+v", wait)
	}
}

// What a failover has stopped is let go after a no as well: by whoever was told no, and by the
// watches that come after.
func TestWhatIsHeldAfterANo(t *testing.T) {
	f := newFixture(t)
	a := f.held()
	no := &Approval{By: "jo", Epoch: a.Epoch, Writer: a.Writer, To: a.Target}
	said, err := f.watch("w1", 1, no)
	f.wants(said, err, Ignored, NobodyApproved)
	f.now = f.now.Add(heldFor)
	later, err := f.watch("w2", 0, nil)
	f.wants(later, err, Ignored, NobodyApproved)
	if said.Held != a.Run || later.Held != a.Run {
		t.Errorf("held: %q and %q, want %q", said.Held, later.Held, a.Run)
	}
}

// Somebody who was called because load is to be shed is waited for as well.
func TestWhoIsToShedLoadIsCalledOnce(t *testing.T) {
	f := newFixture(t)
	f.now = time.Now()
	f.killAll()
	f.alarm(alarmevent.Alarm, f.now)
	a, err := f.watch("w1", 0, nil)
	f.wants(a, err, Verdict(failover.Wait), failover.TargetSilent)
	e, _ := (&Register{Handled: f.register().Handled}).of("w1")
	e.Verdict = Verdict(failover.ShedLoad)
	if err := keep(t.Context(), f.Registry, e, change{}); err != nil {
		t.Fatal(err)
	}
	f.now = f.now.Add(ApprovalLasts - time.Minute)
	a, err = f.watch("w2", 0, nil)
	f.wants(a, err, Ignored, failover.TargetSilent)
	f.now = f.now.Add(time.Minute)
	a, err = f.watch("w3", 0, nil)
	f.wants(a, err, Verdict(failover.Wait), failover.TargetSilent)
}

// A failover of somebody else is waited for: it ends, or can be taken over later.
func TestAFailoverOfSomebodyElse(t *testing.T) {
	f := newFixture(t)
	f.Kill("acme-a")
	f.begunToC()
	f.Behind("acme-c", instancetest.Last-1) // not fit any more, and to be heard all the same
	journal, err := f.Registry.Load(t.Context(), "failover")
	if err != nil {
		t.Fatal(err)
	}
	body := strings.Replace(string(journal.Body), `"accept_loss":false`, `"accept_loss":true,"accepted_at":"`+time.Now().UTC().Format(time.RFC3339Nano)+`"`, 1)
	if _, err := f.Registry.Save(t.Context(), "failover", journal.Version, []byte(body)); err != nil {
		t.Fatal(err)
	}
	a, err := f.ask("one", 0, nil)
	f.wants(a, err, Verdict(failover.Wait), UnderWay)
}
