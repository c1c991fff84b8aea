package load

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// loop drives all connections from one thread, as pgbench does: the client
// shares its cores with the server, and a goroutine for each connection would
// cost more than what it measures.
type loop struct {
	gen   *generator
	rng   *rand.Rand
	conns []*conn
	idle  []*conn // without a request under way; the longest idle first
	poll  int     // epoll descriptor
	// Requests are due from from on, gap nanoseconds apart; a closed loop has no
	// gap. Those due from begin on are counted; none is sent from end on.
	from, begin, end time.Time
	gap              float64
	sent             int
	busy             int // connections with a request under way

	took       []time.Duration
	errors     int
	firstError string
}

const (
	// expectedAnswers sizes the list of latencies, so that it seldom grows.
	expectedAnswers = 1 << 18
	// answerWithin ends a run against a server that hangs.
	answerWithin = 30 * time.Second
)

func newLoop(s *Spec, g *generator, begin, end time.Time) (l *loop, err error) {
	l = &loop{
		gen: g, rng: rand.New(rand.NewPCG(1, uint64(s.FirstID))), begin: begin, end: end,
		from: begin.Add(-s.WarmUp), took: make([]time.Duration, 0, expectedAnswers),
	}
	if s.Rate > 0 {
		l.gap = float64(time.Second) / s.Rate
	}
	if l.poll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	for i := range s.Connections {
		c, err := dial(s.Address)
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		l.conns = append(l.conns, c)
		// Edge-triggered: each readiness is told once, and read to its end.
		ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(i)}
		if err := unix.EpollCtl(l.poll, unix.EPOLL_CTL_ADD, c.fd, &ev); err != nil {
			return nil, errors.Join(fmt.Errorf("epoll: %w", err), l.close())
		}
	}
	l.idle = append(l.idle, l.conns...)
	return l, nil
}

func (l *loop) close() error {
	var errs []error
	for _, c := range l.conns {
		errs = append(errs, c.sock.Close())
	}
	return errors.Join(append(errs, unix.Close(l.poll))...)
}

// run sends what is due and takes answers until the time is over and every
// request that was sent is answered, or no connection is left. A slow answer
// holds up its own connection only; what is due meanwhile and finds no idle one
// counts from the time it was due.
func (l *loop) run() error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for {
		l.sendDue()
		over := !l.due().Before(l.end)
		if l.busy == 0 && (over || len(l.idle) == 0) {
			return nil
		}
		wait := answerWithin
		if len(l.idle) > 0 && !over {
			wait = time.Until(l.due())
		}
		if err := l.await(wait); err != nil {
			return err
		}
	}
}

// due is when the next request is to be sent; of a closed loop it is now.
func (l *loop) due() time.Time {
	if l.gap == 0 {
		return time.Now()
	}
	return l.from.Add(time.Duration(float64(l.sent) * l.gap))
}

// sendDue gives idle connections the requests that are due.
func (l *loop) sendDue() {
	taken := 0
	for taken < len(l.idle) {
		due := l.due()
		if due.After(time.Now()) || !due.Before(l.end) {
			break
		}
		c := l.idle[taken]
		taken++
		l.sent++
		l.busy++
		c.buf = l.gen.append(c.buf[:0], l.rng)
		if err := c.send(due); err != nil {
			l.drop(c, err)
		}
	}
	l.idle = append(l.idle[:0], l.idle[taken:]...)
}

// await waits for answers, at most so long, and takes those that are whole.
func (l *loop) await(wait time.Duration) error {
	if wait > 0 {
		ts := unix.NsecToTimespec(int64(wait))
		n, err := unix.Ppoll([]unix.PollFd{{Fd: int32(l.poll), Events: unix.POLLIN}}, &ts, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			return nil
		case err != nil:
			return fmt.Errorf("poll: %w", err)
		case n == 0 && wait >= answerWithin:
			return fmt.Errorf("no answer within %s", answerWithin)
		}
	}
	var events [128]unix.EpollEvent
	n, err := unix.EpollWait(l.poll, events[:], 0)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("epoll: %w", err)
	}
	for i := range max(n, 0) {
		l.ready(int(events[i].Fd))
	}
	return nil
}

// ready goes on with a connection that can be read or written.
func (l *loop) ready(i int) {
	c := l.conns[i]
	if c.due.IsZero() {
		return // nothing under way
	}
	if err := c.flush(); err != nil {
		l.drop(c, err)
		return
	}
	a, done, err := c.receive()
	if err != nil {
		l.drop(c, err)
		return
	}
	if done {
		l.answered(c, a)
	}
}

func (l *loop) answered(c *conn, a answer) {
	switch due := c.due; {
	case a.status < 200 || a.status > 299:
		l.fail(fmt.Sprintf("%d %s", a.status, a.body))
	case !due.Before(l.begin):
		l.took = append(l.took, time.Since(due))
	}
	c.due = time.Time{}
	l.busy--
	l.idle = append(l.idle, c)
}

// drop counts a broken connection and leaves it: a figure with failures is no
// figure.
func (l *loop) drop(c *conn, err error) {
	l.fail(err.Error())
	c.due = time.Time{}
	l.busy--
}

func (l *loop) fail(what string) {
	if l.errors == 0 {
		l.firstError = what
	}
	l.errors++
}
