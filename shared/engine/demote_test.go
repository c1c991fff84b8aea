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
	"originchain/shared/wal"
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

// A restored copy is never gone on with in place: what an opening asks about it is asked.
func TestARestoredCopyIsNotGoneOnWith(t *testing.T) {
	for name, again := range map[string]func(t *testing.T, disk *simdisk.Disk) (prev, next *Engine, err error){
		"demoted": func(t *testing.T, disk *simdisk.Disk) (prev, next *Engine, err error) {
			prev = retiredWriter(t, disk)
			restoredFrom(t, disk)
			next, err = Demote(prev, followerConfig(), testDeps(disk))
			return prev, next, err
		},
		"promoted": func(t *testing.T, disk *simdisk.Disk) (prev, next *Engine, err error) {
			prev = stopped(t, heard(t), disk)
			restoredFrom(t, disk)
			cfg := followerConfig()
			cfg.Follower = false
			next, err = Promote(t.Context(), prev, cfg, testDeps(disk))
			return prev, next, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			prev, next, err := again(t, simdisk.New())
			if next != nil && next.log == prev.log {
				t.Error("it goes on with what was open")
			}
			if next == nil && err == nil {
				t.Error("neither an engine nor an error")
			}
			if err == nil {
				_ = next.Close() // of a directory that says two things of itself
			}
		})
	}
}

// restoredFrom has the directory say that a restore has made it, of another instance.
func restoredFrom(t *testing.T, disk *simdisk.Disk) {
	t.Helper()
	text := `{"format":1,"instance_id":"01JADE00000000000000000009","base":{"lsn":1,"epoch":1},"archive":"file:///a","time":"2026-01-01T00:00:00Z"}`
	f, err := disk.Create("data/restored.json", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		t.Fatal(err)
	}
	if r, err := datadir.RestoredIn(disk, "data"); r == nil || err != nil {
		t.Fatalf("%+v, %v", r, err)
	}
}

// What lay aside in the directory is known to whoever goes on with it.
func TestWhatLiesAsideIsKnownInTheNextRole(t *testing.T) {
	disk := simdisk.New()
	prev := retiredWriter(t, disk)
	prev.aside = []wal.Divergent{{Epoch: 1, First: 7}}
	e, err := Demote(prev, followerConfig(), testDeps(disk))
	if err != nil {
		t.Fatal(err)
	}
	if got := e.Aside(); len(got) != 1 || got[0] != prev.aside[0] {
		t.Errorf("%+v", got)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}
