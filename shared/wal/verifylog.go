package wal

import (
	"fmt"

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
	// Faults are what is wrong, one for a segment at most: behind a bad frame
	// nothing can be told from garbage.
	Faults []error
}

// VerifyLog reads all segments in dir and checks each by itself, against its
// name and instance, against the one before it, and the last one against the
// durable mark. It changes nothing. Every good frame is handed to visit, valid
// during the call; an error of visit ends the verification.
func VerifyLog(fs vfs.FS, dir string, instance [16]byte, visit func(*frame.Frame) error) (r LogReport, err error) {
	if r.Mark, err = ReadMark(fs, dir); err != nil {
		return r, err
	}
	names, err := fs.List(dir)
	if err != nil {
		return r, fmt.Errorf("list %s: %w", dir, err)
	}
	var stopped error
	watched := func(f *frame.Frame) error {
		stopped = visit(f)
		return stopped
	}
	var prev *SegmentReport
	for _, first := range segmentsIn(names) {
		path := fs.PathJoin(dir, segmentName(first))
		one, err := verifySegment(fs, path, watched)
		if stopped != nil {
			return r, stopped
		}
		if err == nil {
			err = one.joins(first, instance, prev)
		}
		if one.Path != "" {
			r.Segments = append(r.Segments, one)
		}
		if prev = &one; err != nil {
			r.Faults = append(r.Faults, err)
			prev = nil // what follows cannot be held against it
		}
	}
	switch {
	case prev != nil:
		if err := prev.Reaches(r.Mark); err != nil {
			r.Faults = append(r.Faults, err)
		}
	case len(r.Faults) == 0 && r.Mark > 0:
		r.Faults = append(r.Faults, corruption(dir, 0, "last LSN of the log", fmt.Sprintf("%d or later, which was durable", r.Mark), "no segment"))
	}
	return r, nil
}

// joins holds a segment against its name, the instance and the one before it.
func (r *SegmentReport) joins(first lsn.LSN, instance [16]byte, prev *SegmentReport) error {
	if prev != nil {
		if err := r.Follows(prev); err != nil {
			return err
		}
	}
	return checkSegment(r.Path, first, &r.Header, instance, nil)
}

// Reaches holds the newest segment of a log against the durable mark.
func (r *SegmentReport) Reaches(mark lsn.LSN) error {
	if r.Tail.Pos.LSN >= mark {
		return nil
	}
	return corruption(r.Path, r.Bytes, "last LSN of the log", fmt.Sprintf("%d or later, which was durable", mark), fmt.Sprint(r.Tail.Pos.LSN))
}
