package archive

import (
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
	// for a large body. Its outcome is then unknown, and read back.
	attemptTimeout        = time.Minute
	slowestBytesPerSecond = 256 << 10
	// complainEvery is how often one trouble is logged.
	complainEvery = time.Minute
)

// trouble is what keeps one part of the shipper from going on.
type trouble struct {
	what string
	log  logrus.FieldLogger

	mu     sync.Mutex
	err    error
	since  time.Time
	logged time.Time
	tries  int
}

// met notes a failure. The first is logged at once, then one a minute.
func (t *trouble) met(err error, now time.Time, fields logrus.Fields) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		t.since, t.logged = now, time.Time{}
	}
	t.err = err
	t.tries++
	if !t.logged.IsZero() && now.Sub(t.logged) < complainEvery {
		return
	}
	t.logged = now
	t.log.WithError(err).WithFields(fields).WithField("doing", t.what).WithField("tries", t.tries).
		WithField("for_s", int64(now.Sub(t.since)/time.Second)).Error("the archive cannot be reached or is not as it should be; local segments are kept until it is")
}

func (t *trouble) over(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.err == nil {
		return
	}
	t.log.WithField("doing", t.what).WithField("tries", t.tries).WithField("for_s", int64(now.Sub(t.since)/time.Second)).Info("the archive works again")
	t.err, t.tries = nil, 0
}

// last is the failure that stands, nil if there is none.
func (t *trouble) last() (since time.Time, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.since, t.err
}

// errMoot ends tries that nobody needs any more.
var errMoot = errors.New("it is not needed any more")

// retry calls do until it succeeds or fails for good, or the context ends. An attempt
// that moves size bytes has time for that.
func (s *Shipper) retry(ctx context.Context, t *trouble, size int64, do func(context.Context) error) error {
	backoff := firstBackoff
	for {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout+time.Duration(size/slowestBytesPerSecond)*time.Second)
		err := do(attempt)
		cancel()
		switch {
		case err == nil:
			t.over(s.deps.Now())
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case permanent(err) || errors.Is(err, errMoot):
			return err
		}
		t.met(err, s.deps.Now(), s.backlogFields())
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
