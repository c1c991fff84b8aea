package drills

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"originchain/lambdas/local/control"
	"originchain/test/netns"
)

// The writer's disk is full, or takes nothing for another reason: the writer ends rather
// than to acknowledge, its follower writes, and it comes back when there is room.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	t.Run("a file system without room", func(t *testing.T) {
		t.Parallel()
		i := prepare(t, 1)
		room := i.dir.Data(i.nodes[0].Machine)
		i.must(os.MkdirAll(room, 0o700))
		i.must(netns.Run("", "mount", "-t", "tmpfs", "-o", "size=256m", "none", room))
		t.Cleanup(func() { i.must(syscall.Unmount(room, syscall.MNT_DETACH)) })
		i.start()
		l := i.begin()
		was, epoch, at := i.writer(), uint64(i.record().Epoch), time.Now()
		if was != i.nodes[0] {
			t.Fatalf("%s writes", was.ID)
		}
		ballast := filepath.Join(room, "ballast")
		fill(ballast)
		l.succeeded("no room", at, epoch)
		i.must(os.Remove(ballast))
		l.settle()
		if i.writer() == was {
			t.Errorf("%s writes, whose disk was full", was.ID)
		}
	})
	t.Run("a disk that takes nothing", func(t *testing.T) {
		t.Parallel()
		i := newInstance(t, 1)
		l := i.begin()
		was, epoch, at := i.writer(), uint64(i.record().Epoch), time.Now()
		if _, err := i.ctl.Fault(t.Context(), control.FaultDisk); err != nil {
			t.Fatal(err)
		}
		l.succeeded("RLIMIT_FSIZE", at, epoch)
		l.settle()
		if i.writer() == was {
			t.Errorf("%s writes, whose disk took nothing", was.ID)
		}
	})
}

// fill takes all the room that there is. What it writes it never misses.
func fill(path string) {
	f, err := os.Create(path)
	if err != nil {
		return // there is none
	}
	block := make([]byte, 1<<20)
	for len(block) > 0 {
		if _, err := f.Write(block); err != nil {
			block = block[:len(block)/2]
		}
	}
	_ = f.Close()
}
