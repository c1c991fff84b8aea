package engine

import (
	"context"
	"errors"
	"sync"

	"github.com/oklog/ulid/v2"

	"originchain/shared/fault"
	"originchain/shared/lsn"
	"originchain/shared/rows"
)

// Proposal asks for one frame.
type Proposal struct {
	Tenant ulid.ULID
	// Build decides the frame's operations against the state that the frame
	// before it leaves, pending ones included. It runs in the sequencer, which
	// everything waits for: it must be short and must not block. An error, or
	// no operation, means no frame.
	Build func(b *rows.Builder) error
	// Long says that Build may take longer than an fsync: what was decided before
	// is not held back for it.
	Long bool
	// Idem, if set, answers a repeated request with the first answer.
	Idem *Idempotency
}

// Idempotency says how a request is recognised and what its answer is. The
// answer is stored in the frame that does the work.
type Idempotency struct {
	Key     string
	Request [32]byte // SHA-256 of what is asked
	Status  uint16
	Answer  func(lsn.Pos) []byte
}

// Outcome is what became of a proposal.
type Outcome struct {
	// Pos is the frame; for a proposal without a frame, the one it was decided on.
	Pos lsn.Pos
	// Stored is the first answer, when this request was a repetition.
	Stored *rows.Answer
}

// pending is a proposal on its way.
type pending struct {
	Proposal
	out  Outcome
	err  error
	done chan struct{}

	// deciding is held while Build runs. Whoever leaves takes it, so that Build
	// never runs behind the back of the one who made it: what it reads and
	// writes, such as a transaction's snapshot, goes with the caller.
	deciding sync.Mutex
	decided  bool // Build was called
	left     bool // the caller has gone: Build is not called any more
}

func newPending() any { return &pending{done: make(chan struct{}, 1)} }

// Commit decides a proposal, makes it durable and visible, and returns. When ctx
// ends before it was decided nothing is written; when it ends later the outcome
// is unknown, as the frame is on its way. Build does not run after Commit has
// returned.
func (e *Engine) Commit(ctx context.Context, p Proposal) (Outcome, error) {
	if err := ctx.Err(); err != nil {
		return Outcome{}, errUndecided(err)
	}
	w := e.pendings.Get().(*pending)
	w.Proposal, w.out, w.err = p, Outcome{}, nil
	w.decided, w.left = false, false
	for err := e.propose(w); err != nil; err = e.propose(w) {
		if paused := (*held)(nil); errors.As(err, &paused) {
			if err = paused.by.wait(ctx); err == nil {
				continue
			}
		}
		e.pendings.Put(w)
		return Outcome{}, err
	}
	select {
	case <-w.done:
		out, err := w.out, w.err
		w.Proposal = Proposal{}
		e.pendings.Put(w)
		return out, err
	case <-ctx.Done():
		// w is left to the collector: the pipeline still holds it.
		return Outcome{}, w.leave(ctx.Err())
	}
}

// leave takes the caller's part in w back and says what may have become of it.
func (w *pending) leave(cause error) error {
	w.deciding.Lock()
	defer w.deciding.Unlock()
	w.left = true
	if !w.decided {
		return errUndecided(cause)
	}
	return fault.New(fault.Cancelled, "the request ended before its commit was durable; retry with the same Idempotency-Key").
		With("outcome", "unknown").Wrap(cause)
}

func errUndecided(cause error) error {
	return fault.New(fault.Cancelled, "the request ended before its commit was decided, and nothing was written; send it again").Wrap(cause)
}

func (e *Engine) propose(w *pending) error {
	e.closing.RLock()
	defer e.closing.RUnlock()
	if p := e.paused.Load(); p != nil {
		return &held{p}
	}
	if f := e.failure.Load(); f != nil {
		return refusal(f.err)
	}
	if e.closed {
		return fault.New(fault.NotReady, "the server is stopping and takes no more writes; send the request to the next writer").WithRetry()
	}
	if e.follow.visible.Load() != nil {
		return e.errReadOnly()
	}
	if g := e.gate; g != nil {
		if err := g.Admit(); err != nil {
			return err
		}
	}
	if e.pendingBytes.Load() >= maxPendingBytes {
		return errOverloaded()
	}
	select {
	case e.proposals <- w:
		return nil
	default:
		return errOverloaded()
	}
}

func (e *Engine) errReadOnly() error {
	if e.restored {
		return fault.New(fault.ReadOnly, "this is a restored copy, for reading alone until an operator accepts it (oc-pitr accept); nothing was written")
	}
	f := fault.New(fault.ReadOnly, "this node follows a writer and takes no writes; nothing was written, send the request to the writer").WithRetry()
	if e.deps.Leader != nil {
		if url := e.deps.Leader(); url != "" {
			return f.With("leader", url)
		}
	}
	return f
}

func errOverloaded() error {
	return fault.New(fault.Overloaded, "more writes are waiting than the disk takes; nothing was written, retry after a moment").WithRetry()
}

func (w *pending) answer(pos lsn.Pos, err error) {
	w.out.Pos, w.err = pos, err
	w.done <- struct{}{}
}

// answerQueue holds, in log order, who waits for which frame to be visible.
type answerQueue struct {
	mu    sync.Mutex
	queue []awaiting
	dead  error // set when nothing will become visible any more
}

type awaiting struct {
	w   *pending
	lsn lsn.LSN
	err error
}

// add answers w once at is visible; LSNs never decrease from call to call.
func (q *answerQueue) add(e *Engine, w *pending, at lsn.LSN, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case lsn.LSN(e.visible.Load()) >= at:
		w.answer(lsn.Pos{Epoch: e.epoch, LSN: at}, err)
	case q.dead != nil:
		w.answer(lsn.Pos{}, q.dead)
	default:
		q.queue = append(q.queue, awaiting{w, at, err})
	}
}

// release answers everyone whose frame is visible.
func (q *answerQueue) release(e *Engine, visible lsn.LSN) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n := 0
	for n < len(q.queue) && q.queue[n].lsn <= visible {
		a := &q.queue[n]
		a.w.answer(lsn.Pos{Epoch: e.epoch, LSN: a.lsn}, a.err)
		a.w, a.err = nil, nil
		n++
	}
	q.queue = append(q.queue[:0], q.queue[n:]...)
}

// expire answers everyone who waits now with err; the frames stay on their way.
func (q *answerQueue) expire(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i := range q.queue {
		q.queue[i].w.answer(lsn.Pos{}, err)
		q.queue[i].w, q.queue[i].err = nil, nil
	}
	q.queue = q.queue[:0]
}

// abandon answers everyone that is left, and all who come later, with err.
func (q *answerQueue) abandon(err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dead = err
	for _, a := range q.queue {
		a.w.answer(lsn.Pos{}, err)
	}
	q.queue = nil
}
