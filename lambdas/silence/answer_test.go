package silence

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"originchain/lambdas/alarmevent"
	"originchain/lambdas/outcome"
	"originchain/shared/failover"
)

// guarded has the writer dead, and no follower that may take its place unasked.
func guarded(t *testing.T) *fixture {
	f := newFixture(t)
	f.Alone("acme-b")
	f.Alone("acme-c")
	f.Behind("acme-b", 10)
	f.Behind("acme-c", 20)
	f.Kill("acme-a")
	f.alarm(alarmevent.Alarm, changed())
	return f
}

// of is an approval of what a page has told.
func of(page Answer) *Approval {
	return &Approval{Approve: true, By: "jo", Epoch: page.Epoch, Writer: page.Writer, To: page.Target, LossFrom: page.LostFrom, LossTo: page.LostTo, Allow: failover.Overrides{AcceptDataLoss: true}}
}

const (
	event = "event"
	watch = "watch"
)

// answers calls after a page that was answered: with the text of it.
func (f *fixture) answers(kind, execution, text string) (Answer, error) {
	f.t.Helper()
	return f.call(kind, execution, 0, text)
}

func (f *fixture) first(kind, execution string) (Answer, error) {
	if kind == event {
		return f.ask(execution, 0, nil)
	}
	return f.watch(execution, 0, nil)
}

// unread are answers that a person may write by mistake, and what is said of each.
func unread() map[string]string {
	const rest = `"writer": "acme-a", "to": "acme-b", "loss_from": 5001, "loss_to": 5010`
	return map[string]string{
		`"yes"`: "it is a string, and is to be an object", `true`: "it is a bool", `5`: "it is a number", `[]`: "it is a array", `[{"approve": true}]`: "it is a array", `""`: "it is a string",
		`{}`: `it has no "approve"`, `{"by": "jo", "epoch": 1}`: `it has no "approve"`, `{"approve": null, "by": "jo"}`: `it has no "approve"`,
		`{"approve": true, "epoch": 1, ` + rest + `}`: `it has no "by"`, `{"approve": false}`: `it has no "by"`, `{"approve": false, "by": " "}`: `it has no "by"`,
		`{"approved": true, "by": "jo"}`: `"approved" is none of its keys`, `{"Approve": false, "by": "jo"}`: `"Approve" is none of its keys`, `{"approve": false, "by": "jo", "why": "no"}`: `"why" is none of its keys`,
		`{"approve": false, "approve": true, "by": "jo"}`:                                                                         `it has "approve" twice`,
		`{"approve": "false", "by": "jo"}`:                                                                                        `"approve" is a string, and is to be true or false`,
		`{"approve": 0, "by": "jo"}`:                                                                                              `"approve" is a number, and is to be true or false`,
		`{"approve": false, "by": 7}`:                                                                                             `"by" is a number, and is to be text`,
		`{"approve": true, "by": "jo", "epoch": "1", ` + rest + `}`:                                                               `"epoch" is a string, and is to be a whole number`,
		`{"approve": true, "by": "jo", "epoch": 1.5, ` + rest + `}`:                                                               `"epoch" is a number 1.5, and is to be a whole number`,
		`{"approve": true, "by": "jo", "epoch": 1, "allow": {"allow_lag": -1}, ` + rest + `}`:                                     `"allow.allow_lag" is a number -1, and is to be a whole number`,
		`{"approve": true, "by": "jo", "epoch": 1, "allow": "accept_data_loss", ` + rest + `}`:                                    `"allow" is a string, and is to be an object`,
		`{"approve": true, "by": "jo", "epoch": 1, "allow": ["accept_data_loss"], ` + rest + `}`:                                  `"allow" is a array, and is to be an object`,
		`{"approve": true, "by": "jo", "epoch": 1, "allow": {"accept_data_loss": "true"}, ` + rest + `}`:                          `"allow.accept_data_loss" is a string`,
		`{"approve": true, "by": "jo", "epoch": 1, "allow": {"accept_dataloss": true}, ` + rest + `}`:                             `"accept_dataloss" is none of its keys`,
		`{"approve": true, "by": "jo", "epoch": 1, "allow": {"accept_data_loss": false, "accept_data_loss": true}, ` + rest + `}`: `it has "accept_data_loss" twice`,
		`{"approve": true, "by": "jo", "epoch": 1, "allow": {"loss": {"from": 1, "to": 9}}, ` + rest + `}`:                        `"loss" is none of its keys`,
		`{"approve": false, "by": "` + strings.Repeat("j", maxAnswerBytes) + `"}`:                                                 "and an approval at most",
	}
}

// An answer that cannot be read is neither a yes nor a no, and never the end: whoever was
// called is called again, and told what is wrong; the one that comes then counts.
func TestAnAnswerThatCannotBeRead(t *testing.T) {
	for text, want := range unread() {
		for _, kind := range []string{event, watch} {
			f := guarded(t)
			page, err := f.first(kind, "one")
			f.wants(page, err, Verdict(failover.Page), failover.NotEntitled)
			f.now = f.now.Add(time.Hour)
			a, err := f.answers(kind, "one", text)
			f.wants(a, err, Verdict(failover.Page), failover.NotEntitled)
			i := slices.IndexFunc(a.Reasons, func(r failover.Reason) bool { return r.Code == ApprovalVoid })
			if i < 0 || !strings.Contains(a.Reasons[i].Detail, want) || len(a.Reasons[i].Detail) > 700 {
				t.Errorf("%s: %+v, want %s", text, a.Reasons, want)
			}
			if a.Run != "" || a.Epoch != page.Epoch || a.Writer != page.Writer || a.Target != page.Target || a.LostFrom != page.LostFrom || a.LostTo != page.LostTo {
				t.Errorf("%s: it cannot be answered: %+v, and was %+v", text, a, page)
			}
			if r := f.register(); len(r.Handled) != 1 || r.Handled[0].Rejected || r.Handled[0].Verdict != Verdict(failover.Page) || len(r.Ignored) != 0 {
				t.Errorf("%s: %+v", text, r)
			}
			a, err = f.answers(kind, "one", string(written(t, of(page))))
			f.wants(a, err, Verdict(failover.Promote), failover.OverriddenGuard)
		}
	}
}

// null is no answer, and no end: of a change that somebody was called for by the same
// execution somebody is called again.
func TestAnAnswerThatIsNone(t *testing.T) {
	for _, kind := range []string{event, watch} {
		f := guarded(t)
		page, err := f.first(kind, "one")
		f.wants(page, err, Verdict(failover.Page), failover.NotEntitled)
		if slices.ContainsFunc(page.Reasons, func(r failover.Reason) bool { return r.Code == ApprovalVoid }) {
			t.Errorf("nobody was called before: %+v", page)
		}
		// A call that is made anew, as its answer was lost, has called nobody.
		page, err = f.send("one")
		f.wants(page, err, Verdict(failover.Page), failover.NotEntitled)
		if slices.ContainsFunc(page.Reasons, func(r failover.Reason) bool { return r.Code == ApprovalVoid }) {
			t.Errorf("nobody was called by the call before: %+v", page)
		}
		a, err := f.answers(kind, "one", "null")
		f.wants(a, err, Verdict(failover.Page), ApprovalVoid)
		a, err = f.answers(kind, "one", string(written(t, of(page))))
		f.wants(a, err, Verdict(failover.Promote), failover.OverriddenGuard)
	}
}

// An answer that cannot be read pages also where nobody is left to be promoted, and says so.
func TestAnAnswerThatCannotBeReadAndNobodyIsLeft(t *testing.T) {
	f := guarded(t)
	page, err := f.ask("one", 0, nil)
	f.wants(page, err, Verdict(failover.Page), failover.NotEntitled)
	f.Kill("acme-b")
	f.Kill("acme-c")
	a, err := f.answers(event, "one", `"yes"`)
	f.wants(a, err, Verdict(failover.Page), ApprovalVoid)
	f.wants(a, err, Verdict(failover.Page), failover.TargetSilent)
}

// An explicit no is one, with nothing else in it.
func TestANo(t *testing.T) {
	for _, kind := range []string{event, watch} {
		f := guarded(t)
		page, err := f.first(kind, "one")
		f.wants(page, err, Verdict(failover.Page), failover.NotEntitled)
		a, err := f.answers(kind, "one", `{"approve": false, "by": "jo"}`)
		f.wants(a, err, Ignored, NobodyApproved)
		later, err := f.watch("w9", 0, nil)
		f.wants(later, err, Ignored, NobodyApproved)
	}
}

// What is read of an answer is what an Approval has, and nothing of it is left out.
func TestTheKeysOfAnApproval(t *testing.T) {
	keys := func(of reflect.Type) (out []string) {
		for i := range of.NumField() {
			name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ",")
			out = append(out, name)
		}
		return out
	}
	all := map[string]any{"approve": true, "by": "jo", "epoch": 1, "writer": "a", "to": "b", "loss_from": 1, "loss_to": 2,
		"allow": map[string]any{"allow_slow_writer": true, "allow_lag": 3, "allow_backfilling": true, "accept_data_loss": true}}
	if got := keys(reflect.TypeFor[Approval]()); !slices.Equal(slices.Sorted(maps.Keys(all)), slices.Sorted(slices.Values(got))) {
		t.Errorf("an approval has %v", got)
	}
	if got := keys(reflect.TypeFor[failover.Overrides]()); len(got) != len(all["allow"].(map[string]any))+1 || !slices.Contains(got, "loss") {
		t.Errorf("what is given up is any of %v", got) // the loss is said by loss_from and loss_to
	}
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	want := &Approval{Approve: true, By: "jo", Epoch: 1, Writer: "a", To: "b", LossFrom: 1, LossTo: 2,
		Allow: failover.Overrides{AllowSlowWriter: true, AllowLag: 3, AllowBackfilling: true, AcceptDataLoss: true}}
	if p, why := readApproval(text); why != "" || !reflect.DeepEqual(p, want) {
		t.Errorf("%s is read as %+v, %s", text, p, why)
	}
	if p, why := readApproval([]byte(`{"approve": true, "by": "jo", "allow": null}`)); why != "" || p == nil {
		t.Errorf("%+v, %s", p, why)
	}
}

// A call that cannot be read is no event that is none: whoever waits for what comes of it is told.
func TestACallThatCannotBeRead(t *testing.T) {
	f := guarded(t)
	page, err := f.first(event, "one")
	f.wants(page, err, Verdict(failover.Page), failover.NotEntitled)
	_, err = f.h.Handle(t.Context(), fmt.Appendf(nil, `{"event": %s, "execution": "one", "told": true, "approval": %s}`, recorded(t, "eventbridge-alarm.json"), written(t, of(page))))
	if outcome.Of(err) != outcome.Input || len(f.register().Ignored) != 0 {
		t.Errorf("%v; %+v", err, f.register().Ignored)
	}
	a, err := f.h.Handle(t.Context(), []byte(`{"told": true}`))
	f.wants(a, err, Ignored, Malformed)
}
