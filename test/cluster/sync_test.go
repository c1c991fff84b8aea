package cluster

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"originchain/test/settle"
)

// Under --sync-strict nothing is ever acknowledged, or shown, that too few
// followers have.
func TestStrictSync(t *testing.T) {
	t.Parallel()
	const timeout = 700 * time.Millisecond
	c, a, b := newPair(t, timeout, "--sync-strict")
	r := c.node("r", followerBin)
	r.start()
	a.mustPut("first")

	// The follower vanishes in the middle: appended, and not acknowledged.
	if err := b.freeze(); err != nil {
		t.Fatal(err)
	}
	before := a.mustStand()
	if got := a.mustRefuse("unknown", "replication_timeout"); got.Outcome != "unknown" || !got.Retry {
		t.Errorf("the refusal should say that the outcome is unknown: %+v", got)
	}
	a.unready("in_sync")
	after := a.mustStand()
	if after.LSN != before.LSN+1 || after.CommitLSN != before.CommitLSN {
		t.Errorf("one frame should wait: %+v, before %+v", after, before)
	}
	settle.Eventually(t, "the frame is durable on r", func() error {
		s, err := r.standing()
		if err == nil && s.DurableLSN < after.LSN {
			err = fmt.Errorf("durable to %d of %d", s.DurableLSN, after.LSN)
		}
		return err
	})
	// While nobody who counts has it, nobody shows it.
	a.mustRefuse("before append", "not_ready")
	if now := a.mustStand(); now.LSN != after.LSN {
		t.Errorf("a write that is refused before append was appended: %d, was %d", now.LSN, after.LSN)
	}
	for _, n := range []*node{a, r} {
		n.hides("unknown")
		n.hides("before append")
	}
	if s := r.mustStand(); s.AppliedLSN > before.CommitLSN {
		t.Errorf("r shows LSN %d, and %d is committed", s.AppliedLSN, before.CommitLSN)
	}
	if err := b.thaw(); err != nil {
		t.Fatal(err)
	}
	a.ready()
	for _, n := range []*node{a, b, r} {
		n.shows("unknown")
	}
	if got := a.mustPut("unknown"); got.frame != after.LSN {
		t.Errorf("the repetition has frame %d, the first was %d", got.frame, after.LSN)
	}
	// And the same with the follower dead instead of asleep.
	b.kill()
	a.unready("in_sync")
	a.mustRefuse("before append", "not_ready")
	b.start(append(writerArgs(1, timeout, followerArgs...), b.serving()...)...)
	a.ready()
	if got := a.mustPut("before append"); got.degraded {
		t.Errorf("%s under --sync-strict", got)
	}
	c.settle(nil)
}

// A follower that shows later has everything at once.
func TestApplyDelay(t *testing.T) {
	t.Parallel()
	const delay = 3 * time.Second
	c, a, _ := newPair(t, time.Second)
	late := c.node("late", serverBin, "--apply-delay", delay.String())
	late.start(append(followerArgs, "--sync-replicas", "0")...)
	a.fillLog("fill", 50, 4000)
	late.knows() // the token is late too
	sent := time.Now()
	got := a.mustPut("delayed")
	settle.Eventually(t, "it is durable", func() error {
		s, err := late.standing()
		if err == nil && s.DurableLSN < got.frame {
			err = fmt.Errorf("durable to %d of %d", s.DurableLSN, got.frame)
		}
		return err
	})
	shown, err := late.has("delayed")
	if since := time.Since(sent); err != nil || (shown && since < delay) {
		t.Errorf("it is shown after %s, or not answered: %v", since, err)
	}
	late.shows("delayed")
	if since := time.Since(sent); since < delay {
		t.Errorf("it is shown after %s, and the delay is %s", since, delay)
	}
	late.ready()
	c.settle(nil)
}

// Replicas never count as in sync, and never take writes.
func TestReplicaNeverCounts(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := c.node("a", serverBin)
	r := c.node("r", followerBin)
	a.start(append(writerArgs(1, 300*time.Millisecond), a.serving()...)...)
	c.found(a)
	r.start()
	for i := range 20 {
		if got := a.mustPut(fmt.Sprintf("row-%d", i)); !got.degraded {
			t.Errorf("%s, with a replica alone", got)
		}
	}
	r.shows("row-19")
	if s := a.mustStand(); len(s.InSync) != 0 || len(s.Followers) != 1 || s.Followers[0].Sync || !s.Followers[0].Connected {
		t.Errorf("the writer says %+v", s)
	}
	if got := r.mustRefuse("misdirected", "read_only"); got.Leader != a.url() {
		t.Errorf("the refusal names %q as the leader, which is %s", got.Leader, a.url())
	}
	resp, err := r.asTenant().Do(t.Context(), topologyRequest)
	var top struct {
		Epoch  uint64
		Writer string
	}
	if err == nil {
		err = json.Unmarshal(resp.Body, &top)
	}
	if err != nil || resp.Status != http.StatusOK || top.Writer != a.url() || top.Epoch == 0 {
		t.Errorf("topology: %v %v", resp, err)
	}
	if err := r.launchAsWriter(); err == nil {
		t.Error("oc-follower started as a writer")
	}
	r.start()
	c.settle(nil)
}
