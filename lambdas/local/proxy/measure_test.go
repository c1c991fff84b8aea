package proxy

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"originchain/shared/telemetry"
)

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

// What an operator asks the page for: all of it is there, documented, and a switch is
// measured from the first request that had no answer to the first that has one.
func TestWhatIsMeasured(t *testing.T) {
	r := newRig(t, patient())
	m := telemetry.NewMetrics()
	before := m.Names()
	r.Measure(m)
	var dead, n atomic.Int64
	down, up := r.upstream(dies(&dead)), r.upstream(counted(&n))
	r.set(1, down.URL)
	if a := r.do("POST", rows, "row"); !a.unknown() {
		t.Error(a)
	}
	a := r.async("POST", rows, "row", key, "k")
	// Held, and not tried alone: the proxy learns later than the node that there is no answer,
	// and holds nothing for a writer that is past by then.
	r.await("the keyed request is held", func(m Metrics) bool { return m.Held > 0 })
	r.set(2, up.URL)
	if got := <-a; got.status != 200 {
		t.Error(got)
	}
	page := httptest.NewRecorder()
	m.Handler().ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{
		"oc_endpoint_requests_total 2\n", "oc_endpoint_unknown_total 1\n", "oc_endpoint_refused_total 0\n", "oc_endpoint_switches_total 2\n",
		"oc_endpoint_switch_seconds_count 1\n", "oc_endpoint_epoch 2\n", "oc_endpoint_held 0\n",
	} {
		if !strings.Contains(page.Body.String(), want) {
			t.Errorf("no %q in\n%s", want, page.Body)
		}
	}
	if got := r.Metrics(); got.Repeated == 0 || got.Held == 0 {
		t.Errorf("%+v", got)
	}
	doc, err := os.ReadFile("../../../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range m.Names() {
		if !slices.Contains(before, name) && !strings.Contains(string(doc), "| `"+name+"` |") {
			t.Errorf("docs/METRICS.md has no row of %s", name)
		}
	}
}

// A request that waits to ask a node again which was only named as the writer asks it at
// once when it is known to be: what it refused before says nothing of it now.
func TestTheNewsOfAWriterEndsTheWait(t *testing.T) {
	r := newRig(t, patient())
	r.set(1, "http://127.0.0.1:1")
	r.follow(r.current.Load(), "http://127.0.0.1:2")
	named := r.current.Load()
	x := &exchange{p: r.Proxy, w: httptest.NewRecorder(), r: httptest.NewRequest(http.MethodGet, "/", nil), backoff: time.Hour}
	defer x.end()
	x.sure(named)
	again := make(chan bool, 1)
	go func() { again <- x.hold(named) }()
	r.awaitHeld(1)
	r.set(2, "http://127.0.0.1:2")
	select {
	case ok := <-again:
		if !ok || x.backoff != firstBackoff || r.current.Load() != named {
			t.Errorf("%t, and the next wait is %s", ok, x.backoff)
		}
	case <-time.After(time.Minute):
		t.Fatal("it waits on")
	}
	// From then on it is like any writer: no news is due.
	if x.sure(named); x.unsure != nil {
		t.Error("it would be asked as fast as it answers")
	}
}
