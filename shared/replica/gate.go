package replica

import (
	"time"

	"originchain/shared/engine"
	"originchain/shared/fault"
	"originchain/shared/lsn"
)

var _ engine.Gate = (*Hub)(nil)

// Lease says how long the leader may decide answers. *lease.Term implements it.
type Lease interface {
	Held() bool
	// Remaining is how long it is held without a renewal.
	Remaining() time.Duration
	// Renewals is closed at the next renewal.
	Renewals() <-chan struct{}
}

// untilRenewed is how often whoever waits for acknowledgements is told that the
// lease is lost, while it is.
const untilRenewed = time.Second

// LeaseLost is the answer of a leader whose lease has run out: another node may be
// the writer by now.
func LeaseLost() *fault.Error {
	return fault.New(fault.LeaseLost, "this node has not renewed its lease, and another one may be the writer: retry here when GET /ready says that it is ready, or at the writer that GET /v1/topology names elsewhere").WithRetry()
}

func (h *Hub) held() bool { return h.deps.Lease == nil || h.deps.Lease.Held() }

// Admit implements engine.Gate: nothing is appended without the lease, and under
// Strict nothing while too few followers could acknowledge it.
func (h *Hub) Admit() error {
	if !h.held() {
		return LeaseLost()
	}
	if !h.cfg.Strict || h.cfg.Sync == 0 {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := h.responsive(); n < h.cfg.Sync {
		return fault.New(fault.NotReady, "%d of %d followers are in sync, and --sync-strict takes no write that they do not have; nothing was written, retry when GET /ready says that they are", n, h.cfg.Sync).WithRetry()
	}
	return nil
}

// responsive counts the members that can be expected to answer. The caller holds mu.
func (h *Hub) responsive() (n int) {
	for _, p := range h.followers {
		if p.state == member && p.session != nil && !p.overdue {
			n++
		}
	}
	return n
}

// Await implements engine.Gate. It waits for every member, and for whoever is
// about to be one; who exceeds the time-out leaves the recorded set before the
// acknowledgement, which waits for as long as that takes. Without the lease nothing
// passes, and whoever waits is told so; once it is renewed, it goes on.
func (h *Hub) Await(at lsn.LSN, stop <-chan struct{}) error {
	if _, done, err := h.pass(at, false); done || err != nil {
		return err // without followers to wait for, and a timer
	}
	deadline := time.NewTimer(h.cfg.Timeout)
	defer deadline.Stop()
	late := false
	for {
		renewed := h.renewals() // before it is looked whether the lease is held
		changed, done, err := h.pass(at, late)
		if done || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-renewed:
		case <-h.lapse():
			if !h.held() {
				return &engine.Expired{Err: LeaseLost().With("outcome", "unknown")}
			}
		case <-deadline.C:
			late = true
			if err := h.expire(at); err != nil {
				return err
			}
		case <-stop:
			return engine.ErrStopped
		}
	}
}

// lapse is when to look at the lease again, at the latest.
func (h *Hub) lapse() <-chan time.Time {
	if h.deps.Lease == nil {
		return nil
	}
	left := h.deps.Lease.Remaining()
	if left <= 0 {
		left = untilRenewed
	}
	return time.After(left)
}

func (h *Hub) renewals() <-chan struct{} {
	if h.deps.Lease == nil {
		return nil
	}
	return h.deps.Lease.Renewals()
}

// pass lets everything up to at through if it may be.
func (h *Hub) pass(at lsn.LSN, late bool) (changed <-chan struct{}, done bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fatal != nil {
		return nil, false, h.fatal
	}
	h.awaited = max(h.awaited, at)
	changed = h.changed // as of now: what is changed below is looked at again
	if !h.held() {
		return changed, false, nil
	}
	have := 0
	for _, p := range h.followers {
		if p.state == outside {
			continue
		}
		if p.durable < at {
			if late {
				h.tooSlow(p)
			}
			return changed, false, nil
		}
		if p.state == member {
			have++
		}
	}
	if have < h.cfg.Sync {
		if h.cfg.Strict {
			return changed, false, nil
		}
		h.degrade(at)
	}
	h.acked = max(h.acked, at)
	if h.cfg.Sync > 0 {
		h.notify() // else streams go by what is durable
	}
	return nil, true, nil
}

// expire gives up on followers that do not have at. Under Strict whoever waits
// for the acknowledgement is told so; the frames stay.
func (h *Hub) expire(at lsn.LSN) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.followers {
		if p.state != outside && p.durable < at {
			h.tooSlow(p)
		}
	}
	if !h.cfg.Strict {
		return nil
	}
	return &engine.Expired{Err: fault.New(fault.ReplicationTimeout, "the commit is durable here and fewer than %d followers had it within %s; retry with the same Idempotency-Key", h.cfg.Sync, h.cfg.Timeout).
		With("outcome", "unknown").WithRetry()}
}

// tooSlow gives up on a follower: one that is joining at once, any other when
// the record has let it go. The caller holds mu.
func (h *Hub) tooSlow(p *peer) {
	if p.state == joining {
		h.outside(p)
		h.notify()
		return
	}
	if !p.overdue {
		p.overdue = true
		h.notify() // the keeper acts on it
	}
}

// DegradedFrames counts the frames that were acknowledged by fewer followers than
// asked for.
func (h *Hub) DegradedFrames() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.degradedFrames
}

// Degraded says whether the frame at was acknowledged by fewer followers than
// asked for. Of frames that an earlier opening acknowledged, as the record knows,
// nobody keeps that: they are not.
func (h *Hub) Degraded(at lsn.LSN) bool {
	if h.cfg.Sync == 0 {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.degraded.has(at)
}
