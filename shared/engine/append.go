package engine

import (
	"slices"
	"sync"
	"time"

	"originchain/shared/lsn"
	"originchain/shared/wal"
)

// entryQueue hands decided frames from the sequencer to the appender. What was
// decided while an fsync ran, and what is just being decided, is the next group:
// no timer stands in the path.
type entryQueue struct {
	mu      sync.Mutex
	ready   *sync.Cond
	entries []*entryRef
	since   time.Time // when the oldest of entries came
	bytes   int       // of their bodies
	// released says that the sequencer has nothing left to decide for now.
	released bool
	closed   bool
	// lag is how long what is decided has waited to be durable, here and in the
	// appender's hands.
	lag fsyncLag
}

func (q *entryQueue) init() { q.ready = sync.NewCond(&q.mu) }

func (q *entryQueue) push(e *entryRef) {
	q.mu.Lock()
	if len(q.entries) == 0 {
		q.since = time.Now()
		q.lag.begin(q.since)
	}
	q.entries = append(q.entries, e)
	q.bytes += len(e.Body)
	// With more and more to decide the appender would wait for ever: a group
	// that is large or old already goes.
	due := q.bytes > smallGroupBytes || q.aged()
	q.released = due
	q.mu.Unlock()
	if due {
		q.ready.Signal()
	}
}

// maxHold bounds how long a decided frame waits for others to be decided; what
// the sequencer has in hand when it is over is waited for, unless it is Long.
const maxHold = 500 * time.Microsecond

// aged says that the oldest frame was held back long enough. The caller holds mu.
func (q *entryQueue) aged() bool { return len(q.entries) > 0 && time.Since(q.since) > maxHold }

// releaseAged releases what was held back long enough, however much there is
// still to decide: proposals that end without a frame add nothing to a group.
func (q *entryQueue) releaseAged() {
	q.mu.Lock()
	due := !q.released && q.aged()
	if due {
		q.released = true
	}
	q.mu.Unlock()
	if due {
		q.ready.Signal()
	}
}

// release lets the appender have what is there: no more is about to come.
func (q *entryQueue) release() {
	q.mu.Lock()
	q.released = true
	waiting := len(q.entries) > 0
	q.mu.Unlock()
	if waiting {
		q.ready.Signal()
	}
}

func (q *entryQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.ready.Signal()
}

// take waits for frames that were released and returns up to maxGroupBytes of them; ok is false
// when there will be no more. An idle tick returns an empty group.
func (q *entryQueue) take(into []*entryRef) (group []*entryRef, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for (len(q.entries) == 0 || !q.released) && !q.closed {
		q.ready.Wait()
		if len(q.entries) == 0 && !q.closed {
			return into[:0], true
		}
	}
	if len(q.entries) == 0 {
		return nil, false
	}
	n, bytes := 0, 0
	for n < len(q.entries) && (n == 0 || bytes+len(q.entries[n].Body) <= maxGroupBytes) {
		bytes += len(q.entries[n].Body)
		n++
	}
	q.bytes -= bytes
	group = append(into[:0], q.entries[:n]...)
	q.entries = slices.Delete(q.entries, 0, n)
	q.since = time.Now() // of the rest, which is to go at once anyway
	return group, true
}

// synced says that the group last taken is durable.
func (q *entryQueue) synced() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.lag.end()
	if len(q.entries) > 0 {
		q.lag.begin(q.since)
	}
}

// group is what one fsync made durable.
type group struct {
	entries []*entryRef
	chain   lsn.Chain // after its last frame
}

// append writes groups: one write and one fdatasync each. After a failure it
// keeps taking, so that nobody upstream blocks, and writes nothing.
func (e *Engine) append() {
	defer close(e.durable)
	stop := e.tick()
	defer stop()
	var taken []*entryRef
	var entries []wal.Entry
	for {
		var ok bool
		if taken, ok = e.queue.take(taken); !ok {
			return
		}
		if e.failure.Load() != nil {
			continue
		}
		if len(taken) == 0 {
			e.rollIfAged()
			continue
		}
		clear(entries) // the bodies of the group before
		entries = entries[:0]
		for _, t := range taken {
			entries = append(entries, t.Entry)
		}
		newest := e.log.NewestFirst()
		if failed, err := e.write(entries); err != nil {
			e.fail(failed, err)
			continue
		}
		e.queue.synced()
		if e.log.NewestFirst() != newest {
			e.signalRoll()
		}
		e.hand(group{entries: taken, chain: e.log.Tail().Chain})
	}
}

// write makes a group durable, and says what it was about where it could not.
func (e *Engine) write(group []wal.Entry) (what string, err error) {
	e.disk.begin(time.Now())
	defer e.disk.end()
	if err := e.log.Append(group); err != nil {
		return "append to the log", err
	}
	if err := e.log.Sync(); err != nil {
		return "make the log durable", err
	}
	return "", nil
}

// hand passes a durable group on to be published. A small one is published here
// and now: its application takes less time than waking the publisher would. A
// large one goes to the publisher, so that its application overlaps with the
// next fsync; until all those are visible, small ones queue up behind them. So
// does every group that others must have before it may be acknowledged.
func (e *Engine) hand(g group) {
	if e.gate == nil && bodyBytes(g.entries) <= smallGroupBytes && e.handed.Load() == 0 {
		e.publishOne(g)
		return
	}
	g.entries = slices.Clone(g.entries)
	e.handed.Add(1)
	e.durable <- g
}

// smallGroupBytes: a group up to this size is applied in less time than it takes
// to wake another thread for it.
const smallGroupBytes = 256 << 10

func bodyBytes(entries []*entryRef) (n int) {
	for _, r := range entries {
		n += len(r.Body)
	}
	return n
}

// rollTick is how often an idle log looks at the age of its open segment.
const rollTick = time.Second

// tick wakes the appender when nothing else does; the returned func stops it
// and waits.
func (e *Engine) tick() (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(rollTick)
		defer t.Stop()
		for {
			select {
			case <-quit:
				return
			case <-t.C:
				e.queue.ready.Signal()
			}
		}
	}()
	return func() { close(quit); <-done }
}

func (e *Engine) rollIfAged() {
	e.disk.begin(time.Now())
	defer e.disk.end()
	rolled, err := e.log.RollIfAged(time.UnixMicro(e.deps.Clock.Now()))
	if err != nil {
		e.fail("roll the log", err)
		return
	}
	if rolled {
		e.signalRoll()
	}
}

// signalRoll asks for a local checkpoint; one that is asked for and not begun
// serves for all.
func (e *Engine) signalRoll() {
	select {
	case e.rolled <- struct{}{}:
	default:
	}
}
