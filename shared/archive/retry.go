package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// How calls to the store are tried again. It is done for ever: an archive that is
// away for hours costs local disk, and nothing else.
const (
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 30 * time.Second
	// attemptTimeout ends an attempt, and slowestBytesPerSecond gives it more time
	// for a large body. Its outcome is then unknown, and read back. The next attempt has
	// twice the time, up to maxAttempt, so that what takes long comes to its end.
	attemptTimeout        = time.Minute
	slowestBytesPerSecond = 256 << 10
	maxAttempt            = time.Hour
	// partTimeout is attemptTimeout for a part of the tail: while it is not answered,
	// none behind it counts.
	partTimeout = 5 * time.Second
	// quietFor is how long an attempt may be without an answer, beyond what its body
	// takes, before that is told.
	quietFor = 4 * time.Second
	// complainEvery is how often one trouble is logged.
	complainEvery = time.Minute
)

// trouble is what keeps one part of the shipper from going on. Of several things that
// it does at once each has its own.
type trouble struct {
	what string
	log  logrus.FieldLogger
	// timeout is what a first attempt has, 0 for attemptTimeout.
	timeout time.Duration

	mu     sync.Mutex
	doing  map[*task]bool
	logged time.Time
	// said says that the log has the trouble, and not yet its end.
	said  bool
	since time.Time
	tries int
}

// task is one thing that is tried until it succeeds.
type task struct {
	err   error
	since time.Time // of err
	// quiet is when the attempt that is under way will have been without an answer for
	// long; zero between two attempts.
	quiet time.Time
}

func (t *trouble) begin() *task {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.doing == nil {
		t.doing = make(map[*task]bool)
	}
	k := &task{}
	t.doing[k] = true
	return k
}

// end forgets a task. What was told of it is over when it is done, or not needed any
// more, and no other has failed.
func (t *trouble) end(k *task, done bool, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.doing, k)
	if !t.said || !done {
		return
	}
	for other := range t.doing {
		if other.err != nil {
			return
		}
	}
	t.log.WithField("doing", t.what).WithField("tries", t.tries).WithField("for_s", int64(now.Sub(t.since)/time.Second)).Info("the archive works again")
	t.said, t.tries = false, 0
}

// attempt notes that a task is tried, with a body of some size.
func (t *trouble) attempt(k *task, now time.Time, size int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k.quiet = now.Add(quietFor + forBody(size))
}

// met notes a failure. The first is logged at once, then one a minute.
func (t *trouble) met(k *task, err error, now time.Time, fields logrus.Fields) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k.err == nil {
		k.since = now
	}
	k.err, k.quiet = err, time.Time{}
	t.tries++
	if !t.logged.IsZero() && now.Sub(t.logged) < complainEvery {
		return
	}
	if !t.said {
		t.said, t.since = true, k.since
	}
	t.logged = now
	says := "the archive cannot be reached or is not as it should be; local segments are kept until it is"
	if errors.As(err, new(*localError)) {
		says = "this node's own log cannot be read as it was written; nothing of it is shipped, and it is kept and read again"
	}
	t.log.WithError(err).WithFields(fields).WithField("doing", t.what).WithField("tries", t.tries).
		WithField("for_s", int64(now.Sub(t.since)/time.Second)).Error(says)
}

// last is the failure that has stood for longest, or an attempt that is without an
// answer; nil if there is none.
func (t *trouble) last(now time.Time) (since time.Time, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for k := range t.doing {
		at, met := k.since, k.err
		if met == nil && !k.quiet.IsZero() && now.After(k.quiet) {
			at, met = k.quiet, fmt.Errorf("%s: no answer for %.0f s more than it should take", t.what, (now.Sub(k.quiet)+quietFor).Seconds())
		}
		if met != nil && (err == nil || at.Before(since)) {
			since, err = at, met
		}
	}
	return since, err
}

// forBody is how long a body may take on the slowest line.
func forBody(size int64) time.Duration {
	return time.Duration(size/slowestBytesPerSecond) * time.Second
}

// errMoot ends tries that nobody needs any more.
var errMoot = errors.New("it is not needed any more")

// retry calls do until it succeeds or fails for good, or the context ends. An attempt
// that moves size bytes has time for that.
func (s *Shipper) retry(ctx context.Context, t *trouble, size int64, do func(context.Context) error) (err error) {
	backoff, timeout := firstBackoff, cmp.Or(t.timeout, attemptTimeout)
	k := t.begin()
	defer func() { t.end(k, err == nil || errors.Is(err, errMoot), s.deps.Now()) }()
	for {
		t.attempt(k, s.deps.Now(), size)
		attempt, cancel := context.WithTimeout(ctx, timeout+forBody(size))
		err = do(attempt)
		expired := attempt.Err() != nil
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case permanent(err) || errors.Is(err, errMoot) || errors.Is(err, errGiveUp):
			return err
		}
		if expired {
			timeout = min(2*timeout, maxAttempt)
		}
		t.met(k, err, s.deps.Now(), s.backlogFields())
		// Full jitter: what failed together does not come back together.
		wait := time.Duration(rand.Int64N(int64(backoff))) + firstBackoff/2
		backoff = min(2*backoff, maxBackoff)
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// sleep waits, or tells why the context ended.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stopped while waiting for the archive: %w", context.Cause(ctx))
	}
}
