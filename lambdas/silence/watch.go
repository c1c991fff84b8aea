package silence

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/lambdas/alarmevent"
	"originchain/lambdas/outcome"
	"originchain/shared/failover"
)

const (
	// ApprovalLasts is how long a person is waited for who was called: as long as the state
	// machine waits.
	ApprovalLasts = 12 * time.Hour
	// maxRedrives bounds how often the time doubles after which a watch takes up a change again
	// that an execution has come to no end with.
	maxRedrives = 4
)

// isWatch says whether an event is the schedule's {"watch": true}: the alarm itself is to be
// looked at. An alarm tells of its changes once, and whoever heard of one may have died.
func isWatch(event json.RawMessage) (bool, error) {
	var fields map[string]json.RawMessage
	if json.Unmarshal(event, &fields) != nil {
		return false, nil // which the event's reader says
	}
	raw, ok := fields["watch"]
	if !ok {
		return false, nil
	}
	if string(raw) != "true" {
		return false, fmt.Errorf(`it is called with {"watch": true}, and not %.60q`, raw)
	}
	for _, name := range []string{"detail-type", "detail", "source", "resources", "Records", "Type", "Message"} {
		if _, ok := fields[name]; ok {
			return false, fmt.Errorf("it says that it is a watch, and has %q as an event of an alarm", name)
		}
	}
	return true, nil
}

// watch looks at the alarm itself. Where it is on, and nobody has this change of it, that is
// as if the event had come.
func (h *Handler) watch(ctx context.Context, ask Ask) (Answer, error) {
	if ask.Execution == "" {
		ask.Execution = "watch"
	}
	known, err := Events(ctx, h.deps.Failover.Registry)
	if err != nil {
		return Answer{}, err
	}
	entry, seen := known.of(ask.Execution)
	if _, at, ok := entry.at(); seen && ok { // it goes on with what it has begun
		return h.look(ctx, change{ask: ask, event: h.event(at)}, h.watchStands)
	}
	if h.deps.Alarm == nil {
		return Answer{}, &outcome.Error{Name: outcome.Input, Err: fmt.Errorf("nobody can be asked how the alarm stands")}
	}
	state, since, err := h.deps.Alarm(ctx, AlarmName(h.cfg.Instance))
	if err != nil {
		return Answer{}, err
	}
	if state != alarmevent.Alarm {
		if ask.Told == nil {
			return h.nothing(ask, NotAlarm, "the alarm is %s", state), nil
		}
		since = h.deps.Now()
	}
	return h.look(ctx, change{ask: ask, event: h.event(since), quiet: ask.Told == nil}, h.watchStands)
}

// event is that of the instance's alarm.
func (h *Handler) event(at time.Time) alarmevent.Event {
	return alarmevent.Event{ID: "watch", ARN: h.cfg.AlarmARN, Alarm: AlarmName(h.cfg.Instance), State: alarmevent.Alarm, At: at}
}

// idle says that an answer is nothing to do, of a watch: the writer answers, or whoever has
// the change has called a person, and nothing else is to be done than that.
func (c *change) idle(a *Answer) bool {
	if !c.quiet || a.Verdict == Verdict(failover.Promote) {
		return false
	}
	answers := slices.ContainsFunc(a.Reasons, func(r failover.Reason) bool { return r.Code == failover.WriterAnswers })
	return c.only || a.Verdict == Verdict(failover.Done) || a.Verdict == Ignored || a.Verdict == Verdict(failover.Wait) && answers
}

// nothing answers a watch that there is nothing to do, and leaves no trace in the register.
func (h *Handler) nothing(ask Ask, c failover.Code, format string, args ...any) Answer {
	a := Answer{Round: ask.Round + 1, Reasons: []failover.Reason{}}
	a.because(c, format, args...)
	return h.leave(a)
}

// leave makes an answer one that nothing is done about.
func (h *Handler) leave(a Answer) Answer {
	a.Verdict, a.AfterSeconds, a.Run = Ignored, 0, ""
	h.deps.Log.WithFields(logrus.Fields{"verdict": a.Verdict, "writer": a.Writer, "reasons": a.Reasons}).Debug("the alarm was looked at")
	return a
}
