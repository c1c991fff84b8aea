// Package datadir is the directory of one node: who may open it (one process,
// by a lock), which instance and node it belongs to, and the highest epoch it
// has allotted. Every file is written whole: temporary, fsync, rename, fsync of
// the directory.
package datadir

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"

	"originchain/shared/durable"
	"originchain/shared/lsn"
)

// formatVersion is the layout of a data directory. A higher one is refused.
const formatVersion = 1

// Names inside the directory.
const (
	lockFile     = "LOCK"
	instanceFile = "instance.json"
	epochFile    = "epoch.json"
	logDir       = "log"
	stateDir     = "state"
	checkpoints  = "checkpoints"
)

// Errors that say why a directory was not opened; each has an exit code.
var (
	// ErrLocked: another process has the directory open.
	ErrLocked = errors.New("the data directory is in use by another process")
	// ErrForeign: the directory is not this instance's, or no data directory at all.
	ErrForeign = errors.New("the data directory does not belong to this instance")
	// ErrNewer: a newer server wrote it.
	ErrNewer = errors.New("the data directory was written by a newer server")
)

// Identity says whose directory this is.
type Identity struct {
	Format     int       `json:"format"`
	InstanceID ulid.ULID `json:"instance_id"`
	NodeID     string    `json:"node_id"`
	// Unclaimed says that a follower made the directory and has not learned yet
	// which instance it is of: there is nothing in it.
	Unclaimed bool `json:"unclaimed,omitempty"`
	// ParentID is the instance this one was restored from, if any.
	ParentID *ulid.ULID `json:"parent_id,omitempty"`
}

// Options name the directory and what is expected of it. Empty ids accept what
// is there, and are generated where nothing is.
type Options struct {
	FS         vfs.FS
	Path       string
	InstanceID string
	NodeID     string
	// Follower leaves a new directory without an instance: Claim gives it the
	// leader's.
	Follower bool
}

// Dir is an open, locked data directory.
type Dir struct {
	fs       vfs.FS
	path     string
	lock     io.Closer
	identity Identity
}

// Open locks the directory, creating it when it is absent or empty.
func Open(o Options) (*Dir, error) {
	if err := durable.MakeDirs(o.FS, o.Path); err != nil {
		return nil, err
	}
	names, err := o.FS.List(o.Path)
	if err != nil {
		return nil, fmt.Errorf("read the data directory %s: %w", o.Path, err)
	}
	lock, err := o.FS.Lock(o.FS.PathJoin(o.Path, lockFile))
	if err != nil {
		return nil, lockFault(o.Path, err)
	}
	d := &Dir{fs: o.FS, path: o.Path, lock: lock}
	if err := d.identify(o, names); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if err := d.finishReplacement(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return d, nil
}

// lockFault tells a lock that somebody holds from a lock file that could not be
// made: a read-only disk is not another process.
func lockFault(path string, err error) error {
	var open *iofs.PathError
	if errors.As(err, &open) && !errors.Is(err, syscall.EAGAIN) {
		return fmt.Errorf("the data directory %s cannot be written: %w; check the disk and the permissions", path, err)
	}
	return fmt.Errorf("%w: %s; stop the other oc-server, or give this one its own --data-dir: %w", ErrLocked, path, err)
}

func (d *Dir) identify(o Options, names []string) error {
	err := readJSON(d.fs, d.fs.PathJoin(d.path, instanceFile), &d.identity)
	switch {
	case err == nil:
		if err := d.checkIdentity(o); err != nil || o.Follower || !d.identity.Unclaimed {
			return err
		}
		return d.Claim(ulid.MustNew(ulid.Now(), rand.Reader))
	case !errors.Is(err, errAbsent):
		return err
	}
	for _, n := range names {
		fresh, err := d.fresh(n)
		if err != nil {
			return err
		}
		if !fresh {
			return fmt.Errorf("%w: %s is not empty (it holds %q) and has no %s; name an empty directory", ErrForeign, d.path, n, instanceFile)
		}
	}
	return d.create(o)
}

// fresh reports a name that may stand in a directory that has no data yet: our
// own, left by a start that was cut short, or made by the operator before. A
// part of a data directory with anything in it is one that lost its identity.
func (d *Dir) fresh(name string) (bool, error) {
	switch name {
	case lockFile, instanceFile + ".tmp", "lost+found", "admin.token", "audit.log":
		return true, nil
	case logDir, stateDir, checkpoints:
		inside, err := d.fs.List(d.fs.PathJoin(d.path, name))
		if err != nil {
			return false, fmt.Errorf("read %s in the data directory %s: %w", name, d.path, err)
		}
		return len(inside) == 0, nil
	}
	return false, nil
}

func (d *Dir) checkIdentity(o Options) error {
	id := d.identity
	if id.Format > formatVersion {
		return fmt.Errorf("%w: %s has format %d, this server knows up to %d; start the newer server", ErrNewer, d.path, id.Format, formatVersion)
	}
	if id.Format < 1 || id.InstanceID.IsZero() != id.Unclaimed || id.NodeID == "" {
		return fmt.Errorf("%s in %s names no instance and node; the file is damaged: restore the directory from the archive, or put back the file", instanceFile, d.path)
	}
	if o.InstanceID != "" {
		want, err := ulid.ParseStrict(o.InstanceID)
		if err != nil {
			return fmt.Errorf("instance id %q is not a ULID: %w", o.InstanceID, err)
		}
		if want != id.InstanceID && !id.Unclaimed {
			return fmt.Errorf("%w: %s is of instance %s, not %s; check --data-dir and --instance-id", ErrForeign, d.path, id.InstanceID, want)
		}
	}
	if o.NodeID != "" && o.NodeID != id.NodeID {
		return fmt.Errorf("%w: %s is of node %q, not %q; check --data-dir and --node-id", ErrForeign, d.path, id.NodeID, o.NodeID)
	}
	return nil
}

func (d *Dir) create(o Options) error {
	id := Identity{Format: formatVersion, NodeID: o.NodeID}
	if o.InstanceID != "" {
		parsed, err := ulid.ParseStrict(o.InstanceID)
		if err != nil {
			return fmt.Errorf("instance id %q is not a ULID: %w", o.InstanceID, err)
		}
		id.InstanceID = parsed
	} else if o.Follower {
		id.Unclaimed = true
	} else {
		id.InstanceID = ulid.MustNew(ulid.Now(), rand.Reader)
	}
	if id.NodeID == "" {
		id.NodeID = generatedNode()
	}
	for _, sub := range []string{logDir, stateDir, checkpoints} {
		if err := d.fs.MkdirAll(d.fs.PathJoin(d.path, sub), 0o700); err != nil {
			return fmt.Errorf("create %s in the data directory %s: %w", sub, d.path, err)
		}
	}
	// The identity comes last: a directory that has it has everything else.
	if err := writeJSON(d.fs, d.path, instanceFile, id); err != nil {
		return err
	}
	d.identity = id
	return nil
}

// Claim makes a directory that belongs to no instance yet one of instance.
func (d *Dir) Claim(instance ulid.ULID) error {
	if !d.identity.Unclaimed {
		if d.identity.InstanceID == instance {
			return nil
		}
		return fmt.Errorf("%w: %s is of instance %s, not %s", ErrForeign, d.path, d.identity.InstanceID, instance)
	}
	id := d.identity
	id.InstanceID, id.Unclaimed = instance, false
	if err := writeJSON(d.fs, d.path, instanceFile, id); err != nil {
		return err
	}
	d.identity = id
	return nil
}

// Disclaim makes a directory in which there is no frame one that belongs to no
// instance: it was made for a new one, and there is one already. Without frames,
// the id stands for nothing.
func (d *Dir) Disclaim() error {
	id := d.identity
	id.InstanceID, id.Unclaimed = ulid.ULID{}, true
	if err := writeJSON(d.fs, d.path, instanceFile, id); err != nil {
		return err
	}
	d.identity = id
	return nil
}

// Identity is whose directory this is.
func (d *Dir) Identity() Identity { return d.identity }

// Path is the directory itself.
func (d *Dir) Path() string { return d.path }

// LogOf is the log's directory in the data directory of a path.
func LogOf(fs vfs.FS, path string) string { return fs.PathJoin(path, logDir) }

// Log is where the segments live.
func (d *Dir) Log() string { return LogOf(d.fs, d.path) }

// State is where the key-value state lives.
func (d *Dir) State() string { return d.fs.PathJoin(d.path, stateDir) }

// Checkpoints is where local checkpoints of the state live.
func (d *Dir) Checkpoints() string { return d.fs.PathJoin(d.path, checkpoints) }

// Close releases the lock.
func (d *Dir) Close() error { return d.lock.Close() }

type epochRecord struct {
	Epoch lsn.Epoch `json:"epoch"`
	// Accepted is the highest epoch of a leader that this node has followed.
	Accepted lsn.Epoch `json:"accepted,omitempty"`
	// Claims are the nonces under which epochs were last taken in an archive.
	Claims []string `json:"claims,omitempty"`
}

func (d *Dir) epochs() (r epochRecord, err error) {
	err = readJSON(d.fs, d.fs.PathJoin(d.path, epochFile), &r)
	if errors.Is(err, errAbsent) {
		err = nil
	}
	return r, err
}

// AllotEpoch takes the next epoch, above every one this directory allotted or
// accepted and above atLeast (the log's last). It is durable before it returns,
// so no two openings ever share an epoch.
func (d *Dir) AllotEpoch(atLeast lsn.Epoch) (lsn.Epoch, error) {
	r, err := d.epochs()
	if err != nil {
		return 0, err
	}
	r.Epoch = max(r.Epoch, r.Accepted, atLeast) + 1
	return r.Epoch, writeJSON(d.fs, d.path, epochFile, r)
}

// AdoptEpoch takes an epoch that was allotted elsewhere on this node's behalf. It is
// durable before it returns. One that this directory has allotted, or accepted of
// a leader, is refused: its frames may exist.
func (d *Dir) AdoptEpoch(epoch lsn.Epoch) error {
	r, err := d.epochs()
	if err != nil {
		return err
	}
	if epoch <= max(r.Epoch, r.Accepted) {
		return fmt.Errorf("epoch %d was given to this node, and its directory has epoch %d already", epoch, max(r.Epoch, r.Accepted))
	}
	r.Epoch = epoch
	return writeJSON(d.fs, d.path, epochFile, r)
}

// ErrStaleLeader says that a leader of a higher epoch was accepted before.
var ErrStaleLeader = errors.New("the leader is of an epoch that has ended")

// AcceptedEpoch is the highest epoch of a leader that this node has accepted. One
// that it allotted itself may have come to nothing, and says nothing of others.
func (d *Dir) AcceptedEpoch() (lsn.Epoch, error) {
	r, err := d.epochs()
	return r.Accepted, err
}

// AcceptEpoch takes note of a leader's epoch before a byte of it is taken. A lower
// one than before is ErrStaleLeader.
func (d *Dir) AcceptEpoch(epoch lsn.Epoch) error {
	r, err := d.epochs()
	if err != nil {
		return err
	}
	switch {
	case epoch < r.Accepted:
		return fmt.Errorf("%w: epoch %d, and epoch %d was accepted before", ErrStaleLeader, epoch, r.Accepted)
	case epoch == r.Accepted:
		return nil
	}
	r.Accepted = epoch
	return writeJSON(d.fs, d.path, epochFile, r)
}

// maxClaims bounds the nonces that are kept: the archive's newest and the next one.
const maxClaims = 2

// Claims are the nonces under which this directory took epochs in an archive, or was
// about to, when NoteClaims was called last.
func (d *Dir) Claims() ([]string, error) {
	r, err := d.epochs()
	return r.Claims, err
}

// NoteClaims keeps nonces in the place of those before. It is durable before it
// returns: an epoch that carries one of them was taken by this directory, also if it
// has no frame of it.
func (d *Dir) NoteClaims(nonces []string) error {
	if len(nonces) > maxClaims {
		return fmt.Errorf("note %d claims in %s, which keeps %d", len(nonces), epochFile, maxClaims)
	}
	r, err := d.epochs()
	if err != nil {
		return err
	}
	r.Claims = nonces
	return writeJSON(d.fs, d.path, epochFile, r)
}

var errAbsent = errors.New("absent")

// maxFileBytes bounds the small files read here.
const maxFileBytes = 64 << 10

func readJSON(fs vfs.FS, path string, into any) (err error) {
	info, err := fs.Stat(path)
	if err != nil {
		if errors.Is(err, iofs.ErrNotExist) {
			return errAbsent
		}
		return fmt.Errorf("read %s: %w", path, err)
	}
	if info.Size() > maxFileBytes {
		return fmt.Errorf("read %s: %d bytes are more than the %d it can have; the file is damaged", path, info.Size(), maxFileBytes)
	}
	f, err := fs.Open(path)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	b, err := io.ReadAll(io.LimitReader(f, maxFileBytes))
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("read %s: %w; the file is damaged: restore the directory from the archive, or put back the file", path, err)
	}
	return nil
}

func writeJSON(fs vfs.FS, dir, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	path := fs.PathJoin(dir, name)
	if err := durable.Replace(durable.On(fs), path, path+".tmp", append(b, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
