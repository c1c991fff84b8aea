package alarms

import (
	"math"
	"slices"
	"sort"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// maxPoints is how many points a window is kept as: what a counter gained is exact at
// the newest, and at the window's beginning to a hundredth of it.
const maxPoints = 100

// counted is what one metric of one node has gained since it was first seen: one
// number for a counter, one per bucket for a histogram. A counter that goes down, or
// whose process is another one, began anew at 0.
type counted struct {
	last    map[string][]float64 // by series, as last read
	started float64
	bounds  []float64 // of a histogram
	total   []float64
	points  []point // oldest first; the newest is the last reading
}

// point is the total at a moment.
type point struct {
	at    time.Duration
	total []float64
}

// read takes a page's series in. It reports whether there are any.
func (c *counted) read(at time.Duration, p *Page, cond *Condition) bool {
	series, ok := p.series(cond.Metric)
	if !ok {
		return false
	}
	width := 1
	if cond.Kind == Quantile {
		bounds := boundsOf(series)
		if len(bounds) == 0 {
			return false
		}
		if !slices.Equal(bounds, c.bounds) { // another version's buckets: nothing can be compared
			*c = counted{bounds: bounds}
		}
		width = len(bounds)
	}
	first := c.last == nil
	if first {
		c.total = make([]float64, width)
	}
	another := !first && p.started() != c.started
	now := make(map[string][]float64, len(series))
	for _, m := range series {
		if len(cond.Routes) > 0 && !slices.Contains(cond.Routes, label(m, "route")) {
			continue
		}
		values := valuesOf(m, cond.Kind, c.bounds)
		if values == nil {
			continue
		}
		id := identity(m)
		now[id] = values
		if !first {
			c.gain(values, c.last[id], another)
		}
	}
	c.last, c.started = now, p.started()
	c.keep(at, cond.Window)
	return true
}

// gain adds what a series has counted since it was last read. One that was not there
// before counts from 0: the page it was missing from was read.
func (c *counted) gain(now, before []float64, anew bool) {
	if before == nil || anew || now[len(now)-1] < before[len(before)-1] {
		before = make([]float64, len(now))
	}
	for i := range now {
		c.total[i] += math.Max(0, now[i]-before[i])
	}
}

// keep adds a point and drops what no window reaches back to. The newest point moves
// along until it is far enough from the one before.
func (c *counted) keep(at, window time.Duration) {
	p := point{at: at, total: slices.Clone(c.total)}
	if n := len(c.points); n >= 2 && at-c.points[n-2].at < window/maxPoints {
		c.points[n-1] = p
	} else {
		c.points = append(c.points, p)
	}
	for len(c.points) >= 2 && c.points[1].at <= at-window {
		c.points = c.points[1:]
	}
}

// over is what was gained over the window, and how long that took: at least the
// window, so that a burst right after the first reading is no rate.
func (c *counted) over(window time.Duration) (gained []float64, took time.Duration) {
	oldest, newest := c.points[0], c.points[len(c.points)-1]
	gained = make([]float64, len(newest.total))
	for i := range gained {
		gained[i] = newest.total[i] - oldest.total[i]
	}
	return gained, max(window, newest.at-oldest.at)
}

// boundsOf are the upper bounds of a histogram's buckets, the last +Inf.
func boundsOf(series []*dto.Metric) (bounds []float64) {
	for _, m := range series {
		for _, b := range m.GetHistogram().GetBucket() {
			bounds = append(bounds, b.GetUpperBound())
		}
		if len(bounds) > 0 {
			break
		}
	}
	slices.Sort(bounds)
	if len(bounds) > 0 && !math.IsInf(bounds[len(bounds)-1], 1) {
		bounds = append(bounds, math.Inf(1))
	}
	return bounds
}

// valuesOf are the numbers of a series: its cumulative bucket counts at the bounds, or
// its value. nil if it has none, or other buckets.
func valuesOf(m *dto.Metric, kind Kind, bounds []float64) []float64 {
	if kind != Quantile {
		if v := number(m); !math.IsNaN(v) {
			return []float64{v}
		}
		return nil
	}
	h := m.GetHistogram()
	if h == nil {
		return nil
	}
	out := make([]float64, len(bounds))
	out[len(out)-1] = float64(h.GetSampleCount())
	for _, b := range h.GetBucket() {
		i, ok := slices.BinarySearch(bounds, b.GetUpperBound())
		if !ok {
			return nil
		}
		out[i] = float64(b.GetCumulativeCount())
	}
	return out
}

// quantile reads a quantile from cumulative counts, as Prometheus does: linear within
// a bucket that begins at 0 or at the bound before; what is above the highest finite
// bound is that bound. ok is false where nothing was counted.
func quantile(q float64, bounds, cumulative []float64) (v float64, ok bool) {
	n := len(bounds)
	total := cumulative[n-1]
	if total <= 0 {
		return 0, false
	}
	rank := q * total
	i := sort.Search(n-1, func(i int) bool { return cumulative[i] >= rank })
	switch {
	case i == n-1 && n == 1:
		return math.Inf(1), true
	case i == n-1:
		return bounds[n-2], true
	case i == 0 && bounds[0] <= 0:
		return bounds[0], true
	}
	low, below := 0.0, 0.0
	if i > 0 {
		low, below = bounds[i-1], cumulative[i-1]
	}
	if in := cumulative[i] - below; in > 0 {
		return low + (bounds[i]-low)*(rank-below)/in, true
	}
	return low, true
}
