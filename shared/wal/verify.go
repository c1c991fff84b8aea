package wal

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"originchain/shared/frame"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// SegmentFile reads one segment file without a log around it, for tools. It
// verifies each frame as a Reader does, and changes nothing.
type SegmentFile struct {
	at     lastSegment
	dec    *frame.Decoder
	scan   *scanner
	seen   *activeSegment // what the footer of the frames read so far would say
	footer *frame.Footer
	seal   int64
	whole  [frame.HashSize]byte // SHA-256 of the file, once its seal was checked
	f      frame.Frame
}

// OpenSegment opens the segment file at path and reads header and footer.
func OpenSegment(fs vfs.FS, path string) (*SegmentFile, error) {
	s := &SegmentFile{at: lastSegment{path: path}}
	var err error
	if s.at.file, err = fs.Open(path); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if err := s.load(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *SegmentFile) load() error {
	info, err := s.at.file.Stat()
	if err != nil {
		return fmt.Errorf("stat %s: %w", s.at.path, err)
	}
	s.at.size = info.Size()
	if s.at.header, err = readHeader(s.at.file); err != nil {
		return corrupt(s.at.path, 0, err)
	}
	end := s.at.size
	var bad *frame.DecodeError
	s.footer, s.seal, err = readFooter(s.at.file, &s.at.header, s.at.size)
	if err == nil {
		end = s.seal
	} else if !errors.As(err, &bad) {
		return fmt.Errorf("read the footer of %s: %w", s.at.path, err)
	}
	if s.dec, err = frame.NewDecoder(); err != nil {
		return err
	}
	s.seen = startActive(s.at.path, nil, s.at.header)
	s.scan = newScanner(s.at.file, s.at.path, s.at.header, s.dec, end)
	s.scan.sum = s.seen.sum
	return nil
}

// Close closes the file.
func (s *SegmentFile) Close() error {
	if s.dec != nil {
		s.dec.Close()
	}
	return s.at.file.Close()
}

// Header returns the segment's header.
func (s *SegmentFile) Header() frame.SegmentHeader { return s.at.header }

// Footer returns the footer, or nil if the segment has no intact seal.
func (s *SegmentFile) Footer() *frame.Footer { return s.footer }

// Next returns the next frame and its offset; io.EOF after the last. In a
// segment without a seal a bad frame may be a torn tail: that is *TornError
// unless a frame behind it proves otherwise.
func (s *SegmentFile) Next() (*frame.Frame, int64, error) {
	at := s.scan.pos
	err := s.scan.next(&s.f)
	if err != nil {
		return nil, at, s.ended(err)
	}
	ops, err := s.f.Ops()
	if err != nil {
		return nil, at, corrupt(s.at.path, at, err)
	}
	s.seen.note(&s.f.Header, s.f.Chain, ops.Len(), s.f.Stored)
	return &s.f, at, nil
}

// TornError says where the frames of an unsealed segment end in bytes that are
// no frame. The next opening of the log cuts them, if its durable mark agrees.
type TornError struct {
	Path   string
	Offset int64
	Cause  error
}

// Error implements error.
func (e *TornError) Error() string {
	return fmt.Sprintf("%s has a torn tail at offset %d: %v", e.Path, e.Offset, e.Cause)
}

// Unwrap gives the cause.
func (e *TornError) Unwrap() error { return e.Cause }

// ended explains why no frame stands at the scanner.
func (s *SegmentFile) ended(err error) error {
	pos := s.scan.pos
	var bad *frame.DecodeError
	switch {
	case s.footer != nil && errors.Is(err, errEnd):
		return io.EOF
	case s.footer != nil && (errors.Is(err, frame.ErrNoFrame) || errors.Is(err, frame.ErrFooter)):
		return corruption(s.at.path, pos, "frame", fmt.Sprintf("one: the footer begins at %d", s.seal), err.Error())
	case s.footer != nil:
		return corrupt(s.at.path, pos, err)
	case !errors.Is(err, errEnd) && !errors.Is(err, frame.ErrNoFrame) && !errors.Is(err, frame.ErrFooter) && !errors.As(err, &bad):
		return corrupt(s.at.path, pos, err)
	}
	x := s.scan.prev.Pos.LSN + 1
	witness, written, scanErr := scanBehind(&s.at, pos, x, s.dec)
	switch {
	case scanErr != nil:
		return scanErr
	case witness != 0:
		return corruption(s.at.path, pos, fmt.Sprintf("frame of LSN %d", x),
			fmt.Sprintf("a good frame: LSN %d behind it was written after it was durable", witness), err.Error())
	case written:
		return &TornError{Path: s.at.path, Offset: pos, Cause: err}
	}
	return io.EOF
}

// CheckSeal holds the footer against all frames read: it must be, byte for
// byte, the one they lead to, SHA-256 of the file included. It is called after
// Next has returned io.EOF, and does nothing in a segment without a seal.
func (s *SegmentFile) CheckSeal() error {
	if s.footer == nil {
		return nil
	}
	got := make([]byte, s.at.size-s.seal)
	if err := readFull(s.at.file, got, s.seal); err != nil {
		return fmt.Errorf("read the footer of %s: %w", s.at.path, err)
	}
	want := s.seen.footer.Append(nil, s.at.header.Seed, uint64(s.seal), s.seen.sum)
	if bytes.Equal(got, want) {
		// Append has fed the sum up to the footer's own SHA-256.
		s.seen.sum.Write(want[len(want)-frame.HashSize-frame.TrailerSize:])
		s.seen.sum.Sum(s.whole[:0])
		return nil
	}
	computed, err := frame.DecodeFooter(want, s.at.header.Seed, uint64(s.seal))
	if err != nil {
		return corrupt(s.at.path, s.seal, err)
	}
	return corruption(s.at.path, s.seal, "footer", sumUp(computed), sumUp(s.footer))
}

func sumUp(f *frame.Footer) string {
	return fmt.Sprintf("%d frames, %d operations, last LSN %d at %d, %d index entries, digest %s, SHA-256 %x",
		f.Frames, f.Ops, f.Last, f.Timestamp, len(f.Index), f.Digest, f.SHA256)
}

// SegmentReport is what a verification read.
type SegmentReport struct {
	Path   string
	Header frame.SegmentHeader
	Sealed bool
	// Frames and Ops count what is in the file; Tail is the state after it.
	Frames, Ops uint64
	Tail        Tail
	// Bytes is the length of header and frames.
	Bytes int64
	// SHA256 is the one in the footer of a sealed segment, over all before it, and
	// FileSHA256 that of the whole file, once its seal was checked.
	SHA256, FileSHA256 [frame.HashSize]byte
	// Torn is set if an unsealed segment ends in bytes that are no frame.
	Torn *TornError
}

// VerifySegment reads the whole segment file at path and checks everything
// that can be checked without the files around it: each frame, that no key
// occurs twice in a frame, and the footer with its SHA-256.
func VerifySegment(fs vfs.FS, path string) (r SegmentReport, err error) {
	return verifySegment(fs, path, func(*frame.Frame) error { return nil })
}

// verifySegment hands every good frame to visit, whose error ends it.
func verifySegment(fs vfs.FS, path string, visit func(*frame.Frame) error) (r SegmentReport, err error) {
	s, err := OpenSegment(fs, path)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	err = s.verifyFrames(visit)
	r = s.Report()
	if errors.As(err, &r.Torn) {
		err = nil
	}
	if err == nil {
		err = s.CheckSeal()
		r.FileSHA256 = s.whole
	}
	return r, err
}

func (s *SegmentFile) verifyFrames(visit func(*frame.Frame) error) error {
	for {
		f, _, err := s.Next()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := s.CheckKeys(); err != nil {
			return err
		}
		if err := visit(f); err != nil {
			return err
		}
	}
}

// CheckKeys reports whether the frame last returned by Next touches a key more
// than once.
func (s *SegmentFile) CheckKeys() error {
	at := s.scan.pos - int64(s.f.Stored)
	encoded, err := frame.OpsOf(s.f.Kind, s.f.Body)
	if err != nil {
		return corrupt(s.at.path, at, err)
	}
	ops, err := frame.DecodeOps(encoded)
	if err != nil {
		return corrupt(s.at.path, at, err)
	}
	if err := frame.CheckKeys(ops); err != nil {
		return corrupt(s.at.path, at, err)
	}
	return nil
}

// Report sums up what has been read so far.
func (s *SegmentFile) Report() SegmentReport {
	r := SegmentReport{
		Path: s.at.path, Header: s.at.header, Sealed: s.footer != nil, Frames: s.seen.footer.Frames,
		Ops: s.seen.footer.Ops, Tail: s.scan.prev, Bytes: s.seen.end,
	}
	if s.footer != nil {
		r.SHA256 = s.footer.SHA256
	}
	return r
}

// Follows reports whether r continues the log of prev: same instance, next
// LSN, same chain, digest and stamp, and prev sealed.
func (r *SegmentReport) Follows(prev *SegmentReport) error {
	if !prev.Sealed {
		return corruption(prev.Path, prev.Bytes, "seal", "a footer: a later segment exists", "none")
	}
	return checkSegment(r.Path, r.Header.First, &r.Header, prev.Header.Instance, &prev.Tail)
}
