package engine

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/datadir"
	"originchain/shared/durable"
	"originchain/shared/lsn"
	"originchain/shared/table"
	"originchain/shared/wal"
)

// ErrNoCheckpoint says that no local state is as old as the place to go back to:
// the node needs a checkpoint of the leader's.
var ErrNoCheckpoint = errors.New("no local checkpoint is old enough")

// Rewound is what a rewind did.
type Rewound struct {
	// Aside are the frames that the new history does not have, and where they are.
	Aside []wal.Divergent
	// State is where the state stands now, at or below the fork.
	State lsn.LSN
}

// Rewind takes a closed data directory back to LSN fork, the last frame that its
// history shares with the leader's. The frames above are kept in files of their
// own in the directory, never thrown away; the state goes back to a local
// checkpoint at or below the fork, unless it stands there already. After a crash
// it can be run again. ErrNoCheckpoint comes when the frames are set aside and
// only the state is missing.
//
// chain is the chain value that the leader has at fork, empty where nothing is
// said of it. A log that has another one there parts further below, where neither
// side knows: then all of it is set aside.
func Rewind(cfg Config, deps Deps, fork lsn.LSN, chain []byte) (out Rewound, err error) {
	e := newEngine(cfg, deps)
	defer func() { err = errors.Join(err, e.release()) }()
	if e.dir, err = datadir.Open(e.dirOptions()); err != nil {
		return out, err
	}
	if err = e.openLog(wal.Tail{}); err != nil {
		return out, err
	}
	if fork, err = e.forkWithin(fork, chain); err != nil {
		return out, err
	}
	var missing error
	if out.State, err = e.rewindState(fork); errors.Is(err, ErrNoCheckpoint) {
		missing, err = err, e.dir.MarkUnusable(datadir.Unusable{Reason: err.Error(), Fork: fork})
	}
	if err != nil {
		return out, err
	}
	// The state first: one above the end of its log does not open.
	if out.Aside, err = e.log.SetAside(fork, e.dir.Path()); err != nil {
		return out, fmt.Errorf("set the frames above LSN %d aside: %w", fork, err)
	}
	return out, missing
}

// FinishRewind sets aside what a crash kept Rewind from setting aside in a
// directory that waits for a checkpoint.
func FinishRewind(cfg Config, deps Deps) (aside []wal.Divergent, err error) {
	e := newEngine(cfg, deps)
	defer func() { err = errors.Join(err, e.release()) }()
	if e.dir, err = datadir.Open(e.dirOptions()); err != nil {
		return nil, err
	}
	u, err := e.dir.Unusable()
	if err != nil || u == nil {
		return nil, err
	}
	if err = e.openLog(wal.Tail{}); err != nil {
		return nil, err
	}
	return e.log.SetAside(u.Fork, e.dir.Path())
}

// forkWithin is the fork as far as this log can tell.
func (e *Engine) forkWithin(fork lsn.LSN, chain []byte) (lsn.LSN, error) {
	first, last := e.log.FirstLSN(), e.log.Tail().Pos.LSN
	if first == 0 {
		return 0, nil
	}
	fork = min(fork, last)
	if fork+1 < first {
		return first - 1, nil
	}
	own, _, err := e.log.ChainAt(fork)
	if err != nil {
		return 0, err
	}
	if fork > 0 && len(chain) > 0 && string(own[:]) != string(chain) {
		return first - 1, nil
	}
	return fork, nil
}

// rewindState makes the state one at or below the fork. Checkpoints above it go:
// they hold what did not happen.
func (e *Engine) rewindState(fork lsn.LSN) (lsn.LSN, error) {
	kept, err := e.checkpoints()
	if err != nil {
		return 0, err
	}
	best, at := "", lsn.LSN(0)
	for _, n := range kept {
		path := e.deps.FS.PathJoin(e.dir.Checkpoints(), checkpointName(n))
		stands, err := e.standsAt(path)
		if err != nil {
			return 0, err
		}
		if stands > fork {
			if err := e.removeCheckpoint(n); err != nil {
				return 0, err
			}
			continue
		}
		best, at = path, stands
	}
	now, err := e.standsAt(e.dir.State())
	if err != nil || now <= fork {
		return now, err
	}
	if best == "" {
		return 0, fmt.Errorf("%w: the state stands at LSN %d and the histories part after %d", ErrNoCheckpoint, now, fork)
	}
	if err := e.copyCheckpoint(best); err != nil {
		return 0, fmt.Errorf("copy the checkpoint %s: %w", best, err)
	}
	return at, e.dir.Replace(false)
}

// standsAt is the LSN of a state that nobody has open; 0 for an empty directory.
func (e *Engine) standsAt(dir string) (lsn.LSN, error) {
	names, err := e.deps.FS.List(dir)
	if err != nil || len(names) == 0 {
		return 0, err
	}
	s, err := table.Open(table.Options{FS: e.deps.FS, Dir: dir, ReadOnly: true, Log: e.deps.Log})
	if err != nil {
		return 0, err
	}
	at, err := s.Applied()
	return at.Pos.LSN, errors.Join(err, s.Close())
}

// copyCheckpoint makes a copy that may be changed: tables are never written again
// and are linked, all else is copied.
func (e *Engine) copyCheckpoint(from string) error {
	fs, to := e.deps.FS, e.dir.NextState()
	if err := errors.Join(fs.RemoveAll(to), fs.MkdirAll(to, 0o700)); err != nil {
		return err
	}
	names, err := fs.List(from)
	if err != nil {
		return err
	}
	for _, n := range names {
		src, dst := fs.PathJoin(from, n), fs.PathJoin(to, n)
		if strings.HasSuffix(n, ".sst") || strings.HasSuffix(n, ".blob") {
			err = fs.Link(src, dst)
		} else {
			err = vfs.Copy(fs, src, dst)
		}
		if err != nil {
			return err
		}
	}
	return durable.SyncDir(fs, to)
}
