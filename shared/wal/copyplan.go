package wal

import (
	"bytes"
	"errors"
	"fmt"

	"originchain/shared/fault"
	"originchain/shared/frame"
	"originchain/shared/lsn"
)

// plan says what a chunk does to the log, or why it may not. It writes nothing.
func (l *Log) plan(c *Chunk) (*placement, error) {
	if c.Offset < 0 || c.Offset%frame.Align != 0 || (c.Offset > 0 && c.Offset < frame.SegmentHeaderSize) {
		return nil, fmt.Errorf("%w: no frame stands at its offset", ErrBadChunk)
	}
	s, ok := l.locateExactly(c.Segment)
	if !ok {
		return l.planNew(c)
	}
	return l.planKnown(c, &s)
}

// locateExactly returns the segment that begins at first, with the end of all
// its frames, durable or not. The caller holds writing.
func (l *Log) locateExactly(first lsn.LSN) (segment, bool) {
	s, _, ok := l.locate(first)
	if !ok || s.header.First != first {
		return segment{}, false
	}
	if a := l.active; a != nil && a.path == s.path {
		s.end = a.end
	}
	return s, true
}

// planNew is plan for a chunk of a segment that is not here: it must be the
// next one, from its header on.
func (l *Log) planNew(c *Chunk) (*placement, error) {
	tail, first := l.Tail(), l.FirstLSN()
	switch {
	case c.Segment < first:
		return nil, fmt.Errorf("the log begins at %d: %w", first, ErrRemoved)
	case first > 0 && c.Segment <= tail.Pos.LSN:
		return nil, fmt.Errorf("no segment begins at LSN %d here: %w", c.Segment, ErrFork)
	case first > 0 && c.Segment > tail.Pos.LSN+1:
		return nil, fmt.Errorf("the log ends at LSN %d: %w", tail.Pos.LSN, ErrGap)
	case c.Offset > 0:
		return nil, fmt.Errorf("it begins behind the segment's header: %w", ErrGap)
	}
	header, err := frame.DecodeSegmentHeader(c.Bytes)
	if err != nil {
		return nil, badChunk(err)
	}
	path := l.path(segmentName(c.Segment))
	if err := checkSegment(path, c.Segment, &header, l.opts.Instance, nil); err != nil {
		return nil, badChunk(err)
	}
	if first > 0 {
		if header.PrevChain != tail.Chain {
			return nil, fmt.Errorf("the segment follows another frame of LSN %d: %w", tail.Pos.LSN, ErrFork)
		}
		if err := checkSegment(path, c.Segment, &header, l.opts.Instance, &tail); err != nil {
			return nil, badChunk(err)
		}
	}
	p := &placement{begins: true, seg: *startActive(path, nil, header), seals: c.Sealed}
	if err := l.verify(p, c, frame.SegmentHeaderSize, before(&header)); err != nil {
		return nil, err
	}
	if len(p.fresh) == 0 {
		return nil, fmt.Errorf("%w: a segment header without a frame may still be replaced", ErrBadChunk)
	}
	return p, nil
}

// planKnown is plan for a chunk of a segment that is here, in part or whole.
func (l *Log) planKnown(c *Chunk, s *segment) (*placement, error) {
	from, err := planHeader(c, s)
	if err != nil {
		return nil, err
	}
	if from > s.end {
		return nil, fmt.Errorf("the segment ends at offset %d here: %w", s.end, ErrGap)
	}
	rest := c.Bytes[min(from-c.Offset, int64(len(c.Bytes))):]
	have := min(s.end-from, int64(len(rest)))
	if err := l.compare(s, from, rest, have); err != nil {
		return nil, err
	}
	p := &placement{seals: c.Sealed && !s.sealed}
	if int64(len(rest)) == have {
		if c.Sealed && from+have < s.end {
			return nil, fmt.Errorf("the segment ends at offset %d there, at %d here: %w", from+have, s.end, ErrFork)
		}
		return p, nil
	}
	tail := l.Tail()
	if s.last.Pos.LSN != tail.Pos.LSN {
		return nil, fmt.Errorf("the segment ends with LSN %d here, and goes on there: %w", s.last.Pos.LSN, ErrFork)
	}
	p.seals = c.Sealed
	a := l.active
	if s.sealed { // by an opening as writer that came to nothing
		if a, _, err = l.rebuild(s, tail.Pos.LSN); err != nil {
			return nil, err
		}
		p.reopens = a
	}
	p.seg = *a
	return p, l.verify(p, c, s.end, tail)
}

// planHeader holds the header in a chunk, if there is one, against the
// segment's, and returns where the frames in the chunk begin.
func planHeader(c *Chunk, s *segment) (int64, error) {
	if c.Offset > 0 {
		return c.Offset, nil
	}
	header, err := frame.DecodeSegmentHeader(c.Bytes)
	if err != nil {
		return 0, badChunk(err)
	}
	if header.Instance != s.header.Instance {
		return 0, badChunk(&ForeignError{s.path, header.Instance, s.header.Instance})
	}
	if header != s.header {
		return 0, fmt.Errorf("the segment has another header: %w", ErrFork)
	}
	return frame.SegmentHeaderSize, nil
}

// compare holds the first have bytes of rest against what stands in the segment
// at offset from. Where they differ a frame with a good CRC is another history;
// one without was damaged on its way.
func (l *Log) compare(s *segment, from int64, rest []byte, have int64) error {
	if have == 0 {
		return nil
	}
	ours := make([]byte, have)
	f, err := l.opts.FS.Open(s.path)
	if err != nil {
		return fmt.Errorf("open %s: %w", s.path, err)
	}
	if err := errors.Join(readFull(f, ours, from), f.Close()); err != nil {
		return fmt.Errorf("read %s at offset %d: %w", s.path, from, err)
	}
	if bytes.Equal(ours, rest[:have]) {
		return nil
	}
	dec, err := l.decoder()
	if err != nil {
		return err
	}
	var theirs frame.Frame
	for at := int64(0); at < have; at += int64(theirs.Stored) {
		if _, err := dec.Decode(&theirs, rest[at:], s.header.Seed, uint64(from+at)); err != nil {
			return badChunk(corrupt(s.path, from+at, err))
		}
		if end := at + int64(theirs.Stored); end > have || !bytes.Equal(ours[at:end], rest[at:end]) {
			return fmt.Errorf("LSN %d differs from the one that is here: %w", theirs.LSN, ErrFork)
		}
	}
	return nil
}

// verify checks the chunk's frames from offset at on, where the log ends, and
// notes them in the placement.
func (l *Log) verify(p *placement, c *Chunk, at int64, prev Tail) error {
	dec, err := l.decoder()
	if err != nil {
		return err
	}
	sc := newScanner(nil, p.seg.path, p.seg.header, dec, c.Offset+int64(len(c.Bytes)))
	sc.pos, sc.prev, sc.buf, sc.bufPos = at, prev, c.Bytes, c.Offset
	p.at, p.fresh = at, c.Bytes[at-c.Offset:]
	var f frame.Frame
	for {
		err := sc.next(&f)
		if errors.Is(err, errEnd) {
			p.tail = sc.prev
			return nil
		}
		if err != nil {
			return l.refuse(sc, &prev, err)
		}
		ops, err := f.Ops()
		if err != nil {
			return badChunk(corrupt(p.seg.path, sc.pos, err))
		}
		p.seg.note(&f.Header, f.Chain, ops.Len(), f.Stored)
	}
}

// refuse tells a fork from damage: the first new frame is whole, has the next
// LSN, and follows another frame than the last one here.
func (l *Log) refuse(sc *scanner, tail *Tail, err error) error {
	var f frame.Frame
	if sc.prev.Pos.LSN == tail.Pos.LSN {
		_, bad := sc.dec.Decode(&f, sc.buf[sc.pos-sc.bufPos:], sc.header.Seed, uint64(sc.pos))
		if bad == nil && f.LSN == tail.Pos.LSN+1 && frame.ChainNext(tail.Chain, &f.Header, &f.H) != f.Chain {
			return fmt.Errorf("LSN %d follows another frame than the last one here: %w", f.LSN, ErrFork)
		}
	}
	return badChunk(corrupt(sc.path, sc.pos, err))
}

// badChunk makes ErrBadChunk of what is wrong with a chunk. The remedy of a
// corruption is left out: this node's files are not to blame.
func badChunk(err error) error {
	var bad *fault.Corruption
	if errors.As(err, &bad) {
		return fmt.Errorf("%w: %s at offset %d: want %s, got %s", ErrBadChunk, bad.What, bad.Offset, bad.Want, bad.Got)
	}
	return fmt.Errorf("%w: %w", ErrBadChunk, err)
}
