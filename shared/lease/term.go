package lease

import (
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The times of a lease. The holder renews every RenewEvery and answers nothing
// from SelfFence after the send of the last renewal that succeeded; nobody takes
// the record before an observer has seen it unchanged for Expiry. The gap between
// the two is for clocks that run apart and for an answer on its way.
const (
	RenewEvery = time.Second
	SelfFence  = 4 * time.Second
	Expiry     = 6 * time.Second
)

// Clock reads the two clocks that a term is counted on. Go's monotonic clock
// stands still while the machine is suspended; the boot clock does not.
type Clock interface {
	// Now has a monotonic reading.
	Now() time.Time
	// SinceBoot counts from a moment of the machine's, suspended or not.
	SinceBoot() time.Duration
}

// MachineClock is the Clock of the machine.
type MachineClock struct{}

// Now implements Clock.
func (MachineClock) Now() time.Time { return time.Now() }

// SinceBoot implements Clock.
func (MachineClock) SinceBoot() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return 0 // a kernel without it (before 2.6.39): the monotonic clock alone counts
	}
	return time.Duration(t.Nano())
}

// Term is how long a holder may go on answering. It is safe for concurrent use.
//
// Invariant: whoever saw Held return true saw it less than SelfFence after a
// renewal was sent that the store has since taken, on either clock. So no other
// node had the record by then, however late this process looks again.
type Term struct {
	clock Clock

	mu      sync.Mutex
	sent    Instant // of the last renewal that succeeded; zero: none
	renewed chan struct{}
}

// Instant is one moment on both clocks.
type Instant struct {
	wall time.Time
	boot time.Duration
}

// NewTerm makes a term that is not held yet.
func NewTerm(clock Clock) *Term { return &Term{clock: clock, renewed: make(chan struct{})} }

// Sending is to be taken before a renewal is sent.
func (t *Term) Sending() Instant { return Instant{wall: t.clock.Now(), boot: t.clock.SinceBoot()} }

// Renewed says that the store took the renewal that was sent at that instant.
func (t *Term) Renewed(sent Instant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sent.wall.IsZero() || sent.wall.After(t.sent.wall) {
		t.sent = sent
	}
	close(t.renewed)
	t.renewed = make(chan struct{})
}

// Held says whether the holder may decide an answer now.
func (t *Term) Held() bool { return t.Remaining() > 0 }

// Remaining is how long the term lasts without another renewal, 0 or less when it
// is over.
func (t *Term) Remaining() time.Duration { return SelfFence - t.Age() }

// Age is how long ago the last renewal that succeeded was sent, by the clock that
// went further; SelfFence where there was none.
func (t *Term) Age() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.sent.wall.IsZero() {
		return SelfFence
	}
	return max(t.clock.Now().Sub(t.sent.wall), t.clock.SinceBoot()-t.sent.boot)
}

// Renewals is closed at the next renewal.
func (t *Term) Renewals() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.renewed
}
