package replica

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/engine"
	"originchain/shared/fault"
	"originchain/shared/lsn"
)

// two is a hub that waits for two followers, with both in sync.
func two(t *testing.T, cfg HubConfig, f func(t *testing.T, r *rig, b, c *Session)) {
	t.Helper()
	cfg.Sync = 2
	bubble(t, cfg, func(t *testing.T, r *rig) {
		r.Begin(0, nil)
		b := r.Connected(follower("b"), 0)
		c := r.Connected(follower("c"), 0)
		r.record("both connected", "b c")
		f(t, r, b, c)
	})
}

func (r *rig) degraded(want bool, at ...lsn.LSN) {
	r.t.Helper()
	for _, n := range at {
		if r.Degraded(n) != want {
			r.t.Fatalf("LSN %d: degraded is %t", n, !want)
		}
	}
}

func TestACommitWaitsForBoth(t *testing.T) {
	two(t, HubConfig{}, func(_ *testing.T, r *rig, b, c *Session) {
		a := r.write(1)
		r.pending("neither has it", a)
		b.Acknowledge(1, 0)
		r.pending("b alone has it", a)
		if r.Committed() != 0 {
			r.t.Fatal("it is committed")
		}
		c.Acknowledge(1, 0)
		r.answered("both have it", a)
		a = r.write(2)
		c.Acknowledge(2, 0)
		r.pending("c alone has it", a)
		b.Acknowledge(2, 0)
		r.answered("both have it, the other way round", a)
		r.degraded(false, 1, 2)
	})
}

// One is lost: it leaves the record before the acknowledgement, which waits for the
// other still. From then on acknowledgements are degraded at once, and wait for the
// other alone, until the lost one is back with everything.
func TestOneOfTwoIsLostAndReturns(t *testing.T) {
	two(t, HubConfig{}, func(_ *testing.T, r *rig, b, c *Session) {
		c.End()
		a := r.write(1)
		b.Acknowledge(1, 0)
		r.pending("the record names c", a)
		pass(testTimeout - 1)
		r.pending("before the time-out", a)
		pass(1)
		r.record("c has left", "b")
		r.answered("c has left", a)
		r.degraded(true, 1)

		a = r.write(2)
		r.pending("b is in the record, and lacks it", a)
		b.Acknowledge(2, 0)
		r.answered("at once, although c is away", a)
		r.degraded(true, 2)

		if err := r.Readmit(r.t.Context(), "c", 1); err != nil {
			r.t.Fatal(err)
		}
		c = r.Connected(follower("c"), 1)
		pass(firstBackoff)
		r.record("c lacks what was acknowledged", "b")
		a = r.write(3)
		b.Acknowledge(3, 0)
		r.pending("c is waited for already", a)
		c.Acknowledge(2, 0)
		r.record("c has what was acknowledged, and not more", "b c")
		r.pending("c is in, and lacks it", a)
		c.Acknowledge(3, 0)
		r.answered("both have it", a)
		r.degraded(false, 3)
	})
}

// Both are lost: each leaves by a change of its own, and the acknowledgement comes
// after the last.
func TestBothAreLostOneAfterTheOther(t *testing.T) {
	two(t, HubConfig{}, func(_ *testing.T, r *rig, _, _ *Session) {
		left := 0
		r.rec.do(func(f *fakeRecord) { f.after = errors.New("time-out of the answer") })
		a := r.write(1)
		pass(testTimeout)
		r.rec.do(func(f *fakeRecord) { left = len(f.set) })
		if left != 1 {
			r.t.Fatalf("after the first change, of which nobody knows, the record names %d", left)
		}
		r.pending("the outcome is unknown", a)
		pass(time.Minute)
		r.pending("the record does not answer", a)
		hold := make(chan struct{})
		r.rec.do(func(f *fakeRecord) { f.after, f.hold = nil, hold })
		pass(recordRetry)
		r.pending("a leave is under way", a)
		r.rec.do(func(f *fakeRecord) { f.hold = nil })
		close(hold)
		r.record("both have left", "")
		r.answered("both have left", a)
		r.degraded(true, 1)
	})
}

// The first to be lost is not the last to be waited for: while one leaves, the
// other may still be in time.
func TestWhoIsInTimeStaysWhileTheOtherLeaves(t *testing.T) {
	two(t, HubConfig{}, func(_ *testing.T, r *rig, b, _ *Session) {
		a := r.write(1)
		pass(testTimeout / 2)
		b.Acknowledge(1, 0)
		pass(testTimeout / 2)
		r.record("c alone was too slow", "b")
		r.answered("c has left", a)
	})
}

// Strict: nothing without both. While one is away writes are refused before they
// are appended; what was appended is told to be unknown, and acknowledged when the
// other is back. Nobody leaves the record for nothing.
func TestStrictWaitsForBoth(t *testing.T) {
	two(t, HubConfig{Strict: true}, func(_ *testing.T, r *rig, b, c *Session) {
		if err := r.Admit(); err != nil {
			r.t.Fatal(err)
		}
		c.End()
		if err := r.Admit(); fault.CodeOf(err) != fault.NotReady {
			r.t.Fatalf("one of two is away: %v", err)
		}
		a := r.write(1) // it was let in before
		b.Acknowledge(1, 0)
		r.pending("b alone has it", a)
		pass(testTimeout)
		var expired *engine.Expired
		if err := <-a; !errors.As(err, &expired) || fault.CodeOf(expired.Err) != fault.ReplicationTimeout {
			r.t.Fatalf("got %v", err)
		}
		if r.Committed() != 0 {
			r.t.Fatal("it is committed")
		}
		a = r.write(1)
		r.record("c has everything that was acknowledged", "b c")
		c = r.Connected(follower("c"), 0)
		r.pending("c is back without it", a)
		if err := r.Admit(); err == nil {
			r.t.Fatal("a write is let in while c is overdue")
		}
		c.Acknowledge(1, 0)
		r.answered("c has it", a)
		r.degraded(false, 1)
		if err := r.Admit(); err != nil {
			r.t.Fatal(err)
		}
	})
}

// Strict: both are too slow, and there is one other. It comes in for one of them,
// not for both; and it is in before that one leaves, so that there are always two
// that have everything acknowledged.
func TestStrictNeverHasFewerInTheRecord(t *testing.T) {
	two(t, HubConfig{Strict: true}, func(_ *testing.T, r *rig, b, c *Session) {
		a := r.write(1)
		b.Acknowledge(1, 0)
		c.Acknowledge(1, 0)
		r.answered("both have it", a)
		fewest := 2
		r.rec.do(func(f *fakeRecord) { f.changed = func() { fewest = min(fewest, len(f.set)) } })
		a = r.write(2)
		pass(testTimeout)
		<-a
		d := r.Connected(follower("d"), 1)
		a = r.write(2)
		d.Acknowledge(2, 0)
		pass(time.Minute)
		r.pendingOrExpired("two have it not", a)
		if fewest < 2 {
			r.t.Errorf("the record named %d at a time", fewest)
		}
		if n := len(r.InSync()); n != 2 {
			r.t.Errorf("%q are in sync", r.InSync())
		}
		a = r.write(2)
		b.Acknowledge(2, 0)
		c.Acknowledge(2, 0)
		r.answered("all have it", a)
		if n := len(r.InSync()); n != 2 || fewest < 2 {
			r.t.Errorf("%q are in sync, at least %d were", r.InSync(), fewest)
		}
	})
}

// pendingOrExpired requires that an answer, if there is one, is no acknowledgement.
func (r *rig) pendingOrExpired(what string, answer <-chan error) {
	r.t.Helper()
	synctest.Wait()
	select {
	case err := <-answer:
		var expired *engine.Expired
		if !errors.As(err, &expired) {
			r.t.Fatalf("%s: answered with %v", what, err)
		}
	default:
	}
}

// A new writer acknowledges all of its log when its epoch is confirmed. What nobody
// knows to have been acknowledged before is degraded if too few followers have it.
func TestWhatBeginAcknowledgesIsDegradedIfTooFewHaveIt(t *testing.T) {
	for _, members := range [][]string{nil, {"b"}, {"b", "c"}} {
		bubble(t, HubConfig{Sync: 2}, func(_ *testing.T, r *rig) {
			r.mu.Lock()
			r.acked = 4 // as the record of the epoch before says
			r.mu.Unlock()
			r.Begin(7, members)
			r.degraded(len(members) < 2, 5, 6, 7)
			r.degraded(false, 4, 8)
		})
	}
}
