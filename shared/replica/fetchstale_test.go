package replica

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// A checkpoint of a leader whose epoch has ended is refused before a byte of it is
// taken: it may be large, and the node would ask for it again and again.
func TestNothingIsTakenOfAStaleLeadersCheckpoint(t *testing.T) {
	from := t.TempDir()
	if err := os.WriteFile(filepath.Join(from, "000001.sst"), make([]byte, 3<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	conn := serveCheckpoint(t, from) // of epoch 0
	to := filepath.Join(t.TempDir(), "state.next")
	f := &Fetch{Conn: conn, FS: vfs.Default, Dir: to, Instance: make([]byte, 16), Node: "follower", Accepted: 1}
	if _, err := f.Run(t.Context()); !errors.Is(err, ErrStaleLeader) {
		t.Errorf("epoch 1 was accepted, and the leader is of epoch 0: %v", err)
	}
	if left, err := os.ReadDir(to); err != nil || len(left) != 0 {
		t.Errorf("%v %v", left, err)
	}
	f.Conn, f.Accepted = serveCheckpoint(t, from), 0
	if got, err := f.Run(t.Context()); err != nil || got.Bytes != 3<<20 {
		t.Errorf("a leader that was accepted: %+v %v", got, err)
	}
}
