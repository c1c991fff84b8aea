package e2e

import (
	"bufio"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"testing"
)

// tmpfs is a small file system that only processes started through it see: it
// is mounted in a mount namespace of its own, needs no root where users may
// have namespaces, and is gone with its keeper, whatever becomes of the test.
type tmpfs struct {
	dir    string
	keeper *exec.Cmd
	hold   io.Closer
}

// newTmpfs mounts a file system of a size such as "32m".
func newTmpfs(t *testing.T, size string) *tmpfs {
	t.Helper()
	f := &tmpfs{dir: t.TempDir()}
	f.keeper = exec.Command("unshare", "--user", "--map-root-user", "--mount", "--", "sh", "-c",
		`mount -t tmpfs -o size="$2" none "$1" && echo mounted && cat`, "sh", f.dir, size)
	in, err := f.keeper.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	f.hold = in
	out, err := f.keeper.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.keeper.Start(); err != nil {
		t.Fatalf("this test needs unshare (package util-linux): %v", err)
	}
	t.Cleanup(func() {
		if err := f.hold.Close(); err != nil {
			t.Error(err)
		}
		if err := f.keeper.Wait(); err != nil {
			t.Error(err)
		}
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "mounted\n" {
		t.Fatalf("this test mounts a small file system in a namespace of its own, which root, or a user with user namespaces, may do: %q, %v", line, err)
	}
	return f
}

// wrap is what a command is run through to see the file system.
func (f *tmpfs) wrap() []string {
	return []string{"nsenter", "--target", fmt.Sprint(f.keeper.Process.Pid), "--user", "--mount", "--preserve-credentials", "--"}
}

// remount changes the file system's options, such as "size=64m" or "ro".
func (f *tmpfs) remount(t *testing.T, options string) {
	t.Helper()
	args := append(f.wrap(), "mount", "-o", "remount,"+options, f.dir)
	if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
		t.Fatalf("remount with %s: %v: %s", options, err, out)
	}
}

// data is the server's directory as it sees it; outside is the same as we see it.
func (f *tmpfs) data() string { return filepath.Join(f.dir, "data") }

func (f *tmpfs) outside() string {
	return filepath.Join(fmt.Sprintf("/proc/%d/root", f.keeper.Process.Pid), f.data())
}
