package wal

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"originchain/shared/frame"
	"originchain/shared/lsn"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Reader reads the durable frames of a Log in order and verifies each: CRC,
// LSN, epoch, stamp, chain, digest. It is used by one goroutine; any number of
// readers may run beside the appender.
type Reader struct {
	log  *Log
	dec  *frame.Decoder
	from lsn.LSN
	// durable is what the log's Durable was when last asked.
	durable lsn.LSN
	// prev is the state after the last frame of the segment before; nil before the first.
	prev *Tail
	file vfs.File
	scan *scanner
	f    frame.Frame
}

// removed is the error of a reader whose next frame is LSN at.
func (l *Log) removed(at lsn.LSN) error {
	return fmt.Errorf("read from LSN %d: the log begins at %d: %w", at, l.FirstLSN(), ErrRemoved)
}

// NewReader returns a Reader whose first frame is LSN from, which may be the
// one after the last. ErrRemoved says that the log begins above it.
//
// A reader starts at the segment that holds from, because the chain can only
// be verified from a segment's header on: the first frame costs up to one
// segment's read.
func (l *Log) NewReader(from lsn.LSN) (*Reader, error) {
	if from == 0 {
		return nil, errors.New("read from LSN 0: the first frame is LSN 1")
	}
	if tail := l.Tail().Pos.LSN; from > tail+1 {
		return nil, fmt.Errorf("read from LSN %d: the log ends at %d", from, tail)
	}
	if from < l.FirstLSN() {
		return nil, l.removed(from)
	}
	dec, err := frame.NewDecoder()
	if err != nil {
		return nil, err
	}
	return &Reader{log: l, dec: dec, from: from}, nil
}

// Next returns the next frame; it and its Body are valid until the following
// call. io.EOF means that all durable frames have been read: when Durable has
// advanced, Next goes on from there. A damaged frame is a *fault.Corruption.
func (r *Reader) Next() (*frame.Frame, error) {
	for {
		if err := r.position(); err != nil {
			return nil, err
		}
		if err := r.scan.next(&r.f); err != nil {
			return nil, r.scan.explain(err)
		}
		if r.f.LSN >= r.from {
			return &r.f, nil
		}
	}
}

// Header is that of the segment that holds the frame Next returned last.
func (r *Reader) Header() frame.SegmentHeader { return r.scan.header }

// Raw is the frame that Next returned last as it is stored, padding included;
// valid until the following call.
func (r *Reader) Raw() []byte { return r.scan.raw(r.f.Stored) }

// Close frees the reader.
func (r *Reader) Close() error {
	r.dec.Close()
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}

// position makes sure that a durable frame stands at the scanner.
func (r *Reader) position() error {
	next := r.from
	if r.scan != nil {
		next = r.scan.prev.Pos.LSN + 1
	}
	if r.scan != nil && next <= r.durable && r.scan.pos < r.scan.end {
		return nil
	}
	s, durable, ok := r.log.locate(next)
	if next > durable {
		return io.EOF
	}
	if !ok {
		return r.log.removed(next)
	}
	r.durable = durable
	if r.scan == nil || r.scan.path != s.path {
		if err := r.enter(s); err != nil {
			return err
		}
	}
	r.scan.end = s.end
	return nil
}

// locate finds the segment that holds or will hold LSN at, and the durable LSN.
func (l *Log) locate(at lsn.LSN) (segment, lsn.LSN, bool) {
	l.view.Lock()
	defer l.view.Unlock()
	for i := len(l.segments) - 1; i >= 0; i-- {
		if s := l.segments[i]; s.header.First <= at {
			return s, l.durable, true
		}
	}
	return segment{}, l.durable, false
}

// enter opens a segment and holds its header, as it stands on disk, against
// the frames read so far.
func (r *Reader) enter(s segment) error {
	if r.scan != nil {
		r.prev = &r.scan.prev
	}
	f, err := r.log.opts.FS.Open(s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read from %s: %w", s.path, ErrRemoved)
	} else if err != nil {
		return fmt.Errorf("open %s: %w", s.path, err)
	}
	if r.file != nil {
		if err := r.file.Close(); err != nil {
			return errors.Join(fmt.Errorf("close %s: %w", r.scan.path, err), f.Close())
		}
	}
	r.file = f
	header, err := readHeader(f)
	if err != nil {
		return corrupt(s.path, 0, err)
	}
	if err := checkSegment(s.path, s.header.First, &header, r.log.opts.Instance, r.prev); err != nil {
		return err
	}
	if header != s.header {
		return corruption(s.path, 0, "segment header", "the one the log was opened with", "another")
	}
	scan := newScanner(f, s.path, header, r.dec, s.end)
	if r.scan != nil {
		scan.buf = r.scan.buf[:0]
	}
	r.scan = scan
	return nil
}
