package object

import (
	"errors"
	iofs "io/fs"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// osDisk is a directory of the operating system. os.Root keeps every name in it,
// whatever symbolic links there are and however they change.
type osDisk struct {
	path string
	root *os.Root
	made bool
}

func openRoot(dir string, makes bool) (disk, error) {
	root, err := os.OpenRoot(dir)
	made := makes && errors.Is(err, iofs.ErrNotExist)
	if made {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		root, err = os.OpenRoot(dir)
	}
	if err != nil {
		return nil, err
	}
	return &osDisk{dir, root, made}, nil
}

func (d *osDisk) close() error { return d.root.Close() }

func (d *osDisk) isNew() bool { return d.made }

// create takes the lock of a file before anyone can have removed it as abandoned,
// or makes none.
func (d *osDisk) create(name string) (temporary, error) {
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	err = flock(f)
	var st unix.Stat_t
	if err == nil {
		err = unix.Fstat(int(f.Fd()), &st)
	}
	if err == nil && st.Nlink == 0 {
		err = unix.EWOULDBLOCK
	}
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errSwept
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// flock takes the lock of an open file, or fails with EWOULDBLOCK. It ends with the
// file's closing, or with the process.
func flock(f *os.File) error {
	return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
}

func (d *osDisk) abandoned(name string) error {
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	if err = flock(f); err == nil {
		err = d.unlink(name)
	} else if errors.Is(err, unix.EWOULDBLOCK) {
		err = nil // in use
	}
	return errors.Join(err, f.Close())
}

func (d *osDisk) link(from, to string) error { return d.root.Link(from, to) }

func (d *osDisk) unlink(name string) error { return d.unlinkAt(name, 0) }

func (d *osDisk) rmdir(name string) error { return d.unlinkAt(name, unix.AT_REMOVEDIR) }

// unlinkAt is os.Root.Remove for what the caller means: that would take a file for
// a directory, and the reverse.
func (d *osDisk) unlinkAt(name string, flags int) error {
	dir, err := d.root.OpenFile(path.Dir(name), os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	if err = unix.Unlinkat(int(dir.Fd()), path.Base(name), flags); err != nil {
		err = &iofs.PathError{Op: "remove", Path: name, Err: err}
	}
	return errors.Join(err, dir.Close())
}

func (d *osDisk) mkdir(name string) error { return d.root.Mkdir(name, 0o700) }

// open opens what stat describes: os.Root would follow a symbolic link within it.
func (d *osDisk) open(name string) (file, error) {
	before, err := d.stat(name)
	if err != nil {
		return nil, err
	}
	// A pipe must not block; the caller asks what it is.
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		if before.Mode()&iofs.ModeSymlink != 0 {
			err = &iofs.PathError{Op: "open", Path: name, Err: iofs.ErrNotExist}
		}
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !os.SameFile(before, info) {
		err = &iofs.PathError{Op: "open", Path: name, Err: iofs.ErrNotExist}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (d *osDisk) stat(name string) (iofs.FileInfo, error) { return d.root.Lstat(name) }

func (d *osDisk) list(name string) (entries []iofs.DirEntry, err error) {
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	entries, err = f.ReadDir(-1)
	return entries, errors.Join(err, f.Close())
}

func (d *osDisk) syncDir(name string) error {
	f, err := d.root.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	return syncAndClose(f)
}

// syncAbove syncs what leads to the folder. A directory that may not be read is
// none that this user has made anything in.
func (d *osDisk) syncAbove() error {
	dir, err := filepath.Abs(d.path)
	if err != nil {
		return err
	}
	for dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
		f, err := os.Open(dir)
		if err == nil {
			err = syncAndClose(f)
		}
		if err != nil && !errors.Is(err, iofs.ErrPermission) {
			return err
		}
	}
	return nil
}

func syncAndClose(f *os.File) error {
	if err := f.Sync(); err != nil {
		return errors.Join(&syncError{err}, f.Close())
	}
	return f.Close()
}
