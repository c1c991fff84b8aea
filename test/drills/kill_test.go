package drills

import (
	"syscall"
	"testing"
	"time"
)

// succeeded waits until another node has acknowledged a write after a fault, and tells how
// long that took.
func (l *load) succeeded(fault string, at time.Time, epoch uint64) {
	l.i.t.Helper()
	l.flowAfter(at, 1, epoch)
	all := l.ackedAfter(at, epoch)
	told.drill(l.i.t.Name(), fault, all[len(all)-1].at.Sub(at))
	l.flow()
}

// The writer is killed: its follower writes, and it comes back with its old unit, which
// says writer, and follows.
func TestKilledWriter(t *testing.T) {
	t.Parallel()
	times := 2
	if *all {
		times = 10
	}
	i := newInstance(t, 1)
	l := i.begin()
	moved := 0
	for range times {
		was := i.writer()
		epoch := uint64(i.record().Epoch)
		at := time.Now()
		was.signal(syscall.SIGKILL)
		l.succeeded("kill -9", at, epoch)
		i.whole()
		// A control plane that has not seen yet that a follower is in sync starts the writer
		// again where it was.
		if i.writer() != was {
			moved++
		}
	}
	if moved == 0 {
		t.Error("no follower took the place of a writer that was killed")
	}
	l.settle()
}
