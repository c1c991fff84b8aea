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
	// Ends is the epoch that the operator names as the one that ends; 0 names none, which
	// will do only where Control knows that its holder has stopped: an archive cannot say so
	// of a writer, because one that is idle ships nothing.
	Ends lsn.Epoch
	// URL is where clients will reach the node; needed with Control.
	URL              string
	Region           string
	AllowCrossRegion bool

	// planned is what Check has found; nil without it.
	planned *planned
}

// planned is what an acceptance was planned on.
type planned struct {
	plan *Plan
	// record is the version of the record of who writes.
	record uint64
}

// ErrNotRestored says that a directory is none that can be accepted.
var ErrNotRestored = errors.New("the directory is no restored copy that waits for a decision")

// Check refuses what Accept would refuse of the copy that a plan leads to, before it is
// made. What has lived between the two is refused by Accept, unless its epoch is named.
func (o *Acceptance) Check(ctx context.Context, p *Plan) error {
	at := lsn.Pos{Epoch: p.Target.Epoch, LSN: p.Target.LSN}
	if len(p.survey.Lacks(at)) > 0 {
		return &PurgedError{DataDir: "what would be restored into " + o.DataDir, LSN: at.LSN}
	}
	a := &accepting{o: o, r: &datadir.Restored{Instance: p.Instance, Purges: len(p.survey.Redactions), Base: datadir.Base{LSN: at.LSN, Epoch: at.Epoch}}}
	o.planned = nil
	if err := a.name(ctx); err != nil {
		return err
	}
	o.planned = &planned{plan: p, record: a.rec.Version}
	return nil
}

// ThenAccept has the copy accepted at the end of the restore. What would be refused then
// is refused before anything is fetched; what has changed meanwhile, at the end.
func (o *Options) ThenAccept(a Acceptance) {
	a.FS, a.DataDir, a.Archive = o.FS, o.DataDir, o.Store
	o.Admit = a.Check
	o.Finish = func(ctx context.Context, at string, _ *Plan) error {
		a.DataDir = at
		_, err := Accept(ctx, a)
		if live := (*LiveError)(nil); errors.As(err, &live) {
			return fmt.Errorf("the copy is whole, in %s, and was not accepted: %w; it goes on where this one was, and without --accept it puts the copy in its place alone", at, err)
		}
		return err
	}
}

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
	live := &LiveError{Node: unknownNode, Named: a.o.Ends}
	if a.o.Archive == nil {
		a.live, live.Doubt = a.r.Base.Epoch, NoRecord
	} else {
		newest, err := a.newest(ctx)
		if err != nil {
			return err
		}
		if a.live = newest.Epoch; newest.Epoch > 0 {
			live.Node, live.Doubt = newest.Node, ArchiveAlone
		}
	}
	if a.o.Control != nil {
		if err := a.ask(ctx, live); err != nil {
			return err
		}
	}
	if p := a.o.planned; p != nil && live.Doubt == "" && a.rec.Version != p.record {
		live.Doubt = RecordChanged
	}
	live.Live = a.live
	if a.o.Ends != a.live && (live.Doubt != "" || a.o.Ends > 0) {
		return live
	}
	if p := a.o.planned; p != nil && a.o.Ends == 0 && a.o.Archive != nil {
		return a.grown(ctx, p.plan, live)
	}
	return nil
}

// ask asks the record of who writes. One that is not there, or is behind the archive,
// does not say that nothing is live.
func (a *accepting) ask(ctx context.Context, live *LiveError) error {
	rec, ok, err := a.load(ctx)
	if err != nil {
		return err
	}
	if ok && rec.Instance != a.r.Instance.String() {
		return fmt.Errorf("the record of who writes is of instance %s, the copy of %s; check --control", rec.Instance, a.r.Instance)
	}
	a.rec = rec
	switch {
	case !ok && live.Doubt != "":
		live.Doubt = NoRecord
	case !ok:
	case rec.Epoch < a.live:
		live.Doubt = RecordBehind
	case rec.Epoch == a.live && live.Doubt == ArchiveAlone && rec.Holder != live.Node:
		live.Doubt = RecordForeign // it was taken in the archive, by a node without a record
	default:
		a.live, live.Node, live.Doubt = rec.Epoch, rec.Holder, RecordHeld
		if a.o.Ends > 0 && !rec.Released {
			return nil // what is named need not have run out, and nothing else may end
		}
		stopped, err := a.stopped(ctx)
		if err != nil {
			return err
		}
		if live.Doubt = LeaseRenewed; stopped {
			live.Doubt = ""
		}
	}
	return nil
}

// stopped reports that the holder has released the record, or lets its lease run out:
// the record stands unchanged for lease.Expiry, counted from when it was there. A holder
// that renews later is met by the compare-and-set.
func (a *accepting) stopped(ctx context.Context) (bool, error) {
	for seen := time.Now(); ; {
		if a.rec.Released {
			return true, nil
		}
		if err := pause(ctx, lease.RenewEvery/2); err != nil {
			return false, err
		}
		over := time.Since(seen) >= lease.Expiry // when it is asked, not when it answers
		now, _, err := a.load(ctx)
		if err != nil {
			return false, err
		}
		was := a.rec
		a.rec = now
		switch {
		case now.Version == was.Version && over:
			return true, nil
		case now.Version != was.Version && (now.Epoch != was.Epoch || !now.Released):
			return false, nil
		}
	}
}

func (a *accepting) load(ctx context.Context) (lease.Record, bool, error) {
	rec, ok, err := a.o.Control.Load(ctx)
	if err != nil {
		return rec, ok, fmt.Errorf("read the record of who writes: %w", err)
	}
	return rec, ok, nil
}

// grown is an error if the archive has frames, on the newest line, that it did not have
// when the copy was planned: what has stopped since had acknowledged more.
func (a *accepting) grown(ctx context.Context, before *Plan, live *LiveError) error {
	now, err := MakePlan(ctx, a.o.Archive, Request{Instance: before.Instance, Epoch: before.Line, LSN: before.Target.LSN})
	if err != nil {
		return err
	}
	if now.Newest != before.Newest || before.Line == before.Newest && now.Until.LSN > before.Until.LSN {
		live.Doubt = ArchiveGrown
		return live
	}
	return nil
}

// unknownNode stands for a writer of which nothing is known.
const unknownNode = "unknown"

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
	// One whose object is not there, or cannot be read, may be the live one, and its number
	// is taken: its frames are there.
	if highest := traced(s); highest > newest.Epoch {
		newest = archive.Epoch{Epoch: highest, Node: unknownNode}
	}
	return newest, nil
}

// take takes the epoch, first in the record, then in the archive: from then on neither
// lets the writer before go on. The record comes first because its compare-and-set
// finds out a holder that has come back to life, before its archive is closed to it.
func (a *accepting) take(ctx context.Context) (epoch lsn.Epoch, err error) {
	b := &a.r.Base
	end := wal.Tail{Pos: lsn.Pos{Epoch: b.Epoch, LSN: b.LSN}, Chain: b.Chain, Digest: b.Digest, Timestamp: b.Stamp}
	epoch = max(a.live, b.Epoch)
	if a.o.Control != nil {
		next, err := a.rec.Take(lease.Candidate{Instance: a.r.Instance.String(), Node: a.node, URL: a.o.URL, Last: end.Pos, AtLeast: epoch, AcceptLoss: true})
		if err != nil {
			return 0, err
		}
		stored, err := a.o.Control.CompareAndSet(ctx, a.rec.Version, next)
		if err != nil {
			return 0, fmt.Errorf("take the record of who writes: %w; run the same command again", err)
		}
		epoch = stored.Epoch
	}
	if a.o.Archive == nil {
		return epoch, nil
	}
	who := archive.Claimant{Instance: a.r.Instance, Node: a.node, Region: a.o.Region, AllowCrossRegion: a.o.AllowCrossRegion}
	if a.o.Control != nil {
		epoch-- // the archive's is the record's
	}
	// What was named ends, and nothing that has begun since.
	epoch, err = archive.AllotEpoch(ctx, a.o.Archive, who, archive.Allotment{At: end, AtLeast: epoch, Ended: a.live})
	var fenced *archive.FencedError
	if errors.As(err, &fenced) {
		return 0, &LiveError{Live: fenced.Epoch, Node: fenced.Node, Named: a.o.Ends, Doubt: BegunSince}
	} else if err != nil {
		return 0, fmt.Errorf("take an epoch in the archive: %w", err)
	}
	return epoch, nil
}
