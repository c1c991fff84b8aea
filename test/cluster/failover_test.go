package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"originchain/test/netns"
	"originchain/test/settle"
)

// pair is a writer a and a follower b in sync with it, with one acknowledged row.
func newPair(t *testing.T, timeout time.Duration, more ...string) (c *cluster, a, b *node) {
	c = newCluster(t)
	a, b = c.node("a", serverBin, more...), c.node("b", serverBin, more...)
	if err := a.launch(append(writerArgs(1, timeout), a.serving()...)...); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(more, "--sync-strict") { // else it is not ready alone
		a.ready()
	}
	b.start(append(writerArgs(1, timeout, followerArgs...), b.serving()...)...)
	a.ready()
	c.found(a)
	c.inSync("b")
	return c, a, b
}

// A writer that dies with a frame that nobody else has comes back, with its
// writer's unit, as a follower of its successor; its frame is in a file.
func TestForkAndRejoin(t *testing.T) {
	t.Parallel()
	const timeout = 4 * time.Second
	c, a, b := newPair(t, timeout)
	acked := a.mustPut("acked")
	if acked.degraded {
		t.Errorf("%s, with a follower in sync", acked)
	}
	if err := b.freeze(); err != nil {
		t.Fatal(err)
	}
	before := a.mustStand()
	if resp, err := a.put("lonely", timeout/4); err == nil {
		t.Fatalf("a write that no follower can have is answered %d %s", resp.Status, resp.Body)
	}
	if now := a.mustStand(); now.DurableLSN <= before.LSN || now.CommitLSN > before.LSN || !slices.Contains(now.InSync, "b") {
		t.Fatalf("the frame should be durable on a alone, and not committed: %+v", now)
	}
	a.hides("lonely")
	a.kill()
	b.kill()
	b.start(append(writerArgs(1, timeout), b.serving()...)...)
	c.current.Store(b)
	b.shows("acked")
	b.hides("lonely")
	b.mustPut("of the successor")
	if err := a.launch(append(writerArgs(1, timeout), a.serving()...)...); err != nil {
		t.Fatal(err)
	}
	a.ready()
	if s := a.mustStand(); s.Role != "follower" || s.Leader != b.url() {
		t.Fatalf("the old writer should follow by itself: %+v", s)
	}
	a.shows("of the successor")
	a.hides("lonely")
	c.setAside(a, "lonely", 1)
	a.mustRefuse("misdirected", "read_only")
	c.inSync("a")
	if got := b.mustPut("after"); got.degraded {
		t.Errorf("%s, with the old writer in sync", got)
	}
	// What was never acknowledged can be sent again.
	b.mustPut("lonely")
	a.shows("lonely")
	c.settle(nil)
}

// setAside checks that the divergent frames of a node are in a file that waldump
// prints, with a row, and counted.
func (c *cluster) setAside(n *node, row string, frames int) {
	c.t.Helper()
	files, err := filepath.Glob(filepath.Join(n.dir, "divergent-*.log"))
	if err != nil || len(files) != 1 {
		c.t.Fatalf("one file of divergent frames should be in %s: %v, %v", n.dir, files, err)
	}
	out, err := netns.Output("", waldumpBin, "--ops", files[0])
	if err != nil {
		c.t.Fatal(err)
	}
	if !strings.Contains(out, row) {
		c.t.Errorf("waldump does not show the row %q in %s:\n%s", row, files[0], out)
	}
	if got, err := n.metric("oc_replication_set_aside_frames_total"); err != nil || got < float64(frames) {
		c.t.Errorf("%v frames counted as set aside, want at least %d (%v)", got, frames, err)
	}
}

// A writer that sleeps while its follower takes over finds that out when it wakes:
// it acknowledges nothing more, and follows without a restart.
func TestZombieFollows(t *testing.T) {
	t.Parallel()
	c, a, b := newPair(t, time.Second)
	a.mustPut("before")
	if err := a.freeze(); err != nil {
		t.Fatal(err)
	}
	b.kill()
	b.start(append(writerArgs(1, time.Second), b.serving()...)...)
	c.current.Store(b)
	b.mustPut("of the successor")
	answers := make(chan string, 1)
	go func() {
		resp, err := a.put("to the zombie", 5*time.Second)
		if err != nil {
			answers <- err.Error()
			return
		}
		answers <- fmt.Sprintf("%d %s", resp.Status, resp.Body)
	}()
	settle.Pause(t.Context(), 50*time.Millisecond) // it is in the socket when the process goes on
	if err := a.thaw(); err != nil {
		t.Fatal(err)
	}
	if got := <-answers; strings.HasPrefix(got, "200") {
		t.Errorf("the zombie acknowledged a write: %s", got)
	}
	pid := a.server.PID()
	settle.Eventually(t, "the zombie follows", func() error {
		s, err := a.standing()
		if err == nil && (s.Role != "follower" || s.Leader != b.url()) {
			err = fmt.Errorf("it is %+v", s)
		}
		return err
	})
	a.ready()
	if a.server.PID() != pid {
		t.Error("the zombie was restarted")
	}
	a.shows("of the successor")
	c.inSync("a")
	for _, n := range []*node{a, b} {
		n.hides("to the zombie")
	}
	b.mustPut("to the zombie")
	c.settle(nil)
}

// A node that is not in the in-sync set may not write, whatever its unit says.
func TestAFollowerThatIsNotInSyncDoesNotTakeOver(t *testing.T) {
	t.Parallel()
	c, a, b := newPair(t, 300*time.Millisecond)
	b.kill()
	if got := a.mustPut("degraded"); !got.degraded {
		t.Errorf("%s, without a follower", got)
	}
	c.inSync()
	a.kill()
	if err := b.launch(append(writerArgs(1, time.Second), b.serving()...)...); err != nil {
		t.Fatal(err)
	}
	settle.Eventually(t, "b follows", func() error {
		s, err := b.standing()
		if err != nil {
			// Without a leader it may not serve; it must say so, and stay.
			_, body, readyErr := b.readiness()
			if readyErr != nil || !strings.Contains(body, `"leader"`) {
				return errors.Join(err, readyErr, errors.New(body))
			}
			return nil
		}
		if s.Role != "follower" {
			return fmt.Errorf("it is %+v", s)
		}
		return nil
	})
	if rec := c.record(); rec.Holder != "a" {
		t.Errorf("%s took the record, with %+v", rec.Holder, rec)
	}
	a.start(append(writerArgs(1, time.Second), a.serving()...)...)
	b.ready()
	b.shows("degraded")
	c.inSync("b")
	c.settle(nil)
}

// A leader of an epoch below one that the follower has accepted is refused and
// counted: here a copy of the writer's directory as it was two epochs ago.
func TestStaleLeaderIsRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a, f := c.node("a", serverBin), c.node("f", serverBin)
	asWriter := a.serving()
	f.args = []string{"--mode", "follower", "--leader-addr", a.replication(), "--control", ""}
	a.start(asWriter...)
	c.found(a)
	f.start()
	a.mustPut("of all")
	f.shows("of all")
	a.kill()
	if err := netns.Run("", "cp", "-a", a.dir, a.dir+".old"); err != nil {
		t.Fatal(err)
	}
	if err := netns.Run("", "cp", "-a", c.controlDir(), c.controlDir()+".old"); err != nil {
		t.Fatal(err)
	}
	for _, row := range []string{"of the newer", "of the newest"} {
		a.start(asWriter...)
		a.mustPut(row)
		f.shows(row)
		a.kill()
	}
	accepted := f.mustStand()
	// The stale one, at the same address and of the same name.
	if err := errors.Join(os.Rename(a.dir, a.dir+".new"), os.Rename(a.dir+".old", a.dir), os.Rename(c.controlDir(), c.controlDir()+".new"), os.Rename(c.controlDir()+".old", c.controlDir())); err != nil {
		t.Fatal(err)
	}
	if err := a.launch(asWriter...); err != nil {
		t.Fatal(err)
	}
	settle.Eventually(t, "the stale leader is counted", func() error {
		n, err := f.metric("oc_replication_stale_leaders_total")
		if err == nil && n < 1 {
			_, body, _ := f.readiness()
			err = fmt.Errorf("oc_replication_stale_leaders_total is %v: %s", n, body)
		}
		return err
	})
	f.shows("of the newest")
	if now := f.mustStand(); now.AppliedLSN != accepted.AppliedLSN || now.DurableLSN != accepted.DurableLSN || now.Digest != accepted.Digest {
		t.Errorf("the follower took something of the stale leader: %+v, before %+v", now, accepted)
	}
	f.unready("leader")
	// It has learnt that it is not the writer any more.
	settle.Eventually(t, "the stale leader refuses writes", func() error {
		resp, err := a.put("to the stale", time.Second)
		if err == nil && resp.Status != 503 {
			err = fmt.Errorf("%d %s", resp.Status, resp.Body)
		}
		return err
	})
	a.kill()
	if err := errors.Join(os.Rename(a.dir, a.dir+".old"), os.Rename(a.dir+".new", a.dir), os.Rename(c.controlDir(), c.controlDir()+".old"), os.Rename(c.controlDir()+".new", c.controlDir())); err != nil {
		t.Fatal(err)
	}
	a.start(asWriter...)
	f.ready()
	a.mustPut("of the right one")
	f.shows("of the right one")
	c.settle(nil)
}
