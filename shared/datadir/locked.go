package datadir

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Locked says whether another process has a data directory of this machine open. It
// takes no lock, so that it is in nobody's way. A directory that is not there is not.
func Locked(path string) (is bool, err error) {
	f, err := os.Open(filepath.Join(path, lockFile))
	if errors.Is(err, iofs.ErrNotExist) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("tell whether the data directory %s is open: %w", path, err)
	}
	// Its end would give up a lock of this process's own, which opens no such directory.
	defer func() { err = errors.Join(err, f.Close()) }()
	held := unix.Flock_t{Type: unix.F_RDLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &held); err != nil {
		return false, fmt.Errorf("tell whether the data directory %s is open: %w", path, err)
	}
	return held.Type != unix.F_UNLCK, nil
}
