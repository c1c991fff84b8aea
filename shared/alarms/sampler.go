package alarms

import (
	"math"
	"slices"
	"time"
)

// Reading is what a metric of ForCloudWatch is at one moment: a value, or several, each as
// often as Counts says.
type Reading struct {
	Metric string
	Values []float64
	// Counts is nil where Values has one.
	Counts []float64
}

// Sampler makes readings of the observations of one node: what the alarms of ForCloudWatch
// read, under their metrics' names. A gauge is its value, a counter what it has gained since
// the observation before, a histogram what was observed since, each as the upper bound of
// its bucket, a probe the status of its answer, and 0 without one. The guards that the
// service cannot express are here: where Mode or Armed do not hold there is no reading.
//
// What cannot be seen has none either, nor has a counter that is first seen of a process
// which was there before the sampler: what it had gained until then is of no known time. A
// process that began with the sampler or after it counts from 0. A machine that was lost and
// comes back counts what must be heard of before anybody has read its first page.
//
// It is not safe for concurrent use.
type Sampler struct {
	metrics []*sampled
	read    bool           // a page
	first   *time.Duration // observation
}

// together is how long before the sampler a process may have begun and still counts from 0: when
// a machine boots both begin, in either order. What it has gained is then of a time that is
// known to half of the shortest period that counters are read by.
const together = 30 * time.Second

// sampled is one metric, which several conditions may read.
type sampled struct {
	cond  Condition
	count counted
	armed *time.Duration
}

// NewSampler makes one.
func NewSampler(table []Alarm) *Sampler {
	s := &Sampler{}
	for i := range table {
		for _, c := range table[i].Any {
			if !slices.ContainsFunc(s.metrics, func(m *sampled) bool { return m.cond.Metric == c.Metric }) {
				s.metrics = append(s.metrics, &sampled{cond: c})
			}
		}
	}
	return s
}

// Take takes an observation in, which must not be older than the one before. now is what the
// clock of the node's own machine shows at it.
func (s *Sampler) Take(o Observation, now time.Time) (out []Reading) {
	if s.first == nil {
		s.first = &o.At
	}
	fromZero := s.read || o.Page.startedSince(now.Add(*s.first-o.At-together))
	for _, m := range s.metrics {
		if r, ok := m.reading(&o, fromZero); ok && !slices.ContainsFunc(r.Values, unfit) {
			out = append(out, r)
		}
	}
	s.read = s.read || o.Page != nil
	return out
}

// unfit says of a value that the service refuses it.
func unfit(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }

func (m *sampled) reading(o *Observation, fromZero bool) (Reading, bool) {
	one := func(v float64, ok bool) (Reading, bool) {
		return Reading{Metric: m.cond.Metric, Values: []float64{v}}, ok
	}
	if m.cond.Kind != Gauge && m.cond.Kind != ProbeStatus && m.cond.Kind != ProbeUnanswered {
		return m.gained(o, fromZero) // even where its guard does not hold: the next is since this one
	}
	if m.cond.Mode != "" && o.Page.mode() != m.cond.Mode {
		return Reading{}, false
	}
	if m.cond.Kind != Gauge {
		p, ok := o.Probes[m.cond.Metric]
		return one(float64(p.Status), ok)
	}
	v, ok := o.Values[m.cond.Metric]
	if !ok {
		v, ok = o.Page.worst(&m.cond)
	}
	if m.cond.Armed > 0 {
		if ok && v > 0 {
			at := o.At
			m.armed = &at
		}
		ok = ok && m.armed != nil && o.At-*m.armed <= m.cond.Armed
	}
	return one(v, ok)
}

// gained is what a counter or a histogram has gained since it was read before. fromZero says
// that a counter which was never read has gained all that it is.
func (m *sampled) gained(o *Observation, fromZero bool) (Reading, bool) {
	c := &m.count
	if _, there := o.Page.series(m.cond.Metric); there && fromZero && c.last == nil && m.cond.Kind != Quantile {
		// The page had been read, and lacked it; or its process began with the sampler.
		c.last, c.total, c.started = map[string][]float64{}, make([]float64, 1), o.Page.started()
	}
	first, before, bounds := c.last == nil, slices.Clone(c.total), c.bounds
	if !c.read(o.At, o.Page, &m.cond) || first || !slices.Equal(bounds, c.bounds) {
		return Reading{}, false
	}
	if m.cond.Mode != "" && o.Page.mode() != m.cond.Mode {
		return Reading{}, false
	}
	r := Reading{Metric: m.cond.Metric}
	if m.cond.Kind != Quantile {
		r.Values = []float64{c.total[0] - before[0]}
		return r, true
	}
	below := 0.0
	for i, bound := range c.bounds {
		upTo := c.total[i] - before[i]
		if upTo > below {
			// What is above the highest finite bound counts as that bound, as in quantile.
			if math.IsInf(bound, 1) && i > 0 {
				bound = c.bounds[i-1]
			}
			if n := len(r.Values); n > 0 && r.Values[n-1] == bound {
				r.Counts[n-1] += upTo - below
			} else {
				r.Values, r.Counts = append(r.Values, bound), append(r.Counts, upTo-below)
			}
			below = upTo
		}
	}
	return r, len(r.Values) > 0
}
