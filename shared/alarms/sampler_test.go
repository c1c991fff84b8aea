package alarms

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// sampleTable has one alarm of each kind.
func sampleTable() []Alarm {
	return []Alarm{
		{Name: "a", Any: []Condition{{Kind: ProbeStatus, Metric: "/health"}, {Kind: ProbeUnanswered, Metric: "/health"}}},
		{Name: "b", Any: one(Condition{Kind: Gauge, Metric: "g", Op: Above, Threshold: 1})},
		{Name: "c", Any: one(Condition{Kind: Gauge, Metric: "lease", Op: Equal, Mode: writer, Armed: time.Hour})},
		{Name: "d", Any: one(Condition{Kind: Increase, Metric: "n", Op: Above, Window: time.Minute})},
		{Name: "e", Any: one(Condition{Kind: Quantile, Metric: "h", Routes: []string{"r"}, Quantile: 0.99, Window: time.Minute})},
		{Name: "f", Any: one(Condition{Kind: Gauge, Metric: HeartbeatAge, Op: Above})},
	}
}

func TestSampler(t *testing.T) {
	info := func(mode string) string { return fmt.Sprintf("oc_node_info{mode=%q} 1\n", mode) }
	histogram := func(low, mid, all int) string {
		return fmt.Sprintf("# TYPE h histogram\nh_bucket{route=\"r\",le=\"1\"} %d\nh_bucket{route=\"r\",le=\"2\"} %d\nh_bucket{route=\"r\",le=\"+Inf\"} %d\nh_sum{route=\"r\"} 1\nh_count{route=\"r\"} %d\n"+
			"h_bucket{route=\"x\",le=\"1\"} 9\nh_bucket{route=\"x\",le=\"2\"} 9\nh_bucket{route=\"x\",le=\"+Inf\"} 9\nh_sum{route=\"x\"} 1\nh_count{route=\"x\"} 9\n", low, mid, all, all)
	}
	const started = "process_start_time_seconds "
	s := NewSampler(sampleTable())
	for i, step := range []struct {
		why   string
		page  string
		probe map[string]Probe
		value map[string]float64
		want  []Reading
	}{
		{"nothing can be seen", "", nil, nil, nil},
		{"counters are seen first", started + "1\n" + info("writer") + "g{s=\"1\"} 3\ng{s=\"2\"} 5\n" + "# TYPE n counter\nn 7\n" + histogram(1, 1, 1), map[string]Probe{"/health": {200}}, nil,
			[]Reading{{"/health", []float64{200}, nil}, {"g", []float64{5}, nil}}},
		{"they gain, and a lease that was never had is none", started + "1\n" + info("writer") + "lease 0\n# TYPE n counter\nn 9\n" + histogram(2, 4, 9), map[string]Probe{"/health": {}}, nil,
			[]Reading{{"/health", []float64{0}, nil}, {"n", []float64{2}, nil}, {"h", []float64{1, 2}, []float64{1, 7}}}},
		{"a lease", started + "1\n" + info("writer") + "lease 4000\n# TYPE n counter\nn 9\n" + histogram(2, 4, 9), nil, map[string]float64{HeartbeatAge: 0.5},
			[]Reading{{"lease", []float64{4000}, nil}, {"n", []float64{0}, nil}, {HeartbeatAge, []float64{0.5}, nil}}},
		{"a lease that is lost", started + "1\n" + info("writer") + "lease 0\n", nil, nil, []Reading{{"lease", []float64{0}, nil}}},
		{"another process counts from 0", started + "2\n" + info("follower") + "lease 0\n# TYPE n counter\nn 3\n" + histogram(0, 1, 1), nil, nil,
			[]Reading{{"n", []float64{3}, nil}, {"h", []float64{2}, []float64{1}}}},
		{"what is no number is no reading", started + "2\n" + info("writer") + "g NaN\n# TYPE n counter\nn 3\n", nil, map[string]float64{HeartbeatAge: posInf()}, []Reading{{"n", []float64{0}, nil}}},
	} {
		o := Observation{Node: "a", At: time.Duration(i) * 10 * time.Second, Probes: step.probe, Values: step.value}
		if step.page != "" {
			var err error
			if o.Page, err = Parse(strings.NewReader(step.page)); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(step.want, s.Take(o, wall(o.At))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.why, diff)
		}
	}
	// After as long as it arms, a lease that was lost is none again.
	p, err := Parse(strings.NewReader(info("writer") + "lease 0\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range s.Take(Observation{At: 2 * time.Hour, Page: p}, wall(2*time.Hour)) {
		if r.Metric == "lease" {
			t.Errorf("%+v two hours after it was lost", r)
		}
	}
}

// TestACounterThatAppearsCountsFromZero: the page it was missing from was read.
func TestACounterThatAppearsCountsFromZero(t *testing.T) {
	s := NewSampler(sampleTable())
	for i, c := range []struct {
		page string
		want []Reading
	}{{"g 1\n", []Reading{{"g", []float64{1}, nil}}}, {"# TYPE n counter\nn{t=\"1\"} 2\n", []Reading{{"n", []float64{2}, nil}}}} {
		p, err := Parse(strings.NewReader(c.page))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, s.Take(Observation{At: time.Duration(i), Page: p}, wall(0))); diff != "" {
			t.Errorf("page %d (-want +got):\n%s", i, diff)
		}
	}
}

// wall is what the machine's clock shows that long after the sampler began.
func wall(at time.Duration) time.Time { return time.Unix(1_000, 0).Add(at) }

// TestACounterOfABootCountsFromZero: a node that comes back on a machine that was lost has set
// frames aside before anybody reads its first page. Of a process that was there long before,
// nobody knows when it did.
func TestACounterOfABootCountsFromZero(t *testing.T) {
	const metric = "oc_replication_set_aside_frames_total"
	for name, c := range map[string]struct {
		started string
		first   int           // the observation that has the first page, of one each ten seconds
		step    time.Duration // by which the clock is set before that one
		want    []float64
	}{
		"a machine boots":                        {"1025", 3, 0, []float64{7, 0}},
		"the server begins with the agent":       {"1000.3", 3, 0, []float64{7, 0}},
		"the server begins first, and answers":   {"985", 0, 0, []float64{7, 0}},
		"the agent begins as an old one answers": {"900", 0, 0, []float64{0}},
		"an old server answers late":             {"900", 3, 0, []float64{0}},
		"the clock is set forward":               {"8225", 3, 2 * time.Hour, []float64{7, 0}},
		"the clock is set back":                  {"525", 3, -500 * time.Second, []float64{7, 0}},
		"an old server, the clock set forward":   {"8100", 3, 2 * time.Hour, []float64{0}},
		"it does not say":                        {"", 3, 0, []float64{0}},
	} {
		s, got := NewSampler(Table()), []float64(nil)
		for i := range c.first + 2 {
			o := Observation{Node: "a", At: time.Duration(i) * 10 * time.Second, Probes: map[string]Probe{"/health": {}}}
			now := wall(o.At)
			if i >= c.first {
				text := "# TYPE " + metric + " counter\n" + metric + " 7\n"
				if c.started != "" {
					text += "process_start_time_seconds " + c.started + "\n"
				}
				p, err := Parse(strings.NewReader(text))
				if err != nil {
					t.Fatal(err)
				}
				o.Page, now = p, now.Add(c.step)
			}
			for _, r := range s.Take(o, now) {
				if r.Metric == metric {
					got = append(got, r.Values...)
				}
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func posInf() float64 { var zero float64; return 1 / zero }

// TestEveryCloudWatchAlarmHasItsReading: what the alarms read is what is published.
func TestEveryCloudWatchAlarmHasItsReading(t *testing.T) {
	s := NewSampler(Table())
	for _, a := range ForCloudWatch(Table()) {
		found := 0
		for _, m := range s.metrics {
			if m.cond.Metric == a.Metric {
				found++
			}
		}
		if found != 1 {
			t.Errorf("%s reads %s, of which there are %d", a.Name, a.Metric, found)
		}
	}
}
