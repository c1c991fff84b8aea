package engine

import (
	"errors"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"originchain/shared/datadir"
	"originchain/shared/lsn"
	"originchain/shared/simdisk"
)

// retiredWriter has written, and given its role away: Run has returned.
func retiredWriter(t *testing.T, disk *simdisk.Disk) *Engine {
	t.Helper()
	n := lead(t, disk)
	n.create()
	n.work(0, 60)
	n.Retire(errors.New("node b has epoch 2"))
	if err := <-n.done; err == nil {
		t.Fatal("a writer goes on that has given its role away")
	}
	return n.Engine
}

// successor has the whole log of the writer before it, and writes on.
func successor(t *testing.T, before *Engine) (*node, *told) {
	t.Helper()
	disk := simdisk.New()
	n := openFollower(t, followerConfig(), disk)
	listen(t, before.Log(), 1, 4<<10).rest(t, n, before.Log())
	n.stop()
	if err := <-n.done; err != nil {
		t.Fatal(err)
	}
	cfg := followerConfig()
	cfg.Follower = false
	e, err := Promote(t.Context(), n.Engine, cfg, testDeps(disk))
	if err != nil {
		t.Fatal(err)
	}
	e.Lead(nil, func() lsn.LSN { return 1 })
	next := run(t, e, e.Run)
	next.work(100, 160)
	return next, listen(t, e.Log(), 1, 4<<10)
}

// A writer that has handed over goes on as a follower with what it has open: it takes what
// its successor writes, shows no less than before, and its directory is never anybody
// else's. Then it is the writer again.
func TestARetiredWriterFollowsWithWhatItHasOpen(t *testing.T) {
	disk := simdisk.New()
	prev := retiredWriter(t, disk)
	next, l := successor(t, prev)
	had := prev.Visible().LSN
	e, err := Demote(prev, followerConfig(), testDeps(disk))
	if err != nil {
		t.Fatal(err)
	}
	if e.log != prev.log || e.store != prev.store {
		t.Error("it was opened anew")
	}
	if _, err := datadir.Open(prev.dirOptions()); err == nil {
		t.Error("the directory can be opened by others")
	}
	if e.Failure() != nil || e.Visible().LSN != had || e.Boot().LSN != had {
		t.Errorf("shows %s of %d, booted at %s: %v", e.Visible(), had, e.Boot(), e.Failure())
	}
	n := run(t, e, e.RunFollower)
	l.rest(t, n, next.Log())
	n.stop()
	if err := <-n.done; err != nil {
		t.Fatal(err)
	}
	next.mustClose()
	cfg := followerConfig()
	cfg.Follower = false
	again, err := Promote(t.Context(), e, cfg, testDeps(disk))
	if err != nil {
		t.Fatal(err)
	}
	n = run(t, again, again.Run)
	n.work(200, 230)
	n.verify()
	n.mustClose()
}

// What the state has failed in is known to whoever goes on with it, whoever was told.
func TestARetiredWritersStateFailsAsTheFollowers(t *testing.T) {
	disk := simdisk.New()
	for name, f := range map[string]func(t *testing.T, prev *Engine){
		"before": func(t *testing.T, prev *Engine) {
			disk.Inject(simdisk.Fault{Ops: simdisk.OpWrite, Path: "/data/state/*", Forever: true, Err: syscall.ENOSPC})
			if err := prev.store.Flush(); err == nil {
				t.Fatal("the state is flushed to a full disk")
			}
			if !prev.retired() {
				t.Fatalf("the state's failure came first: %v", prev.Failure())
			}
			if _, err := Demote(prev, followerConfig(), testDeps(disk)); err == nil || !strings.Contains(err.Error(), "the state store failed") {
				t.Errorf("got %v", err)
			}
		},
		"after": func(t *testing.T, prev *Engine) {
			e, err := Demote(prev, followerConfig(), testDeps(disk))
			if err != nil {
				t.Fatal(err)
			}
			disk.Inject(simdisk.Fault{Ops: simdisk.OpWrite, Path: "/data/state/*", Forever: true, Err: syscall.ENOSPC})
			if err := e.store.Flush(); err == nil {
				t.Fatal("the state is flushed to a full disk")
			}
			if err := e.Failure(); err == nil || !strings.Contains(err.Error(), "the state store failed") {
				t.Errorf("the follower's failure is %v", err)
			}
			_ = e.Close() // which has failed
		},
	} {
		t.Run(name, func(t *testing.T) {
			disk = simdisk.New()
			f(t, retiredWriter(t, disk))
		})
	}
}

// A writer that was fenced, or has failed, may have frames that nobody else has, or that
// no fsync has made durable: its directory is opened anew.
func TestOnlyARetiredWriterIsGoneOnWith(t *testing.T) {
	for name, end := range map[string]func(e *Engine){
		"fenced": func(e *Engine) { e.Fence(errors.New("node b has epoch 2")) },
		"failed": func(e *Engine) { e.fail("test", errors.New("a fault")); e.Retire(errors.New("node b has epoch 2")) },
	} {
		t.Run(name, func(t *testing.T) {
			disk := simdisk.New()
			n := lead(t, disk)
			n.create()
			n.work(0, 5)
			last := n.Durable()
			end(n.Engine)
			<-n.done
			e, err := Demote(n.Engine, followerConfig(), testDeps(disk))
			if err != nil {
				t.Fatal(err)
			}
			if e.log == n.log || e.Failure() != nil || e.Durable() != last {
				t.Errorf("it goes on with what it had, up to LSN %d of %d: %v", e.Durable(), last, e.Failure())
			}
			if err := e.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// A node that is cut anywhere while it is demoted, and while it copies what its successor
// wrote, has every frame that was durable, and goes on.
func TestADemotionCutAnywhere(t *testing.T) {
	for cut := 1; ; cut++ {
		disk := simdisk.New()
		prev := retiredWriter(t, disk)
		durable := prev.Durable()
		next, l := successor(t, prev)
		disk.CrashAfter(disk.CallCount() + cut)
		e, err := Demote(prev, followerConfig(), testDeps(disk))
		if (e == nil) != (err != nil) {
			t.Fatalf("cut %d: engine %v, and %v", cut, e != nil, err)
		}
		if err == nil {
			for _, c := range l.chunks {
				if c.Last <= durable {
					continue
				}
				if err = errors.Join(e.Copy(c), e.SyncLog()); err != nil {
					break
				}
				durable = e.Durable()
			}
			if err == nil {
				err = e.log.Err()
			}
		}
		whole := err == nil && !disk.Crashed()
		if e != nil && err == nil {
			_ = e.release() // of a disk that may be gone
		}
		after := disk.CrashClone(rand.New(rand.NewPCG(uint64(cut), 6)))
		n := openFollower(t, followerConfig(), after)
		if got := n.Durable(); got < durable {
			t.Fatalf("cut %d: the log ends at LSN %d, %d was durable", cut, got, durable)
		}
		l.same(t, n.Engine)
		l.rest(t, n, next.Log())
		n.mustClose()
		next.mustClose()
		if whole {
			t.Logf("%d cuts", cut-1)
			return
		}
	}
}
