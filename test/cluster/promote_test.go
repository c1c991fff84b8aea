package cluster

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/api"
	"originchain/shared/lease"
	"originchain/shared/lsn"
	"originchain/test/settle"
)

// give takes the next epoch in the record on behalf of a node, as a step of a failover
// does; the node says where its log ends.
func (c *cluster) give(n *node) uint64 {
	c.t.Helper()
	store, err := lease.OpenFile(vfs.Default, c.controlDir())
	if err != nil {
		c.t.Fatal(err)
	}
	s := n.mustStand()
	rec := c.record()
	next, err := rec.Take(lease.Candidate{Instance: rec.Instance, Node: n.name, Last: lsn.Pos{LSN: lsn.LSN(s.DurableLSN), Epoch: rec.Epoch}, URL: n.url()})
	if err != nil {
		c.t.Fatal(err)
	}
	stored, err := store.CompareAndSet(context.Background(), rec.Version, next)
	if err != nil {
		c.t.Fatal(err)
	}
	return uint64(stored.Epoch)
}

func (n *node) promote(epoch uint64) (out api.Promoted, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return out, n.asAdmin().JSON(ctx, http.MethodPost, "/v1/admin/promote", api.PromoteRequest{Epoch: epoch}, &out)
}

// becomesWriter waits until the node is the writer of an epoch.
func (n *node) becomesWriter(epoch uint64) {
	n.c.t.Helper()
	settle.Eventually(n.c.t, fmt.Sprintf("%s is the writer of epoch %d", n.name, epoch), func() error {
		s, err := n.standing()
		if err == nil && (s.Role != "writer" || s.Epoch != epoch) {
			err = fmt.Errorf("it is %s of epoch %d", s.Role, s.Epoch)
		}
		return err
	})
}

// A follower becomes the writer in its own process, of exactly the epoch that the record
// gives it; nobody else's call makes it one; the old writer follows; and back again.
func TestPromotionInProcess(t *testing.T) {
	t.Parallel()
	c, a, b := newPair(t, 4*time.Second)
	a.mustPut("before")
	held := c.record()
	for _, epoch := range []uint64{uint64(held.Epoch), uint64(held.Epoch) + 1} {
		if _, err := b.promote(epoch); err == nil {
			t.Fatalf("b may be promoted to epoch %d, which is nobody's or another's", epoch)
		}
	}
	a.kill()
	pid := b.server.PID()
	epoch := c.give(b)
	if epoch != uint64(held.Epoch)+1 {
		t.Fatalf("epoch %d after %d", epoch, held.Epoch)
	}
	if out, err := b.promote(epoch); err != nil || out.Writer {
		t.Fatalf("promote: %+v, %v", out, err)
	}
	c.current.Store(b)
	b.becomesWriter(epoch)
	b.shows("before")
	b.mustPut("of the new writer")
	if out, err := b.promote(epoch); err != nil || !out.Writer {
		t.Errorf("promote again: %+v, %v", out, err)
	}
	if _, err := b.promote(epoch + 1); err == nil {
		t.Error("the writer takes an epoch that nobody gave it")
	}
	if rec := c.record(); uint64(rec.Epoch) != epoch || rec.Holder != "b" || !rec.Confirmed() || rec.Place == "" {
		t.Errorf("the record: %+v", rec)
	}
	if b.server.PID() != pid {
		t.Error("b was restarted")
	}
	if err := a.launch(append(writerArgs(1, 4*time.Second), a.serving()...)...); err != nil {
		t.Fatal(err)
	}
	a.ready()
	c.inSync("a")
	a.shows("of the new writer")

	// And back, in one process each.
	if err := b.freeze(); err != nil {
		t.Fatal(err)
	}
	epoch = c.give(a)
	if _, err := a.promote(epoch); err != nil {
		t.Fatal(err)
	}
	a.becomesWriter(epoch)
	c.current.Store(a)
	if err := b.thaw(); err != nil {
		t.Fatal(err)
	}
	b.ready()
	c.inSync("b")
	a.mustPut("after both")
	b.shows("after both")
	c.settle(nil)
}

// A node that is killed after an epoch was given to it, and before or while it opens,
// takes one when it is started as a writer, and waits for nobody.
func TestAGivenEpochOutlivesItsNode(t *testing.T) {
	t.Parallel()
	c, a, b := newPair(t, 4*time.Second)
	a.mustPut("before")
	a.kill()
	epoch := c.give(b)
	b.kill()
	b.start(append(writerArgs(1, 4*time.Second), b.serving()...)...)
	c.current.Store(b)
	if s := b.mustStand(); s.Role != "writer" || s.Epoch != epoch {
		t.Errorf("b is %s of epoch %d, and %d was given to it", s.Role, s.Epoch, epoch)
	}
	b.shows("before")
	b.mustPut("after")
}
