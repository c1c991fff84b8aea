package datadir_test

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/datadir"
)

// unwritable is a disk that is mounted for reading alone, or a directory of
// another user's: each call that would change it fails so.
type unwritable struct {
	vfs.FS
	why error
}

func (u unwritable) Lock(name string) (io.Closer, error) {
	return nil, &os.PathError{Op: "open", Path: name, Err: u.why}
}

// served makes a data directory as a server leaves it.
func served(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	d, err := datadir.Open(datadir.Options{FS: vfs.Default, Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// What is to be changed by nobody can be read all the same.
func TestAnExistingDirectoryNeedNotBeWritable(t *testing.T) {
	for _, why := range []error{syscall.EROFS, syscall.EACCES} {
		dir := served(t)
		d, err := datadir.OpenExisting(unwritable{vfs.Default, why}, dir)
		if err != nil {
			t.Fatalf("%v: %v", why, err)
		}
		// It is locked, for another process; this one might lock it again.
		if out, err := elsewhere(t, dir); err == nil {
			t.Errorf("%v: a server could start meanwhile:\n%s", why, out)
		}
		if err := d.Close(); err != nil {
			t.Fatal(err)
		}
		if out, err := elsewhere(t, dir); err != nil {
			t.Errorf("%v: no server can start any more: %v\n%s", why, err, out)
		}
	}
}

// elsewhere opens the directory in another process, which is this test.
func elsewhere(t *testing.T, dir string) ([]byte, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestOpenElsewhere$")
	cmd.Env = append(os.Environ(), elsewhereEnv+"="+dir)
	return cmd.CombinedOutput()
}

const elsewhereEnv = "OC_TEST_OPEN_ELSEWHERE"

// TestOpenElsewhere is the other process of the test above; alone it opens a
// directory of its own.
func TestOpenElsewhere(t *testing.T) {
	dir := os.Getenv(elsewhereEnv)
	if dir == "" {
		dir = served(t)
	}
	d, err := datadir.Open(datadir.Options{FS: vfs.Default, Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// A copy has no lock, and gets none. A server that was started on it meanwhile
// has changed what was read.
func TestACopyThatAServerTakesUpIsTold(t *testing.T) {
	for what, start := range map[string]bool{"it stays a copy": false, "a server starts": true} {
		dir := served(t)
		if err := os.Remove(filepath.Join(dir, "LOCK")); err != nil {
			t.Fatal(err)
		}
		d, err := datadir.OpenExisting(vfs.Default, dir)
		if err != nil {
			t.Fatal(err)
		}
		if start {
			server, err := datadir.Open(datadir.Options{FS: vfs.Default, Path: dir})
			if err != nil {
				t.Fatal(err)
			}
			if err := server.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if err := d.Close(); errors.Is(err, datadir.ErrLocked) != start {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// An identity that names nobody is damage: an instance of zeros is none.
func TestAnIdentityMustNameSomebody(t *testing.T) {
	for _, text := range []string{"", "{}", "null", `{"format":1}`, `{"format":0,"instance_id":"01JADE0000000000000000000A","node_id":"n"}`, `{"format":1,"instance_id":"01JADE0000000000000000000A"}`, "\x00\x00\x00\x00"} {
		dir := served(t)
		if err := os.WriteFile(filepath.Join(dir, "instance.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if d, err := datadir.OpenExisting(vfs.Default, dir); err == nil {
			t.Errorf("%q is taken for an identity: %+v", text, d.Identity())
		}
	}
}

// A newer server may say other things of itself: that is no damage.
func TestANewerIdentityIsNoDamage(t *testing.T) {
	dir := served(t)
	if err := os.WriteFile(filepath.Join(dir, "instance.json"), []byte(`{"format":2,"cluster":"c"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := datadir.OpenExisting(vfs.Default, dir); !errors.Is(err, datadir.ErrNewer) {
		t.Error(err)
	}
}
