package writer

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"originchain/shared/api"
	"originchain/shared/archive"
	"originchain/shared/telemetry"
)

const (
	// retainEvery is how often the archive is looked through for what is too old, and
	// how long that may take.
	retainEvery = time.Hour
	// retainGrace is the share of the retention for which a point is kept longer: a
	// restore that began while its point was in the window has as long to come to its end.
	retainGrace = 24
	// firstRetain is how long after a start the first run comes at the earliest, and
	// retainSpread by how much more, at most: a start has other things to do, and nodes
	// that start together do not list their archives together. A server that is started
	// again more often than it is due would else never come to it.
	firstRetain  = time.Minute
	retainSpread = 4 * time.Minute
)

// retention lets go of what is older than every moment that is to stay restorable. A
// run that fails removes nothing that is needed, and is shown until one comes to its
// end: the archive grows meanwhile, and keeps what it should have forgotten.
type retention struct {
	store    *archive.Archive
	keep     time.Duration
	log      logrus.FieldLogger
	failures prometheus.Counter
	began    time.Time
	// draw gives a number in [0, n).
	draw func(n int64) int64
	// recalled is where the end of the last run is kept; nil where it is not.
	recalled *recalled

	mu   sync.Mutex
	done time.Time // the end of the last run that came to it; zero for none
	err  error     // of the last run
}

// run waits until a run is due, again and again: first soon after the start, or when the
// one before has been an hour ago.
func (r *retention) run(ctx context.Context) {
	clock := steady{began: r.began, wall: time.Now, since: time.Since}
	every := min(retainEvery, max(r.keep, time.Minute))
	age, _ := r.age()
	wait := min(every, max(firstRetain+time.Duration(r.draw(int64(retainSpread))), r.due(every, age)))
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		out, err := r.once(ctx, &clock)
		if err != nil && ctx.Err() != nil {
			return
		}
		r.ended(&out, err)
		wait = every
	}
}

// due is how long it is until a run is due again; 0 where none is known to have been.
func (r *retention) due(every, age time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done.IsZero() {
		return 0
	}
	return every - age
}

// recall takes up the end of the last run before this start. Without it the age would
// begin anew with each start, and a retention that never comes to its end would not be
// noticed where the server does not stay up for long.
func (r *retention) recall(m *recalled) {
	done, err := m.load(r.store.Store().String())
	if err != nil {
		r.log.WithError(err).Warn("when the archive was last looked through for what is too old is not known; its age counts from this start")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.recalled = m
	if done.Before(time.Now()) { // a clock that was ahead says nothing
		r.done = done
	}
}

// once is one run.
func (r *retention) once(ctx context.Context, clock *steady) (archive.Retained, error) {
	ctx, cancel := context.WithTimeout(ctx, retainEvery)
	defer cancel()
	return r.store.Retain(ctx, archive.Retention{Until: clock.now().Add(-r.keep - r.keep/retainGrace), Now: clock.now, Wall: clock.wall})
}

// ended notes how a run ended.
func (r *retention) ended(out *archive.Retained, err error) {
	r.mu.Lock()
	if r.err = err; err == nil {
		r.done = time.Now()
		if err := r.recalled.save(r.store.Store().String(), r.done); err != nil {
			r.log.WithError(err).Warn("when the archive was last looked through for what is too old could not be noted; after a start its age counts anew")
		}
	}
	r.mu.Unlock()
	log := r.log.WithField("bytes", out.Bytes).WithField("segments", len(out.Segments)).WithField("checkpoints", len(out.Checkpoints)).WithField("boundary", out.Boundary)
	switch {
	case err != nil:
		r.failures.Inc()
		log.WithError(err).Error("the archive could not be looked through for what is too old; nothing that is needed is gone, and it is tried again in an hour")
	case out.Boundary != 0:
		log.Info("what is older than the retention is gone from the archive")
	}
}

// age is how long ago a run came to its end; while none has, how long ago the first
// could have begun.
func (r *retention) age() (age time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done.IsZero() {
		return time.Since(r.began), r.err
	}
	return time.Since(r.done), r.err
}

// check is that of /ready: it keeps nobody from the node.
func (r *retention) check() api.Check {
	age, err := r.age()
	if err == nil {
		return api.Check{OK: true, Detail: fmt.Sprintf("what is older than %s goes from the archive", r.keep)}
	}
	return api.Check{Degraded: true, Detail: telemetry.Redact(fmt.Sprintf("nothing was removed from the archive for its age since %s: %v", age.Truncate(time.Second), err))}
}

// steady is the clock of the retention. What is removed is gone: so a machine's clock
// that is stepped ahead makes nothing old, and one that is stepped back keeps more, as
// does a machine that sleeps.
type steady struct {
	began time.Time
	wall  func() time.Time
	since func(time.Time) time.Duration // by the monotonic clock
}

// now is the earlier of what the wall clock says and of what it said in the beginning
// with what has passed since.
func (c *steady) now() time.Time {
	wall, counted := c.wall().Round(0), c.began.Round(0).Add(c.since(c.began))
	if counted.Before(wall) {
		return counted
	}
	return wall
}
