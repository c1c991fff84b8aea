package telemetry

import (
	"net/http"
	"slices"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics is the registry of one node. It is its own, not the library's global
// one, so that two nodes in a process (tests, the local control plane) do not
// count into each other. Making a metric twice is a programming fault and panics.
type Metrics struct {
	registry *prometheus.Registry
	mu       sync.Mutex
	names    []string
}

// NewMetrics makes a registry with the metrics of the Go runtime, the process and the build.
func NewMetrics() *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry()}
	m.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	build := m.GaugeVec("oc_build_info", "Always 1; the labels name the build.", "version", "commit")
	build.WithLabelValues(Version, Commit).Set(1)
	return m
}

// Register adds a collector under the names it exposes.
func (m *Metrics) Register(c prometheus.Collector, names ...string) {
	m.registry.MustRegister(c)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.names = append(m.names, names...)
}

// Names lists the metrics of ours that are registered, sorted, for the test
// that compares them with their documentation.
func (m *Metrics) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(slices.Values(m.names))
}

// Counter makes and registers a counter.
func (m *Metrics) Counter(name, help string) prometheus.Counter {
	c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	m.Register(c, name)
	return c
}

// CounterVec makes and registers counters told apart by labels.
func (m *Metrics) CounterVec(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	m.Register(c, name)
	return c
}

// Gauge makes and registers a gauge.
func (m *Metrics) Gauge(name, help string) prometheus.Gauge {
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
	m.Register(g, name)
	return g
}

// GaugeVec makes and registers gauges told apart by labels.
func (m *Metrics) GaugeVec(name, help string, labels ...string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	m.Register(g, name)
	return g
}

// GaugeFunc registers a gauge that is read from f when metrics are collected.
// f must not block: a scrape waits for it.
func (m *Metrics) GaugeFunc(name, help string, f func() float64) {
	m.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, f), name)
}

// CounterFunc registers a counter that is read from f when metrics are collected.
// f must not block and never go down.
func (m *Metrics) CounterFunc(name, help string, f func() float64) {
	m.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help}, f), name)
}

// Histogram makes and registers histograms told apart by labels; buckets are upper bounds.
func (m *Metrics) Histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	m.Register(h, name)
	return h
}

// Handler serves the metrics in the Prometheus text format.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// Gatherer collects the metrics, for tests and reports.
func (m *Metrics) Gatherer() prometheus.Gatherer { return m.registry }
