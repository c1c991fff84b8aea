package alarms

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Phrase says when the alarm fires, as the documents say it.
func (a *Alarm) Phrase() string {
	parts := make([]string, len(a.Any))
	for i := range a.Any {
		parts[i] = a.Any[i].phrase()
	}
	s := strings.Join(parts, ", or ")
	return strings.ToUpper(s[:1]) + s[1:]
}

func (c *Condition) phrase() string {
	s := c.what()
	if c.Mode != "" {
		s += " on a " + c.Mode
	}
	if c.For > 0 {
		s += " for " + spell(c.For)
	}
	return s
}

func (c *Condition) what() string {
	switch c.Kind {
	case ProbeStatus:
		if c.Op == Differs {
			return fmt.Sprintf("anything but %s", digits(c.Threshold))
		}
		return fmt.Sprintf("any %dxx", int(c.Threshold)/100)
	case ProbeUnanswered:
		return "no answer"
	case Increase:
		if c.Threshold == 0 {
			return "any in " + spell(c.Window)
		}
		return fmt.Sprintf("over %s in %s", c.limit(), spell(c.Window))
	case Quantile:
		return fmt.Sprintf("p%s of %s over %s", digits(c.Quantile*100), spell(c.Window), c.limit())
	case Gauge, Rate:
	}
	switch c.Op {
	case Above:
		return "over " + c.limit()
	case Below:
		return "under " + c.limit()
	case AtLeast:
		return "at least " + c.limit()
	case Equal, Differs:
	}
	return c.limit()
}

func (c *Condition) limit() string {
	if c.Unit == "" {
		return digits(c.Threshold)
	}
	return digits(c.Threshold) + " " + c.Unit
}

func digits(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) }

// spell writes a duration as prose does.
func spell(d time.Duration) string {
	n, unit := int64(d/time.Second), "second"
	switch {
	case d%time.Hour == 0:
		n, unit = int64(d/time.Hour), "hour"
	case d%time.Minute == 0:
		n, unit = int64(d/time.Minute), "minute"
	}
	if n != 1 {
		unit += "s"
	}
	return fmt.Sprintf("%d %s", n, unit)
}

// Markdown is the table of docs/METRICS.md. Its first column is the severity, so that
// no row looks like one of the table of metrics.
func Markdown(table []Alarm) string {
	var b strings.Builder
	b.WriteString("| severity | alarm | fires | what it says |\n|---|---|---|---|\n")
	for i := range table {
		a := &table[i]
		fmt.Fprintf(&b, "| %d | [`%s`](RUNBOOK.md#%s) | %s | %s |\n", a.Severity, a.Name, a.Anchor(), a.Phrase(), a.Summary)
	}
	return b.String()
}

// Times says when somebody must be there, as the documents say it.
func (r *Response) Times() (acknowledge, mitigate string) {
	short := func(d time.Duration) string {
		if d%time.Hour == 0 {
			return fmt.Sprintf("%d h", d/time.Hour)
		}
		return fmt.Sprintf("%d min", d/time.Minute)
	}
	if r.Acknowledge == 0 {
		return "next business day", ""
	}
	return short(r.Acknowledge), short(r.Mitigate)
}
