package alarms

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

// service is CloudWatch as its manual has it: it keeps what agents publish, under the
// dimensions of the instance and of each node, and evaluates alarms.
type service struct {
	nodes []string
	// data has the readings of a metric, with "" for the instance, by the period they are in.
	data map[string]map[time.Duration][]Reading
	now  time.Duration
}

func (s *service) put(node string, r Reading) {
	for _, dimension := range []string{"", node} {
		key := r.Metric + " " + dimension
		if s.data[key] == nil {
			s.data[key] = make(map[time.Duration][]Reading)
		}
		s.data[key][s.now] = append(s.data[key][s.now], r)
	}
}

// value is the statistic of a period that ends at end; false where it has no data.
func (s *service) value(key string, w *CloudWatch, end time.Duration) (float64, bool) {
	var all []float64
	for at := end; at > end-w.Period; at -= 10 * time.Second {
		for _, r := range s.data[key][at] {
			for i, v := range r.Values {
				n := 1.0
				if r.Counts != nil {
					n = r.Counts[i]
				}
				all = append(all, slices.Repeat([]float64{v}, int(n))...)
			}
		}
	}
	if len(all) == 0 {
		return 0, false
	}
	slices.Sort(all)
	switch w.Statistic {
	case "Maximum":
		return all[len(all)-1], true
	case "Minimum":
		return all[0], true
	case "Sum":
		sum := 0.0
		for _, v := range all {
			sum += v
		}
		return sum, true
	}
	var p float64
	if _, err := fmt.Sscanf(w.Statistic, "p%g", &p); err != nil {
		panic(w.Statistic)
	}
	return all[max(0, int(math.Ceil(p/100*float64(len(all))))-1)], true
}

// lookBack is how many periods the service looks at beyond those that it needs.
const lookBack = 2

// alarms says whether an alarm fires, at any of the nodes it is made for; was is whether it did.
func (s *service) alarms(w *CloudWatch, was bool) bool {
	if !w.PerNode {
		return s.fires(w, w.Metric+" ", was)
	}
	return slices.ContainsFunc(s.nodes, func(n string) bool { return s.fires(w, w.Metric+" "+n, was) })
}

func (s *service) fires(w *CloudWatch, key string, was bool) bool {
	var real []float64
	for i := range w.Periods + lookBack {
		if v, ok := s.value(key, w, s.now-time.Duration(i)*w.Period); ok {
			real = append(real, v)
		}
	}
	breach := map[string]func(v float64) bool{
		"GreaterThanThreshold": func(v float64) bool { return v > w.Threshold }, "GreaterThanOrEqualToThreshold": func(v float64) bool { return v >= w.Threshold },
		"LessThanThreshold": func(v float64) bool { return v < w.Threshold }, "LessThanOrEqualToThreshold": func(v float64) bool { return v <= w.Threshold }}[w.Comparison]
	real = real[:min(len(real), w.Periods)]
	if slices.ContainsFunc(real, func(v float64) bool { return !breach(v) }) {
		return false
	}
	switch {
	case len(real) == w.Periods || w.Missing == Breaching:
		return true
	case w.Missing == Ignore:
		return was
	}
	return false
}

// fleet is three nodes with an agent each, the service, and an Evaluator that sees the same.
type fleet struct {
	service
	samplers  map[string]*Sampler
	evaluator *Evaluator
	fired     map[string]bool
}

func newFleet() *fleet {
	f := &fleet{service: service{nodes: []string{"x-a", "x-b", "x-c"}, data: make(map[string]map[time.Duration][]Reading)},
		samplers: make(map[string]*Sampler), evaluator: New(Table()), fired: make(map[string]bool)}
	for _, n := range f.nodes {
		f.samplers[n] = NewSampler(Table())
	}
	return f
}

// state is what a node is observed as.
type state struct {
	mode                      string
	gauges, counters, answers map[string]float64
	observe                   map[string]float64 // what a histogram observes, so many times
	requests                  float64
	gone                      bool
}

// growing is what of a node grows.
type growing struct {
	counters map[string]float64
	buckets  map[string]map[float64]float64
}

var bounds = []float64{0.5, 1, 50, 100, 500, 1000}

func (g *growing) page(t *testing.T, s state) *Page {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "process_start_time_seconds 1\noc_node_info{mode=%q} 1\n", s.mode)
	for m, v := range s.gauges {
		fmt.Fprintf(&b, "%s %g\n", m, v)
	}
	for m, v := range s.counters {
		g.counters[m] += v
		fmt.Fprintf(&b, "# TYPE %s counter\n%s %g\n", m, m, g.counters[m])
	}
	for m, v := range s.observe {
		if g.buckets[m] == nil {
			g.buckets[m] = make(map[float64]float64)
		}
		fmt.Fprintf(&b, "# TYPE %s histogram\n", m)
		for _, bound := range bounds {
			if v <= bound {
				g.buckets[m][bound] += s.requests
			}
			fmt.Fprintf(&b, "%s_bucket{route=%q,le=\"%g\"} %g\n", m, rowPath, bound, g.buckets[m][bound])
		}
		g.buckets[m][-1] += s.requests
		fmt.Fprintf(&b, "%[1]s_bucket{route=%[2]q,le=\"+Inf\"} %[3]g\n%[1]s_sum{route=%[2]q} 1\n%[1]s_count{route=%[2]q} %[3]g\n", m, rowPath, g.buckets[m][-1])
	}
	p, err := Parse(strings.NewReader(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// run observes every node each ten seconds for a while.
func (f *fleet) run(t *testing.T, d time.Duration, grow map[string]*growing, states map[string]state) {
	t.Helper()
	for end := f.now + d; f.now < end; {
		f.now += 10 * time.Second
		for _, n := range f.nodes {
			s := states[n]
			if s.gone {
				continue
			}
			if grow[n] == nil {
				grow[n] = &growing{map[string]float64{}, map[string]map[float64]float64{}}
			}
			o := Observation{Node: n, At: f.now, Page: grow[n].page(t, s), Probes: map[string]Probe{}}
			for path, status := range s.answers {
				o.Probes[path] = Probe{Status: int(status)}
			}
			if _, err := f.evaluator.Observe(o); err != nil {
				t.Fatal(err)
			}
			for _, r := range f.samplers[n].Take(o, time.Unix(1e9, 0).Add(f.now)) {
				f.put(n, r)
			}
		}
		if f.now%(30*time.Second) != 0 {
			continue
		}
		for _, w := range ForCloudWatch(Table()) {
			// That of the writer's heartbeat, which nobody sends here, is another's business.
			f.fired[w.Name] = w.Alarm != InstanceSilent && f.alarms(&w, f.fired[w.Name])
		}
	}
}

// firing are the alarms of which something fires in the service, and those of which
// something does for the Evaluator.
func (f *fleet) firing() (service, evaluator []string) {
	for _, w := range ForCloudWatch(Table()) {
		if f.fired[w.Name] && !slices.Contains(service, w.Alarm) {
			service = append(service, w.Alarm)
		}
	}
	for _, s := range f.evaluator.Status() {
		if s.State == Firing && !slices.Contains(evaluator, s.Alarm) {
			evaluator = append(evaluator, s.Alarm)
		}
	}
	slices.Sort(service)
	slices.Sort(evaluator)
	return service, evaluator
}

// healthy is a node without fault, of ten requests each time.
func healthy(mode string) state {
	s := state{mode: mode, answers: map[string]float64{"/health": 200, "/ready": 200}, gauges: map[string]float64{}, counters: map[string]float64{}, observe: map[string]float64{}, requests: 4}
	for _, a := range Table() {
		for _, c := range a.Any {
			switch c.Kind {
			case Gauge:
				switch c.Op {
				case Below: // of the highest threshold, where there are several
					s.gauges[c.Metric] = max(s.gauges[c.Metric], 2*c.Threshold)
				case Equal:
					s.gauges[c.Metric] = 1
				case Above, Differs, AtLeast:
					s.gauges[c.Metric] = 0
				}
			case Rate, Increase:
				s.counters[c.Metric] = 0
			case Quantile:
				s.observe[c.Metric] = c.Threshold / 2
			case ProbeStatus, ProbeUnanswered:
			}
		}
	}
	delete(s.gauges, HeartbeatAge) // the control plane's
	return s
}

// bad makes a node bad in the way of one condition.
func (s *state) bad(c *Condition) {
	past := map[Op]float64{Above: c.Threshold + 1, AtLeast: c.Threshold, Below: c.Threshold / 2, Equal: c.Threshold, Differs: c.Threshold + 303}[c.Op]
	switch c.Kind {
	case Gauge:
		s.gauges[c.Metric] = past
	case Rate:
		s.counters[c.Metric] = past * 10 // each ten seconds
	case Increase:
		s.counters[c.Metric] = past
	case Quantile:
		s.observe[c.Metric] = c.Threshold * 2
	case ProbeStatus:
		s.answers[c.Metric] = past
	case ProbeUnanswered:
		s.answers[c.Metric] = 0
	}
}

// TestOneBadNodeOfThree: for each condition of the table, in whatever way one node of three
// is bad, the service's alarms fire as the Evaluator does, and no other alarm does; they end
// when it is well again.
func TestOneBadNodeOfThree(t *testing.T) {
	for _, a := range Table() {
		if a.Name == InstanceSilent {
			continue
		}
		for i := range a.Any {
			c := &a.Any[i]
			mode := "writer"
			if c.Mode != "" {
				mode = c.Mode
			}
			f, grow := newFleet(), make(map[string]*growing)
			busy := healthy("follower") // so much so that what one of three has observed is lost among all
			busy.requests = 300
			states := map[string]state{"x-a": healthy(mode), "x-b": busy, "x-c": busy}
			f.run(t, 5*time.Minute, grow, states)
			if service, evaluator := f.firing(); len(service)+len(evaluator) > 0 {
				t.Fatalf("%s: without a fault, %q and %q fire", a.Name, service, evaluator)
			}
			ill := healthy(mode)
			ill.bad(c)
			states["x-a"] = ill
			f.run(t, c.For+2*c.Window+time.Minute, grow, states)
			if a.Name == LastVerifiedAge {
				f.run(t, time.Hour, grow, states)
			}
			service, evaluator := f.firing()
			if !slices.Contains(service, a.Name) || !slices.Equal(service, evaluator) {
				t.Errorf("%s (%s): one of three is bad, and of the service's alarms %q fire, of the Evaluator's %q", a.Name, c.Kind, service, evaluator)
			}
			states["x-a"] = healthy(mode)
			f.run(t, c.For+2*c.Window+2*time.Minute, grow, states)
			if a.Name == LastVerifiedAge {
				f.run(t, time.Hour, grow, states)
			}
			if service, evaluator = f.firing(); len(service)+len(evaluator) > 0 {
				t.Errorf("%s (%s): it is well again, and %q and %q fire", a.Name, c.Kind, service, evaluator)
			}
		}
	}
}

// TestABurstCallsNobody: what is over within half a minute, as after a failover, however it
// lies over the minutes that the service counts by. What goes on does.
func TestABurstCallsNobody(t *testing.T) {
	const metric = "oc_replication_degraded_frames"
	for begin := time.Duration(0); begin < time.Minute; begin += 10 * time.Second {
		f, grow := newFleet(), make(map[string]*growing)
		states := map[string]state{"x-a": healthy("writer"), "x-b": healthy("follower"), "x-c": healthy("follower")}
		f.run(t, 5*time.Minute+begin, grow, states)
		degraded := healthy("writer")
		degraded.counters[metric] = 9
		for length, want := range map[time.Duration][]string{20 * time.Second: nil, 4 * time.Minute: {metric}} {
			var called, seen []string
			for end := f.now + length + 5*time.Minute; f.now < end; {
				states["x-a"] = degraded
				if end-f.now <= 5*time.Minute {
					states["x-a"] = healthy("writer")
				}
				f.run(t, 10*time.Second, grow, states)
				service, evaluator := f.firing()
				called, seen = append(called, service...), append(seen, evaluator...)
			}
			called, seen = slices.Compact(called), slices.Compact(seen)
			if !slices.Equal(called, want) || !slices.Equal(seen, want) {
				t.Errorf("%s from %s after the minute on: %q and %q fire, want %q", length, begin, called, seen, want)
			}
		}
	}
}

// TestNodesAreNotAdded: none of three is over the rate, although all together are.
func TestNodesAreNotAdded(t *testing.T) {
	f, grow := newFleet(), make(map[string]*growing)
	s := healthy("follower")
	s.counters["oc_rate_limit_rejections_total"] = 70 // in ten seconds
	f.run(t, 5*time.Minute, grow, map[string]state{"x-a": s, "x-b": s, "x-c": s})
	if service, evaluator := f.firing(); len(service)+len(evaluator) > 0 {
		t.Errorf("%q and %q fire", service, evaluator)
	}
}

// TestANodeThatIsGone: it is missed by its own alarm, whichever it is; what fired goes on as
// it was, and what a guard keeps to a writer or a follower ends with it.
func TestANodeThatIsGone(t *testing.T) {
	f, grow := newFleet(), make(map[string]*growing)
	states := map[string]state{"x-a": healthy("writer"), "x-b": healthy("follower"), "x-c": healthy("follower")}
	f.run(t, 2*time.Minute, grow, states)
	states["x-b"] = state{gone: true}
	f.run(t, 2*time.Minute, grow, states)
	if service, _ := f.firing(); !slices.Equal(service, []string{"/health"}) {
		t.Errorf("a node is gone, and %q fire", service)
	}
	// All are, while the log of one was slow.
	slow := healthy("writer")
	slow.gauges["oc_wal_fsync_lag_ms"], slow.gauges["oc_lease_remaining_ms"] = 99, 0
	states["x-a"] = slow
	f.run(t, 2*time.Minute, grow, states)
	states["x-a"], states["x-c"] = state{gone: true}, state{gone: true}
	f.run(t, 10*time.Minute, grow, states)
	if service, _ := f.firing(); !slices.Equal(service, []string{"/health", "oc_wal_fsync_lag_ms"}) {
		t.Errorf("all are gone, and %q fire", service)
	}
}
