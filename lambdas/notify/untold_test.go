package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/shared/alarms"
	"originchain/shared/incident"
	"originchain/shared/notice"
)

// watchful is a disk that asks before each save, and that a context which is over keeps from
// anything.
type watchful struct {
	documents
	mu    *sync.Mutex
	asked func() error
}

func (d watchful) Load(ctx context.Context, key string) ([]byte, uint64, bool, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, false, err
	}
	return d.documents.Load(ctx, key)
}

func (d watchful) Save(ctx context.Context, key string, expect uint64, b []byte) (uint64, error) {
	d.mu.Lock()
	err := errors.Join(ctx.Err(), d.asked())
	d.mu.Unlock()
	if err != nil {
		return 0, err
	}
	return d.documents.Save(ctx, key, expect, b)
}

func atRest(n *Notifier) *Notifier {
	n.rest = func(context.Context, time.Duration) error { return nil }
	return n
}

// What an incident has no room to owe is logged and counted by the notifier that comes next,
// once; again only if that this was done could not be noted.
func TestWhatThereIsNoRoomFor(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	var everybody incident.Fixed
	for n := range incident.MaxSubscribers {
		everybody = append(everybody, incident.Subscriber{ID: fmt.Sprintf("s%03d", n), Email: "a@b.c", UpTo: alarms.TenantDown})
	}
	saves, refuse := 0, 0
	docs := watchful{newDisk(), &sync.Mutex{}, func() error {
		if saves++; saves == refuse {
			return errors.New("ThrottlingException")
		}
		return nil
	}}
	store := incident.NewStore(docs, everybody, func() time.Time { return now }, func() float64 { return 0 })
	_, err := store.Open(t.Context(), incident.Opening{ID: "i", Severity: alarms.TenantDown, Title: "x", Text: "x", Cause: incident.Cause{Failover: "R1", Instance: "acme"}})
	for n := range 2 {
		if err == nil {
			_, err = store.Add(t.Context(), "i", fmt.Sprint("u", n), "More.")
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	var out, published bytes.Buffer
	log := logrus.New()
	log.SetOutput(&out)
	h := NewHandler(HandlerDeps{Notifier: New(store, nil, &sent{}, log), Log: log, Publish: Publish(&published, "acme", func() time.Time { return now })})
	refuse = saves + 2 // that it was said, after what is claimed
	for n, missed := range []int{incident.MaxSubscribers, incident.MaxSubscribers, 0} {
		out.Reset()
		published.Reset()
		a, err := h.Handle(t.Context(), []byte(`{"source":"aws.scheduler"}`))
		if (err != nil) != (n == 0) || a.GivenUp != missed || a.Failed+a.Refused > 0 {
			t.Errorf("call %d: %+v, %v", n, a, err)
		}
		if counted := strings.Contains(published.String(), fmt.Sprintf(`"%s":%d`, alarms.DeliveriesGivenUp, missed)); counted != (missed > 0) {
			t.Errorf("call %d counted: %s", n, &published)
		}
		text := out.String()
		if said := strings.Count(text, "level=error"); missed > 0 && (said != 1 || !strings.Contains(text, "update=3") || !strings.Contains(text, "subscribers=100") || !strings.Contains(text, "s000")) || missed == 0 && said > 0 {
			t.Errorf("call %d logged: %s", n, text)
		}
	}
	if i, _, err := store.Get(t.Context(), "i"); err != nil || i.Updates[2].Missed != incident.MaxSubscribers {
		t.Errorf("%+v, %v", i, err)
	}
}

// A delivery that is given up is known to be, although the answer of the store that keeps this
// was lost.
func TestGivenUpWhereTheAnswerIsLost(t *testing.T) {
	now, refuse := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), 0
	store := opened(t, busy{newDisk(), &refuse, true}, func() time.Time { return now })
	var out strings.Builder
	log := logrus.New()
	log.SetOutput(&out)
	now = now.Add(incident.GiveUpAfter)
	report, err := atRest(New(store, nil, hook(func(notice.Message) error {
		refuse = 1
		return errors.New("the mail server is away")
	}), log)).Handle(t.Context())
	if err != nil || report.GivenUp != 1 || !strings.Contains(out.String(), "no attempt follows") {
		t.Errorf("%+v, %v: %s", report, err, &out)
	}
}

// An attempt that failed counts as one, although that cannot be recorded.
func TestAFailureThatCannotBeRecorded(t *testing.T) {
	refuse := 0
	store := opened(t, busy{newDisk(), &refuse, false}, time.Now)
	report, err := atRest(New(store, nil, hook(func(notice.Message) error {
		refuse = 1000
		return errors.New("the mail server is away")
	}), quiet())).Handle(t.Context())
	if err == nil || report.Failed != 1 {
		t.Errorf("%+v, %v", report, err)
	}
}

// What was delivered is recorded, although the run's time is over.
func TestARunThatEndsDuringADelivery(t *testing.T) {
	store := opened(t, watchful{newDisk(), &sync.Mutex{}, func() error { return nil }}, time.Now)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	report, err := New(store, nil, hook(func(notice.Message) error {
		cancel()
		return nil
	}), quiet()).Handle(ctx)
	i, _, getErr := store.Get(t.Context(), "i")
	if err != nil || getErr != nil || report.Delivered != 1 || i.Updates[0].Delivered != 1 || len(i.Owed) > 0 {
		t.Errorf("%+v, %v: %+v, %v", report, err, i, getErr)
	}
}

// Attempts are counted for the instance whose incident it is, whichever function makes them; a
// function's own are those of incidents that have none.
func TestEachInstanceCountsItsOwn(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	store := incident.NewStore(newDisk(), incident.Fixed{{ID: "ops", Email: "ops@acme.example", UpTo: alarms.TenantDown}}, func() time.Time { return now }, func() float64 { return 0 })
	for id, instance := range map[string]string{"a": "acme", "b": "globex", "c": "globex", "d": ""} {
		if _, err := store.Open(t.Context(), incident.Opening{ID: id, Severity: alarms.TenantDown, Title: "x", Text: "x", Cause: incident.Cause{Failover: id, Instance: instance}}); err != nil {
			t.Fatal(err)
		}
	}
	call := func(own string) (answer, published, logged string) {
		var metrics, out bytes.Buffer
		log := logrus.New()
		log.SetOutput(&out)
		h := NewHandler(HandlerDeps{Notifier: New(store, nil, hook(func(m notice.Message) error {
			if strings.HasPrefix(m.Delivery, "c.") {
				return fmt.Errorf("%w: no", notice.ErrRefused)
			}
			return errors.New("away")
		}), log), Log: log, Publish: Publish(&metrics, own, func() time.Time { return now })})
		a, err := h.Handle(t.Context(), []byte(`{"source":"aws.scheduler"}`))
		text, jsonErr := json.Marshal(a)
		if err != nil || jsonErr != nil {
			t.Fatal(err, jsonErr)
		}
		return string(text), metrics.String(), out.String()
	}
	line := func(instance string, failed, givenUp int) string {
		return fmt.Sprintf(`{"Instance":"%s","_aws":{"Timestamp":%d,"CloudWatchMetrics":[{"Namespace":"OriginChain/%[1]s","Dimensions":[["Instance"]],"Metrics":[{"Name":"deliveries_failed","Unit":"Count"},{"Name":"deliveries_given_up","Unit":"Count"}]}]},"deliveries_failed":%[3]d,"deliveries_given_up":%[4]d}`+"\n", instance, now.UnixMilli(), failed, givenUp)
	}
	answer, published, logged := call("acme")
	if want := `{"delivered":0,"failed":3,"refused":1,"given_up":1,"batchItemFailures":[]}`; answer != want {
		t.Errorf("the answer is %s, want %s", answer, want)
	}
	if want := line("acme", 2, 0) + line("globex", 1, 1); published != want {
		t.Errorf("acme's function counted\n%swant\n%s", published, want)
	}
	if strings.Count(logged, "instance=globex") != 2 || strings.Count(logged, "instance=acme") != 1 {
		t.Errorf("logged: %s", logged)
	}
	now = now.Add(time.Minute)
	if _, published, _ := call("initech"); published != line("acme", 1, 0)+line("globex", 1, 0)+line("initech", 1, 0) {
		t.Errorf("initech's function counted\n%s", published)
	}
	now = now.Add(time.Minute)
	if _, published, _ := call(""); published != line("acme", 1, 0)+line("globex", 1, 0) {
		t.Errorf("a function of no instance counted\n%s", published)
	}
}
