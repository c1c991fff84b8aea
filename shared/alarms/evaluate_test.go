package alarms

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// seen is one observation of a test: seconds, what /metrics said ("" for none), probes.
type seen struct {
	at     int
	page   string
	health int // 0: not probed; -1: no answer
	values map[string]float64
	want   State
	unseen bool
}

func alarmOf(t testing.TB, name string) []Alarm {
	t.Helper()
	for _, a := range Table() {
		if a.Name == name {
			return []Alarm{a}
		}
	}
	t.Fatalf("no alarm %s", name)
	return nil
}

func observe(t testing.TB, e *Evaluator, s seen) (Status, []Change) {
	t.Helper()
	o := Observation{Node: "a", At: time.Duration(s.at) * time.Second, Values: s.values}
	if s.page != "" {
		page, err := Parse(strings.NewReader(strings.ReplaceAll(s.page, ";", "\n") + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		o.Page = page
	}
	if s.health != 0 {
		o.Probes = map[string]Probe{"/health": {Status: max(0, s.health)}, "/ready": {Status: max(0, s.health)}}
	}
	changes, err := e.Observe(o)
	if err != nil {
		t.Fatal(err)
	}
	return e.Status()[0], changes
}

const (
	asWriter   = `;oc_node_info{instance="i",node="a",mode="writer"} 1`
	asFollower = `;oc_node_info{instance="i",node="a",mode="follower"} 1`
)

func counter(name string, v int) string { return fmt.Sprintf("# TYPE %s counter;%s %d", name, name, v) }

func TestEvaluation(t *testing.T) {
	lag := func(v int) string { return fmt.Sprintf("oc_wal_fsync_lag_ms %d", v) }
	rejected := func(v int) string { return counter("oc_rate_limit_rejections_total", v) }
	aside := func(v int) string { return counter("oc_replication_set_aside_frames_total", v) }
	cases := []struct {
		name, alarm string
		seen        []seen
	}{
		{"a gauge for its duration", "oc_wal_fsync_lag_ms", []seen{
			{at: 0, page: lag(50), want: OK}, {at: 10, page: lag(51), want: Pending}, {at: 69, page: lag(51), want: Pending},
			{at: 70, page: lag(51), want: Firing}, {at: 80, page: lag(900), want: Firing}, {at: 90, page: lag(1), want: Resolved},
			{at: 989, page: lag(1), want: Resolved}, {at: 990, page: lag(1), want: OK}}},
		{"one good reading begins the duration anew", "oc_wal_fsync_lag_ms", []seen{
			{at: 0, page: lag(99), want: Pending}, {at: 50, page: lag(1), want: OK}, {at: 60, page: lag(99), want: Pending}, {at: 115, page: lag(99), want: Pending}, {at: 120, page: lag(99), want: Firing}}},
		{"what nobody saw has not held", "oc_wal_fsync_lag_ms", []seen{
			{at: 0, page: lag(99), want: Pending}, {at: 61, page: lag(99), want: Pending}, {at: 120, page: lag(99), want: Pending}, {at: 121, page: lag(99), want: Firing}}},
		{"a scrape that fails keeps a pending alarm, and fires none", "oc_wal_fsync_lag_ms", []seen{
			{at: 0, page: lag(99), want: Pending}, {at: 30, page: lag(99), want: Pending}, {at: 60, want: Pending, unseen: true}, {at: 70, page: lag(99), want: Firing}}},
		{"a firing alarm that is not seen goes on", "oc_wal_fsync_lag_ms", []seen{
			{at: 0, page: lag(99), want: Pending}, {at: 60, page: lag(99), want: Firing}, {at: 9999, want: Firing, unseen: true}, {at: 10000, page: "x 1", want: Firing, unseen: true}, {at: 10001, page: lag(0), want: Resolved}}},
		{"resolved, and again", "oc_wal_fsync_lag_ms", []seen{
			{at: 0, page: lag(99), want: Pending}, {at: 60, page: lag(99), want: Firing}, {at: 61, page: lag(0), want: Resolved}, {at: 62, page: lag(99), want: Pending}, {at: 121, page: lag(99), want: Pending}, {at: 122, page: lag(99), want: Firing}}},
		{"a feature that is not there", "oc_ask_latency_ms", []seen{{at: 0, page: lag(99), want: NoData, unseen: true}, {at: 900, page: lag(99), want: NoData, unseen: true}}},
		{"a ratio", "oc_plan_cache_hit_ratio", []seen{{at: 0, page: "oc_plan_cache_hit_ratio 0.9", want: OK}, {at: 1, page: "oc_plan_cache_hit_ratio NaN", want: OK, unseen: true}, {at: 2, page: "oc_plan_cache_hit_ratio 0.89", want: Pending}}},
		{"a rate", "oc_rate_limit_rejections_total", []seen{
			{at: 0, page: rejected(100000), want: OK}, {at: 30, page: rejected(100600), want: OK}, {at: 59, page: rejected(100601), want: Firing}, {at: 91, page: rejected(100601), want: Resolved}}},
		{"a burst right after the first reading is no rate", "oc_rate_limit_rejections_total", []seen{{at: 0, page: rejected(0), want: OK}, {at: 1, page: rejected(600), want: OK}, {at: 2, page: rejected(601), want: Firing}}},
		{"a counter that began anew", "oc_rate_limit_rejections_total", []seen{
			{at: 0, page: rejected(100000), want: OK}, {at: 15, page: rejected(500), want: OK}, {at: 30, page: rejected(601), want: Firing}}},
		{"what nobody saw is spread over its time", "oc_rate_limit_rejections_total", []seen{{at: 0, page: rejected(0), want: OK}, {at: 3600, page: rejected(36000), want: OK}, {at: 7200, page: rejected(72001 + 36000), want: Firing}}},
		{"any, counted by a process that came after", "oc_replication_set_aside_frames_total", []seen{
			{at: 0, page: "process_start_time_seconds 5;" + aside(7), want: OK}, {at: 15, page: "process_start_time_seconds 9;" + aside(7), want: Firing},
			{at: 800, page: "process_start_time_seconds 9;" + aside(7), want: Firing}, {at: 916, page: "process_start_time_seconds 9;" + aside(7), want: Resolved}}},
		{"any, in a series that was not there", "oc_circuit_open_total", []seen{
			{at: 0, page: `# TYPE oc_circuit_open_total counter;oc_circuit_open_total{to="a"} 3`, want: OK},
			{at: 15, page: `# TYPE oc_circuit_open_total counter;oc_circuit_open_total{to="a"} 3;oc_circuit_open_total{to="b"} 1`, want: Firing}}},
		{"a gauge that counts", "oc_replication_degraded_frames", []seen{{at: 0, page: "oc_replication_degraded_frames 9", want: OK}, {at: 15, page: "oc_replication_degraded_frames 10", want: Pending}, {at: 60, page: "oc_replication_degraded_frames 11", want: Pending},
			{at: 104, page: "oc_replication_degraded_frames 12", want: Pending}, {at: 105, page: "oc_replication_degraded_frames 12", want: Firing}, {at: 166, page: "oc_replication_degraded_frames 12", want: Resolved}}},
		{"writes of a failover, until the old writer follows", "oc_replication_degraded_frames", []seen{{at: 0, page: "oc_replication_degraded_frames 0", want: OK},
			{at: 1, page: "oc_replication_degraded_frames 50", want: Pending}, {at: 29, page: "oc_replication_degraded_frames 900", want: Pending}, {at: 60, page: "oc_replication_degraded_frames 900", want: Pending}, {at: 90, page: "oc_replication_degraded_frames 900", want: OK}}},
		{"a lease that is lost", "oc_lease_remaining_ms", []seen{
			{at: 0, page: "oc_lease_remaining_ms 3500" + asWriter, want: OK}, {at: 1, page: "oc_lease_remaining_ms 0" + asWriter, want: Pending}, {at: 6, page: "oc_lease_remaining_ms 0" + asWriter, want: Firing}, {at: 7, page: "oc_lease_remaining_ms 0" + asFollower, want: Resolved}}},
		{"a writer without a lease", "oc_lease_remaining_ms", []seen{{at: 0, page: "oc_lease_remaining_ms 0" + asWriter, want: OK}, {at: 60, page: "oc_lease_remaining_ms 0" + asWriter, want: OK}}},
		{"a follower without its leader", "oc_replication_leader_connected", []seen{{at: 0, page: "oc_replication_leader_connected 0" + asFollower, want: Pending}, {at: 30, page: "oc_replication_leader_connected 0" + asFollower, want: Firing}}},
		{"a writer has no leader", "oc_replication_leader_connected", []seen{{at: 0, page: "oc_replication_leader_connected 0" + asWriter, want: OK}, {at: 60, page: "oc_replication_leader_connected 0" + asWriter, want: OK}}},
		{"any 5xx", "/health", []seen{{at: 0, health: 200, want: OK}, {at: 1, health: 503, want: Firing}, {at: 2, health: 200, want: Resolved}}},
		{"a sustained time-out", "/health", []seen{{at: 0, health: -1, want: Pending}, {at: 9, health: -1, want: Pending}, {at: 10, health: -1, want: Firing}}},
		{"a short time-out", "/health", []seen{{at: 0, health: -1, want: Pending}, {at: 9, health: 200, want: OK}}},
		{"ready", "/ready", []seen{{at: 0, health: 503, want: Pending}, {at: 29, health: -1, want: Pending}, {at: 30, health: 503, want: Firing}}},
		{"no heartbeat", InstanceSilent, []seen{{at: 0, want: NoData, unseen: true}, {at: 1, values: map[string]float64{HeartbeatAge: 3}, want: OK}, {at: 2, values: map[string]float64{HeartbeatAge: 3.1}, want: Firing}}},
		{"never verified for long", LastVerifiedAge, []seen{{at: 0, page: "oc_pitr_last_verified_age_s 129600", want: OK}, {at: 1, page: "oc_pitr_last_verified_age_s +Inf", want: Firing}}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e := New(alarmOf(t, c.alarm))
			before := NoData
			for _, s := range c.seen {
				got, changes := observe(t, e, s)
				if got.State != s.want || got.Unseen != s.unseen {
					t.Fatalf("after %d s: %s (unseen %t, value %v), want %s (unseen %t)", s.at, got.State, got.Unseen, got.Value, s.want, s.unseen)
				}
				if changed := len(changes) == 1 && changes[0].From == before && changes[0].State == got.State; changed != (got.State != before) {
					t.Fatalf("after %d s from %s to %s: changes %+v", s.at, before, got.State, changes)
				}
				before = got.State
			}
		})
	}
}

// latency is a histogram of rows and one of statements, which is not counted.
func latency(fast, slow, other int) string {
	row := func(route string, fast, slow int) string {
		return fmt.Sprintf(`oc_requests_seconds_bucket{route=%[1]q,le="0.5"} %[2]d;oc_requests_seconds_bucket{route=%[1]q,le="2"} %[3]d;oc_requests_seconds_bucket{route=%[1]q,le="+Inf"} %[3]d;oc_requests_seconds_count{route=%[1]q} %[3]d;oc_requests_seconds_sum{route=%[1]q} 1`, route, fast, fast+slow)
	}
	return "# TYPE oc_requests_seconds histogram;" + row(rowPath, fast, slow) + ";" + row("/v1/tenants/{t}/sql", 0, other)
}

func TestQuantileOfAHistogram(t *testing.T) {
	e := New(alarmOf(t, "oc_requests_seconds"))
	fast, slow, want := 1000, 1000, OK // what was there before the first reading is not counted
	for at := 0; at <= 420; at += 30 {
		switch {
		case at > 0 && at <= 330:
			fast, slow, want = fast+90, slow+10, Pending
		case at > 330:
			fast, want = fast+2000, Resolved // 1 % are in the window still, then none
		}
		if at >= 330 && at < 360 {
			want = Firing
		}
		s, _ := observe(t, e, seen{at: at, page: latency(fast, slow, at*100)})
		if s.State != want {
			t.Fatalf("after %d s: %s (%v), want %s", at, s.State, s.Value, want)
		}
		if want == Firing && math.Abs(s.Value-1.85) > 0.001 {
			t.Errorf("p99 is %v, want 1.85: 90 %% below 0.5, linear up to 2", s.Value)
		}
	}
	idle := New(alarmOf(t, "oc_requests_seconds"))
	for at := range 20 {
		if s, _ := observe(t, idle, seen{at: at * 30, page: latency(5, 100, 0)}); s.State != OK || s.Unseen {
			t.Fatalf("nobody asks for anything, and %+v", s)
		}
	}
}

func TestQuantile(t *testing.T) {
	inf := math.Inf(1)
	for _, c := range []struct {
		q                  float64
		bounds, cumulative []float64
		want               float64
		ok                 bool
	}{
		{0.5, []float64{1, 2, inf}, []float64{0, 0, 0}, 0, false},
		{0.5, []float64{1, 2, inf}, []float64{10, 10, 10}, 0.5, true},
		{0.95, []float64{1, 2, inf}, []float64{0, 10, 10}, 1.95, true},
		{0.95, []float64{1, 2, inf}, []float64{0, 0, 10}, 2, true},
		{0.95, []float64{1, 1, inf}, []float64{5, 5, 10}, 1, true},
		{0.5, []float64{-1, 2, inf}, []float64{10, 10, 10}, -1, true},
		{0.5, []float64{inf}, []float64{10}, inf, true},
	} {
		if v, ok := quantile(c.q, c.bounds, c.cumulative); ok != c.ok || math.Abs(v-c.want) > 1e-9 && v != c.want {
			t.Errorf("p%v of %v at %v: %v %t, want %v %t", c.q*100, c.cumulative, c.bounds, v, ok, c.want, c.ok)
		}
	}
}

// A model: a gauge fires exactly when it was above the limit in all readings of the last
// minute that reach back to it without a gap, and stops with the first that is not.
func TestGaugeAgainstAModel(t *testing.T) {
	fired := 0
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 3))
		e := New(alarmOf(t, "oc_wal_fsync_lag_ms"))
		at, since, last, firing := 0, -1, -1, false
		for range 200 {
			at += []int{1, 5, 20, 59, 60, 61, 200}[r.IntN(7)]
			s := seen{at: at}
			if r.IntN(5) > 0 {
				bad := r.IntN(8) > 0
				s.page = map[bool]string{true: "oc_wal_fsync_lag_ms 51", false: "oc_wal_fsync_lag_ms 50"}[bad]
				switch {
				case !bad:
					since, firing = -1, false
				case since < 0 || at-last > 60:
					since = at
				}
				last = at
				firing = firing || since >= 0 && at-since >= 60
			}
			got, _ := observe(t, e, s)
			if (got.State == Firing) != firing {
				t.Fatalf("seed %d, %d s: %s, and the model says %t", seed, at, got.State, firing)
			}
			if firing {
				fired++
			}
		}
	}
	if fired < 500 {
		t.Errorf("%d firing readings tell little", fired)
	}
}

// A model: what a window gained is the sum of the steps, whatever restarts there were.
func TestIncreaseAgainstAModel(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 5))
		table := alarmOf(t, "oc_panics_total")
		e := New(table)
		value, sum, process := r.IntN(100), 0, 1
		for at := range 60 {
			if at > 0 {
				if r.IntN(10) == 0 {
					value, process = 0, process+1
				}
				step := r.IntN(4)
				value, sum = value+step, sum+step
			}
			got, _ := observe(t, e, seen{at: at * 10, page: fmt.Sprintf("process_start_time_seconds %d;%s", process, counter("oc_panics_total", value))})
			if int(got.Value) != sum { // the window is longer than all of it
				t.Fatalf("seed %d, reading %d: gained %v, want %d", seed, at, got.Value, sum)
			}
		}
		if n := len(e.nodes["a"].alarms[0].conds[0].counted.points); n > maxPoints+3 {
			t.Fatalf("%d points are kept", n)
		}
	}
}

func TestPointsAreBounded(t *testing.T) {
	e := New(alarmOf(t, "oc_rate_limit_rejections_total"))
	for at := range 20000 {
		page, err := Parse(strings.NewReader(fmt.Sprintf("oc_rate_limit_rejections_total %d\n", at/10)))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := e.Observe(Observation{Node: "a", At: time.Duration(at) * 10 * time.Millisecond, Page: page}); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(e.nodes["a"].alarms[0].conds[0].counted.points); n > maxPoints+3 {
		t.Errorf("%d points are kept", n)
	}
	if s := e.Status()[0]; math.Abs(s.Value-10) > 0.3 {
		t.Errorf("10 per second are read as %v", s.Value)
	}
}

func TestLimitsOfTheEvaluator(t *testing.T) {
	e := New(Table())
	for i := range MaxNodes {
		if _, err := e.Observe(Observation{Node: fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := e.Observe(Observation{Node: "more"}); err == nil {
		t.Error("more nodes than there may be")
	}
	e.Forget("0")
	if _, err := e.Observe(Observation{Node: "more", At: time.Second}); err != nil {
		t.Error(err)
	}
	if _, err := e.Observe(Observation{Node: "more"}); err == nil {
		t.Error("an observation of before was taken")
	}
	if n := len(e.Status()); n != MaxNodes*len(Table()) {
		t.Errorf("%d standings", n)
	}
	if _, err := Parse(strings.NewReader(strings.Repeat("# x\n", MaxPageBytes/4+1))); err == nil {
		t.Error("a page without an end was read")
	}
	if _, err := Parse(strings.NewReader("not { a page\n")); err == nil {
		t.Error("what is no page was read")
	}
}
