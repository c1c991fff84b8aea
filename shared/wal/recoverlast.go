package wal

import (
	"encoding/binary"
	"errors"
	"fmt"

	"originchain/shared/frame"
	"originchain/shared/lsn"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"
)

// verdict says what the newest segment turned out to be.
type verdict int

const (
	// verdictSealed: whole and ended; nothing is kept open.
	verdictSealed verdict = iota
	// verdictOpen: it has frames and no seal; its file stays open to be sealed.
	verdictOpen
	// verdictEmpty: it holds no frame, so the next opening of an epoch replaces it.
	verdictEmpty
)

// lastSegment is the newest segment while it is being judged.
type lastSegment struct {
	path   string
	first  lsn.LSN
	file   vfs.File
	size   int64
	header frame.SegmentHeader
}

// recoverLast loads the newest segment. A sealed one is like the others.
// Otherwise its frames are scanned, and what follows the last good one is
// untouched space, a torn tail, or corruption.
func (l *Log) recoverLast(first lsn.LSN, mark markValue) error {
	s := lastSegment{path: l.path(segmentName(first)), first: first}
	if err := l.openLast(&s); err != nil {
		return err
	}
	v, err := l.judge(&s, mark)
	if err == nil && v == verdictOpen && !l.opts.ReadOnly {
		return nil // l.active owns the file now
	}
	if err := errors.Join(err, s.file.Close()); err != nil {
		l.active = nil
		return err
	}
	if v != verdictEmpty || l.opts.ReadOnly {
		return nil
	}
	l.opts.Log.WithFields(logrus.Fields{"path": s.path, "first_lsn": uint64(first)}).
		Warn("removing a log segment that holds no whole frame")
	if err := l.opts.FS.Remove(s.path); err != nil {
		return fmt.Errorf("remove %s: %w", s.path, err)
	}
	return syncDir(l.opts.FS, l.opts.Dir)
}

func (l *Log) openLast(s *lastSegment) (err error) {
	if l.opts.ReadOnly {
		s.file, err = l.opts.FS.Open(s.path)
	} else {
		s.file, err = openFile(l.opts.FS, s.path)
	}
	if err != nil {
		return fmt.Errorf("open %s: %w", s.path, err)
	}
	info, err := s.file.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("stat %s: %w", s.path, err), s.file.Close())
	}
	s.size = info.Size()
	return nil
}

// judge decides what the segment is, and loads it unless it is empty.
func (l *Log) judge(s *lastSegment, mark markValue) (verdict, error) {
	var bad *frame.DecodeError
	var err error
	if s.header, err = readHeader(s.file); errors.As(err, &bad) {
		return verdictEmpty, l.judgeHeaderless(s, mark, err)
	} else if err != nil {
		return 0, corrupt(s.path, 0, err)
	}
	if err := checkSegment(s.path, s.first, &s.header, l.opts.Instance, l.previous()); err != nil {
		return 0, err
	}
	footer, at, err := readFooter(s.file, &s.header, s.size)
	if err == nil {
		l.adopt(segment{path: s.path, header: s.header, last: tailOf(&s.header, footer), end: at, bytes: s.size, sealed: true})
		return verdictSealed, nil
	}
	if !errors.As(err, &bad) {
		return 0, fmt.Errorf("read the footer of %s: %w", s.path, err)
	}
	return l.judgeUnsealed(s, mark)
}

// judgeHeaderless accepts a file without a header only if nothing was written
// behind it: a header is durable before its file gets this name, so a bad one
// in front of frames was damaged later, and they cannot be verified without it.
func (l *Log) judgeHeaderless(s *lastSegment, mark markValue, cause error) error {
	if l.tail.Pos.LSN < mark.durable {
		return corrupt(s.path, 0, cause)
	}
	_, written, err := scanBehind(s, frame.SegmentHeaderSize, 0, nil)
	if err == nil && written {
		err = corrupt(s.path, 0, cause)
	}
	return err
}

// judgeUnsealed scans the frames, cuts a torn tail, and leaves the segment
// open at its last frame.
func (l *Log) judgeUnsealed(s *lastSegment, mark markValue) (verdict, error) {
	dec, err := frame.NewDecoder()
	if err != nil {
		return 0, err
	}
	defer dec.Close()
	a := startActive(s.path, nil, s.header)
	sc := newScanner(s.file, s.path, s.header, dec, s.size)
	sc.sum = a.sum
	stop, err := scanFrames(sc, a)
	if err != nil {
		return 0, err
	}
	torn, err := l.judgeTail(s, sc, stop, mark)
	if err != nil {
		return 0, err
	}
	if a.footer.Frames == 0 {
		return verdictEmpty, nil
	}
	if torn && !l.opts.ReadOnly {
		if err := l.cut(s, a.end, stop); err != nil {
			return 0, err
		}
	}
	l.adopt(segment{path: s.path, header: s.header, last: sc.prev, end: a.end, bytes: a.end})
	if f, ok := s.file.(file); ok && !l.opts.ReadOnly {
		a.file, l.active = f, a
	}
	return verdictOpen, nil
}

// scanFrames reads every good frame into a and returns why it stopped. An
// error is one that no torn write explains.
func scanFrames(sc *scanner, a *activeSegment) (stop, err error) {
	var f frame.Frame
	for {
		err := sc.next(&f)
		var bad *frame.DecodeError
		switch {
		case errors.Is(err, errEnd), errors.Is(err, frame.ErrNoFrame), errors.Is(err, frame.ErrFooter), errors.As(err, &bad):
			return err, nil
		case err != nil:
			return nil, corrupt(sc.path, sc.pos, err)
		}
		ops, err := f.Ops()
		if err != nil {
			return nil, corrupt(sc.path, sc.pos, err)
		}
		a.note(&f.Header, f.Chain, ops.Len(), f.Stored)
	}
}

// judgeTail decides about the place where the scan stopped. It was once
// durable, and so is corrupt now, if the durable mark says so, or if a good
// frame behind it says so and this node wrote it as writer (a follower has
// frames whose synced LSN speaks of another disk). Otherwise it is a torn
// tail; the result tells whether anything stands there at all.
func (l *Log) judgeTail(s *lastSegment, sc *scanner, stop error, mark markValue) (torn bool, err error) {
	x := sc.prev.Pos.LSN + 1
	if x <= mark.durable {
		return false, corruption(s.path, sc.pos, fmt.Sprintf("frame of LSN %d", x),
			fmt.Sprintf("a good frame: the log was durable up to LSN %d", mark.durable), stop.Error())
	}
	witness, torn, err := scanBehind(s, sc.pos, x, sc.dec)
	if err != nil {
		return false, err
	}
	if ours := !mark.valid || mark.writer == s.header.Epoch; witness != 0 && ours {
		return false, corruption(s.path, sc.pos, fmt.Sprintf("frame of LSN %d", x),
			fmt.Sprintf("a good frame: LSN %d behind it was written after it was durable", witness), stop.Error())
	}
	return torn, nil
}

// scanBehind looks at everything from offset from to the end of the file. It
// reports whether any byte there is set, and the LSN of the first good frame
// whose synced LSN is x or above. Without a decoder it looks for bytes alone.
func scanBehind(s *lastSegment, from int64, x lsn.LSN, dec *frame.Decoder) (witness lsn.LSN, written bool, err error) {
	buf := make([]byte, max(0, min(readAhead, s.size-from)))
	for at := from; at < s.size; {
		n := min(int64(len(buf)), s.size-at)
		if err := readFull(s.file, buf[:n], at); err != nil {
			return 0, false, fmt.Errorf("read %s at offset %d: %w", s.path, at, err)
		}
		whole := n - n%frame.Align
		for i := int64(0); i < whole; i += frame.Align {
			if binary.LittleEndian.Uint64(buf[i:]) == 0 {
				continue
			}
			written = true
			if dec == nil {
				return 0, true, nil
			}
			if w, err := witnessAt(s, at+i, x, dec); err != nil || w != 0 {
				return w, true, err
			}
		}
		for _, b := range buf[whole:n] {
			written = written || b != 0
		}
		at += n
	}
	return 0, written, nil
}

// witnessAt returns the LSN of a good frame at offset whose synced LSN is x or
// above, 0 if there is none. The cheap fields are looked at before the CRC, so
// that hostile bytes cannot make every offset cost a frame's worth of it.
func witnessAt(s *lastSegment, offset int64, x lsn.LSN, dec *frame.Decoder) (lsn.LSN, error) {
	var head [frame.HeaderSize]byte
	if offset+frame.HeaderSize > s.size {
		return 0, nil
	}
	if err := readFull(s.file, head[:], offset); err != nil {
		return 0, fmt.Errorf("read %s at offset %d: %w", s.path, offset, err)
	}
	size, err := frame.Peek(head[:])
	if err != nil || offset+int64(size) > s.size {
		return 0, nil
	}
	if at, synced := frame.PeekClaim(head[:]); synced < x || at <= synced {
		return 0, nil
	}
	raw := make([]byte, size)
	if err := readFull(s.file, raw, offset); err != nil {
		return 0, fmt.Errorf("read %s at offset %d: %w", s.path, offset, err)
	}
	var f frame.Frame
	if _, err := dec.Decode(&f, raw, s.header.Seed, uint64(offset)); err != nil {
		return 0, nil
	}
	return f.LSN, nil
}

// cut ends the file behind its last good frame. Truncation is the zeroing: no
// torn byte can come back, whatever is written behind it later.
func (l *Log) cut(s *lastSegment, end int64, cause error) error {
	l.opts.Log.WithFields(logrus.Fields{
		"path": s.path, "offset": end, "bytes": s.size - end, "cause": cause.Error(),
	}).Warn("cutting a torn tail that was never durable")
	f, ok := s.file.(file)
	if !ok {
		return fmt.Errorf("cut %s: its file cannot be truncated", s.path)
	}
	if err := f.Truncate(end); err != nil {
		return fmt.Errorf("truncate %s to %d bytes: %w", s.path, end, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("fsync %s: %w", s.path, err)
	}
	return nil
}
