package alarms

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

const rulesHead = `# Prometheus alerting rules of OriginChain. Generated from shared/alarms by ` + "`make golden`" + `;
# do not edit. docs/METRICS.md says which scrapes they expect.
groups:
  - name: originchain
    rules:
`

// Rules is docs/alerts.rules.yaml.
func Rules(table []Alarm) string {
	var b strings.Builder
	b.WriteString(rulesHead)
	for i := range table {
		a := &table[i]
		for j := range a.Any {
			c := &a.Any[j]
			fmt.Fprintf(&b, "      - alert: %q\n        expr: %q\n", a.Name, c.promQL())
			if c.For > 0 {
				fmt.Fprintf(&b, "        for: %s\n", promDuration(c.For))
			}
			fmt.Fprintf(&b, "        labels:\n          severity: %q\n", fmt.Sprint(int(a.Severity)))
			if len(a.Any) > 1 { // Prometheus wants rules of one name told apart
				fmt.Fprintf(&b, "          condition: %q\n", c.Kind)
			}
			fmt.Fprintf(&b, "        annotations:\n          summary: %q\n          fires: %q\n          runbook: %q\n", a.Summary, a.Phrase(), "docs/RUNBOOK.md#"+a.Anchor())
		}
	}
	return b.String()
}

// promQL is the condition as Prometheus reads it. Probes are those of its blackbox
// exporter, which counts a status of 0 where there was no answer.
func (c *Condition) promQL() string {
	e := c.expression()
	if c.Mode != "" {
		e += fmt.Sprintf(` and on (job, instance) oc_node_info{mode=%q} == 1`, c.Mode)
	}
	if c.Armed > 0 {
		e += fmt.Sprintf(` and max_over_time(%s[%s]) > 0`, c.Metric, promDuration(c.Armed))
	}
	return e
}

func (c *Condition) expression() string {
	limit := fmt.Sprintf("%s %s", c.Op, digits(c.Threshold))
	switch c.Kind {
	case ProbeStatus:
		return fmt.Sprintf("probe_http_status_code{probe=%q} %s", c.Metric, limit)
	case ProbeUnanswered:
		return fmt.Sprintf("probe_http_status_code{probe=%q} == 0", c.Metric)
	case Rate, Increase:
		return fmt.Sprintf("sum by (job, instance) (%s(%s[%s])) %s", c.Kind, c.Metric, promDuration(c.Window), limit)
	case Quantile:
		return fmt.Sprintf("histogram_quantile(%s, sum by (job, instance, le) (rate(%s_bucket%s[%s]))) %s", digits(c.Quantile), c.Metric, c.selector(), promDuration(c.Window), limit)
	case Gauge:
	}
	return c.Metric + " " + limit
}

func (c *Condition) selector() string {
	if len(c.Routes) == 0 {
		return ""
	}
	quoted := make([]string, len(c.Routes))
	for i, r := range c.Routes {
		quoted[i] = regexp.QuoteMeta(r)
	}
	return fmt.Sprintf("{route=~%q}", strings.Join(quoted, "|"))
}

// promDuration writes whole seconds as Prometheus reads them.
func promDuration(d time.Duration) string {
	switch {
	case d%time.Hour == 0:
		return fmt.Sprintf("%dh", d/time.Hour)
	case d%time.Minute == 0:
		return fmt.Sprintf("%dm", d/time.Minute)
	}
	return fmt.Sprintf("%ds", d/time.Second)
}
