package table

import (
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// pacer spreads the work of flushes and compactions over the time there is for
// it. Pebble does it at full speed: a core is busy for some hundred milliseconds
// every few seconds, and on a small machine that is half of what commits and
// reads have to share; they queue up and wait for tens of milliseconds. So such
// work rests three times as long as it has worked, in steps of half a
// millisecond, as long as nothing is behind.
//
// Refused: a fixed rate in bytes, which is wrong on the next machine; and thread
// priorities, since a thread of low priority that the collector waits for makes
// everybody wait.
type pacer struct {
	// on is set once the state serves; what an opening waits for is not paced.
	on atomic.Bool
	// hurry counts those who wait for a flush to end.
	hurry atomic.Int64
	// sinceFlush is how many bytes were applied since the last flush began, and
	// memtable how many make the next one.
	sinceFlush atomic.Int64
	memtable   int64
	// level0 is how many tables are on level 0, where they slow reads down, and
	// at some point stop writes.
	level0 atomic.Int64
}

const (
	paceWork = 500 * time.Microsecond
	// paceRest times as long as it worked.
	paceRest = 3
	// hurryLevel0 tables: twice what begins a compaction, a third of what stops writes.
	hurryLevel0 = 2 * l0CompactionThreshold
)

// behind says that the work is urgent: it must end before the memtable is full
// again, or tables on level 0 pile up.
func (p *pacer) behind() bool {
	return !p.on.Load() || p.hurry.Load() > 0 || p.sinceFlush.Load() > p.memtable/2 || p.level0.Load() >= hurryLevel0
}

// listen follows what Pebble tells of its flushes and compactions.
func (p *pacer) listen(l *pebble.EventListener) {
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

// file paces what is written to f, if it is written in the background.
func (p *pacer) file(f vfs.File, c vfs.DiskWriteCategory) vfs.File {
	if c == vfs.WriteCategoryUnspecified {
		return f
	}
	return &pacedFile{File: f, p: p, since: time.Now()}
}

// pacedFile is a table in the making; one goroutine writes it, and holds no lock
// meanwhile.
type pacedFile struct {
	vfs.File
	p     *pacer
	since time.Time // when the work since the last rest began
}

// Write implements vfs.File.
func (f *pacedFile) Write(b []byte) (int, error) {
	if worked := time.Since(f.since); worked >= paceWork {
		if !f.p.behind() {
			// Of a long pause, such as for a processor, no longer rest comes.
			time.Sleep(paceRest * min(worked, 2*paceWork))
		}
		f.since = time.Now()
	}
	return f.File.Write(b)
}
