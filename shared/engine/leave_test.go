package engine

import (
	"context"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"originchain/shared/fault"
	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/schema"
	"originchain/shared/simdisk"
	"originchain/shared/table"
)

// busy holds the sequencer in a Build until release is called.
func (n *node) busy() (release func()) {
	n.t.Helper()
	begun, end, done := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := n.Commit(context.Background(), Proposal{Tenant: tenant, Build: func(*rows.Builder) error {
			close(begun)
			<-end
			return nil
		}})
		done <- err
	}()
	<-begun
	return func() {
		n.t.Helper()
		close(end)
		if err := <-done; err != nil {
			n.t.Fatal(err)
		}
	}
}

// prepare makes a row ready.
func (n *node) prepare(id int64, name string) *rows.Prepared {
	n.t.Helper()
	p, err := rows.Prepare(n.items(), schema.Row{schema.I64(id), schema.Str(name)}, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	return p
}

// TestACallerWhoLeftIsNotDecided: what a proposal reads may be gone with the one
// who made it, as a transaction's snapshot is.
func TestACallerWhoLeftIsNotDecided(t *testing.T) {
	n := start(t, simdisk.New())
	defer n.mustClose()
	n.create()
	at, err := n.put(1, "read for update", rows.Any())
	if err != nil {
		t.Fatal(err)
	}
	tx := n.begin()
	key, err := table.RowKeyOf(nil, n.items(), []schema.Value{schema.I64(1)})
	if err != nil {
		t.Fatal(err)
	}
	tx.Touch(key, at.LSN)
	if _, err := tx.Put(n.prepare(2, "written"), rows.Any()); err != nil {
		t.Fatal(err)
	}
	release := n.busy()
	ctx, leave := context.WithCancel(context.Background())
	leave()
	_, err = tx.Commit(ctx, nil)
	release()
	if f := fault.From(err); f.Code != fault.Cancelled || f.Fields["outcome"] != nil {
		t.Fatalf("left before it was decided: %v, %v", err, f.Fields)
	}
	if _, err := n.put(3, "next", rows.Any()); err != nil {
		t.Fatal(err)
	}
	if _, ok := n.name(2); ok {
		t.Fatal("a row is written whose transaction was left before it was decided")
	}
}

// startStalled is start with a disk whose fsyncs of the log last until go on is
// called: nothing becomes durable before.
func startStalled(t *testing.T) (n *node, stall, goOn func()) {
	t.Helper()
	var gate atomic.Pointer[chan struct{}]
	deps := testDeps(simdisk.New())
	deps.ObserveSync = func(time.Duration) {
		if c := gate.Load(); c != nil {
			<-*c
		}
	}
	stall = func() { c := make(chan struct{}); gate.Store(&c) }
	goOn = func() { close(*gate.Swap(nil)) }
	return startWith(t, deps), stall, goOn
}

// TestACallerWhoLeavesLaterIsToldThatTheOutcomeIsUnknown: the frame is on its
// way, and becomes visible without him.
func TestACallerWhoLeavesLaterIsToldThatTheOutcomeIsUnknown(t *testing.T) {
	n, stall, goOn := startStalled(t)
	defer n.mustClose()
	n.create()
	p := n.prepare(1, "written")
	stall()
	ctx, leave := context.WithCancel(context.Background())
	_, err := n.Commit(ctx, Proposal{Tenant: tenant, Build: func(b *rows.Builder) error {
		leave()
		_, err := b.Put(p, rows.Any())
		return err
	}})
	if f := fault.From(err); f.Code != fault.Cancelled || f.Fields["outcome"] != "unknown" {
		t.Errorf("left after it was decided: %v, %v", err, f.Fields)
	}
	goOn()
	if _, err := n.put(2, "next", rows.Any()); err != nil {
		t.Fatal(err)
	}
	if _, ok := n.name(1); !ok {
		t.Error("the row of the one who left is lost")
	}
}

// TestARequestThatHasEndedIsNotProposed: nothing of it waits for its turn.
func TestARequestThatHasEndedIsNotProposed(t *testing.T) {
	n := start(t, simdisk.New())
	defer n.mustClose()
	release := n.busy()
	ctx, leave := context.WithCancel(context.Background())
	leave()
	_, err := n.Commit(ctx, Proposal{Tenant: tenant, Build: func(*rows.Builder) error { return nil }})
	if fault.CodeOf(err) != fault.Cancelled || len(n.proposals) != 0 {
		t.Errorf("%d proposals wait, %v", len(n.proposals), err)
	}
	release()
}

// TestAKeyedTransactionIsNotLeftHalfway: a repetition looks for its first answer
// in what is visible; it must not come while that answer is on its way.
func TestAKeyedTransactionIsNotLeftHalfway(t *testing.T) {
	n, stall, goOn := startStalled(t)
	defer n.mustClose()
	n.create()
	tx := n.begin()
	if _, err := tx.Put(n.prepare(1, "written"), rows.Any()); err != nil {
		t.Fatal(err)
	}
	stall()
	ctx, leave := context.WithCancel(context.Background())
	left := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		_, err := tx.Commit(ctx, &Idempotency{Key: "k", Status: 200, Answer: func(lsn.Pos) []byte {
			leave()
			close(left)
			return []byte("first")
		}})
		done <- err
	}()
	<-left
	probe := &pending{done: make(chan struct{}, 1), Proposal: Proposal{Tenant: tenant, Build: func(*rows.Builder) error { return nil }}}
	if err := n.propose(probe); err != nil {
		t.Fatal(err)
	}
	for len(n.proposals) > 0 {
		runtime.Gosched()
	}
	goOn()
	if err := <-done; err != nil {
		t.Errorf("Commit: %v", err)
	}
	<-probe.done
	if a, err := rows.StoredAnswer(n.View(), tenant, "k", [32]byte{}); err != nil || a == nil || string(a.Body) != "first" {
		t.Errorf("the first answer: %v, %v", a, err)
	}
}
