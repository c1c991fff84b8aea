package restore

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/archive"
	"originchain/shared/datadir"
	"originchain/shared/lease"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/wal"
)

// Acceptance says how a restored copy becomes the history of its instance.
type Acceptance struct {
	FS      vfs.FS
	DataDir string
	// Archive and Control are what the instance has: its archive, and the record of who
	// writes. At least one is set.
	Archive object.Store
	Control lease.Store
	// Ends is the epoch that the operator names as the one that ends; 0 names none.
	Ends lsn.Epoch
	// Quiet says that nothing has been shipped for as long as anyone has looked: then an
	// epoch of the archive need not be named. It does not speak for Control.
	Quiet bool
	// URL is where clients will reach the node; needed with Control.
	URL              string
	Region           string
	AllowCrossRegion bool
}

// ErrNotRestored says that a directory is none that can be accepted.
var ErrNotRestored = errors.New("the directory is no restored copy that waits for a decision")

// Accept takes an epoch above all that the instance has had, which fences its writer,
// and takes note of it in the directory. A copy that was accepted already is left as
// it is. A kill in between costs an epoch that comes to nothing.
func Accept(ctx context.Context, o Acceptance) (_ datadir.Acceptance, err error) {
	dir, err := datadir.OpenExisting(o.FS, o.DataDir)
	if err != nil {
		return datadir.Acceptance{}, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	r, err := dir.Restored()
	switch {
	case err != nil:
		return datadir.Acceptance{}, err
	case r == nil:
		return datadir.Acceptance{}, fmt.Errorf("%w: %s was made by a server", ErrNotRestored, o.DataDir)
	case r.Accepted != nil:
		return *r.Accepted, nil
	case dir.Identity().InstanceID != r.Instance:
		return datadir.Acceptance{}, fmt.Errorf("%w: %s has become instance %s", ErrNotRestored, o.DataDir, dir.Identity().InstanceID)
	}
	if r.Purged {
		return datadir.Acceptance{}, &PurgedError{DataDir: o.DataDir, LSN: r.Base.LSN}
	}
	a := &accepting{o: &o, node: dir.Identity().NodeID, r: r}
	if err := a.name(ctx); err != nil {
		return datadir.Acceptance{}, err
	}
	done := datadir.Acceptance{Ends: a.live, Time: time.Now().UTC()}
	if done.Epoch, err = a.take(ctx); err != nil {
		return datadir.Acceptance{}, err
	}
	return done, dir.Accept(done)
}

type accepting struct {
	o    *Acceptance
	node string
	r    *datadir.Restored
	// live is the newest epoch of the instance, highest too among what is not live.
	live lsn.Epoch
	rec  lease.Record
}

// name finds the epoch that ends, and holds it against what the operator has named.
func (a *accepting) name(ctx context.Context) error {
	must, node := false, "unknown"
	if a.o.Archive != nil {
		newest, err := a.newest(ctx)
		if err != nil {
			return err
		}
		if a.live = newest.Epoch; newest.Epoch > 0 {
			must, node = !a.o.Quiet, newest.Node
		}
	}
	if a.o.Control != nil {
		rec, ok, err := a.o.Control.Load(ctx)
		if err != nil {
			return fmt.Errorf("read the record of who writes: %w", err)
		}
		if ok && rec.Instance != a.r.Instance.String() {
			return fmt.Errorf("the record of who writes is of instance %s, the copy of %s; check --control", rec.Instance, a.r.Instance)
		}
		a.rec = rec
		// One that is not there, or lags behind the archive, does not say that nothing is live.
		if ok && rec.Epoch >= a.live {
			must, node, a.live = !rec.Released, rec.Holder, rec.Epoch
		} else if ok && !rec.Released {
			must = true
		}
	}
	if (must || a.o.Ends > 0) && a.o.Ends != a.live {
		return &LiveError{Live: a.live, Node: node, Named: a.o.Ends}
	}
	return nil
}

// newest is the newest epoch of the archive, which must be the copy's own.
func (a *accepting) newest(ctx context.Context) (newest archive.Epoch, err error) {
	reader := archive.New(patient{a.o.Archive})
	s, err := look(ctx, reader)
	if err != nil {
		return newest, err
	}
	if err := admit(reader, s, &Request{Instance: a.r.Instance, Region: a.o.Region, AllowCrossRegion: a.o.AllowCrossRegion}); err != nil {
		return newest, err
	}
	if err := behindAll(s, a.r.Purges, a.o.DataDir); err != nil {
		return newest, err
	}
	if a.o.Region == "" {
		a.o.Region = s.Instance.Region
	}
	for i := range s.Epochs {
		if s.Epochs[i].Epoch > newest.Epoch {
			newest = s.Epochs[i]
		}
	}
	return newest, nil
}

// take takes the epoch, first in the archive, then in the record: from then on neither
// lets the writer before go on.
func (a *accepting) take(ctx context.Context) (epoch lsn.Epoch, err error) {
	b := &a.r.Base
	end := wal.Tail{Pos: lsn.Pos{Epoch: b.Epoch, LSN: b.LSN}, Chain: b.Chain, Digest: b.Digest, Timestamp: b.Stamp}
	epoch = max(a.live, b.Epoch)
	if a.o.Archive != nil {
		who := archive.Claimant{Instance: a.r.Instance, Node: a.node, Region: a.o.Region, AllowCrossRegion: a.o.AllowCrossRegion}
		// What was named ends, and nothing that has begun since.
		epoch, err = archive.AllotEpoch(ctx, a.o.Archive, who, archive.Allotment{At: end, AtLeast: epoch, Ended: a.live})
		var fenced *archive.FencedError
		if errors.As(err, &fenced) {
			return 0, &LiveError{Live: fenced.Epoch, Node: fenced.Node, Named: a.o.Ends}
		} else if err != nil {
			return 0, fmt.Errorf("take an epoch in the archive: %w", err)
		}
	}
	if a.o.Control == nil {
		return epoch, nil
	}
	next, err := a.rec.Take(lease.Candidate{Instance: a.r.Instance.String(), Node: a.node, URL: a.o.URL, Last: end.Pos, AtLeast: epoch, AcceptLoss: true})
	if err != nil {
		return 0, err
	}
	stored, err := a.o.Control.CompareAndSet(ctx, a.rec.Version, next)
	if err != nil {
		return 0, fmt.Errorf("take the record of who writes: %w; run oc-pitr accept again", err)
	}
	return stored.Epoch, nil
}
