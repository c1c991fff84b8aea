package archive

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"originchain/shared/fault"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/wal"
)

// shipSegments uploads sealed segments in the order of the log, several at a time.
func (s *Shipper) shipSegments(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		slots := make(chan struct{}, segmentsInFlight)
		next := s.ShippedLSN() + 1
		var prev *wal.SegmentReport
		for {
			for _, info := range s.deps.Log.Segments() {
				if !info.Sealed || info.Last < next {
					continue
				}
				if done, err := s.skipSegment(info); err != nil {
					return err
				} else if !done {
					var r *wal.SegmentReport
					err := s.local(ctx, &s.segments, info.Bytes, func() (err error) {
						r, err = s.verifySegment(info, prev)
						return err
					})
					if err != nil {
						return err
					}
					prev = r
					select {
					case slots <- struct{}{}:
					case <-ctx.Done():
						return context.Cause(ctx)
					}
					g.Go(func() error {
						defer func() { <-slots }()
						return s.shipSegment(ctx, info, r)
					})
				}
				next = info.Last + 1
			}
			select {
			case <-s.news:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
	return g.Wait()
}

// skipSegment reports a segment that the archive has had since the shipper began.
func (s *Shipper) skipSegment(info wal.SegmentInfo) (bool, error) {
	if s.listed[SegmentKey{Epoch: info.Epoch, First: info.First, Last: info.Last}] {
		s.progress.addSegment(span{info.First, info.Last, info.LastTimestamp})
		return true, nil
	}
	return info.Last <= s.ShippedLSN(), nil
}

// verifySegment reads the whole file and checks every frame, the seal with its
// SHA-256, and that it continues the one before. What is wrong here must not become
// the copy that all is restored from.
func (s *Shipper) verifySegment(info wal.SegmentInfo, prev *wal.SegmentReport) (*wal.SegmentReport, error) {
	r, err := wal.VerifySegment(s.deps.FS, info.Path)
	if err != nil {
		return nil, fmt.Errorf("verify a segment before it is shipped: %w", err)
	}
	if !r.Sealed || r.Header.Instance != s.cfg.Instance || r.Header.Epoch != info.Epoch || r.Header.First != info.First || r.Tail.Pos.LSN != info.Last {
		return nil, fmt.Errorf("verify a segment before it is shipped: %s is not the sealed segment of LSN %d to %d in epoch %d that the log says it is: %w", info.Path, info.First, info.Last, info.Epoch, errOther)
	}
	if prev != nil && prev.Tail.Pos.LSN+1 == r.Header.First {
		if err := r.Follows(prev); err != nil {
			return nil, fmt.Errorf("verify a segment before it is shipped: %w", err)
		}
	}
	return &r, nil
}

func (s *Shipper) shipSegment(ctx context.Context, info wal.SegmentInfo, r *wal.SegmentReport) error {
	k := SegmentKey{Epoch: info.Epoch, First: info.First, Last: info.Last}
	var body object.Body
	var release func()
	err := s.local(ctx, &s.segments, info.Bytes, func() (err error) {
		body, release, err = s.compressSegment(info, r)
		return err
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", info.Path, err)
	}
	defer release()
	err = s.retry(ctx, &s.segments, body.Size, func(ctx context.Context) error {
		// A segment holds frames that the archive may have as parts: of an unpurged node
		// not even the one that a purge overtakes is to get there.
		if err := s.purged(ctx); err != nil {
			return err
		}
		if err := s.put(ctx, k, body, kindSegment, func(ctx context.Context) error { return s.sameSegment(ctx, k, r.Tail.Chain) }); err != nil {
			return err
		}
		// It counts only if nobody had begun a higher epoch by then.
		return s.standing(ctx)
	})
	if err != nil {
		return fmt.Errorf("ship %s: %w", k, err)
	}
	s.segmentFacts.add(k, Facts{Stamp: info.LastTimestamp, SHA256: r.SHA256})
	s.progress.addSegment(span{info.First, info.Last, info.LastTimestamp})
	return nil
}

// compressSegment makes the body of a segment's object, and holds what comes out of it
// against the file that was verified: the disk may give other bytes the second time, and
// what is uploaded is what the local file may be removed for.
func (s *Shipper) compressSegment(info wal.SegmentInfo, verified *wal.SegmentReport) (object.Body, func(), error) {
	open := func() (io.ReadCloser, error) { return s.deps.FS.Open(info.Path) }
	return compressed(open, info.Bytes, s.keep, func(r io.ReadCloser) (err error) {
		raw, err := expand(r)
		if err != nil {
			return errors.Join(err, r.Close())
		}
		defer func() { err = errors.Join(err, raw.Close()) }()
		sum := sha256.New()
		if _, err := io.Copy(sum, raw); err != nil {
			return err
		}
		if got := sum.Sum(nil); !bytes.Equal(got, verified.FileSHA256[:]) {
			return &fault.Corruption{
				File: info.Path, What: "SHA-256 of the segment", Want: fmt.Sprintf("%x, as it was verified a moment before", verified.FileSHA256), Got: hex.EncodeToString(got),
			}
		}
		return nil
	})
}

// local runs what reads this node's own log, again until the disk gives what was written.
// A read that is damaged may be damaged on its way, as by memory or a controller, and the
// next one may be good: it is told (/ready, the log, a metric that an alarm watches) for as
// long as it lasts, and ends with it. Nothing of the segment is uploaded by then, and it is
// kept. To end the shipping for good was refused: what a disk gave once would leave all
// later frames on this node alone. Frames that the log has no more come back by no read.
func (s *Shipper) local(ctx context.Context, t *trouble, size int64, do func() error) error {
	var gone error
	err := s.retry(ctx, t, size, func(context.Context) error {
		err := do()
		if errors.Is(err, errNotInLog) {
			gone, err = err, errGiveUp
		} else if damagedHere(err) {
			err = s.spoilt(err)
		}
		return err
	})
	return cmp.Or(gone, err)
}

// spoilt counts a read of this node's own log that gave other bytes than were written.
func (s *Shipper) spoilt(err error) error {
	s.deps.Metrics.spoilt()
	return &localError{err}
}

// damagedHere reports a read of a local file that did not give what was written.
func damagedHere(err error) bool {
	return errors.As(err, new(*fault.Corruption)) || errors.Is(err, errOther)
}

// localError says that a read of this node's own log gave other bytes than were written.
type localError struct{ err error }

// Error implements error.
func (e *localError) Error() string {
	return fmt.Sprintf("this node's own log cannot be read as it was written: %v; nothing of it is shipped and the file is kept, and it is read again: if that lasts, hand the writer over to a node that has the frames", e.err)
}

// Unwrap gives the cause.
func (e *localError) Unwrap() error { return e.err }

// errGiveUp ends tries of what stays as it is.
var errGiveUp = errors.New("no try helps")

// errOther says that a file is not the one that it should be.
var errOther = errors.New("another file has its place")

// sameSegment reads the object whose name was taken. It is as good as ours if it is
// whole and ends with the same chain value, whoever created it.
func (s *Shipper) sameSegment(ctx context.Context, k SegmentKey, want lsn.Chain) error {
	f, err := s.a.OpenSegment(ctx, k, s.cfg.Instance)
	if err != nil {
		return err
	}
	return s.sameFrames(f, k, k.Epoch, want)
}

func (s *Shipper) samePart(ctx context.Context, k PartKey, want lsn.Chain) error {
	f, err := s.a.OpenPart(ctx, k, s.cfg.Instance)
	if err != nil {
		return err
	}
	return s.sameFrames(f, k, k.Epoch, want)
}

// lastChain reads to the end and closes: an object is judged only when all of it was good.
func lastChain(f *Frames) (_ lsn.Chain, err error) {
	defer func() { err = errors.Join(err, f.Close()) }()
	for {
		if _, err := f.Next(); errors.Is(err, io.EOF) {
			return f.Tail().Chain, nil
		} else if err != nil {
			return lsn.Chain{}, err
		}
	}
}

// sameFrames compares. A chain value is a whole history: two that are equal at the end
// are equal throughout.
func (s *Shipper) sameFrames(f *Frames, k Key, epoch lsn.Epoch, want lsn.Chain) error {
	got, err := lastChain(f)
	switch {
	case err != nil || got == want:
		return err
	case epoch == s.cfg.Epoch:
		return &FencedError{Own: epoch, Epoch: epoch, Key: k.String()}
	}
	return &ConflictError{Store: s.a.store.String(), Key: k.String(), Want: "chain " + want.String(), Got: got.String()}
}
