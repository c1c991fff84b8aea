package engine

import (
	"sync/atomic"
	"time"

	"originchain/shared/wal"
)

// MaxPendingBytes is how many bytes may be decided and not yet visible before
// writes are refused as overloaded.
const MaxPendingBytes = maxPendingBytes

// PendingBytes is how many bytes are decided and not yet visible.
func (e *Engine) PendingBytes() int64 { return e.pendingBytes.Load() }

// StateBytes is how much disk the state takes.
func (e *Engine) StateBytes() uint64 { return e.store.DiskBytes() }

// Aside are the frames that lie beside the log, since a leader's history did not have
// them (Rewind): of all times, by epoch and first LSN.
func (e *Engine) Aside() []wal.Divergent { return e.aside }

// FsyncLag is how long the oldest decided frame that is not durable yet has
// waited, from its decision on; while none waits, how long the oldest one of the
// latest fsync did.
func (e *Engine) FsyncLag() time.Duration { return e.queue.lag.now() }

// Waiting is for how long the log's disk has been at a write or a sync that has not come back:
// of commits on a writer, of what came from its leader on a follower. 0 while it is at none. A
// commit that waits behind others which followers have not acknowledged does not wait for the
// disk; FsyncLag has it.
func (e *Engine) Waiting() time.Duration {
	return max(e.disk.waits(), e.follow.lag.waits())
}

// fsyncLag is written by one at a time, that of a writer's commits under its queue's lock, and
// read by anyone without it.
type fsyncLag struct {
	waiting atomic.Int64 // since when the oldest frame waits, unix nanoseconds; 0: none does
	latest  atomic.Int64 // how long that of the last group waited, nanoseconds
}

// begin takes note of a frame that waits, unless an older one does.
func (l *fsyncLag) begin(since time.Time) { l.waiting.CompareAndSwap(0, since.UnixNano()) }

func (l *fsyncLag) end() { l.latest.Store(time.Now().UnixNano() - l.waiting.Swap(0)) }

func (l *fsyncLag) now() time.Duration {
	if waits := l.waits(); waits > 0 {
		return waits
	}
	return max(0, time.Duration(l.latest.Load()))
}

func (l *fsyncLag) waits() time.Duration {
	if since := l.waiting.Load(); since != 0 {
		return max(0, time.Duration(time.Now().UnixNano()-since))
	}
	return 0
}
