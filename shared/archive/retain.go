package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"originchain/shared/lsn"
)

// Bounds of retention.
const (
	// maxCondemned bounds what one run removes of files and of manifests.
	maxCondemned = 10_000
	// deleteAtOnce is how many objects one call removes.
	deleteAtOnce = 500
	// boundaryMemory is how long a boundary is kept after the next one: a sweep that
	// was suspended for as long may still remove what it condemned.
	boundaryMemory = 7 * 24 * time.Hour
	// pendingMemory is how long an announcement counts that nothing followed.
	pendingMemory = 24 * time.Hour
	// maxClocksApart is how far the store's clock and this machine's may be apart.
	maxClocksApart = 5 * time.Minute
	// maxBoundaryTries bounds how often another run may take the next number first.
	maxBoundaryTries = 16
)

// Retention says what may go.
type Retention struct {
	// Until is the oldest moment that stays restorable, on every line, by the caller's
	// clock. Where the store's is behind that, it is as much earlier.
	Until time.Time
	// DryRun removes nothing and raises no boundary.
	DryRun bool
	Now    func() time.Time // the clock of Until; nil is time.Now
	// Wall is this machine's clock, nil is Now. Now may be behind it, which keeps more;
	// a boundary has the time of Wall, so that others keep it for as long as they must.
	Wall func() time.Time
}

// Retained is what a run removed, or would have.
type Retained struct {
	// Boundary is the number of the one that was raised, 0 if nothing was to go.
	Boundary    uint64
	Checkpoints []CheckpointKey
	Segments    []SegmentKey
	Parts       []PartKey
	Files       []FileKey
	Pending     []PendingKey
	// Bytes is the size of segments, parts and files.
	Bytes int64
	// Spared are files that a checkpoint turned out to need at the second look.
	Spared int
	// More says that a limit was met, and another run has more to do.
	More bool
}

// ahead is by how much our clock is before the store's, as far as is certain, 0 if it is
// not: the earlier of the two counts. Clocks so far apart that one of them must be wrong
// are a *ClockError: whose it is cannot be told, and what is removed is gone. Only the
// wall clock can be wrong by being behind: now leaves out what the machine slept.
func (a *Archive) ahead(ctx context.Context, now, wall func() time.Time) (time.Duration, error) {
	before := now()
	theirs, err := a.store.Now(ctx)
	if err != nil {
		return 0, fmt.Errorf("retention asks for the time: %w", err)
	}
	after, shown := now(), wall()
	switch {
	case before.Sub(theirs) > maxClocksApart:
		return 0, &ClockError{Store: a.store.String(), Theirs: theirs, Ours: after}
	case theirs.Sub(shown) > maxClocksApart:
		return 0, &ClockError{Store: a.store.String(), Theirs: theirs, Ours: shown}
	}
	return max(0, after.Sub(theirs)), nil
}

// ErrChanged says that an epoch began while a run decided what may go; run it again.
var ErrChanged = errors.New("an epoch began meanwhile; run the retention again")

// Retain removes what no point from r.Until on needs. Of a run that was cut short the
// next one does the rest. A document that cannot be read makes it an error before
// anything is removed: what is needed cannot be told without it. So does a clock that is
// not the store's, by more than maxClocksApart: a *ClockError.
func (a *Archive) Retain(ctx context.Context, r Retention) (Retained, error) {
	if r.Now == nil {
		r.Now = time.Now
	}
	if r.Wall == nil {
		r.Wall = r.Now
	}
	ahead, err := a.ahead(ctx, r.Now, r.Wall)
	if err != nil {
		return Retained{}, err
	}
	now := r.Now
	r.Until, r.Now = r.Until.Add(-ahead), func() time.Time { return now().Add(-ahead) }
	w := &sweep{a: a, r: r}
	if err := w.decide(ctx); err != nil || r.DryRun || w.nothing() {
		return w.out, err
	}
	if err := w.announce(ctx); err != nil {
		return w.out, err
	}
	if err := w.lookAgain(ctx); err != nil {
		return w.out, err
	}
	return w.out, w.remove(ctx)
}

// sweep is one run.
type sweep struct {
	a      *Archive
	r      Retention
	survey *Survey
	keep   keeping
	// manifests are those of the checkpoints that stay.
	manifests map[CheckpointKey]bool
	files     map[FileKey]int64
	old       []BoundaryKey
	out       Retained
}

func (w *sweep) nothing() bool {
	return len(w.out.Checkpoints)+len(w.out.Segments)+len(w.out.Parts)+len(w.out.Files)+len(w.out.Pending) == 0
}

// decide fills out with what may go.
func (w *sweep) decide(ctx context.Context) (err error) {
	if w.survey, err = w.a.Survey(ctx); err != nil {
		return err
	}
	for _, fault := range w.survey.Faults {
		if name := (*KeyError)(nil); !errors.As(fault, &name) {
			return fmt.Errorf("retention removes nothing while a document cannot be read: %w", fault)
		}
	}
	if w.files, err = w.a.files(ctx); err != nil {
		return err
	}
	w.keep = keeping{survey: w.survey, until: w.r.Until.UnixMicro(), complete: w.complete, ended: w.ended}
	if err := w.keep.decide(ctx); err != nil {
		return err
	}
	w.chooseLog()
	marked, err := w.mark(ctx)
	if err != nil {
		return err
	}
	for k, size := range w.files {
		if !marked.has(k) {
			w.out.Files = append(w.out.Files, k)
			w.out.Bytes += size
		}
	}
	slices.SortFunc(w.out.Files, func(x, y FileKey) int { return slices.Compare(x.SHA256[:], y.SHA256[:]) })
	if len(w.out.Files) > maxCondemned {
		w.out.Files, w.out.More = w.out.Files[:maxCondemned], true
	}
	return nil
}

// chooseLog chooses segments, parts and checkpoints.
func (w *sweep) chooseLog() {
	for _, s := range w.survey.Segments {
		if !w.keep.frames(s.Key.Epoch, s.Key.First, s.Key.Last) {
			w.out.Segments = append(w.out.Segments, s.Key)
			w.out.Bytes += s.Size
		}
	}
	for _, p := range w.survey.Parts {
		if w.keep.covered(p.Key) || !w.keep.frames(p.Key.Epoch, p.Key.From, p.Key.To) {
			w.out.Parts = append(w.out.Parts, p.Key)
			w.out.Bytes += p.Size
		}
	}
	w.manifests = make(map[CheckpointKey]bool)
	for i := range w.survey.Checkpoints {
		k := w.survey.Checkpoints[i].Key()
		if w.keep.checkpoint(k) || len(w.out.Checkpoints) == maxCondemned {
			w.manifests[k] = true
		} else {
			w.out.Checkpoints = append(w.out.Checkpoints, k)
		}
	}
}

// complete implements keeping.
func (w *sweep) complete(ctx context.Context, k CheckpointKey) (bool, error) {
	m, err := w.a.Manifest(ctx, k)
	if err != nil {
		return false, err
	}
	for i := range m.Files {
		if size, ok := w.files[m.Files[i].Key()]; !ok || size != m.Files[i].Size {
			return false, nil
		}
	}
	return true, nil
}

// ended implements keeping: it reads the object to its end.
func (w *sweep) ended(ctx context.Context, p Piece) (stamp int64, err error) {
	var f *Frames
	if p.Segment != nil {
		f, err = w.a.OpenSegment(ctx, *p.Segment, w.survey.Instance.Instance)
	} else {
		f, err = w.a.OpenPart(ctx, *p.Part, w.survey.Instance.Instance)
	}
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for {
		if _, err := f.Next(); errors.Is(err, io.EOF) {
			return f.Tail().Timestamp, nil
		} else if err != nil {
			return 0, err
		}
	}
}

// marks are the files that something needs: by name those of manifests, by content
// those that are announced.
type marks struct {
	names    map[FileKey]bool
	contents map[lsn.Chain]bool
}

func (m *marks) has(k FileKey) bool { return m.names[k] || m.contents[k.SHA256] }

// mark reads announcements, then the manifests that stay. In this order: one whose
// announcement was removed, because its manifest was there, is met as a manifest.
func (w *sweep) mark(ctx context.Context) (*marks, error) {
	m := &marks{names: make(map[FileKey]bool), contents: make(map[lsn.Chain]bool)}
	pending, err := keys[PendingKey](ctx, w.a, pendingPrefix, "", nil)
	if err != nil {
		return nil, err
	}
	manifests, err := keys[CheckpointKey](ctx, w.a, checkpointPrefix, "", nil)
	if err != nil {
		return nil, err
	}
	gone := make(map[CheckpointKey]bool, len(w.out.Checkpoints))
	for _, k := range w.out.Checkpoints {
		gone[k] = true
	}
	w.out.Pending = w.out.Pending[:0]
	for _, k := range pending {
		if err := w.markPending(ctx, m, k.Key, pending, manifests); err != nil {
			return nil, err
		}
	}
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readsInFlight)
	for _, k := range manifests {
		if gone[k.Key] {
			continue
		}
		g.Go(func() error {
			// Not kept: a month of them has many times the names of the files there are.
			d, err := w.a.Manifest(ctx, k.Key)
			if missing := (*MissingError)(nil); errors.As(err, &missing) {
				return nil // another run took it
			} else if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for i := range d.Files {
				m.names[d.Files[i].Key()] = true
			}
			return nil
		})
	}
	return m, g.Wait()
}

// markPending marks what is announced, unless the announcement is over: its manifest
// is there, or the same epoch has announced or made a later checkpoint since (it
// makes one at a time), or nothing has followed for long.
func (w *sweep) markPending(ctx context.Context, m *marks, k PendingKey, pending []Sized[PendingKey], manifests []Sized[CheckpointKey]) error {
	over := slices.ContainsFunc(manifests, func(c Sized[CheckpointKey]) bool { return c.Key.Epoch == k.Epoch && c.Key.LSN >= k.LSN }) ||
		slices.ContainsFunc(pending, func(p Sized[PendingKey]) bool { return p.Key.Epoch == k.Epoch && p.Key.LSN > k.LSN })
	if !over {
		var d Pending
		err := w.a.read(ctx, k, maxManifestBytes, &d)
		if missing := (*MissingError)(nil); errors.As(err, &missing) {
			return nil
		} else if err != nil {
			return err
		}
		if oldest := w.r.Now().Add(-pendingMemory); !d.Time.Before(oldest) || !d.Time.Before(w.r.Until) {
			for _, sum := range d.SHA256 {
				m.contents[sum] = true
			}
			return nil
		}
	}
	w.out.Pending = append(w.out.Pending, k)
	return nil
}

// announce raises the boundary: names on it are never used again, and who creates
// something below it finds out.
func (w *sweep) announce(ctx context.Context) error {
	list, err := keys[BoundaryKey](ctx, w.a, boundaryPrefix, "", nil)
	if err != nil {
		return err
	}
	b := Boundary{
		Head: Head{Format: format, Instance: w.survey.Instance.Instance}, Time: moment(w.r.Wall()), Until: moment(w.r.Until),
		Highest: w.survey.Newest(), Kept: w.keep.kept(),
	}
	for _, k := range w.out.Files {
		b.Condemned = append(b.Condemned, k.String())
	}
	for _, k := range w.out.Checkpoints {
		b.Manifests = append(b.Manifests, k.String())
	}
	if n := len(list); n > 0 {
		b.Number = list[n-1].Key.Number
	}
	for range maxBoundaryTries {
		b.Number++
		taken, err := w.a.putDocument(ctx, BoundaryKey{b.Number}, &b)
		if err != nil {
			return fmt.Errorf("raise boundary %d: %w", b.Number, err)
		}
		if !taken {
			w.out.Boundary = b.Number
			return w.outdated(ctx, list)
		}
	}
	return fmt.Errorf("raise a boundary: %d other runs were faster", maxBoundaryTries)
}

// outdated chooses the boundaries that nobody needs any more.
func (w *sweep) outdated(ctx context.Context, list []Sized[BoundaryKey]) error {
	for _, k := range list {
		b, err := w.a.boundary(ctx, k.Key)
		if missing := (*MissingError)(nil); errors.As(err, &missing) {
			continue // another run took it
		} else if err != nil {
			return err
		}
		if b.Time.Before(w.r.Now().Add(-boundaryMemory)) {
			w.old = append(w.old, k.Key)
		}
	}
	return nil
}

// lookAgain spares what is needed by now. Who announces a checkpoint after this has
// found the boundary, and uses none of its names.
func (w *sweep) lookAgain(ctx context.Context) error {
	marked, err := w.mark(ctx)
	if err != nil {
		return err
	}
	before := len(w.out.Files)
	w.out.Files = slices.DeleteFunc(w.out.Files, marked.has)
	w.out.Spared = before - len(w.out.Files)
	epochs, err := keys[EpochKey](ctx, w.a, epochPrefix, EpochKey{w.survey.Newest()}.String(), nil)
	if err != nil {
		return err
	}
	if len(epochs) > 0 {
		return ErrChanged
	}
	return nil
}

// remove takes away manifests before the files they name, and all else after.
func (w *sweep) remove(ctx context.Context) error {
	groups := [][]string{names(w.out.Checkpoints), names(w.out.Files), names(w.out.Parts), names(w.out.Segments), names(w.out.Pending), names(w.old)}
	for _, list := range groups {
		for batch := range slices.Chunk(list, deleteAtOnce) {
			if err := w.a.store.Delete(ctx, batch...); err != nil {
				return err
			}
		}
	}
	return nil
}

func names[K Key](list []K) []string {
	out := make([]string, len(list))
	for i, k := range list {
		out[i] = k.String()
	}
	return out
}
