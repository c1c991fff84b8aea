package replica

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/engine"
	"originchain/shared/fault"
	"originchain/shared/lsn"
)

// fakeLease is held until a moment.
type fakeLease struct {
	mu      sync.Mutex
	until   time.Time
	renewed chan struct{}
}

func newLease(d time.Duration) *fakeLease {
	return &fakeLease{until: time.Now().Add(d), renewed: make(chan struct{})}
}

func (l *fakeLease) Held() bool { return l.Remaining() > 0 }

func (l *fakeLease) Remaining() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Until(l.until)
}

func (l *fakeLease) Renewals() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.renewed
}

func (l *fakeLease) renew(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.until = time.Now().Add(d)
	close(l.renewed)
	l.renewed = make(chan struct{})
}

func requireLost(t *testing.T, what string, err error) {
	t.Helper()
	var expired *engine.Expired
	var f *fault.Error
	if !errors.As(err, &expired) || !errors.As(expired.Err, &f) || f.Code != fault.LeaseLost || f.Fields["outcome"] != "unknown" || !f.Retry {
		t.Fatalf("%s: %v", what, err)
	}
}

// Whatever is durable, and on whichever nodes: without the lease nothing is
// acknowledged, nothing is committed for followers, and nothing is let in.
func TestNothingIsAcknowledgedWithoutTheLease(t *testing.T) {
	for _, n := range []int{0, 1} {
		bubble(t, HubConfig{Sync: n}, func(t *testing.T, r *rig) {
			l := newLease(4 * time.Second)
			r.deps.Lease = l
			r.Begin(0, nil)
			if err := r.Admit(); err != nil {
				t.Fatal(err)
			}
			r.acked1(r.write(1))
			pass(4 * time.Second)

			answer := r.write(2)
			r.pending("the lease has run out", answer)
			pass(untilRenewed)
			requireLost(t, "after a second without the lease", <-answer)
			var f *fault.Error
			if err := r.Admit(); !errors.As(err, &f) || f.Code != fault.LeaseLost || f.Fields["outcome"] != nil {
				t.Fatalf("sync %d: a write was let in: %v", n, err)
			}
			if got := r.Committed(); got != 1 {
				t.Fatalf("sync %d: committed %d without the lease", n, got)
			}

			answer = r.write(2)
			r.pending("still no lease", answer)
			l.renew(4 * time.Second)
			r.acked1(answer)
			if got := r.Committed(); got != 2 {
				t.Fatalf("sync %d: committed %d with the lease", n, got)
			}
		})
	}
}

func (r *rig) acked1(answer <-chan error) {
	r.t.Helper()
	synctest.Wait()
	select {
	case err := <-answer:
		if err != nil {
			r.t.Fatal(err)
		}
	default:
		r.t.Fatal("not answered")
	}
}

// A follower that cannot leave the record, since the record is away, holds
// acknowledgements up; whoever waits for them is told when the lease ends.
func TestWhoWaitsForAFollowerIsToldWhenTheLeaseEnds(t *testing.T) {
	bubble(t, HubConfig{Sync: 1}, func(t *testing.T, r *rig) {
		l := newLease(4 * time.Second)
		r.deps.Lease = l
		r.Begin(0, []string{"b"})
		r.rec.do(func(f *fakeRecord) { f.before = errors.New("the store is away") })
		answer := r.write(1)
		pass(3 * time.Second)
		r.pending("the lease is held", answer)
		pass(time.Second)
		requireLost(t, "the lease has ended", <-answer)
	})
}

// A follower that comes back with less while it is being named would pass for one
// that has everything: it waits until the record says who is in.
func TestNobodyIsAdmittedWhileTheEpochIsConfirmed(t *testing.T) {
	bubble(t, HubConfig{Sync: 2, Boot: 7}, func(t *testing.T, r *rig) {
		r.rec.set["b"], r.rec.set["c"] = true, true // eligible
		r.Connected(follower("b"), 7)
		r.Connected(follower("c"), 7)
		if err := r.Readmit(t.Context(), "c", 5); err != nil {
			t.Fatal(err)
		}
		if got := r.rec.named(); got != "b" {
			t.Fatalf("named %q after c came back with less than the log", got)
		}
		var readmitted chan error
		var members []string
		err := r.Settle(t.Context(), 7, func(m []string) error {
			members = m
			readmitted = make(chan error, 1)
			go func() { readmitted <- r.Readmit(t.Context(), "b", 5) }()
			synctest.Wait()
			if len(readmitted) != 0 {
				t.Error("b was admitted while the record was being written")
			}
			return nil
		})
		if err != nil || len(members) != 1 || members[0] != "b" {
			t.Fatalf("%v %v", members, err)
		}
		if err := <-readmitted; err != nil {
			t.Fatal(err)
		}
		if got := r.rec.named(); got != "" {
			t.Fatalf("named %q after b came back with less", got)
		}
	})
}

func TestStrictWaitsForFollowersUntilFenced(t *testing.T) {
	bubble(t, HubConfig{Sync: 1, Strict: true}, func(t *testing.T, r *rig) {
		got := make(chan error, 1)
		go func() { got <- r.AwaitAny(t.Context(), 7) }()
		b := r.Connected(follower("b"), 6)
		pass(time.Hour)
		r.pending("b has 6 of 7", got)
		b.Acknowledge(7, 0)
		synctest.Wait()
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		go func() { got <- r.AwaitAny(t.Context(), lsn.LSN(8)) }()
		pass(time.Hour)
		r.Fence(errors.New("epoch 9 has begun"))
		if err := <-got; !errors.Is(err, ErrFenced) {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.AwaitAny(ctx, 8); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	})
}
