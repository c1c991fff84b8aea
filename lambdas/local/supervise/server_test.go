package supervise

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"originchain/shared/failover"
)

// served is a supervisor with n1, reached over HTTP.
func served(t *testing.T) (r *rig, c *Client, tokenFile, base string) {
	t.Helper()
	r = one(t, unitOf(t, "obedient", "--node-id n1"), nil)
	tokenFile = filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(tokenFile, []byte("b1946ac92492d234\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(NewServer(r.Supervisor, tokenFile, quiet()))
	server.Listener.Close()
	server.Listener = l
	server.Start()
	t.Cleanup(server.Close)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	return r, NewClient(server.URL, tokenFile, transport), tokenFile, server.URL
}

func TestTheClientIsTheSupervisor(t *testing.T) {
	r, c, _, _ := served(t)
	ctx, n := t.Context(), node("n1")
	r.must(c.Start(ctx, n))
	pid := r.next(Started).PID
	if p, err := c.Process(ctx, n); err != nil || p != (failover.Process{Running: true, PID: pid}) {
		t.Errorf("%+v, %v", p, err)
	}
	r.logged("n1", "up ")
	name, text, err := c.Unit(ctx, n)
	wantName, wantText, _ := r.Unit(ctx, n)
	if err != nil || name != wantName || string(text) != string(wantText) {
		t.Errorf("%s, %v:\n%s", name, err, text)
	}
	r.must(c.Rewrite(ctx, n, []byte(unitOf(t, "obedient", "--node-id n1 --again"))))
	r.must(c.Restart(ctx, n))
	r.next(Exited)
	r.next(Started)
	r.logged("n1", "--again")
	if p, err := c.Stop(ctx, n); err != nil || p != (failover.Process{Reaped: true}) {
		t.Errorf("%+v, %v", p, err)
	}
	r.next(Exited)
	r.must(c.Start(ctx, n))
	r.next(Started)
	r.must(c.Kill(ctx, n, syscall.SIGKILL))
	if e := r.next(Exited); e.Exit.Signal != syscall.SIGKILL || e.Exit.Wanted {
		t.Errorf("%+v", e)
	}
}

func TestTheClientsErrorsAreTheSupervisors(t *testing.T) {
	r, c, _, _ := served(t)
	ctx, n := t.Context(), node("n1")
	var unknown *UnknownMachineError
	if err := c.Start(ctx, node("n9")); !errors.As(err, &unknown) || unknown.Machine != "n9" || !strings.Contains(unknown.File, "n9") {
		t.Errorf("%v", err)
	}
	var refused *RefusedUnitError
	err := c.Rewrite(ctx, n, []byte("[Service]\nExecStart=/bin/a\nExecStop=/bin/b\n"))
	if !errors.As(err, &refused) || err.Error() != r.Rewrite(ctx, n, []byte("[Service]\nExecStart=/bin/a\nExecStop=/bin/b\n")).Error() {
		t.Errorf("%v", err)
	}
	if err := c.Rewrite(ctx, n, make([]byte, maxUnitBytes+1)); err == nil {
		t.Error("a unit of more than the limit was taken")
	}
	var wrong *WrongNodeError
	if err := c.Start(ctx, failover.Node{ID: "n2", Machine: "n1"}); !errors.As(err, &wrong) || wrong.Have != "n1" || wrong.Want != "n2" {
		t.Errorf("%v", err)
	}
	if err := c.Kill(ctx, n, syscall.SIGKILL); !errors.Is(err, ErrNotRunning) || errors.Is(err, ErrStopped) {
		t.Errorf("%v", err)
	}
	if err := c.Kill(ctx, n, 0); err == nil {
		t.Error("signal 0 was taken")
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if err := c.Start(canceled, n); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	r.end()
	if _, err := c.Process(ctx, n); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
}

func TestOnlyThisMachineWithTheTokenIsServed(t *testing.T) {
	r, c, tokenFile, base := served(t)
	r.must(c.Start(t.Context(), node("n1")))
	pid := r.next(Started).PID
	get := func(token string) int {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, base+pathPrefix+"n1/stop", nil)
		r.must(err)
		if token != "" {
			req.Header.Set("Authorization", token)
		}
		transport := &http.Transport{}
		defer transport.CloseIdleConnections()
		res, err := (&http.Client{Transport: transport}).Do(req)
		r.must(err)
		res.Body.Close()
		return res.StatusCode
	}
	for _, token := range []string{"", "Bearer ", "Bearer b1946ac92492d23", "Bearer b1946ac92492d2345"} {
		if status := get(token); status != http.StatusUnauthorized {
			t.Errorf("token %q: %d", token, status)
		}
	}
	for _, text := range []string{"", "\n", strings.Repeat("x", maxTokenBytes+1)} {
		r.must(os.WriteFile(tokenFile, []byte(text), 0o600))
		if status := get("Bearer x"); status != http.StatusServiceUnavailable {
			t.Errorf("with a token of %d bytes: %d", len(text), status)
		}
		if err := c.Start(t.Context(), node("n1")); err == nil {
			t.Errorf("the client sends a token of %d bytes", len(text))
		}
	}
	r.must(os.WriteFile(tokenFile, []byte("another"), 0o600))
	if p, err := c.Process(t.Context(), node("n1")); err != nil || p.PID != pid {
		t.Errorf("after a new token: %+v, %v", p, err)
	}
	for _, from := range []string{"192.0.2.1:1234", "[2001:db8::1]:1", "nonsense"} {
		req := httptest.NewRequest(http.MethodGet, pathPrefix+"n1", nil)
		req.RemoteAddr = from
		req.Header.Set("Authorization", "Bearer another")
		w := httptest.NewRecorder()
		NewServer(r.Supervisor, tokenFile, quiet()).ServeHTTP(w, req)
		if w.Code != http.StatusForbidden {
			t.Errorf("from %s: %d", from, w.Code)
		}
	}
	for _, address := range []string{"0.0.0.0:0", "[::]:0", "192.0.2.1:1", "localhost:0", ":0"} {
		if l, err := Listen(address); err == nil {
			l.Close()
			t.Errorf("it listens on %s", address)
		}
	}
}
