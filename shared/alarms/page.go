package alarms

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// MaxPageBytes is how much of a page of metrics is read; a longer one is refused.
const MaxPageBytes = 8 << 20

// Page is what a node's /metrics said, once.
type Page struct {
	families map[string]*dto.MetricFamily
}

// Parse reads a page in the Prometheus text format.
func Parse(r io.Reader) (*Page, error) {
	limited := &io.LimitedReader{R: r, N: MaxPageBytes + 1}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(limited)
	if limited.N == 0 {
		return nil, fmt.Errorf("the page of metrics is longer than %d bytes; it was not read", MaxPageBytes)
	}
	if err != nil {
		return nil, fmt.Errorf("the page of metrics cannot be read: %w", err)
	}
	return &Page{families: families}, nil
}

// series are the metrics of a name; ok is false if the page does not have it.
func (p *Page) series(name string) (_ []*dto.Metric, ok bool) {
	if p == nil {
		return nil, false
	}
	f, ok := p.families[name]
	if !ok || len(f.GetMetric()) == 0 {
		return nil, false
	}
	return f.GetMetric(), true
}

// mode is what the node says that it is; "" while it does not say.
func (p *Page) mode() string {
	series, _ := p.series("oc_node_info")
	for _, m := range series {
		if v := label(m, "mode"); v != "" && number(m) == 1 {
			return v
		}
	}
	return ""
}

// started is when the process says that it began; 0 if it does not.
func (p *Page) started() float64 {
	series, _ := p.series("process_start_time_seconds")
	for _, m := range series {
		return number(m)
	}
	return 0
}

// startedSince says whether the process began at a moment or after it, by the clock of its
// machine: what the page says of its start moves with that clock when it is set.
func (p *Page) startedSince(t time.Time) bool {
	return p.started() >= float64(t.UnixMilli())/1000
}

// worst is the reading of a gauge that is nearest to the condition.
func (p *Page) worst(c *Condition) (v float64, ok bool) {
	series, _ := p.series(c.Metric)
	for _, m := range series {
		n := number(m)
		if math.IsNaN(n) {
			continue
		}
		switch {
		case !ok, c.Op.holds(n, c.Threshold) && !c.Op.holds(v, c.Threshold):
			v, ok = n, true
		case c.Op == Below:
			v = min(v, n)
		case c.Op == Above, c.Op == AtLeast:
			v = max(v, n)
		}
	}
	return v, ok
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

// identity tells the series of one metric apart.
func identity(m *dto.Metric) string {
	pairs := make([]string, 0, len(m.GetLabel()))
	for _, l := range m.GetLabel() {
		pairs = append(pairs, l.GetName()+"\x00"+l.GetValue())
	}
	slices.Sort(pairs)
	return strings.Join(pairs, "\x00")
}

// number is the value of a metric that has one, of whatever type the page calls it.
func number(m *dto.Metric) float64 {
	switch {
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	case m.Counter != nil:
		return m.Counter.GetValue()
	case m.Untyped != nil:
		return m.Untyped.GetValue()
	}
	return math.NaN()
}
