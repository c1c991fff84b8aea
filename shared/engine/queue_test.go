package engine

import (
	"testing"
	"testing/synctest"

	"originchain/shared/wal"
)

// The appender gets nothing while the sequencer has more to decide, everything
// once it has not, and a large group at once.
func TestQueueHoldsAGroupBackUntilItIsReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var q entryQueue
		q.init()
		took := make(chan int, 8)
		go func() {
			defer close(took)
			for {
				group, ok := q.take(nil)
				if !ok {
					return
				}
				took <- len(group)
			}
		}()
		frame := func(bytes int) *entryRef { return &entryRef{Entry: wal.Entry{Body: make([]byte, bytes)}} }
		expect := func(what string, want ...int) {
			t.Helper()
			synctest.Wait()
			for _, n := range want {
				select {
				case got := <-took:
					if got != n {
						t.Fatalf("%s: a group of %d, want %d", what, got, n)
					}
				default:
					t.Fatalf("%s: no group, want one of %d", what, n)
				}
			}
			select {
			case got, more := <-took:
				if !more {
					return
				}
				t.Fatalf("%s: an unexpected group of %d", what, got)
			default:
			}
		}
		q.push(frame(100))
		q.push(frame(100))
		expect("before the release")
		q.release()
		expect("after the release", 2)
		q.push(frame(100))
		expect("a new frame after a release")
		q.push(frame(smallGroupBytes))
		expect("a large group", 2)
		q.push(frame(100))
		q.close()
		expect("at the end", 1)
	})
}
