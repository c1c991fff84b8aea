package engine

import (
	"runtime"
	"sync"
	"time"

	"originchain/shared/lsn"
	"originchain/shared/wal"
)

// entryQueue hands decided frames from the sequencer to the appender. What
// gathers while an fsync runs is the next group: no timer stands in the path.
type entryQueue struct {
	mu      sync.Mutex
	ready   *sync.Cond
	entries []*entryRef
	since   time.Time // when the oldest of entries came
	closed  bool
}

func (q *entryQueue) init() { q.ready = sync.NewCond(&q.mu) }

func (q *entryQueue) push(e *entryRef) {
	q.mu.Lock()
	if len(q.entries) == 0 {
		q.since = time.Now()
	}
	q.entries = append(q.entries, e)
	q.mu.Unlock()
	q.ready.Signal()
}

func (q *entryQueue) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.ready.Signal()
}

// take waits for frames and returns up to maxGroupBytes of them; ok is false
// when there will be no more. An idle tick returns an empty group.
func (q *entryQueue) take(into []*entryRef, lag *fsyncLag) (group []*entryRef, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.entries) == 0 {
		if q.closed {
			return nil, false
		}
		q.ready.Wait()
		if len(q.entries) == 0 && !q.closed {
			return into[:0], true
		}
	}
	n, bytes := 0, 0
	for n < len(q.entries) && (n == 0 || bytes+len(q.entries[n].Body) <= maxGroupBytes) {
		bytes += len(q.entries[n].Body)
		n++
	}
	lag.begin(q.since)
	group = append(into[:0], q.entries[:n]...)
	q.entries = append(q.entries[:0], q.entries[n:]...)
	return group, true
}

// group is what one fsync made durable.
type group struct {
	entries []*entryRef
	chain   lsn.Chain // after its last frame
	small   bool      // the appender waits until it is answered
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
		if taken, ok = e.queue.take(taken, &e.lag); !ok {
			return
		}
		if e.failure.Load() != nil {
			continue
		}
		if len(taken) == 0 {
			e.rollIfAged()
			continue
		}
		entries = entries[:0]
		for _, t := range taken {
			entries = append(entries, t.Entry)
		}
		newest := e.log.NewestFirst()
		if err := e.log.Append(entries); err != nil {
			e.fail("append to the log", err)
			continue
		}
		if err := e.log.Sync(); err != nil {
			e.fail("make the log durable", err)
			continue
		}
		e.lag.end()
		if e.log.NewestFirst() != newest {
			e.signalRoll()
		}
		g := group{entries: append([]*entryRef(nil), taken...), chain: e.log.Tail().Chain, small: bodyBytes(taken) <= smallGroupBytes}
		e.durable <- g
		if g.small {
			<-e.answered
			e.gather(len(taken))
		}
	}
}

const (
	// smallGroupBytes: a group up to this size is applied in less time than an
	// fsync takes, so the appender lets it be answered before it takes the next
	// group. The application of a larger one overlaps with what follows.
	smallGroupBytes = 256 << 10
	// maxGatherRounds bounds how often one group is waited for to grow. On a
	// busy processor each round lets everything that is ready run first.
	maxGatherRounds = 8
)

// gather lets the writers that were just answered come back with their next
// commits, so that they share the next fsync instead of every second one: with
// as many writers as before, groups are half as large again. It only gives the
// processor to what is ready to run, and ends when nothing is added any more, or
// as many have come as were answered. A timer would cost a lone writer more than
// the fsync does; this costs it nothing, since after its answer nothing is ready.
func (e *Engine) gather(answered int) {
	enough := e.queue.length() + answered
	for range maxGatherRounds {
		before := e.queue.length()
		if before >= enough {
			return
		}
		runtime.Gosched()
		if len(e.proposals) == 0 && e.queue.length() == before {
			return
		}
	}
}

func bodyBytes(entries []*entryRef) (n int) {
	for _, r := range entries {
		n += len(r.Body)
	}
	return n
}

func (q *entryQueue) length() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.entries)
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
