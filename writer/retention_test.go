package writer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/shared/archive"
	"originchain/shared/object"
	"originchain/shared/objecttest"
	"originchain/shared/telemetry"
)

// TestARetentionThatFailsIsShown by its check, its age and its count, until a run comes
// to its end; a stop is no failure.
func TestARetentionThatFailsIsShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := objecttest.NewFaulty(object.NewMemory("memory"), 1)
		log := logrus.New()
		log.SetOutput(io.Discard)
		m := telemetry.NewMetrics()
		r := &retention{store: archive.New(store), keep: 48 * time.Hour, log: log, failures: m.Counter("oc_failures_total", "Of the test."), began: time.Now()}
		if _, err := archive.AllotEpoch(t.Context(), store, archive.Claimant{Node: "n", Instance: [16]byte{1}}, archive.Allotment{}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); r.run(ctx) }()
		shown := func(age time.Duration, failures int, ok bool, says string) {
			t.Helper()
			synctest.Wait()
			c := r.check()
			if got, _ := r.age(); got != age || c.OK != ok || c.Degraded == ok || !strings.Contains(c.Detail, says) {
				t.Errorf("after %s, want %s: %+v", got, age, c)
			}
			w := httptest.NewRecorder()
			m.Handler().ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
			if !strings.Contains(w.Body.String(), fmt.Sprintf("\noc_failures_total %d\n", failures)) {
				t.Errorf("not %d failures", failures)
			}
		}
		time.Sleep(30 * time.Minute)
		shown(30*time.Minute, 0, true, "48h")
		store.SetAway(true)
		time.Sleep(2 * time.Hour)
		shown(150*time.Minute, 2, false, "no route")
		store.SetAway(false)
		time.Sleep(time.Hour)
		shown(30*time.Minute, 2, true, "48h")
		store.SetAway(true)
		time.Sleep(time.Hour)
		shown(90*time.Minute, 3, false, "for its age since 1h30m")
		store.SetAway(false)
		store.SetHook(objecttest.Hook{Before: func(ctx context.Context, _ objecttest.Call) error { <-ctx.Done(); return ctx.Err() }})
		time.Sleep(40 * time.Minute)
		cancel()
		<-done
		shown(130*time.Minute, 3, false, "no route")
	})
}

// TestAMachineThatSleptStillForgets: the monotonic clock stands still meanwhile, the
// wall clock and the store's do not.
func TestAMachineThatSleptStillForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := object.NewMemory("memory")
		if _, err := archive.AllotEpoch(t.Context(), store, archive.Claimant{Node: "n", Instance: [16]byte{1}}, archive.Allotment{}); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		time.Sleep(20 * time.Hour)
		clock := steady{began: began, wall: time.Now, since: func(time.Time) time.Duration { return time.Hour }}
		r := &retention{store: archive.New(store), keep: 48 * time.Hour}
		if _, err := r.once(t.Context(), &clock); err != nil {
			t.Errorf("after a sleep of 19 h: %v", err)
		}
		clock.wall = func() time.Time { return time.Now().Add(-time.Hour) }
		if _, err := r.once(t.Context(), &clock); !errors.As(err, new(*archive.ClockError)) {
			t.Errorf("the wall clock is an hour behind the store's: %v", err)
		}
	})
}

// TestReadyTellsOfTheRetention, and the metric of its age is there once the node writes.
func TestReadyTellsOfTheRetention(t *testing.T) {
	n := start(t, archived(object.NewMemory("memory")))
	r := n.w.leader.archive.retention
	if body := n.do(t.Context(), "", "GET", "/ready", nil).want(200).body; !strings.Contains(body, `"retention":{"ok":true`) {
		t.Errorf("/ready: %s", body)
	}
	r.ended(&archive.Retained{}, &archive.ClockError{Store: "memory"})
	if body := n.do(t.Context(), "", "GET", "/ready", nil).want(200).body; !strings.Contains(body, `"retention":{"ok":false,"degraded":true`) || !strings.Contains(body, "one of them is wrong") {
		t.Errorf("/ready: %s", body)
	}
	page := n.do(t.Context(), "", "GET", "/metrics", nil).want(200).body
	if !strings.Contains(page, "\noc_archive_retention_failures_total 1\n") || strings.Contains(page, "\noc_archive_retention_age_s 0\n") || !strings.Contains(page, "\noc_archive_retention_age_s ") {
		t.Errorf("/metrics: %s", page)
	}
}
