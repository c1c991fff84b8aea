package restore

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/shared/archive"
	"originchain/shared/lsn"
	"originchain/shared/object"
)

// Listing is what an archive can be restored to.
type Listing struct {
	Instance ulid.ULID `json:"instance_id"`
	Region   string    `json:"region"`
	Archive  string    `json:"archive"`
	// From and Until are the ends of what is recoverable on the newest line; nil if
	// nothing is.
	From  *Point `json:"recoverable_from"`
	Until *Point `json:"recoverable_until"`
	// Lines are the histories, that of the highest epoch first.
	Lines []ListedLine `json:"lines"`
	// RetainedFrom is the oldest moment that the last retention run left restorable;
	// nil where none has run.
	RetainedFrom *time.Time `json:"retained_from"`
	Purges       int        `json:"purges"`
	// Faults are objects that are damaged, or none of this archive's.
	Faults []string `json:"faults"`
}

// ListedLine is one history.
type ListedLine struct {
	Epoch lsn.Epoch `json:"epoch"`
	// Newest is what a restore takes without --epoch.
	Newest bool    `json:"newest"`
	Epochs []Reach `json:"epochs"`
	// Windows are what can be restored to: any frame in one.
	Windows     []Window           `json:"windows"`
	Checkpoints []ListedCheckpoint `json:"checkpoints"`
	Ranges      []ListedRange      `json:"ranges"`
	Gaps        []ListedGap        `json:"gaps"`
	// Missing is an object of an epoch that the line goes back to and that is not there.
	Missing string `json:"missing,omitempty"`
}

// Reach is the part of a line that is of one epoch; To is nil for the newest.
type Reach struct {
	Epoch lsn.Epoch `json:"epoch"`
	From  lsn.LSN   `json:"from_lsn"`
	To    *lsn.LSN  `json:"to_lsn"`
	Node  string    `json:"node"`
}

// ListedCheckpoint is a checkpoint, as a recovery point.
type ListedCheckpoint struct {
	Point
	Bytes int64  `json:"bytes"`
	Node  string `json:"node"`
}

// ListedRange is a run of frames without a hole.
type ListedRange struct {
	From     lsn.LSN `json:"from_lsn"`
	To       lsn.LSN `json:"to_lsn"`
	Segments int     `json:"segments"`
	Parts    int     `json:"tail_parts"`
	Bytes    int64   `json:"bytes"`
	// TailFrom is where the tail begins that no sealed segment holds yet; 0 without one.
	TailFrom lsn.LSN `json:"tail_from_lsn"`
}

// ListedGap is a run of frames that is missing; Recorded says that the node that
// shipped what follows knew it and said so.
type ListedGap struct {
	Hole
	Recorded bool `json:"recorded"`
}

// List tells what an archive holds. Of the request only the instance, the region and
// the epoch count: with an epoch only its line is listed. What is missing at an end of a
// window is looked for again, as by MakePlan: retention, or a purge, may have been at work
// since the archive was listed.
func List(ctx context.Context, store object.Store, req Request) (out *Listing, err error) {
	a := archive.New(patient{store})
	for range damagedTries {
		again := false
		if out, again, err = listOnce(ctx, a, req); err != nil || !again {
			break
		}
	}
	return out, err
}

// listOnce lists; moved says that an object was gone that the archive had a moment
// before.
func listOnce(ctx context.Context, a *archive.Archive, req Request) (out *Listing, moved bool, err error) {
	asked := req.Epoch
	r, err := survey(ctx, a, &req)
	if err != nil {
		return nil, false, err
	}
	out = &Listing{
		Instance: r.s.Instance.Instance, Region: r.s.Instance.Region, Archive: a.Store().String(),
		Lines: []ListedLine{}, Purges: len(r.s.Redactions), Faults: []string{},
	}
	if b := r.s.Boundary; b != nil {
		out.RetainedFrom = &b.Until
	}
	heads := heads(r.s)
	if asked > 0 {
		heads = []lsn.Epoch{asked}
	}
	for _, epoch := range heads {
		line, _ := r.s.Line(epoch)
		one := &reading{a: a, s: r.s, l: &line}
		listed, err := one.list(ctx, epoch)
		if err != nil {
			return nil, false, err
		}
		out.Lines = append(out.Lines, *listed)
		moved = moved || one.moved()
	}
	for _, f := range faults(r.s) { // those of the ends of windows among them
		out.Faults = append(out.Faults, f.Error())
	}
	if w := out.Lines[0].Windows; len(w) > 0 {
		out.From, out.Until = &w[0].From, &w[len(w)-1].Until
	}
	return out, moved, nil
}

// Heads are the epochs whose lines, together, have every frame of the archive, the
// newest first.
func Heads(s *archive.Survey) []lsn.Epoch { return heads(s) }

// heads are the epochs whose lines, together, have every frame of the archive: the
// newest, and those that others have left behind with frames of their own.
func heads(s *archive.Survey) (out []lsn.Epoch) {
	ends := map[lsn.Epoch]lsn.LSN{} // the last frame of each epoch
	for i := range s.Segments {
		k := s.Segments[i].Key
		ends[k.Epoch] = max(ends[k.Epoch], k.Last)
	}
	for i := range s.Parts {
		k := s.Parts[i].Key
		ends[k.Epoch] = max(ends[k.Epoch], k.To)
	}
	for i := range s.Checkpoints {
		c := &s.Checkpoints[i]
		ends[c.Epoch] = max(ends[c.Epoch], c.LSN)
	}
	epochs := make([]lsn.Epoch, 0, len(s.Epochs))
	for i := range s.Epochs {
		epochs = append(epochs, s.Epochs[i].Epoch)
	}
	slices.SortFunc(epochs, func(x, y lsn.Epoch) int { return cmp.Compare(y, x) })
	covered := map[lsn.Epoch]lsn.LSN{} // up to where a line that is listed has each epoch
	for _, epoch := range epochs {
		if len(out) > 0 && covered[epoch] >= ends[epoch] {
			continue
		}
		line, ok := s.Line(epoch)
		if !ok {
			continue
		}
		out = append(out, epoch)
		for _, r := range line.Reaches {
			covered[r.Epoch] = max(covered[r.Epoch], r.To)
		}
	}
	return out
}

// list describes one line.
func (r *reading) list(ctx context.Context, epoch lsn.Epoch) (_ *ListedLine, err error) {
	out := &ListedLine{Epoch: epoch, Newest: epoch == r.s.Newest(), Missing: r.l.Broken,
		Epochs: []Reach{}, Checkpoints: []ListedCheckpoint{}, Ranges: []ListedRange{}, Gaps: []ListedGap{}}
	if out.Windows, err = r.windows(ctx); err != nil {
		return nil, err
	}
	for _, x := range r.l.Reaches {
		reach := Reach{Epoch: x.Epoch, From: x.From}
		if x.To != archive.MaxLSN {
			reach.To = &x.To
		}
		for i := range r.s.Epochs {
			if r.s.Epochs[i].Epoch == x.Epoch {
				reach.Node = r.s.Epochs[i].Node
			}
		}
		out.Epochs = append(out.Epochs, reach)
	}
	for i := range r.l.Checkpoints {
		c := &r.l.Checkpoints[i]
		out.Checkpoints = append(out.Checkpoints, ListedCheckpoint{Point{LSN: c.LSN, Epoch: c.Epoch, Time: moment(c.Stamp)}, c.Bytes, c.Node})
	}
	for i := range r.l.Ranges {
		out.Ranges = append(out.Ranges, listedRange(&r.l.Ranges[i]))
	}
	for _, h := range holes(r.l) {
		out.Gaps = append(out.Gaps, ListedGap{h, r.recorded(h)})
	}
	return out, nil
}

func listedRange(r *archive.Range) ListedRange {
	out := ListedRange{From: r.From, To: r.To}
	for i := range r.Pieces {
		p := &r.Pieces[i]
		out.Bytes += p.Size
		if p.Segment != nil {
			out.Segments, out.TailFrom = out.Segments+1, 0
			continue
		}
		if out.Parts++; out.TailFrom == 0 {
			out.TailFrom = p.From
		}
	}
	return out
}

// recorded reports a gap that a record of the archive speaks of.
func (r *reading) recorded(h Hole) bool {
	return slices.ContainsFunc(r.s.Gaps, func(g archive.GapKey) bool { return g.From <= h.From && h.To <= g.To })
}
