package wal

import (
	"errors"
	"fmt"
	"hash"
	"io"

	"originchain/shared/frame"
	"originchain/shared/lsn"
)

// readAhead is how many bytes a scan asks the disk for at once.
const readAhead = 2 << 20

// errEnd says that a scan has consumed all bytes up to its bound.
var errEnd = errors.New("end of the segment")

// scanner walks the frames of one segment and checks each against the one
// before it. It is the only place where frames are read, so opening, readers
// and waldump agree on what a good frame is.
type scanner struct {
	src    io.ReaderAt
	path   string
	header frame.SegmentHeader
	dec    *frame.Decoder
	// pos is where the next frame begins; end bounds what may be read.
	pos, end int64
	// prev is the state after the last frame.
	prev Tail
	// sum, if set, is fed every byte scanned, for the footer.
	sum hash.Hash

	buf    []byte
	bufPos int64 // file offset of buf[0]
}

// newScanner starts behind the header; end is set by the caller, and may grow.
func newScanner(src io.ReaderAt, path string, header frame.SegmentHeader, dec *frame.Decoder, end int64) *scanner {
	return &scanner{
		src: src, path: path, header: header, dec: dec, pos: frame.SegmentHeaderSize, end: end,
		prev: before(&header),
	}
}

// before is the state before a segment's first frame, as far as its header
// tells: not the epoch of the frame before.
func before(h *frame.SegmentHeader) Tail {
	return Tail{Pos: lsn.Pos{LSN: h.First - 1}, Chain: h.PrevChain, Digest: h.PrevDigest, Timestamp: h.PrevTimestamp}
}

// next decodes and checks the next frame into f. At the bound it returns
// errEnd; at untouched space and at a footer the errors of frame.Peek; for a
// frame that does not decode a *frame.DecodeError, which may be a torn write;
// and for one that does but does not continue the log a *fault.Corruption,
// which no torn write explains.
func (s *scanner) next(f *frame.Frame) error {
	if s.pos >= s.end {
		return errEnd
	}
	src, err := s.window(frame.PeekSize)
	if err != nil {
		return err
	}
	size, err := frame.Peek(src)
	if err != nil {
		return err
	}
	if src, err = s.window(size); err != nil {
		return err
	}
	if _, err = s.dec.Decode(f, src, s.header.Seed, uint64(s.pos)); err != nil {
		return err
	}
	if err = s.check(f); err != nil {
		return err
	}
	if s.sum != nil {
		s.sum.Write(src[:size]) // a hash's Write never fails
	}
	s.prev = Tail{Pos: lsn.Pos{Epoch: f.Epoch, LSN: f.LSN}, Chain: f.Chain, Digest: f.Digest, Timestamp: f.Timestamp}
	s.pos += int64(size)
	return nil
}

// raw returns the bytes of the frame that next returned last, which is size
// bytes long; they are valid until the following call.
func (s *scanner) raw(size int) []byte {
	end := s.pos - s.bufPos
	return s.buf[end-int64(size) : end]
}

// explain turns what the scanner met where a good frame must stand into a
// corruption. Errors of the disk stay what they are.
func (s *scanner) explain(err error) error {
	if errors.Is(err, errEnd) || errors.Is(err, frame.ErrNoFrame) || errors.Is(err, frame.ErrFooter) {
		return corruption(s.path, s.pos, fmt.Sprintf("frame of LSN %d", s.prev.Pos.LSN+1), "a good frame: it was durable", err.Error())
	}
	return corrupt(s.path, s.pos, err)
}

// window returns at least n bytes at pos, and usually many more, from one
// large read. A frame that would reach past the bound does not decode.
func (s *scanner) window(n int) ([]byte, error) {
	if s.pos+int64(n) > s.end {
		return nil, &frame.DecodeError{What: "frame", Want: fmt.Sprintf("%d bytes", n), Got: fmt.Sprintf("%d bytes before the end", s.end-s.pos)}
	}
	have := s.buf[min(s.pos-s.bufPos, int64(len(s.buf))):]
	if len(have) >= n {
		return have, nil
	}
	want := int(min(int64(max(n, readAhead)), s.end-s.pos))
	if cap(s.buf) < want {
		s.buf = append(make([]byte, 0, want), have...)
	} else {
		s.buf = s.buf[:copy(s.buf[:cap(s.buf)], have)]
	}
	kept := len(s.buf)
	s.buf, s.bufPos = s.buf[:want], s.pos
	if err := readFull(s.src, s.buf[kept:], s.pos+int64(kept)); err != nil {
		s.buf = s.buf[:kept]
		return nil, fmt.Errorf("read %s at offset %d: %w", s.path, s.pos+int64(kept), err)
	}
	return s.buf, nil
}

// check holds a decoded frame against the log so far.
func (s *scanner) check(f *frame.Frame) error {
	bad := func(what string, want, got any) error {
		return corruption(s.path, s.pos, fmt.Sprintf("%s of LSN %d", what, f.LSN), fmt.Sprint(want), fmt.Sprint(got))
	}
	switch {
	case f.LSN != s.prev.Pos.LSN+1:
		return bad("position", s.prev.Pos.LSN+1, f.LSN)
	case f.Epoch != s.header.Epoch:
		return bad("epoch", s.header.Epoch, f.Epoch)
	case f.Synced >= f.LSN:
		return bad("synced LSN", "one below", f.Synced)
	case f.Timestamp < s.prev.Timestamp:
		return bad("timestamp", fmt.Sprintf("%d or later", s.prev.Timestamp), f.Timestamp)
	}
	if want := frame.ChainNext(s.prev.Chain, &f.Header, &f.H); want != f.Chain {
		return bad("chain", want, f.Chain)
	}
	if f.Redacted {
		return nil // the redaction record holds what its digest lacks
	}
	delta, err := bodyDelta(f)
	if err != nil {
		return corrupt(s.path, s.pos, err)
	}
	if want := s.prev.Digest.Add(delta); want != f.Digest {
		return bad("digest", want, f.Digest)
	}
	return nil
}

// bodyDelta sums what the frame's operations do to the state digest.
func bodyDelta(f *frame.Frame) (lsn.Digest, error) {
	ops, err := f.Ops()
	if err != nil {
		return lsn.Digest{}, err
	}
	var sum lsn.Digest
	var op frame.Op
	for {
		more, err := ops.Next(&op)
		if err != nil || !more {
			return sum, err
		}
		sum = sum.Add(op.Delta())
	}
}
