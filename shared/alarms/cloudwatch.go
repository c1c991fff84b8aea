package alarms

import (
	"strings"
	"time"
)

// CloudWatch is an alarm as that service knows it: plain data, for the stack that makes
// it. An Alarm becomes one for each of its conditions.
type CloudWatch struct {
	Name string
	// Metric and Statistic are what the nodes' agent publishes under Namespace: a
	// counter as its increase, a histogram's quantile by the statistic, a probe as its
	// status, and as 0 where it was not answered.
	Namespace, Metric, Statistic string
	// Comparison is the service's name of the operator.
	Comparison string
	Threshold  float64
	Period     time.Duration
	// Periods is of how many periods in a row each must breach.
	Periods int
	// Missing is how a period without data counts: "breaching" where silence is what is
	// looked for, else "missing", which keeps the state that the alarm has.
	Missing     string
	Description string
	Severity    Severity
}

// Namespace is where the metrics of nodes are.
const Namespace = "OriginChain"

// shortPeriod is the shortest of a metric of high resolution, longPeriod that of others.
const (
	shortPeriod = 10 * time.Second
	longPeriod  = time.Minute
)

// ForCloudWatch makes the alarms of the table. Guards that the service cannot express
// (Mode, Armed) are the publisher's: it leaves the metric out where they do not hold.
func ForCloudWatch(table []Alarm) (out []CloudWatch) {
	for i := range table {
		a := &table[i]
		for j := range a.Any {
			out = append(out, a.cloudWatch(j))
		}
	}
	return out
}

func (a *Alarm) cloudWatch(j int) CloudWatch {
	c := &a.Any[j]
	w := CloudWatch{
		Name: strings.TrimPrefix(a.Name, "/"), Namespace: Namespace, Metric: c.Metric, Threshold: c.Threshold,
		Period: longPeriod, Statistic: "Maximum", Missing: "missing", Severity: a.Severity,
		Description: a.Summary + " " + a.Phrase() + ". docs/RUNBOOK.md#" + a.Anchor(),
	}
	if j > 0 {
		w.Name += "-" + string(c.Kind)
	}
	switch {
	case c.Window > 0:
		w.Period = c.Window
	case c.For < longPeriod:
		w.Period = shortPeriod
	}
	w.Periods = max(1, int((c.For+w.Period-1)/w.Period))
	switch c.Kind {
	case Increase:
		w.Statistic = "Sum"
	case Rate:
		w.Statistic, w.Threshold = "Sum", c.Threshold*w.Period.Seconds()
	case Quantile:
		w.Statistic = "p" + digits(c.Quantile*100)
	case ProbeUnanswered:
		w.Statistic, w.Threshold, c = "Maximum", 0, &Condition{Op: Equal}
	case Gauge, ProbeStatus:
	}
	if a.Name == InstanceSilent {
		w.Missing = "breaching"
	}
	w.Comparison, w.Statistic = comparison(c.Op, w.Threshold, w.Statistic)
	return w
}

// comparison names an operator. The service has none for equality: what is looked for is
// the lowest value that there is, or, for a status, anything above the wanted one, which
// an unanswered probe is not; that one has an alarm of its own.
func comparison(op Op, threshold float64, statistic string) (name, over string) {
	switch op {
	case Below:
		return "LessThanThreshold", "Minimum"
	case Equal:
		return "LessThanOrEqualToThreshold", statistic
	case AtLeast:
		return "GreaterThanOrEqualToThreshold", statistic
	case Above, Differs:
	}
	return "GreaterThanThreshold", statistic
}
