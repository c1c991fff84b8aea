package writer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"originchain/shared/archive"
	"originchain/shared/datadir"
	"originchain/shared/engine"
	"originchain/shared/httpx"
	"originchain/shared/telemetry"
)

// metrics are what the writer measures beside the HTTP face. docs/METRICS.md
// lists all; a test compares the two.
type metrics struct {
	registry *telemetry.Metrics
	info     *prometheus.GaugeVec
	archive  *archive.Metrics
	fsync    prometheus.Observer
	commit   prometheus.Observer
	batch    prometheus.Counter
	sqlTotal *prometheus.CounterVec
	sqlBusy  prometheus.Gauge
	// retentionFailures outlives the roles of the process.
	retentionFailures prometheus.Counter
}

func newMetrics(r *telemetry.Metrics, w *Shell) *metrics {
	m := &metrics{
		registry: r,
		archive:  archive.NewMetrics(r),
		info: r.GaugeVec("oc_node_info", "Always 1; the labels say which node this is. It is there once the log is open.",
			"instance", "node", "mode", "region", "advertise"),
		fsync: r.Histogram("oc_wal_fsync_seconds", "Time of one fdatasync of the commit path; one serves a whole group of commits.",
			prometheus.ExponentialBucketsRange(0.000_05, 5, 41)).WithLabelValues(),
		commit: r.Histogram("oc_commit_seconds", "Time from handing a row write to the pipeline until it is durable and visible.",
			prometheus.ExponentialBucketsRange(0.000_1, 10, 16)).WithLabelValues(),
		batch:             r.Counter("oc_batch_rows_total", "Rows accepted by _batch."),
		sqlTotal:          r.CounterVec("oc_sql_statements_total", "SQL statements that ended, by kind of answer; \"error\" for those that failed.", "kind"),
		retentionFailures: r.Counter("oc_archive_retention_failures_total", "Runs of the retention that failed: the archive keeps what is too old until one comes to its end."),
		sqlBusy:           r.Gauge("oc_sql_in_flight", "SQL statements that run right now, over all tenants."),
	}
	gauge := func(name, help string, read func(*engine.Engine) float64) {
		r.GaugeFunc(name, help, func() float64 {
			if e := w.engine.Load(); e != nil {
				return read(e)
			}
			return 0
		})
	}
	gauge("oc_wal_fsync_lag_ms", "Milliseconds the oldest commit that is not durable yet has waited since it was decided; while none waits, how long the oldest one of the latest fsync did.",
		func(e *engine.Engine) float64 { return float64(e.FsyncLag()) / float64(time.Millisecond) })
	gauge("oc_pending_bytes", "Bytes of commits that are decided and not yet visible.", func(e *engine.Engine) float64 { return float64(e.PendingBytes()) })
	gauge("oc_visible_lsn", "Last frame that reads see.", func(e *engine.Engine) float64 { return float64(e.Visible().LSN) })
	gauge("oc_durable_lsn", "Last frame that survives a crash of this node.", func(e *engine.Engine) float64 { return float64(e.Durable()) })
	gauge("oc_epoch", "Epoch of this opening.", func(e *engine.Engine) float64 { return float64(e.Epoch()) })
	gauge("oc_segments", "Log segments on this node.", func(e *engine.Engine) float64 { return float64(len(e.Log().Segments())) })
	gauge("oc_log_bytes", "Bytes of the log segments on this node.", func(e *engine.Engine) float64 {
		var n int64
		for _, s := range e.Log().Segments() {
			n += s.Bytes
		}
		return float64(n)
	})
	gauge("oc_state_bytes", "Bytes of the key-value state on disk.", func(e *engine.Engine) float64 { return float64(e.StateBytes()) })
	r.GaugeFunc("oc_archive_retention_age_s", "Seconds since the archive was last looked through for what is too old, to the end; from the start of the writer on until it was; 0 on a follower and without an archive.",
		func() float64 {
			a := w.archiver.Load()
			if a == nil {
				return 0
			}
			age, _ := a.retention.age()
			return age.Seconds()
		})
	r.GaugeFunc("oc_replication_applied_lag_lsn", "Frames by which the slowest connected follower, or on a follower this one, shows less than the writer.",
		func() float64 { return float64(w.now().Standing().AppliedLag) })
	r.GaugeFunc("oc_lease_remaining_ms", "How long this writer may go on answering without another renewal of its lease; 0 when it may not, and on nodes without one.",
		func() float64 { return float64(w.now().Standing().LeaseRemaining) / float64(time.Millisecond) })
	r.GaugeFunc("oc_replication_followers", "Followers that are connected to this writer.", func() float64 { return float64(w.now().Standing().Connected) })
	r.GaugeFunc("oc_replication_in_sync", "Followers that the record names as in sync with this writer.", func() float64 { return float64(w.now().Standing().InSync) })
	r.GaugeFunc("oc_replication_degraded_frames", "Frames of this opening that were acknowledged by fewer followers than asked for.",
		func() float64 { return float64(w.now().Standing().Degraded) })
	r.GaugeFunc("oc_healthy", "1 while /health answers 200, else 0.", func() float64 {
		if w.unwell(time.Now()) == "" {
			return 1
		}
		return 0
	})
	return m
}

// identify says whose engine is served, and in which role.
func (m *metrics) identify(id datadir.Identity, mode string, cfg Config) {
	m.info.Reset()
	m.info.WithLabelValues(id.InstanceID.String(), id.NodeID, mode, cfg.Region, cfg.URL).Set(1)
}

func (m *metrics) observeSync(took time.Duration) { m.fsync.Observe(took.Seconds()) }

// page serves the metrics themselves.
func (m *metrics) page() httpx.Handler {
	return func(c *httpx.Call) error {
		m.registry.Handler().ServeHTTP(c.Writer(), c.Request)
		return nil
	}
}
