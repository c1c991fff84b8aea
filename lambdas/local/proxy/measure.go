package proxy

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"originchain/shared/telemetry"
)

// outage is what clients see of a change of the writer: since a request had no answer of
// the one that it went to.
type outage struct {
	of    *target
	since time.Time
}

func newSwitchSeconds() prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: switchSeconds, Help: "Time from the first request that the writer did not answer until the first answer of the next one.",
		Buckets: []float64{0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 15, 30, 60},
	})
}

const switchSeconds = "oc_endpoint_switch_seconds"

// Measure exports what the proxy counts, of which a metrics page has one.
func (p *Proxy) Measure(m *telemetry.Metrics) {
	m.Register(p.switching, switchSeconds)
	counter := func(name, help string, of func(Metrics) uint64) {
		m.CounterFunc(name, help, func() float64 { return float64(of(p.Metrics())) })
	}
	counter("oc_endpoint_requests_total", "Requests that were taken in.", func(m Metrics) uint64 { return m.Requests })
	counter("oc_endpoint_held_total", "Waits of requests: for another writer, or before the next attempt.", func(m Metrics) uint64 { return m.Held })
	counter("oc_endpoint_repeated_total", "Attempts after the first of a request.", func(m Metrics) uint64 { return m.Repeated })
	counter("oc_endpoint_refused_total", "Requests answered by the endpoint itself, of which nothing is unknown.", func(m Metrics) uint64 { return m.Refused })
	counter("oc_endpoint_unknown_total", "Requests answered with an unknown outcome by the endpoint itself.", func(m Metrics) uint64 { return m.Unknown })
	counter("oc_endpoint_aborted_total", "Answers that broke after part of them was sent on.", func(m Metrics) uint64 { return m.Aborted })
	counter("oc_endpoint_switches_total", "Changes of the writer that requests go to.", func(m Metrics) uint64 { return m.Switches })
	gauge := func(name, help string, of func(Metrics) float64) {
		m.GaugeFunc(name, help, func() float64 { return of(p.Metrics()) })
	}
	gauge("oc_endpoint_held", "Requests that wait now.", func(m Metrics) float64 { return float64(m.HeldNow) })
	gauge("oc_endpoint_buffered_bytes", "Bodies recorded now.", func(m Metrics) float64 { return float64(m.BufferedBytes) })
	gauge("oc_endpoint_epoch", "Epoch of the writer that requests go to.", func(m Metrics) float64 { return float64(m.Epoch) })
}

// troubled notes that t, the writer, has left a request without an answer.
func (p *Proxy) troubled(t *target) {
	if p.outage.Load() == nil {
		p.outage.CompareAndSwap(nil, &outage{t, time.Now()})
	}
}

// answered notes an answer of t, which ends the trouble if it is the writer.
func (p *Proxy) answered(t *target) {
	o := p.outage.Load()
	if o == nil || t.past.Err() != nil || !p.outage.CompareAndSwap(o, nil) || o.of == t {
		return
	}
	p.switching.Observe(time.Since(o.since).Seconds())
}
