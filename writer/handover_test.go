package writer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/lease"
	"originchain/shared/object"
	"originchain/shared/replica"
	"originchain/shared/simdisk"
)

// handOver asks for a switchover to a node.
func (l *led) handOver(to string) *answer {
	l.t.Helper()
	return l.admin("POST", "/handover", fmt.Sprintf(`{"node":%q,"url":"http://%s","replication_address":"%s:7000"}`, to, to, to))
}

// stored is the record of who writes.
func (l *led) stored() lease.Record {
	l.t.Helper()
	rec, _, err := l.store.Load(context.Background())
	if err != nil {
		l.t.Fatal(err)
	}
	return rec
}

// tells requires that a request was refused with where the writer is, and nothing else.
func (a *answer) tells(t *testing.T, leader string) {
	t.Helper()
	a.t = t
	a.refused(503, "read_only")
	if got := a.str("leader"); got != leader {
		t.Errorf("%s: leader %q: %s", a.what, got, a.body)
	}
	if strings.Contains(a.body, "outcome") || a.str("retry") != "true" {
		t.Errorf("%s: %s", a.what, a.body)
	}
}

// withHooks runs f on a writer whose store of the record may fail, in every mode, with a
// follower f that is in sync, or connected where nobody is waited for.
func withHooks(t *testing.T, hooks *lease.Hooks, f func(t *testing.T, n *led)) {
	for _, r := range modes {
		t.Run(fmt.Sprintf("sync=%d,strict=%t", r.Sync, r.Strict), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := lease.NewMemory(lease.Hooks{
					Load: func(ctx context.Context) error {
						if hooks.Load != nil {
							return hooks.Load(ctx)
						}
						return nil
					},
					Before: func(ctx context.Context, next lease.Record) error {
						if hooks.Before != nil {
							return hooks.Before(ctx, next)
						}
						return nil
					},
					After: func(ctx context.Context, next lease.Record) error {
						if hooks.After != nil {
							return hooks.After(ctx, next)
						}
						return nil
					},
				})
				r.Timeout = time.Second
				n := openLed(t, simdisk.New(), store, r)
				n.silence = func() {}
				if r.Sync > 0 {
					n.follow("f")
				} else {
					n.connect("f")
				}
				n.tenant, n.token = n.newTenant(`{}`)
				n.register(ordersManifest)
				f(t, n)
				*hooks = lease.Hooks{}
				n.silence()
			})
		})
	}
}

// connect has a follower come where acknowledgements wait for none.
func (l *led) connect(name string) {
	hub, e := l.w.leader.hub, l.w.own
	s := hub.Connected(replica.Peer{Node: name, Promotable: true}, e.Durable())
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			s.Acknowledge(e.Durable(), 0)
			select {
			case <-time.After(time.Millisecond):
			case <-quit:
				return
			}
		}
	}()
	l.silence = func() { close(quit); <-done }
}

// The role goes to the named node by one change of the record, and this one ends as one
// does that is to follow. Nothing is answered in its epoch any more.
func TestHandingOver(t *testing.T) {
	var hooks lease.Hooks
	withHooks(t, &hooks, func(t *testing.T, n *led) {
		n.call("POST", "/rows/shop.orders", `{"id":"a"}`).want(200)
		before, last := n.stored(), n.w.own.Durable()
		written := 0
		hooks.Before = func(_ context.Context, next lease.Record) error {
			if next.Epoch != before.Epoch {
				written++
			}
			return nil
		}
		said := n.captureLogs()
		got := n.handOver("f").want(200)
		if got.str("epoch") != fmt.Sprint(before.Epoch+1) || got.str("lsn") != fmt.Sprint(last) {
			t.Errorf("%s", got.body)
		}
		rec := n.stored()
		if !rec.Given("f") || rec.CommitLSN != last || rec.URL != "http://f" || rec.ReplicationAddress != "f:7000" || written != 1 {
			t.Errorf("after %d writes: %+v", written, rec)
		}
		n.call("POST", "/rows/shop.orders", `{"id":"b"}`).tells(t, "http://f")
		n.call("GET", "/rows/shop.orders/a", "").tells(t, "http://f")
		if n.w.own.Durable() != last {
			t.Errorf("LSN %d was written after the switch", n.w.own.Durable())
		}
		err := n.ended()
		var other *MustFollowError
		if !errors.As(err, &other) || !other.Planned || other.Address != "f:7000" {
			t.Errorf("the run ended with %v", err)
		}
		n.call("POST", "/rows/shop.orders", `{"id":"b"}`).tells(t, "http://f")
		if err := n.stop(); err != nil { // the run's error was taken
			t.Error(err)
		}
		if again := n.stored(); again.Version != rec.Version {
			t.Errorf("the record was changed again: %+v", again)
		}
		// Nothing has failed, and nobody is to be woken.
		if lines := said(); strings.Contains(lines, `"level":"error"`) || strings.Contains(lines, `"level":"warning"`) || !strings.Contains(lines, "ends as planned") {
			t.Errorf("%s", lines)
		}
	})
}

// While writes are held they wait; when the record cannot be changed they go on.
func TestAHandoverThatFailsLeavesNothing(t *testing.T) {
	var hooks lease.Hooks
	withHooks(t, &hooks, func(t *testing.T, n *led) {
		var wg sync.WaitGroup
		var held *answer
		epoch := n.stored().Epoch
		hooks.Before = func(_ context.Context, next lease.Record) error {
			if next.Epoch == epoch {
				return nil
			}
			held = n.send(&wg, "POST", "/rows/shop.orders", strings.NewReader(`{"id":"held"}`))
			<-time.After(time.Second)
			return errors.New("the store is away")
		}
		durable := n.w.own.Durable()
		n.handOver("f").refused(503, "not_ready")
		wg.Wait()
		held.t = t
		held.want(200)
		if n.w.own.Durable() != durable+1 {
			t.Errorf("LSN %d, %d before", n.w.own.Durable(), durable)
		}
		hooks.Before = nil
		n.call("POST", "/rows/shop.orders", `{"id":"on"}`).want(200)
		n.call("GET", "/rows/shop.orders/held", "").want(200)
		if rec := n.stored(); rec.Epoch != epoch || rec.Holder != "node-1" {
			t.Errorf("the record: %+v", rec)
		}
		// And the next one succeeds.
		n.handOver("f").want(200)
		n.ends()
	})
}

// While nobody knows whether the record was given away nothing is answered, however long
// that takes; what is known then counts.
func TestAHandoverOfUnknownOutcome(t *testing.T) {
	for _, given := range []bool{true, false} {
		t.Run(fmt.Sprintf("given=%t", given), func(t *testing.T) {
			var hooks lease.Hooks
			withHooks(t, &hooks, func(t *testing.T, n *led) {
				n.call("POST", "/rows/shop.orders", `{"id":"a"}`).want(200)
				epoch, durable := n.stored().Epoch, n.w.own.Durable()
				away := make(chan struct{})
				lost := func(_ context.Context, next lease.Record) error {
					if next.Epoch != epoch {
						close(away)
						hooks.Before, hooks.After = nil, nil
						hooks.Load = func(context.Context) error { return errors.New("away") }
						return &lease.OutcomeUnknownError{Err: errors.New("no answer")}
					}
					return nil
				}
				if given {
					hooks.After = lost
				} else {
					hooks.Before = lost
				}
				var wg sync.WaitGroup
				var asked *answer
				wg.Go(func() { asked = n.handOver("f") })
				<-away
				began := time.Now()
				write := n.send(&wg, "POST", "/rows/shop.orders", strings.NewReader(`{"id":"b"}`))
				read := n.send(&wg, "GET", "/rows/shop.orders/a", nil)
				<-time.After(maxHandoverPause + time.Millisecond)
				synctest.Wait()
				for _, a := range []*answer{write, read} {
					a.tells(t, "")
				}
				if n.w.own.Durable() != durable || time.Since(began) > 2*maxHandoverPause {
					t.Errorf("LSN %d after %s", n.w.own.Durable(), time.Since(began))
				}
				hooks.Load = nil
				wg.Wait()
				asked.t = t
				if given {
					asked.want(200)
					n.call("POST", "/rows/shop.orders", `{"id":"c"}`).tells(t, "http://f")
					n.ends()
					return
				}
				asked.refused(503, "not_ready")
				n.call("POST", "/rows/shop.orders", `{"id":"c"}`).want(200)
				n.call("GET", "/rows/shop.orders/b", "").want(404)
			})
		})
	}
}

// A node that cannot take over is told of before a write is held.
func TestAHandoverToNobody(t *testing.T) {
	var hooks lease.Hooks
	withHooks(t, &hooks, func(t *testing.T, n *led) {
		n.admin("POST", "/handover", `{"node":""}`).refused(400, "validation_failed")
		n.handOver("node-1").refused(409, "conflict")
		n.handOver("g").refused(409, "conflict")
		hub := n.w.leader.hub
		s := hub.Connected(replica.Peer{Node: "r"}, n.w.own.Durable())
		n.handOver("r").refused(409, "conflict")
		s.End()
		if n.w.leader.cfg.Sync > 0 {
			s = hub.Connected(replica.Peer{Node: "g", Promotable: true}, n.w.own.Durable())
			n.handOver("g").refused(409, "conflict")
			s.End()
		}
		n.silence()
		n.silence = func() {}
		began := time.Now()
		n.handOver("f").refused(503, "not_ready")
		if waited := time.Since(began); waited != handoverHeard {
			t.Errorf("it waited for %s", waited)
		}
		if rec := n.stored(); rec.Holder != "node-1" {
			t.Errorf("the record: %+v", rec)
		}
		n.call("GET", "/schemas", "").want(200)
	})
}

// Of two that hand over at once one does; the other is told so.
func TestTwoHandovers(t *testing.T) {
	var hooks lease.Hooks
	withHooks(t, &hooks, func(t *testing.T, n *led) {
		var wg sync.WaitGroup
		answers := make([]*answer, 4)
		for i := range answers {
			wg.Go(func() { answers[i] = n.handOver("f") })
		}
		wg.Wait()
		won := 0
		for _, a := range answers {
			if a.status == http.StatusOK {
				won++
			} else if a.status != http.StatusConflict && a.status != http.StatusServiceUnavailable {
				t.Errorf("%d %s", a.status, a.body)
			}
		}
		if rec := n.stored(); won != 1 || rec.Epoch != 2 {
			t.Errorf("%d of %d were handed over: %+v", won, len(answers), rec)
		}
		n.ends()
	})
}

// A follower that stops while the pipeline is drained is not handed over to: what was
// written last is not known to be there.
func TestAHandoverWaitsForTheLastFrame(t *testing.T) {
	var hooks lease.Hooks
	withHooks(t, &hooks, func(t *testing.T, n *led) {
		if n.w.leader.cfg.Sync > 0 {
			return // acknowledgements wait for it in any case
		}
		n.silence()
		n.silence = func() {}
		n.call("POST", "/rows/shop.orders", `{"id":"a"}`).want(200)
		hub := n.w.leader.hub
		quit, done := make(chan struct{}), make(chan struct{})
		s := hub.Connected(replica.Peer{Node: "f", Promotable: true}, n.w.own.Durable()-1)
		go func() { // it speaks, and is behind
			defer close(done)
			for {
				s.Acknowledge(0, 0)
				select {
				case <-time.After(time.Millisecond):
				case <-quit:
					return
				}
			}
		}()
		began := time.Now()
		n.handOver("f").refused(503, "not_ready")
		if waited := time.Since(began); waited > maxHandoverPause+time.Second {
			t.Errorf("writes were held for %s", waited)
		}
		close(quit)
		<-done
		n.call("POST", "/rows/shop.orders", `{"id":"b"}`).want(200)
	})
}

// What a writer told of its archive it tells no more once the role is another's: the
// successor ships, and ages that grow here for ever would wake somebody.
func TestWhoHandedOverTellsOfNoArchive(t *testing.T) {
	n := openLed(t, simdisk.New(), lease.NewMemory(lease.Hooks{}), Replication{Sync: 1, Timeout: time.Hour}, archived(object.NewMemory("memory")))
	n.follow("f")
	defer n.silence()
	n.tenant, n.token = n.newTenant(`{}`)
	n.register(ordersManifest)
	n.call("POST", "/rows/shop.orders", `{"id":"a"}`).want(200)
	gauges := []string{"oc_archive_unshipped_age_s", "oc_archive_unshipped_bytes", "oc_checkpoint_age_s", "oc_archive_tail_state"}
	zero := func(name string) bool { return strings.Contains(n.ops("/metrics").body, "\n"+name+" 0\n") }
	for _, name := range gauges {
		if zero(name) {
			t.Errorf("a writer whose open segment is not shipped has %s 0", name)
		}
	}
	n.handOver("f").want(200)
	if err := n.ended(); !errors.As(err, new(*MustFollowError)) {
		t.Fatal(err)
	}
	for _, name := range gauges {
		if !zero(name) {
			t.Errorf("a node that has handed over tells %s still", name)
		}
	}
}
