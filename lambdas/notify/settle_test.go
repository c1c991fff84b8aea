package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	registered "originchain/lambdas/documents"
	"originchain/shared/alarms"
	"originchain/shared/aws/sesmail"
	"originchain/shared/incident"
	"originchain/shared/notice"
	"originchain/shared/registry"
	"originchain/test/awsfake"
)

// busy is a disk whose next saves are refused.
type busy struct {
	documents
	refuse *int
	// lost: they are made all the same.
	lost bool
}

func (d busy) Save(ctx context.Context, key string, expect uint64, b []byte) (uint64, error) {
	if *d.refuse > 0 {
		*d.refuse--
		if d.lost {
			_, _ = d.documents.Save(ctx, key, expect, b)
		}
		return 0, errors.New("ThrottlingException")
	}
	return d.documents.Save(ctx, key, expect, b)
}

// hook is called with each message that is sent, and says how it goes.
type hook func(notice.Message) error

func (h hook) Send(_ context.Context, m notice.Message) error { return h(m) }

func newDisk() documents {
	return documents{&disk{docs: map[string][]byte{}, vers: map[string]uint64{}}, &life{left: -1}}
}

func opened(t *testing.T, docs incident.Documents, now func() time.Time) *incident.Store {
	t.Helper()
	store := incident.NewStore(docs, incident.Fixed{{ID: "ops", Email: "ops@acme.example", UpTo: alarms.TenantDown}}, now, func() float64 { return 0 })
	if _, err := store.Open(t.Context(), incident.Opening{ID: "i", Severity: alarms.TenantDown, Title: "x", Text: "x"}); err != nil {
		t.Fatal(err)
	}
	return store
}

// A store that is too busy to take the mark of a delivery does not have it sent again, nor
// does one whose answer was lost.
func TestAMarkIsMadeAgain(t *testing.T) {
	for _, lost := range []bool{false, true} {
		now, refuse, sends := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), 0, 0
		store := opened(t, busy{newDisk(), &refuse, lost}, func() time.Time { return now })
		n := New(store, nil, hook(func(notice.Message) error {
			sends++
			refuse = settleTries - 1
			return nil
		}), quiet())
		var rests []time.Duration
		n.rest = func(_ context.Context, pause time.Duration) error {
			rests = append(rests, pause)
			return nil
		}
		report, err := n.Handle(t.Context())
		if err != nil || !cmp.Equal(report, Report{Delivered: 1}) {
			t.Errorf("%+v, %v", report, err)
		}
		now = now.Add(incident.ClaimFor + time.Second)
		if _, err := n.Handle(t.Context()); err != nil || sends != 1 {
			t.Errorf("sent %d times: %v", sends, err)
		}
		if !lost && (len(rests) != settleTries-1 || rests[0] != firstRest || rests[len(rests)-1] != longestRest) {
			t.Errorf("rests %v", rests)
		}
		if i, _, err := store.Get(t.Context(), "i"); err != nil || i.Updates[0].Delivered != 1 {
			t.Errorf("%+v, %v", i, err)
		}
	}
}

// One that refuses for ever is asked so many times, and that is said.
func TestAMarkThatCannotBeMade(t *testing.T) {
	refuse := 0
	var out strings.Builder
	log := logrus.New()
	log.SetOutput(&out)
	store := opened(t, busy{newDisk(), &refuse, false}, time.Now)
	n := New(store, nil, hook(func(notice.Message) error {
		refuse = 1000
		return nil
	}), log)
	n.rest = func(context.Context, time.Duration) error { return nil }
	if _, err := n.Handle(t.Context()); err == nil || refuse != 1000-settleTries || !strings.Contains(out.String(), "could not be recorded") {
		t.Errorf("%v after %d tries: %s", err, 1000-refuse, &out)
	}
}

// What cannot be ended while the function lasts is neither begun nor claimed.
func TestTheFunctionsEnd(t *testing.T) {
	for left, want := range map[time.Duration]int{attemptAndSettle - time.Second: 0, attemptAndSettle + time.Minute: 1} {
		store := opened(t, newDisk(), time.Now)
		sends := 0
		ctx, cancel := context.WithTimeout(t.Context(), left)
		defer cancel()
		report, err := New(store, nil, hook(func(notice.Message) error {
			sends++
			return nil
		}), quiet()).Handle(ctx)
		i, _, getErr := store.Get(t.Context(), "i")
		if err != nil || getErr != nil || sends != want || report.Delivered != want || want == 0 && i.Owed[0].Claimed {
			t.Errorf("with %s left: sent %d, %+v, %v, %+v", left, sends, report, err, i)
		}
	}
}

// A claim that was made while there was time is let go where none is left for it.
func TestNoTimeIsLeftForAClaim(t *testing.T) {
	store := opened(t, newDisk(), time.Now)
	i, claimed, _, err := store.Claim(t.Context(), "i")
	if err != nil || len(claimed) != 1 {
		t.Fatal(claimed, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), attemptAndSettle-time.Second)
	defer cancel()
	n := New(store, nil, hook(func(notice.Message) error {
		t.Error("it was begun")
		return nil
	}), quiet())
	(&run{n: n}).deliver(ctx, i, claimed[0], &incident.Subscriber{ID: "ops", Email: "ops@acme.example"})
}

// What the service refuses is in the log and counted, with its own words and without the
// recipient's address; and so is what is given up in the end.
func TestWhoIsNotToldIsKnown(t *testing.T) {
	f := awsfake.Start(t)
	mail, err := sesmail.New(f.Config(), "status@db.example", time.Now)
	if err != nil {
		t.Fatal(err)
	}
	refusal := awsfake.Fail("MessageRejected", "Email address is not verified. The following identities failed the check in region EU-CENTRAL-1: OPS@acme.example, status@db.example")
	f.SES.Next("SendEmail", refusal, refusal)
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	store := opened(t, registered.Of(registry.NewMemory()), func() time.Time { return now })
	var out, published bytes.Buffer
	log := logrus.New()
	log.SetOutput(&out)
	h := NewHandler(HandlerDeps{Notifier: New(store, nil, mail, log), Log: log, Publish: Publish(&published, "acme", func() time.Time { return now })})
	call := func() (counted map[string]any) {
		out.Reset()
		published.Reset()
		if _, err := h.Handle(t.Context(), []byte(`{"source":"aws.scheduler"}`)); err != nil {
			t.Fatal(err)
		}
		if published.Len() > 0 {
			if err := json.Unmarshal(published.Bytes(), &counted); err != nil {
				t.Fatal(err)
			}
		}
		return counted
	}
	counted := call()
	i, _, err := store.Get(t.Context(), "i")
	if err != nil || !strings.Contains(i.Owed[0].Error, "MessageRejected: Email address is not verified.") {
		t.Errorf("kept: %+v, %v", i, err)
	}
	if text := out.String(); !strings.Contains(text, "level=error") || !strings.Contains(text, "i.1.ops") || !strings.Contains(text, "MessageRejected") || !strings.Contains(text, "status@db.example") || strings.Contains(strings.ToLower(text), "ops@acme") {
		t.Errorf("logged: %s", text)
	}
	if counted["Instance"] != "acme" || counted[alarms.DeliveriesFailed] != 1.0 || counted[alarms.DeliveriesGivenUp] != 0.0 || !strings.Contains(published.String(), alarms.Namespace("acme")) {
		t.Errorf("counted: %s", &published)
	}
	now = now.Add(incident.GiveUpAfter)
	if counted := call(); counted[alarms.DeliveriesGivenUp] != 1.0 || !strings.Contains(out.String(), "no attempt follows") {
		t.Errorf("given up: %s %s", &published, &out)
	}
	if counted := call(); counted != nil || out.Len() > 0 {
		t.Errorf("nothing is owed: %s %s", &published, &out)
	}
}
