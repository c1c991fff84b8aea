package archive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/wal"
)

var errNotInLog = errors.New("it is not in the log any more")

// tailer cuts the durable bytes of the open segment into parts.
type tailer struct {
	s *Shipper
	// next is the first frame of the next part, prev the state before it, which is
	// known while r stands there.
	next lsn.LSN
	prev wal.Tail
	r    *wal.Reader
	// segments lists those of the log.
	segments func() []wal.SegmentInfo
	// enc and raw are used for one part after the other.
	enc *zstd.Encoder
	raw []byte
}

// part is a run of frames, ready to be uploaded.
type part struct {
	key   PartKey
	body  object.Body
	chain lsn.Chain
	stamp int64
}

// shipTail uploads what is new every window, several parts at a time: a slow upload
// does not hold up the next window's, and only what is contiguous counts.
func (s *Shipper) shipTail(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		_, all := s.progress.reached()
		t := &tailer{s: s, next: all.to + 1, segments: s.deps.Log.Segments}
		if t.enc, err = newEncoder(); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, t.reopen()) }()
		slots := make(chan struct{}, partsInFlight)
		window := time.NewTicker(s.cfg.TailWindow)
		defer window.Stop()
		for {
			for !s.paused.Load() && len(slots) < cap(slots) {
				var p *part
				err := s.local(ctx, &s.tail, maxPartBytes, func() (err error) {
					p, err = t.cut()
					return err
				})
				if err != nil {
					return err
				}
				if p == nil {
					break
				}
				slots <- struct{}{}
				g.Go(func() error {
					defer func() { <-slots }()
					return s.shipPart(ctx, p)
				})
			}
			select {
			case <-window.C:
			case <-s.hurry:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
	})
	return g.Wait()
}

func (s *Shipper) shipPart(ctx context.Context, p *part) error {
	err := s.retry(ctx, &s.tail, p.body.Size, func(ctx context.Context) error {
		if s.ShippedLSN() >= p.key.To {
			return errMoot // its segment is there
		}
		return s.put(ctx, p.key, p.body, kindTail, func(ctx context.Context) error { return s.samePart(ctx, p.key, p.chain) })
	})
	switch {
	case errors.Is(err, errMoot):
		return nil
	case err != nil:
		return fmt.Errorf("ship %s: %w", p.key, err)
	}
	s.partFacts.add(p.key, Facts{Stamp: p.stamp})
	s.progress.addPart(span{p.key.From, p.key.To, p.stamp})
	return nil
}

// cut makes the next part of what is durable; nil if nothing is new, or what is new
// is better left to its segment.
func (t *tailer) cut() (*part, error) {
	// In this order: what is missing from the list by then was shipped by then.
	segments := t.segments()
	if shipped := t.s.ShippedLSN(); shipped >= t.next {
		if err := t.skip(shipped + 1); err != nil {
			return nil, err
		}
	}
	for _, info := range segments {
		to := min(info.Last, t.s.deps.Log.Durable())
		if to < t.next {
			continue
		}
		if info.First > t.next {
			return nil, fmt.Errorf("the log begins at LSN %d, and LSN %d was not shipped: %w", info.First, t.next, errNotInLog)
		}
		if info.Sealed && t.leave(info) {
			if err := t.skip(info.Last + 1); err != nil {
				return nil, err
			}
			continue
		}
		from := t.next
		p, err := t.read(info, to)
		if err != nil {
			// Of a part that was read half nothing was shipped.
			t.next, err = from, errors.Join(err, t.reopen())
		}
		if errors.Is(err, wal.ErrRemoved) {
			return nil, nil // shipped and let go meanwhile: the next call skips it
		}
		return p, err
	}
	return nil, nil
}

// leave reports a sealed segment whose own upload is the shorter way: one that was
// sealed before a part of it was cut, or of which more than a part is left.
func (t *tailer) leave(info wal.SegmentInfo) bool {
	if t.next == info.First {
		return true
	}
	left := info.Bytes / int64(info.Last-info.First+1) * int64(info.Last-t.next+1)
	return left > maxPartBytes
}

// skip goes on at another frame.
func (t *tailer) skip(to lsn.LSN) error {
	if to == t.next {
		return nil
	}
	t.next = to
	return t.reopen()
}

// reopen lets go of the reader: the next one begins where next says.
func (t *tailer) reopen() error {
	if t.r == nil {
		return nil
	}
	err := t.r.Close()
	t.r = nil
	return err
}

// read makes a part of the frames from next up to LSN to, which stand in one segment,
// or of as many as a part may hold.
func (t *tailer) read(info wal.SegmentInfo, to lsn.LSN) (*part, error) {
	if t.r == nil {
		r, err := t.s.deps.Log.NewReader(info.First)
		if errors.Is(err, wal.ErrRemoved) {
			return nil, nil // shipped and let go meanwhile: the next call skips it
		} else if err != nil {
			return nil, err
		}
		t.r = r
	}
	p := &part{key: PartKey{Epoch: info.Epoch, Segment: info.First, From: t.next}}
	b := t.raw[:0]
	for t.next <= to && len(b) < maxPartBytes {
		f, err := t.r.Next()
		if err != nil {
			return nil, fmt.Errorf("read LSN %d for the tail: %w", t.next, err)
		}
		h := t.r.Header()
		if f.LSN == h.First {
			t.prev = wal.Tail{Pos: lsn.Pos{LSN: h.First - 1}, Chain: h.PrevChain, Digest: h.PrevDigest, Timestamp: h.PrevTimestamp}
		}
		if f.LSN >= t.next {
			if len(b) == 0 {
				b = t.begin(b, &h)
			}
			at := len(b)
			b = append(b, t.r.Raw()...)
			frame.Relocate(b[at:], h.Seed, uint64(at))
			t.next, p.stamp, p.chain = f.LSN+1, f.Timestamp, f.Chain
		}
		t.prev = wal.Tail{Pos: lsn.Pos{Epoch: f.Epoch, LSN: f.LSN}, Chain: f.Chain, Digest: f.Digest, Timestamp: f.Timestamp}
	}
	p.key.To, t.raw = t.next-1, b
	if cap(b) > 2*maxPartBytes {
		t.raw = nil // a single large frame is no measure for the next part
	}
	return p, p.compress(t.enc, b)
}

// begin is the header of a part: that of a segment which begins with its first
// frame, so that a part can be verified without the ones before it.
func (t *tailer) begin(dst []byte, h *frame.SegmentHeader) []byte {
	own := *h
	own.First, own.PrevChain, own.PrevDigest, own.PrevTimestamp = t.next, t.prev.Chain, t.prev.Digest, t.prev.Timestamp
	return own.Append(dst)
}

// compress makes the body of the part; enc is used by nobody else meanwhile.
func (p *part) compress(enc *zstd.Encoder, raw []byte) error {
	var out bytes.Buffer
	out.Grow(len(raw)/2 + len(raw)/8) // frames are halved, and hardly ever less
	enc.ResetContentSize(&out, int64(len(raw)))
	if _, err := enc.Write(raw); err != nil {
		return err
	}
	if err := enc.Close(); err != nil {
		return err
	}
	p.body = object.Bytes(out.Bytes())
	return nil
}
