package pitr

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"originchain/shared/datadir"
	"originchain/shared/restore"
)

// scratchName is the directory that a command works in and removes in the end: in the
// one that was named, or where the machine has such things. It holds rows. One that a
// kill has left is removed by whoever comes next: its lock is free.
const scratchName = "oc-pitr-scratch"

const scratchLock = "LOCK"

// scratch is where to restore to, and what removes it.
func (c *command) scratch(keep bool) (path string, clean func() error, err error) {
	if keep {
		return c.kept()
	}
	s := scratch{c: c}
	if err := s.make(); err != nil {
		return "", nil, err
	}
	if s.lock, err = c.lockScratch(s.dir); err != nil {
		return "", nil, err
	}
	if err := c.clearScratch(s.dir); err != nil {
		return "", nil, errors.Join(err, s.lock.Close())
	}
	return c.FS.PathJoin(s.dir, "data"), s.remove, nil
}

// kept is a directory that stays.
func (c *command) kept() (string, func() error, error) {
	if c.dataDir == "" {
		return "", nil, usage(errors.New("--keep goes with --data-dir"))
	}
	if err := c.nameTarget(); err != nil {
		return "", nil, err
	}
	if names, err := c.FS.List(c.dataDir); err == nil && len(names) > 0 {
		return "", nil, &restore.NotEmptyError{Path: c.dataDir, Holds: names[0]}
	}
	return c.dataDir, func() error { return nil }, nil
}

// scratch is a directory that is in use.
type scratch struct {
	c    *command
	dir  string
	lock io.Closer
	// above is the directory that was made for it; "" if it was there.
	above string
}

func (s *scratch) make() (err error) {
	fs, named := s.c.FS, s.c.dataDir
	if named == "" {
		s.c.sweepScratch()
		if s.dir, err = os.MkdirTemp("", scratchName+"-"); err != nil {
			return fmt.Errorf("make a scratch directory: %w; or name one with --data-dir", err)
		}
		return nil
	}
	names, err := fs.List(named)
	switch {
	case errors.Is(err, iofs.ErrNotExist):
		s.above = named
	case err != nil:
		return fmt.Errorf("read %s: %w", named, err)
	}
	if i := slices.IndexFunc(names, func(n string) bool { return n != scratchName }); i >= 0 {
		return &restore.NotEmptyError{Path: named, Holds: names[i]}
	}
	s.dir = fs.PathJoin(named, scratchName)
	if err := fs.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make a scratch directory: %w", err)
	}
	return nil
}

// remove ends its use. The lock goes last.
func (s *scratch) remove() error {
	err := errors.Join(ignoreMissing(s.c.FS.RemoveAll(s.dir)), s.lock.Close())
	if err == nil && s.above != "" {
		err = ignoreMissing(s.c.FS.Remove(s.above))
	}
	if err != nil {
		return fmt.Errorf("remove the scratch directory, which holds rows: %w", err)
	}
	return nil
}

func (c *command) lockScratch(dir string) (io.Closer, error) {
	lock, err := c.FS.Lock(c.FS.PathJoin(dir, scratchLock))
	if opening := (*iofs.PathError)(nil); errors.As(err, &opening) {
		return nil, fmt.Errorf("make a scratch directory: %w", err)
	} else if err != nil {
		return nil, fmt.Errorf("%w: another oc-pitr works in %s: %w", datadir.ErrLocked, dir, err)
	}
	return lock, nil
}

// clearScratch removes what a kill has left in a directory.
func (c *command) clearScratch(dir string) error {
	names, err := c.FS.List(dir)
	if err != nil {
		return err
	}
	for _, n := range names {
		if n == scratchLock {
			continue
		}
		if err := c.FS.RemoveAll(c.FS.PathJoin(dir, n)); err != nil {
			return fmt.Errorf("remove what a run that was killed has left: %w", err)
		}
	}
	return nil
}

// sweepScratch removes what kills have left where the machine has such things, and says
// so.
func (c *command) sweepScratch() {
	entries, err := os.ReadDir(os.TempDir())
	if err != nil {
		return // which the making of a directory there will tell
	}
	for _, e := range entries {
		dir := c.FS.PathJoin(os.TempDir(), e.Name())
		if !e.IsDir() || !strings.HasPrefix(e.Name(), scratchName+"-") {
			continue
		}
		if !ownScratch(dir) {
			continue // another user's, or it is being made
		}
		lock, err := c.lockScratch(dir)
		if err != nil {
			continue // in use
		}
		err = errors.Join(c.FS.RemoveAll(dir), lock.Close())
		_, _ = fmt.Fprintf(c.Stderr, "%s: a run that was killed has left %s, which holds rows: %s\n", name, dir, map[bool]string{true: "removed", false: fmt.Sprint("remove it: ", err)}[err == nil])
	}
}

// ownScratch reports a directory that this user has made, and the lock in it. In what
// somebody else has made the lock could be a link: to take it empties what it leads to.
func ownScratch(dir string) bool {
	var of, lock unix.Stat_t
	if unix.Lstat(dir, &of) != nil || unix.Lstat(filepath.Join(dir, scratchLock), &lock) != nil {
		return false
	}
	return int(of.Uid) == os.Getuid() && of.Mode&unix.S_IFMT == unix.S_IFDIR && lock.Mode&unix.S_IFMT == unix.S_IFREG
}

func ignoreMissing(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
