package engine

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"originchain/shared/fault"
	"originchain/shared/lsn"
	"originchain/shared/rows"
)

// Pause holds commits that come from when it began on, before they are decided: what
// was proposed before goes its way. It ends in Resume, and they go on, or in Refuse.
//
// Invariant: between Drain and the end no frame is decided, and after Refuse never.
type Pause struct {
	e *Engine
	// late is closed when commits have been held for long enough.
	late  chan struct{}
	timer *time.Timer
	once  sync.Once
	over  chan struct{}
	// refuse is what becomes of commits after over; nil: they go on.
	refuse atomic.Pointer[func() error]
}

// held is why a proposal has to wait.
type held struct{ by *Pause }

// Error implements error.
func (*held) Error() string { return "commits are held" }

// Pause begins to hold commits, each for as long as limit from now at most: after that
// they are refused, and nothing of them is written. There is one at a time.
func (e *Engine) Pause(limit time.Duration) (*Pause, error) {
	e.closing.Lock() // whoever proposes has done so, or sees the pause
	defer e.closing.Unlock()
	if e.failure.Load() != nil || e.closed {
		return nil, errors.New("the engine has stopped")
	}
	p := &Pause{e: e, late: make(chan struct{}), over: make(chan struct{})}
	if !e.paused.CompareAndSwap(nil, p) {
		return nil, errors.New("commits are held already")
	}
	p.timer = time.AfterFunc(limit, func() { close(p.late) })
	return p, nil
}

// Drain waits until everything that was proposed before the pause is durable, visible
// and answered, and returns the last frame there is.
func (p *Pause) Drain(ctx context.Context) (lsn.Pos, error) {
	e := p.e
	w := newPending().(*pending) // a proposal of nothing is answered behind all others
	w.Proposal = Proposal{Build: func(*rows.Builder) error { return nil }}
	e.closing.RLock()
	if e.closed {
		e.closing.RUnlock()
		return lsn.Pos{}, errors.New("the engine stops")
	}
	select {
	case e.proposals <- w:
		e.closing.RUnlock()
	case <-ctx.Done():
		e.closing.RUnlock()
		return lsn.Pos{}, ctx.Err()
	}
	select {
	case <-w.done:
		return w.out.Pos, w.err
	case <-ctx.Done():
		return lsn.Pos{}, w.leave(ctx.Err())
	}
}

// Resume lets the commits go on that were held.
func (p *Pause) Resume() {
	p.once.Do(func() {
		p.timer.Stop()
		p.e.paused.CompareAndSwap(p, nil)
		close(p.over)
	})
}

// Refuse answers the commits that were held, and all that come, with errors of why.
func (p *Pause) Refuse(why func() error) {
	p.once.Do(func() {
		p.timer.Stop()
		p.refuse.Store(&why)
		close(p.over)
	})
}

// wait returns nil when a held commit may be proposed again.
func (p *Pause) wait(ctx context.Context) error {
	select {
	case <-p.over: // before what has passed as well
		return p.refused()
	default:
	}
	select {
	case <-p.over:
		return p.refused()
	case <-p.late:
		return errHeldTooLong()
	case <-ctx.Done():
		return errUndecided(ctx.Err())
	}
}

func (p *Pause) refused() error {
	if why := p.refuse.Load(); why != nil {
		return (*why)()
	}
	return nil
}

func errHeldTooLong() error {
	return fault.New(fault.ReadOnly, "this node is handing over to another writer and takes no writes meanwhile; nothing was written, send the request again").WithRetry()
}

// HandedOver is the answer to a write of a node that has given its role to another.
func HandedOver(leader string) error {
	f := fault.New(fault.ReadOnly, "this node has handed over to another writer; nothing was written, send the request to the writer").WithRetry()
	if leader != "" {
		return f.With("leader", leader)
	}
	return f
}

// Partly is the error of a request of which something is written before: where err says
// that nothing was, it stands for its last step alone.
func Partly(err error) error {
	if fault.CodeOf(err) != fault.ReadOnly {
		return err
	}
	f := *fault.From(err)
	f.Code = fault.NotReady
	f.Message = "part of the request was written, and then the writer's role went to another node: send it again, to the writer, with the same Idempotency-Key"
	return f.With("outcome", "unknown")
}
