package plane

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// turnPatience is how long a failover waits for its turn: nodes that are started again
// have it for a moment, another failover for longer.
const turnPatience = 2 * time.Second

// busyError says that a failover is under way, and to which node, if that is known.
type busyError struct{ To string }

// Error implements error.
func (e *busyError) Error() string {
	if e.To == "" {
		return "nodes are being started again; oc-control status says when they run, try again then"
	}
	return fmt.Sprintf("a failover to %s is under way; oc-control status says when it is over", e.To)
}

// turn is had by who changes which node writes, or which nodes run: one at a time.
type turn struct {
	had chan struct{}
	// to is the node that is to write, of who has the turn.
	to atomic.Pointer[string]
}

func newTurn() *turn { return &turn{had: make(chan struct{}, 1)} }

// try takes the turn if nobody has it; to is the node that is to write, "" for none.
func (t *turn) try(to string) bool {
	select {
	case t.had <- struct{}{}:
		t.to.Store(&to)
		return true
	default:
		return false
	}
}

// take waits for the turn. The error says who has it.
func (t *turn) take(ctx context.Context, to string) error {
	late := time.NewTimer(turnPatience)
	defer late.Stop()
	select {
	case t.had <- struct{}{}:
		t.to.Store(&to)
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-late.C:
		busy := &busyError{}
		if other := t.to.Load(); other != nil {
			busy.To = *other
		}
		return busy
	}
}

func (t *turn) end() { <-t.had }
