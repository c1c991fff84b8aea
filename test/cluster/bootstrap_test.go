package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"originchain/test/netns"
	"originchain/test/settle"
)

// A follower that is so new, or so late, that the writer's log does not reach back
// to it takes a checkpoint; killed in the middle, on either side, it goes on.
func TestBootstrapInterrupted(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a, b := c.node("a", serverBin, "--follower-retain-bytes", "0"), c.node("b", serverBin)
	for _, n := range []*node{a, b} {
		logOnADiskOfItsOwn(t, n)
	}
	asWriter := append(writerArgs(1, time.Second), a.serving()...)
	asFollower := append(writerArgs(1, time.Second, followerArgs...), b.serving()...)
	a.start(asWriter...)
	c.found(a)
	first := a.segments()[0]
	for i := range 8 {
		a.fillLog(fmt.Sprintf("fill%d", i), 400, 2000)
	}
	settle.Eventually(t, "the oldest segment goes", func() error {
		a.mustPut(fmt.Sprintf("more-%d", len(a.segments())))
		if s := a.segments(); slices.Contains(s, first) {
			return fmt.Errorf("%v", s)
		}
		return nil
	})
	load := c.begin(7, 2, 0)
	d, err := newDetour(b.Host, a.Host)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.toxic("bandwidth", `{"rate":1500}`); err != nil { // KB/s
		t.Fatal(err)
	}
	if err := b.launch(asFollower...); err != nil {
		t.Fatal(err)
	}
	b.arrives(1 << 20)
	b.unready("leader")
	b.kill()
	if err := b.launch(asFollower...); err != nil {
		t.Fatal(err)
	}
	b.arrives(1 << 20)
	a.kill()
	a.start(asWriter...)
	b.arrives(1)
	d.pure(t.Context())
	b.ready()
	if err := d.end(); err != nil {
		t.Fatal(err)
	}
	c.inSync("b")
	load.finish()
	a.fillLog("behind", 400, 1000) // segments that both have
	a.fillLog("it", 400, 1000)
	c.settle(load)
	b.shows("fill3-00007")
	if s := b.segments(); slices.Contains(s, first) {
		t.Errorf("b took no checkpoint, it has the log from the first frame on: %v", s)
	}
	// And again with a log of its own that ends too early.
	b.kill()
	last := b.segments()[len(b.segments())-1]
	for i := range 8 {
		a.fillLog(fmt.Sprintf("late%d", i), 400, 1000)
	}
	settle.Eventually(t, "the log goes on without b", func() error {
		a.mustPut(fmt.Sprintf("more-%d", len(a.segments())))
		if s := a.segments(); slices.Contains(s, last) {
			return fmt.Errorf("%v", s)
		}
		return nil
	})
	b.start(asFollower...)
	b.shows("late7-00399")
	a.fillLog("and", 400, 1000)
	a.fillLog("on", 400, 1000)
	c.settle(load)
}

// logOnADiskOfItsOwn makes the log of a node that has none yet a mount point, as a machine on
// EC2 has it: it can be neither renamed nor removed, and nothing is renamed out of it.
func logOnADiskOfItsOwn(t *testing.T, n *node) {
	t.Helper()
	volume, at := n.dir+".volume", filepath.Join(n.dir, "log")
	if err := errors.Join(os.MkdirAll(volume, 0o700), os.MkdirAll(at, 0o700), netns.Run("", "mount", "--bind", volume, at)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(n.end(), netns.Run("", "umount", at)); err != nil {
			t.Error(err)
		}
	})
}

// arrives waits until a node's bootstrap has taken more than some bytes and is not
// at its end.
func (n *node) arrives(bytes float64) {
	n.c.t.Helper()
	settle.Eventually(n.c.t, n.name+" takes a checkpoint", func() error {
		done, err := n.metric("oc_replication_bootstrap_bytes")
		if err != nil {
			return err
		}
		total, err := n.metric("oc_replication_bootstrap_total_bytes")
		if err == nil && done < bytes {
			err = fmt.Errorf("%v of %v bytes", done, total)
		}
		return err
	})
}

// A follower with a full disk ends with a code of its own, and goes on when there
// is room again; the writer does not wait for it.
func TestFullDiskOfAFollower(t *testing.T) {
	t.Parallel()
	c, _, b := newPair(t, 300*time.Millisecond)
	load := c.begin(11, 2, 1)
	if err := fillDisk(t, b, append(writerArgs(1, time.Second, followerArgs...), b.serving()...)); err != nil {
		t.Fatal(err)
	}
	c.inSync("b")
	load.finish()
	c.settle(load)
}
