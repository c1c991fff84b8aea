package restore

import (
	"context"
	"errors"
	"sort"
	"time"

	"originchain/shared/archive"
	"originchain/shared/frame"
)

// maxClockDistance is how far stamp and wall time of a frame may be apart before a
// moment means two places in the log.
const maxClockDistance = time.Second

// resolve finds the frame that a request means.
func (r *reading) resolve(ctx context.Context, req *Request, w []Window) (Point, error) {
	switch {
	case req.Latest:
		return latest(req, w)
	case req.LSN > 0:
		return r.resolveLSN(ctx, req, w)
	case req.Clock == Wall:
		return r.resolveWall(ctx, req, w)
	}
	at, err := r.resolveStamp(ctx, req, w)
	if err != nil || req.Clock == Stamp {
		return at, err
	}
	return at, r.checkClock(ctx, req, w, at)
}

// latest is the last frame, if none behind it is lost.
func latest(req *Request, w []Window) (Point, error) {
	last := &w[len(w)-1]
	if last.above != nil {
		return Point{}, lostThere(req, w, func(*Point) bool { return true })
	}
	return last.Until, nil
}

func (r *reading) resolveLSN(ctx context.Context, req *Request, w []Window) (Point, error) {
	for i := range w {
		if w[i].From.LSN <= req.LSN && req.LSN <= w[i].Until.LSN {
			return r.point(ctx, req.LSN)
		}
	}
	return Point{}, unreachable(req, w, func(p *Point) bool { return p.LSN <= req.LSN })
}

// unreachable is the error of a target that is in no window; passed reports points
// that are not behind it.
func unreachable(req *Request, w []Window, passed func(*Point) bool) error {
	if err := lostThere(req, w, passed); err != nil {
		return err
	}
	e := &TargetError{Why: Gap, Asked: req.asked(), Line: req.Epoch, From: &w[0].From, Until: &w[len(w)-1].Until}
	for i := range w {
		if passed(&w[i].Until) {
			e.Below = &w[i].Until
		}
		if e.Above == nil && !passed(&w[i].From) {
			e.Above = &w[i].From
		}
	}
	switch {
	case e.Below == nil:
		e.Why = Before
	case e.Above == nil:
		e.Why = After
	}
	return e
}

// resolveStamp finds the last frame stamped at or before the target.
func (r *reading) resolveStamp(ctx context.Context, req *Request, w []Window) (Point, error) {
	if err := comes(req, w); err != nil {
		return Point{}, err
	}
	t := req.Time.UnixMicro()
	for i := len(w) - 1; i >= 0; i-- {
		from, until := w[i].From.Time.UnixMicro(), w[i].Until.Time.UnixMicro()
		if from > t {
			continue
		}
		// The first of the frames that are not there behind a window may have its last stamp.
		if whole := r.whole(w, i); t < until || t == until && whole {
			return r.lastStamped(ctx, &w[i], t)
		}
		break
	}
	return Point{}, unreachable(req, w, func(p *Point) bool { return p.Time.UnixMicro() <= t })
}

// whole reports a window behind which the archive has, and lacks, nothing.
func (r *reading) whole(w []Window, i int) bool {
	return i+1 == len(w) && w[i].above == nil && r.end() <= w[i].Until.LSN
}

// comes refuses a moment that lies ahead.
func comes(req *Request, w []Window) error {
	if !req.Time.After(time.Now()) || !req.Time.After(w[len(w)-1].Until.Time) {
		return nil
	}
	return &TargetError{Why: Future, Asked: req.asked(), Line: req.Epoch, From: &w[0].From, Until: &w[len(w)-1].Until, Below: &w[len(w)-1].Until}
}

// lastStamped finds the last frame of a window stamped at or before t, by halving:
// each object knows the stamp of the frame before it.
func (r *reading) lastStamped(ctx context.Context, w *Window, t int64) (Point, error) {
	if w.Until.Time.UnixMicro() <= t {
		return w.Until, nil
	}
	list := pieces(r.l, w.From.LSN+1, w.Until.LSN)
	var failed error
	// The first object whose frames are all later, or nearly: what stands before it is.
	n := sort.Search(len(list), func(i int) bool {
		if failed != nil {
			return true
		}
		stamp, err := r.stampBefore(ctx, &list[i])
		if unreadable(err) {
			// The cut may be elsewhere: what stands before the object knows its own stamp.
			if before, beforeErr := r.point(ctx, list[i].From-1); beforeErr == nil {
				stamp, err = before.Time.UnixMicro(), nil
			}
		}
		if err != nil {
			failed = err
		}
		return stamp > t
	})
	if failed != nil {
		return Point{}, failed
	}
	at := w.From.LSN
	if n > 0 {
		found := Point{}
		err := r.scan(ctx, &list[n-1], func(f *frame.Frame) bool {
			if f.Timestamp <= t {
				found = pointOf(f)
			}
			return f.Timestamp <= t
		})
		if err != nil {
			return Point{}, err
		}
		if found.LSN > 0 {
			return found, nil
		}
		at = max(at, list[n-1].From-1)
	}
	return r.point(ctx, at)
}

// stampBefore is the stamp of the frame before a piece, which is in its header unless
// the piece begins inside of its object.
func (r *reading) stampBefore(ctx context.Context, p *archive.Piece) (stamp int64, err error) {
	err = again(ctx, func() (err error) {
		f, err := r.open(ctx, p)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		stamp = f.Header().PrevTimestamp
		for f.Tail().Pos.LSN+1 < p.From {
			fr, err := f.Next()
			if err != nil {
				return err
			}
			stamp = fr.Timestamp
		}
		return nil
	})
	return stamp, err
}

// checkClock refuses a cut that a step of the writer's clock makes doubtful: if its
// last frame, or the first one that is left out, has stamp and wall time far apart.
func (r *reading) checkClock(ctx context.Context, req *Request, w []Window, at Point) error {
	decides := []Point{at}
	if r.pieceOf(at.LSN+1) != nil {
		next, err := r.point(ctx, at.LSN+1)
		if err != nil {
			return err
		}
		decides = append(decides, next)
	}
	for _, p := range decides {
		if p.Wall.IsZero() || p.Time.Sub(p.Wall).Abs() <= maxClockDistance {
			continue
		}
		e := &ClockError{Asked: req.asked(), Frame: p, Stamp: &at}
		byWall, err := r.resolveWall(ctx, req, w)
		var none *TargetError
		switch {
		case err == nil:
			e.Wall = &byWall
		case !errors.As(err, &none):
			return err
		}
		return e
	}
	return nil
}

// resolveWall finds the last frame that was written when the writer's clock said no
// more than the target. That clock may have gone back, so all are looked at, from the
// newest on. Frames that only a checkpoint knows have no wall time.
func (r *reading) resolveWall(ctx context.Context, req *Request, w []Window) (Point, error) {
	if err := comes(req, w); err != nil {
		return Point{}, err
	}
	t := req.Time.UnixMicro()
	for i := len(w) - 1; i >= 0; i-- {
		list := pieces(r.l, w[i].From.LSN, w[i].Until.LSN)
		for j := len(list) - 1; j >= 0; j-- {
			found := Point{}
			err := r.scan(ctx, &list[j], func(f *frame.Frame) bool {
				if f.Wall <= t {
					found = pointOf(f)
				}
				return true
			})
			switch {
			case err != nil:
				return Point{}, err
			case found.LSN == 0:
				continue
			case found.LSN == w[i].Until.LSN && (found.Wall.UnixMicro() < t || !r.whole(w, i)):
				// What comes after it, and may belong to it, is not there.
				return Point{}, unreachable(req, w, func(p *Point) bool { return p.LSN <= found.LSN })
			}
			return found, nil
		}
	}
	return Point{}, unreachable(req, w, func(*Point) bool { return false })
}
