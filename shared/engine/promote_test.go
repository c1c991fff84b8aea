package engine

import (
	"context"
	"errors"
	"math/rand/v2"
	"syscall"
	"testing"

	"originchain/shared/datadir"
	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/simdisk"
)

// stopped copies all that a leader has: the first half is durable and shown, the rest
// is neither, as when its node is promoted. RunFollower has returned.
func stopped(t *testing.T, l *told, disk *simdisk.Disk) *Engine {
	t.Helper()
	n := openFollower(t, followerConfig(), disk)
	half := l.last / 2
	synced := false
	for _, c := range l.chunks {
		if err := n.Copy(c); err != nil {
			t.Fatal(err)
		}
		if !synced && c.Last >= half {
			synced = true
			if err := n.SyncLog(); err != nil {
				t.Fatal(err)
			}
			n.Advance(half, 0)
			until(t, "half of the log is shown", func() bool { return n.Visible().LSN == half })
		}
	}
	if n.Durable() == l.last {
		t.Fatal("all of the log is durable")
	}
	n.stop()
	if err := <-n.done; err != nil {
		t.Fatal(err)
	}
	return n.Engine
}

func heard(t *testing.T) *told {
	t.Helper()
	leader := lead(t, simdisk.New())
	defer leader.mustClose()
	leader.create()
	leader.work(0, 60)
	return listen(t, leader.Log(), 1, 4<<10)
}

// A promoted follower has every frame of its log, durable before its epoch is taken, and
// its directory is never anybody else's meanwhile.
func TestAPromotedFollowerGoesOnWhereItsLogEnds(t *testing.T) {
	l, disk := heard(t), simdisk.New()
	prev := stopped(t, l, disk)
	deps := testDeps(disk)
	cfg := followerConfig()
	cfg.Follower = false
	deps.TakeEpoch = func(_ context.Context, o Opening) (lsn.Epoch, error) {
		if o.Last.Pos.LSN != l.last || o.Last.Digest != l.digest[l.last] {
			t.Errorf("the epoch is asked for behind %s, and the log ends at LSN %d", o.Last.Pos, l.last)
		}
		e, err := OpenFollower(followerConfig(), testDeps(disk.CrashClone(rand.New(rand.NewPCG(1, 2)))))
		if err != nil {
			t.Fatal(err)
		}
		if got := e.Log().Tail(); got.Pos.LSN != l.last || got.Chain != l.chain[l.last] {
			t.Errorf("without power the log ends at %s now", got.Pos)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := datadir.Open(prev.dirOptions()); err == nil {
			t.Error("the directory can be opened by others")
		}
		return o.Allot(0)
	}
	e, err := Promote(t.Context(), prev, cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	n := run(t, e, e.Run)
	if boot, epoch := e.Boot(), e.Epoch(); boot.LSN != l.last || epoch <= boot.Epoch || e.Visible().LSN != l.last+1 {
		t.Errorf("booted at %s, in epoch %d, shows %s", boot, epoch, e.Visible())
	}
	n.work(100, 130)
	n.verify()
	n.mustClose()
	again, err := Open(context.Background(), cfg, testDeps(disk))
	if err != nil {
		t.Fatal(err)
	}
	n = run(t, again, again.Run)
	n.verify()
	n.mustClose()
}

// Whoever fails while it works in the background has failed as the writer.
func TestAPromotedFollowersStateFailsAsTheWriters(t *testing.T) {
	l, disk := heard(t), simdisk.New()
	prev := stopped(t, l, disk)
	cfg := followerConfig()
	cfg.Follower = false
	e, err := Promote(t.Context(), prev, cfg, testDeps(disk))
	if err != nil {
		t.Fatal(err)
	}
	n := run(t, e, e.Run)
	disk.Inject(simdisk.Fault{Ops: simdisk.OpWrite, Path: "/data/state/*", Forever: true, Err: syscall.ENOSPC})
	var failed error
	for i := int64(0); failed == nil && i < 10_000; i++ {
		_, failed = n.put(i%40, "another name", rows.Any())
	}
	if <-n.done; e.Failure() == nil || prev.Failure() != nil {
		t.Errorf("the writer's failure is %v, the follower's %v", e.Failure(), prev.Failure())
	}
	n.stop()
	if err := e.Close(); err != nil {
		t.Log(err)
	}
}

// A follower that has failed is closed and opened anew: nothing is made durable by
// asking a log again that could not be synced.
func TestAFailedFollowerIsNotGoneOnWith(t *testing.T) {
	l, disk := heard(t), simdisk.New()
	prev := stopped(t, l, disk)
	prev.fail("test", errors.New("a fault"))
	cfg := followerConfig()
	cfg.Follower = false
	e, err := Promote(t.Context(), prev, cfg, testDeps(disk))
	if err != nil {
		t.Fatal(err)
	}
	if e.log == prev.log || e.Failure() != nil {
		t.Error("it goes on with what has failed")
	}
	n := run(t, e, e.Run)
	n.work(0, 3)
	n.mustClose()
}

// A node that is cut anywhere while it is promoted has every frame that was durable,
// and can be opened as the writer.
func TestAPromotionCutAnywhere(t *testing.T) {
	l := heard(t)
	cfg := followerConfig()
	cfg.Follower = false
	for cut := 1; ; cut++ {
		disk := simdisk.New()
		prev := stopped(t, l, disk)
		durable := prev.Durable()
		disk.CrashAfter(disk.CallCount() + cut)
		e, err := Promote(t.Context(), prev, cfg, testDeps(disk))
		whole := err == nil && !disk.Crashed()
		if err == nil {
			_ = e.release() // of a disk that may be gone
		}
		after := disk.CrashClone(rand.New(rand.NewPCG(uint64(cut), 5)))
		again, err := Open(context.Background(), cfg, testDeps(after))
		if err != nil {
			t.Fatalf("cut %d: %v", cut, err)
		}
		if boot := again.Boot(); boot.LSN < durable || (whole && boot.LSN != l.last+1) {
			t.Fatalf("cut %d: the log ends at %s, LSN %d was durable", cut, boot, durable)
		}
		n := run(t, again, again.Run)
		n.verify()
		n.mustClose()
		if whole {
			t.Logf("%d cuts", cut-1)
			return
		}
	}
}
