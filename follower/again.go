package follower

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/shared/datadir"
	"originchain/shared/engine"
	"originchain/shared/lsn"
	"originchain/shared/replica"
	pb "originchain/shared/replica/replicapb"
	"originchain/shared/wal"
)

// prepareAgain makes the closed directory one whose log continues into the
// leader's.
func (f *Follower) prepareAgain(ctx context.Context, why error) error {
	f.deps.Log.WithError(why).Warn("the data directory is prepared to follow again")
	if errors.Is(why, engine.ErrUnclaimed) {
		return f.claim(ctx)
	}
	if errors.Is(why, engine.ErrUnusable) {
		if err := f.finishRewind(); err != nil {
			return err
		}
	}
	var p *parted
	if errors.As(why, &p) && p.last > 0 {
		whole, err := f.rewind(p)
		if err != nil || (whole && p.welcome.GetWay() == pb.Welcome_FORK) {
			return err
		}
	}
	return f.bootstrap(ctx)
}

// claim asks the leader which instance a new directory is of.
func (f *Follower) claim(ctx context.Context) (err error) {
	dir, err := f.openDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	hello := &pb.Hello{Node: dir.Identity().NodeID, Url: f.shell.Config().URL, Promotable: f.cfg.Promotable}
	for retry := firstRetry; ctx.Err() == nil; retry = min(2*retry, lastRetry) {
		w, err := f.ask(ctx, hello)
		if err == nil {
			return dir.Claim(ulid.ULID(w.GetInstance()))
		}
		f.lost(err)
		pause(ctx, retry)
	}
	return ctx.Err()
}

// ask says Hello and listens to the answer alone.
func (f *Follower) ask(ctx context.Context, hello *pb.Hello) (_ *pb.Welcome, err error) {
	conn, err := f.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	s, err := conn.Open(ctx, hello)
	if err != nil {
		return nil, err
	}
	s.Close()
	if n := len(s.Welcome.GetInstance()); n != len(ulid.ULID{}) {
		return nil, fmt.Errorf("the leader's instance has %d bytes", n)
	}
	return s.Welcome, nil
}

func (f *Follower) openDir() (*datadir.Dir, error) {
	cfg := f.shell.Config().Engine
	return datadir.Open(datadir.Options{FS: f.deps.FS, Path: cfg.DataDir, InstanceID: cfg.InstanceID, NodeID: cfg.NodeID, Follower: true})
}

// finishRewind makes sure that nothing of a log that is about to go is only there.
func (f *Follower) finishRewind() error {
	cfg := f.shell.Config().Engine
	cfg.Follower = true
	aside, err := engine.FinishRewind(cfg, f.shell.EngineDeps())
	f.keptAside(aside)
	return err
}

func (f *Follower) keptAside(aside []wal.Divergent) {
	for _, a := range aside {
		f.deps.Log.WithField("file", a.Path).WithField("epoch", uint64(a.Epoch)).WithField("first_lsn", uint64(a.First)).WithField("last_lsn", uint64(a.Last)).
			Error("frames that the leader's history does not have were set aside; waldump prints them")
	}
	f.metrics.setAside(aside)
}

// rewind sets aside what the leader's history does not have. It reports whether
// the state could go back as well.
func (f *Follower) rewind(p *parted) (whole bool, err error) {
	cfg := f.shell.Config().Engine
	cfg.Follower = true
	out, err := engine.Rewind(cfg, f.shell.EngineDeps(), lsn.LSN(p.welcome.GetForkLsn()), p.welcome.GetForkChain())
	missing := errors.Is(err, engine.ErrNoCheckpoint)
	if err != nil && !missing {
		return false, err
	}
	f.keptAside(out.Aside)
	f.deps.Log.WithField("fork_lsn", p.welcome.GetForkLsn()).WithField("state_lsn", uint64(out.State)).Warn("the log was taken back to the fork")
	return !missing, nil
}

// bootstrap takes a checkpoint from the leader in the place of state and log.
func (f *Follower) bootstrap(ctx context.Context) (err error) {
	dir, err := f.openDir()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	id := dir.Identity()
	fetch := &replica.Fetch{FS: f.deps.FS, Dir: dir.NextState(), Node: id.NodeID, Instance: id.InstanceID[:]}
	got, err := f.fetch(ctx, dir, fetch)
	if err != nil {
		return err
	}
	if got.Instance != id.InstanceID {
		return fmt.Errorf("the leader's checkpoint is of another instance, %s", ulid.ULID(got.Instance))
	}
	f.deps.Log.WithField("lsn", uint64(got.LSN)).WithField("bytes", got.Bytes).Info("the leader's checkpoint is here")
	return dir.Replace(true)
}

// fetch asks until the checkpoint is whole: what is here is not asked for again.
func (f *Follower) fetch(ctx context.Context, dir *datadir.Dir, fetch *replica.Fetch) (*replica.Fetched, error) {
	shown := time.Now()
	fetch.Progress = func(done, total uint64) {
		f.metrics.bootstrapped(done, total)
		if now := time.Now(); now.Sub(shown) > 5*time.Second {
			shown = now
			f.deps.Log.WithField("bytes", done).WithField("of_bytes", total).WithField("percent", 100*done/max(total, 1)).Info("taking the leader's checkpoint")
		}
	}
	for retry := firstRetry; ; retry = min(2*retry, lastRetry) {
		got, err := f.fetchOnce(ctx, dir, fetch)
		var local *replica.DiskError
		switch {
		case err == nil:
			return got, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case errors.As(err, &local):
			return nil, err
		}
		f.lost(err)
		pause(ctx, retry)
	}
}

func (f *Follower) fetchOnce(ctx context.Context, dir *datadir.Dir, fetch *replica.Fetch) (got *replica.Fetched, err error) {
	conn, err := f.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	fetch.Conn = conn
	if fetch.Accepted, err = dir.AcceptedEpoch(); err != nil {
		return nil, &replica.DiskError{Err: err}
	}
	got, err = fetch.Run(ctx)
	if errors.Is(err, replica.ErrStaleLeader) {
		f.metrics.stale.Inc()
	}
	if err != nil {
		return nil, fmt.Errorf("take the leader's checkpoint: %w", err)
	}
	return got, f.acceptEpoch(dir, got.Epoch)
}
