package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/fault"
	"originchain/shared/rows"
	"originchain/shared/simdisk"
)

// paused runs f on a node whose commits are held from now on.
func paused(t *testing.T, f func(n *node, disk *simdisk.Disk, p *Pause)) {
	synctest.Test(t, func(t *testing.T) {
		disk := simdisk.New()
		n := start(t, disk)
		defer n.mustClose()
		n.create()
		p, err := n.Pause(time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		f(n, disk, p)
	})
}

// held is a commit that does not return.
func (n *node) held(id int64) <-chan error {
	n.t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := n.put(id, fmt.Sprint("held ", id), rows.Any())
		done <- err
	}()
	synctest.Wait()
	select {
	case err := <-done:
		n.t.Errorf("a commit ended while commits are held: %v", err)
	default:
	}
	return done
}

// From Drain on nothing is decided until the pause ends, and then what was held goes on.
func TestHeldCommitsGoOn(t *testing.T) {
	paused(t, func(n *node, _ *simdisk.Disk, p *Pause) {
		held := n.held(1)
		at, err := p.Drain(context.Background())
		if err != nil || at.LSN != n.Durable() || at != n.Visible() {
			t.Errorf("drained at %s: %v, durable to %d", at, err, n.Durable())
		}
		second := n.held(2)
		if _, err := n.Pause(time.Minute); err == nil {
			t.Error("commits are held twice")
		}
		if n.Durable() != at.LSN {
			t.Errorf("LSN %d was written meanwhile", n.Durable())
		}
		p.Resume()
		p.Refuse(func() error { return errors.New("too late") })
		if err := errors.Join(<-held, <-second); err != nil {
			t.Error(err)
		}
		if p, err = n.Pause(time.Minute); err != nil {
			t.Fatalf("again: %v", err)
		}
		p.Resume()
	})
}

// Drain waits for what was proposed before, however long its fsync takes.
func TestDrainWaitsForTheDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := simdisk.New()
		n := start(t, disk)
		defer n.mustClose()
		n.create()
		var once sync.Once
		stalled, release := make(chan struct{}), make(chan struct{})
		disk.OnCall(func(_ int, c simdisk.Call, _ func() *simdisk.Disk) {
			if c.Op == simdisk.OpSync && strings.Contains(c.Path, "/log/") {
				once.Do(func() { close(stalled); <-release })
			}
		})
		first := make(chan error, 1)
		go func() {
			_, err := n.put(1, "on its way", rows.Any())
			first <- err
		}()
		<-stalled
		p, err := n.Pause(time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		before := n.Durable()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if at, err := p.Drain(ctx); err == nil {
			t.Errorf("drained at %s while a frame waits for the disk", at)
		}
		close(release)
		at, err := p.Drain(context.Background())
		if err != nil || at.LSN <= before || at != n.Visible() {
			t.Errorf("drained at %s after %d: %v", at, before, err)
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
		p.Resume()
	})
}

// Whoever is refused has written nothing, and is told where to go, for good; a caller
// who leaves is not held.
func TestRefusedCommitsWriteNothing(t *testing.T) {
	paused(t, func(n *node, _ *simdisk.Disk, p *Pause) {
		at, err := p.Drain(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		held := n.held(1)
		ctx, leave := context.WithCancel(context.Background())
		left := make(chan error, 1)
		go func() {
			_, err := n.Commit(ctx, Proposal{Build: func(*rows.Builder) error { t.Error("decided"); return nil }})
			left <- err
		}()
		synctest.Wait()
		leave()
		if err := <-left; fault.CodeOf(err) != fault.Cancelled || fault.From(err).Fields["outcome"] != nil {
			t.Errorf("who left: %v", err)
		}
		p.Refuse(func() error { return HandedOver("http://b") })
		p.Resume()
		_, later := n.put(2, "later", rows.Any())
		for _, err := range []error{<-held, later} {
			if f := fault.From(err); f == nil || f.Code != fault.ReadOnly || f.Fields["leader"] != "http://b" || !f.Retry {
				t.Errorf("%v", err)
			}
		}
		if n.Durable() != at.LSN {
			t.Errorf("LSN %d was written", n.Durable())
		}
	})
}

// A commit is held for the limit, and then refused; once the pause is over others go on.
func TestCommitsAreNotHeldForEver(t *testing.T) {
	paused(t, func(n *node, _ *simdisk.Disk, p *Pause) {
		began := time.Now()
		err := <-n.held(1)
		if fault.CodeOf(err) != fault.ReadOnly || time.Since(began) != time.Minute {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		p.Resume()
		if _, err := n.put(1, "on", rows.Any()); err != nil {
			t.Error(err)
		}
	})
}

// A request of which something is written is not told that nothing was.
func TestPartly(t *testing.T) {
	if err := Partly(HandedOver("http://b")); fault.CodeOf(err) != fault.NotReady || fault.From(err).Fields["outcome"] != "unknown" {
		t.Errorf("%v", err)
	}
	for _, err := range []error{nil, fault.New(fault.Conflict, "x")} {
		if got := Partly(err); got != err {
			t.Errorf("%v became %v", err, got)
		}
	}
}
