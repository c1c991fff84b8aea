package plane

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"

	"originchain/lambdas/local/control"
)

const (
	// goesOnAtMost bounds a fault: whoever made it may have died before ending it.
	goesOnAtMost = cutAtMost
	// endWithin bounds that end.
	endWithin = 10 * time.Second
	// rememberUndone bounds how many faults are remembered that were undone.
	rememberUndone = 64
)

// going are the faults that go on, each with what ends it.
//
// Invariant: none is made after it was undone, however late its request comes, and none
// goes on for longer than goesOnAtMost.
type going struct {
	log logrus.FieldLogger

	mu     sync.Mutex
	on     map[*goingOn]bool
	undone []string // the last of them, by their ids
	closed bool
}

type goingOn struct {
	fault control.Fault
	end   func(context.Context) error
	timer *time.Timer
}

func newGoing(log logrus.FieldLogger) *going { return &going{log: log, on: map[*goingOn]bool{}} }

// begin makes a fault, unless it was undone before; do says what ends it, nil if that
// needs nobody.
func (g *going) begin(ctx context.Context, f control.Fault, do func() (end func(context.Context) error, err error)) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed:
		return errors.New("the instance is ending")
	case f.ID != "" && slices.Contains(g.undone, f.ID):
		return fmt.Errorf("the fault %s was undone before it was made; nothing was done", f.ID)
	case ctx.Err() != nil:
		return fmt.Errorf("whoever asked for the fault has gone: %w; nothing was done", ctx.Err())
	}
	end, err := do()
	if err != nil || end == nil {
		return err
	}
	on := &goingOn{fault: f, end: end}
	g.on[on] = true
	on.timer = time.AfterFunc(goesOnAtMost, func() { g.late(on) })
	return nil
}

// late ends what nobody has ended.
func (g *going) late(on *goingOn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.on[on] {
		return // just now
	}
	ctx, cancel := context.WithTimeout(context.Background(), endWithin)
	defer cancel()
	delete(g.on, on)
	log := g.log.WithField("node", on.fault.Node).WithField("fault", on.fault.Fault)
	if err := on.end(ctx); err != nil {
		log.WithError(err).Errorf("nobody has ended the fault within %s, and it could not be ended", goesOnAtMost)
		return
	}
	log.Warnf("nobody has ended the fault within %s: it is ended", goesOnAtMost)
}

// undo ends the faults of a kind that go on, of one node or, where f names none, of all;
// and keeps the one of f from being made yet.
func (g *going) undo(ctx context.Context, f control.Fault) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if f.ID != "" {
		g.undone = append(g.undone, f.ID)
		g.undone = g.undone[max(0, len(g.undone)-rememberUndone):]
	}
	var errs []error
	for on := range g.on {
		if on.fault.Fault != f.Fault || f.Node != "" && (on.fault.Node != f.Node || on.fault.PID != f.PID) {
			continue
		}
		err := on.end(ctx)
		if errs = append(errs, err); err == nil { // else it may be undone again, or ends late
			on.timer.Stop()
			delete(g.on, on)
		}
	}
	return errors.Join(errs...)
}

// close ends nothing, and lets nothing begin any more.
func (g *going) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for on := range g.on {
		on.timer.Stop()
	}
	clear(g.on)
}

// fillFiles has no file of a process grow, and none take a byte: what a full disk does, and
// for this process alone. What it may have at most stays as it was, so that it is given back
// what it had without any right.
func fillFiles(pid int) (end func() error, err error) {
	var was unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, nil, &was); err != nil {
		return nil, err
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_FSIZE, &unix.Rlimit{Max: was.Max}, nil); err != nil {
		return nil, err
	}
	return func() error { return unix.Prlimit(pid, unix.RLIMIT_FSIZE, &was, nil) }, nil
}
