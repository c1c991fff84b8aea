package verification

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

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
