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
	from := time.Now().Add(-time.Second) // all due at once
	due := make(chan time.Time, 100)
	schedule(from, from.Add(time.Second), 50, due)
	close(due)
	n := 0
	for at := range due {
		if want := from.Add(time.Duration(n) * 20 * time.Millisecond); !at.Equal(want) {
			t.Fatalf("request %d is due at %s, want %s", n, at.Sub(from), want.Sub(from))
		}
		n++
	}
	if n != 50 {
		t.Fatalf("%d requests in a second at 50/s", n)
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
