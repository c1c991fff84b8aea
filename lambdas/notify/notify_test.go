package notify

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/shared/alarms"
	"originchain/shared/incident"
	"originchain/shared/notice"
)

var errKilled = errors.New("killed")

// life is the process that notifies: it ends at its n-th step, before it takes effect or
// right after, and does nothing from then on.
type life struct {
	mu    sync.Mutex
	left  int // -1: it lives on
	after bool
	dead  bool
}

// step runs one step of the process.
func (l *life) step(do func()) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead {
		return errKilled
	}
	ends := l.left == 0
	if l.left > 0 {
		l.left--
	}
	if ends && !l.after {
		l.dead = true
		return errKilled
	}
	do()
	if ends {
		l.dead = true
		return errKilled
	}
	return nil
}

// disk is where documents outlive the process.
type disk struct {
	docs map[string][]byte
	vers map[string]uint64
}

// documents are the disk as one life reaches it.
type documents struct {
	*disk
	*life
}

func (d documents) Load(_ context.Context, key string) (b []byte, v uint64, ok bool, err error) {
	err = d.step(func() { b, ok = d.docs[key]; v = d.vers[key] })
	return b, v, ok, err
}

func (d documents) Save(_ context.Context, key string, expect uint64, b []byte) (uint64, error) {
	conflict := false
	if err := d.step(func() {
		if conflict = d.vers[key] != expect; !conflict {
			d.docs[key], d.vers[key] = slices.Clone(b), expect+1
		}
	}); err != nil {
		return 0, err
	}
	if conflict {
		return 0, incident.ErrConflict
	}
	return expect + 1, nil
}

func (d documents) Delete(_ context.Context, key string, expect uint64) error {
	conflict := false
	if err := d.step(func() {
		if conflict = d.vers[key] != expect; !conflict {
			delete(d.docs, key)
			delete(d.vers, key)
		}
	}); err != nil {
		return err
	}
	if conflict {
		return incident.ErrConflict
	}
	return nil
}

func (d documents) List(_ context.Context, prefix string) (keys []string, err error) {
	err = d.step(func() {
		keys = slices.DeleteFunc(slices.Collect(maps.Keys(d.docs)), func(k string) bool { return !strings.HasPrefix(k, prefix) })
	})
	return keys, err
}

// mortal senders are a life's.
type mortalHooks struct {
	Webhooks
	*life
}

func (m mortalHooks) Send(ctx context.Context, target string, secret []byte, delivery string, body []byte) error {
	var err error
	if dead := m.step(func() { err = m.Webhooks.Send(ctx, target, secret, delivery, body) }); dead != nil {
		return dead
	}
	return err
}

type mortalMail struct {
	Mail
	*life
}

func (m mortalMail) Send(ctx context.Context, msg notice.Message) error {
	var err error
	if dead := m.step(func() { err = m.Mail.Send(ctx, msg) }); dead != nil {
		return dead
	}
	return err
}

// receivers are a webhook and a mail server on loopback.
type receivers struct {
	hook     *httptest.Server
	smtp     net.Listener
	webhooks *notice.Webhooks
	mail     *notice.Mail
	answer   func(n int, w http.ResponseWriter) // of the n-th webhook, from 1

	mu    sync.Mutex
	hooks []Body
	mails []string // Message-IDs, in order
	bad   []error
	join  sync.WaitGroup
}

const secret = "0123456789abcdef"

func listen(t *testing.T) *receivers {
	t.Helper()
	r := &receivers{}
	r.hook = httptest.NewServer(http.HandlerFunc(r.receive))
	var err error
	if r.smtp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	r.join.Go(func() {
		for {
			c, err := r.smtp.Accept()
			if err != nil {
				return
			}
			r.join.Go(func() { r.talk(c) })
		}
	})
	t.Cleanup(func() { r.hook.Close(); _ = r.smtp.Close(); r.join.Wait() })
	r.webhooks = notice.NewWebhooks(notice.WebhookConfig{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Now: time.Now})
	if r.mail, err = notice.NewMail(notice.MailConfig{Server: r.smtp.Addr().String(), From: "oc@example.com", Now: time.Now}); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *receivers) receive(w http.ResponseWriter, req *http.Request) {
	text, err := io.ReadAll(req.Body)
	if err == nil {
		err = notice.Verify([]byte(secret), req.Header, text, time.Now())
	}
	var b Body
	if err == nil {
		err = json.Unmarshal(text, &b)
	}
	if err == nil && b.Delivery != req.Header.Get(notice.HeaderDelivery) {
		err = fmt.Errorf("the header says %s, the body %s", req.Header.Get(notice.HeaderDelivery), b.Delivery)
	}
	r.mu.Lock()
	r.hooks = append(r.hooks, b)
	if err != nil {
		r.bad = append(r.bad, err)
	}
	n := len(r.hooks)
	r.mu.Unlock()
	if r.answer != nil {
		r.answer(n, w)
	}
}

func (r *receivers) talk(c net.Conn) {
	defer func() { _ = c.Close() }()
	in := bufio.NewScanner(c)
	_, _ = io.WriteString(c, "220 here\r\n")
	for in.Scan() {
		switch line := in.Text(); line {
		case "DATA":
			_, _ = io.WriteString(c, "354 go\r\n")
			for in.Scan() && in.Text() != "." {
				if id, ok := strings.CutPrefix(in.Text(), "Message-ID: "); ok {
					r.mu.Lock()
					r.mails = append(r.mails, id)
					r.mu.Unlock()
				}
			}
			_, _ = io.WriteString(c, "250 taken\r\n")
		case "QUIT":
			return
		default:
			_, _ = io.WriteString(c, "250 ok\r\n")
		}
	}
}

type wall struct{ now time.Time }

func (c *wall) Now() time.Time { return c.now }

// setting is an incident of three updates and two subscribers, on a disk.
func setting(t *testing.T, r *receivers) (*disk, *wall) {
	t.Helper()
	d, c := &disk{map[string][]byte{}, map[string]uint64{}}, &wall{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	docs := documents{d, &life{left: -1}}
	roster := incident.NewRoster(docs)
	s := incident.NewStore(docs, roster, c.Now, func() float64 { return 0 })
	for _, sub := range []incident.Subscriber{{ID: "hook", Webhook: incident.Secret(r.hook.URL + "/h"), Secret: secret}, {ID: "mail", Email: "ops@example.com"}} {
		if err := roster.Subscribe(t.Context(), sub); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.Open(t.Context(), incident.Opening{ID: "i", Severity: alarms.TenantDown, Title: "A node is silent", Text: "Looking."})
	if err == nil {
		_, err = s.Add(t.Context(), "i", "promoted", "b is the writer.")
	}
	if err == nil {
		_, err = s.Resolve(t.Context(), "i", "over", "Over.")
	}
	if err != nil {
		t.Fatal(err)
	}
	return d, c
}

func notifier(d *disk, c *wall, l *life, r *receivers) (*Notifier, *incident.Store) {
	s := incident.NewStore(documents{d, l}, incident.NewRoster(documents{d, l}), c.Now, func() float64 { return 0 })
	n := New(s, mortalHooks{r.webhooks, l}, mortalMail{r.mail, l}, quiet())
	n.rest = func(context.Context, time.Duration) error { return nil } // the dead have no time
	return n, s
}

func quiet() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

// finish runs a notifier until nothing is owed, and tells the incident.
func finish(t *testing.T, d *disk, c *wall, r *receivers) *incident.Incident {
	t.Helper()
	n, s := notifier(d, c, &life{left: -1}, r)
	for range 40 {
		if _, err := n.Handle(t.Context()); err != nil {
			t.Fatal(err)
		}
		i, _, err := s.Get(t.Context(), "i")
		if err != nil {
			t.Fatal(err)
		}
		if len(i.Owed) == 0 {
			return i
		}
		c.now = c.now.Add(incident.ClaimFor)
	}
	t.Fatal("there is always something owed")
	return nil
}

// distinct drops repeats of what came directly before.
func distinct(ids []string) []string { return slices.Compact(slices.Clone(ids)) }

func (r *receivers) deliveries() (hooks, mails []string) {
	for _, b := range r.hooks {
		hooks = append(hooks, b.Delivery)
	}
	return hooks, r.mails
}

var (
	wantHooks = []string{"i.1.hook", "i.2.hook", "i.3.hook"}
	wantMails = []string{"<i.1.mail@example.com>", "<i.2.mail@example.com>", "<i.3.mail@example.com>"}
)

func TestEveryUpdateOnceAndInOrder(t *testing.T) {
	r := listen(t)
	d, c := setting(t, r)
	i := finish(t, d, c, r)
	hooks, mails := r.deliveries()
	if !slices.Equal(hooks, wantHooks) || !slices.Equal(mails, wantMails) || len(r.bad) > 0 {
		t.Errorf("%q %q %v", hooks, mails, r.bad)
	}
	for _, u := range i.Updates {
		if u.Delivered != 2 || len(u.GivenUp) != 0 {
			t.Errorf("%+v", u)
		}
	}
	if last := r.hooks[2]; !last.Resolved || last.Text != "Over." || last.Severity != alarms.TenantDown {
		t.Errorf("%+v", last)
	}
}

// The notifier is killed at every step of its run, before the step takes effect and
// after; another one goes on. Every update arrives, in order; what comes twice is the
// attempt whose end could not be recorded, under the same id.
func TestKilledAnywhere(t *testing.T) {
	for _, after := range []bool{false, true} {
		killed, repeats := 0, 0
		for at := 0; ; at++ {
			r := listen(t)
			d, c := setting(t, r)
			l := &life{left: at, after: after}
			n, _ := notifier(d, c, l, r)
			for range 3 {
				if _, err := n.Handle(t.Context()); err == nil == l.dead {
					t.Fatalf("step %d: %v", at, err)
				}
			}
			if !l.dead {
				break
			}
			killed++
			c.now = c.now.Add(incident.ClaimFor)
			i := finish(t, d, c, r)
			hooks, mails := r.deliveries()
			if !slices.Equal(distinct(hooks), wantHooks) || !slices.Equal(distinct(mails), wantMails) || len(r.bad) > 0 {
				t.Fatalf("killed at step %d (after it: %t): %q %q %v", at, after, hooks, mails, r.bad)
			}
			again := len(hooks) + len(mails) - len(wantHooks) - len(wantMails)
			if again > 2 {
				t.Fatalf("killed at step %d (after it: %t): %d repeats", at, after, again)
			}
			repeats += again
			for _, u := range i.Updates {
				if u.Delivered != 2 || len(u.GivenUp) != 0 {
					t.Fatalf("killed at step %d: %+v", at, u)
				}
			}
		}
		if killed < 20 || repeats == 0 {
			t.Errorf("%d kills, %d repeats: this tells little", killed, repeats)
		}
	}
}

func TestReceiversThatFail(t *testing.T) {
	for name, c := range map[string]struct {
		answer func(n int, w http.ResponseWriter)
		hooks  []string
	}{
		"500, then 200": {func(n int, w http.ResponseWriter) {
			if n == 1 {
				w.WriteHeader(500)
			}
		}, []string{"i.1.hook", "i.1.hook", "i.2.hook", "i.3.hook"}},
		"the answer is lost": {func(n int, w http.ResponseWriter) {
			if n == 2 {
				c, _, _ := w.(http.Hijacker).Hijack()
				_ = c.Close()
			}
		}, []string{"i.1.hook", "i.2.hook", "i.2.hook", "i.3.hook"}},
		"a redirect is no answer": {func(n int, w http.ResponseWriter) {
			if n == 3 {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(302)
			}
		}, []string{"i.1.hook", "i.2.hook", "i.3.hook", "i.3.hook"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := listen(t)
			r.answer = c.answer
			d, clock := setting(t, r)
			i := finish(t, d, clock, r)
			if hooks, mails := r.deliveries(); !slices.Equal(hooks, c.hooks) || !slices.Equal(mails, wantMails) || i.Updates[2].Delivered != 2 {
				t.Errorf("%q %q %+v", hooks, mails, i.Updates)
			}
		})
	}
}

// A receiver that hangs holds up nobody else, and is asked again when the run has ended.
func TestAReceiverThatHangs(t *testing.T) {
	r := listen(t)
	release, hangs := make(chan struct{}), make(chan struct{})
	r.answer = func(n int, _ http.ResponseWriter) {
		if n == 1 {
			close(hangs)
			<-release
		}
	}
	d, c := setting(t, r)
	n, _ := notifier(d, c, &life{left: -1}, r)
	n.webhooks, n.mail = r.webhooks, r.mail // side by side, as they are
	ctx, cancel := context.WithCancel(t.Context())
	var run sync.WaitGroup
	var report Report
	run.Go(func() { report, _ = n.Handle(ctx) })
	<-hangs
	for mailed := false; !mailed; {
		r.mu.Lock()
		mailed = len(r.mails) == 1
		r.mu.Unlock()
	}
	cancel()
	run.Wait()
	close(release)
	if report.Failed == 0 {
		t.Errorf("%+v", report)
	}
	finish(t, d, c, r)
	if hooks, mails := r.deliveries(); !slices.Equal(distinct(hooks), wantHooks) || !slices.Equal(distinct(mails), wantMails) {
		t.Errorf("%q %q", hooks, mails)
	}
}

func TestWhoCannotBeTold(t *testing.T) {
	r := listen(t)
	d, c := setting(t, r)
	n, s := notifier(d, c, &life{left: -1}, r)
	n.webhooks = notice.NewWebhooks(notice.WebhookConfig{Now: time.Now}) // loopback is not allowed
	if err := incident.NewRoster(documents{d, &life{left: -1}}).Unsubscribe(t.Context(), "mail"); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		if _, err := n.Handle(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	i, _, err := s.Get(t.Context(), "i")
	if err != nil || len(i.Owed) != 0 {
		t.Fatalf("%v %+v", err, i)
	}
	for _, u := range i.Updates {
		if u.Delivered != 0 || len(u.GivenUp) != 2 || strings.Contains(fmt.Sprint(u), "127.0.0.1") {
			t.Errorf("%+v", u)
		}
	}
}

// slow are receivers that take all of the time there is for an attempt, one after the
// other, and the clock by which they do.
type slow struct {
	mu    sync.Mutex
	now   time.Time
	sends int
}

func (s *slow) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *slow) Send(context.Context, string, []byte, string, []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sends++
	s.now = s.now.Add(notice.AttemptTimeout)
	return context.DeadlineExceeded
}

// Claims that waited behind receivers that hang are not attempted when another notifier
// may have them by then.
func TestAClaimThatIsLate(t *testing.T) {
	d, begun := &disk{map[string][]byte{}, map[string]uint64{}}, time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	hooks := &slow{now: begun}
	var subs incident.Fixed
	for n := range 20 {
		subs = append(subs, incident.Subscriber{ID: fmt.Sprint("s", n), Webhook: "https://h.example", Secret: secret, UpTo: alarms.TenantDown})
	}
	s := incident.NewStore(documents{d, &life{left: -1}}, subs, hooks.Now, func() float64 { return 0 })
	if _, err := s.Open(t.Context(), incident.Opening{ID: "i", Severity: alarms.TenantDown, Title: "x", Text: "x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := New(s, hooks, nil, quiet()).Handle(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Those that began before the last moment may be as many as are under way at once.
	if latest := incident.ClaimFor/notice.AttemptTimeout + atOnce; hooks.sends > int(latest) || hooks.sends < 3 {
		t.Errorf("%d attempts, of which claims last for %d", hooks.sends, latest)
	}
}
