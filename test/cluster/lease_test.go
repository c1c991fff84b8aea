package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"originchain/shared/lease"
	"originchain/test/netns"
	"originchain/test/settle"
	"originchain/writer/process"
)

// A writer that cannot renew its lease goes on for as long as nobody else may have
// taken it, then answers neither writes nor reads. When the record is there again,
// and still its own, it goes on.
func TestAWriterWithoutItsRecordAnswersNothing(t *testing.T) {
	t.Parallel()
	c, a, b := newPair(t, time.Second)
	a.mustPut("before")
	away := c.controlDir() + ".away"
	if err := os.Rename(c.controlDir(), away); err != nil {
		t.Fatal(err)
	}
	a.mustPut("while the lease lasts")
	a.unready("lease")
	refused := func(what string, err error) error {
		if err == nil || !strings.Contains(err.Error(), "lease_lost") {
			return fmt.Errorf("%s: %w", what, err)
		}
		return nil
	}
	_, err := a.has("before")
	if err := refused("a read of a row", err); err != nil {
		t.Error(err)
	}
	_, err = a.has("nothing")
	if err := refused("a read of no row", err); err != nil {
		t.Error(err)
	}
	if r := a.mustRefuse("refused", "lease_lost"); !r.Retry {
		t.Errorf("%+v", r)
	}
	if left, err := a.metric("oc_lease_remaining_ms"); err != nil || left != 0 {
		t.Errorf("oc_lease_remaining_ms is %v, %v", left, err)
	}
	b.shows("before") // a follower may answer, and says that it has no leader
	b.unready("leader")
	pid := a.server.PID()
	if err := os.Rename(away, c.controlDir()); err != nil {
		t.Fatal(err)
	}
	a.ready()
	a.hides("refused")
	a.mustPut("refused")
	if a.server.PID() != pid {
		t.Error("the writer was restarted")
	}
	b.shows("refused")
	c.settle(nil)
}

// A copy of a writer's directory has its node id, and its log. As long as the writer
// renews its lease the copy waits like anybody, and says what is wrong.
func TestACopyOfTheWritersDirectoryDoesNotTakeOver(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a, twin := c.node("a", serverBin), c.node("twin", serverBin)
	a.start(a.serving()...)
	c.found(a)
	a.mustPut("before")
	epoch := c.record().Epoch
	if err := netns.Run("", "cp", "-a", a.dir, twin.dir); err != nil {
		t.Fatal(err)
	}
	own := twin.name
	twin.name = a.name // its --node-id, and its certificate
	if err := twin.launch(twin.serving()...); err != nil {
		t.Fatal(err)
	}
	twin.name = own
	if code := twin.server.ExitCode(); code != process.ExitFailure {
		t.Errorf("the copy ended with exit code %d", code)
	}
	if out := twin.server.Output(); !strings.Contains(out, "another process renews epoch") || !strings.Contains(out, "--node-id") {
		t.Errorf("the copy says: %s", out)
	}
	a.mustPut("after")
	if rec := c.record(); rec.Epoch != epoch || rec.Holder != "a" {
		t.Errorf("the record is %+v, was of epoch %d", rec, epoch)
	}
	// The writer itself need not wait for its own lease.
	began := c.record()
	a.kill()
	a.start(a.serving()...)
	if rec := c.record(); rec.Epoch != epoch+1 || rec.Version > began.Version+uint64(lease.Expiry/lease.RenewEvery)+8 {
		t.Errorf("the record is %+v, was %+v", rec, began)
	}
	a.mustPut("again")
}

// A new machine that is given a writer's unit, while there is a writer, follows it.
func TestAnEmptyDirectoryWithAWritersUnitFollows(t *testing.T) {
	t.Parallel()
	c, a, b := newPair(t, time.Second)
	a.mustPut("before")
	fresh := c.node("c", serverBin)
	if err := fresh.launch(append(writerArgs(1, time.Second), fresh.serving()...)...); err != nil {
		t.Fatal(err)
	}
	fresh.shows("before")
	if s := fresh.mustStand(); s.Role != "follower" || s.Leader != a.url() {
		t.Errorf("it is %+v", s)
	}
	// Its disk is lost, and nobody else is there: it never begins anew.
	a.kill()
	b.kill()
	fresh.kill()
	if err := errors.Join(os.RemoveAll(a.dir)); err != nil {
		t.Fatal(err)
	}
	if err := a.launch(append(writerArgs(1, time.Second), a.serving()...)...); err != nil {
		t.Fatal(err)
	}
	if code := a.server.ExitCode(); code != process.ExitRefused {
		t.Errorf("the empty writer ended with exit code %d", code)
	}
	if out := a.server.Output(); !strings.Contains(out, "restore") {
		t.Errorf("it says: %s", out)
	}
	if _, err := os.Stat(filepath.Join(a.dir, "instance.json")); err != nil {
		t.Error(err)
	}
}

// Under --sync-strict nothing is shown after a restart that no follower has.
func TestStrictShowsNothingThatNoFollowerHas(t *testing.T) {
	t.Parallel()
	const timeout = 500 * time.Millisecond
	c, a, b := newPair(t, timeout, "--sync-strict")
	a.mustPut("acked")
	if err := b.freeze(); err != nil {
		t.Fatal(err)
	}
	if resp, err := a.put("lonely", 0); err != nil || resp.Status != 503 {
		t.Fatalf("%v %+v", err, resp)
	}
	a.kill()
	if err := a.launch(append(writerArgs(1, timeout), a.serving()...)...); err != nil {
		t.Fatal(err)
	}
	settle.Eventually(t, "a waits for its follower", func() error {
		if !strings.Contains(a.server.Output(), "may not have been acknowledged") {
			return errors.New(a.server.Output())
		}
		return nil
	})
	a.unready("in_sync")
	settle.Pause(t.Context(), 2*timeout)
	if ok, err := a.has("lonely"); err == nil {
		t.Fatalf("a answers (shown: %t) while no follower has what its log ends with", ok)
	}
	if err := b.thaw(); err != nil {
		t.Fatal(err)
	}
	a.ready()
	b.shows("lonely")
	a.shows("acked")
	c.settle(nil)
}
