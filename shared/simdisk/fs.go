package simdisk

import (
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// access is what a handle may do.
type access uint8

const (
	reading access = iota
	writing
	listing
)

// Create makes an empty file. A file of that name is removed first, by a call of
// its own, as Pebble does on a real disk: a crash between leaves neither.
func (d *Disk) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.create("open", name)
	if err != nil {
		return nil, err
	}
	return d.handle(n, name, writing), nil
}

func (d *Disk) create(op, name string) (*inode, error) {
	if err := d.alive(); err != nil {
		return nil, err
	}
	dir, base, err := d.parent(op, name)
	if err != nil {
		return nil, err
	}
	if old := dir.names[base]; old != nil && old.dir {
		return nil, pathError(op, name, syscall.EISDIR)
	} else if old != nil {
		if err := d.remove(name); err != nil {
			return nil, err
		}
	}
	if err := d.change(Call{Op: OpCreate, Path: clean(name)}); err != nil {
		return nil, failed(op, name, err)
	}
	n := d.newInode(false)
	d.apply(entry{dir, base, n})
	return n, nil
}

// Link gives a file a second name.
func (d *Disk) Link(oldname, newname string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.alive(); err != nil {
		return err
	}
	if err := d.link(oldname, newname); err != nil {
		return linkError("link", oldname, newname, errnoOf(err))
	}
	return nil
}

func (d *Disk) link(oldname, newname string) error {
	n, err := d.find("link", oldname)
	if err != nil {
		return err
	}
	dir, base, err := d.parent("link", newname)
	switch {
	case err != nil:
		return err
	case dir.names[base] != nil:
		return syscall.EEXIST
	case n.dir:
		return syscall.EPERM
	}
	if err := d.change(Call{Op: OpLink, Path: clean(oldname), To: clean(newname)}); err != nil {
		return err
	}
	d.apply(entry{dir, base, n})
	return nil
}

// Rename gives a file or directory another name, which loses what it meant.
func (d *Disk) Rename(oldname, newname string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.alive(); err != nil {
		return err
	}
	if err := d.rename(oldname, newname); err != nil {
		return linkError("rename", oldname, newname, errnoOf(err))
	}
	return nil
}

func (d *Disk) rename(oldname, newname string) error {
	from, oldBase, err := d.parent("rename", oldname)
	if err != nil {
		return err
	}
	to, newBase, err := d.parent("rename", newname)
	if err != nil {
		return err
	}
	n := from.names[oldBase]
	switch replaced := to.names[newBase]; {
	case n == nil:
		return syscall.ENOENT
	case replaced != nil && replaced.dir:
		return syscall.EEXIST // as os.Rename: a directory is not replaced
	case n.dir && strings.HasPrefix(clean(newname), clean(oldname)+"/"):
		return syscall.EINVAL
	case replaced == nil:
	case n.dir:
		return syscall.ENOTDIR
	case replaced == n:
		return nil
	}
	if err := d.change(Call{Op: OpRename, Path: clean(oldname), To: clean(newname)}); err != nil {
		return err
	}
	d.apply(entry{to, newBase, n}, entry{from, oldBase, nil})
	return nil
}

// Remove takes a file's name or an empty directory away.
func (d *Disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.alive(); err != nil {
		return err
	}
	return d.remove(name)
}

func (d *Disk) remove(name string) error {
	dir, base, err := d.parent("remove", name)
	if err != nil {
		return err
	}
	n := dir.names[base]
	switch {
	case n == nil:
		return pathError("remove", name, syscall.ENOENT)
	case len(n.names) > 0:
		return pathError("remove", name, syscall.ENOTEMPTY)
	}
	if err := d.change(Call{Op: OpRemove, Path: clean(name)}); err != nil {
		return failed("remove", name, err)
	}
	d.apply(entry{dir, base, nil})
	return nil
}

// RemoveAll removes name and what is below it, in order of names, each removal
// a call of its own. It goes on after a failure and returns the first one.
// Nothing there is no error.
func (d *Disk) RemoveAll(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.alive(); err != nil {
		return err
	}
	n, err := d.find("removeall", name)
	if err != nil {
		return ignoreMissing(err)
	}
	return d.removeAll(clean(name), n)
}

func (d *Disk) removeAll(name string, n *inode) (first error) {
	for _, child := range sortedNames(n.names) {
		if err := d.removeAll(path.Join(name, child), n.names[child]); first == nil {
			first = err
		}
	}
	if err := d.remove(name); first == nil {
		first = err
	}
	return first
}

// MkdirAll makes a directory and its parents, each a call of its own.
func (d *Disk) MkdirAll(name string, _ os.FileMode) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.alive(); err != nil {
		return err
	}
	dir, at := d.root, ""
	for part := range strings.SplitSeq(clean(name)[1:], "/") {
		if part == "" {
			continue
		}
		at += "/" + part
		next := dir.names[part]
		if next == nil {
			if err := d.change(Call{Op: OpMkdir, Path: at}); err != nil {
				return failed("mkdir", at, err)
			}
			next = d.newInode(true)
			d.apply(entry{dir, part, next})
		}
		if !next.dir {
			return pathError("mkdir", at, syscall.ENOTDIR)
		}
		dir = next
	}
	return nil
}

// Open opens a file for reading, or a directory for Sync.
func (d *Disk) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.looked(OpOpen, name); err != nil {
		return nil, failed("open", name, err)
	}
	n, err := d.find("open", name)
	if err != nil {
		return nil, err
	}
	if n.dir {
		return d.handle(n, name, listing), nil
	}
	return opened(d.handle(n, name, reading), opts), nil
}

// OpenReadWrite opens a file for reading and writing, and creates it if it is
// missing.
func (d *Disk) OpenReadWrite(name string, _ vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.looked(OpOpen, name); err != nil {
		return nil, failed("open", name, err)
	}
	n, err := d.openOrCreate(name)
	if err != nil {
		return nil, err
	}
	return opened(d.handle(n, name, writing), opts), nil
}

func (d *Disk) openOrCreate(name string) (*inode, error) {
	n, err := d.file("open", name)
	if errors.Is(err, syscall.ENOENT) {
		return d.create("open", name)
	}
	return n, err
}

// OpenDir opens a directory for Sync.
func (d *Disk) OpenDir(name string) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.looked(OpOpen, name); err != nil {
		return nil, failed("open", name, err)
	}
	n, err := d.find("open", name)
	if err != nil {
		return nil, err
	}
	if !n.dir {
		return nil, pathError("open", name, syscall.ENOTDIR)
	}
	return d.handle(n, name, listing), nil
}

// ReuseForWrite renames a file and opens it for writing, its bytes in place.
func (d *Disk) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	if err := d.Rename(oldname, newname); err != nil {
		return nil, err
	}
	return d.OpenReadWrite(newname, category)
}

// Lock takes the file's lock and creates the file if it is missing. A lock that
// is held, by anyone, is an error. Power loss and KillClone release it.
func (d *Disk) Lock(name string) (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.alive(); err != nil {
		return nil, err
	}
	n, err := d.openOrCreate(name)
	if err != nil {
		return nil, err
	}
	if d.locks[n] {
		return nil, pathError("lock", name, syscall.EAGAIN)
	}
	d.locks[n] = true
	return &lock{d, n}, nil
}

type lock struct {
	d *Disk
	n *inode
}

// Close releases the lock.
func (l *lock) Close() error {
	l.d.mu.Lock()
	defer l.d.mu.Unlock()
	if err := l.d.alive(); err != nil {
		return err
	}
	delete(l.d.locks, l.n)
	return nil
}

// List returns the names in a directory, sorted.
func (d *Disk) List(name string) ([]string, error) {
	if err := d.look(OpList, name); err != nil {
		return nil, failed("list", name, err)
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	n, err := d.find("list", name)
	if err != nil {
		return nil, err
	}
	if !n.dir {
		return nil, pathError("list", name, syscall.ENOTDIR)
	}
	return sortedNames(n.names), nil
}

// Stat describes a file or directory. Modification times are zero.
func (d *Disk) Stat(name string) (vfs.FileInfo, error) {
	if err := d.look(OpStat, name); err != nil {
		return nil, failed("stat", name, err)
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	n, err := d.find("stat", name)
	if err != nil {
		return nil, err
	}
	return n.info(path.Base(clean(name))), nil
}

// PathBase is path.Base.
func (*Disk) PathBase(p string) string { return path.Base(p) }

// PathJoin is path.Join.
func (*Disk) PathJoin(elem ...string) string { return path.Join(elem...) }

// PathDir is path.Dir.
func (*Disk) PathDir(p string) string { return path.Dir(p) }

// GetDiskUsage reports the budget as the size of the disk, 1 TiB without one.
func (d *Disk) GetDiskUsage(name string) (vfs.DiskUsage, error) {
	if err := d.look(OpStat, name); err != nil {
		return vfs.DiskUsage{}, failed("statfs", name, err)
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	total := min(d.budget, unlimitedBytes)
	return vfs.DiskUsage{
		AvailBytes: uint64(max(0, total-d.used)),
		TotalBytes: uint64(total),
		UsedBytes:  uint64(d.used),
	}, nil
}

// Unwrap returns nil: there is nothing below.
func (*Disk) Unwrap() vfs.FS { return nil }

func opened(f *file, opts []vfs.OpenOption) vfs.File {
	for _, o := range opts {
		o.Apply(f)
	}
	return f
}

func sortedNames(names map[string]*inode) []string {
	sorted := make([]string, 0, len(names))
	for name := range names {
		sorted = append(sorted, name)
	}
	slices.Sort(sorted)
	return sorted
}

func ignoreMissing(err error) error {
	if errors.Is(err, syscall.ENOENT) {
		return nil
	}
	return err
}

// failed names the call a fault has hit; ErrCrashed stays bare.
func failed(op, name string, err error) error {
	if errors.Is(err, ErrCrashed) {
		return err
	}
	return pathError(op, name, err)
}

func linkError(op, oldname, newname string, err error) error {
	if errors.Is(err, ErrCrashed) {
		return err
	}
	return &os.LinkError{Op: op, Old: oldname, New: newname, Err: err}
}
