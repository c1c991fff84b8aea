// Package durable is small files that are there whole, after a crash too: replaced in
// one step (Replace), and kept in a directory that processes of one machine share
// (Folder). What is in them is the concern of whoever writes them.
package durable

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Disk is what Replace does to a disk. Tests let a step of it fail.
type Disk struct {
	Create func(path string) (File, error)
	Rename func(from, to string) error
	Remove func(path string) error
	// SyncDir makes the names in the directory of a file durable.
	SyncDir func(path string) error
}

// File is one that is being written.
type File interface {
	io.WriteCloser
	Sync() error
}

// On is a Disk as the engine reaches it.
func On(fs vfs.FS) Disk {
	return Disk{
		Create:  func(path string) (File, error) { return fs.Create(path, vfs.WriteCategoryUnspecified) },
		Rename:  fs.Rename,
		Remove:  fs.Remove,
		SyncDir: func(path string) error { return SyncDir(fs, fs.PathDir(path)) },
	}
}

// OnOS is the machine's own Disk, where files have a mode from the moment that they
// are there.
func OnOS(mode iofs.FileMode) Disk {
	return Disk{
		Create: func(path string) (File, error) { return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode) },
		Rename: os.Rename,
		Remove: os.Remove,
		SyncDir: func(path string) error {
			return SyncDir(vfs.Default, filepath.Dir(path))
		},
	}
}

// Step is one of a replacement.
type Step int

// The steps, in their order.
const (
	Writing Step = iota
	Syncing
	Renaming
	SyncingDir
)

// Error says at which step a replacement failed. Up to Renaming the file is as it was;
// from there on nobody knows, and after a crash it is the one or the other.
type Error struct {
	Step Step
	Err  error
}

// Error implements error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Unknown reports that the file may be the new one.
func (e *Error) Unknown() bool { return e.Step >= Renaming }

// Fsync reports that an fsync failed, which may not be tried again: the next one could
// succeed without the data.
func (e *Error) Fsync() bool { return e.Step == Syncing || e.Step == SyncingDir }

// Replace replaces a file as one step: whoever reads it, after a crash too, finds the
// old bytes or the new ones. The bytes are durable before they get the name, and the
// name before Replace returns nil. Its error is an *Error. The temporary is beside the
// file; one that a crash leaves there is written over by the next Replace.
func Replace(d Disk, path, temporary string, b []byte) error {
	if step, err := write(d, temporary, b); err != nil {
		return &Error{step, errors.Join(fmt.Errorf("write %s: %w", temporary, err), discard(d, temporary))}
	}
	if err := d.Rename(temporary, path); err != nil {
		return &Error{Renaming, errors.Join(fmt.Errorf("write %s: %w", path, err), discard(d, temporary))}
	}
	if err := d.SyncDir(path); err != nil {
		return &Error{SyncingDir, err}
	}
	return nil
}

func write(d Disk, path string, b []byte) (Step, error) {
	f, err := d.Create(path)
	if err != nil {
		return Writing, err
	}
	if _, err := f.Write(b); err != nil {
		return Writing, errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return Syncing, errors.Join(err, f.Close())
	}
	return Writing, f.Close()
}

// Secret replaces a file of this machine that only its owner may read. Several may do
// so at the same time: each has a temporary of its own.
func Secret(path string, b []byte) error {
	return Replace(OnOS(0o600), path, filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+rand.Text()), b)
}

// discard takes away what is of no use: the disk may be full of it.
func discard(d Disk, temporary string) error {
	if err := d.Remove(temporary); err != nil && !errors.Is(err, iofs.ErrNotExist) {
		return err
	}
	return nil
}

// MakeDirs creates what is missing of the path and makes every name on it
// durable: a data directory whose own name, or a parent's, a crash could take
// away would lose every acknowledged write. Names that stand there already are
// synced too, because the start that made them may have been killed before it
// did. A few fsyncs at a start are cheaper than knowing.
func MakeDirs(fs vfs.FS, path string) error {
	if err := fs.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("create the directory %s: %w; check the path and its permissions", path, err)
	}
	for {
		parent := fs.PathDir(path)
		if parent == path {
			return nil
		}
		// A directory that may not be read is none that a start has written to.
		if err := SyncDir(fs, parent); err != nil && !errors.Is(err, iofs.ErrPermission) {
			return err
		}
		path = parent
	}
}

// SyncDir makes the entries of a directory durable.
func SyncDir(fs vfs.FS, path string) error {
	d, err := fs.OpenDir(path)
	if err != nil {
		return fmt.Errorf("sync directory %s: %w", path, err)
	}
	if err := d.Sync(); err != nil {
		return errors.Join(fmt.Errorf("sync directory %s: %w", path, err), d.Close())
	}
	return d.Close()
}
