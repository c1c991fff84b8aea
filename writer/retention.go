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

	mu   sync.Mutex
	done time.Time // the end of the last run that came to it; zero for none
	err  error     // of the last run
}

func (r *retention) run(ctx context.Context) {
	clock := steady{began: r.began, wall: time.Now, since: time.Since}
	tick := time.NewTicker(min(retainEvery, max(r.keep, time.Minute)))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		out, err := r.once(ctx, &clock)
		if err != nil && ctx.Err() != nil {
			return
		}
		r.ended(&out, err)
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
