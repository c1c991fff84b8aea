package archive

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/object"
	"originchain/shared/objecttest"
)

// stepped lets a test decide when a store goes on with its calls.
type stepped struct {
	*objecttest.Faulty
	mu     sync.Mutex
	calls  int
	stopAt int // the call before which it waits; 0 is never
	there  chan struct{}
	on     chan struct{}
}

func newStepped(store object.Store, stopAt int) *stepped {
	s := &stepped{Faulty: objecttest.NewFaulty(store, 1), stopAt: stopAt, there: make(chan struct{}), on: make(chan struct{})}
	s.SetHook(objecttest.Hook{Before: func(context.Context, objecttest.Call) error {
		s.mu.Lock()
		s.calls++
		stop := s.calls == s.stopAt
		s.mu.Unlock()
		if stop {
			close(s.there)
			<-s.on
		}
		return nil
	}})
	return s
}

// swept is an archive in which a sweep will take the file X, which the checkpoint that
// is about to be made has again.
func swept(t *testing.T) (*object.Memory, *node, time.Time) {
	store := object.NewMemory("a")
	n := newNode(t, 1).open(1)
	s := n.shipper(store)
	stop := started(t, s)
	for _, files := range []map[string]string{{"1.sst": "X", "2.sst": "Y"}, {"2.sst": "Y", "3.sst": "Z"}} {
		n.write(2)
		_, err := n.checkpoint(s, files)
		must(t, err)
		time.Sleep(time.Hour)
	}
	n.write(1)
	must(t, stop())
	return store, n, time.Now().Add(-time.Minute)
}

// TestASweepNeverTakesAFileFromACheckpoint runs a sweep and the making of a checkpoint
// in every order in which one of them is interrupted once by the other, and the other
// by it: whatever has a manifest is complete in the end.
func TestASweepNeverTakesAFileFromACheckpoint(t *testing.T) {
	most := [2]int{} // calls of sweep and upload
	reused := 0
	for first := range 2 {
		for i := 1; i <= most[first] || i == 1; i++ {
			for j := 1; j <= most[1-first] || j == 1; j++ {
				synctest.Test(t, func(t *testing.T) {
					store, n, until := swept(t)
					stops := [2]int{}
					stops[first], stops[1-first] = i, j
					sweeping, uploading := newStepped(store, stops[0]), newStepped(store, stops[1])
					uploading.stopAt = 0
					s := n.shipper(uploading)
					stop := started(t, s)
					synctest.Wait()
					uploading.mu.Lock()
					uploading.calls, uploading.stopAt = 0, stops[1]
					uploading.mu.Unlock()
					do := [2]func(){
						func() {
							if _, err := New(sweeping).Retain(t.Context(), Retention{Until: until}); err != nil {
								t.Errorf("the sweep: %v", err)
							}
						},
						func() {
							if _, err := n.checkpoint(s, map[string]string{"1.sst": "X", "3.sst": "Z"}); err != nil {
								t.Errorf("the upload: %v", err)
							}
						},
					}
					stores := [2]*stepped{sweeping, uploading}
					interleave(do[first], do[1-first], stores[first], stores[1-first])
					must(t, stop())
					if len(objects(t, store, checkpointPrefix)) != 2 {
						t.Errorf("checkpoints: %q", objects(t, store, checkpointPrefix))
					}
					allComplete(t, store)
					for _, key := range objects(t, store, objectPrefix) {
						if k, _ := ParseKey(key); k.(FileKey).Generation > 0 {
							reused++
						}
					}
					most[0], most[1] = max(most[0], sweeping.calls), max(most[1], uploading.calls)
					must(t, n.log.Close())
				})
				if t.Failed() {
					t.Fatalf("first %d, interrupted at call %d and %d", first, i, j)
				}
			}
		}
	}
	if most[0] < 10 || most[1] < 8 || reused == 0 {
		t.Errorf("a sweep of %d calls, an upload of %d, %d condemned names met: nothing was tested", most[0], most[1], reused)
	}
}

// interleave runs a up to its stop, b up to its stop, then a to the end, then b. One
// that has fewer calls has ended by then.
func interleave(a, b func(), sa, sb *stepped) {
	run := func(f func()) <-chan struct{} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			f()
		}()
		return done
	}
	aDone := run(a)
	select {
	case <-sa.there:
	case <-aDone:
	}
	bDone := run(b)
	select {
	case <-sb.there:
	case <-bDone:
	}
	close(sa.on)
	<-aDone
	close(sb.on)
	<-bDone
}

// TestARetentionThatIsCutShortIsFinishedByTheNext: the sweep is cut before each of its
// calls; what the next one leaves is what one whole run leaves.
func TestARetentionThatIsCutShortIsFinishedByTheNext(t *testing.T) {
	var want string
	for at := 0; ; at++ {
		over := false
		synctest.Test(t, func(t *testing.T) {
			store, n, until := swept(t)
			if at > 0 {
				cut := objecttest.NewFaulty(store, 1)
				calls, mu := 0, sync.Mutex{}
				cut.SetHook(objecttest.Hook{Before: func(context.Context, objecttest.Call) error {
					mu.Lock()
					defer mu.Unlock()
					if calls++; calls >= at {
						return objecttest.ErrAway
					}
					return nil
				}})
				_, err := New(cut).Retain(t.Context(), Retention{Until: until})
				over = err == nil
				allComplete(t, store)
			}
			_, err := New(store).Retain(t.Context(), Retention{Until: until})
			must(t, err)
			got := ""
			for _, prefix := range []string{objectPrefix, checkpointPrefix, logPrefix, tailPrefix, pendingPrefix} {
				got += fmt.Sprintln(objects(t, store, prefix))
			}
			if want == "" {
				want = got
			}
			if got != want {
				t.Errorf("cut at call %d:\n%s\nnot\n%s", at, got, want)
			}
			if again, err := New(store).Retain(t.Context(), Retention{Until: until}); err != nil || again.Boundary != 0 {
				t.Errorf("a run with nothing to do: %+v, %v", again, err)
			}
			must(t, n.log.Close())
		})
		if over || t.Failed() {
			return
		}
	}
}
