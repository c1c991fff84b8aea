package proxy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patient is a configuration under which nothing times out while a test runs.
func patient() Config {
	return Config{MaxWait: time.Hour, Grace: time.Hour, AnswerTimeout: time.Hour, BodyTimeout: time.Hour, WriteTimeout: time.Hour}
}

// rig is a proxy that is served.
type rig struct {
	*Proxy
	t      *testing.T
	front  *httptest.Server
	client *http.Client
}

func newRig(t *testing.T, cfg Config) *rig {
	t.Helper()
	p := New(cfg)
	front := httptest.NewUnstartedServer(p)
	front.Config.ErrorLog = nil
	front.Start()
	tr := &http.Transport{DisableCompression: true}
	t.Cleanup(func() {
		tr.CloseIdleConnections()
		p.Close()
		front.Close()
	})
	return &rig{Proxy: p, t: t, front: front, client: &http.Client{Transport: tr}}
}

// upstream starts a writer that is served by h.
func (r *rig) upstream(h http.HandlerFunc) *httptest.Server {
	r.t.Helper()
	s := httptest.NewServer(h)
	r.t.Cleanup(s.Close)
	return s
}

func (r *rig) set(epoch int, url string) {
	r.t.Helper()
	if err := r.SetWriter(lsnEpoch(epoch), url); err != nil {
		r.t.Fatal(err)
	}
}

// answer is what a client got.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
	fault  envelope
}

func (a answer) String() string { return fmt.Sprintf("%d %q %v", a.status, a.body, a.err) }

// unknown says that the answer leaves the outcome open, in the shape of the API's errors.
func (a answer) unknown() bool {
	return a.status == 503 && a.fault.Outcome == "unknown" && a.fault.Error != "" && a.fault.Message != "" && a.header.Get("X-OC-Request-Id") != ""
}

func (r *rig) request(method, path, body string, header ...string) *http.Request {
	r.t.Helper()
	var rd io.Reader
	if body != "" {
		rd = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(context.Background(), method, r.front.URL+path, rd)
	if err != nil {
		r.t.Fatal(err)
	}
	req.GetBody = nil // the client must not repeat anything itself
	for i := 0; i < len(header); i += 2 {
		req.Header[header[i]] = []string{header[i+1]}
	}
	return req
}

func (r *rig) do(method, path, body string, header ...string) answer {
	return r.send(r.request(method, path, body, header...))
}

func (r *rig) send(req *http.Request) (a answer) {
	res, err := r.client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	a = answer{status: res.StatusCode, header: res.Header, body: string(raw), err: err}
	_ = json.Unmarshal(raw, &a.fault) // what is no envelope leaves it empty
	return a
}

// async sends a request and gives its answer later.
func (r *rig) async(method, path, body string, header ...string) <-chan answer {
	req, out := r.request(method, path, body, header...), make(chan answer, 1)
	go func() { out <- r.send(req) }()
	return out
}

// await is a condition that something else brings about.
func (r *rig) await(what string, ok func(Metrics) bool) {
	r.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(r.Metrics()); {
		if time.Now().After(deadline) {
			r.t.Fatalf("never: %s: %+v", what, r.Metrics())
		}
		<-time.After(time.Millisecond)
	}
}

func (r *rig) awaitHeld(n int64) {
	r.t.Helper()
	r.await(fmt.Sprintf("%d requests are held", n), func(m Metrics) bool { return m.HeldNow == n })
}

// counted is a handler that counts and answers 200 with what it read.
func counted(n *atomic.Int64) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		raw, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		n.Add(1)
		w.Header().Set("X-OC-Epoch", "2")
		_, _ = fmt.Fprintf(w, "new %s", raw)
	}
}

// dies reads a request and closes the connection.
func dies(n *atomic.Int64) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		n.Add(1)
		panic(http.ErrAbortHandler)
	}
}

// refuses answers with an envelope.
func refuses(n *atomic.Int64, status int, text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		n.Add(1)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, text)
	}
}

// freezes reads a request and answers nothing until its connection ends. begun is told
// of each, ended of each end.
func freezes(begun, ended chan<- struct{}) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		begun <- struct{}{}
		<-r.Context().Done()
		ended <- struct{}{}
		panic(http.ErrAbortHandler)
	}
}

// closedURL is where nobody listens.
func closedURL(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	return "http://" + ln.Addr().String()
}

// dial is a connection to the proxy that the test writes to by itself.
func (r *rig) dial() (net.Conn, *bufio.Reader) {
	r.t.Helper()
	c, err := net.Dial("tcp", r.front.Listener.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = c.Close() })
	return c, bufio.NewReader(c)
}
