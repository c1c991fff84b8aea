package alarms

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// State is how an alarm of one node stands.
type State string

// The states.
const (
	// NoData: what it is about was never seen, such as the metric of a feature that the
	// node does not have.
	NoData State = "no_data"
	// OK: it was seen, and is as it should be.
	OK State = "ok"
	// Pending: a condition holds, not for long enough yet.
	Pending State = "pending"
	// Firing: somebody is to be called.
	Firing State = "firing"
	// Resolved: it has fired, and the condition holds no more. It becomes OK after
	// KeepResolved.
	Resolved State = "resolved"
)

const (
	// MaxGap is how far apart two readings may be for a condition to have held between.
	MaxGap = time.Minute
	// KeepResolved is how long an alarm is shown as resolved.
	KeepResolved = 15 * time.Minute
	// MaxNodes is how many nodes an Evaluator knows; one more is refused.
	MaxNodes = 1024
)

// Probe is how a request for a path ended.
type Probe struct {
	// Status is that of the answer; 0 if there was none in time.
	Status int
}

// Observation is what was seen of one node at one moment. What could not be seen is
// left out: nil is not a reading.
type Observation struct {
	Node string
	// At is the caller's monotonic clock. An observation that is older than the one
	// before is refused.
	At time.Duration
	// Page is what /metrics said, and what the control plane adds about the node; nil if
	// neither is known.
	Page *Page
	// Values are readings that the caller has itself, by metric, such as HeartbeatAge.
	// They go before the page's.
	Values map[string]float64
	// Probes are by path.
	Probes map[string]Probe
}

// Status is how an alarm of a node stands. Its JSON is stable.
type Status struct {
	Alarm    string   `json:"alarm"`
	Node     string   `json:"node"`
	Severity Severity `json:"severity"`
	State    State    `json:"state"`
	// Since is when it came into the state, on the caller's clock.
	Since time.Duration `json:"-"`
	// Unseen: the latest observation had no reading of it.
	Unseen bool `json:"unseen,omitempty"`
	// Value is the latest reading of the condition that decided.
	Value   float64 `json:"value"`
	Summary string  `json:"summary"`
	// Runbook is the section's place in docs/RUNBOOK.md.
	Runbook string `json:"runbook"`
}

// Change is an alarm that came into another state.
type Change struct {
	Status
	From State `json:"from"`
}

// Evaluator knows how the alarms of a table stand. It is not safe for concurrent use.
type Evaluator struct {
	table []Alarm
	nodes map[string]*node
}

type node struct {
	at     time.Duration
	alarms []*standing // one for each of the table
}

// standing is one alarm of one node.
type standing struct {
	state  State
	since  time.Duration
	unseen bool
	value  float64
	conds  []condition
}

// condition is what was seen of a Condition.
type condition struct {
	counted counted
	// armed is when a gauge was last above 0.
	armed *time.Duration
	// holds since when; lastSeen is the latest reading, valid if seen.
	holds           bool
	since, lastSeen time.Duration
	seen            bool
}

// New makes an Evaluator.
func New(table []Alarm) *Evaluator {
	return &Evaluator{table: table, nodes: make(map[string]*node)}
}

// Observe takes an observation in and tells which alarms changed, in the table's order.
func (e *Evaluator) Observe(o Observation) ([]Change, error) {
	n, ok := e.nodes[o.Node]
	switch {
	case !ok && len(e.nodes) >= MaxNodes:
		return nil, fmt.Errorf("node %s is not evaluated: %d nodes are; forget those that are gone", o.Node, MaxNodes)
	case !ok:
		n = &node{at: o.At, alarms: make([]*standing, len(e.table))}
		for i := range e.table {
			n.alarms[i] = &standing{state: NoData, since: o.At, conds: make([]condition, len(e.table[i].Any))}
		}
		e.nodes[o.Node] = n
	case o.At < n.at:
		return nil, fmt.Errorf("an observation of %s is %s older than the one before; it was not taken in", o.Node, n.at-o.At)
	}
	n.at = o.At
	var changes []Change
	for i := range e.table {
		s := n.alarms[i]
		from := s.state
		s.observe(&o, &e.table[i])
		if s.state != from {
			changes = append(changes, Change{Status: e.status(o.Node, i, s), From: from})
		}
	}
	return changes, nil
}

// Forget drops a node that is no more; its alarms end without being resolved.
func (e *Evaluator) Forget(name string) { delete(e.nodes, name) }

// Status is how every alarm of every node stands, by node and in the table's order.
func (e *Evaluator) Status() []Status {
	out := make([]Status, 0, len(e.nodes)*len(e.table))
	for name, n := range e.nodes {
		for i, s := range n.alarms {
			out = append(out, e.status(name, i, s))
		}
	}
	slices.SortStableFunc(out, func(a, b Status) int { return cmp.Compare(a.Node, b.Node) })
	return out
}

func (e *Evaluator) status(name string, i int, s *standing) Status {
	a := &e.table[i]
	return Status{Alarm: a.Name, Node: name, Severity: a.Severity, State: s.state, Since: s.since, Unseen: s.unseen, Value: s.value, Summary: a.Summary, Runbook: "#" + a.Anchor()}
}

// verdict is what one observation says of a condition or of an alarm; the worst counts.
type verdict int

const (
	unseen verdict = iota
	well
	held  // not for long enough
	alarm // for long enough
)

func (s *standing) observe(o *Observation, a *Alarm) {
	worst := unseen
	for i := range a.Any {
		v, value := s.conds[i].observe(o, &a.Any[i])
		if v > worst {
			worst, s.value = v, value
		}
	}
	s.unseen = worst == unseen
	next := s.state
	switch worst {
	case unseen: // nothing is known: it stays what it was
	case alarm:
		next = Firing
	case held:
		if s.state != Firing {
			next = Pending
		}
	case well:
		switch {
		case s.state == Firing:
			next = Resolved
		case s.state != Resolved || o.At-s.since >= KeepResolved:
			next = OK
		}
	}
	if next != s.state {
		s.state, s.since = next, o.At
	}
}

func (c *condition) observe(o *Observation, cond *Condition) (verdict, float64) {
	r, value := c.read(o, cond)
	if r == unseen {
		return unseen, 0
	}
	gap := c.seen && o.At-c.lastSeen > MaxGap
	c.seen, c.lastSeen = true, o.At
	if r == well {
		c.holds = false
		return well, value
	}
	if !c.holds || gap {
		c.holds, c.since = true, o.At
	}
	if o.At-c.since >= cond.For {
		return alarm, value
	}
	return held, value
}

// read says what the condition reads now: unseen, well or held.
func (c *condition) read(o *Observation, cond *Condition) (verdict, float64) {
	value, r := c.reading(o, cond)
	switch {
	case r != held:
		return r, value
	case cond.Mode != "" && o.Page.mode() != cond.Mode:
		return well, value // not of this node, as it is now
	case cond.Armed > 0:
		if value > 0 {
			at := o.At
			c.armed = &at
		}
		if c.armed == nil || o.At-*c.armed > cond.Armed {
			return well, value
		}
	}
	if cond.Op.holds(value, cond.Threshold) {
		return held, value
	}
	return well, value
}

// reading is the number that is compared, with held: there is one; well: there is
// nothing to compare, and that is no fault; unseen.
func (c *condition) reading(o *Observation, cond *Condition) (float64, verdict) {
	switch cond.Kind {
	case ProbeStatus, ProbeUnanswered:
		return probed(o, cond)
	case Gauge:
		if v, ok := o.Values[cond.Metric]; ok {
			return v, held
		}
		if v, ok := o.Page.worst(cond); ok {
			return v, held
		}
		return 0, unseen
	case Rate, Increase, Quantile:
		if !c.counted.read(o.At, o.Page, cond) {
			return 0, unseen
		}
		gained, took := c.counted.over(cond.Window)
		switch cond.Kind {
		case Rate:
			return gained[0] / took.Seconds(), held
		case Increase:
			return gained[0], held
		}
		if v, ok := quantile(cond.Quantile, c.counted.bounds, gained); ok {
			return v, held
		}
		return 0, well // nobody asked for anything
	}
	return 0, unseen
}

func probed(o *Observation, cond *Condition) (float64, verdict) {
	p, ok := o.Probes[cond.Metric]
	switch {
	case !ok:
		return 0, unseen
	case cond.Kind == ProbeUnanswered && p.Status == 0:
		return 1, held
	case cond.Kind == ProbeUnanswered:
		return 0, held
	case p.Status == 0 && cond.Op == Differs: // no answer is not the wanted one
		return 0, held
	case p.Status == 0:
		return 0, well
	}
	return float64(p.Status), held
}
