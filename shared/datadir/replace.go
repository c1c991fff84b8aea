package datadir

import (
	"errors"
	"fmt"
	iofs "io/fs"

	"originchain/shared/durable"
	"originchain/shared/lsn"
)

// Names of a replacement under way.
const (
	nextStateDir = "state.next"
	oldStateDir  = "state.old"
	// oldLogDir is what earlier versions left of a replacement that was cut short.
	oldLogDir    = "log.old"
	replaceFile  = "replace.json"
	unusableFile = "unusable.json"
)

// Unusable says why the state cannot be opened with the log any more.
type Unusable struct {
	Reason string `json:"reason"`
	// Fork is where the log's history parts from the leader's: frames above it are
	// to be set aside before the log may go.
	Fork lsn.LSN `json:"fork_lsn"`
}

// MarkUnusable takes note, durably, that the state does not go with the log any
// more and that the node needs a whole new one. Replace with dropLog ends that.
func (d *Dir) MarkUnusable(u Unusable) error {
	return writeJSON(d.fs, d.path, unusableFile, u)
}

// Unusable is why the node needs a whole new state; nil if it does not.
func (d *Dir) Unusable() (*Unusable, error) {
	var u Unusable
	err := readJSON(d.fs, d.fs.PathJoin(d.path, unusableFile), &u)
	if errors.Is(err, errAbsent) {
		return nil, nil
	}
	return &u, err
}

// replacement is the decision to put state.next in the place of the state. From
// the moment it is durable every opening carries it through.
type replacement struct {
	// DropLog says that the log ends before the new state begins, and goes with
	// the old one.
	DropLog bool `json:"drop_log"`
}

// NextState is where a state is prepared that is to replace the one in use.
func (d *Dir) NextState() string { return d.fs.PathJoin(d.path, nextStateDir) }

// Replace puts the prepared state in the place of the one in use; with dropLog
// the log and the local checkpoints, which belong to the old state, go too. Every
// file in NextState must be durable. Log and state must be closed. It happens
// whole or not at all: after a crash the next opening finishes it.
func (d *Dir) Replace(dropLog bool) error {
	// What an earlier one left would be taken for this one's.
	for _, old := range []string{oldStateDir, oldLogDir} {
		if err := d.removeAll(old); err != nil {
			return err
		}
	}
	if err := durable.SyncDir(d.fs, d.path); err != nil {
		return err
	}
	if err := writeJSON(d.fs, d.path, replaceFile, replacement{DropLog: dropLog}); err != nil {
		return fmt.Errorf("decide to replace the state: %w", err)
	}
	return d.finishReplacement()
}

// finishReplacement carries through what was decided; each step looks whether it
// is done already. Then what was replaced is let go.
func (d *Dir) finishReplacement() error {
	var r replacement
	err := readJSON(d.fs, d.fs.PathJoin(d.path, replaceFile), &r)
	if err == nil {
		err = d.carryThrough(&r)
	} else if errors.Is(err, errAbsent) {
		err = nil
	}
	if err != nil {
		return err
	}
	return errors.Join(d.removeAll(oldStateDir), d.removeAll(oldLogDir))
}

func (d *Dir) carryThrough(r *replacement) error {
	if err := d.swap(r); err != nil {
		return fmt.Errorf("replace the state in %s: %w", d.path, err)
	}
	if r.DropLog {
		// What was restored, and where its log went on from, has gone with the log.
		for _, name := range []string{unusableFile, restoredFile} {
			if err := d.removeAll(name); err != nil {
				return err
			}
		}
	}
	if err := d.fs.Remove(d.fs.PathJoin(d.path, replaceFile)); err != nil {
		return fmt.Errorf("replace the state in %s: %w", d.path, err)
	}
	return durable.SyncDir(d.fs, d.path)
}

// swap exchanges the directories. As long as state.next is there, it is not done.
func (d *Dir) swap(r *replacement) error {
	waiting, err := d.exists(nextStateDir)
	if err != nil || !waiting {
		return err
	}
	if r.DropLog {
		if err := d.fs.MkdirAll(d.Log(), 0o700); err != nil {
			return err
		}
		for _, dir := range []string{d.Log(), d.Checkpoints()} {
			if err := d.empty(dir); err != nil {
				return err
			}
		}
	}
	if err := d.setAsideState(); err != nil {
		return err
	}
	// The names so far must be durable before the last one says that all is done.
	if err := durable.SyncDir(d.fs, d.path); err != nil {
		return err
	}
	if err := d.fs.Rename(d.NextState(), d.State()); err != nil {
		return err
	}
	return durable.SyncDir(d.fs, d.path)
}

// setAsideState renames the state, unless that was done before.
func (d *Dir) setAsideState() error {
	done, err := d.exists(oldStateDir)
	if err != nil || done {
		return err
	}
	there, err := d.exists(stateDir)
	if err != nil || !there {
		return err
	}
	return d.fs.Rename(d.State(), d.fs.PathJoin(d.path, oldStateDir))
}

// empty removes what is in a directory, durably. The directory stays as it is: the log's may
// be a disk of its own, and a mount point can be neither renamed nor removed.
func (d *Dir) empty(dir string) error {
	names, err := d.fs.List(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if err := d.fs.RemoveAll(d.fs.PathJoin(dir, n)); err != nil {
			return err
		}
	}
	return durable.SyncDir(d.fs, dir)
}

func (d *Dir) exists(name string) (bool, error) {
	_, err := d.fs.Stat(d.fs.PathJoin(d.path, name))
	if errors.Is(err, iofs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

func (d *Dir) removeAll(name string) error {
	there, err := d.exists(name)
	if err != nil || !there {
		return err
	}
	if err := d.fs.RemoveAll(d.fs.PathJoin(d.path, name)); err != nil {
		return fmt.Errorf("remove %s from %s: %w", name, d.path, err)
	}
	return nil
}
