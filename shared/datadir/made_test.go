package datadir

import (
	"os"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A directory that is opened again is as old as before, and one that was emptied meanwhile
// is not, though it is the same directory.
func TestWhenADirectoryWasMade(t *testing.T) {
	path := t.TempDir()
	made := func() int64 {
		t.Helper()
		d, err := Open(Options{FS: vfs.Default, Path: path})
		if err != nil {
			t.Fatal(err)
		}
		at, err := Made(path)
		if err != nil || at.IsZero() {
			t.Fatalf("%s, %v: the tests need a file system that keeps when a file was made", at, err)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		return at.UnixNano()
	}
	first := made()
	if again := made(); again != first {
		t.Errorf("opened again it is %d ns younger", again-first)
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(path + "/" + e.Name()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Made(path); err == nil {
		t.Error("nothing was made")
	}
	if emptied := made(); emptied <= first {
		t.Error("one that was emptied is as old as before")
	}
}
