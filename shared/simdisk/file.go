package simdisk

import (
	"io"
	"io/fs"
	"syscall"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// file is an open file or directory. It stays usable when the name is gone.
type file struct {
	d    *Disk
	n    *inode
	name string
	mode access
	// pos is where Read and Write go on; guarded by the disk's lock.
	pos    int64
	closed bool
}

var _ vfs.File = (*file)(nil)

func (d *Disk) handle(n *inode, name string, mode access) *file {
	n.handles++
	return &file{d: d, n: n, name: clean(name), mode: mode}
}

// usable is what every call on a handle meets first.
func (f *file) usable(op string) error {
	if err := f.d.alive(); err != nil {
		return err
	}
	if f.closed {
		return pathError(op, f.name, fs.ErrClosed)
	}
	return nil
}

// Close ends the handle. It syncs nothing.
func (f *file) Close() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.usable("close"); err != nil {
		return err
	}
	f.closed = true
	f.n.handles--
	f.d.release(f.n)
	return nil
}

// Read reads on from where the last Read or Write ended.
func (f *file) Read(p []byte) (int, error) {
	if err := f.d.look(OpRead, f.name); err != nil {
		return 0, failed("read", f.name, err)
	}
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	n, err := f.readAt(p, f.pos)
	f.pos += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// ReadAt reads len(p) bytes at off, or what there is and io.EOF.
func (f *file) ReadAt(p []byte, off int64) (int, error) {
	if err := f.d.look(OpRead, f.name); err != nil {
		return 0, failed("read", f.name, err)
	}
	f.d.mu.RLock()
	defer f.d.mu.RUnlock()
	return f.readAt(p, off)
}

func (f *file) readAt(p []byte, off int64) (int, error) {
	switch err := f.usable("read"); {
	case err != nil:
		return 0, err
	case f.mode == listing:
		return 0, pathError("read", f.name, syscall.EISDIR)
	case off < 0:
		return 0, pathError("read", f.name, syscall.EINVAL)
	}
	n := f.n.live.readAt(p, off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Write writes on from where the last Read or Write ended.
func (f *file) Write(p []byte) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	n, err := f.writeAt(p, f.pos)
	f.pos += int64(n)
	return n, err
}

// WriteAt writes p at off. With an error it says how much got in.
func (f *file) WriteAt(p []byte, off int64) (int, error) {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return f.writeAt(p, off)
}

func (f *file) writeAt(p []byte, off int64) (int, error) {
	if err := f.writable("write"); err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, pathError("write", f.name, syscall.EINVAL)
	}
	if len(p) == 0 {
		return 0, nil
	}
	fault, err := f.d.step(Call{Op: OpWrite, Path: f.name, Off: off, Size: int64(len(p))})
	if err != nil {
		return 0, err
	}
	n := int64(len(p))
	if fault != nil {
		n, err = min(n, int64(fault.Short)), fault.Err
	}
	if room := f.n.live.size + f.d.free() - off; n > room {
		n, err = max(0, room), syscall.ENOSPC
	}
	if n > 0 {
		before := f.n.live.size
		f.n.write(p[:n], off)
		f.d.used += f.n.live.size - before
	}
	if err != nil {
		return int(n), pathError("write", f.name, err)
	}
	return int(n), nil
}

// free returns how many bytes files may still grow by.
func (d *Disk) free() int64 { return max(0, d.budget-d.used) }

func (f *file) writable(op string) error {
	if err := f.usable(op); err != nil {
		return err
	}
	if f.mode != writing {
		return pathError(op, f.name, syscall.EBADF)
	}
	return nil
}

// Truncate cuts the file to size, or grows it with zeros.
func (f *file) Truncate(size int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.writable("truncate"); err != nil {
		return err
	}
	if size < 0 {
		return pathError("truncate", f.name, syscall.EINVAL)
	}
	if err := f.d.change(Call{Op: OpTruncate, Path: f.name, Size: size}); err != nil {
		return failed("truncate", f.name, err)
	}
	grows := size - f.n.live.size
	if grows > f.d.free() {
		return pathError("truncate", f.name, syscall.ENOSPC)
	}
	f.n.truncate(size)
	f.d.used += grows
	return nil
}

// Preallocate promises space and keeps the size, as fallocate with KEEP_SIZE: it
// fails when the budget has no room, and changes nothing a reader could see.
func (f *file) Preallocate(off, length int64) error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.writable("preallocate"); err != nil {
		return err
	}
	if err := f.d.change(Call{Op: OpPreallocate, Path: f.name, Off: off, Size: length}); err != nil {
		return failed("preallocate", f.name, err)
	}
	if off+length-f.n.live.size > f.d.free() {
		return pathError("preallocate", f.name, syscall.ENOSPC)
	}
	return nil
}

// Sync makes a file's bytes, or a directory's names, durable.
func (f *file) Sync() error {
	f.d.await(f.name)
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	if err := f.usable("sync"); err != nil {
		return err
	}
	c := Call{Op: OpSync, Path: f.name}
	if f.n.dir {
		c.Op = OpSyncDir
		for _, op := range f.d.pending {
			if op.in(f.n) {
				c.Size++
			}
		}
	} else {
		c.Size = f.n.unsynced()
	}
	fault, err := f.d.step(c)
	switch {
	case err != nil:
		return err
	case fault != nil && f.n.dir:
		f.d.dropDir(f.n)
		return pathError("sync", f.name, fault.Err)
	case fault != nil:
		f.n.drop()
		return pathError("sync", f.name, fault.Err)
	case f.n.dir:
		f.d.syncDir(f.n)
	default:
		f.n.sync()
	}
	return nil
}

// SyncData is Sync: times, which fdatasync leaves out, are not kept here.
func (f *file) SyncData() error { return f.Sync() }

// SyncTo promises nothing, as sync_file_range, and does nothing.
func (f *file) SyncTo(int64) (bool, error) {
	f.d.mu.RLock()
	defer f.d.mu.RUnlock()
	return false, f.usable("sync")
}

// Prefetch does nothing: memory is as near as it gets.
func (f *file) Prefetch(int64, int64) error {
	f.d.mu.RLock()
	defer f.d.mu.RUnlock()
	return f.usable("prefetch")
}

// Fd returns vfs.InvalidFd.
func (*file) Fd() uintptr { return vfs.InvalidFd }

// Stat describes the file under the name it was opened by.
func (f *file) Stat() (vfs.FileInfo, error) {
	if err := f.d.look(OpStat, f.name); err != nil {
		return nil, failed("stat", f.name, err)
	}
	f.d.mu.RLock()
	defer f.d.mu.RUnlock()
	if err := f.usable("stat"); err != nil {
		return nil, err
	}
	return f.n.info((*Disk)(nil).PathBase(f.name)), nil
}

type info struct {
	name string
	size int64
	dir  bool
}

func (n *inode) info(name string) info { return info{name, n.live.size, n.dir} }

func (i info) Name() string         { return i.name }
func (i info) Size() int64          { return i.size }
func (i info) IsDir() bool          { return i.dir }
func (info) ModTime() time.Time     { return time.Time{} }
func (info) Sys() any               { return nil }
func (info) DeviceID() vfs.DeviceID { return vfs.DeviceID{} }

func (i info) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o755
	}
	return 0o644
}
