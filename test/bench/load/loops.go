package load

import (
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// closed keeps every connection busy until end.
func closed(workers []*worker, begin, end time.Time) {
	var wg sync.WaitGroup
	for _, w := range workers {
		wg.Go(func() {
			for {
				start := time.Now()
				if !start.Before(end) {
					return
				}
				if !w.do(start, begin) {
					return
				}
			}
		})
	}
	wg.Wait()
}

// open sends requests at an even rate. The schedule is fixed before the first
// one: a slow answer delays nothing but shows in the latency of all that had to
// wait for its connection.
func open(workers []*worker, rate float64, begin, end time.Time, warmUp time.Duration) {
	due := make(chan time.Time, int(rate*(end.Sub(begin)+warmUp).Seconds())+1)
	var wg sync.WaitGroup
	for _, w := range workers {
		wg.Go(func() {
			for at := range due {
				if !w.do(at, begin) {
					return
				}
			}
		})
	}
	wg.Go(func() {
		defer close(due)
		schedule(begin.Add(-warmUp), end, rate, due)
	})
	wg.Wait()
}

// schedule sends the times at which requests are due, each when it has come. It
// owns a thread and sleeps in the kernel: the runtime's timers may be a whole
// millisecond late, which would be counted as the server's.
func schedule(from, end time.Time, rate float64, due chan<- time.Time) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	gap := float64(time.Second) / rate
	for i := 0; ; i++ {
		at := from.Add(time.Duration(float64(i) * gap))
		if !at.Before(end) {
			return
		}
		sleepUntil(at)
		due <- at
	}
}

func sleepUntil(at time.Time) {
	for {
		left := time.Until(at)
		if left <= 0 {
			return
		}
		ts := unix.NsecToTimespec(int64(left))
		// EINTR ends it early; the loop looks at the clock again.
		_ = unix.Nanosleep(&ts, nil)
	}
}
