package engine

import (
	"testing"
	"testing/synctest"
	"time"

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
			var lag fsyncLag
			took := make(chan int, 1)
			go func() {
				group, _ := q.take(nil, &lag)
				took <- len(group)
			}()
			q.push(&entryRef{Entry: wal.Entry{Body: []byte{1}}})
			q.releaseAged()
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
