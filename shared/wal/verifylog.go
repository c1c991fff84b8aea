package wal

import (
	"errors"
	"fmt"

	"originchain/shared/fault"
	"originchain/shared/frame"
	"originchain/shared/lsn"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// LogReport is what a verification of a log read.
type LogReport struct {
	// Segments are those that could be read, oldest first; of a damaged one, what
	// stands before the damage.
	Segments []SegmentReport
	// Mark is the LSN that the durable mark vouches for.
	Mark lsn.LSN
	// Faults are what is wrong: each is a *fault.Corruption or a *ForeignError,
	// one for a segment at most, since behind a bad frame nothing can be told
	// from garbage.
	Faults []error
}

// VerifyLog reads all segments in dir and checks each by itself, against its
// name and instance, against the one before it, and the last one against the
// durable mark. It changes nothing. Every good frame is handed to visit, valid
// during the call; an error of visit ends the verification.
//
// An error is what kept a part from being verified: a disk that cannot be read,
// a segment of a newer format. What the rest has to say is in the report.
func VerifyLog(fs vfs.FS, dir string, instance [16]byte, visit func(*frame.Frame) error) (r LogReport, err error) {
	names, err := fs.List(dir)
	if err != nil {
		return r, fmt.Errorf("list %s: %w", dir, err)
	}
	firsts := segmentsIn(names)
	unverified := r.note(r.readMark(fs, dir, instance, len(firsts) == 0))
	var stopped error
	watched := func(f *frame.Frame) error {
		stopped = visit(f)
		return stopped
	}
	var prev *SegmentReport // nil where the segment before says nothing about the next
	for _, first := range firsts {
		one, err := verifySegment(fs, fs.PathJoin(dir, segmentName(first)), watched)
		if stopped != nil {
			return r, stopped
		}
		if err == nil {
			err = checkSegment(one.Path, first, &one.Header, instance, nil)
		}
		before := prev
		if prev = &one; err != nil {
			prev = nil
		} else if before != nil {
			err = one.Follows(before)
		}
		if one.Path != "" {
			r.Segments = append(r.Segments, one)
		}
		unverified = errors.Join(unverified, r.note(err))
	}
	if prev != nil {
		unverified = errors.Join(unverified, r.note(prev.Reaches(r.Mark)))
	}
	return r, unverified
}

// note adds err to the faults if it is one, and gives it back if not.
func (r *LogReport) note(err error) error {
	var damaged *fault.Corruption
	var foreign *ForeignError
	if errors.As(err, &damaged) || errors.As(err, &foreign) {
		r.Faults = append(r.Faults, err)
		return nil
	}
	return err
}

// readMark reads the durable mark; a log without a segment must not have one
// that vouches for a frame.
func (r *LogReport) readMark(fs vfs.FS, dir string, instance [16]byte, empty bool) error {
	path := fs.PathJoin(dir, markName)
	v, err := readMarkFile(fs, path)
	switch {
	case err != nil:
		return err
	case v.valid && v.instance != instance:
		return &ForeignError{path, v.instance, instance}
	}
	if r.Mark = v.durable; empty && r.Mark > 0 {
		return corruption(dir, 0, "last LSN of the log", fmt.Sprintf("%d or later, which was durable", r.Mark), "no segment")
	}
	return nil
}

// Reaches holds the newest segment of a log against the durable mark.
func (r *SegmentReport) Reaches(mark lsn.LSN) error {
	if r.Tail.Pos.LSN >= mark {
		return nil
	}
	return corruption(r.Path, r.Bytes, "last LSN of the log", fmt.Sprintf("%d or later, which was durable", mark), fmt.Sprint(r.Tail.Pos.LSN))
}
