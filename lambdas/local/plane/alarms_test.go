package plane

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/shared/failover"
)

// An alarm fires after its duration, names its node and section, and goes when the
// condition does.
func TestAlarmsFireAndGo(t *testing.T) {
	var lag, health atomic.Int64
	health.Store(http.StatusOK)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metrics":
			_, _ = fmt.Fprintf(w, "# TYPE oc_wal_fsync_lag_ms gauge\noc_wal_fsync_lag_ms %d\n", lag.Load())
		case "/health":
			w.WriteHeader(int(health.Load()))
		}
	}))
	t.Cleanup(server.Close)
	log := logrus.New()
	log.SetOutput(io.Discard)
	b := newBells(newWatcher([]failover.Node{{ID: "n", URL: server.URL, OpsURL: server.URL}}, "x", nil), log)
	var at time.Duration
	b.now = func() time.Duration { return at }
	after := func(d time.Duration) (names []string) {
		for end := at + d; at < end; {
			at += 10 * time.Second
			b.round(t.Context())
		}
		for _, a := range b.firing() {
			if a.Node != "n" || a.Summary == "" || a.Runbook == runbook || strings.Count(a.Runbook, "#") != 1 {
				t.Errorf("%+v", a)
			}
			names = append(names, a.Name)
		}
		return names
	}
	if got := after(2 * time.Minute); got != nil {
		t.Errorf("all is well: %q", got)
	}
	lag.Store(51)
	if got := after(50 * time.Second); got != nil {
		t.Errorf("for less than a minute: %q", got)
	}
	if got := after(30 * time.Second); len(got) != 1 || got[0] != "oc_wal_fsync_lag_ms" {
		t.Errorf("a disk that is slow: %q", got)
	}
	health.Store(http.StatusServiceUnavailable)
	if got := after(10 * time.Second); len(got) != 2 || got[0] != "/health" {
		t.Errorf("the worst is first: %q", got)
	}
	lag.Store(1)
	health.Store(http.StatusOK)
	if got := after(2 * time.Minute); got != nil {
		t.Errorf("all is well again: %q", got)
	}
}
