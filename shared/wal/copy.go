package wal

import (
	"errors"
	"fmt"

	"originchain/shared/frame"
	"originchain/shared/lsn"
)

// Copy appends a chunk of another node's log of the same instance, so that the
// files of both are equal byte for byte: same place, same seal, same beginning
// of the next segment. It verifies each frame as a Reader does before it writes
// any. What it wrote survives a crash after the next Sync that returns nil.
//
// What the log holds already is compared and left; a chunk that overlaps goes
// on behind it. So a chunk may come again, and a copy goes on after a crash from
// Durable+1. A log without a segment takes any first one: whether it is the
// right one to begin with is the caller's to know. Only Segment, Offset, Bytes
// and Sealed are looked at.
//
// ErrBadChunk, ErrGap and ErrFork leave the log as it was; ErrRemoved says the
// same of a chunk from below its oldest segment. A failed write stops the log
// for ever. From BeginEpoch to EndEpoch the log is a writer's, and takes no copies.
func (l *Log) Copy(c Chunk) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if err := l.writable(); err != nil {
		return err
	}
	if l.epoch != 0 {
		return fmt.Errorf("copy into a log that is written in epoch %d: end the epoch first", l.epoch)
	}
	p, err := l.plan(&c)
	if err != nil {
		return fmt.Errorf("copy %d bytes at offset %d of segment %s: %w", len(c.Bytes), c.Offset, segmentName(c.Segment), err)
	}
	return l.place(p)
}

// placement is what a verified chunk does to the log.
type placement struct {
	// begins says that the chunk begins a segment.
	begins bool
	// reopens is the newest segment if it is sealed here and goes on there.
	reopens *activeSegment
	// seg is the segment's bookkeeping after fresh is in it; sum and file lag behind.
	seg activeSegment
	// fresh are the frames to write at offset at; tail is the state behind them.
	fresh []byte
	at    int64
	tail  Tail
	seals bool
}

// place writes what plan has found good. In the order of an own roll: seal the
// segment before, make the next one's name durable, only then append.
func (l *Log) place(p *placement) error {
	if len(p.fresh) == 0 && !p.seals {
		return nil
	}
	if err := l.beginCopying(); err != nil {
		return err
	}
	switch {
	case p.begins:
		if err := l.seal(); err != nil {
			return err
		}
		if err := l.begin(p.seg.header, before(&p.seg.header)); err != nil {
			return err
		}
	case p.reopens != nil:
		if err := l.reopen(p.reopens); err != nil {
			return err
		}
	}
	if err := l.extend(p); err != nil || !p.seals {
		return err
	}
	return l.seal()
}

// beginCopying takes back the mark's claim that this node wrote frames as
// writer, before the first that it did not. Otherwise an opening after a crash
// would hold the synced LSNs of a torn tail, which speak of the leader's disk,
// against this one, and refuse it as corrupt. All this node did write is durable
// and below the mark by now, so nothing is lost with the claim.
func (l *Log) beginCopying() error {
	if l.copying {
		return nil
	}
	if err := l.sync(); err != nil {
		return err
	}
	if v := l.mark.value; !v.valid || v.writer != 0 {
		v = markValue{durable: l.marked(), instance: l.opts.Instance}
		if err := l.mark.write(v); err != nil {
			return l.fail("write "+markName, err)
		}
		if err := l.mark.file.Sync(); err != nil {
			return l.fail("fsync "+markName, err)
		}
	}
	l.copying = true
	l.zeroAhead()
	return nil
}

// extend writes the fresh frames and shows them as the tail.
func (l *Log) extend(p *placement) error {
	if len(p.fresh) == 0 {
		return nil
	}
	a := l.active
	if _, err := a.file.WriteAt(p.fresh, p.at); err != nil {
		return l.fail("append to "+a.path, err)
	}
	a.sum.Write(p.fresh) // a hash's Write never fails
	a.footer, a.end = p.seg.footer, p.seg.end
	if l.next != nil {
		l.next.appended(int64(len(p.fresh)))
	}
	l.view.Lock()
	defer l.view.Unlock()
	l.tail = p.tail
	s := &l.segments[len(l.segments)-1]
	s.last, s.bytes = p.tail, a.end
	return nil
}

// rebuild reads a segment up to LSN last, verifying each frame, and returns its
// bookkeeping and the state there. It changes nothing.
func (l *Log) rebuild(s *segment, last lsn.LSN) (a *activeSegment, prev Tail, err error) {
	f, err := l.opts.FS.Open(s.path)
	if err != nil {
		return nil, Tail{}, fmt.Errorf("open %s: %w", s.path, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	dec, err := l.decoder()
	if err != nil {
		return nil, Tail{}, err
	}
	a = startActive(s.path, nil, s.header)
	sc := newScanner(f, s.path, s.header, dec, s.end)
	sc.sum = a.sum
	var one frame.Frame
	for sc.prev.Pos.LSN < last {
		if err := sc.next(&one); err != nil {
			return nil, Tail{}, sc.explain(err)
		}
		ops, err := one.Ops()
		if err != nil {
			return nil, Tail{}, corrupt(s.path, a.end, err)
		}
		a.note(&one.Header, one.Chain, ops.Len(), one.Stored)
	}
	return a, sc.prev, nil
}

// decoder returns the log's own; the caller holds writing.
func (l *Log) decoder() (dec *frame.Decoder, err error) {
	if l.dec == nil {
		l.dec, err = frame.NewDecoder()
	}
	return l.dec, err
}

// reopen ends the newest segment behind the last frame noted in a, durably, and
// makes it the one that is appended to.
func (l *Log) reopen(a *activeSegment) error {
	f, err := openFile(l.opts.FS, a.path)
	if err != nil {
		return l.fail("reopen "+a.path, err)
	}
	if err := truncate(f, a.end); err != nil {
		return l.fail("truncate "+a.path, errors.Join(err, f.Close()))
	}
	a.file, l.active = f, a
	l.view.Lock()
	defer l.view.Unlock()
	s := &l.segments[len(l.segments)-1]
	s.sealed, s.end, s.bytes = false, a.end, a.end
	return nil
}

func truncate(f file, size int64) error {
	if err := f.Truncate(size); err != nil {
		return err
	}
	return f.Sync()
}
