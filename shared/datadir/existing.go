package datadir

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// OpenExisting locks a directory that holds data and changes nothing in it: a
// place that is no data directory is refused, and does not become one. Every
// server makes the lock's file before anything else and never takes it away, so
// a directory without one is a copy that nobody has open; it is left without,
// and Close tells of a server that was started on it meanwhile. It need not be
// writable: a snapshot may be mounted for reading alone.
func OpenExisting(fs vfs.FS, path string) (*Dir, error) {
	d := &Dir{fs: fs, path: path}
	if err := readJSON(fs, fs.PathJoin(path, instanceFile), &d.identity); errors.Is(err, errAbsent) {
		return nil, fmt.Errorf("%w: %s has no %s; name the directory that a server was given as --data-dir", ErrForeign, path, instanceFile)
	} else if err != nil {
		return nil, err
	}
	if err := d.checkIdentity(Options{}); err != nil {
		return nil, err
	}
	name := fs.PathJoin(path, lockFile)
	if _, err := fs.Stat(name); errors.Is(err, iofs.ErrNotExist) {
		d.lock = copied{d}
		return d, nil
	} else if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	var err error
	if d.lock, err = fs.Lock(name); err != nil && unwritable(err) {
		d.lock, err = lockForReading(fs, name, err)
	}
	if err != nil {
		return nil, lockFault(path, err)
	}
	return d, nil
}

// copied is the lock of a copy.
type copied struct{ d *Dir }

// Close implements io.Closer.
func (c copied) Close() error {
	_, err := c.d.fs.Stat(c.d.fs.PathJoin(c.d.path, lockFile))
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("read %s in the data directory %s: %w", lockFile, c.d.path, err)
	}
	return fmt.Errorf("%w: a server was started on the copy %s while it was read; stop it, and read the copy again", ErrLocked, c.d.path)
}

// unwritable tells a file that may not be written from one that is locked.
func unwritable(err error) bool {
	return errors.Is(err, syscall.EROFS) || errors.Is(err, iofs.ErrPermission)
}

// lockForReading takes the lock as a reader, who needs not write its file: it
// keeps a server out, and is kept out by one, as the lock of a server is. Of
// the process's own locks it would free those on this file; but who may not
// write it has none.
func lockForReading(fs vfs.FS, name string, cause error) (io.Closer, error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	if f.Fd() == vfs.InvalidFd {
		return nil, errors.Join(cause, f.Close())
	}
	err = unix.FcntlFlock(f.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart})
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}
