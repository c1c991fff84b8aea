package archive

import (
	"cmp"
	"context"
	"slices"

	"originchain/shared/lsn"
)

// keeping is what the points of a window need.
type keeping struct {
	survey *Survey
	// until is the oldest moment that stays restorable, in microseconds.
	until int64
	// complete reports a checkpoint whose files are all there: only such a one is
	// something to restore from.
	complete func(context.Context, CheckpointKey) (bool, error)
	// ended is the stamp of the last frame of a piece.
	ended func(context.Context, Piece) (int64, error)

	lines []needed
}

// needed is what one line needs: the frames above a checkpoint, and that checkpoint
// and all behind it.
type needed struct {
	line Line
	base lsn.LSN
}

// decide finds the lines whose points lie in the window and what each needs.
//
// The newest epoch's line always counts. Another's counts by itself only if it has
// frames or checkpoints that no line has which counts already: what it shares with one,
// that line needs as well. For the points in the window of the shorter one are points of
// the other, and the checkpoint that they are restored from, the newest one up to until,
// is either shared or, if it is one of the other's own, shows that all frames of the
// shorter one were older than the window. An epoch that came to nothing has no line that
// counts: what it began behind is its parent's own, unless another line has it.
func (k *keeping) decide(ctx context.Context) error {
	newest, ends := k.survey.Newest(), k.ends()
	epochs := make([]lsn.Epoch, 0, len(k.survey.Epochs))
	for i := range k.survey.Epochs {
		epochs = append(epochs, k.survey.Epochs[i].Epoch)
	}
	slices.SortFunc(epochs, func(x, y lsn.Epoch) int { return cmp.Compare(y, x) }) // a child before its parent
	shared := make(map[lsn.Epoch]lsn.LSN)                                          // up to where a line that counts has each
	for _, epoch := range epochs {
		if epoch != newest && ends[epoch] <= shared[epoch] {
			continue // every opening makes an epoch, and few leave a line of their own
		}
		line, ok := k.survey.Line(epoch)
		if !ok {
			continue
		}
		if epoch != newest {
			alive, err := k.alive(ctx, epoch, &line, shared[epoch])
			if err != nil {
				return err
			}
			if !alive {
				continue
			}
		}
		base, err := k.base(ctx, &line)
		if err != nil {
			return err
		}
		k.lines = append(k.lines, needed{line: line, base: base})
		for _, r := range line.Reaches {
			shared[r.Epoch] = max(shared[r.Epoch], r.To)
		}
	}
	return nil
}

// ends are the last frames that are there of each epoch, in the log or as a checkpoint.
func (k *keeping) ends() map[lsn.Epoch]lsn.LSN {
	out := make(map[lsn.Epoch]lsn.LSN)
	note := func(epoch lsn.Epoch, last lsn.LSN) { out[epoch] = max(out[epoch], last) }
	for i := range k.survey.Segments {
		note(k.survey.Segments[i].Key.Epoch, k.survey.Segments[i].Key.Last)
	}
	for i := range k.survey.Parts {
		note(k.survey.Parts[i].Key.Epoch, k.survey.Parts[i].Key.To)
	}
	for i := range k.survey.Checkpoints {
		note(k.survey.Checkpoints[i].Epoch, k.survey.Checkpoints[i].LSN)
	}
	return out
}

// alive reports an epoch that is not the newest and has points in the window above what
// it shares with a line that counts.
func (k *keeping) alive(ctx context.Context, epoch lsn.Epoch, line *Line, shared lsn.LSN) (bool, error) {
	own := func(at lsn.Pos) bool { return at.Epoch == epoch && at.LSN > shared }
	for i := range line.Checkpoints {
		c := &line.Checkpoints[i]
		if own(lsn.Pos{Epoch: c.Epoch, LSN: c.LSN}) && c.Stamp >= k.until {
			return true, nil
		}
	}
	if len(line.Ranges) == 0 {
		return false, nil
	}
	pieces := line.Ranges[len(line.Ranges)-1].Pieces
	last := pieces[len(pieces)-1]
	if !own(lsn.Pos{Epoch: last.epoch(), LSN: last.To}) {
		return false, nil
	}
	stamp, err := k.ended(ctx, last)
	return err == nil && stamp >= k.until, err
}

// base is the LSN of the newest complete checkpoint that is not younger than the
// window; 0 if there is none, and then the line needs all it has.
func (k *keeping) base(ctx context.Context, line *Line) (lsn.LSN, error) {
	for i := len(line.Checkpoints) - 1; i >= 0; i-- {
		c := &line.Checkpoints[i]
		if c.Stamp > k.until {
			continue
		}
		ok, err := k.complete(ctx, c.Key())
		if err != nil {
			return 0, err
		}
		if ok {
			return c.LSN, nil
		}
	}
	return 0, nil
}

func (p *Piece) epoch() lsn.Epoch {
	if p.Segment != nil {
		return p.Segment.Epoch
	}
	return p.Part.Epoch
}

// knows reports an epoch whose object is there: what is of another is left alone.
func (k *keeping) knows(epoch lsn.Epoch) bool {
	return slices.ContainsFunc(k.survey.Epochs, func(d Epoch) bool { return d.Epoch == epoch })
}

// frames reports whether some line needs one of these frames.
func (k *keeping) frames(epoch lsn.Epoch, from, to lsn.LSN) bool {
	for i := range k.lines {
		n := &k.lines[i]
		for _, r := range n.line.Reaches {
			if r.Epoch == epoch && to > n.base && from <= r.To && to >= r.From {
				return true
			}
		}
	}
	return !k.knows(epoch)
}

// checkpoint reports whether some line needs this one.
func (k *keeping) checkpoint(c CheckpointKey) bool {
	for i := range k.lines {
		if n := &k.lines[i]; c.LSN >= n.base && n.line.Has(lsn.Pos{Epoch: c.Epoch, LSN: c.LSN}) {
			return true
		}
	}
	return !k.knows(c.Epoch)
}

// covered reports a part all of whose frames are in a segment.
func (k *keeping) covered(p PartKey) bool {
	// Segments are sorted by epoch and first LSN: the one that can hold the part is the
	// last that begins at or below it, or one before that which begins there too.
	i, _ := slices.BinarySearchFunc(k.survey.Segments, p, func(s Sized[SegmentKey], p PartKey) int {
		return cmp.Or(cmp.Compare(s.Key.Epoch, p.Epoch), cmp.Compare(uint64(s.Key.First), uint64(p.Segment)+1))
	})
	for i--; i >= 0 && k.survey.Segments[i].Key.Epoch == p.Epoch && k.survey.Segments[i].Key.First == p.Segment; i-- {
		if k.survey.Segments[i].Key.Last >= p.To {
			return true
		}
	}
	return false
}

// kept lists the lowest frame of each epoch that is needed.
func (k *keeping) kept() (out []KeptFrom) {
	lowest := make(map[lsn.Epoch]lsn.LSN)
	for i := range k.lines {
		n := &k.lines[i]
		for _, r := range n.line.Reaches {
			from := max(r.From, n.base+1)
			if from > r.To {
				continue
			}
			if at, ok := lowest[r.Epoch]; !ok || from < at {
				lowest[r.Epoch] = from
			}
		}
	}
	for epoch, from := range lowest {
		out = append(out, KeptFrom{Epoch: epoch, From: from})
	}
	slices.SortFunc(out, func(x, y KeptFrom) int { return cmp.Compare(x.Epoch, y.Epoch) })
	return out
}
