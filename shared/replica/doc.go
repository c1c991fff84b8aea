// Package replica copies a leader's log to its followers, byte for byte, over
// gRPC. The Server is the leader's side, the Client a follower's; the Hub is what
// a leader knows of its followers, and so what it may acknowledge.
//
// Invariants:
//
//   - Only bytes that are durable at the leader are sent, and only bytes that are
//     durable at the follower are acknowledged.
//   - A follower accepts no leader of a lower epoch than one it has accepted, and
//     remembers that before it takes a byte.
//   - What a stream holds in memory is bounded on both sides: the log itself is
//     the queue of a slow follower.
package replica

import "time"

const (
	// chunkBytes is how much of the log goes into one message; a frame that is
	// longer goes alone.
	chunkBytes = 1 << 20
	// groupBytes is about how much a follower writes before it syncs.
	groupBytes = 8 << 20
	// maxMessage bounds a message: the longest frame, a segment header, and what
	// stands around them.
	maxMessage = 20 << 20
	// windowBytes is how much may be under way to a follower that does not read.
	windowBytes = 4 << 20
	// heartbeat is how often each side says something.
	heartbeat = 500 * time.Millisecond
	// appliedEvery is how soon the leader hears that more is visible, if nothing
	// else is said.
	appliedEvery = 50 * time.Millisecond
	// silentAfter is when a side that says nothing counts as gone.
	silentAfter = 5 * time.Second
)
