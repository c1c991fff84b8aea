package silence

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"originchain/lambdas/alarmevent"
	"originchain/lambdas/instancetest"
	"originchain/lambdas/outcome"
	"originchain/shared/failover"
	"originchain/shared/lease"
)

// Of a dead writer the event starts a failover to the fittest follower, by whatever way it
// comes; the same execution goes on with it, another one has nothing to do.
func TestAnAlarmStartsAFailover(t *testing.T) {
	for _, event := range []string{"eventbridge-alarm.json", "sns-alarm.json", "confirm.json"} {
		f := newFixture(t)
		f.Behind("acme-b", 3)
		f.Kill("acme-a")
		a, err := f.h.Handle(t.Context(), recorded(t, event))
		f.wants(a, err, Verdict(failover.Promote), failover.WriterStopped)
		if a.Run == "" || a.Writer != "acme-a" || a.Target != "acme-c" || a.Round != 1 {
			t.Errorf("%s: %+v", event, a)
		}
		again, err := f.h.Handle(t.Context(), recorded(t, event))
		f.wants(again, err, Verdict(failover.Promote), "")
		if again.Run != a.Run {
			t.Errorf("%s: called again it began another one: %+v", event, again)
		}
		other, err := f.ask("another", 0, nil)
		f.wants(other, err, Ignored, Repeated)
		f.finish(a.Run)
		f.IsWriter("acme-c", 2)
		f.now = f.now.Add(abandonedAfter)
		late, err := f.ask("another", 0, nil)
		f.wants(late, err, Ignored, FailedOver)
		r, err := Events(t.Context(), f.Registry)
		if err != nil || len(r.Handled) != 1 || r.Handled[0].Run != a.Run || len(r.Started) != 1 || len(r.Ignored) != 2 || r.Format != registerFormat {
			t.Errorf("%s: the register is %+v, %v", event, r, err)
		}
	}
}

// Who says that its log takes no writes is nobody's choice beside one of the set whose log does.
func TestAFollowerWhoseDiskHangs(t *testing.T) {
	f := newFixture(t)
	f.Hang("acme-b")
	f.Kill("acme-a")
	a, err := f.ask("one", 0, nil)
	f.wants(a, err, Verdict(failover.Promote), failover.WriterStopped)
	if a.Target != "acme-c" {
		t.Errorf("%+v", a)
	}
	f.wants(a, err, Verdict(failover.Promote), failover.TargetFailing) // it says who was passed over
	f.finish(a.Run)
	f.IsWriter("acme-c", 2)
}

// Where nobody else has all that was acknowledged it is waited for, and nobody is asked to give up
// what others lack: it may take writes again at any moment.
func TestAFollowerWhoseDiskHangsIsWaitedFor(t *testing.T) {
	f := newFixture(t)
	f.Alone("acme-c")
	f.Behind("acme-c", 20)
	f.Hang("acme-b")
	f.Kill("acme-a")
	for _, round := range []int{0, MaxRounds - 1} {
		a, err := f.ask("one", round, nil)
		want := failover.Wait
		if round == MaxRounds-1 {
			want = failover.Page
		}
		f.wants(a, err, Verdict(want), failover.TargetFailing)
		if a.Target != "acme-b" || a.LostTo != 0 {
			t.Errorf("round %d: %+v", round, a)
		}
	}
	f.Well("acme-b")
	a, err := f.ask("one", 1, nil)
	f.wants(a, err, Verdict(failover.Promote), "")
	f.finish(a.Run)
	f.IsWriter("acme-b", 2)
}

// A new writer whose log takes no writes is none that ends the matter: it is replaced too, once
// its lease has run out.
func TestANewWriterWhoseDiskHangs(t *testing.T) {
	f := newFixture(t)
	f.Kill("acme-a")
	a, err := f.ask("one", 0, nil)
	f.wants(a, err, Verdict(failover.Promote), "")
	f.finish(a.Run)
	f.IsWriter(a.Target, 2)
	f.Hang(a.Target)
	f.now = f.now.Add(abandonedAfter)
	again, err := f.ask("another", 0, nil)
	f.wants(again, err, Verdict(failover.Promote), failover.WriterFailing)
	if slices.ContainsFunc(again.Reasons, func(r failover.Reason) bool { return r.Code == failover.TargetFailing }) {
		t.Errorf("the writer is named as a target that was passed over: %+v", again)
	}
	f.finish(again.Run)
	f.IsWriter("acme-c", 3)
}

// What is none of this instance's alarm going off is ignored, audited, and changes nothing.
func TestAnEventThatIsIgnored(t *testing.T) {
	for file, want := range map[string]failover.Code{
		"malformed.json": Malformed, "schedule.json": Malformed, "forged-account.json": Forged, "forged-arn.json": Malformed, "forged-partition.json": Forged, "unknown-instance.json": UnknownInstance,
		"ok.json": NotAlarm, "other-alarm.json": OtherAlarm,
	} {
		f := newFixture(t)
		f.Kill("acme-a")
		a, err := f.h.Handle(t.Context(), recorded(t, file))
		f.wants(a, err, Ignored, want)
		r, err := Events(t.Context(), f.Registry)
		if err != nil || len(r.Ignored) != 1 || r.Ignored[0].Reasons[0].Code != want || len(f.Calls()) != 0 {
			t.Errorf("%s: %+v, %v; %v", file, r, err, f.Calls())
		}
		f.reg.away = true
		if a, err := f.h.Handle(t.Context(), recorded(t, file)); err == nil || outcome.Of(err) != outcome.Unavailable {
			t.Errorf("%s was not audited: %+v, %v", file, a, err)
		}
	}
}

func TestAnEventOfAnotherTime(t *testing.T) {
	for _, c := range []struct {
		ahead time.Duration
		want  failover.Code
	}{{MaxEventAge + 5*time.Second, TooOld}, {-EventSlack - 10*time.Second, FromTheFuture}} {
		f := newFixture(t)
		f.Kill("acme-a")
		f.now = f.now.Add(c.ahead)
		a, err := f.ask("one", 0, nil)
		f.wants(a, err, Ignored, c.want)
	}
}

// An event that was looked at in time is its execution's for as long as one may last, and
// nobody else's when it is old.
func TestAnEventThatWasSeenGrowsOld(t *testing.T) {
	f := newFixture(t)
	first, err := f.quick("one", 0)
	f.wants(first, err, Verdict(failover.Wait), failover.WriterAnswers)
	at := f.now
	for _, c := range []struct {
		execution string
		after     time.Duration
		v         Verdict
		why       failover.Code
	}{
		{"two", abandonedAfter, Verdict(failover.Wait), failover.WriterAnswers}, {"one", 2 * abandonedAfter, Verdict(failover.Wait), failover.WriterAnswers},
		{"two", MaxEventAge, Ignored, TooOld}, {"one", time.Hour, Verdict(failover.Wait), failover.WriterAnswers}, {"one", ExecutionLasts, Ignored, TooOld},
	} {
		f.now = at.Add(c.after)
		a, err := f.quick(c.execution, 1)
		f.wants(a, err, c.v, c.why)
	}
}

// A writer that answers is waited for; one that answers all the time has nobody called.
func TestAWriterThatAnswers(t *testing.T) {
	f := newFixture(t)
	f.h.deps.Failover.Observer = nil
	a, err := f.quick("one", 0)
	f.wants(a, err, Verdict(failover.Wait), failover.WriterAnswers)
	if a.AfterSeconds < 1 || a.Round != 1 || a.Run != "" {
		t.Errorf("%+v", a)
	}
	a, err = f.quick("one", MaxRounds-1)
	f.wants(a, err, Ignored, failover.WriterAnswers)
	again, err := f.quick("two", 0)
	f.wants(again, err, Ignored, Repeated)
}

// A guard calls a person, whose word gives it up by name, or ends it.
func TestAPersonDecides(t *testing.T) {
	f := newFixture(t)
	f.nobodyIsEntitled()
	a, err := f.ask("one", 0, nil)
	f.wants(a, err, Verdict(failover.Page), failover.NotEntitled)
	if a.Target != "acme-b" || a.Run != "" {
		t.Errorf("%+v", a)
	}
	f.now = f.now.Add(time.Hour) // a person takes longer than an event is young
	no, err := f.ask("one", 1, &Approval{By: "jo"})
	f.wants(no, err, Ignored, NobodyApproved)
	word := Approval{Approve: true, By: "jo", Epoch: 1, Writer: "acme-a", To: "acme-c"}
	a, err = f.ask("one", 1, &word)
	f.wants(a, err, Verdict(failover.Page), failover.NotEntitled)
	word.LossFrom, word.LossTo, word.Allow.AcceptDataLoss = a.LostFrom, a.LostTo, true
	a, err = f.ask("one", 1, &word)
	f.wants(a, err, Verdict(failover.Promote), failover.OverriddenGuard)
	f.finish(a.Run)
	f.IsWriter("acme-c", 2)
	r, err := Events(t.Context(), f.Registry)
	if e, ok := r.find(arn + "@20260301T120000.314Z"); err != nil || !ok || e.ApprovedBy != "jo" || e.Allow == nil || !e.Allow.AcceptDataLoss {
		t.Errorf("%+v, %v", r, err)
	}
	again, err := f.ask("one", 2, &Approval{Approve: true, By: "jo", To: "nobody"})
	f.wants(again, err, Ignored, FailedOver)
}

// What a person approves is of the epoch, the writer, the node and the loss that the call
// has told: with any other the person is asked again, and told what is so now.
func TestAnApprovalIsOfWhatIsSo(t *testing.T) {
	f := newFixture(t)
	f.nobodyIsEntitled()
	page, err := f.ask("one", 0, nil)
	f.wants(page, err, Verdict(failover.Page), failover.NotEntitled)
	if page.Epoch != 1 || page.Writer != "acme-a" || page.Target != "acme-b" || page.LostFrom != instancetest.Last-9 || page.LostTo != instancetest.Last {
		t.Fatalf("%+v", page)
	}
	good := Approval{Approve: true, By: "jo", Epoch: page.Epoch, Writer: page.Writer, To: page.Target, LossFrom: page.LostFrom, LossTo: page.LostTo, Allow: failover.Overrides{AcceptDataLoss: true}}
	for name, c := range map[string]struct {
		change func(*Approval)
		want   failover.Code
		// from is where the loss begins that is told.
		from uint64
	}{
		"of no epoch":            {func(p *Approval) { p.Epoch = 0 }, ApprovalVoid, page.LostFrom},
		"of another epoch":       {func(p *Approval) { p.Epoch = 2 }, ApprovalVoid, page.LostFrom},
		"of another writer":      {func(p *Approval) { p.Writer = "acme-c" }, ApprovalVoid, page.LostFrom},
		"of no node":             {func(p *Approval) { p.To = "" }, ApprovalVoid, page.LostFrom},
		"of an unknown node":     {func(p *Approval) { p.To = "acme-z" }, ApprovalVoid, page.LostFrom},
		"of the writer itself":   {func(p *Approval) { p.To = "acme-a" }, ApprovalVoid, page.LostFrom},
		"of no loss":             {func(p *Approval) { p.LossFrom, p.LossTo = 0, 0 }, failover.NotEntitled, page.LostFrom},
		"of a loss that grew":    {func(p *Approval) { p.LossTo-- }, failover.NotEntitled, page.LostFrom},
		"of another node":        {func(p *Approval) { p.To = "acme-c" }, failover.NotEntitled, page.LostFrom - 10},
		"of no guard":            {func(p *Approval) { p.Allow.AcceptDataLoss = false }, failover.NotEntitled, page.LostFrom},
		"with a loss of its own": {func(p *Approval) { p.LossTo, p.Allow.Loss = 1, &failover.Loss{From: 1, To: 1 << 60} }, failover.NotEntitled, page.LostFrom},
	} {
		word := good
		c.change(&word)
		a, err := f.ask("one", 1, &word)
		f.wants(a, err, Verdict(failover.Page), c.want)
		if a.Run != "" || a.LostFrom != c.from || a.LostTo != page.LostTo || a.Epoch != 1 || a.Writer != "acme-a" {
			t.Errorf("%s: %+v", name, a)
		}
	}
	if got := f.Calls(); strings.Contains(strings.Join(got, " "), "stop") {
		t.Errorf("something was done: %v", got)
	}
	a, err := f.ask("one", 1, &good)
	f.wants(a, err, Verdict(failover.Promote), failover.OverriddenGuard)
	f.carryOut(a.Run, "fence", "derive unit", "raise epoch")
	// What is left to do needs no approval, and the one that there was is void for no more.
	a, err = f.ask("one", 2, &good)
	f.wants(a, err, Verdict(failover.Promote), failover.EpochGiven)
	// Nor is it anything to another node, once that one is gone.
	f.Kill("acme-b")
	a, err = f.ask("one", 3, &good)
	f.wants(a, err, Verdict(failover.Page), failover.NotEntitled)
	if a.Target != "acme-c" || a.Writer != "acme-b" || a.Epoch != 2 {
		t.Errorf("%+v", a)
	}
}

// A loss is accepted for the node that was named, and not for one that somebody else has
// begun to promote.
func TestAnApprovalIsForItsNode(t *testing.T) {
	f := newFixture(t)
	f.Alone("acme-b")
	f.Behind("acme-b", 10)
	f.Kill("acme-a")
	begun := f.begunToC()
	a, err := f.ask("one", 0, &Approval{Approve: true, By: "jo", Epoch: 1, Writer: "acme-a", To: "acme-b", LossFrom: 1, LossTo: instancetest.Last,
		Allow: failover.Overrides{AcceptDataLoss: true, AllowLag: 1 << 40}})
	f.wants(a, err, Verdict(failover.Promote), "")
	journal, err := f.Registry.Load(t.Context(), "failover")
	if err != nil || a.Run != begun.Run || a.Target != "acme-c" || strings.Contains(string(journal.Body), "accept_data_loss") || !strings.Contains(string(journal.Body), `"allow_lag":1000}`) {
		t.Errorf("%+v, %v: %s", a, err, journal.Body)
	}
}

// Writers that die again and again are a person's business.
func TestWritersThatDieAgainAndAgain(t *testing.T) {
	f := newFixture(t)
	f.Kill("acme-a")
	for i := range MaxFailovers {
		e := Entry{Key: fmt.Sprint("k", i), Verdict: Verdict(failover.Promote), Run: fmt.Sprint("r", i), Last: f.now}
		if err := keep(t.Context(), f.Registry, e, change{}); err != nil {
			t.Fatal(err)
		}
	}
	a, err := f.ask("one", 0, nil)
	f.wants(a, err, Verdict(failover.Page), Flapping)
	f.now = f.now.Add(FlapWithin)
	a, err = f.ask("one", 1, nil)
	f.wants(a, err, Verdict(failover.Promote), "")
}

func TestNobodyIsLeft(t *testing.T) {
	f := newFixture(t)
	f.killAll()
	a, err := f.ask("one", 0, nil)
	f.wants(a, err, Verdict(failover.Wait), failover.TargetSilent)
	if why := a.Reasons[0].Detail; !strings.Contains(why, "take the place of acme-a; acme-b: EOF; acme-c: EOF") {
		t.Errorf("why nobody answers: %s", why)
	}
	a, err = f.ask("one", MaxRounds-1, nil)
	f.wants(a, err, Verdict(failover.Page), failover.TargetSilent)
}

// A failover that somebody has begun to another node is finished.
func TestAnotherOneIsUnderWay(t *testing.T) {
	f := newFixture(t)
	f.Kill("acme-a")
	begun := f.begunToC()
	a, err := f.ask("one", 0, nil)
	f.wants(a, err, Verdict(failover.Promote), "")
	if a.Target != "acme-c" || a.Run != begun.Run {
		t.Errorf("%+v", a)
	}
}

// The register is bounded, and who sends what is ignored pushes out nothing that counts.
func TestTheRegisterIsBounded(t *testing.T) {
	var r Register
	for i := range 3 * maxKept {
		r.put(Entry{Key: fmt.Sprint(i), Verdict: Ignored})
	}
	r.put(Entry{Key: "real", Verdict: Verdict(failover.Promote), Run: "R"})
	for i := range 3 * maxKept {
		r.put(Entry{Key: fmt.Sprint(i), Execution: "other", Verdict: Ignored})
	}
	if _, ok := r.find("real"); !ok || len(r.Ignored) != maxKept || len(r.Handled) != 1 || len(r.Started) != 1 {
		t.Errorf("%d ignored, %d handled, %d started", len(r.Ignored), len(r.Handled), len(r.Started))
	}
}

// Before its first start an instance is silent, and there is nobody to be replaced: nobody is
// called, and the schedule leaves no trace.
func TestBeforeTheFirstStart(t *testing.T) {
	f := newFixture(t)
	f.h.deps.Failover.Lease = lease.NewMemory(lease.Hooks{})
	a, err := f.ask("one", 0, nil)
	if err != nil || a.Verdict != Ignored || len(a.Reasons) != 1 || a.Reasons[0].Code != NothingWritten {
		t.Errorf("%+v, %v", a, err)
	}
	f.alarm(alarmevent.Alarm, f.now)
	before := f.register()
	a, err = f.watch("two", 0, nil)
	if err != nil || a.Verdict != Ignored || a.Reasons[0].Code != NothingWritten {
		t.Errorf("%+v, %v", a, err)
	}
	if after := f.register(); len(after.Ignored) != len(before.Ignored) || len(after.Handled) != len(before.Handled) {
		t.Errorf("%+v", after)
	}
}

// A person's no is one, whoever has the change by then.
func TestANoIsNoApproval(t *testing.T) {
	f := newFixture(t)
	f.Kill("acme-a")
	f.alarm(alarmevent.Alarm, f.now.Add(-time.Hour))
	a, err := f.watch("lost", 0, &Approval{By: "jo", To: "acme-b"})
	if err != nil || a.Verdict != Ignored || a.Run != "" || a.Reasons[0].Code != NobodyApproved {
		t.Errorf("%+v, %v", a, err)
	}
}
