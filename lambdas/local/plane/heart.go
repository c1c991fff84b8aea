package plane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/lambdas/candidate"
	"originchain/lambdas/local/control"
	"originchain/lambdas/silence"
	"originchain/shared/alarms"
	"originchain/shared/api"
	"originchain/shared/failover"
	"originchain/shared/lsn"
	"originchain/shared/telemetry"
)

// heartEvery is the pause between two looks at the heartbeats.
const heartEvery = 250 * time.Millisecond

// heart keeps the heartbeats of the nodes, and runs the function of the alarm
// oc-controlplane-instance-silent: it has a silent writer confirmed dead, and then the
// same steps run as the guard.
//
// It is the second detector. The guard hears of a death at once, and is done before a
// node counts as silent; where it is not, this one does not depend on it. Two of them
// start no two failovers: the steps are run by whoever holds failing, and confirm anew
// what the other may have changed meanwhile.
type heart struct {
	steps
	log     logrus.FieldLogger
	silence *silence.Silence
	// changed is told of what became of alarms; target is whom the last confirmation
	// found best.
	changed func([]alarms.Change)
	target  string
}

// steps are the plane's own, which the guard has as well.
type steps interface {
	// holder is whose the record is; given says that its epoch was given to that node, which
	// has not opened it.
	holder(ctx context.Context) (node string, given bool, err error)
	// decide looks anew; promote runs the steps, or fails with errBusy.
	decide(ctx context.Context) (d failover.Decision, target string, err error)
	promote(ctx context.Context, in control.Promotion, say func(string)) (json.RawMessage, error)
}

func (p *Plane) holder(ctx context.Context) (node string, given bool, err error) {
	rec, _, err := p.record.Load(ctx)
	return rec.Holder, rec.Given(rec.Holder), err
}

func newHeart(s steps, log logrus.FieldLogger, metrics *telemetry.Metrics, changed func([]alarms.Change)) *heart {
	h := &heart{steps: s, log: log, changed: changed}
	began := time.Now()
	h.silence = silence.New(silence.Deps{
		Clock: func() time.Duration { return time.Since(began) }, Confirm: h.confirm, Failover: h.failover, Metrics: metrics,
	})
	return h
}

// beat takes what a node has just said of itself for its heartbeat.
func (h *heart) beat(node string, r *api.Replication) {
	if err := h.silence.Beat(silence.Beat{Node: node, Writer: r.Role == "writer", Epoch: lsn.Epoch(r.Epoch)}); err != nil {
		h.log.WithError(err).Error("a heartbeat is lost")
	}
}

// run looks until ctx ends, and waits for the failover that is under way then.
func (h *heart) run(ctx context.Context) {
	tick := time.NewTicker(heartEvery)
	defer tick.Stop()
	event := make(chan struct{}, 1)
	var acting sync.WaitGroup
	acting.Go(func() {
		var said failover.Verdict
		for {
			select {
			case <-event:
				said = h.act(ctx, said)
			case <-ctx.Done():
				return
			}
		}
	})
	defer acting.Wait()
	for {
		select {
		case <-tick.C:
			if h.look() {
				select {
				case event <- struct{}{}:
				default: // it is at work
				}
			}
		case <-ctx.Done():
			return
		}
	}
}

// look says whether the alarm of a node fires: the event, for as long as it lasts.
func (h *heart) look() (fires bool) {
	changes, err := h.silence.Look()
	if err != nil {
		h.log.WithError(err).Error("heartbeats were not looked at")
	}
	h.changed(changes)
	for _, s := range h.silence.Status() {
		fires = fires || s.State == alarms.Firing
	}
	return fires
}

// act has the function do what there is to be done, and logs what is new.
func (h *heart) act(ctx context.Context, said failover.Verdict) failover.Verdict {
	out, err := h.silence.Act(ctx)
	entry := h.log.WithField("node", out.Writer)
	switch {
	case ctx.Err() != nil:
		return said
	case errors.As(err, new(*busyError)):
		return said // the guard is at it
	case err != nil:
		entry.WithError(err).Error("the writer is silent, and no other node writes yet")
		rest(ctx, restAfter)
	case out.Started:
		entry.Warn("the writer was silent: another node writes")
	case out.Writer != "" && out.Decision.Verdict != said:
		entry.WithField("verdict", out.Decision.Verdict).Warn("the writer is silent: " + reasons(out.Decision))
	}
	return out.Decision.Verdict
}

// confirm implements silence.Deps.Confirm: it looks anew, as the guard does. A record that
// names another node already may be of a failover that has come no further.
func (h *heart) confirm(ctx context.Context, writer string) (failover.Decision, error) {
	holder, given, err := h.holder(ctx)
	if err != nil {
		return failover.Decision{}, err
	}
	if holder != writer && !given {
		return failover.Decision{Verdict: failover.Wait, Reasons: []failover.Reason{
			{Code: failover.AlreadyWriter, Detail: fmt.Sprintf("the record names %s, not %s", holder, writer)}}}, nil
	}
	d, target, err := h.decide(ctx)
	h.target = target
	return d, err
}

// failover implements silence.Deps.Failover. What somebody else has begun is finished.
func (h *heart) failover(ctx context.Context, _ string, _ failover.Decision) error {
	var report json.RawMessage
	err := candidate.OrBegun(h.target, func(to string, _ bool) (err error) {
		report, err = h.promote(ctx, control.Promotion{Target: to}, func(line string) { h.log.Info(line) })
		return err
	})
	if err != nil {
		return err
	}
	var r struct {
		Verdict failover.Verdict `json:"verdict"`
	}
	if err := json.Unmarshal(report, &r); err != nil {
		return err
	}
	if r.Verdict != failover.Promote && r.Verdict != failover.Done {
		return fmt.Errorf("nothing was changed: the verdict is %s by now", r.Verdict)
	}
	return nil
}
