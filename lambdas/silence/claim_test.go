package silence

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/lambdas/alarmevent"
	"originchain/lambdas/documents"
	"originchain/lambdas/instancetest"
	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/shared/registry"
)

// amid is a lease whose reader is interrupted, once.
type amid struct {
	lease.Store
	done atomic.Bool
	do   func() error
}

func (a *amid) Load(ctx context.Context) (r lease.Record, ok bool, err error) {
	if a.done.CompareAndSwap(false, true) {
		err = a.do()
	}
	if err != nil {
		return r, false, err
	}
	return a.Store.Load(ctx)
}

// amid has something happen while the next call confirms.
func (f *fixture) amid(do func()) {
	f.h.deps.Failover.Lease = &amid{Store: f.Deps().Lease, do: func() error { do(); return nil }}
}

// between is a registry whose first reader of the register is slower than another call.
type between struct {
	registry.Store
	done atomic.Bool
	do   func()
}

func (b *between) Save(ctx context.Context, key string, expect uint64, body []byte) (registry.Document, error) {
	if key == registerKey && b.done.CompareAndSwap(false, true) {
		b.do()
	}
	return b.Store.Save(ctx, key, expect, body)
}

// Of two calls at once for one change one looks, and the other sees that it does: an event is
// waited with, and a watch, which comes again, has nothing to do. Nobody is called twice.
func TestTwoCallsAtOnce(t *testing.T) {
	for _, second := range []string{event, watch} {
		f := guarded(t)
		f.amid(func() {
			a, err := f.first(second, "two")
			if second == event {
				f.wants(a, err, Verdict(failover.Wait), UnderWay)
				if a.Round != 1 || a.AfterSeconds < 1 || a.AgainSeconds < 1 || a.Held != "" {
					t.Errorf("%+v", a)
				}
				return
			}
			f.wants(a, err, Ignored, UnderWay)
		})
		page, err := f.first(event, "one")
		f.wants(page, err, Verdict(failover.Page), failover.NotEntitled)
		a, err := f.first(second, "two")
		f.wants(a, err, Ignored, Repeated)
		if r := f.register(); len(r.Handled) != 1 || r.Handled[0].Execution != "one" || len(r.Looking) != 0 {
			t.Errorf("%+v", r)
		}
		f.now = f.now.Add(20 * time.Minute)
		a, err = f.ask("one", 0, of(page))
		f.wants(a, err, Verdict(failover.Promote), failover.OverriddenGuard)
	}
}

// The claim is a compare-and-set: who has read the register before another has written it sees
// what that one has written.
func TestAClaimThatIsTooLate(t *testing.T) {
	for _, kind := range []string{event, watch} {
		f := guarded(t)
		f.h.deps.Failover.Registry = &between{Store: f.Registry, do: func() {
			page, err := f.first(event, "one")
			f.wants(page, err, Verdict(failover.Page), failover.NotEntitled)
		}}
		a, err := f.first(kind, "two")
		f.wants(a, err, Ignored, Repeated)
	}
}

// However many come at once, a person is called once, and one failover is begun.
func TestManyCallsAtOnce(t *testing.T) {
	for _, dies := range []func(*testing.T) *fixture{guarded, func(t *testing.T) *fixture {
		f := newFixture(t)
		f.Kill("acme-a")
		f.alarm(alarmevent.Alarm, changed())
		return f
	}} {
		f := dies(t)
		var all sync.WaitGroup
		var mu sync.Mutex
		acted := map[Verdict]int{}
		for i := range 6 {
			all.Go(func() {
				a, err := f.first([]string{event, watch}[i%2], fmt.Sprint("e", i))
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				acted[a.Verdict]++
			})
		}
		all.Wait()
		if acted[Verdict(failover.Page)]+acted[Verdict(failover.Promote)] != 1 || len(f.register().Looking) != 0 {
			t.Errorf("%v; %+v", acted, f.register())
		}
	}
}

// A call that fails leaves no claim; one that has died has its change for as long as it could
// have taken, and an execution that comes again has its own.
func TestAClaimEnds(t *testing.T) {
	f := guarded(t)
	f.h.deps.Failover.Lease = &amid{Store: f.Deps().Lease, do: func() error { return errors.New("away") }}
	if a, err := f.ask("one", 0, nil); err == nil {
		t.Errorf("%+v", a)
	}
	if r := f.register(); len(r.Looking) != 0 {
		t.Errorf("%+v", r)
	}
	died := func(r *Register) {
		if _, ok := r.claim(Claim{Key: arn + "@20260301T120000.500Z", Execution: "died", At: f.now}); !ok {
			t.Error("it was not claimed")
		}
	}
	f.change(died)
	f.now = f.now.Add(claimLasts - time.Second)
	w, err := f.watch("w1", 0, nil)
	f.wants(w, err, Ignored, UnderWay)
	a, err := f.ask("one", 0, nil)
	f.wants(a, err, Verdict(failover.Wait), UnderWay)
	if r := f.register(); len(r.Handled) != 0 || len(r.Ignored) != 0 || len(r.Looking) != 1 {
		t.Errorf("%+v", r)
	}
	again, err := f.ask("died", 0, nil)
	f.wants(again, err, Verdict(failover.Page), failover.NotEntitled)
	f.forget()
	f.now = changed()
	f.change(died)
	f.now = f.now.Add(claimLasts)
	a, err = f.ask("one", 1, nil)
	f.wants(a, err, Verdict(failover.Page), failover.NotEntitled)
}

// change changes the register.
func (f *fixture) change(do func(*Register)) {
	f.t.Helper()
	if _, err := documents.Change(f.t.Context(), f.Registry, registerKey, func(r *Register) bool { do(r); return true }); err != nil {
		f.t.Fatal(err)
	}
}

// The claims that are kept are bounded.
func TestClaimsAreBounded(t *testing.T) {
	var r Register
	for i := range 3 * maxKept {
		r.claim(Claim{Key: fmt.Sprint(i), Execution: fmt.Sprint(i)})
	}
	if len(r.Looking) != maxKept {
		t.Errorf("%d are kept", len(r.Looking))
	}
}

// An approval is carried out whoever has the change by then, and however old it is: what it is
// of is in it.
func TestAnApprovalOfAChangeThatAnotherHas(t *testing.T) {
	for _, kind := range []string{event, watch} {
		for name, c := range map[string]struct {
			set   func(f *fixture)
			after time.Duration
			want  Verdict
			why   failover.Code
		}{
			"another has called a person too":        {func(f *fixture) { f.has("two", failover.Page) }, 20 * time.Minute, Verdict(failover.Promote), failover.OverriddenGuard},
			"another has just called a person":       {func(f *fixture) { f.has("two", failover.Page) }, time.Minute, Verdict(failover.Promote), failover.OverriddenGuard},
			"another has called for less load":       {func(f *fixture) { f.has("two", failover.ShedLoad) }, time.Minute, Verdict(failover.Promote), failover.OverriddenGuard},
			"another is at it":                       {func(f *fixture) { f.has("two", failover.Promote) }, time.Minute, Verdict(failover.Wait), UnderWay},
			"another has found nothing to do":        {func(f *fixture) { f.has("two", failover.Done) }, time.Minute, Verdict(failover.Promote), failover.OverriddenGuard},
			"another waits":                          {func(f *fixture) { f.has("two", failover.Wait) }, time.Minute, Verdict(failover.Wait), UnderWay},
			"another was at it, and has not come on": {func(f *fixture) { f.has("two", failover.Promote) }, abandonedAfter, Verdict(failover.Promote), failover.OverriddenGuard},
			"nobody has it any more":                 {func(f *fixture) { f.forget() }, time.Hour, Verdict(failover.Promote), failover.OverriddenGuard},
			"another writes by now": {func(f *fixture) {
				a, err := f.ask("one", 0, of(f.page()))
				f.wants(a, err, Verdict(failover.Promote), "")
				f.finish(a.Run)
				f.has("two", failover.Promote)
			}, 20 * time.Minute, Ignored, FailedOver},
		} {
			f := guarded(t)
			page, err := f.first(kind, "one")
			f.wants(page, err, Verdict(failover.Page), failover.NotEntitled)
			f.now = f.now.Add(time.Minute)
			c.set(f)
			f.now = f.now.Add(c.after)
			a, err := f.answers(kind, "one", string(written(t, of(page))))
			if f.wants(a, err, c.want, c.why); t.Failed() {
				t.Fatalf("%s, %s", kind, name)
			}
		}
	}
}

// An approval whose change is over, and which nobody has kept, calls nobody: who has taken the
// place by then writes.
func TestAnApprovalThatComesTooLate(t *testing.T) {
	f := guarded(t)
	f.now = time.Now().Add(time.Hour)
	page, err := f.watch("one", 0, nil)
	f.wants(page, err, Verdict(failover.Page), failover.NotEntitled)
	a, err := f.watch("one", 0, of(page))
	f.wants(a, err, Verdict(failover.Promote), failover.OverriddenGuard)
	f.finish(a.Run)
	f.forget()
	f.alarm(alarmevent.OK, f.now)
	a, err = f.watch("one", 0, of(page))
	f.wants(a, err, Ignored, FailedOver)
}

// has has another execution have the change, with a verdict of its own.
func (f *fixture) has(execution string, v failover.Verdict) {
	f.change(func(r *Register) {
		r.Handled[0].Execution, r.Handled[0].Verdict, r.Handled[0].Last = execution, Verdict(v), f.now
	})
}

// page is what a person is told.
func (f *fixture) page() Answer {
	f.t.Helper()
	a, err := f.ask("one", 0, nil)
	f.wants(a, err, Verdict(failover.Page), failover.NotEntitled)
	return a
}

// What is waited for may come to no end, and what was approved is void by then: a person is
// asked again, and told why.
func TestAnApprovalThatWasOvertaken(t *testing.T) {
	f := guarded(t)
	page := f.page()
	f.has("two", failover.Page)
	word := of(page)
	word.Epoch++
	a, err := f.ask("one", 0, word)
	f.wants(a, err, Verdict(failover.Page), ApprovalVoid)
}

// While a watch looks, an approval is waited with, and carried out then.
func TestAnApprovalWhileAWatchLooks(t *testing.T) {
	f := guarded(t)
	page := f.page()
	f.now = f.now.Add(abandonedAfter)
	f.amid(func() {
		a, err := f.ask("one", 0, of(page))
		f.wants(a, err, Verdict(failover.Wait), UnderWay)
	})
	w, err := f.watch("w1", 0, nil)
	f.wants(w, err, Ignored, failover.NotEntitled)
	a, err := f.ask("one", 1, of(page))
	f.wants(a, err, Verdict(failover.Promote), failover.OverriddenGuard)
}

// Two people are called and do not agree: who approves is told of the no, and asked again; it
// stands until then.
func TestTwoPeopleDoNotAgree(t *testing.T) {
	f := guarded(t)
	page := f.page()
	f.has("two", failover.Page)
	no := of(page)
	no.Approve, no.By = false, "kim"
	a, err := f.ask("two", 0, no)
	f.wants(a, err, Ignored, NobodyApproved)
	a, err = f.ask("one", 0, of(page))
	f.wants(a, err, Verdict(failover.Page), ApprovalVoid)
	if !strings.Contains(fmt.Sprint(a.Reasons), "kim has refused") {
		t.Errorf("%+v", a)
	}
	f.now = f.now.Add(abandonedAfter)
	late, err := f.ask("delivered again", 0, nil)
	f.wants(late, err, Ignored, NobodyApproved)
	for _, wait := range []time.Duration{time.Minute, ApprovalLasts} {
		f.now = f.now.Add(wait)
		w, err := f.watch("w"+wait.String(), 0, nil)
		f.wants(w, err, Ignored, NobodyApproved)
		if !strings.Contains(fmt.Sprint(w.Reasons), "kim has refused") {
			t.Errorf("%+v", w)
		}
	}
	again, err := f.answers(event, "one", `"yes"`)
	f.wants(again, err, Verdict(failover.Page), ApprovalVoid)
	if r := f.register(); r.No == nil {
		t.Errorf("%+v", r)
	}
	a, err = f.ask("one", 0, of(page))
	f.wants(a, err, Verdict(failover.Promote), failover.OverriddenGuard)
	if r := f.register(); r.No != nil || r.Handled[0].ApprovedBy != "jo" {
		t.Errorf("%+v", r)
	}
}

// A no of who has not the change any more is one of the change all the same.
func TestANoOfAnotherExecution(t *testing.T) {
	f := guarded(t)
	_ = f.page()
	a, err := f.answers(watch, "w1", `{"approve": false, "by": "jo"}`)
	f.wants(a, err, Ignored, NobodyApproved)
	f.now = f.now.Add(time.Hour)
	w, err := f.watch("w2", 0, nil)
	f.wants(w, err, Ignored, NobodyApproved)
}

// leftAt is an instance with so many followers, whose failover was left behind its third step: the
// record names acme-b, which answers and has not opened.
func leftAt(t *testing.T, followers int) (f *fixture, run string) {
	reg := &away{Store: registry.NewMemory()}
	f = &fixture{t: t, reg: reg, Instance: instancetest.New(t, lease.NewMemory(lease.Hooks{}), reg, followers), now: time.Now()}
	log := logrus.New()
	log.SetOutput(io.Discard)
	f.h = NewHandler(Config{Instance: "acme", Zone: instancetest.Zone, AlarmARN: arn}, EventDeps{Failover: f.Deps(), Log: log, Now: func() time.Time { return f.now }})
	f.Kill("acme-a")
	f.alarm(alarmevent.Alarm, f.now)
	a, err := f.watch("w1", 0, nil)
	f.wants(a, err, Verdict(failover.Promote), "")
	for _, step := range []string{"fence", "derive unit", "raise epoch"} {
		if _, err := failover.Continue(t.Context(), f.Deps(), failover.Next{Run: a.Run, Step: step}, nil); err != nil {
			t.Fatal(err)
		}
	}
	f.now = f.now.Add(10 * time.Minute)
	return f, a.Run
}

// A failover that was left once the record names its target is finished by the next watch: its
// target is the holder, and with one follower nobody else is left.
func TestAFailoverThatWasLeftAtItsTarget(t *testing.T) {
	for _, followers := range []int{1, 2} {
		f, run := leftAt(t, followers)
		a, err := f.watch("w2", 0, nil)
		f.wants(a, err, Verdict(failover.Promote), failover.EpochGiven)
		if a.Run != run || a.Target != "acme-b" || a.Held != "" {
			t.Errorf("%d followers: %+v, want run %s", followers, a, run)
		}
		f.finish(a.Run)
		f.IsWriter("acme-b", 2)
	}
}

// Where a person is asked of it, the answer names the holder, and is no more void than another.
func TestAnApprovalOfTheHolder(t *testing.T) {
	f, run := leftAt(t, 1)
	f.forget()
	for i := range MaxFailovers {
		if err := keep(t.Context(), f.Registry, Entry{Key: fmt.Sprint("k", i), Verdict: Verdict(failover.Promote), Run: fmt.Sprint("r", i), Last: f.now}, change{}); err != nil {
			t.Fatal(err)
		}
	}
	page, err := f.watch("w2", 0, nil)
	f.wants(page, err, Verdict(failover.Page), Flapping)
	if page.Target != "acme-b" || page.Writer != "acme-b" || page.Epoch != 2 {
		t.Fatalf("it cannot be answered: %+v", page)
	}
	a, err := f.watch("w2", 0, of(page))
	f.wants(a, err, Verdict(failover.Promote), failover.EpochGiven)
	if a.Run != run {
		t.Errorf("%+v, want run %s", a, run)
	}
	f.finish(a.Run)
	f.IsWriter("acme-b", 2)
	a, err = f.watch("w2", 0, of(page)) // it has been carried out, and acme-b is well
	if err != nil || a.Verdict == Verdict(failover.Promote) {
		t.Errorf("%+v, %v", a, err)
	}
}

// Nor is one whose log takes no writes, by whichever step it was left at.
func TestAFailoverThatWasLeftAtATargetWhoseDiskHangs(t *testing.T) {
	f, _ := leftAt(t, 2)
	f.Hang("acme-b")
	a, err := f.watch("w2", 0, nil)
	f.wants(a, err, Verdict(failover.Promote), "")
	f.finish(a.Run)
	f.IsWriter("acme-c", 3)

	f = newFixture(t)
	f.Kill("acme-a")
	a, err = f.ask("one", 0, nil)
	f.wants(a, err, Verdict(failover.Promote), "")
	f.carryOut(a.Run, "fence", "derive unit")
	f.Hang("acme-b")
	a, err = f.ask("one", 1, nil)
	f.wants(a, err, Verdict(failover.Promote), "")
	f.finish(a.Run)
	f.IsWriter("acme-c", 2)
}

// Where nobody else has all that was acknowledged nobody is asked to give that up: who was stopped
// for it has it, and is let go.
func TestAFailoverThatWasLeftAtTheOnlyTargetWhoseDiskHangs(t *testing.T) {
	for what, c := range map[string]struct {
		followers int
		other     func(*fixture)
	}{
		"there is no other": {1, func(*fixture) {}},
		"the other one lacks something": {2, func(f *fixture) {
			f.Alone("acme-c")
			f.Behind("acme-c", 20)
		}},
		"the other one's disk hangs, too": {2, func(f *fixture) { f.Hang("acme-c") }},
	} {
		f, run := leftAt(t, c.followers)
		c.other(f)
		f.Hang("acme-b")
		a, err := f.watch("w2", 0, nil)
		f.wants(a, err, Verdict(failover.Wait), failover.TargetFailing)
		if a.Target != "" || a.LostTo != 0 || a.Held != run {
			t.Errorf("%s: %+v, want %s held", what, a, run)
		}
		if text := fmt.Sprint(a.Reasons); strings.Contains(text, "nil") || strings.Contains(text, "passed over") {
			t.Errorf("%s: %s", what, text)
		}
		// Nor is anybody by the next page of somebody whose approval is void.
		if c.followers == 2 {
			page, err := f.watch("w2", 0, &Approval{Approve: true, By: "x", Epoch: 1, Writer: "acme-a", To: "acme-c"})
			f.wants(page, err, Verdict(failover.Page), failover.TargetFailing)
			if page.Target != "" || page.LostTo != 0 {
				t.Errorf("%s: %+v", what, page)
			}
		}
		said, err := failover.LetGo(t.Context(), f.Deps(), run)
		if err != nil || !strings.Contains(said, "acme-a is started") || !strings.Contains(said, "takes no writes") {
			t.Errorf("%s: %s, %v", what, said, err)
		}
	}
}

// What a person has approved is not held to where its node hangs since.
func TestAnApprovalOfANodeWhoseDiskHangsSince(t *testing.T) {
	f, _ := leftAt(t, 2)
	page := Answer{Epoch: 1, Writer: "acme-a", Target: "acme-b"}
	f.Hang("acme-b")
	a, err := f.watch("w2", 0, of(page))
	f.wants(a, err, Verdict(failover.Promote), "")
	if a.Target != "acme-c" {
		t.Errorf("%+v", a)
	}
}

// A holder that does not answer is nobody's target.
func TestAFailoverThatWasLeftAtADeadTarget(t *testing.T) {
	f, _ := leftAt(t, 2)
	f.Kill("acme-b")
	a, err := f.watch("w2", 0, nil)
	if err != nil || a.Target != "acme-c" {
		t.Errorf("%+v, %v", a, err)
	}
}
