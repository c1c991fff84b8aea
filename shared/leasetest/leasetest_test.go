package leasetest_test

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/lease"
	"originchain/shared/leasetest"
	"originchain/shared/lsn"
	"originchain/shared/simdisk"
)

func TestMemory(t *testing.T) {
	leasetest.Run(t, func(*testing.T) func() lease.Store {
		m := lease.NewMemory(lease.Hooks{})
		return func() lease.Store { return m }
	})
}

func TestFileOnADisk(t *testing.T) {
	leasetest.Run(t, func(t *testing.T) func() lease.Store {
		dir := t.TempDir() + "/lease"
		return func() lease.Store { return openFile(t, vfs.Default, dir) }
	})
}

func TestFileOnASimulatedDisk(t *testing.T) {
	leasetest.Run(t, func(t *testing.T) func() lease.Store {
		d := simdisk.New()
		return func() lease.Store { return openFile(t, d, "/srv/lease") }
	})
}

func openFile(t *testing.T, fs vfs.FS, dir string) *lease.File {
	t.Helper()
	f, err := lease.OpenFile(fs, dir)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// childDir names the directory whose record a child process increments.
const childDir = "LEASETEST_DIR"

const (
	processes  = 4
	perProcess = 50
)

// TestProcessesExcludeOneAnother: as the race of the contract, by processes. The
// child is this test again.
func TestProcessesExcludeOneAnother(t *testing.T) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := leasetest.Increment(t.Context(), openFile(t, vfs.Default, dir), perProcess); err != nil {
			t.Fatal(err)
		}
		return
	}
	dir := t.TempDir()
	f := openFile(t, vfs.Default, dir)
	if _, err := f.CompareAndSet(t.Context(), 0, leasetest.First(t)); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for range processes {
		group.Go(func() {
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProcessesExcludeOneAnother$", "-test.v")
			child.Env = append(os.Environ(), childDir+"="+dir)
			out, err := child.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "--- PASS") {
				t.Errorf("child: %v\n%s", err, out)
			}
		})
	}
	group.Wait()
	r, _, err := f.Load(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(r.CommitLSN, r.Version), fmt.Sprint(lsn.LSN(processes*perProcess), 1+processes*perProcess); got != want {
		t.Errorf("commit LSN and version are %s, want %s", got, want)
	}
}
