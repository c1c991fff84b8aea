package verification

import (
	"errors"
	"io"
	"os"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/datadir"
	"originchain/shared/wal"
)

// unreadable is a disk that one file cannot be read from.
type unreadable struct {
	vfs.FS
	name string
}

func (u unreadable) Open(name string, opts ...vfs.OpenOption) (vfs.File, error) {
	if name == u.name {
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.EIO}
	}
	return u.FS.Open(name, opts...)
}

// A segment that the disk does not give is no fault of the log: it was not
// verified. The damage of another is told all the same.
func TestAnUnreadableSegmentIsNoFault(t *testing.T) {
	dir := sound(t)
	paths, err := wal.SegmentPaths(vfs.Default, dir+"/log")
	if err != nil || len(paths) < 2 {
		t.Fatalf("%d segments: %v", len(paths), err)
	}
	flip(t, paths[0], func(int64) int64 { return 300 })
	r, err := Run(t.Context(), Options{FS: unreadable{vfs.Default, paths[len(paths)-1]}, DataDir: dir})
	if !errors.Is(err, syscall.EIO) || r.OK || r.FoundFaults != 1 || !has(r, CheckLog) {
		t.Errorf("error %v, ok %t, faults %+v", err, r.OK, r.Faults)
	}
}

// mountedReadOnly refuses whatever would change the disk, as a mounted snapshot
// does.
type mountedReadOnly struct{ vfs.FS }

func (mountedReadOnly) refuse(op, name string) error {
	return &os.PathError{Op: op, Path: name, Err: syscall.EROFS}
}

func (m mountedReadOnly) Create(name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, m.refuse("create", name)
}

func (m mountedReadOnly) Link(_, name string) error   { return m.refuse("link", name) }
func (m mountedReadOnly) Remove(name string) error    { return m.refuse("remove", name) }
func (m mountedReadOnly) RemoveAll(name string) error { return m.refuse("remove", name) }
func (m mountedReadOnly) Rename(_, name string) error { return m.refuse("rename", name) }
func (m mountedReadOnly) MkdirAll(name string, _ os.FileMode) error {
	return m.refuse("mkdir", name)
}

func (m mountedReadOnly) OpenReadWrite(name string, _ vfs.DiskWriteCategory, _ ...vfs.OpenOption) (vfs.File, error) {
	return nil, m.refuse("open", name)
}

func (m mountedReadOnly) ReuseForWrite(_, name string, _ vfs.DiskWriteCategory) (vfs.File, error) {
	return nil, m.refuse("open", name)
}

func (m mountedReadOnly) Lock(name string) (io.Closer, error) {
	return nil, m.refuse("open", name)
}

// A snapshot that is mounted for reading can be verified, and so can a copy that
// has no locks; it gets none.
func TestADirectoryNeedNotBeWritable(t *testing.T) {
	dir := sound(t)
	copied := damaged(t, dir)
	for _, lock := range []string{"/LOCK", "/state/LOCK"} {
		if err := os.Remove(copied + lock); err != nil {
			t.Fatal(err)
		}
	}
	for what, at := range map[string]string{"mounted": dir, "a copy": copied} {
		r, err := Run(t.Context(), Options{FS: mountedReadOnly{vfs.Default}, DataDir: at})
		if err != nil || !r.OK {
			t.Errorf("%s: %v, %+v", what, err, r.Faults)
		}
	}
	if r := verifyDir(t, copied); !r.OK {
		t.Errorf("%+v", r.Faults)
	}
}

// What a server was started on meanwhile has changed under the verification.
func TestACopyThatAServerTakesUpIsNotCalledSound(t *testing.T) {
	dir := damaged(t, sound(t))
	if err := os.Remove(dir + "/LOCK"); err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), Options{FS: vfs.Default, DataDir: dir, Begin: func(name, _ string, _ int64) (func(int64), func()) {
		if name == "tables" {
			server, err := datadir.Open(datadir.Options{FS: vfs.Default, Path: dir})
			if err == nil {
				err = server.Close()
			}
			if err != nil {
				t.Error(err)
			}
		}
		return func(int64) {}, func() {}
	}})
	if !errors.Is(err, datadir.ErrLocked) || r.OK || r.Complete {
		t.Errorf("%v, ok %t, complete %t", err, r.OK, r.Complete)
	}
}
