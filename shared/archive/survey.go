package archive

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"

	"golang.org/x/sync/errgroup"

	"originchain/shared/lsn"
	"originchain/shared/object"
)

// readsInFlight is how many small objects a survey reads at once.
const readsInFlight = 8

// Survey is what an archive holds, as one listing of it told. Objects may have been
// added or removed since.
type Survey struct {
	Instance    Instance
	Epochs      []Epoch
	Segments    []Sized[SegmentKey]
	Parts       []Sized[PartKey]
	Checkpoints []Checkpoint
	Gaps        []GapKey
	// Boundary is the newest one, nil where retention has never removed anything.
	Boundary *Boundary
	// Redactions are purges, oldest first. What one has replaced is not told of, nor is a
	// rewritten object that no record speaks of: the record is what makes it count.
	Redactions []Redaction
	// Unpurged are segments, parts and checkpoints that a node has shipped past a purge
	// that it was not built behind: they may hold what was purged, and do not count.
	Unpurged []*StragglerError
	// Faults are documents that are damaged, of another instance or of a newer
	// version, and names that are none of an archive: all else is told without them.
	Faults []error
}

// Survey lists the archive. A *MissingError says that there is none.
func (a *Archive) Survey(ctx context.Context) (*Survey, error) {
	s := &Survey{}
	var err error
	if s.Instance, err = a.Instance(ctx); err != nil {
		return nil, err
	}
	epochs, checkpoints, err := a.listed(ctx, s)
	if err != nil {
		return nil, err
	}
	a.epochs.only(epochs)
	a.heads.only(checkpoints)
	if s.Epochs, err = readEach(ctx, s, epochs, func(ctx context.Context, k Sized[EpochKey]) (Epoch, error) {
		return a.epochs.read(ctx, k, func(ctx context.Context, k Sized[EpochKey]) (Epoch, error) { return a.Epoch(ctx, k.Key) })
	}); err != nil {
		return nil, err
	}
	if s.Checkpoints, err = readEach(ctx, s, checkpoints, func(ctx context.Context, k Sized[CheckpointKey]) (Checkpoint, error) {
		return a.heads.read(ctx, k, a.checkpointHead)
	}); err != nil {
		return nil, err
	}
	forms := formsOf(s.Redactions)
	s.Checkpoints = slices.DeleteFunc(s.Checkpoints, func(c Checkpoint) bool {
		unpurged := forms.unpurged(&c)
		if unpurged {
			s.Unpurged = append(s.Unpurged, &StragglerError{Store: a.store.String(), Key: c.Key().String()})
		}
		return unpurged
	})
	s.Boundary, err = a.newestBoundary(ctx)
	return s, err
}

// maxListings bounds how often a survey begins anew because a purge came to its end.
const maxListings = 5

// listed lists all objects whose names say much, as they were between two purges: one
// that commits during the listing would show neither the old form of an object nor the
// new one.
func (a *Archive) listed(ctx context.Context, s *Survey) (epochs []Sized[EpochKey], checkpoints []Sized[CheckpointKey], err error) {
	for range maxListings {
		if s.Redactions, err = a.redactions(ctx); err != nil {
			return nil, nil, err
		}
		s.Segments, s.Parts, s.Gaps, s.Faults, s.Unpurged, epochs, checkpoints = nil, nil, nil, nil, nil, nil, nil
		forms := formsOf(s.Redactions)
		note := func(info object.Info) error {
			k, err := ParseKey(info.Key)
			if err == nil && !forms.counts(k) {
				if RewriteOf(k) == 0 && !forms.replaced[info.Key] {
					s.Unpurged = append(s.Unpurged, &StragglerError{Store: a.store.String(), Key: info.Key})
				}
				return nil
			}
			switch k := k.(type) {
			case EpochKey:
				epochs = append(epochs, Sized[EpochKey]{k, info.Size})
			case SegmentKey:
				s.Segments = append(s.Segments, Sized[SegmentKey]{k, info.Size})
			case PartKey:
				s.Parts = append(s.Parts, Sized[PartKey]{k, info.Size})
			case CheckpointKey:
				checkpoints = append(checkpoints, Sized[CheckpointKey]{k, info.Size})
			case GapKey:
				s.Gaps = append(s.Gaps, k)
			case nil:
				s.Faults = append(s.Faults, err)
			}
			return nil
		}
		// Not the files of checkpoints: there are many, and their names say little.
		for _, prefix := range []string{epochPrefix, logPrefix, tailPrefix, checkpointPrefix, gapPrefix} {
			if err := a.each(ctx, prefix, "", note); err != nil {
				return nil, nil, err
			}
		}
		after, err := keys[RedactionKey](ctx, a, redactionPrefix, "", nil)
		if err != nil {
			return nil, nil, err
		}
		if len(after) == len(s.Redactions) {
			sortSegments(s.Segments)
			return epochs, checkpoints, nil
		}
	}
	return nil, nil, errors.New("purges follow one another too fast for a survey; try again")
}

func sortSegments(list []Sized[SegmentKey]) {
	slices.SortFunc(list, func(x, y Sized[SegmentKey]) int {
		return cmp.Or(cmp.Compare(x.Key.Epoch, y.Key.Epoch), cmp.Compare(x.Key.First, y.Key.First), cmp.Compare(x.Key.Last, y.Key.Last), cmp.Compare(x.Key.Rewrite, y.Key.Rewrite))
	})
}

// readEach reads documents several at a time, in order; what is wrong with one is
// noted, and does not keep the others from being told.
func readEach[K any, D any](ctx context.Context, s *Survey, list []K, read func(context.Context, K) (D, error)) ([]D, error) {
	docs, faults := make([]D, len(list)), make([]error, len(list))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readsInFlight)
	for i := range list {
		g.Go(func() (err error) {
			docs[i], err = read(ctx, list[i])
			if told(err) {
				faults[i], err = err, nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var good []D
	for i := range docs {
		if faults[i] == nil {
			good = append(good, docs[i])
			continue
		}
		// What retention removed meanwhile is not a fault.
		if missing := (*MissingError)(nil); !errors.As(faults[i], &missing) {
			s.Faults = append(s.Faults, faults[i])
		}
	}
	return good, nil
}

// told reports an error that is about one object.
func told(err error) bool {
	var (
		missing *MissingError
		damaged *DamagedError
		newer   *NewerError
	)
	return errors.As(err, &missing) || errors.As(err, &damaged) || errors.As(err, &newer)
}

// Line is a history: the frames of an epoch, its parent's below where it begins,
// and so on.
type Line struct {
	// Reaches are the epochs of the line, oldest first.
	Reaches []Reach
	// Ranges are the frames that the archive has, without a hole in each, rising.
	Ranges []Range
	// Checkpoints are those on the line, by LSN.
	Checkpoints []Checkpoint
	// Broken is the name of an epoch object that is not there, if the line goes back
	// to one; it is followed no further.
	Broken string
}

// Reach is the part of a line that is of one epoch.
type Reach struct {
	Epoch lsn.Epoch
	// From and To are the first and the last LSN; To is MaxLSN for the newest epoch.
	From, To lsn.LSN
}

// MaxLSN is above every LSN that there is.
const MaxLSN = ^lsn.LSN(0)

// Range is a run of frames, and the objects that hold it.
type Range struct {
	From, To lsn.LSN
	Pieces   []Piece
}

// Piece is a segment or a part, and which of its frames to take.
type Piece struct {
	Segment *SegmentKey
	Part    *PartKey
	// Size is that of the object, in bytes.
	Size     int64
	From, To lsn.LSN
}

// Newest is the highest epoch that the archive knows; 0 if it knows none.
func (s *Survey) Newest() lsn.Epoch {
	var newest lsn.Epoch
	for i := range s.Epochs {
		newest = max(newest, s.Epochs[i].Epoch)
	}
	return newest
}

// Line is the line of an epoch; false if the archive does not know it.
func (s *Survey) Line(epoch lsn.Epoch) (Line, bool) {
	byEpoch := make(map[lsn.Epoch]*Epoch, len(s.Epochs))
	for i := range s.Epochs {
		byEpoch[s.Epochs[i].Epoch] = &s.Epochs[i]
	}
	var l Line
	for at, to := epoch, MaxLSN; at > 0; {
		d, ok := byEpoch[at]
		if !ok {
			l.Broken = EpochKey{at}.String()
			break
		}
		// An epoch that came to nothing has no frame on the line.
		if d.FirstLSN <= to {
			l.Reaches = append(l.Reaches, Reach{Epoch: at, From: d.FirstLSN, To: to})
			to = d.FirstLSN - 1
		}
		at = d.Parent // below at, or it could not be read
	}
	slices.Reverse(l.Reaches)
	l.Ranges = s.ranges(l.Reaches)
	for _, c := range s.Checkpoints {
		if l.Has(lsn.Pos{Epoch: c.Epoch, LSN: c.LSN}) {
			l.Checkpoints = append(l.Checkpoints, c)
		}
	}
	slices.SortFunc(l.Checkpoints, func(x, y Checkpoint) int { return cmp.Compare(x.LSN, y.LSN) })
	return l, len(l.Reaches) > 0
}

// Has reports whether a frame is on the line.
func (l *Line) Has(p lsn.Pos) bool {
	return slices.ContainsFunc(l.Reaches, func(r Reach) bool { return r.Epoch == p.Epoch && r.From <= p.LSN && p.LSN <= r.To })
}

// RangeOf is the range that holds an LSN, nil if none does.
func (l *Line) RangeOf(at lsn.LSN) *Range {
	for i := range l.Ranges {
		if r := &l.Ranges[i]; r.From <= at && at <= r.To {
			return r
		}
	}
	return nil
}

// ranges puts the objects of the reaches together.
func (s *Survey) ranges(reaches []Reach) []Range {
	byEpoch := make(map[lsn.Epoch][]Piece)
	for i := range s.Segments {
		k := s.Segments[i]
		byEpoch[k.Key.Epoch] = append(byEpoch[k.Key.Epoch], Piece{Segment: &k.Key, Size: k.Size, From: k.Key.First, To: k.Key.Last})
	}
	for i := range s.Parts {
		k := s.Parts[i]
		byEpoch[k.Key.Epoch] = append(byEpoch[k.Key.Epoch], Piece{Part: &k.Key, Size: k.Size, From: k.Key.From, To: k.Key.To})
	}
	var out []Range
	for _, r := range reaches {
		pieces := byEpoch[r.Epoch]
		slices.SortStableFunc(pieces, func(x, y Piece) int { return cmp.Compare(x.From, y.From) })
		for _, piece := range cover(pieces, r.From, r.To) {
			if n := len(out); n > 0 && out[n-1].To+1 == piece.From {
				out[n-1].Pieces = append(out[n-1].Pieces, piece)
				out[n-1].To = piece.To
				continue
			}
			out = append(out, Range{From: piece.From, To: piece.To, Pieces: []Piece{piece}})
		}
	}
	return out
}

// cover picks, of pieces that are sorted by From and may overlap, few that hold all
// frames from lo to hi that any of them holds; a segment rather than parts.
func cover(pieces []Piece, lo, hi lsn.LSN) (out []Piece) {
	var best [2]*Piece // the segment and the part that begin at or below next and reach furthest
	for i, next := 0, lo; next <= hi; {
		for ; i < len(pieces) && pieces[i].From <= next; i++ {
			b := &best[0]
			if pieces[i].Part != nil {
				b = &best[1]
			}
			if *b == nil || pieces[i].To > (*b).To {
				*b = &pieces[i]
			}
		}
		take := best[0]
		if take == nil || take.To < next {
			take = best[1]
		}
		switch {
		case take != nil && take.To >= next:
			p := *take
			p.From, p.To = next, min(take.To, hi)
			out = append(out, p)
			if next = p.To + 1; next == 0 {
				return out
			}
		case i < len(pieces):
			next = pieces[i].From
		default:
			return out
		}
	}
	return out
}

// boundaries keeps what was read of them, which never changes.
type boundaries struct {
	mu   sync.Mutex
	read map[uint64]*Boundary
}

// only forgets the boundaries that are not there any more.
func (b *boundaries) only(list []Sized[BoundaryKey]) {
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.read, func(number uint64, _ *Boundary) bool {
		return !slices.ContainsFunc(list, func(k Sized[BoundaryKey]) bool { return k.Key.Number == number })
	})
}

// newestBoundary reads the boundary with the highest number, nil if there is none.
func (a *Archive) newestBoundary(ctx context.Context) (*Boundary, error) {
	list, err := keys[BoundaryKey](ctx, a, boundaryPrefix, "", nil)
	if err != nil {
		return nil, err
	}
	a.known.only(list)
	if len(list) == 0 {
		return nil, nil
	}
	return a.boundary(ctx, list[len(list)-1].Key)
}

func (a *Archive) boundary(ctx context.Context, k BoundaryKey) (*Boundary, error) {
	a.known.mu.Lock()
	b := a.known.read[k.Number]
	a.known.mu.Unlock()
	if b != nil {
		return b, nil
	}
	b = &Boundary{}
	if err := a.read(ctx, k, maxManifestBytes, b); err != nil {
		return nil, err
	}
	if b.Number != k.Number {
		return nil, a.damaged(k, errors.New("it has another number"))
	}
	a.known.mu.Lock()
	defer a.known.mu.Unlock()
	if a.known.read == nil {
		a.known.read = make(map[uint64]*Boundary)
	}
	a.known.read[k.Number] = b
	return b, nil
}
