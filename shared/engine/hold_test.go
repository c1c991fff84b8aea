package engine

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/rows"
	"originchain/shared/simdisk"
	"originchain/shared/wal"
)

// A frame must not wait for all that is still to be decided: once it is old it
// goes with the next frame, or with the next proposal that makes none.
func TestQueueHoldsNothingBackForLong(t *testing.T) {
	for name, next := range map[string]func(*entryQueue){
		"a frame follows":    func(q *entryQueue) { q.push(&entryRef{Entry: wal.Entry{Body: []byte{1}}}) },
		"no frame follows":   (*entryQueue).releaseAged,
		"it is released too": func(q *entryQueue) { q.releaseAged(); q.release() },
	} {
		synctest.Test(t, func(t *testing.T) {
			var q entryQueue
			q.init()
			took := make(chan int, 1)
			go func() {
				group, _ := q.take(nil)
				took <- len(group)
			}()
			q.push(&entryRef{Entry: wal.Entry{Body: []byte{1}}})
			synctest.Wait()
			if len(took) > 0 {
				t.Errorf("%s: a young frame went", name)
			}
			<-time.After(2 * maxHold)
			next(&q)
			synctest.Wait()
			if len(took) == 0 {
				t.Errorf("%s: an old frame is held back", name)
			}
			q.close()
		})
	}
}

// The lag of the log counts from the decision of the oldest frame, held back or
// not, and what comes while a group is synced waits from then on.
func TestTheLagCountsFromTheDecision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q entryQueue
		q.init()
		wait := func(d time.Duration) { <-time.After(d) }
		expect := func(what string, want time.Duration) {
			t.Helper()
			if got := q.lag.now(); got != want {
				t.Errorf("%s: a lag of %v, want %v", what, got, want)
			}
		}
		frame := func() *entryRef { return &entryRef{Entry: wal.Entry{Body: []byte{1}}} }
		q.push(frame())
		wait(time.Second)
		expect("held back", time.Second)
		q.release()
		q.take(nil)
		wait(time.Second)
		expect("while it is synced", 2*time.Second)
		q.push(frame())
		wait(time.Second)
		expect("with another one behind it", 3*time.Second)
		q.synced()
		expect("when the other one is what waits", time.Second)
		q.release()
		q.take(nil)
		wait(time.Second)
		q.synced()
		wait(time.Second)
		expect("when nothing waits", 2*time.Second)
	})
}

// A commit is answered while there is still much to decide: here proposals that
// make no frame, so that its group never grows.
func TestACommitIsAnsweredWhileTheSequencerIsBusy(t *testing.T) {
	const busy = 100
	n := start(t, simdisk.New())
	defer n.mustClose()
	n.create()
	row := n.prepare(1, "first")
	deciding, queued := make(chan struct{}), make(chan struct{})
	var decided atomic.Int64
	var others sync.WaitGroup
	first := make(chan int64, 1)
	others.Go(func() {
		_, err := n.Commit(t.Context(), Proposal{Tenant: tenant, Build: func(b *rows.Builder) error {
			close(deciding)
			<-queued
			_, err := b.Put(row, rows.Absent())
			return err
		}})
		if err != nil {
			t.Error(err)
		}
		first <- decided.Load()
	})
	<-deciding
	for range busy {
		others.Go(func() {
			_, err := n.Commit(t.Context(), Proposal{Tenant: tenant, Build: func(*rows.Builder) error {
				<-time.After(time.Millisecond)
				decided.Add(1)
				return nil
			}})
			if err != nil {
				t.Error(err)
			}
		})
	}
	for len(n.proposals) < busy {
		runtime.Gosched()
	}
	close(queued)
	if got := <-first; got == busy {
		t.Errorf("the commit was answered after all %d proposals behind it", busy)
	}
	others.Wait()
}

// One decision that takes long, and says so, holds nothing up: what was decided
// before it is answered meanwhile.
func TestACommitIsAnsweredWhileALongOneIsDecided(t *testing.T) {
	n := start(t, simdisk.New())
	defer n.mustClose()
	n.create()
	row := n.prepare(1, "first")
	deciding, queued, answered := make(chan struct{}), make(chan struct{}), make(chan struct{})
	var others sync.WaitGroup
	others.Go(func() {
		defer close(answered)
		_, err := n.Commit(t.Context(), Proposal{Tenant: tenant, Build: func(b *rows.Builder) error {
			close(deciding)
			<-queued
			_, err := b.Put(row, rows.Absent())
			return err
		}})
		if err != nil {
			t.Error(err)
		}
	})
	<-deciding
	others.Go(func() {
		_, err := n.Commit(t.Context(), Proposal{Tenant: tenant, Long: true, Build: func(*rows.Builder) error {
			select {
			case <-answered:
			case <-time.After(10 * time.Second):
				t.Error("the commit before it waits for the long one")
			}
			return nil
		}})
		if err != nil {
			t.Error(err)
		}
	})
	for len(n.proposals) < 1 {
		runtime.Gosched()
	}
	close(queued)
	others.Wait()
}
