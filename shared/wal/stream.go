package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"originchain/shared/fault"
	"originchain/shared/frame"
)

// Stream reads one segment from a source that only goes forward, such as an
// object of an archive, and verifies it as a SegmentFile does. What has no footer
// ends where the source does.
type Stream struct {
	name   string
	size   int64
	dec    *frame.Decoder
	scan   *scanner
	seen   *activeSegment // what the footer of the frames read so far would say
	footer *frame.Footer
	f      frame.Frame
}

// NewStream reads the segment header at the start of src, which gives size bytes.
// Damage is a *fault.Corruption that carries name; errors of src stay what they are.
func NewStream(name string, src io.Reader, size int64) (*Stream, error) {
	var b [frame.SegmentHeaderSize]byte
	if size < int64(len(b)) {
		return nil, streamFault(name, 0, "segment", fmt.Sprintf("%d bytes or more", len(b)), fmt.Sprintf("%d bytes", size))
	}
	if _, err := io.ReadFull(src, b[:]); err != nil {
		return nil, short(name, 0, err)
	}
	header, err := frame.DecodeSegmentHeader(b[:])
	if err != nil {
		return nil, unremedied(corrupt(name, 0, err))
	}
	dec, err := frame.NewDecoder()
	if err != nil {
		return nil, err
	}
	s := &Stream{name: name, size: size, dec: dec, seen: startActive(name, nil, header)}
	s.scan = newScanner(&forward{src: src, pos: frame.SegmentHeaderSize}, name, header, dec, size)
	s.scan.sum = s.seen.sum
	return s, nil
}

// Header returns the segment's header.
func (s *Stream) Header() frame.SegmentHeader { return s.scan.header }

// Footer returns the footer once Next has returned io.EOF; nil if there is none.
func (s *Stream) Footer() *frame.Footer { return s.footer }

// Tail is the state after the last frame that Next returned; before the first, the
// state that the header names.
func (s *Stream) Tail() Tail { return s.scan.prev }

// Raw is the frame that Next returned last as it is stored, padding included;
// valid until the following call.
func (s *Stream) Raw() []byte { return s.scan.raw(s.f.Stored) }

// Next returns the next frame; it and its Body are valid until the following
// call. io.EOF follows the last one: then the footer, if there is one, has been
// held against all frames, SHA-256 included.
func (s *Stream) Next() (*frame.Frame, error) {
	if s.footer != nil {
		return nil, io.EOF
	}
	at := s.scan.pos
	err := s.scan.next(&s.f)
	switch {
	case errors.Is(err, errEnd):
		return nil, io.EOF
	case errors.Is(err, frame.ErrFooter):
		return nil, s.seal()
	case errors.Is(err, frame.ErrNoFrame):
		return nil, streamFault(s.name, at, "frame", "a good one, or a footer", err.Error())
	case errors.Is(err, io.ErrUnexpectedEOF):
		return nil, short(s.name, at, err)
	case err != nil:
		return nil, unremedied(corrupt(s.name, at, err))
	}
	ops, err := s.f.Ops()
	if err != nil {
		return nil, unremedied(corrupt(s.name, at, err))
	}
	s.seen.note(&s.f.Header, s.f.Chain, ops.Len(), s.f.Stored)
	return &s.f, nil
}

// seal reads the footer, which must be, byte for byte, the one that the frames
// lead to, and the last thing in the segment.
func (s *Stream) seal() error {
	at := s.scan.pos
	want := s.seen.footer.Append(nil, s.scan.header.Seed, uint64(at), s.seen.sum)
	if n := s.size - at; n != int64(len(want)) || s.seen.footer.Frames == 0 {
		return streamFault(s.name, at, "footer", fmt.Sprintf("%d bytes after at least one frame", len(want)), fmt.Sprintf("%d bytes after %d frames", n, s.seen.footer.Frames))
	}
	got, err := s.scan.window(len(want))
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return short(s.name, at, err)
	} else if err != nil {
		return unremedied(corrupt(s.name, at, err))
	}
	if !bytes.Equal(got, want) {
		return streamFault(s.name, at, "footer", "the one that the frames lead to", "another")
	}
	if s.footer, err = frame.DecodeFooter(want, s.scan.header.Seed, uint64(at)); err != nil {
		return unremedied(corrupt(s.name, at, err))
	}
	return io.EOF
}

// Close frees the stream; the source is the caller's.
func (s *Stream) Close() { s.dec.Close() }

// streamFault is a corruption of something that is no file of a log directory:
// the remedy for one of those would mislead.
func streamFault(name string, offset int64, what, want, got string) error {
	return &fault.Corruption{File: name, Offset: offset, What: what, Want: want, Got: got}
}

// short is a source that ended before its time, or failed.
func short(name string, offset int64, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return streamFault(name, offset, "length", "more bytes", "the end")
	}
	return err
}

func unremedied(err error) error {
	var c *fault.Corruption
	if errors.As(err, &c) {
		c.Remedy = ""
	}
	return err
}

// forward is a reader where a scanner wants one that can be read anywhere: a
// scanner reads on, and never back.
type forward struct {
	src io.Reader
	pos int64
}

// ReadAt implements io.ReaderAt for the place where the source stands.
func (f *forward) ReadAt(p []byte, off int64) (int, error) {
	if off != f.pos {
		return 0, fmt.Errorf("read at %d of a source that stands at %d", off, f.pos)
	}
	n, err := io.ReadFull(f.src, p)
	f.pos += int64(n)
	return n, err
}
