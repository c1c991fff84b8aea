package supervise

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// disk is what replaceFile does to the disk, so that a test can let each step fail.
type disk struct {
	create func(path string, mode fs.FileMode) (syncWriter, error)
	rename func(from, to string) error
	remove func(path string) error
	// syncDir makes names in a directory durable.
	syncDir func(dir string) error
}

type syncWriter interface {
	Write([]byte) (int, error)
	Sync() error
	Close() error
}

func realDisk() disk {
	return disk{
		create: func(path string, mode fs.FileMode) (syncWriter, error) {
			return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
		},
		rename: os.Rename,
		remove: os.Remove,
		syncDir: func(dir string) error {
			d, err := os.Open(dir)
			if err != nil {
				return err
			}
			return errors.Join(d.Sync(), d.Close())
		},
	}
}

// replaceFile replaces a file as one step: whoever reads it, after a crash too, finds the
// old text or the new one. The text is durable before it gets its name, and the name
// before replaceFile returns. A failed fsync is not tried again: the old file stands.
func (d disk) replaceFile(path string, text []byte, mode fs.FileMode) error {
	temporary := path + ".tmp"
	err := d.writeSynced(temporary, text, mode)
	if err == nil {
		err = d.rename(temporary, path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("replace %s: %w; it is as it was", path, err), d.discard(temporary))
	}
	if err := d.syncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("replace %s: the new text is there and may not survive a crash of the machine: %w", path, err)
	}
	return nil
}

func (d disk) discard(temporary string) error {
	if err := d.remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (d disk) writeSynced(path string, text []byte, mode fs.FileMode) error {
	f, err := d.create(path, mode)
	if err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Sync(); err != nil {
		return errors.Join(err, f.Close())
	}
	return f.Close()
}
