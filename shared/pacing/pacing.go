// Package pacing spreads the work of the state's flushes and compactions over
// the time there is for it. Pebble does it at full speed: a core is busy for
// some hundred milliseconds every few seconds, and on a small machine that is
// half of what commits and reads have to share; they queue up and wait for tens
// of milliseconds. So such work rests three times as long as it has worked, in
// steps of half a millisecond, as long as nothing is behind.
//
// Refused: a fixed rate in bytes, which is wrong on the next machine; and thread
// priorities, since a thread of low priority that the collector waits for makes
// everybody wait.
package pacing

import (
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

const (
	workFor = 500 * time.Microsecond
	// restShare times as long as it worked; after a long pause, such as for a
	// processor, not longer than after 2 × workFor.
	restShare = 3
)

// Pacer paces the background work of one Pebble. Its methods may be called by
// several goroutines at once.
type Pacer struct {
	// on is set once the state serves; what an opening waits for is not paced.
	on atomic.Bool
	// hurried counts those who wait for a flush to end.
	hurried atomic.Int64
	// sinceFlush is how many bytes were applied since the last flush began;
	// beyond applyBytes that is too much.
	sinceFlush atomic.Int64
	applyBytes int64
	// level0 is how many tables are on level 0, where they slow reads down, and
	// at some point stop writes; from level0Tables on that is too many.
	level0       atomic.Int64
	level0Tables int64
}

// New makes a Pacer that does not pace yet. Work is behind when more than
// applyBytes were applied since a flush began, or level0Tables wait on level 0.
func New(applyBytes, level0Tables int64) *Pacer {
	return &Pacer{applyBytes: applyBytes, level0Tables: level0Tables}
}

// Start begins to pace a state with so many tables on level 0 that no event told of.
func (p *Pacer) Start(level0 int64) {
	p.level0.Add(level0)
	p.on.Store(true)
}

// Stop lets all work run at full speed.
func (p *Pacer) Stop() { p.on.Store(false) }

// Hurry lets work run at full speed until done is called: somebody waits for it.
func (p *Pacer) Hurry() (done func()) {
	p.hurried.Add(1)
	return func() { p.hurried.Add(-1) }
}

// Applied tells of n bytes that went into memory and have to be flushed.
func (p *Pacer) Applied(n int) { p.sinceFlush.Add(int64(n)) }

// SinceFlush is how many bytes were applied since the last flush began.
func (p *Pacer) SinceFlush() int64 { return p.sinceFlush.Load() }

// Level0 is how many tables are on level 0, by what was told of them.
func (p *Pacer) Level0() int64 { return p.level0.Load() }

// Untold is how many tables are on level 0 that no event told of, of as many as
// count says. A state begins to work before its opening ends: of the tables it
// found some may be told of by then as gone.
func (p *Pacer) Untold(count func() int64) int64 {
	for {
		told := p.level0.Load()
		if n := count(); p.level0.Load() == told {
			return n - told
		}
	}
}

// behind says that the work is urgent: it must end before the memory is full
// again, or tables on level 0 pile up.
func (p *Pacer) behind() bool {
	return !p.on.Load() || p.hurried.Load() > 0 || p.sinceFlush.Load() > p.applyBytes || p.level0.Load() >= p.level0Tables
}

// Listen follows what Pebble tells of its flushes and compactions.
func (p *Pacer) Listen(l *pebble.EventListener) {
	l.FlushBegin = func(pebble.FlushInfo) { p.sinceFlush.Store(0) }
	l.FlushEnd = func(i pebble.FlushInfo) { p.level0.Add(int64(len(i.Output))) }
	l.CompactionEnd = func(i pebble.CompactionInfo) {
		if i.Err != nil {
			return
		}
		for _, in := range i.Input {
			if in.Level == 0 {
				p.level0.Add(-int64(len(in.Tables)))
			}
		}
		if i.Output.Level == 0 {
			p.level0.Add(int64(len(i.Output.Tables)))
		}
	}
}

// File paces what is written to f, if its category says that this is done in
// the background.
func (p *Pacer) File(f vfs.File, c vfs.DiskWriteCategory) vfs.File {
	switch c {
	case "pebble-memtable-flush", "pebble-compaction", "pebble-blob-file-rewrite":
	default:
		return f // the manifest, which is written under a lock
	}
	return &file{File: f, p: p, since: time.Now()}
}

// file is a table in the making; one goroutine writes it, and holds no lock
// meanwhile.
type file struct {
	vfs.File
	p     *Pacer
	since time.Time // when the work since the last rest began
}

// Write implements vfs.File.
func (f *file) Write(b []byte) (int, error) {
	if worked := time.Since(f.since); worked >= workFor {
		if !f.p.behind() {
			<-time.After(restShare * min(worked, 2*workFor))
		}
		f.since = time.Now()
	}
	return f.File.Write(b)
}
