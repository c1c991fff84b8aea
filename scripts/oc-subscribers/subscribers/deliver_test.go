package subscribers

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"

	"originchain/lambdas/documents"
	"originchain/lambdas/notify"
	"originchain/shared/alarms"
	"originchain/shared/incident"
	"originchain/shared/notice"
)

// receiver is what webhooks are sent to, over TLS. It takes what is signed with the secret.
type receiver struct {
	*httptest.Server

	mu         sync.Mutex
	deliveries []string
	faults     []error
}

func receive(t *testing.T) *receiver {
	t.Helper()
	r := &receiver{}
	r.Server = httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		r.mu.Lock()
		defer r.mu.Unlock()
		if req.URL.Path != "/"+token {
			err = errors.Join(err, errors.New("it was sent to "+req.URL.Path))
		}
		if err = errors.Join(err, notice.Verify([]byte(secret), req.Header, body, time.Now())); err != nil {
			r.faults = append(r.faults, err)
		}
		r.deliveries = append(r.deliveries, req.Header.Get(notice.HeaderDelivery))
	}))
	t.Cleanup(r.Close)
	return r
}

// outbox keeps e-mails.
type outbox struct {
	mu sync.Mutex
	to []string
}

func (o *outbox) Send(_ context.Context, m notice.Message) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.to = append(o.to, m.To)
	return nil
}

// Who was added by the command is told by the function: it is given what the function has
// on AWS, the URL of the registry, and a call of its schedule. Who was removed is not told.
func TestTheFunctionTellsWhoWasAdded(t *testing.T) {
	s, hooks, mails := at(t), receive(t), &outbox{}
	s.must("add", "--id", "ops", "--email", "ops@example.com")
	s.must("add", "--id", "gone", "--email", "gone@example.com", "--up-to", "3")
	s.must("add", "--id", "hook", "--url", hooks.URL+"/"+token, "--secret-file", s.file(secret+"\n"), "--up-to", "2")

	docs := documents.Of(s.store())
	store := incident.NewStore(docs, incident.NewRoster(docs), time.Now, func() float64 { return 0 })
	webhooks := notice.NewWebhooks(notice.WebhookConfig{Now: time.Now, Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Transport: func(to *http.Transport) {
		to.TLSClientConfig = hooks.Client().Transport.(*http.Transport).TLSClientConfig
	}})
	log := logrus.New()
	log.SetOutput(t.Output())
	function := notify.NewHandler(notify.HandlerDeps{Notifier: notify.New(store, webhooks, mails, log), Log: log})
	open := func(id string, severity alarms.Severity) {
		t.Helper()
		if _, err := store.Open(t.Context(), incident.Opening{ID: id, Severity: severity, Title: "A node is silent", Text: "Looking."}); err != nil {
			t.Fatal(err)
		}
	}
	told := func(delivered, refused int, emails, webhooks []string) {
		t.Helper()
		a, err := function.Handle(t.Context(), []byte(`{"source":"aws.scheduler"}`))
		if err != nil || !cmp.Equal(a.Report, notify.Report{Delivered: delivered, Refused: refused}) {
			t.Errorf("%+v, %v", a, err)
		}
		hooks.mu.Lock()
		defer hooks.mu.Unlock()
		slices.Sort(mails.to)
		if !slices.Equal(mails.to, emails) || !slices.Equal(hooks.deliveries, webhooks) || len(hooks.faults) > 0 {
			t.Errorf("by e-mail %q, by webhook %q: %v", mails.to, hooks.deliveries, hooks.faults)
		}
		mails.to, hooks.deliveries = nil, nil
	}

	open("one", alarms.TenantDown)
	told(3, 0, []string{"gone@example.com", "ops@example.com"}, []string{"one.1.hook"})
	open("two", alarms.OneAlarm)
	told(2, 0, []string{"gone@example.com"}, []string{"two.1.hook"})
	open("three", alarms.OneAlarm)
	s.must("remove", "--id", "gone") // and what it is owed is given up
	told(1, 1, nil, []string{"three.1.hook"})
	s.must("add", "--id", "ops", "--email", "new@example.com", "--replace")
	open("four", alarms.TenantDown)
	told(2, 0, []string{"new@example.com"}, []string{"four.1.hook"})
}
