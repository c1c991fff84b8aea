package writer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/shared/archive"
	"originchain/shared/object"
	"originchain/shared/objecttest"
	"originchain/shared/simdisk"
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
		r := &retention{store: archive.New(store), keep: 48 * time.Hour, log: log, failures: m.Counter("oc_failures_total", "Of the test."), began: time.Now(), draw: soonest}
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
		shown(29*time.Minute, 0, true, "48h")
		store.SetAway(true)
		time.Sleep(2 * time.Hour)
		shown(149*time.Minute, 2, false, "no route")
		store.SetAway(false)
		time.Sleep(time.Hour)
		shown(29*time.Minute, 2, true, "48h")
		store.SetAway(true)
		time.Sleep(time.Hour)
		shown(89*time.Minute, 3, false, "for its age since 1h29m")
		store.SetAway(false)
		store.SetHook(objecttest.Hook{Before: func(ctx context.Context, _ objecttest.Call) error { <-ctx.Done(); return ctx.Err() }})
		time.Sleep(40 * time.Minute)
		cancel()
		<-done
		shown(129*time.Minute, 3, false, "no route")
	})
}

func soonest(int64) int64 { return 0 }

// TestARetentionComesSoonAfterAStart: not at once, and not when the one before the start
// was a moment ago; its age is counted over starts, by the archive that it was of.
func TestARetentionComesSoonAfterAStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, disk := object.NewMemory("memory"), simdisk.New()
		if _, err := archive.AllotEpoch(t.Context(), store, archive.Claimant{Node: "n", Instance: [16]byte{1}}, archive.Allotment{}); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		runs := map[int]bool{} // by the minute of their end
		up := func(of object.Store, draw int64, minutes int) time.Duration {
			log := logrus.New()
			log.SetOutput(io.Discard)
			r := &retention{store: archive.New(of), keep: 48 * time.Hour, log: log, began: time.Now(), draw: func(n int64) int64 { return min(draw, n-1) },
				failures: telemetry.NewMetrics().Counter("oc_failures_total", "Of the test.")}
			r.recall(&recalled{fs: disk, dir: "/"})
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan struct{})
			go func() { defer close(done); r.run(ctx) }()
			time.Sleep(time.Duration(minutes) * time.Minute)
			cancel()
			<-done
			if r.done.After(begin) {
				runs[int(r.done.Sub(begin)/time.Minute)] = true
			}
			age, _ := r.age()
			return age
		}
		const latest = 1 << 62
		for _, x := range []struct {
			of      object.Store
			draw    int64
			minutes int
			age     time.Duration
			runs    []int
		}{
			{store, 0, 30, 29 * time.Minute, []int{1}},                                // soon
			{store, 0, 20, 49 * time.Minute, []int{1}},                                // it was a while ago
			{store, 0, 20, 9 * time.Minute, []int{1, 61}},                             // an hour ago, though no start lasted so long
			{object.NewMemory("another"), latest, 3, 3 * time.Minute, []int{1, 61}},   // of another archive nothing is known, and the spread is not over
			{object.NewMemory("another"), latest, 30, 30 * time.Minute, []int{1, 61}}, // there is no archive: it failed
			{store, latest, 63, 45 * time.Minute, []int{1, 61, 121}},                  // when it is due, where that is later
		} {
			if age := up(x.of, x.draw, x.minutes); age.Round(time.Minute) != x.age.Round(time.Minute) {
				t.Errorf("%+v: the age is %s", x, age)
			}
			for _, at := range x.runs {
				if !runs[at] || len(runs) != len(x.runs) {
					t.Errorf("%+v: runs in minutes %v", x, runs)
				}
			}
		}
	})
}

// TestWhatIsRecalledIsNoMoreThanAMemory: damaged, or of the future, it counts for
// nothing; and a failed fsync is not followed by another.
func TestWhatIsRecalledIsNoMoreThanAMemory(t *testing.T) {
	now := time.Now()
	disk := simdisk.New()
	m := &recalled{fs: disk, dir: "/"}
	if err := m.save("a", now); err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(8) {
		after := &recalled{fs: disk.CrashClone(rand.New(rand.NewPCG(seed, 0)), simdisk.AnyNames), dir: "/"}
		if done, err := after.load("a"); err != nil || !done.Equal(now) {
			t.Errorf("after a crash: %s, %v; saved was %s", done, err, now)
		}
	}
	if done, err := m.load("b"); err != nil || !done.IsZero() {
		t.Errorf("of another archive: %s, %v", done, err)
	}
	r := &retention{store: archive.New(object.NewMemory("x")), log: logrus.New(), began: now}
	future := &recalled{fs: simdisk.New(), dir: "/"}
	if err := future.save("memory://x", now.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	if r.recall(future); !r.done.IsZero() {
		t.Errorf("it recalls what is to come: %s", r.done)
	}
	disk.Inject(simdisk.Fault{Ops: simdisk.OpSync, Err: syscall.EIO})
	for range 2 {
		if err := m.save("a", now); !errors.Is(err, syscall.EIO) {
			t.Errorf("got %v", err)
		}
		disk.Heal()
	}
	if err := disk.FlipBit("/"+retentionFile, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := m.load("a"); err == nil {
		t.Error("a damaged note is taken for one")
	}
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
