package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"originchain/scripts/call"
	"originchain/shared/notice"
	"originchain/test/settle"
)

const hookSecret = "0123456789abcdef0123456789abcdef"

// called is what a webhook has received.
type called struct {
	Delivery string `json:"delivery"`
	Incident string `json:"incident"`
	Cause    struct {
		Alarm string `json:"alarm"`
		Node  string `json:"node"`
	} `json:"cause"`
	Update   int  `json:"update"`
	Resolved bool `json:"resolved"`
}

// pager is a webhook and a mail server.
type pager struct {
	t    *testing.T
	hook *httptest.Server
	smtp net.Listener
	join sync.WaitGroup

	mu    sync.Mutex
	calls []called
	mails []string // the subjects
	// before is asked what to do before the first call is answered; nil answers.
	before func()
}

func page(t *testing.T) *pager {
	t.Helper()
	p := &pager{t: t}
	p.hook = httptest.NewServer(http.HandlerFunc(p.receive))
	var err error
	if p.smtp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	p.join.Go(func() {
		for {
			c, err := p.smtp.Accept()
			if err != nil {
				return
			}
			p.join.Go(func() { p.talk(c) })
		}
	})
	t.Cleanup(func() { p.hook.Close(); _ = p.smtp.Close(); p.join.Wait() })
	return p
}

func (p *pager) receive(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = notice.Verify([]byte(hookSecret), r.Header, body, time.Now())
	}
	var c called
	if err == nil {
		err = json.Unmarshal(body, &c)
	}
	if err != nil || c.Delivery != r.Header.Get(notice.HeaderDelivery) {
		p.t.Errorf("a call that is not as it must be: %v, %s", err, body)
	}
	p.mu.Lock()
	p.calls = append(p.calls, c)
	before := p.before
	p.before = nil
	p.mu.Unlock()
	if before != nil {
		before()
	}
	w.WriteHeader(http.StatusNoContent)
}

func (p *pager) talk(c net.Conn) {
	defer func() { _ = c.Close() }()
	in := bufio.NewScanner(c)
	_, _ = io.WriteString(c, "220 here\r\n")
	for in.Scan() {
		switch in.Text() {
		case "DATA":
			_, _ = io.WriteString(c, "354 go\r\n")
			for in.Scan() && in.Text() != "." {
				if subject, ok := strings.CutPrefix(in.Text(), "Subject: "); ok {
					p.mu.Lock()
					p.mails = append(p.mails, subject)
					p.mu.Unlock()
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

// of are the calls about one alarm of a node, once it holds of them that they are enough.
func (p *pager) of(node string, enough func([]called) bool) (out []called) {
	p.t.Helper()
	settle.Eventually(p.t, "the webhook is called", func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		out = nil
		for _, c := range p.calls {
			if c.Cause.Node == node && c.Cause.Alarm == "oc-controlplane-instance-silent" {
				out = append(out, c)
			}
		}
		if !enough(out) {
			return fmt.Errorf("the calls are %+v", out)
		}
		return nil
	})
	return out
}

func over(calls []called) bool { return len(calls) > 0 && calls[len(calls)-1].Resolved }

// paged makes the directory of an instance that tells a pager.
func paged(t *testing.T, p *pager) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "instance")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"hook.secret": hookSecret + "\n",
		"notify.toml": `webhook_allow = ["127.0.0.0/8"]
[smtp]
server = "` + p.smtp.Addr().String() + `"
from = "oc@example.com"
[[subscriber]]
id = "hook"
webhook = "` + p.hook.URL + `/T0KEN"
secret_file = "hook.secret"
[[subscriber]]
id = "ops"
email = "ops@example.com"
`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// watched is what status says of incidents and verification.
type watched struct {
	Incidents []struct {
		ID    string `json:"id"`
		Title string `json:"title"`
	} `json:"incidents"`
	Verification struct {
		Verified *time.Time `json:"verified"`
		Age      *float64   `json:"age_seconds"`
		Last     *struct {
			Green bool   `json:"green"`
			LSN   uint64 `json:"lsn"`
			Error string `json:"error"`
		} `json:"last"`
	} `json:"verification"`
}

func (l *local) watched() (w watched) {
	l.t.Helper()
	l.must(&w, "status", "--json")
	return w
}

// noSecrets: nothing that must not be told is in what oc-control logs and keeps.
func (l *local) noSecrets() {
	l.t.Helper()
	docs, err := filepath.Glob(filepath.Join(l.dir, "registry", "*.doc"))
	if err != nil || len(docs) == 0 {
		l.t.Fatalf("%q, %v", docs, err)
	}
	for _, path := range append(docs, filepath.Join(l.dir, "logs", "oc-control.log")) {
		b, err := os.ReadFile(path)
		if err != nil {
			l.t.Fatal(err)
		}
		for _, secret := range []string{hookSecret, "T0KEN"} {
			if strings.Contains(string(b), secret) {
				l.t.Errorf("%s has %s", path, secret)
			}
		}
	}
}

// A follower that freezes is an incident, of which everybody is told once; so is its end.
// Meanwhile a recovery point is verified, in both modes, and how long ago outlives the
// control plane.
func TestAnAlarmIsToldOnce(t *testing.T) {
	t.Parallel()
	p := page(t)
	l := upIn(t, paged(t, p), "--verify-every", "2s")
	frozen := l.standing().Followers[0]
	freeze(t, frozen.PID)
	first := p.of(frozen.Node, func(c []called) bool { return len(c) > 0 })[0]
	if w := l.watched(); len(w.Incidents) == 0 || w.Incidents[0].ID != first.Incident || !strings.Contains(w.Incidents[0].Title, frozen.Node) {
		t.Errorf("status says %+v, told was %+v", w, first)
	}
	if out, _, _ := l.run("status"); !strings.Contains(out, "INCIDENT") || !strings.Contains(out, first.Incident) {
		t.Errorf("status for people:\n%s", out)
	}
	metrics := &call.Client{URL: l.machines()}
	if resp, err := metrics.Do(t.Context(), call.Request{Method: http.MethodGet, Path: "/metrics"}); err != nil || !strings.Contains(string(resp.Body), `oc_controlplane_heartbeat_age_s{node="`+frozen.Node+`"}`) || !strings.Contains(string(resp.Body), "oc_pitr_last_verified_age_s") {
		t.Errorf("the control plane's metrics: %v", err)
	}
	if err := syscall.Kill(frozen.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	calls := p.of(frozen.Node, over)
	if len(calls) != 2 || calls[0].Update != 1 || calls[0].Resolved || calls[1].Update != 2 || calls[1].Incident != first.Incident {
		t.Errorf("the calls are %+v", calls)
	}
	p.mailed(2)
	verified := l.verified(nil)
	l.must(nil, "down")
	l.must(nil, "up", "--detach", "--verify-every", "24h")
	if w := l.watched(); w.Verification.Verified == nil || w.Verification.Verified.Before(*verified.Verification.Verified) || w.Verification.Age == nil || *w.Verification.Age > 3600 {
		t.Errorf("%+v after %+v", w, verified)
	}
	l.must(nil, "down")
	l.must(nil, "up", "--detach", "--verify-every", "2s", "--verify-mode", "streaming")
	after := l.watched().Verification.Verified
	l.verified(after)
	p.mailed(2)
	l.noSecrets()
}

// machines is where the control plane serves its own metrics.
func (l *local) machines() string {
	l.t.Helper()
	b, err := os.ReadFile(filepath.Join(l.dir, "instance.json"))
	var in struct {
		Front string `json:"front"`
		Port  int    `json:"machines_port"`
	}
	if err == nil {
		err = json.Unmarshal(b, &in)
	}
	if err != nil {
		l.t.Fatal(err)
	}
	return "http://" + net.JoinHostPort(in.Front, strconv.Itoa(in.Port))
}

func freeze(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
}

// verified waits until a verification later than that has been green.
func (l *local) verified(after *time.Time) (w watched) {
	l.t.Helper()
	settle.Eventually(l.t, "a verification is green", func() error {
		w = l.watched()
		if v := w.Verification; v.Verified == nil || after != nil && !v.Verified.After(*after) || v.Last == nil || !v.Last.Green || v.Last.LSN == 0 {
			return fmt.Errorf("nothing was verified: %+v", w.Verification)
		}
		return nil
	})
	return w
}

// mailed waits for mails about a node that is silent: so many and no more.
func (p *pager) mailed(want int) {
	p.t.Helper()
	settle.Eventually(p.t, "the mails are sent", func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		got := 0
		for _, subject := range p.mails {
			if strings.Contains(subject, "oc-controlplane-instance-silent") {
				got++
			}
		}
		if got > want {
			p.t.Fatalf("%d mails, want %d: %q", got, want, p.mails)
		}
		if got < want {
			return fmt.Errorf("%d mails, want %d: %q", got, want, p.mails)
		}
		return nil
	})
}

// A control plane that is killed after a webhook has the call, and before it has noted
// the answer, makes the call again: with the same id, by which a receiver tells. No
// update is lost, and none comes under two ids.
func TestAKillBetweenACallAndItsNote(t *testing.T) {
	t.Parallel()
	p := page(t)
	l := upIn(t, paged(t, p))
	s := l.standing()
	plane := parentOf(t, s.Writer.PID)
	p.before = func() {
		if err := syscall.Kill(plane, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		gone(t, plane)
	}
	freeze(t, s.Followers[0].PID)
	p.of(s.Followers[0].Node, func(c []called) bool { return len(c) > 0 })
	gone(t, plane)
	gone(t, s.Writer.PID)
	l.must(nil, "up", "--detach")
	calls := p.of(s.Followers[0].Node, over)
	if len(calls) != 3 || calls[0] != calls[1] || calls[2].Incident != calls[0].Incident || calls[2].Update != 2 {
		t.Errorf("the calls are %+v", calls)
	}
}

// gone waits until a process is no more, or only its parent has not heard of that.
func gone(t *testing.T, pid int) {
	t.Helper()
	if err := settle.Becomes(t.Context(), func() error {
		if syscall.Kill(pid, 0) == nil && !strings.Contains(stateOf(pid), "Z") {
			return fmt.Errorf("process %d runs", pid)
		}
		return nil
	}); err != nil {
		t.Error(err) // the webhook asks too, which may not end the test
	}
}

func stateOf(pid int) string {
	b, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "State:"); ok {
			return strings.TrimSpace(rest)[:1]
		}
	}
	return "Z" // it is gone
}
