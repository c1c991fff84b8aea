package restore

import (
	"context"
	"fmt"
	"time"

	"originchain/shared/archive"
	"originchain/shared/lsn"
)

// A writer uploads several objects at once, and one may be there before the one that it
// continues: frames behind a hole that is filled a moment later. A hole that is not filled
// is what a machine left that died between the two, or objects that are gone. What stands
// behind it was never recoverable, or is so no more; only the contiguous frames are
// restored, and that there are others is told: by the plan, by the result, and by a
// verification, which is not green.
const (
	// cutLooks is how often an archive is looked at for a hole to be filled, cutPause how
	// long is between two looks.
	cutLooks = 4
	cutPause = 500 * time.Millisecond
)

// cutOff are frames that the archive has behind the newest point that can be restored to.
type cutOff struct {
	line lsn.Epoch
	// from and to are missing; behind them the archive goes on up to end.
	from, to, end lsn.LSN
}

func (c *cutOff) String() string {
	return fmt.Sprintf("on the line of epoch %d LSN %d to %d are not in the archive, and no checkpoint leads over them: LSN %d to %d are there and cannot be reached, and the newest point without them is LSN %d; "+
		"bring back the objects, or let the node that has the frames ship them or a checkpoint", c.line, c.from, c.to, c.to+1, c.end, c.from-1)
}

// end is the last frame that the archive has of a line.
func (r *reading) end() lsn.LSN {
	if n := len(r.l.Ranges); n > 0 {
		return r.l.Ranges[n-1].To
	}
	return 0
}

// cutOff is what keeps the last frames from being reached; nil if nothing does.
func (r *reading) cutOff(line lsn.Epoch, w []Window) *cutOff {
	if len(w) == 0 || w[len(w)-1].above != nil {
		return nil // which says so by itself
	}
	until := w[len(w)-1].Until.LSN
	for i := range r.l.Ranges {
		if from := r.l.Ranges[i].From; from > until+1 {
			return &cutOff{line: line, from: until + 1, to: from - 1, end: r.end()}
		}
	}
	return nil
}

// settledReach is reach, again where the newest point is asked for and frames behind it
// cannot be reached: the hole before them is told if it was there at every look.
func settledReach(ctx context.Context, a *archive.Archive, req *Request) (r *reading, w []Window, cut *cutOff, err error) {
	for look := 1; ; look++ {
		if r, w, err = reach(ctx, a, req); err != nil {
			return nil, nil, nil, err
		}
		now := r.cutOff(req.Epoch, w)
		switch {
		case now == nil || cut != nil && now.from != cut.from:
			return r, w, nil, nil
		case look == cutLooks || !req.Latest && req.LSN != now.from-1:
			return r, w, now, nil
		}
		cut = now
		if err := pause(ctx, cutPause); err != nil {
			return nil, nil, nil, err
		}
	}
}
