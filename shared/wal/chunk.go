package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"

	"originchain/shared/frame"
	"originchain/shared/lsn"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Chunk is a run of one segment's bytes as they stand in the file: what a
// leader sends and a follower copies.
type Chunk struct {
	// Segment is the first LSN of the segment.
	Segment lsn.LSN
	// Offset is where Bytes stand in the file. At 0 they begin with the segment header.
	Offset int64
	// Bytes are whole frames with their padding, the segment header before them
	// if Offset is 0. They are valid until the reader's next call.
	Bytes []byte
	// First and Last are the LSNs of the frames in Bytes; 0 if there are none.
	First, Last lsn.LSN
	// Sealed says that the segment ends behind Bytes. The footer is not among
	// them: it is a function of the frames, so a copy is sealed by itself.
	Sealed bool
}

// leastRead is enough for a segment header and a frame's, in bytes.
const leastRead = frame.SegmentHeaderSize + frame.HeaderSize

// seekRead is how much is read at once on the way to a frame, in bytes.
const seekRead = 1 << 20

// ChunkReader reads the durable part of a Log byte for byte, in order. It looks
// at lengths and LSNs alone, which costs about one pread per chunk: whoever
// copies the bytes verifies them. One goroutine uses it; any number of them may
// run beside the appender and RemoveBefore.
type ChunkReader struct {
	log *Log
	// next is the LSN that follows what has been given.
	next lsn.LSN
	// file is the open segment, nil before the first; seg is what the log said of
	// it last.
	file vfs.File
	seg  segment
	// pos is where next stands, 0 while the segment's header is still to be given.
	pos int64
	// ended says that the end of the segment has been given.
	ended bool
	buf   []byte
}

// NewChunkReader returns a ChunkReader whose first frame is LSN from, which may
// be the one after the last durable one. ErrRemoved says that the log begins
// above it.
//
// If from-1 is the last frame of a sealed segment the first chunk is an empty
// one that seals it: a copy may have been cut off just there. Where from stands
// is found by walking its segment's frames, unless it is the next to come.
func (l *Log) NewChunkReader(from lsn.LSN) (*ChunkReader, error) {
	if from == 0 {
		return nil, errors.New("read from LSN 0: the first frame is LSN 1")
	}
	if durable := l.Durable(); from > durable+1 {
		return nil, fmt.Errorf("read from LSN %d: the log is durable up to %d", from, durable)
	}
	r := &ChunkReader{log: l, next: from}
	if first := l.FirstLSN(); first == 0 || from == first {
		return r, nil // Next begins with a header, and knows if it has gone
	}
	s, durable, ok := l.locate(from - 1)
	if !ok {
		return nil, l.removed(from)
	}
	if err := r.enter(s); err != nil {
		return nil, err
	}
	if r.pos = s.end; durable != from-1 && s.last.Pos.LSN != from-1 {
		if err := r.seek(from); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	r.next = from
	return r, nil
}

// Next returns the next chunk of at most limit bytes, more only where a single
// frame is longer. It never waits: ok is false if all that is durable has been
// given. Then, once the log can no longer advance, the error is ErrClosed or the
// failure that stopped it. ErrRemoved says that the segment to come has been
// removed; one that is being read stays readable. Bytes that are no run of
// frames are a *fault.Corruption.
//
// To wait for more, take Advanced before the call that finds nothing.
func (r *ChunkReader) Next(limit int) (c Chunk, ok bool, err error) {
	for {
		s, over, err := r.observe()
		if err != nil {
			return Chunk{}, false, err
		}
		switch r.seg = s; {
		case r.file == nil:
		case max(r.pos, frame.SegmentHeaderSize) < s.end:
			c, err := r.take(limit)
			return c, err == nil, err
		case s.sealed && !r.ended:
			r.ended = true
			return Chunk{Segment: s.header.First, Offset: s.end, Sealed: true}, true, nil
		case !s.sealed:
			return Chunk{}, false, over
		}
		if found, err := r.advance(); err != nil || !found {
			return Chunk{}, false, errors.Join(err, over)
		}
	}
}

// Close frees the reader.
func (r *ChunkReader) Close() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

// observe returns the segment being read as it is now, and why the log will
// never advance again, if so: both of one moment, so that nothing durable is
// left behind when the log ends.
func (r *ChunkReader) observe() (s segment, over, err error) {
	l := r.log
	l.view.Lock()
	over = l.over
	for i := len(l.segments) - 1; i >= 0 && r.file != nil; i-- {
		if s := l.segments[i]; s.path == r.seg.path {
			l.view.Unlock()
			return s, over, nil
		}
	}
	l.view.Unlock()
	if r.file == nil || r.seg.sealed {
		return r.seg, over, nil
	}
	s, err = r.departed()
	return s, over, err
}

// departed asks the file itself: it was removed from the log after it was
// sealed, and the reader had last seen it open.
func (r *ChunkReader) departed() (segment, error) {
	info, err := r.file.Stat()
	if err != nil {
		return r.seg, fmt.Errorf("stat %s: %w", r.seg.path, err)
	}
	_, end, err := readFooter(r.file, &r.seg.header, info.Size())
	if err != nil {
		return r.seg, corrupt(r.seg.path, end, err)
	}
	s := r.seg
	s.end, s.sealed = end, true
	return s, nil
}

// advance opens the segment that begins with the next frame. It is not there
// before a frame in it is durable: its header alone may still be replaced, if
// the leader starts anew.
func (r *ChunkReader) advance() (bool, error) {
	s, durable, ok := r.log.locate(r.next)
	switch {
	case r.next > durable:
		return false, nil
	case !ok || s.header.First != r.next:
		return false, r.log.removed(r.next)
	}
	return true, r.enter(s)
}

// enter makes s the segment being read, from its header on.
func (r *ChunkReader) enter(s segment) error {
	f, err := r.log.opts.FS.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return r.log.removed(r.next)
	} else if err != nil {
		return fmt.Errorf("open %s: %w", s.path, err)
	}
	if err := r.Close(); err != nil {
		r.file = nil
		return errors.Join(fmt.Errorf("close %s: %w", r.seg.path, err), f.Close())
	}
	r.file, r.seg, r.pos, r.ended = f, s, 0, false
	return nil
}

// seek goes to where LSN to stands in the segment just entered.
func (r *ChunkReader) seek(to lsn.LSN) error {
	r.pos, r.next = frame.SegmentHeaderSize, r.seg.header.First
	for r.next < to {
		b, err := r.frames(r.pos, 0, seekRead, to-1)
		if err != nil {
			return err
		}
		r.pos += int64(len(b))
	}
	return nil
}

// take reads the next frames, behind the header if that is still to be given.
func (r *ChunkReader) take(limit int) (Chunk, error) {
	c := Chunk{Segment: r.seg.header.First, Offset: r.pos, First: r.next}
	skip := 0
	if r.pos == 0 {
		skip = frame.SegmentHeaderSize
	}
	b, err := r.frames(r.pos, skip, limit, math.MaxUint64)
	if err != nil {
		return Chunk{}, err
	}
	if skip > 0 && !bytes.Equal(b[:skip], r.seg.header.Append(nil)) {
		return Chunk{}, corruption(r.seg.path, 0, "segment header", "the one the log was opened with", "another")
	}
	r.pos += int64(len(b))
	c.Bytes, c.Last = b, r.next-1
	c.Sealed = r.seg.sealed && r.pos == r.seg.end
	r.ended = c.Sealed
	return c, nil
}

// frames reads skip bytes at pos and the whole frames behind them: at least one,
// as many as limit holds, none above LSN last. It moves next past them.
func (r *ChunkReader) frames(pos int64, skip, limit int, last lsn.LSN) ([]byte, error) {
	at := pos + int64(skip)
	b, err := r.read(pos, max(limit, leastRead))
	if err != nil {
		return nil, err
	}
	n, err := r.walk(b[skip:], at, last)
	if err != nil {
		return nil, err
	}
	if n == 0 { // the first one is longer than what was read
		size, err := frame.Peek(b[skip:])
		if err != nil {
			return nil, corrupt(r.seg.path, at, err)
		}
		if b, err = r.read(pos, skip+size); err != nil {
			return nil, err
		}
		if n, err = r.walk(b[skip:], at, r.next); err != nil {
			return nil, err
		}
	}
	if n == 0 {
		return nil, corruption(r.seg.path, at, "frame", "one that ends by "+fmt.Sprint(r.seg.end), "a longer one")
	}
	return b[:skip+n], nil
}

// read returns n bytes at pos, or what there is before the end of the frames.
func (r *ChunkReader) read(pos int64, n int) ([]byte, error) {
	n = int(min(int64(n), r.seg.end-pos))
	if cap(r.buf) < n {
		r.buf = make([]byte, n)
	}
	b := r.buf[:n]
	if err := readFull(r.file, b, pos); err != nil {
		return nil, fmt.Errorf("read %s at offset %d: %w", r.seg.path, pos, err)
	}
	return b, nil
}

// walk returns the length of the whole frames at the start of b, which stands
// at offset at, up to LSN last, and moves next past them.
func (r *ChunkReader) walk(b []byte, at int64, last lsn.LSN) (n int, err error) {
	for r.next <= last && len(b)-n >= frame.HeaderSize {
		size, err := frame.Peek(b[n:])
		if err != nil {
			return 0, corruption(r.seg.path, at+int64(n), fmt.Sprintf("frame of LSN %d", r.next), "a good frame: it was durable", err.Error())
		}
		if size > len(b)-n {
			break
		}
		if got, _ := frame.PeekClaim(b[n:]); got != r.next {
			return 0, corruption(r.seg.path, at+int64(n), "LSN", fmt.Sprint(r.next), fmt.Sprint(got))
		}
		r.next++
		n += size
	}
	return n, nil
}
