package engine

import (
	"errors"
	"fmt"

	"originchain/shared/datadir"
	"originchain/shared/lsn"
	"originchain/shared/table"
	"originchain/shared/wal"
)

// opening is what a directory is opened for.
type opening int

const (
	asWriter opening = iota
	asFollower
	asReader
)

// NotAcceptedError says that the directory is a restored copy that nobody has
// accepted: it can be read (OpenReader), and takes no epoch.
type NotAcceptedError struct {
	Dir      string
	Restored *datadir.Restored
}

// Error implements error.
func (e *NotAcceptedError) Error() string {
	return fmt.Sprintf("%s is a copy of instance %s, restored to LSN %d of epoch %d, and is served for reading alone: "+
		"to make it the instance's history run oc-pitr accept --data-dir %s, which ends the epoch that is live; "+
		"to make it a new instance start it without --archive, --control and --instance-id",
		e.Dir, e.Restored.Instance, e.Restored.Base.LSN, e.Restored.Base.Epoch, e.Dir)
}

// settleRestored decides what becomes of a restored copy, and returns where its log
// goes on. A follower's goes on where its leader says, like one whose state came as
// a checkpoint.
func (e *Engine) settleRestored(as opening) (base wal.Tail, err error) {
	r, err := e.dir.Restored()
	if err != nil || r == nil || as == asFollower {
		return base, err
	}
	if as == asWriter {
		if err := e.decideRestored(); err != nil {
			return base, err
		}
	}
	b := &r.Base
	return wal.Tail{Pos: lsn.Pos{Epoch: b.Epoch, LSN: b.LSN}, Chain: b.Chain, Digest: b.Digest, Timestamp: b.Stamp}, nil
}

// decideRestored makes an instance of its own of a copy that nobody else can know
// of, and refuses one that its instance may be alive beside.
func (e *Engine) decideRestored() error {
	r, err := e.dir.Undecided()
	if err != nil || r == nil {
		return err
	}
	if e.cfg.Shared || r.Paused || e.cfg.InstanceID != "" {
		return &NotAcceptedError{Dir: e.cfg.DataDir, Restored: r}
	}
	if err := e.dir.BecomeNew(); err != nil {
		return err
	}
	e.deps.Log.WithField("instance", e.dir.Identity().InstanceID.String()).WithField("parent", r.Instance.String()).WithField("lsn", uint64(r.Base.LSN)).
		Warn("this restored copy was opened without its instance's archive and lease store: it is a new instance from now on")
	return nil
}

// OpenReader opens a restored copy that nobody has accepted, to be read as it is. It
// takes no epoch and follows nobody. RunFollower keeps it open.
func OpenReader(cfg Config, deps Deps) (*Engine, error) {
	e, err := openToRead(cfg, deps, asReader)
	if err != nil {
		return nil, err
	}
	if e.applied != e.tailApplied() {
		err := fmt.Errorf("the restored state in %s stands at LSN %d and not at the end of its log, LSN %d; restore again into a fresh directory", cfg.DataDir, e.applied.Pos.LSN, e.log.Tail().Pos.LSN)
		return nil, errors.Join(err, e.release())
	}
	e.restored = true
	e.Advance(e.applied.Pos.LSN, e.applied.Stamp)
	return e, nil
}

func (e *Engine) tailApplied() table.Applied {
	t := e.log.Tail()
	return table.Applied{Pos: t.Pos, Chain: t.Chain, Digest: t.Digest, Stamp: t.Timestamp}
}
