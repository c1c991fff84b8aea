package restore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"originchain/shared/archive"
	"originchain/shared/frame"
	"originchain/shared/lsn"
)

// Window is a run of frames each of which can be restored to.
type Window struct {
	From  Point `json:"from"`
	Until Point `json:"until"`

	// below and above are frames that belong to it, and cannot be read; nil for none.
	below, above *lost
}

// Hole is a run of frames that the archive lacks between others that it has.
type Hole struct {
	From lsn.LSN `json:"from_lsn"`
	To   lsn.LSN `json:"to_lsn"`
}

// extent is a run of frames that can be restored to.
type extent struct{ from, to lsn.LSN }

// reachable are the frames of a line that can be restored to, rising: a frame in the
// archive is one if all frames down to a checkpoint, or to LSN 1, are there too.
func reachable(l *archive.Line) []extent {
	var list []extent
	for i := range l.Checkpoints {
		at := l.Checkpoints[i].LSN
		list = append(list, extent{at, at})
	}
	for i := range l.Ranges {
		r := &l.Ranges[i]
		if r.From == 1 {
			list = append(list, extent{1, r.To})
			continue
		}
		for j := range l.Checkpoints {
			if at := l.Checkpoints[j].LSN; at+1 >= r.From && at <= r.To {
				list = append(list, extent{at, r.To})
				break // the lowest one reaches all that the others do
			}
		}
	}
	slices.SortFunc(list, func(x, y extent) int { return cmp.Or(cmp.Compare(x.from, y.from), cmp.Compare(x.to, y.to)) })
	var out []extent
	for _, x := range list {
		if n := len(out); n > 0 && x.from <= out[n-1].to+1 {
			out[n-1].to = max(out[n-1].to, x.to)
			continue
		}
		out = append(out, x)
	}
	return out
}

// holes are the frames that the archive lacks between others of a line.
func holes(l *archive.Line) []Hole {
	list := []Hole{}
	for i := 1; i < len(l.Ranges); i++ {
		list = append(list, Hole{l.Ranges[i-1].To + 1, l.Ranges[i].From - 1})
	}
	if n := len(l.Ranges); n > 0 && len(l.Checkpoints) > 0 {
		// Behind a gap at the end only a checkpoint may be there yet.
		if last := l.Checkpoints[len(l.Checkpoints)-1].LSN; last > l.Ranges[n-1].To+1 {
			list = append(list, Hole{l.Ranges[n-1].To + 1, last - 1})
		}
	}
	return list
}

// reading reads frames of a line.
type reading struct {
	a *archive.Archive
	s *archive.Survey
	l *archive.Line
	// unread is what kept ends of windows from being read.
	unread []error
}

func (r *reading) open(ctx context.Context, p *archive.Piece) (*archive.Frames, error) {
	return openPiece(ctx, r.a, p, r.s)
}

func openPiece(ctx context.Context, a *archive.Archive, p *archive.Piece, s *archive.Survey) (*archive.Frames, error) {
	if p.Segment != nil {
		return a.OpenSegment(ctx, *p.Segment, s.Instance.Instance)
	}
	return a.OpenPart(ctx, *p.Part, s.Instance.Instance)
}

// scan calls visit for the frames of a piece, until it returns false.
func (r *reading) scan(ctx context.Context, p *archive.Piece, visit func(f *frame.Frame) bool) error {
	return again(ctx, func() (err error) {
		f, err := r.open(ctx, p)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		for {
			fr, err := f.Next()
			switch {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			case fr.LSN < p.From:
			case fr.LSN > p.To || !visit(fr):
				return nil
			}
		}
	})
}

// pieceOf is the piece that holds a frame; nil if none does.
func (r *reading) pieceOf(at lsn.LSN) *archive.Piece {
	rg := r.l.RangeOf(at)
	if rg == nil {
		return nil
	}
	i, _ := slices.BinarySearchFunc(rg.Pieces, at, func(p archive.Piece, at lsn.LSN) int { return cmp.Compare(p.To, at) })
	return &rg.Pieces[i]
}

func (r *reading) checkpointAt(at lsn.LSN) *archive.Checkpoint {
	for i := range r.l.Checkpoints {
		if c := &r.l.Checkpoints[i]; c.LSN == at {
			return c
		}
	}
	return nil
}

// point describes a frame that the archive has, in the log or as a checkpoint.
func (r *reading) point(ctx context.Context, at lsn.LSN) (Point, error) {
	p := r.pieceOf(at)
	if c := r.checkpointAt(at); p == nil && c != nil {
		return Point{LSN: at, Epoch: c.Epoch, Time: moment(c.Stamp)}, nil
	}
	if p == nil {
		return Point{}, fmt.Errorf("LSN %d is not in the archive", at)
	}
	var out Point
	err := r.scan(ctx, p, func(f *frame.Frame) bool {
		if f.LSN == at {
			out = pointOf(f)
		}
		return f.LSN < at
	})
	if err == nil && out.LSN != at {
		err = fmt.Errorf("LSN %d is not where the archive says that it is", at)
	}
	return out, err
}

func pointOf(f *frame.Frame) Point {
	return Point{LSN: f.LSN, Epoch: f.Epoch, Time: moment(f.Timestamp), Wall: moment(f.Wall)}
}

func moment(micros int64) time.Time { return time.UnixMicro(micros).UTC() }
