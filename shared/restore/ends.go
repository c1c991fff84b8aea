package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"originchain/shared/archive"
	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/object"
)

// lost are frames at an end of a window that the archive has, and that cannot be read.
type lost struct {
	from, to lsn.LSN
	err      error
}

// windows are what can be restored to, with times. An object that cannot be read at an
// end of one takes its frames out of it, is noted as a fault, and hides nothing else:
// whoever asks for one of those frames, or for the latest, is told.
func (r *reading) windows(ctx context.Context) ([]Window, error) {
	out := []Window{}
	for _, x := range reachable(r.l) {
		w, err := r.window(ctx, x)
		if err != nil {
			return nil, err
		}
		if w != nil {
			out = append(out, *w)
		}
	}
	return out, nil
}

// reach surveys a line and its windows. What is missing at an end was listed a moment
// before: retention has removed it since, for a segment that has it too or for its age,
// and the archive is looked at again. What is still missing then is.
func reach(ctx context.Context, a *archive.Archive, req *Request) (r *reading, w []Window, err error) {
	for range damagedTries {
		if r, err = survey(ctx, a, req); err != nil {
			return nil, nil, err
		}
		if w, err = r.windows(ctx); err != nil {
			return nil, nil, err
		}
		if !r.moved() {
			break
		}
	}
	return r, w, nil
}

// moved reports that something was missing at an end.
func (r *reading) moved() bool {
	return slices.ContainsFunc(r.unread, func(err error) bool { return errors.As(err, new(*archive.MissingError)) })
}

// window finds the readable ends of an extent; nil if it has none.
func (r *reading) window(ctx context.Context, x extent) (*Window, error) {
	w := &Window{}
	if c := r.checkpointAt(x.from); c != nil {
		w.From = pointAt(c) // which spares reading its segment
	} else {
		var err error
		w.From, err = r.point(ctx, x.from)
		if err != nil {
			if !unreadable(err) {
				return nil, err
			}
			r.note(err)
			// Nothing leads from LSN 1 to what is behind it; a checkpoint may.
			i := slices.IndexFunc(r.l.Checkpoints, func(c archive.Checkpoint) bool { return c.LSN > x.from && c.LSN <= x.to })
			if i < 0 {
				return nil, nil //nolint:nilnil // it is noted, and there is no window
			}
			w.From = pointAt(&r.l.Checkpoints[i])
			w.below = &lost{x.from, w.From.LSN - 1, err}
		}
	}
	return w, r.until(ctx, w, x.to)
}

// until finds the last frame of a window that can be read.
func (r *reading) until(ctx context.Context, w *Window, to lsn.LSN) (err error) {
	for at := to; ; {
		if at == w.From.LSN && w.above != nil {
			w.Until = w.From
			return nil
		}
		if w.Until, err = r.point(ctx, at); err == nil || !unreadable(err) {
			return err
		}
		r.note(err)
		if c := r.checkpointAt(at); c != nil {
			w.Until = pointAt(c)
			return nil
		}
		// Its object holds no frame that can be read for sure: those before it may.
		at = max(w.From.LSN, r.pieceOf(at).From-1)
		w.above = &lost{at + 1, to, err}
	}
}

// note adds a fault to what is told of the archive, once.
func (r *reading) note(err error) {
	r.unread = append(r.unread, err)
	if !slices.ContainsFunc(r.s.Faults, func(f error) bool { return f.Error() == err.Error() }) {
		r.s.Faults = append(r.s.Faults, err)
	}
}

func pointAt(c *archive.Checkpoint) Point {
	return Point{LSN: c.LSN, Epoch: c.Epoch, Time: moment(c.Stamp)}
}

// unreadable reports an error that is about one object of the log.
func unreadable(err error) bool {
	var (
		damaged *archive.DamagedError
		missing *archive.MissingError
		foreign *archive.ForeignError
		newer   *archive.NewerError
		frames  *frame.NewerError
	)
	return errors.As(err, &damaged) || errors.As(err, &missing) || errors.As(err, &foreign) || errors.As(err, &newer) || errors.As(err, &frames) || errors.Is(err, object.ErrContent)
}

// lostThere is the error of a target that is among frames that cannot be read, or may be;
// nil if it is not. passed is as for unreachable.
func lostThere(req *Request, w []Window, passed func(*Point) bool) error {
	for i := range w {
		x, near := w[i].above, &w[i].Until
		if x == nil || !passed(near) || i+1 < len(w) && passed(&w[i+1].From) || req.LSN > x.to {
			if x, near = w[i].below, &w[i].From; x == nil || passed(near) || i > 0 && !passed(&w[i-1].Until) {
				continue
			}
		}
		return fmt.Errorf("%s cannot be reached, because LSN %d to %d cannot be read: %w; the nearest that can is --target-lsn %d", req.asked(), x.from, x.to, x.err, near.LSN)
	}
	return nil
}
