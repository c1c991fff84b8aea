package sim

import (
	"crypto/sha256"
	"fmt"
	"sync"
	"sync/atomic"

	"originchain/shared/engine"
	"originchain/shared/lsn"
	"originchain/test/oracle"
)

// proposal is one request of one client: what it means to do, noted before its
// frame can exist, and what it was answered.
type proposal struct {
	client, seq int
	what        string
	// idem is the Idempotency-Key, if the request has one.
	idem string
	// effects are what the frame must mean; set by the sequencer's goroutine
	// before the frame is handed on, read by those who check.
	effects atomic.Pointer[oracle.Effects]
	// again sends the request of p, which is this one or a copy, to an engine.
	again func(r *run, p *proposal) (engine.Outcome, error)
	// builds is the table whose index a CREATE INDEX or DROP INDEX changes, in
	// frames that do not say whose they are.
	builds string
}

// copy is the same request, for an engine that others do not look at.
func (p *proposal) copy() *proposal {
	return &proposal{client: p.client, seq: p.seq, what: p.what, idem: p.idem, again: p.again}
}

func (p *proposal) String() string {
	return fmt.Sprintf("client %d request %d (%s)", p.client, p.seq, p.what)
}

// request is what an Idempotency-Key is bound to.
func (p *proposal) request() [32]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%d/%d/%s", p.client, p.seq, p.what))
}

func answerBody(pos lsn.Pos) []byte { return fmt.Appendf(nil, "done at %s", pos) }

// record is everything the clients of a run said and heard, in order.
type record struct {
	mu       sync.Mutex
	proposed []*proposal
	acks     []ack
}

// ack is one answer; it is written once, so that those who check a cut read
// only what had been answered before it.
type ack struct {
	p      *proposal
	pos    lsn.Pos
	framed bool // false: the answer needed no frame
	answer string
}

func (r *record) propose(p *proposal) *proposal {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.proposed = append(r.proposed, p)
	return p
}

func (r *record) ack(p *proposal, pos lsn.Pos, framed bool, answer string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.acks = append(r.acks, ack{p, pos, framed, answer})
}

// heard are the answers so far.
func (r *record) heard() []ack {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.acks[:len(r.acks):len(r.acks)]
}

// said are the requests so far.
func (r *record) said() []*proposal {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.proposed[:len(r.proposed):len(r.proposed)]
}
