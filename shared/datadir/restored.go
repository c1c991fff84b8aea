package datadir

import (
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"

	"originchain/shared/lsn"
)

const restoredFile = "restored.json"

// Restored says that the directory was made by a restore, and of what. It stays in
// the directory for good: the log goes on behind Base.
type Restored struct {
	Format int `json:"format"`
	// Instance is the one whose history this is.
	Instance ulid.ULID `json:"instance_id"`
	// Base is the frame that the state was restored to. There is no file of the log
	// with it: the first segment begins behind.
	Base Base `json:"base"`
	// Archive is where it came from, Time when.
	Archive string    `json:"archive"`
	Time    time.Time `json:"time"`
	// Paused keeps the directory read-only until it is accepted, also where it would
	// become a new instance.
	Paused bool `json:"paused,omitempty"`
	// Mismatch says that the state's digest was not its frame's, and that an operator
	// took it as it is.
	Mismatch *Mismatch `json:"digest_mismatch,omitempty"`
	// Purged says that purges have taken pairs out of the state: Base's digest is what
	// is left, not what the frame carries.
	Purged bool `json:"purged,omitempty"`
	// Purges is how many the archive had had: a copy goes on as its instance only while
	// it had no more.
	Purges int `json:"purges,omitempty"`
	// Accepted is nil until an operator has made this copy the instance's history.
	Accepted *Acceptance `json:"accepted,omitempty"`
}

// Base is the end of a history that is not in the log here.
type Base struct {
	LSN    lsn.LSN    `json:"lsn"`
	Epoch  lsn.Epoch  `json:"epoch"`
	Chain  lsn.Chain  `json:"chain"`
	Digest lsn.Digest `json:"digest"`
	Stamp  int64      `json:"stamp_micros"`
}

// Mismatch is what a digest is and was to be.
type Mismatch struct {
	Want string `json:"want"`
	Got  string `json:"got"`
}

// Acceptance is the decision that a restored copy goes on as its instance.
type Acceptance struct {
	// Ends is the newest epoch that the operator has named; 0 where there was none.
	Ends lsn.Epoch `json:"ends_epoch"`
	// Epoch is what was taken to end it; an opening takes a higher one.
	Epoch lsn.Epoch `json:"epoch"`
	Time  time.Time `json:"time"`
}

func (r *Restored) check() error {
	switch {
	case r.Format > formatVersion:
		return fmt.Errorf("%w: %s has format %d, this version knows up to %d", ErrNewer, restoredFile, r.Format, formatVersion)
	case r.Format < 1 || r.Instance.IsZero() || r.Base.LSN == 0 || r.Base.Epoch == 0:
		return fmt.Errorf("%s does not say what was restored; the file is damaged: restore again into a fresh directory", restoredFile)
	}
	return nil
}

// Restored is what a restore left in the directory; nil if none made it. Who opens
// the log passes its Base on; who opens it as a writer asks Undecided first.
func (d *Dir) Restored() (*Restored, error) { return RestoredIn(d.fs, d.path) }

// RestoredIn is what a restore left in a directory that a server may have open: it
// takes no lock, and may be another one by the time that it is looked at.
func RestoredIn(fs vfs.FS, path string) (*Restored, error) {
	var r Restored
	err := readJSON(fs, fs.PathJoin(path, restoredFile), &r)
	switch {
	case errors.Is(err, errAbsent):
		return nil, nil
	case err != nil:
		return nil, err
	}
	return &r, r.check()
}

// Undecided is the restored copy that this directory still is; nil if it is none,
// if it was accepted as its instance (Accept), or has become one of its own
// (BecomeNew). Until then it takes no epoch: a server with its instance's archive or
// lease store serves it for reading alone, one with neither makes it a new instance
// unless it is Paused.
func (d *Dir) Undecided() (*Restored, error) {
	r, err := d.Restored()
	if err != nil || r == nil || r.Accepted != nil || r.Instance != d.identity.InstanceID {
		return nil, err
	}
	return r, nil
}

// BecomeNew makes a restored copy an instance of its own, which keeps its parent's
// id. It happens whole or not at all.
func (d *Dir) BecomeNew() error {
	r, err := d.Undecided()
	if err != nil || r == nil {
		return err
	}
	id := d.identity
	id.InstanceID, id.ParentID = ulid.MustNew(ulid.Now(), rand.Reader), &r.Instance
	if err := writeJSON(d.fs, d.path, instanceFile, id); err != nil {
		return err
	}
	d.identity = id
	return nil
}

// Accept makes a restored copy the history of its instance from now on. An epoch
// that this directory allots is above a.Epoch.
func (d *Dir) Accept(a Acceptance) error {
	r, err := d.Undecided()
	if err != nil || r == nil {
		return err
	}
	e, err := d.epochs()
	if err != nil {
		return err
	}
	// The epoch first: a copy that is accepted never allots one that was taken.
	if e.Epoch = max(e.Epoch, a.Epoch); e.Epoch > 0 {
		if err := writeJSON(d.fs, d.path, epochFile, e); err != nil {
			return err
		}
	}
	r.Accepted = &a
	return writeJSON(d.fs, d.path, restoredFile, r)
}

// Create lays out, in a directory that exists, what makes a restored state in
// StatePath a data directory of r.Instance. epoch is the highest that is known: what
// is allotted here goes on above it. The identity comes last. Nothing is locked.
func Create(fs vfs.FS, path, nodeID string, epoch lsn.Epoch, r Restored) error {
	r.Format = formatVersion
	if err := r.check(); err != nil {
		return err
	}
	id := Identity{Format: formatVersion, InstanceID: r.Instance, NodeID: nodeID}
	if id.NodeID == "" {
		id.NodeID = generatedNode()
	}
	for _, sub := range []string{logDir, checkpoints} {
		if err := fs.MkdirAll(fs.PathJoin(path, sub), 0o700); err != nil {
			return fmt.Errorf("create %s in the data directory %s: %w", sub, path, err)
		}
	}
	for _, f := range []struct {
		name string
		v    any
	}{{epochFile, epochRecord{Epoch: max(epoch, r.Base.Epoch)}}, {restoredFile, r}, {instanceFile, id}} {
		if err := writeJSON(fs, path, f.name, f.v); err != nil {
			return err
		}
	}
	return nil
}

// StatePath is where Create expects the state of a directory.
func StatePath(fs vfs.FS, path string) string { return fs.PathJoin(path, stateDir) }

func generatedNode() string {
	return "node-" + ulid.MustNew(ulid.Now(), rand.Reader).String()[16:]
}
