// Package silence is the function behind the alarm oc-controlplane-instance-silent: it
// keeps when each node was last heard of, and when that is too long ago for the writer,
// has its death confirmed and a failover started.
//
// Invariants:
//
//   - Ages are on this process's monotonic clock. What a node says of its time is not
//     looked at.
//   - Nothing is started on silence alone: Confirm decides, and what it says is void if
//     the node was heard of since it was asked.
//   - One failover at a time, and at most MaxFailovers within FlapWithin: a writer that
//     dies again and again is a person's business.
package silence

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"originchain/shared/alarms"
	"originchain/shared/failover"
	"originchain/shared/lsn"
	"originchain/shared/telemetry"
)

const (
	// MaxFailovers is how many failovers are started by themselves within FlapWithin.
	MaxFailovers = 3
	// FlapWithin is the time in which they count.
	FlapWithin = 10 * time.Minute
	// MaxNodes is how many nodes are kept; a heartbeat of one more is refused.
	MaxNodes = alarms.MaxNodes
)

// Flapping is the reason for calling a person after MaxFailovers.
const Flapping failover.Code = "flapping"

// Beat is a heartbeat.
type Beat struct {
	Node string
	// Writer: it says that it is the writer, of Epoch.
	Writer bool
	Epoch  lsn.Epoch
}

// Deps are what a Silence works with.
type Deps struct {
	// Clock is monotonic, from any beginning.
	Clock func() time.Duration
	// Confirm observes the writer and its follower anew, and decides
	// (failover.Decide).
	Confirm func(ctx context.Context, writer string) (failover.Decision, error)
	// Failover carries the decision out. It can be repeated.
	Failover func(ctx context.Context, writer string, d failover.Decision) error
	Metrics  *telemetry.Metrics
}

// Silence keeps heartbeats. It is safe for concurrent use.
type Silence struct {
	deps Deps
	age  *prometheus.GaugeVec

	acting sync.Mutex // held by who confirms and starts

	mu      sync.Mutex
	nodes   map[string]*heard
	eval    *alarms.Evaluator
	started []time.Duration // failovers, oldest first
	// unfinished is whose failover was started and has not come to its end.
	unfinished *Beat
}

// heard is what is known of a node.
type heard struct {
	Beat
	at time.Duration
}

// New makes a Silence that knows no node.
func New(deps Deps) *Silence {
	table := slices.DeleteFunc(alarms.Table(), func(a alarms.Alarm) bool { return a.Name != alarms.InstanceSilent })
	return &Silence{
		deps: deps, nodes: make(map[string]*heard), eval: alarms.New(table),
		age: deps.Metrics.GaugeVec(alarms.HeartbeatAge, "Seconds since a node's last heartbeat.", "node"),
	}
}

// Beat takes a heartbeat in.
func (s *Silence) Beat(b Beat) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.nodes[b.Node]; !ok && len(s.nodes) >= MaxNodes {
		return fmt.Errorf("the heartbeat of %s is not kept: %d nodes are; forget those that are gone", b.Node, MaxNodes)
	}
	s.nodes[b.Node] = &heard{Beat: b, at: s.deps.Clock()}
	return nil
}

// Forget drops a node that is no more.
func (s *Silence) Forget(node string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.nodes, node)
	s.eval.Forget(node)
	s.age.DeleteLabelValues(node)
}

// Look brings metric and alarm up to date and tells which alarms changed.
func (s *Silence) Look() ([]alarms.Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var changes []alarms.Change
	now := s.deps.Clock()
	for name, h := range s.nodes {
		age := (now - h.at).Seconds()
		s.age.WithLabelValues(name).Set(age)
		c, err := s.eval.Observe(alarms.Observation{Node: name, At: now, Values: map[string]float64{alarms.HeartbeatAge: age}})
		if err != nil {
			return changes, err
		}
		changes = append(changes, c...)
	}
	slices.SortFunc(changes, func(a, b alarms.Change) int { return compare(a.Node, b.Node) })
	return changes, nil
}

func compare(a, b string) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// Status is how the alarm of each node stood when it was last looked at.
func (s *Silence) Status() []alarms.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.eval.Status()
}

// Outcome is what Act found and did.
type Outcome struct {
	// Writer is the node that is silent; "" if none is, or another Act is at work.
	Writer   string
	Decision failover.Decision
	// Started: the failover was carried out, or tried.
	Started bool
}

// Act does what the writer's silence asks for: nothing, or confirm it and start the
// failover. It returns when that has ended; a second call meanwhile does nothing.
func (s *Silence) Act(ctx context.Context) (Outcome, error) {
	if !s.acting.TryLock() {
		return Outcome{}, nil
	}
	defer s.acting.Unlock()
	writer, at, ok := s.silent()
	if !ok {
		return Outcome{}, nil
	}
	d, err := s.deps.Confirm(ctx, writer)
	out := Outcome{Writer: writer, Decision: d}
	if err != nil {
		return out, fmt.Errorf("whether %s is dead could not be confirmed: %w", writer, err)
	}
	if d.Verdict != failover.Promote {
		return out, nil
	}
	if veto := s.begin(writer, at); veto != nil {
		out.Decision.Verdict, out.Decision.Reasons = veto.Verdict, append(slices.Clone(d.Reasons), veto.Reasons...)
		out.Decision.After = veto.After
		return out, nil
	}
	out.Started = true
	if err := s.deps.Failover(ctx, writer, d); err != nil {
		return out, fmt.Errorf("the failover from %s is not finished: %w", writer, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unfinished = nil
	return out, nil
}

// silent is the writer of the highest epoch, if it has been silent for long enough, and
// when it was last heard of.
func (s *Silence) silent() (node string, at time.Duration, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var w *heard
	for _, h := range s.nodes {
		if h.Writer && (w == nil || h.Epoch > w.Epoch) {
			w = h
		}
	}
	if w == nil || s.deps.Clock()-w.at <= alarms.SilentAfter {
		return "", 0, false
	}
	return w.Node, w.at, true
}

// begin counts a failover, or says why there is to be none.
func (s *Silence) begin(writer string, heardAt time.Duration) *failover.Decision {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.deps.Clock()
	if h, ok := s.nodes[writer]; !ok || h.at != heardAt {
		return &failover.Decision{Verdict: failover.Wait, After: lookAgain, Reasons: []failover.Reason{
			{Code: failover.Blip, Detail: writer + " was heard of while its death was being confirmed"}}}
	}
	for _, h := range s.nodes {
		if h.Writer && h.Epoch > s.nodes[writer].Epoch {
			return &failover.Decision{Verdict: failover.Wait, After: lookAgain, Reasons: []failover.Reason{
				{Code: failover.AlreadyWriter, Detail: fmt.Sprintf("%s is the writer of epoch %d by now", h.Node, h.Epoch)}}}
		}
	}
	this := s.nodes[writer].Beat
	if s.unfinished != nil && *s.unfinished == this {
		return nil // the same failover goes on, and is counted
	}
	s.started = slices.DeleteFunc(s.started, func(at time.Duration) bool { return now-at >= FlapWithin })
	if len(s.started) >= MaxFailovers {
		return &failover.Decision{Verdict: failover.Page, Reasons: []failover.Reason{
			{Code: Flapping, Detail: fmt.Sprintf("%d failovers were started within %s: find out why writers die before there is another", len(s.started), FlapWithin)}}}
	}
	s.started, s.unfinished = append(s.started, now), &this
	return nil
}

const lookAgain = 250 * time.Millisecond
