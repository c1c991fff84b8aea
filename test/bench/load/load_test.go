package load

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// Every insert must be a request that a server accepts, with an id of its own.
func TestInsertsAreWellFormedAndDistinct(t *testing.T) {
	var mu sync.Mutex
	ids := map[int64]bool{}
	address := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var row struct {
			ID     int64
			Origin string
		}
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(body, &row)
		}
		mu.Lock()
		defer mu.Unlock()
		if err != nil || row.Origin == "" || ids[row.ID] || r.Header.Get("Authorization") != "Bearer secret" || r.URL.Path != "/v1/tenants/T/rows/bench.flights" {
			http.Error(w, "bad request", http.StatusBadRequest)
			return
		}
		ids[row.ID] = true
		_, _ = w.Write([]byte(`{"ok":true}`))
	})
	r, err := Run(Spec{Address: address, Token: "secret", Tenant: "T", Schema: "bench.flights", Kind: Insert, FirstID: 100, Connections: 4, Duration: 50 * time.Millisecond})
	if err != nil || r.Err() != nil {
		t.Fatal(err, r.Err())
	}
	if r.Requests == 0 || len(ids) != r.Requests || r.NextID != 100+int64(r.Requests) {
		t.Fatalf("%d requests, %d ids, next id %d", r.Requests, len(ids), r.NextID)
	}
}

// A refused request must make the result an error, never a fast answer.
func TestFailuresAreCounted(t *testing.T) {
	address := serve(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) })
	r, err := Run(Spec{Address: address, Kind: Health, Connections: 1, Duration: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if r.Err() == nil || r.Requests != 0 || !strings.Contains(r.FirstError, "503") {
		t.Fatalf("%+v", r)
	}
}

func TestBodiesInChunksAreReadToTheirEnd(t *testing.T) {
	address := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		for range 3 {
			_, _ = w.Write(bytes.Repeat([]byte("x"), 5000))
			w.(http.Flusher).Flush()
		}
	})
	r, err := Run(Spec{Address: address, Kind: Query, Schema: "s.t", Origins: []string{"HNL"}, Connections: 2, Duration: 20 * time.Millisecond})
	if err != nil || r.Err() != nil || r.Requests < 2 {
		t.Fatalf("%+v %v %v", r, err, r.Err())
	}
}

// One slow answer must show in the latency of those that were due meanwhile.
func TestOpenLoopCountsFromTheScheduledTime(t *testing.T) {
	var once sync.Once
	address := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		once.Do(func() { <-time.After(100 * time.Millisecond) })
		_, _ = w.Write([]byte("{}"))
	})
	r, err := Run(Spec{Address: address, Kind: Health, Connections: 1, Rate: 200, Duration: 100 * time.Millisecond})
	if err != nil || r.Err() != nil {
		t.Fatal(err, r.Err())
	}
	if r.Requests != 20 {
		t.Errorf("%d requests were sent, 20 were due", r.Requests)
	}
	// The first waited about 100 ms, the second 95, and so on: the median is
	// near 50 ms, where a closed loop would show microseconds.
	if r.P50 < 20*time.Millisecond {
		t.Errorf("median %s hides the stall", r.P50)
	}
}

func TestScheduleIsEven(t *testing.T) {
	from := time.Now().Add(-time.Second)
	l := &loop{from: from, gap: float64(20 * time.Millisecond)}
	for l.sent = range 50 {
		if want := from.Add(time.Duration(l.sent) * 20 * time.Millisecond); !l.due().Equal(want) {
			t.Fatalf("request %d is due at %s, want %s", l.sent, l.due().Sub(from), want.Sub(from))
		}
	}
}

// However an answer is cut on its way, it is read whole.
func TestAnswersInPieces(t *testing.T) {
	for name, text := range map[string]string{
		"length": "HTTP/1.1 201 Created\r\nX: y\r\nContent-Length: 5\r\n\r\nhello",
		"chunks": "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
	} {
		for n := range len(text) {
			if _, done, err := parseAnswer([]byte(text[:n])); done || err != nil {
				t.Errorf("%s: %d of %d bytes: done %v, %v", name, n, len(text), done, err)
			}
		}
		a, done, err := parseAnswer([]byte(text))
		if !done || err != nil || a.status != 201 || string(a.body) != "hello" {
			t.Errorf("%s: %+v %v %v", name, a, done, err)
		}
	}
	for _, text := range []string{"SMTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"} {
		if _, _, err := parseAnswer([]byte(text)); err == nil {
			t.Errorf("%q was taken for an answer", text)
		}
	}
}

// A server that goes away must end the run with an error, not with silence.
func TestABrokenConnectionIsAFailure(t *testing.T) {
	address := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			err = c.Close()
		}
		if err != nil {
			t.Error(err)
		}
	})
	r, err := Run(Spec{Address: address, Kind: Health, Connections: 3, Duration: time.Minute})
	if err != nil || r.Err() == nil || r.Errors != 3 {
		t.Fatalf("%+v %v", r, err)
	}
}

func TestQuantile(t *testing.T) {
	var d []time.Duration
	for i := range 100 {
		d = append(d, time.Duration(i+1))
	}
	if got := [3]time.Duration{Quantile(d, 0.5), Quantile(d, 0.99), Quantile(d, 1)}; got != [3]time.Duration{51, 100, 100} {
		t.Errorf("quantiles %v", got)
	}
	if Quantile(nil, 0.5) != 0 {
		t.Error("the quantile of nothing is not 0")
	}
}
