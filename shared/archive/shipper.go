package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/wal"
)

// Bounds of shipping.
const (
	// DefaultTailWindow is how often new bytes of the open segment are shipped.
	DefaultTailWindow = 500 * time.Millisecond
	// segmentsInFlight and partsInFlight are how many are uploaded at once.
	segmentsInFlight = 2
	partsInFlight    = 4
	// maxPartBytes bounds a part before compression. A frame that is larger is a part
	// by itself.
	maxPartBytes = 4 << 20
	// watchEvery bounds how often the shipper looks at a busy log.
	watchEvery = 50 * time.Millisecond
	// fencePoll is how often an idle writer asks whether a higher epoch has begun.
	fencePoll = 5 * time.Second
)

// Config says what is shipped, and as whom.
type Config struct {
	Instance ulid.ULID
	// Epoch is the one that this node writes.
	Epoch lsn.Epoch
	Node  string
	// Region is where the node is; the first writer gives its own to the archive.
	Region           string
	AllowCrossRegion bool
	// Tail ships the open segment every TailWindow (0 is DefaultTailWindow).
	Tail       bool
	TailWindow time.Duration
	// Purges is how many purges of the archive the state and the log were built behind.
	// Where the archive has had more, nothing of this node gets into it.
	Purges uint64
}

// Deps are what a Shipper works with. Log is open and written in Epoch; FS holds its
// files. Metrics may be nil.
type Deps struct {
	Store   object.Store
	Log     *wal.Log
	FS      vfs.FS
	Logger  logrus.FieldLogger
	Metrics *Metrics
	// Now is the clock, of which only differences count, but for the times in
	// documents; nil is time.Now.
	Now func() time.Time
	// Rand is the source of nonces; nil is crypto/rand.
	Rand io.Reader
}

// Shipper keeps an archive up to date with the log of a writer. Its methods may be
// called at any time, also before Run and after it. An epoch has one at a time.
type Shipper struct {
	cfg  Config
	deps Deps
	a    *Archive
	claim

	progress     progress
	segmentFacts facts[SegmentKey]
	partFacts    facts[PartKey]
	// listed are the segments that the archive had when the shipper began.
	listed map[SegmentKey]bool
	// keep is the memory for segments that are being uploaded.
	keep      *room
	news      chan struct{} // of cap 1: the log has more than before
	connected atomic.Bool
	unbegun   atomic.Bool // the log has no frame of our epoch yet
	paused    atomic.Bool
	gap       atomic.Pointer[Gap]
	hurry     chan struct{} // of cap 1: the tail does not wait for its window
	wanted    chan struct{} // of cap 1: a checkpoint is needed at once
	checkpoints

	// ended is what Run has ended with for good.
	ended atomic.Pointer[error]

	connecting, segments, tail, fence trouble
}

// NewShipper makes a Shipper; Run starts it.
func NewShipper(cfg Config, deps Deps) (*Shipper, error) {
	var faults []error
	if cfg.Instance.IsZero() || cfg.Epoch == 0 || cfg.Node == "" {
		faults = append(faults, errors.New("a shipper needs an instance, an epoch and a node"))
	}
	if len(cfg.Node) > maxTextBytes || len(cfg.Region) > maxTextBytes {
		faults = append(faults, fmt.Errorf("the names of node and region have at most %d bytes", maxTextBytes))
	}
	if deps.Store == nil || deps.Log == nil || deps.FS == nil || deps.Logger == nil {
		faults = append(faults, errors.New("a shipper needs a store, a log, its file system and a logger"))
	}
	if cfg.TailWindow == 0 {
		cfg.TailWindow = DefaultTailWindow
	}
	if cfg.TailWindow < 10*time.Millisecond || cfg.TailWindow > time.Hour {
		faults = append(faults, fmt.Errorf("a tail window of %s is outside of 10 ms to 1 h", cfg.TailWindow))
	}
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	s := &Shipper{
		cfg: cfg, deps: deps, a: New(deps.Store),
		listed: make(map[SegmentKey]bool), keep: newRoom(keepBytes), news: make(chan struct{}, 1), hurry: make(chan struct{}, 1), wanted: make(chan struct{}, 1),
	}
	s.claim = claim{a: s.a, who: Claimant{
		Instance: cfg.Instance, Node: cfg.Node, Region: cfg.Region, AllowCrossRegion: cfg.AllowCrossRegion, Now: deps.Now, Rand: deps.Rand,
	}}
	for t, what := range map[*trouble]string{
		&s.connecting: "open the archive", &s.segments: "ship segments", &s.tail: "ship the tail", &s.fence: "look for a higher epoch", &s.checkpoints.trouble: "ship a checkpoint",
	} {
		t.what, t.log = what, deps.Logger
	}
	s.tail.timeout = partTimeout
	s.checkpoints.complete(0, deps.Now())
	// Nothing is shipped yet, as far as anyone knows: so nothing local may go.
	s.progress.begin(max(deps.Log.FirstLSN(), 1)-1, 0)
	deps.Metrics.watch(s)
	return s, nil
}

// Run ships until ctx ends, then returns nil. Whatever may pass by itself is tried
// again for ever. An error is for good: *FencedError, *ConflictError, *ForeignError,
// *RegionError, *UnpurgedError, *NewerError, frames that the log has no more, or what
// ended the log before it had a frame of the epoch.
func (s *Shipper) Run(ctx context.Context) error {
	err := s.run(ctx)
	if ctx.Err() != nil {
		return nil
	}
	s.ended.Store(&err)
	s.progress.changed()
	return err
}

func (s *Shipper) run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.watch(ctx) })
	g.Go(func() error {
		if err := s.retry(ctx, &s.connecting, 0, s.ownArchive); err != nil {
			return err
		}
		if err := s.ownEpoch(ctx); err != nil {
			return err
		}
		if err := s.retry(ctx, &s.connecting, 0, s.connect); err != nil {
			return err
		}
		s.connected.Store(true)
		s.progress.changed()
		g.Go(func() error { return s.shipSegments(ctx) })
		g.Go(func() error { return s.keepStanding(ctx) })
		if s.cfg.Tail {
			g.Go(func() error { return s.shipTail(ctx) })
		}
		return nil
	})
	return g.Wait()
}

// watch notes when frames become durable, and wakes who waits for segments, until the
// log is over.
func (s *Shipper) watch(ctx context.Context) error {
	for {
		advanced, over := s.deps.Log.Advanced(), s.deps.Log.Over()
		s.progress.sight(s.deps.Log.Durable(), s.deps.Now())
		select {
		case s.news <- struct{}{}:
		default:
		}
		if over != nil {
			return nil // what there is, was seen
		}
		select {
		case <-advanced:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		if err := sleep(ctx, watchEvery); err != nil {
			return err
		}
	}
}

// keepStanding ends the run when a higher epoch has begun, or a purge has counted.
func (s *Shipper) keepStanding(ctx context.Context) error {
	for {
		if err := sleep(ctx, fencePoll); err != nil {
			return err
		}
		if err := s.retry(ctx, &s.fence, 0, s.standing); err != nil {
			return err
		}
	}
}

// standing is an error if a higher epoch has begun, or this node may hold what a purge
// has removed.
func (s *Shipper) standing(ctx context.Context) error {
	higher, err := s.a.store.List(ctx, epochPrefix, EpochKey{s.cfg.Epoch}.String(), object.MaxList)
	if err != nil {
		return err
	}
	for _, info := range higher {
		if k, err := ParseKey(info.Key); err == nil {
			return &FencedError{Own: s.cfg.Epoch, Epoch: k.(EpochKey).Epoch, Key: info.Key}
		}
	}
	return s.purged(ctx)
}

// purged is an *UnpurgedError if the archive has had purges that this node was not built
// behind: its log and the files of its state may hold what they have removed.
func (s *Shipper) purged(ctx context.Context) error {
	records, err := keys[RedactionKey](ctx, s.a, redactionPrefix, "", nil)
	if err != nil || uint64(len(records)) <= s.cfg.Purges {
		return err
	}
	return &UnpurgedError{Store: s.a.store.String(), Purges: uint64(len(records)), Behind: s.cfg.Purges, Newest: records[len(records)-1].Key.String()}
}

// ShippedLSN is the last frame that the archive has in sealed segments, without a
// hole from where this node's log began. What is above it must stay on this node.
func (s *Shipper) ShippedLSN() lsn.LSN {
	segments, _ := s.progress.reached()
	return segments.to
}

// CheckpointWanted gives a value when a checkpoint is needed at once, because the
// archive has a gap that only a checkpoint bridges.
func (s *Shipper) CheckpointWanted() <-chan struct{} { return s.wanted }

// Leave has the metrics tell of s no more: its node is no writer any more. Its log may go
// on under another, whose frames are not for s to ship, and none of its ages would end.
func (s *Shipper) Leave() { s.deps.Metrics.unwatch(s) }

// PauseTail stops shipping the open segment; segments are shipped as before.
func (s *Shipper) PauseTail() { s.paused.Store(true) }

// ResumeTail goes on with the tail where it was paused.
func (s *Shipper) ResumeTail() { s.paused.Store(false) }
