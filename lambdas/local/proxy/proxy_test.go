package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/lsn"
)

func lsnEpoch(n int) lsn.Epoch { return lsn.Epoch(n) }

const (
	rows  = "/v1/tenants/T/rows/shop.orders"
	batch = rows + "/_batch"
	key   = "Idempotency-Key"
)

func TestRequestsGoThroughAsTheyAre(t *testing.T) {
	r := newRig(t, patient())
	type seen struct {
		Method, URI, Host, Body string
		Header                  http.Header
		Trailer                 http.Header
	}
	got := make(chan seen, 1)
	up := r.upstream(func(w http.ResponseWriter, req *http.Request) {
		raw, _ := io.ReadAll(req.Body)
		got <- seen{req.Method, req.RequestURI, req.Host, string(raw), req.Header, req.Trailer}
		w.Header().Set("Trailer", "X-Sum")
		w.Header().Set("Connection", "X-Hop")
		w.Header().Set("X-Hop", "1")
		w.Header().Set("X-OC-LSN", "7")
		w.WriteHeader(201)
		_, _ = io.WriteString(w, "done")
		w.Header().Set("X-Sum", "9")
		w.Header().Set(http.TrailerPrefix+"X-Late", "8")
	})
	r.set(1, up.URL)
	req := r.request("POST", "/v1/tenants/T/rows/a%2Fb?x=1&y=%20", "")
	req.Body = io.NopCloser(strings.NewReader("row"))
	req.ContentLength = -1
	req.Trailer = http.Header{"X-Check": {"5"}}
	req.Host = "t.eu.db.example"
	req.Header = http.Header{
		key: {"k"}, "Connection": {"X-Private"}, "X-Private": {"1"}, "Te": {"trailers, deflate"}, "X-Forwarded-For": {"10.0.0.1"},
		"Forwarded": {"for=x"}, "Traceparent": {"00-a"}, "User-Agent": {"test"}, "Authorization": {"Bearer x"},
	}
	res, err := r.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil || string(body) != "done" || res.StatusCode != 201 {
		t.Fatalf("%d %q %v", res.StatusCode, body, err)
	}
	if res.Header.Get("X-Hop") != "" || res.Header.Get("X-OC-LSN") != "7" {
		t.Errorf("header of the answer: %v", res.Header)
	}
	if want := (http.Header{"X-Sum": {"9"}, "X-Late": {"8"}}); !cmp.Equal(want, res.Trailer) {
		t.Errorf("trailers of the answer: %v", cmp.Diff(want, res.Trailer))
	}
	want := seen{
		Method: "POST", URI: "/v1/tenants/T/rows/a%2Fb?x=1&y=%20", Host: "t.eu.db.example", Body: "row", Trailer: http.Header{"X-Check": {"5"}},
		Header: http.Header{key: {"k"}, "Te": {"trailers"}, "Traceparent": {"00-a"}, "User-Agent": {"test"}, "Authorization": {"Bearer x"}, "Accept-Encoding": nil},
	}
	delete(want.Header, "Accept-Encoding")
	if diff := cmp.Diff(want, <-got); diff != "" {
		t.Error(diff)
	}
}

func TestHeadAndEmptyAnswers(t *testing.T) {
	r := newRig(t, patient())
	up := r.upstream(func(w http.ResponseWriter, req *http.Request) {
		if req.Method == "HEAD" {
			w.Header().Set("Content-Length", "123456")
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	r.set(1, up.URL)
	if a := r.do("HEAD", "/x", ""); a.status != 200 || a.header.Get("Content-Length") != "123456" || a.err != nil {
		t.Errorf("HEAD: %v %v", a, a.header)
	}
	if a := r.do("DELETE", "/x", ""); a.status != 204 || a.err != nil {
		t.Errorf("DELETE: %v", a)
	}
}

func TestOnlyAHigherEpochMovesTheWriter(t *testing.T) {
	p := New(Config{})
	defer p.Close()
	for _, step := range []struct {
		epoch     int
		url, want string
		wantEpoch int
	}{
		{3, "http://127.0.0.1:3", "http://127.0.0.1:3", 3},
		{2, "http://127.0.0.1:2", "http://127.0.0.1:3", 3},
		{3, "http://127.0.0.1:9", "http://127.0.0.1:3", 3},
		{5, "http://127.0.0.1:5/", "http://127.0.0.1:5", 5},
		{4, "http://127.0.0.1:4", "http://127.0.0.1:5", 5},
	} {
		if err := p.SetWriter(lsnEpoch(step.epoch), step.url); err != nil {
			t.Fatal(err)
		}
		if epoch, url := p.Writer(); url != step.want || epoch != lsnEpoch(step.wantEpoch) {
			t.Errorf("after %+v: %d %s", step, epoch, url)
		}
	}
	for _, bad := range []string{"", "127.0.0.1:1", "ftp://x", "http://", "http://x/path", "http://u:p@x", "http://x?y", "http://%zz"} {
		if err := p.SetWriter(9, bad); err == nil {
			t.Errorf("%q is taken for a writer", bad)
		}
	}
}

func TestRequestsWaitForTheFirstWriter(t *testing.T) {
	r := newRig(t, patient())
	var n atomic.Int64
	up := r.upstream(counted(&n))
	a := r.async("POST", rows, "row")
	r.awaitHeld(1)
	r.set(1, up.URL)
	if got := <-a; got.status != 200 || got.body != "new row" || n.Load() != 1 {
		t.Errorf("%v, %d written", got, n.Load())
	}
}

// Nothing is sent before the connection stands: a request without a key may be repeated.
func TestAWriterThatCannotBeReached(t *testing.T) {
	r := newRig(t, patient())
	var n atomic.Int64
	up := r.upstream(counted(&n))
	r.set(1, closedURL(t))
	a := r.async("POST", rows, "row")
	r.await("it is repeated", func(m Metrics) bool { return m.Repeated > 1 })
	r.set(2, up.URL)
	if got := <-a; got.status != 200 || got.body != "new row" || n.Load() != 1 {
		t.Errorf("%v, %d written", got, n.Load())
	}
	select {
	case <-r.Hints():
	default:
		t.Error("no hint that the writer cannot be reached")
	}
}

// TestWhatIsRepeated is the table of the package's comment: the writer of epoch 1 answers
// so, and that of epoch 2 with success.
func TestWhatIsRepeated(t *testing.T) {
	const (
		refused  = `,"message":"m","request_id":"r","retry":true}`
		unknown  = `,"message":"m","request_id":"r","retry":true,"outcome":"unknown"}`
		accepted = `,"message":"m","request_id":"r","retry":false}`
	)
	for _, c := range []struct {
		code, rest string
		// whether these are sent again
		plain, keyed, get, batch, keyedBatch, admin, tx bool
	}{
		{"read_only", refused, true, true, true, false, true, true, false},
		{"read_only", accepted, false, false, false, false, false, false, false},
		{"fenced", refused, true, true, true, false, true, true, false},
		{"fenced", unknown, false, true, true, false, true, false, false},
		{"lease_lost", refused, true, true, true, false, true, true, false},
		{"lease_lost", unknown, false, true, true, false, true, false, false},
		{"not_ready", refused, true, true, true, false, true, false, false},
		{"not_ready", unknown, false, true, true, false, true, false, false},
		{"overloaded", refused, false, false, false, false, false, false, false},
		{"lsn_not_reached", refused, false, false, false, false, false, false, false},
		{"replication_timeout", unknown, false, false, false, false, false, false, false},
		{"something_new", refused, false, false, false, false, false, false, false},
	} {
		text := `{"error":"` + c.code + `"` + c.rest
		for _, q := range []struct {
			name, method, path string
			header             []string
			again              bool
		}{
			{"plain", "POST", rows, nil, c.plain},
			{"keyed", "POST", rows, []string{key, "k"}, c.keyed},
			{"get", "GET", rows + "/1", nil, c.get},
			{"batch", "POST", batch, nil, c.batch},
			{"keyed batch", "POST", batch, []string{key, "k"}, c.keyedBatch},
			{"admin", "POST", "/v1/admin/tenants", []string{key, "k"}, c.admin},
			{"tx", "POST", rows, []string{key, "k", "X-Oc-Tx", "x"}, c.tx},
			{"commit", "POST", "/v1/tenants/T/tx/x/commit", []string{key, "k"}, c.tx},
			{"begin", "POST", "/v1/tenants/T/tx/begin", nil, c.plain},
		} {
			t.Run(c.code+" "+fmt.Sprint(strings.Contains(c.rest, "unknown"))+" "+q.name, func(t *testing.T) {
				r := newRig(t, patient())
				var old, now atomic.Int64
				first, second := r.upstream(refuses(&old, 503, text)), r.upstream(counted(&now))
				r.set(1, first.URL)
				body := "row"
				if q.method == "GET" {
					body = ""
				}
				a := r.async(q.method, q.path, body, q.header...)
				if !q.again {
					got := <-a
					if got.status != 503 || got.body != text || old.Load() != 1 || r.Metrics().Repeated != 0 {
						t.Errorf("want it passed on, got %v after %d attempts", got, old.Load())
					}
					return
				}
				r.await("it is held or repeated", func(m Metrics) bool { return m.Held > 0 })
				r.set(2, second.URL)
				if got := <-a; got.status != 200 || got.body != "new "+body || now.Load() != 1 {
					t.Errorf("want it sent again, got %v", got)
				}
			})
		}
	}
}

// TestAnAnswerThatNeverCame: the writer reads the request and is gone.
func TestAnAnswerThatNeverCame(t *testing.T) {
	for _, c := range []struct {
		name, method, path string
		header             []string
		again, unknown     bool
	}{
		{"plain", "POST", rows, nil, false, true},
		{"put", "PUT", rows + "/1", nil, false, true},
		{"keyed", "POST", rows, []string{key, "k"}, true, false},
		{"keyed batch", "POST", batch, []string{key, "k"}, true, false},
		{"get", "GET", rows + "/1", nil, true, false},
		{"keyed admin", "POST", "/v1/admin/tenants", []string{key, "k"}, false, true},
		{"keyed admin without a body", "POST", "/v1/admin/checkpoint", []string{key, "k"}, false, true},
		{"tx", "POST", rows, []string{key, "k", "X-Oc-Tx", "x"}, false, true},
		{"get in a tx", "GET", rows + "/1", []string{"X-Oc-Tx", "x"}, false, false},
		{"commit", "POST", "/v1/tenants/T/tx/x/commit", []string{key, "k"}, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, patient())
			var old, now atomic.Int64
			first, second := r.upstream(dies(&old)), r.upstream(counted(&now))
			r.set(1, first.URL)
			body := "row"
			if c.method == "GET" || strings.HasSuffix(c.path, "checkpoint") {
				body = ""
			}
			a := r.async(c.method, c.path, body, c.header...)
			if c.again {
				r.await("it is held", func(m Metrics) bool { return m.Held > 0 })
				r.set(2, second.URL)
				if got := <-a; got.status != 200 || got.body != "new "+body || now.Load() != 1 {
					t.Errorf("want it sent again, got %v", got)
				}
				return
			}
			got := <-a
			if got.status != 503 || got.unknown() != c.unknown || got.fault.RequestID != got.header.Get("X-OC-Request-Id") || got.header.Get("Retry-After") == "" {
				t.Errorf("got %v %v", got, got.header)
			}
			if old.Load() != 1 || r.Metrics().Repeated != 0 {
				t.Errorf("sent %d times", old.Load())
			}
		})
	}
}

// A connection that is closed before the request is read may have carried it all the same.
func TestAWriterThatClosesUnread(t *testing.T) {
	r := newRig(t, patient())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1)) // so that it was sent
			_ = c.Close()
		}
	}()
	defer func() { _ = ln.Close(); <-done }()
	r.set(1, "http://"+ln.Addr().String())
	if got := r.do("POST", rows, "row"); !got.unknown() {
		t.Errorf("%v", got)
	}
}

// A frozen writer takes connections and never answers; a switch ends the wait.
func TestASwitchAwayFromAFrozenWriter(t *testing.T) {
	cfg := patient()
	cfg.Grace = time.Millisecond
	r := newRig(t, cfg)
	begun, ended := make(chan struct{}, 3), make(chan struct{}, 3)
	var now atomic.Int64
	first, second := r.upstream(freezes(begun, ended)), r.upstream(counted(&now))
	r.set(1, first.URL)
	keyed, plain, get := r.async("POST", rows, "keyed", key, "k"), r.async("POST", rows, "plain"), r.async("GET", rows+"/1", "")
	for range 3 {
		<-begun
	}
	r.set(2, second.URL)
	if got := <-keyed; got.status != 200 || got.body != "new keyed" {
		t.Errorf("keyed: %v", got)
	}
	if got := <-get; got.status != 200 {
		t.Errorf("get: %v", got)
	}
	if got := <-plain; !got.unknown() {
		t.Errorf("plain: %v", got)
	}
	for range 3 {
		<-ended // the old writer sees its connections end
	}
	if now.Load() != 2 || r.Metrics().Unknown != 1 {
		t.Errorf("%d at the new writer, %+v", now.Load(), r.Metrics())
	}
}

// A writer of the past that still answers what cannot be repeated is heard.
func TestASwitchWaitsForALivingWriter(t *testing.T) {
	r := newRig(t, patient())
	begun, answer := make(chan struct{}), make(chan struct{})
	var now atomic.Int64
	first := r.upstream(func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-answer
		_, _ = io.WriteString(w, "old")
	})
	second := r.upstream(counted(&now))
	r.set(1, first.URL)
	a := r.async("POST", rows, "row")
	<-begun
	r.set(2, second.URL)
	close(answer)
	if got := <-a; got.status != 200 || got.body != "old" || now.Load() != 0 {
		t.Errorf("%v", got)
	}
}

// An attempt of which nobody knows the outcome leaves it open, whatever a later one is told.
func TestALaterRefusalDoesNotCloseTheOutcome(t *testing.T) {
	for _, status := range []int{401, 403, 429, 500, 503} {
		r := newRig(t, patient())
		var old, now atomic.Int64
		first := r.upstream(dies(&old))
		second := r.upstream(refuses(&now, status, `{"error":"overloaded","message":"nothing was written","retry":true}`))
		r.set(1, first.URL)
		a := r.async("POST", rows, "row", key, "k")
		r.await("it is held", func(m Metrics) bool { return m.Held > 0 })
		r.set(2, second.URL)
		if got := <-a; !got.unknown() || !got.fault.Retry {
			t.Errorf("%d: %v", status, got)
		}
	}
	r := newRig(t, patient())
	var old, now atomic.Int64
	first, second := r.upstream(dies(&old)), r.upstream(refuses(&now, 409, `{"error":"conflict"}`))
	r.set(1, first.URL)
	a := r.async("POST", rows, "row", key, "k")
	r.await("it is held", func(m Metrics) bool { return m.Held > 0 })
	r.set(2, second.URL)
	if got := <-a; got.status != 409 {
		t.Errorf("what the key decides stands: %v", got)
	}
}

// A request that kills whoever reads it is not taken from writer to writer.
func TestARequestThatKillsWriters(t *testing.T) {
	cfg := patient()
	cfg.MaxLost = 2
	r := newRig(t, cfg)
	var n atomic.Int64
	up := r.upstream(dies(&n))
	r.set(1, up.URL)
	if got := r.do("POST", rows, "row", key, "k"); !got.unknown() || n.Load() != 3 {
		t.Errorf("%v after %d attempts", got, n.Load())
	}
}

func TestAWriterOfThePastNamesTheWriter(t *testing.T) {
	r := newRig(t, patient())
	var old, now atomic.Int64
	second := r.upstream(counted(&now))
	first := r.upstream(refuses(&old, 503, `{"error":"read_only","message":"m","retry":true,"leader":"`+second.URL+`"}`))
	r.set(1, first.URL)
	if got := r.do("POST", rows, "row"); got.status != 200 || old.Load() != 1 || now.Load() != 1 {
		t.Fatalf("%v", got)
	}
	if m := r.Metrics(); m.HeardEpoch != 2 || m.Epoch != 1 {
		t.Errorf("%+v", m)
	}
	select {
	case <-r.Hints():
	default:
		t.Error("no hint")
	}
	third := r.upstream(counted(new(atomic.Int64)))
	r.set(1, third.URL) // old news
	if _, url := r.Writer(); url != second.URL {
		t.Errorf("old news moved the writer to %s", url)
	}
	before := r.Metrics().Switches
	r.set(2, second.URL) // what was named, with its epoch: no request is disturbed
	if epoch, url := r.Writer(); epoch != 2 || url != second.URL || r.Metrics().Switches != before {
		t.Errorf("%d %s, %d switches", epoch, url, r.Metrics().Switches-before)
	}
	r.set(3, third.URL)
	if _, url := r.Writer(); url != third.URL {
		t.Errorf("%s", url)
	}
}

func TestATransactionEndsWithItsWriter(t *testing.T) {
	r := newRig(t, patient())
	var now atomic.Int64
	second := r.upstream(counted(&now))
	r.set(1, closedURL(t))
	a := r.async("POST", rows, "row", "X-Oc-Tx", "x")
	r.awaitHeld(1)
	r.set(2, second.URL)
	if got := <-a; got.status != 503 || got.fault.Error != "fenced" || got.fault.Retry || got.fault.Outcome != "" || now.Load() != 0 {
		t.Errorf("%v, %d at another node", got, now.Load())
	}
}

// Waits are bounded in time: nothing was sent, and the answer says so.
func TestPatienceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(Config{})
		defer p.Close()
		start := time.Now()
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest("GET", "/v1/tenants/T/schemas", nil))
		if waited := time.Since(start); w.Code != 503 || waited != 15*time.Second || !strings.Contains(w.Body.String(), `"error":"not_ready"`) {
			t.Errorf("%d %s after %s", w.Code, w.Body, waited)
		}
		start = time.Now()
		p.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/ready", nil))
		if time.Since(start) != 0 {
			t.Error("a probe waits")
		}
	})
}

// The last refusal is passed on as it was when nothing better comes.
func TestTheLastRefusalIsPassedOn(t *testing.T) {
	cfg := patient()
	cfg.MaxWait = time.Millisecond
	r := newRig(t, cfg)
	var n atomic.Int64
	text := `{"error":"not_ready","message":"m","request_id":"theirs","retry":true}`
	r.set(1, r.upstream(refuses(&n, 503, text)).URL)
	if got := r.do("POST", rows, "row"); got.status != 503 || got.body != text {
		t.Errorf("%v", got)
	}
}

func TestHeldRequestsAreBounded(t *testing.T) {
	cfg := patient()
	cfg.MaxHeld = 2
	r := newRig(t, cfg)
	var n atomic.Int64
	up := r.upstream(counted(&n))
	one, two := r.async("POST", rows, "1"), r.async("GET", rows, "")
	r.awaitHeld(2)
	if got := r.do("POST", rows, "3"); got.status != 503 || got.fault.Error != "overloaded" || !got.fault.Retry || got.fault.Outcome != "" {
		t.Errorf("%v", got)
	}
	r.set(1, up.URL)
	if a, b := <-one, <-two; a.status != 200 || b.status != 200 {
		t.Errorf("%v %v", a, b)
	}
}

func TestAClientThatLeavesEndsItsRequest(t *testing.T) {
	r := newRig(t, patient())
	begun, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	r.set(1, r.upstream(freezes(begun, ended)).URL)
	ctx, cancel := context.WithCancel(context.Background())
	req := r.request("POST", rows, "row", key, "k").WithContext(ctx)
	out := make(chan answer, 1)
	go func() { out <- r.send(req) }()
	<-begun
	cancel()
	<-ended
	if got := <-out; got.err == nil {
		t.Errorf("%v", got)
	}
}

// A client that closes its side alone must not read success where there was none.
func TestAHalfClosedClientReadsNoSuccess(t *testing.T) {
	r := newRig(t, patient())
	c, in := r.dial()
	if _, err := io.WriteString(c, "DELETE "+rows+"/1 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	r.awaitHeld(1)
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(in); len(got) != 0 {
		t.Errorf("read %q %v", got, err)
	}
}

func TestNoProxyToOtherHosts(t *testing.T) {
	r := newRig(t, patient())
	c, in := r.dial()
	if _, err := io.WriteString(c, "CONNECT example.com:443 HTTP/1.1\r\nHost: example.com\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := in.ReadString('\n'); err != nil || !strings.Contains(line, "400") {
		t.Errorf("%q %v", line, err)
	}
}

// The transport repeats by itself what has a key of a name that it knows, and the writer
// knows one of the two: what has the other may be done twice.
func TestTheTransportRepeatsNothing(t *testing.T) {
	for _, name := range []string{"X-Idempotency-Key", "x-idempotency-key"} {
		r := newRig(t, patient())
		var n atomic.Int64
		up := r.upstream(func(_ http.ResponseWriter, req *http.Request) {
			if req.Method == http.MethodGet {
				return
			}
			if req.Header.Get(name) != "k" {
				t.Errorf("%s does not arrive: %v", name, req.Header)
			}
			n.Add(1)
			panic(http.ErrAbortHandler)
		})
		r.set(1, up.URL)
		if a := r.do("GET", rows, ""); a.status != 200 { // a connection that is used again
			t.Fatal(a)
		}
		if a := r.do("DELETE", rows+"/1", "", name, "k"); !a.unknown() || n.Load() != 1 {
			t.Errorf("%s: %v, done %d times", name, a, n.Load())
		}
	}
}

// Two nodes that each name the other, as they do between a handover and the promotion,
// get a request in turns with pauses between, and not as fast as they answer.
func TestNodesThatNameEachOther(t *testing.T) {
	cfg := patient()
	cfg.MaxWait = 300 * time.Millisecond
	r := newRig(t, cfg)
	var n atomic.Int64
	var a, b *httptest.Server
	names := func(other **httptest.Server) http.HandlerFunc {
		return func(w http.ResponseWriter, req *http.Request) {
			refuses(&n, 503, fmt.Sprintf(`{"error":"read_only","message":"x","retry":true,"leader":%q}`, (*other).URL))(w, req)
		}
	}
	a, b = r.upstream(names(&b)), r.upstream(names(&a))
	r.set(1, a.URL)
	if got := r.do("POST", rows, "row"); got.status != 503 {
		t.Error(got)
	}
	if m := r.Metrics(); n.Load() > 12 || m.Switches > 2 {
		t.Errorf("%d attempts, %+v", n.Load(), m)
	}
	if _, at := r.Writer(); at != b.URL {
		t.Errorf("%s is asked", at)
	}
}
