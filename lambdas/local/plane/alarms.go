package plane

import (
	"bytes"
	"cmp"
	"context"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/lambdas/local/control"
	"originchain/scripts/call"
	"originchain/shared/alarms"
	"originchain/shared/failover"
)

// alarmsEvery is the pause between two looks at what the alarms are about.
const alarmsEvery = time.Second

// runbook is where an alarm's section is.
const runbook = "docs/RUNBOOK.md"

// bells evaluates the alarm table for every node.
type bells struct {
	watch *watcher
	log   logrus.FieldLogger
	// now is a monotonic clock, began when it was 0 by the wall.
	now   func() time.Duration
	began time.Time

	// age is that of the last verification, silent how the alarm stands that is evaluated
	// with the heartbeats; nil while nothing keeps them.
	age    func() float64
	silent func() []alarms.Status

	mu        sync.Mutex
	evaluator *alarms.Evaluator
}

func newBells(w *watcher, log logrus.FieldLogger) *bells {
	began := time.Now()
	table := slices.DeleteFunc(alarms.Table(), func(a alarms.Alarm) bool { return a.Name == alarms.InstanceSilent })
	return &bells{watch: w, log: log, now: func() time.Duration { return time.Since(began) }, began: began, evaluator: alarms.New(table)}
}

// run looks until ctx ends, and after each round tells how every alarm stands.
func (b *bells) run(ctx context.Context, looked func(context.Context, []alarms.Status)) {
	tick := time.NewTicker(alarmsEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			b.round(ctx)
			looked(ctx, b.status())
		case <-ctx.Done():
			return
		}
	}
}

// round looks at every node once.
func (b *bells) round(ctx context.Context) {
	var all sync.WaitGroup
	for _, n := range b.watch.nodes {
		all.Go(func() { b.look(ctx, n) })
	}
	all.Wait()
	if b.age != nil && ctx.Err() == nil {
		b.take(alarms.Observation{Values: map[string]float64{alarms.LastVerifiedAge: b.age()}})
	}
}

func (b *bells) look(ctx context.Context, n failover.Node) {
	client := call.Client{URL: n.OpsURL, HTTP: b.watch.http}
	o := alarms.Observation{Node: n.ID, Probes: map[string]alarms.Probe{}}
	for _, path := range []string{"/health", "/ready"} {
		resp, err := client.Do(ctx, call.Request{Method: http.MethodGet, Path: path})
		if err != nil {
			o.Probes[path] = alarms.Probe{}
		} else {
			o.Probes[path] = alarms.Probe{Status: resp.Status}
		}
	}
	if resp, err := client.Do(ctx, call.Request{Method: http.MethodGet, Path: "/metrics"}); err == nil && resp.Status == http.StatusOK {
		if o.Page, err = alarms.Parse(bytes.NewReader(resp.Body)); err != nil {
			b.log.WithError(err).WithField("node", n.ID).Warn("the metrics of a node cannot be read")
		}
	}
	if ctx.Err() != nil {
		return
	}
	b.take(o)
}

// take takes an observation in; one of no node is of the instance.
func (b *bells) take(o alarms.Observation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o.At = b.now()
	changes, err := b.evaluator.Observe(o)
	if err != nil {
		b.log.WithError(err).Error("an observation was not taken in")
	}
	b.told(changes)
}

// told logs which alarms have begun and ended.
func (b *bells) told(changes []alarms.Change) {
	for _, c := range changes {
		entry := b.log.WithFields(logrus.Fields{"alarm": c.Alarm, "node": c.Node, "severity": int(c.Severity), "value": strconv.FormatFloat(c.Value, 'g', -1, 64), "runbook": runbook + c.Runbook})
		switch c.State {
		case alarms.Firing:
			entry.Error(c.Summary)
		case alarms.Resolved:
			entry.Info("resolved: " + c.Summary)
		}
	}
}

// status is how every alarm stands.
func (b *bells) status() []alarms.Status {
	b.mu.Lock()
	all := b.evaluator.Status()
	b.mu.Unlock()
	if b.silent != nil {
		all = append(all, b.silent()...)
	}
	return all
}

// firing are the alarms that call somebody, the worst first.
func (b *bells) firing() []control.Alarm {
	out := []control.Alarm{}
	for _, s := range b.status() {
		if s.State == alarms.Firing {
			out = append(out, control.Alarm{
				Name: s.Alarm, Severity: int(s.Severity), Node: s.Node, Summary: s.Summary, Since: b.began.Add(s.Since).UTC(), Runbook: runbook + s.Runbook,
			})
		}
	}
	slices.SortStableFunc(out, func(x, y control.Alarm) int { return cmp.Compare(x.Severity, y.Severity) })
	return out
}
