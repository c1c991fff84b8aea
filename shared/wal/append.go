package wal

import (
	"errors"
	"fmt"
	"time"

	"originchain/shared/frame"
	"originchain/shared/lsn"
)

// keepGroup bounds the group buffer that is kept for the next group, in bytes.
const keepGroup = 4 << 20

// Entry is one frame to append. The sequencer sets all fields; the log adds
// epoch, synced LSN and chain.
type Entry struct {
	Kind frame.Kind
	// LSN is the one after the frame before.
	LSN lsn.LSN
	// Timestamp is the stamp in microseconds, not below the frame before.
	Timestamp int64
	// Wall is the raw wall time in microseconds.
	Wall int64
	Salt [frame.SaltSize]byte
	// Digest is the state digest after this frame.
	Digest lsn.Digest
	// Body is the record of the kind, if it has one, and the operations. It
	// must not change until Append has returned.
	Body []byte

	payload frame.Payload
	ops     int
	ready   bool
}

// Prepare hashes and compresses the entry's body ahead of Append, on the
// caller's goroutine and concurrently with others: while one group waits for
// its fsync, the next can be made ready. Salt, Kind and Body must be final.
// Calling it is never required.
func (l *Log) Prepare(e *Entry) error {
	if e.ready {
		return nil
	}
	encoded, err := frame.OpsOf(e.Kind, e.Body)
	if err != nil {
		return fmt.Errorf("body of LSN %d: %w", e.LSN, err)
	}
	ops, err := frame.ReadOps(encoded)
	if err != nil {
		return fmt.Errorf("body of LSN %d: %w", e.LSN, err)
	}
	if e.payload, err = l.enc.Prepare(&e.Salt, e.Body); err != nil {
		return fmt.Errorf("LSN %d: %w", e.LSN, err)
	}
	e.ops, e.ready = ops.Len(), true
	return nil
}

// Append writes the entries as one group with one write and no fsync: they
// survive a crash after the next Sync that returns nil. A frame that does not
// fit the open segment, or finds it too old, begins the next one, which costs
// the fsyncs of a seal. Entries that do not continue the log are refused before
// a byte is written; a failed write stops the log for ever.
func (l *Log) Append(entries []Entry) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	if err := l.admit(entries); err != nil {
		return err
	}
	g := group{log: l, tail: l.Tail(), synced: l.Durable(), buf: l.group[:0]}
	for i := range entries {
		if err := g.add(&entries[i]); err != nil {
			return err
		}
	}
	if err := g.flush(); err != nil {
		return err
	}
	if cap(g.buf) <= keepGroup {
		l.group = g.buf
	}
	return nil
}

// admit checks the whole group, so that it is refused whole.
func (l *Log) admit(entries []Entry) error {
	if l.epoch == 0 {
		return errors.New("append before BeginEpoch: the log does not know the epoch to write in")
	}
	prev := l.Tail()
	for i := range entries {
		e := &entries[i]
		switch {
		case e.LSN != prev.Pos.LSN+1:
			return fmt.Errorf("append LSN %d after %d: LSNs are dense", e.LSN, prev.Pos.LSN)
		case e.Timestamp < prev.Timestamp:
			return fmt.Errorf("append LSN %d: stamp %d is before the last one, %d", e.LSN, e.Timestamp, prev.Timestamp)
		case e.Kind < frame.KindData || e.Kind > frame.KindClock:
			return fmt.Errorf("append LSN %d: unknown kind %d", e.LSN, e.Kind)
		}
		if err := l.Prepare(e); err != nil {
			return err
		}
		prev.Pos.LSN, prev.Timestamp = e.LSN, e.Timestamp
	}
	return nil
}

// group collects the frames of one Append until they are written.
type group struct {
	log    *Log
	tail   Tail
	synced lsn.LSN
	buf    []byte
	at     int64 // where buf goes in the active segment
}

func (g *group) add(e *Entry) error {
	l := g.log
	size := e.payload.FrameSize()
	if a := l.active; a == nil || l.outgrown(a, int64(size), e.Timestamp) {
		if err := g.flush(); err != nil {
			return err
		}
		if err := l.roll(); err != nil {
			return err
		}
		g.synced = l.Durable()
	}
	a := l.active
	if len(g.buf) == 0 {
		g.at = a.end
	}
	h := frame.Header{
		LSN: e.LSN, Epoch: l.epoch, Synced: g.synced, Timestamp: e.Timestamp, Wall: e.Wall,
		Kind: e.Kind, Salt: e.Salt, Digest: e.Digest,
	}
	var chain lsn.Chain
	g.buf, chain = frame.AppendFrame(g.buf, g.tail.Chain, &h, &e.payload, a.header.Seed, uint64(a.end))
	a.note(&h, chain, e.ops, size)
	g.tail = Tail{Pos: lsn.Pos{Epoch: l.epoch, LSN: e.LSN}, Chain: chain, Digest: e.Digest, Timestamp: e.Timestamp}
	return nil
}

// outgrown reports whether a frame of size bytes, stamped stamp, belongs into
// the next segment. An empty segment takes any frame.
func (l *Log) outgrown(a *activeSegment, size, stamp int64) bool {
	if a.footer.Frames == 0 {
		return false
	}
	return a.end+size > l.opts.SegmentBytes || stamp-a.firstStamp() >= l.opts.SegmentMaxAge.Microseconds()
}

// flush writes what has been collected and shows it as the tail.
func (g *group) flush() error {
	if len(g.buf) == 0 {
		return nil
	}
	l := g.log
	a := l.active
	if _, err := a.file.WriteAt(g.buf, g.at); err != nil {
		return l.fail("append to "+a.path, err)
	}
	a.sum.Write(g.buf) // a hash's Write never fails
	if l.next != nil {
		l.next.appended(int64(len(g.buf)))
	}
	l.view.Lock()
	defer l.view.Unlock()
	l.tail = g.tail
	s := &l.segments[len(l.segments)-1]
	s.last, s.bytes = g.tail, a.end
	g.buf = g.buf[:0]
	return nil
}

// Sync makes everything appended durable with one fdatasync, and advances
// Durable. With nothing pending it costs nothing. A failed one stops the log
// for ever: what it left on the disk is unknown.
func (l *Log) Sync() error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	return l.sync()
}

func (l *Log) sync() error {
	tail := l.Tail()
	if l.active == nil || tail.Pos.LSN == l.Durable() {
		return nil
	}
	if l.next != nil {
		l.next.commit(true)
		defer l.next.commit(false)
	}
	start := time.Now()
	err := l.active.file.SyncData()
	l.opts.SyncObserver(time.Since(start))
	if err != nil {
		return l.fail("fdatasync "+l.active.path, err)
	}
	l.view.Lock()
	l.durable = tail.Pos.LSN
	l.segments[len(l.segments)-1].end = l.active.end
	l.wake()
	l.view.Unlock()
	v := l.mark.value
	v.durable = tail.Pos.LSN
	if err := l.mark.write(v); err != nil {
		return l.fail("write "+markName, err)
	}
	return nil
}
