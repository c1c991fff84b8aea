package drills

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"syscall"
	"testing"
	"time"

	"originchain/lambdas/local/layout"
	"originchain/test/netns"
	"originchain/test/settle"
)

// A node boots with a unit that says writer, when another node writes: the old writer with
// its old unit, while the lease store cannot be reached, and then when it can; and a
// follower whose unit was rewritten by a failover that went no further. None acknowledges
// anything, and each follows.
func TestBootWithAWritersUnit(t *testing.T) {
	t.Parallel()
	t.Run("the old writer", func(t *testing.T) {
		t.Parallel()
		i := newInstance(t, 1)
		l := i.begin()
		was, epoch, at := i.writer(), uint64(i.record().Epoch), time.Now()
		i.must(was.Drop(netns.Arriving, fmt.Sprintf("ip saddr %s tcp sport %d", i.net.Gateway(), leasePort)))
		was.signal(syscall.SIGKILL)
		l.succeeded("kill -9", at, epoch)
		saysWriter(i, was)
		was.refusesWrites(2 * time.Second)
		i.must(was.Heal())
		l.settle()
		was.refusesWrites(settle.Every)
	})
	t.Run("a follower between its unit and its epoch", func(t *testing.T) {
		t.Parallel()
		i := newInstance(t, 1)
		l := i.begin()
		was := i.writer()
		to, epoch := i.others(was)[0], i.record().Epoch
		text, err := os.ReadFile(i.dir.Unit(was.Machine))
		i.must(err)
		// What step 3 makes of the follower's unit is the writer's, with the follower's names.
		own := bytes.ReplaceAll(bytes.ReplaceAll(text, []byte(was.ID), []byte(to.ID)), []byte(was.IP), []byte(to.IP))
		i.must(layout.WriteFile(i.dir.Unit(to.Machine), own))
		to.signal(syscall.SIGKILL)
		l.flow()
		settle.Eventually(t, "it runs again", func() error { _, err := to.standing(); return err })
		to.refusesWrites(time.Second)
		l.settle()
		if now := i.record(); now.Holder != was.ID || now.Epoch != epoch {
			t.Errorf("%s holds epoch %d, after %d of %s", now.Holder, now.Epoch, epoch, was.ID)
		}
		saysWriter(i, to)
		if c := i.byScript(nil, was, to); c.code != 0 || i.writer() != to {
			t.Errorf("the failover, run again: %+v", c)
		}
		i.whole()
	})
}

func saysWriter(i *instance, n *node) {
	i.t.Helper()
	text, err := os.ReadFile(i.dir.Unit(n.Machine))
	i.must(err)
	if !bytes.Contains(text, []byte("--mode writer")) || bytes.Contains(text, []byte("--leader-addr")) {
		i.t.Errorf("the unit of %s is no writer's:\n%s", n.ID, text)
	}
}

// refusesWrites sends writes to the node itself, for a while: it acknowledges none.
func (n *node) refusesWrites(d time.Duration) {
	n.i.t.Helper()
	ctx, cancel := context.WithTimeout(n.i.t.Context(), d)
	defer cancel()
	for k := 0; k == 0 || ctx.Err() == nil; k++ {
		resp, err := n.i.put(n.i.t.Context(), n.asTenant(), rowsID, fmt.Sprintf("misdirected-%d", k), "x", "")
		if err == nil && resp.Status != 503 {
			n.i.t.Errorf("%s answers a write with %d %s", n.ID, resp.Status, resp.Body)
			return
		}
		settle.Pause(ctx, settle.Every)
	}
}
