package alarms

import (
	"strings"
	"time"
)

// CloudWatch is an alarm as that service knows it: plain data, for the stack that makes
// it. An Alarm becomes one or more for each of its conditions. Together they fire where
// the Alarm does: when one node is bad, however many are well.
type CloudWatch struct {
	Name string
	// Alarm is the name of the Alarm.
	Alarm string
	// Metric and Statistic are what the nodes' agent publishes in the Namespace: a
	// counter as its increase, a histogram's quantile by the statistic, a probe as its
	// status, and as 0 where it was not answered. The statistic is over all nodes of an
	// instance, or, where PerNode, over one: the stack makes one alarm for each node.
	Metric, Statistic string
	PerNode           bool
	// Comparison is the service's name of the operator.
	Comparison string
	Threshold  float64
	Period     time.Duration
	// Periods is of how many periods in a row each must breach.
	Periods  int
	Missing  Missing
	Severity Severity
	// Says is what it is, Runbook the section about what is to be done.
	Says, Runbook string
}

// Missing is how a period without data counts. The service looks a few periods further back
// than Periods, and asks this only where that much is missing: one late reading does nothing.
type Missing string

// What is missing can be bad, as it was, or well. The fourth of the service, "missing",
// ends an alarm that fires without any reading that is well, and is not used.
const (
	Breaching    Missing = "breaching"
	Ignore       Missing = "ignore"
	NotBreaching Missing = "notBreaching"
)

// Namespace is where the metrics of an instance's nodes are. Who may put metrics is granted
// by namespaces alone: in one that instances share a node could speak for another's.
func Namespace(instance string) string { return "OriginChain/" + instance }

// shortPeriod is the shortest of a metric of high resolution, longPeriod that of others;
// agedPeriod is of what is published every quarter of an hour.
const (
	shortPeriod = 10 * time.Second
	longPeriod  = time.Minute
	agedPeriod  = time.Hour
)

// ForCloudWatch makes the alarms of the table. Guards that the service cannot express
// (Mode, Armed) are the publisher's: it leaves the metric out where they do not hold.
func ForCloudWatch(table []Alarm) (out []CloudWatch) {
	for i := range table {
		a := &table[i]
		for j := range a.Any {
			out = append(out, a.cloudWatch(j)...)
		}
	}
	return out
}

// Of is the name of the alarm at an instance, or at a node of it where it is PerNode.
func (w *CloudWatch) Of(instance, node string) string {
	if !w.PerNode {
		return instance + "-" + w.Name
	}
	return instance + "-" + w.Name + "." + node
}

func (a *Alarm) cloudWatch(j int) []CloudWatch {
	c := &a.Any[j]
	w := CloudWatch{
		Name: strings.TrimPrefix(a.Name, "/"), Alarm: a.Name, Metric: c.Metric, Threshold: c.Threshold,
		Missing: a.missing(c), Severity: a.Severity, PerNode: c.perNode(),
		Says: a.Summary + " " + a.Phrase() + ".", Runbook: "docs/RUNBOOK.md#" + a.Anchor(),
	}
	if j > 0 {
		w.Name += "-" + string(c.Kind)
	}
	w.Period = c.period()
	w.Periods = c.periods(w.Period)
	switch c.Kind {
	case Increase:
		w.Statistic = "Sum"
	case Rate:
		w.Statistic, w.Threshold = "Sum", c.Threshold*w.Period.Seconds()
	case Quantile:
		w.Statistic = "p" + digits(c.Quantile*100)
	case ProbeUnanswered:
		w.Threshold, c = 0, &Condition{Op: Equal}
	case Gauge, ProbeStatus:
	}
	return w.compared(c.Op)
}

// period is short where seconds count, so that each reading has a period of its own: of a
// longer one a single bad reading would be the whole.
func (c *Condition) period() time.Duration {
	switch {
	case c.Metric == LastVerifiedAge:
		return agedPeriod
	case c.Window > 0:
		return c.Window
	case c.For <= longPeriod:
		return shortPeriod
	}
	return longPeriod
}

// periods is how many in a row must breach. What is gained is here of minutes as they lie, and
// not of the last one: what lasts for less than For-Window may lie over a boundary, or over as
// many more as it is long, and there is to be a whole period between the outer ones.
func (c *Condition) periods(period time.Duration) int {
	up := func(d time.Duration) int { return int((d + period - 1) / period) }
	if c.Kind == Increase && c.For > c.Window {
		return up(c.For-c.Window) + 2
	}
	return max(1, up(c.For))
}

// perNode says that the readings of all nodes together do not tell of one: what one has
// observed of many, or gained, is lost among what the others have or added to it, and a node
// that is gone altogether is missed only where it is looked for.
func (c *Condition) perNode() bool {
	return c.Kind == Quantile || c.Kind == Rate || c.Kind == ProbeUnanswered
}

// missing is how silence counts. Nobody publishes where a guard does not hold, or nothing
// was asked for: that is well. A node that has no probe is gone, and an age that nobody
// publishes grows. Otherwise what cannot be seen is neither well nor ill: it stays as it was.
func (a *Alarm) missing(c *Condition) Missing {
	switch {
	case a.Name == InstanceSilent || c.Kind == ProbeUnanswered || c.Metric == LastVerifiedAge:
		return Breaching
	case c.Kind == Quantile || c.Mode != "" || c.Armed > 0:
		return NotBreaching
	}
	return Ignore
}

// compared is the alarm with an operator. The service has none for equality: what is
// looked for is the lowest value that there is; and what differs from one is above it, or
// below it, which are two alarms. Of several nodes the lowest value, or the highest, is that
// of the one that is bad.
func (w CloudWatch) compared(op Op) []CloudWatch {
	below := w
	if w.Statistic == "" {
		w.Statistic, below.Statistic = "Maximum", "Minimum"
	}
	w.Comparison, below.Comparison = "GreaterThanThreshold", "LessThanThreshold"
	switch op {
	case Below:
		return []CloudWatch{below}
	case Equal:
		below.Comparison = "LessThanOrEqualToThreshold"
		return []CloudWatch{below}
	case AtLeast:
		w.Comparison = "GreaterThanOrEqualToThreshold"
	case Differs:
		below.Name += "-below"
		return []CloudWatch{w, below}
	case Above:
	}
	return []CloudWatch{w}
}
