package failover

import (
	"time"

	"originchain/shared/lease"
	"originchain/shared/lsn"
)

// Observation is what one observer sees at one moment. All ages are on its own
// monotonic clock.
type Observation struct {
	// Record is the lease record, as last read.
	Record lease.Record
	// RecordAge is how long ago it was read; RecordUnchanged for how long the observer
	// has seen it as it is, counted from when it first read this version.
	RecordAge, RecordUnchanged time.Duration
	// RecordError is why the last read failed; nil if it did not.
	RecordError error

	Writer Writer
	// Target is the node to be promoted.
	Target Target
	// Migration is the state of the migration under way, "" for none.
	Migration string
	// Planned: a person asks for a switchover while the writer is well.
	Planned bool
}

// Writer is the record's holder, as the observer sees it.
type Writer struct {
	// Stopped: its process is known to have ended, and not to be started again (the
	// supervisor reaped it and holds the unit), and it was the one that the record means.
	Stopped bool
	// Silent is for how long it has not answered; 0: the last request was answered.
	Silent time.Duration
	// Error is why it did not answer; "" if that is not known.
	Error string
	// Took is how long its last answer took, Status what it was.
	Took   time.Duration
	Status int
	// Durable is the last LSN that anybody has heard from it to be durable.
	Durable lsn.LSN
}

// Target is a node that follows, as it says itself.
type Target struct {
	Node string
	// Answers: the rest is known; Error says why not.
	Answers bool
	Error   string
	// Failing is what it answers to /health where its log takes no writes; nothing else of it
	// counts then. 0: it takes them.
	Failing int
	// Writer: it is the writer already, of Last.Epoch, and the lease store agrees.
	Writer bool
	// Last is where its durable log ends, Applied what its reads see.
	Last    lsn.Pos
	Applied lsn.LSN
	// Streams: it hears the leader now.
	Streams bool
	// Promotable: the program can write, and the node has said so.
	Promotable bool

	// heard is what its leader told it to be durable.
	heard lsn.LSN
}
