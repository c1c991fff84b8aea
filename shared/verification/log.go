package verification

import (
	"fmt"

	"originchain/shared/frame"
	"originchain/shared/wal"
)

// verifyLog checks every segment, and keeps what the frame that the state stands
// at says of it. It reports whether the log is sound.
func (r *run) verifyLog() (sound bool, err error) {
	total, err := r.logBytes()
	if err != nil {
		return false, err
	}
	advance, end := r.opts.Begin("log", "bytes", total)
	defer end()
	found, err := wal.VerifyLog(r.opts.FS, r.dir.Log(), [16]byte(r.dir.Identity().InstanceID), func(f *frame.Frame) error {
		advance(int64(f.Stored))
		if f.LSN == r.at.Pos.LSN {
			r.history.chain, r.history.digest, r.history.known = f.Chain, f.Digest, true
		}
		return r.ended()
	})
	for _, f := range found.Faults {
		r.fault(Fault{Check: CheckLog, Problem: f.Error(), Do: doRestore})
	}
	r.sumUpLog(found.Segments)
	return err == nil && len(found.Faults) == 0, err
}

// logBytes is the length of all segments.
func (r *run) logBytes() (total int64, err error) {
	paths, err := wal.SegmentPaths(r.opts.FS, r.dir.Log())
	if err != nil {
		return 0, err
	}
	for _, path := range paths {
		info, err := r.opts.FS.Stat(path)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", path, err)
		}
		total += info.Size()
	}
	return total, nil
}

// sumUpBase takes a log without a segment for what a restored copy goes on from.
func (r *run) sumUpBase() {
	if r.base == nil {
		return
	}
	l, b := &r.report.Log, &r.base.Base
	l.FirstLSN, l.LastLSN, l.LastEpoch, l.Digest = b.LSN+1, b.LSN, b.Epoch, b.Digest.String()
	if r.at.Pos.LSN == b.LSN {
		r.history.chain, r.history.digest, r.history.known = b.Chain, b.Digest, true
	}
}

func (r *run) sumUpLog(segments []wal.SegmentReport) {
	l := &r.report.Log
	l.Segments = len(segments)
	for i := range segments {
		s := &segments[i]
		l.Frames += s.Frames
		l.Operations += s.Ops
		l.Bytes += s.Bytes
		if s.Torn != nil {
			l.TornTail = s.Torn.Error()
		}
	}
	if len(segments) == 0 {
		r.sumUpBase()
		return
	}
	oldest, newest := &segments[0], &segments[len(segments)-1]
	l.FirstLSN, l.LastLSN = oldest.Header.First, newest.Tail.Pos.LSN
	l.LastEpoch, l.Digest = newest.Tail.Pos.Epoch, newest.Tail.Digest.String()
	if r.at.Pos.LSN+1 == l.FirstLSN { // the frame is gone; the header of the next one knows it
		r.history.chain, r.history.digest, r.history.known = oldest.Header.PrevChain, oldest.Header.PrevDigest, true
	}
}
