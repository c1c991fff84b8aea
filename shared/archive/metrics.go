package archive

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"originchain/shared/telemetry"
)

// Metrics are what a node tells about its archive. They outlive the Shippers of a
// process, of which the newest counts; with none all gauges are 0.
type Metrics struct {
	current atomic.Pointer[Shipper]
	bytes   *prometheus.CounterVec
	damaged prometheus.Counter
}

// NewMetrics registers the metrics.
func NewMetrics(r *telemetry.Metrics) *Metrics {
	m := &Metrics{
		bytes:   r.CounterVec("oc_archive_uploaded_bytes_total", "Bytes of objects that the archive has taken, by kind: segment, tail, checkpoint.", "kind"),
		damaged: r.Counter("oc_archive_damaged_reads_total", "Readings of this node's own log that gave other bytes than were written, when they were to be shipped: nothing of them was, and they are repeated."),
	}
	for _, kind := range []string{kindSegment, kindTail, kindCheckpoint} {
		m.bytes.WithLabelValues(kind)
	}
	gauge := func(name, help string, read func(Status) float64) {
		r.GaugeFunc(name, help, func() float64 {
			if s := m.current.Load(); s != nil {
				return read(s.Status())
			}
			return 0
		})
	}
	gauge("oc_archive_unshipped_age_s", "Seconds since the first frame that is in no sealed segment of the archive became durable; 0 if all are.", func(s Status) float64 { return s.UnshippedSeconds })
	gauge("oc_archive_unshipped_bytes", "Bytes of local segments that hold frames which are in no sealed segment of the archive.", func(s Status) float64 { return float64(s.UnshippedBytes) })
	gauge("oc_archive_shipped_lsn", "Last frame that is in a sealed segment of the archive, without a hole.", func(s Status) float64 { return float64(s.ShippedLSN) })
	gauge("oc_recoverable_lsn", "Last frame that the archive has in any form, without a hole.", func(s Status) float64 { return float64(s.RecoverableLSN) })
	gauge("oc_recoverable_until_age_s", "Seconds since the first frame that the archive does not have in any form became durable: what would be lost with this machine; 0 if it has all.", func(s Status) float64 { return s.RPOSeconds })
	gauge("oc_archive_tail_state", "Shipping of the open segment: 0 off, 1 running, 2 paused, 3 waiting for the archive.", func(s Status) float64 { return tailNumber(s.Tail) })
	gauge("oc_checkpoint_age_s", "Seconds since the archive was known to have a checkpoint of the state as it was then; from the start on while it has none.", func(s Status) float64 { return s.CheckpointSeconds })
	return m
}

func tailNumber(t Tail) float64 {
	switch t {
	case TailRunning:
		return 1
	case TailPaused:
		return 2
	case TailWaiting:
		return 3
	}
	return 0
}

// watch makes s the shipper that is told about.
func (m *Metrics) watch(s *Shipper) {
	if m != nil {
		m.current.Store(s)
	}
}

// unwatch has nothing told about s any more.
func (m *Metrics) unwatch(s *Shipper) {
	if m != nil {
		m.current.CompareAndSwap(s, nil)
	}
}

func (m *Metrics) spoilt() {
	if m != nil {
		m.damaged.Inc()
	}
}

func (m *Metrics) uploaded(kind string, n int64) {
	if m != nil {
		m.bytes.WithLabelValues(kind).Add(float64(n))
	}
}
