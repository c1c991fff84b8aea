package restore

import (
	"context"
	"errors"
	"fmt"
	"io"

	"originchain/shared/archive"
	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/table"
	"originchain/shared/wal"
)

// source gives the frames behind a state up to the target, out of one object of the
// archive after the other. Each frame was verified against the one before it by its
// reader; here the objects are held against each other. It implements recover.Source.
type source struct {
	ctx    context.Context //nolint:containedctx // recover.Source has no other way to end
	a      *archive.Archive
	p      *Plan
	pieces []archive.Piece // those that are left
	f      *archive.Frames // of pieces[0], nil between two
	// at is the state after the last frame that was given; before is the one before it.
	at, before wal.Tail
	tries      int
	// payloads are what purges have left of frames.
	payloads map[lsn.Pos]lsn.Chain
}

func newSource(ctx context.Context, a *archive.Archive, p *Plan, from table.Applied) *source {
	return &source{
		ctx: ctx, a: a, p: p, pieces: pieces(p.line, from.Pos.LSN+1, p.Target.LSN),
		at:       wal.Tail{Pos: from.Pos, Chain: from.Chain, Digest: from.Digest, Timestamp: from.Stamp},
		payloads: p.survey.Payloads(),
	}
}

// Next implements recover.Source.
func (s *source) Next() (*frame.Frame, error) {
	for {
		if s.at.Pos.LSN == s.p.Target.LSN {
			return nil, io.EOF
		}
		if err := s.ctx.Err(); err != nil {
			return nil, context.Cause(s.ctx)
		}
		f, err := s.next()
		if err == nil && f != nil {
			return f, nil
		}
		if err == nil {
			continue
		}
		// Read again from the store, past what was given already.
		s.tries++
		if err = errors.Join(err, s.shut()); spent(err, s.tries) || s.ctx.Err() != nil {
			return nil, err
		}
		if err := pause(s.ctx, firstBackoff<<s.tries); err != nil {
			return nil, err
		}
	}
}

// next gives the next frame; nil without an error where an object ends or begins.
func (s *source) next() (*frame.Frame, error) {
	if len(s.pieces) == 0 {
		return nil, fmt.Errorf("the archive ended at LSN %d, the target is LSN %d: list it again", s.at.Pos.LSN, s.p.Target.LSN)
	}
	if s.f == nil {
		return nil, s.enter()
	}
	f, err := s.f.Next()
	switch {
	case errors.Is(err, io.EOF):
		return nil, s.leave()
	case err != nil:
		return nil, err
	case f.LSN <= s.at.Pos.LSN:
		if f.LSN == s.at.Pos.LSN && f.Chain != s.at.Chain {
			return nil, s.apart(f.Chain)
		}
		return nil, nil
	case f.LSN > s.pieces[0].To:
		return nil, s.leave()
	case f.LSN != s.at.Pos.LSN+1:
		return nil, fmt.Errorf("the archive goes on at LSN %d behind LSN %d: list it again", f.LSN, s.at.Pos.LSN)
	}
	if err := s.holdRedacted(f); err != nil {
		return nil, err
	}
	s.before, s.at, s.tries = s.at, s.f.Tail(), 0
	return f, nil
}

// holdRedacted holds what a purge has left of a frame against the purge's record: the
// chain speaks of the body that the frame had.
func (s *source) holdRedacted(f *frame.Frame) error {
	if _, ok := s.payloads[lsn.Pos{Epoch: f.Epoch, LSN: f.LSN}]; !f.Redacted && ok {
		return &archive.DamagedError{Store: s.a.Store().String(), Key: keyOf(&s.pieces[0]),
			Err: fmt.Errorf("a purge has redacted LSN %d, and the frame is here as it was before", f.LSN)}
	} else if !f.Redacted {
		return nil
	}
	want, ok := s.payloads[lsn.Pos{Epoch: f.Epoch, LSN: f.LSN}]
	if got := lsn.Chain(frame.BodyHash(&f.Salt, f.Body)); !ok || got != want {
		return &archive.DamagedError{Store: s.a.Store().String(), Key: keyOf(&s.pieces[0]),
			Err: fmt.Errorf("LSN %d was redacted, and what is left of it has hash %s; the records of purges say %s", f.LSN, got, want)}
	}
	return nil
}

// enter opens the next object, which must go on where the one before ended.
func (s *source) enter() (err error) {
	if s.f, err = openPiece(s.ctx, s.a, &s.pieces[0], s.p.survey); err != nil {
		return err
	}
	if h := s.f.Header(); h.First == s.at.Pos.LSN+1 && h.PrevChain != s.at.Chain {
		return s.apart(h.PrevChain)
	}
	return nil
}

func (s *source) leave() error {
	s.pieces = s.pieces[1:]
	return s.shut()
}

func (s *source) shut() error {
	if s.f == nil {
		return nil
	}
	err := s.f.Close()
	s.f = nil
	return err
}

// apart says that an object holds another history than what it has to continue.
func (s *source) apart(chain lsn.Chain) error {
	return &archive.DamagedError{Store: s.a.Store().String(), Key: keyOf(&s.pieces[0]),
		Err: fmt.Errorf("it holds another history: at LSN %d it has chain value %s, and what comes before it %s", s.at.Pos.LSN, chain, s.at.Chain)}
}

func keyOf(p *archive.Piece) string {
	if p.Segment != nil {
		return p.Segment.String()
	}
	return p.Part.String()
}
