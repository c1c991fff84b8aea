package engine

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/simdisk"
)

// TestAFollowerTellsOfADiskThatHangs: what came from the leader waits for the disk, as a
// commit of a writer's own does, be it in the sync behind a group or in the one with which a
// segment begins. The lag of commits is a writer's alone.
func TestAFollowerTellsOfADiskThatHangs(t *testing.T) {
	leader := lead(t, simdisk.New())
	leader.create()
	leader.work(0, 60)
	chunks := listen(t, leader.log, 1, 4<<10).chunks
	leader.mustClose()

	synctest.Test(t, func(t *testing.T) {
		disk := simdisk.New()
		n := openFollower(t, followerConfig(), disk)
		defer n.mustClose()
		waits := func(what string, want time.Duration) {
			t.Helper()
			if got := n.Waiting(); got != want {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
			if lag := n.FsyncLag(); lag != 0 {
				t.Errorf("%s: commits of a follower's own wait for %v", what, lag)
			}
		}
		hangs := func(what string, call func() error) {
			t.Helper()
			release := disk.HangSyncs("/data/log/*")
			defer release()
			ended := make(chan error, 1)
			go func() { ended <- call() }()
			<-time.After(7 * time.Second)
			waits(what, 7*time.Second)
			if len(ended) > 0 {
				t.Errorf("%s: it has not hung", what)
			}
			release()
			if err := <-ended; err != nil {
				t.Errorf("%s: %v", what, err)
			}
			waits("after "+what, 0)
		}
		waits("before anything came", 0)
		hangs("a chunk that begins a segment", func() error { return n.Copy(chunks[0]) })
		<-time.After(time.Minute)
		waits("a chunk that a stream left without a sync", 0)
		hangs("the sync behind a group", n.SyncLog)
		if got := n.Durable(); got != chunks[0].Last {
			t.Errorf("durable up to LSN %d, want %d", got, chunks[0].Last)
		}
	})
}

// What waits for followers does not wait for the disk, though nothing becomes durable behind so
// many groups of it; and a disk that hangs is told of, whoever waits.
func TestWhoWaitsForFollowersDoesNotWaitForTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := simdisk.New()
		e, err := Open(context.Background(), testConfig(), testDeps(disk))
		if err != nil {
			t.Fatal(err)
		}
		var shut atomic.Bool
		opens := make(chan struct{})
		e.Lead(gateFunc(func(lsn.LSN, <-chan struct{}) error {
			if shut.Load() {
				<-opens
			}
			return nil
		}), nil)
		n := run(t, e, e.Run)
		defer n.mustClose()
		n.create()
		shut.Store(true)
		var commits sync.WaitGroup
		put := func(id int64) {
			commits.Go(func() {
				if _, err := n.put(id, fmt.Sprint(id), rows.Any()); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		const waiting = groupsInFlight + 10
		for id := range int64(waiting) {
			put(id)
		}
		<-time.After(10 * time.Second)
		if lag := n.FsyncLag(); n.Waiting() != 0 || lag < 10*time.Second {
			t.Errorf("the disk is said to be at it for %s; commits wait for %s", n.Waiting(), lag)
		}
		close(opens)
		commits.Wait()
		release := disk.HangSyncs("/data/log/*")
		defer release()
		put(waiting)
		<-time.After(7 * time.Second)
		if got := n.Waiting(); got != 7*time.Second {
			t.Errorf("the disk hangs for 7 s, and is said to for %s", got)
		}
		release()
		commits.Wait()
		if got := n.Waiting(); got != 0 {
			t.Errorf("it has come back, and is said to be at it for %s", got)
		}
	})
}
