package writer

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"originchain/shared/api"
	"originchain/shared/archive"
	"originchain/shared/engine"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/table"
	"originchain/shared/telemetry"
)

// Archiving says where a node archives what it writes; a follower reads there, and
// writes when it has become the writer.
type Archiving struct {
	// Store is where the archive is; nil: there is none.
	Store object.Store
	// Region is where the node runs; the archive is in the same one unless
	// AllowCrossRegion says that it need not be.
	AllowCrossRegion bool
	// Tail ships the open segment every TailWindow.
	Tail       bool
	TailWindow time.Duration
	// CheckpointEvery is how often the state is shipped, Retention for how long every
	// moment stays restorable.
	CheckpointEvery time.Duration
	Retention       time.Duration
}

const (
	// archiveDir is where the copy stands that is shipped, in the data directory.
	archiveDir = "archive.out"
	// epochWait bounds how long an opening that has a record asks the archive which
	// epochs it knows: an archive that is away keeps no writer from writing.
	epochWait = 2 * time.Second
	// shipGrace bounds how long a stop waits until the archive has the last frames.
	shipGrace = 5 * time.Second
)

// archiver is the archive's part of the writer role; its methods do nothing where
// there is no archive.
type archiver struct {
	node    *Shell
	cfg     Archiving
	store   *archive.Archive // nil: there is none
	engine  *engine.Engine
	shipper *archive.Shipper
	// making has room for the one who makes a checkpoint.
	making    chan struct{}
	retention *retention // nil: there is no archive
	// ended is why nothing is shipped any more by this opening.
	ended atomic.Pointer[error]
}

func newArchiver(node *Shell) *archiver {
	a := &archiver{node: node, cfg: node.cfg.Archive, making: make(chan struct{}, 1)}
	if a.cfg.Store != nil {
		a.store = archive.New(a.cfg.Store)
		a.retention = &retention{store: a.store, keep: a.cfg.Retention, log: node.deps.Log, began: time.Now(), draw: rand.Int64N, failures: node.metrics.retentionFailures}
	}
	return a
}

// ErrArchived says that a directory without data would become the writer of an
// instance that has an archive.
var ErrArchived = errors.New("the archive is of an instance that exists, and the data directory is empty")

// highestEpoch is the newest epoch that the archive knows of, 0 if it cannot be
// asked now: then the shipper finds out whether this node's is above it.
func (a *archiver) highestEpoch(ctx context.Context) (lsn.Epoch, error) {
	if a.store == nil {
		return 0, nil
	}
	asking, cancel := context.WithTimeout(ctx, epochWait)
	defer cancel()
	highest, err := a.store.HighestEpoch(asking)
	if err != nil && ctx.Err() == nil {
		a.node.deps.Log.WithError(err).Warn("the archive cannot be asked for its epochs; the epoch is taken without it, and nothing is shipped until it can")
		return 0, nil
	}
	return highest, ctx.Err()
}

// open makes the shipper of an open engine.
func (a *archiver) open(e *engine.Engine) (err error) {
	if a.store == nil {
		return nil
	}
	id := e.Identity()
	a.engine = e
	purges, err := e.Purges()
	if err != nil {
		return err
	}
	a.shipper, err = archive.NewShipper(archive.Config{
		Instance: id.InstanceID, Epoch: e.Epoch(), Node: id.NodeID, Region: a.node.cfg.Region, AllowCrossRegion: a.cfg.AllowCrossRegion,
		Tail: a.cfg.Tail, TailWindow: a.cfg.TailWindow, Purges: purges,
	}, archive.Deps{Store: a.cfg.Store, Log: e.Log(), FS: a.node.deps.FS, Logger: a.node.deps.Log, Metrics: a.node.metrics.archive})
	if err != nil {
		return err
	}
	a.retention.recall(&recalled{fs: a.node.deps.FS, dir: a.node.cfg.Engine.DataDir})
	a.node.archiver.Store(a)
	return a.clear()
}

// finish ships what a stop would leave on this node alone, within shipGrace.
func (a *archiver) finish(ctx context.Context) {
	if a.shipper == nil {
		return
	}
	ctx, cancel := context.WithTimeoutCause(ctx, shipGrace, fmt.Errorf("the stop waits for the archive no longer than %s", shipGrace))
	defer cancel()
	var left *archive.UnshippedError
	if err := a.shipper.Finish(ctx); errors.As(err, &left) {
		a.node.deps.Log.WithError(left.Err).WithField("from_lsn", uint64(left.From)).WithField("to_lsn", uint64(left.To)).
			Error("the writer stops, and the archive lacks its last frames: they are on this node alone, or on its followers, until a writer goes on from them")
	}
}

// close says that the node ships no more.
func (a *archiver) close() {
	a.node.archiver.CompareAndSwap(a, nil)
	if a.shipper != nil {
		a.shipper.Leave()
	}
}

// check adds to the checks of /ready. An archive that is away keeps nobody from the
// node: what it lacks is kept here.
func (a *archiver) check(into map[string]api.Check) {
	if a.shipper == nil {
		return
	}
	st := a.shipper.Status()
	c := api.Check{OK: st.Connected && st.LastError == "" && a.ended.Load() == nil}
	c.Degraded = !c.OK
	c.Detail = fmt.Sprintf("shipped up to LSN %d, recoverable up to %d; %d bytes are only here, the oldest for %.1f s; tail shipping %s", st.ShippedLSN, st.RecoverableLSN, st.UnshippedBytes, st.RPOSeconds, st.Tail)
	if err := a.ended.Load(); err != nil {
		c.Detail += "; nothing is shipped any more: " + (*err).Error()
	} else if st.LastError != "" {
		c.Detail += "; " + st.LastError
	}
	c.Detail = telemetry.Redact(c.Detail)
	into[checkArchive] = c
	into[checkRetention] = a.retention.check()
}

// clear removes a copy that a stop left.
func (a *archiver) clear() error {
	fs := a.node.deps.FS
	err := fs.RemoveAll(fs.PathJoin(a.node.cfg.Engine.DataDir, archiveDir))
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	return err
}

// run ships until ctx ends. Of its errors only a fence ends the writer: whatever else
// is wrong with the archive is shown, and the log is kept here.
func (a *archiver) run(ctx context.Context) error {
	if a.store == nil {
		return nil
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := a.shipper.Run(ctx)
		var fenced *archive.FencedError
		if err == nil || errors.As(err, &fenced) {
			return err
		}
		a.ended.Store(&err)
		a.node.deps.Log.WithError(err).Error("nothing is shipped to the archive any more, and the log grows here; see docs/RUNBOOK.md, oc_archive_unshipped_age_s")
		return nil
	})
	g.Go(func() error {
		c := rhythm{every: a.cfg.CheckpointEvery, draw: rand.Int64N, log: a.node.deps.Log, ship: func(ctx context.Context) error {
			_, err := a.checkpoint(ctx)
			return err
		}}
		c.run(ctx, a.shipper.CheckpointWanted())
		return nil
	})
	g.Go(func() error { a.retention.run(ctx); return nil })
	return g.Wait()
}

// shippedCheckpoint is a checkpoint in the archive, and where it stands.
type shippedCheckpoint struct {
	archive.Shipped
	at table.Applied
}

// checkpoint ships the state as it is visible now. One is made at a time.
func (a *archiver) checkpoint(ctx context.Context) (out shippedCheckpoint, err error) {
	select {
	case a.making <- struct{}{}:
		defer func() { <-a.making }()
	case <-ctx.Done():
		return out, ctx.Err()
	}
	// A copy costs a flush, and one that nobody takes is for nothing.
	if !a.shipper.Status().Connected {
		return out, archive.ErrNotConnected
	}
	fs := a.node.deps.FS
	dir := fs.PathJoin(a.node.cfg.Engine.DataDir, archiveDir)
	if err := a.clear(); err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, a.clear()) }()
	if out.at, err = a.engine.CopyState(dir); err != nil {
		return out, err
	}
	began := time.Now()
	out.Shipped, err = a.shipper.ShipCheckpoint(ctx, dir, out.at, a.engine.CommitLSN)
	if err == nil {
		a.node.deps.Log.WithField("lsn", uint64(out.at.Pos.LSN)).WithField("files", out.Files).WithField("new_files", out.NewFiles).WithField("bytes", out.Bytes).
			WithField("new_bytes", out.NewBytes).WithField("seconds", time.Since(began).Seconds()).Info("a checkpoint is in the archive")
	}
	return out, err
}

// shipped is the last frame that need not stay here on account of the archive; all
// where there is none.
func (a *archiver) shipped() lsn.LSN {
	if a.shipper == nil {
		return archive.MaxLSN
	}
	return a.shipper.ShippedLSN()
}
