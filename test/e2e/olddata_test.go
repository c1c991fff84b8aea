package e2e

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"originchain/scripts/child"
)

// A machine that comes back with an older copy of its disk: the archive has frames of the
// log's own epoch that the log has not, and the node is refused with the code that says
// that a person is needed, and not one that a supervisor restarts on.
func TestAnOlderCopyOfTheDataIsRefused(t *testing.T) {
	t.Parallel()
	args := []string{"--archive", "file://" + filepath.Join(t.TempDir(), "archive"), "--tail-ship"}
	n := newNode(t, args...)
	n.notes(t)
	if err := n.Freeze(); err != nil { // as a snapshot of the disk has it
		t.Fatal(err)
	}
	old := filepath.Join(t.TempDir(), "old")
	if err := os.CopyFS(old, os.DirFS(n.dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(old, "admin.token"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := n.Thaw(); err != nil {
		t.Fatal(err)
	}
	l := &ledger{acked: make(map[int]uint64)}
	ctx, cancel := context.WithCancel(t.Context())
	wait := l.load(ctx, n)
	until(t, "rows are acknowledged", func() bool { _, rows := l.newest(); return rows >= 20 })
	cancel()
	wait()
	newest, _ := l.newest()
	until(t, "the archive has them", func() bool { return archivedTo(t, n) >= newest })
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	mustRefuse(t, launch(t, child.Options{DataDir: old, Args: args}), exitRefused, "older copy", "oc-pitr restore --latest")
}
