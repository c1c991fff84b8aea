package httpx

import (
	"strconv"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"originchain/shared/telemetry"
)

// Metrics are what the HTTP face measures. One value serves every Server of the
// process, so that a listener of its own for operations adds to the same series.
type Metrics struct {
	requests    *prometheus.HistogramVec
	rateLimited prometheus.Counter
	overloaded  prometheus.Counter
	panics      prometheus.Counter
	// inFlight counts requests between header and end of answer, Public ones left out.
	inFlight atomic.Int64
}

// NewMetrics registers the metrics of the HTTP face.
func NewMetrics(r *telemetry.Metrics) *Metrics {
	m := &Metrics{
		requests: r.Histogram("oc_requests_seconds", "Time from a request's header to the end of its answer, by route, method and status.",
			bounds(), "route", "method", "status"),
		rateLimited: r.Counter("oc_rate_limit_rejections_total", "Requests refused with 429 because the tenant was over the rate of its tier."),
		overloaded:  r.Counter("oc_overload_rejections_total", "Requests refused with 503 before their handler because the node was at a limit of its own."),
		panics:      r.Counter("oc_panics_total", "Handlers that panicked and were answered with 500."),
	}
	r.GaugeFunc("oc_requests_in_flight", "Requests between header and end of answer, public routes left out.",
		func() float64 { return float64(m.inFlight.Load()) })
	return m
}

// bounds are the buckets of requests, in seconds. One is at the threshold of the alarm: what
// reads a request as its bucket's bound is to find it on the same side.
func bounds() []float64 {
	return []float64{0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10}
}

// minStatus is the lowest status a final answer has.
const minStatus = 200

// series keeps the histograms of one route by status, so that an answer costs
// an index and not a lookup by labels.
type series struct {
	metrics  *Metrics
	route    string
	method   string
	byStatus [400]atomic.Pointer[prometheus.Observer]
}

// observe adds one answer.
func (s *series) observe(status int, took time.Duration) {
	i := status - minStatus
	if i < 0 || i >= len(s.byStatus) {
		return
	}
	o := s.byStatus[i].Load()
	if o == nil {
		made := s.metrics.requests.WithLabelValues(s.route, s.method, strconv.Itoa(status))
		s.byStatus[i].Store(&made)
		o = &made
	}
	(*o).Observe(took.Seconds())
}
