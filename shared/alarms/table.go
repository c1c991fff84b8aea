package alarms

import (
	"slices"
	"strings"
	"time"
)

// Severity is how soon somebody must be there: 1, 2 or 3.
type Severity int

// The severities.
const (
	TenantDown Severity = 1 // a tenant is down
	OneAlarm   Severity = 2 // one alarm
	Drift      Severity = 3 // drift
)

// Response is what a severity asks of those on duty. Zero durations are the next
// business day.
type Response struct {
	Severity              Severity
	Means                 string
	Acknowledge, Mitigate time.Duration
}

// Responses lists the severities, gravest first.
func Responses() []Response {
	return []Response{
		{TenantDown, "a tenant is down", 5 * time.Minute, time.Hour},
		{OneAlarm, "one alarm", 15 * time.Minute, 4 * time.Hour},
		{Drift, "drift", 0, 0},
	}
}

// Kind is how a condition is read.
type Kind string

// The kinds.
const (
	// Gauge is the value of a metric, the worst of its series.
	Gauge Kind = "gauge"
	// Rate is what a counter, over all its series, gained per second over Window.
	Rate Kind = "rate"
	// Increase is what it gained over Window.
	Increase Kind = "increase"
	// Quantile is the Quantile of what a histogram observed over Window.
	Quantile Kind = "quantile"
	// ProbeStatus is the status of the answer to a probe of the path that Metric names; a
	// probe that was not answered has none.
	ProbeStatus Kind = "probe_status"
	// ProbeUnanswered is 1 when that probe was not answered, else 0.
	ProbeUnanswered Kind = "probe_unanswered"
)

// Op compares a reading with the threshold.
type Op string

// The comparisons.
const (
	Above   Op = ">"
	Below   Op = "<"
	Equal   Op = "=="
	Differs Op = "!="
	AtLeast Op = ">="
)

func (o Op) holds(v, threshold float64) bool {
	switch o {
	case Above:
		return v > threshold
	case Below:
		return v < threshold
	case Equal:
		return v == threshold
	case Differs:
		return v != threshold
	case AtLeast:
		return v >= threshold
	}
	return false
}

// Condition is one thing that makes an alarm fire.
type Condition struct {
	Kind Kind
	// Metric is a metric's name, or the path of a probe.
	Metric string
	// Routes restricts a histogram to these values of its label route.
	Routes    []string
	Quantile  float64
	Op        Op
	Threshold float64
	// Unit is what the threshold is read as by a person.
	Unit string
	// Window is over what Rate, Increase and Quantile look back, For how long the
	// condition must hold; 0: at once.
	Window, For time.Duration
	// Mode restricts it to nodes of this mode, "writer" or "follower", as their
	// oc_node_info says.
	Mode string
	// Armed: a gauge counts only if it was above 0 within this time before. So a node
	// that has no lease is not one that has lost it.
	Armed time.Duration
}

// Alarm is a row of the table. It fires when any of its conditions does.
type Alarm struct {
	// Name is that of the alert, and of the runbook's section.
	Name     string
	Severity Severity
	// Summary is one sentence for whoever is woken.
	Summary string
	Any     []Condition
}

// Anchor is the fragment of the alarm's section in docs/RUNBOOK.md.
func (a *Alarm) Anchor() string {
	return strings.Map(func(r rune) rune {
		if r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, strings.ToLower(a.Name))
}

// InstanceSilent is the alarm that a failover begins with.
const InstanceSilent = "oc-controlplane-instance-silent"

// The metrics of the control plane.
const (
	HeartbeatAge    = "oc_controlplane_heartbeat_age_s"
	LastVerifiedAge = "oc_pitr_last_verified_age_s"
	// DeliveriesFailed and DeliveriesGivenUp count what subscribers of incidents were to be
	// told: attempts that failed and come again, and those that no other follows.
	DeliveriesFailed  = "deliveries_failed"
	DeliveriesGivenUp = "deliveries_given_up"
)

// SilentAfter is how long a node may send no heartbeat: three of a heartbeat every
// second. It is below the expiry of a lease, so that it costs a failover nothing.
const SilentAfter = 3 * time.Second

const (
	writer   = "writer"
	follower = "follower"
	rowPath  = "/v1/tenants/{t}/rows/{schema}"
)

// Table is every alarm, in the order of the documents.
func Table() []Alarm {
	return slices.Concat(serving(), runningOut(), upkeep())
}

func one(c Condition) []Condition { return []Condition{c} }

// serving are the alarms of what clients feel.
func serving() []Alarm {
	return []Alarm{
		{Name: "/health", Severity: TenantDown, Summary: "The log of a node cannot be read or written, or the node does not answer.", Any: []Condition{
			{Kind: ProbeStatus, Metric: "/health", Op: AtLeast, Threshold: 500},
			{Kind: ProbeUnanswered, Metric: "/health", Op: Equal, Threshold: 1, For: 10 * time.Second},
		}},
		{Name: "/ready", Severity: OneAlarm, Summary: "A node does not serve.", Any: one(
			Condition{Kind: ProbeStatus, Metric: "/ready", Op: Differs, Threshold: 200, For: 30 * time.Second})},
		{Name: InstanceSilent, Severity: TenantDown, Summary: "A node has sent no heartbeat.", Any: one(
			Condition{Kind: Gauge, Metric: HeartbeatAge, Op: Above, Threshold: SilentAfter.Seconds(), Unit: "s"})},
		{Name: "oc_wal_fsync_lag_ms", Severity: OneAlarm, Summary: "Writes wait for the disk.", Any: one(
			Condition{Kind: Gauge, Metric: "oc_wal_fsync_lag_ms", Op: Above, Threshold: 50, Unit: "ms", For: time.Minute})},
		{Name: "oc_lease_remaining_ms", Severity: TenantDown, Summary: "The writer cannot renew its lease and answers nothing.", Any: one(
			Condition{Kind: Gauge, Metric: "oc_lease_remaining_ms", Op: Equal, Threshold: 0, Unit: "ms", For: 5 * time.Second, Mode: writer, Armed: time.Hour})},
		{Name: "oc_replication_applied_lag_lsn", Severity: OneAlarm, Summary: "A follower shows much less than the writer.", Any: one(
			Condition{Kind: Gauge, Metric: "oc_replication_applied_lag_lsn", Op: Above, Threshold: 1000, Unit: "LSN", For: 30 * time.Second})},
		{Name: "oc_replication_leader_connected", Severity: OneAlarm, Summary: "A follower has no stream from its leader.", Any: one(
			Condition{Kind: Gauge, Metric: "oc_replication_leader_connected", Op: Equal, Threshold: 0, For: 30 * time.Second, Mode: follower})},
		// Longer than its window: from a failover until the old writer follows again, or while a
		// follower is restarted, a new writer has fewer followers for some seconds, which is over
		// before anybody could look. A burst of less than half a minute calls nobody.
		{Name: "oc_replication_degraded_frames", Severity: OneAlarm, Summary: "Writes are acknowledged that too few followers have.", Any: one(
			Condition{Kind: Increase, Metric: "oc_replication_degraded_frames", Op: Above, Threshold: 0, Window: time.Minute, For: 90 * time.Second})},
		{Name: "oc_replication_set_aside_frames_total", Severity: TenantDown, Summary: "A node came back with frames that its successor never had.", Any: one(
			Condition{Kind: Increase, Metric: "oc_replication_set_aside_frames_total", Op: Above, Threshold: 0, Window: 15 * time.Minute})},
		{Name: "oc_requests_seconds", Severity: OneAlarm, Summary: "Requests for single rows are slow.", Any: one(
			Condition{Kind: Quantile, Metric: "oc_requests_seconds", Routes: []string{rowPath, rowPath + "/{pk}"}, Quantile: 0.99, Op: Above, Threshold: 1, Unit: "s", Window: time.Minute, For: 5 * time.Minute})},
		{Name: "oc_ask_latency_ms", Severity: OneAlarm, Summary: "Questions are answered slowly.", Any: one(
			Condition{Kind: Quantile, Metric: "oc_ask_latency_ms", Quantile: 0.95, Op: Above, Threshold: 100, Unit: "ms", Window: time.Minute, For: 5 * time.Minute})},
		{Name: "oc_plan_cache_hit_ratio", Severity: Drift, Summary: "Plans of questions are made again and again.", Any: one(
			Condition{Kind: Gauge, Metric: "oc_plan_cache_hit_ratio", Op: Below, Threshold: 0.9, For: 15 * time.Minute})},
		{Name: "oc_circuit_open_total", Severity: OneAlarm, Summary: "A service that a node depends on is not asked any more, because it failed.", Any: one(
			Condition{Kind: Increase, Metric: "oc_circuit_open_total", Op: Above, Threshold: 0, Window: 5 * time.Minute})},
		{Name: "oc_overload_rejections_total", Severity: OneAlarm, Summary: "A node refuses requests because it is at a limit of its own.", Any: one(
			Condition{Kind: Increase, Metric: "oc_overload_rejections_total", Op: Above, Threshold: 0, Window: time.Minute, For: time.Minute})},
		{Name: "oc_rate_limit_rejections_total", Severity: Drift, Summary: "A tenant goes over the rate of its tier.", Any: one(
			Condition{Kind: Rate, Metric: "oc_rate_limit_rejections_total", Op: Above, Threshold: 10, Unit: "per second", Window: time.Minute})},
		{Name: "oc_clock_steps_total", Severity: Drift, Summary: "The machine's clock was stepped.", Any: one(
			Condition{Kind: Increase, Metric: "oc_clock_steps_total", Op: Above, Threshold: 0, Window: 15 * time.Minute})},
		{Name: "oc_panics_total", Severity: OneAlarm, Summary: "A handler has panicked.", Any: one(
			Condition{Kind: Increase, Metric: "oc_panics_total", Op: Above, Threshold: 0, Window: 15 * time.Minute})},
	}
}

// runningOut are the alarms of what ends on a day that can be known before. What a node
// cannot do without has two: one while there is time, and one before it is over.
func runningOut() []Alarm {
	const day = 24 * time.Hour
	under := func(name, metric string, s Severity, threshold float64, unit string, lasting time.Duration, summary string) Alarm {
		return Alarm{Name: name, Severity: s, Summary: summary, Any: one(
			Condition{Kind: Gauge, Metric: metric, Op: Below, Threshold: threshold, Unit: unit, For: lasting})}
	}
	const disk, certificate = "oc_disk_free_ratio", "oc_certificate_remaining_s"
	return []Alarm{
		under("oc-disk-full", disk, TenantDown, 0.05, "", time.Minute, "A node's log or state is about to have no room."),
		under(disk, disk, OneAlarm, 0.15, "", 5*time.Minute, "The disk of a node's log or state fills up."),
		under("oc-certificate-ends", certificate, OneAlarm, (7 * day).Seconds(), "s", 15*time.Minute, "A node's certificate ends within days: no new connection to it is made then."),
		under(certificate, certificate, Drift, (30 * day).Seconds(), "s", 15*time.Minute, "A node's certificate, or its authority's, is to be renewed."),
	}
}

// upkeep are the alarms of what a restore needs.
func upkeep() []Alarm {
	age := func(metric string, s Severity, above time.Duration, summary string) Alarm {
		return Alarm{Name: metric, Severity: s, Summary: summary, Any: one(
			Condition{Kind: Gauge, Metric: metric, Op: Above, Threshold: above.Seconds(), Unit: "s"})}
	}
	return []Alarm{
		age("oc_archive_unshipped_age_s", OneAlarm, 5*time.Minute, "Sealed segments do not reach the archive."),
		{Name: "oc_archive_damaged_reads_total", Severity: OneAlarm, Summary: "A node's disk gave other bytes of its log than were written.", Any: one(
			Condition{Kind: Increase, Metric: "oc_archive_damaged_reads_total", Op: Above, Threshold: 0, Window: 15 * time.Minute})},
		age("oc_recoverable_until_age_s", OneAlarm, 5*time.Minute, "The last minutes would be lost with this machine and its followers."),
		age("oc_checkpoint_age_s", OneAlarm, time.Hour, "The newest checkpoint in the archive is old."),
		age("oc_archive_retention_age_s", Drift, 3*time.Hour, "The archive keeps what is older than the retention."),
		age(LastVerifiedAge, OneAlarm, 36*time.Hour, "No recovery point was restored and checked in full for long."),
	}
}
