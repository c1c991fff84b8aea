package replica

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/shared/lsn"
)

// HubConfig is plain data.
type HubConfig struct {
	// Epoch is the leader's.
	Epoch lsn.Epoch
	// Sync is how many followers an acknowledgement waits for; 0: none.
	Sync int
	// Timeout is how long an acknowledgement waits for a follower before it leaves
	// the in-sync set.
	Timeout time.Duration
	// Strict refuses writes that fewer than Sync followers have.
	Strict bool
	// Boot is where the log ended when the leader opened it. A node that comes back
	// before Begin with less is no successor.
	Boot lsn.LSN
	// RetainBytes bounds the log that is kept for followers that are behind.
	RetainBytes int64
	// RetainFor is how long a follower that was not seen keeps its log here.
	RetainFor time.Duration
}

// HubDeps are the edges of the hub.
type HubDeps struct {
	Log logrus.FieldLogger
	// Record keeps the in-sync set; nil where Sync is 0.
	Record Record
	// Lease is asked before anything is acknowledged; nil where nobody else can write.
	Lease Lease
	// Durable is the leader's own durable LSN.
	Durable func() lsn.LSN
	// Retained says how many bytes of log stand between an LSN and the end.
	Retained func(from lsn.LSN) int64
}

// Hub is what a leader knows of its followers: how far each has come, who is in
// sync, and so what may be acknowledged. It is the engine's Gate when followers
// are waited for.
//
// Invariants:
//
//   - A frame is acknowledged only when every member of the recorded in-sync set
//     has it durable, whatever the time-out says: who is too slow leaves the
//     recorded set first.
//   - Who enters the recorded set has every acknowledged frame, because
//     acknowledgements have waited for it from before it was asked to.
type Hub struct {
	cfg  HubConfig
	deps HubDeps

	recording chan struct{} // has room for the one who changes the record; taken before mu

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced at each change of what follows
	followers map[string]*peer
	begun     bool    // the epoch is confirmed: acknowledgements may begin
	acked     lsn.LSN // everything up to here may be acknowledged
	awaited   lsn.LSN // up to here acknowledgements wait
	committed lsn.LSN // what Committed said while no follower was waited for
	degraded  ranges

	degradedFrames uint64
	fatal          error // the record is another's
}

// peer is one follower.
type peer struct {
	Peer
	session          *Session // the stream that counts; nil: not connected
	durable, applied lsn.LSN
	seen             time.Time // when it was last heard of
	needs            lsn.LSN   // from where on it will ask for the log; 0: behind durable

	state   membership
	overdue bool      // an acknowledgement has waited for it for too long
	retryAt time.Time // it is not asked to join again before
	backoff time.Duration
}

// membership is a follower's part in acknowledgements, which wait for all that
// are not outside.
type membership int

const (
	outside membership = iota
	// joining: the record does not name it, so it can be given up at once.
	joining
	// entering: the record may name it or not, so only the record can let it go.
	entering
	// member: the record names it.
	member
)

// NewHub makes a hub of a leader whose epoch is not confirmed yet: nothing beyond
// what the epoch before acknowledged, up to acked, is committed until Begin.
func NewHub(cfg HubConfig, deps HubDeps, acked lsn.LSN) *Hub {
	return &Hub{cfg: cfg, deps: deps, changed: make(chan struct{}), recording: make(chan struct{}, 1), followers: map[string]*peer{}, acked: acked}
}

// Begin says that the epoch is confirmed in the record, with these members, and
// that everything up to acked is acknowledged by that. What the record does not know
// to have been acknowledged before is degraded where there are too few members.
func (h *Hub) Begin(acked lsn.LSN, members []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(members) < h.cfg.Sync {
		h.degrade(acked)
	}
	h.begun, h.acked = true, max(h.acked, acked)
	for _, node := range members {
		p := h.followers[node]
		if p == nil {
			p = &peer{Peer: Peer{Node: node, Promotable: true}, seen: time.Now()}
			h.followers[node] = p
		}
		p.state = member
	}
	h.notify()
}

// notify wakes whoever waits for a change. The caller holds mu.
func (h *Hub) notify() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// Begun says whether the epoch is confirmed.
func (h *Hub) Begun() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.begun
}

// Changed is closed at the next change of what the hub knows.
func (h *Hub) Changed() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}

// Acked is the highest LSN that may be acknowledged on account of the followers.
func (h *Hub) Acked() lsn.LSN {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.acked
}

// Committed is the highest LSN that may be visible on any node. Where no follower is
// waited for that is what is durable, for as long as the lease is held.
func (h *Hub) Committed() lsn.LSN {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.begun && h.cfg.Sync == 0 && h.held() {
		h.committed = max(h.committed, h.deps.Durable())
		return h.committed
	}
	return max(h.acked, h.committed)
}

// Peer says who a follower is.
type Peer struct {
	Node, URL string
	// Promotable followers may be in sync; others are never waited for.
	Promotable bool
}

// Session is one stream of a follower. Of two streams of one node the newer one
// counts: the older one's words may be of a log that has been cut back since.
type Session struct {
	hub  *Hub
	peer *peer
}

// Connected begins a session of a follower whose log is durable up to an LSN.
func (h *Hub) Connected(who Peer, durable lsn.LSN) *Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.followers[who.Node]
	if p == nil {
		p = &peer{}
		h.followers[who.Node] = p
	}
	s := &Session{hub: h, peer: p}
	p.Peer, p.session, p.durable, p.applied, p.seen = who, s, durable, 0, time.Now()
	if durable > 0 { // else what is behind its checkpoint is still to come
		p.needs = 0
	}
	h.caughtUp(p)
	h.notify()
	return s
}

// Expect keeps the log above at for a follower that takes a checkpoint and will
// come for what is behind it.
func (h *Hub) Expect(node string, at lsn.LSN) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.followers[node]
	if p == nil {
		p = &peer{Peer: Peer{Node: node}}
		h.followers[node] = p
	}
	// It is not durable there: what it has of that counts when its log has it.
	p.needs, p.seen = at+1, time.Now()
}

// Acknowledge takes note of how far the follower is.
func (s *Session) Acknowledge(durable, applied lsn.LSN) {
	h, p := s.hub, s.peer
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.session != s {
		return
	}
	p.seen = time.Now()
	if durable <= p.durable && applied <= p.applied {
		return
	}
	p.durable, p.applied = max(p.durable, durable), max(p.applied, applied)
	h.caughtUp(p)
	h.notify()
}

// caughtUp lets a follower off that has everything that is waited for. The caller
// holds mu.
func (h *Hub) caughtUp(p *peer) {
	if p.durable >= h.awaited {
		p.overdue = false
	}
}

// End says that the stream has ended.
func (s *Session) End() {
	h, p := s.hub, s.peer
	h.mu.Lock()
	defer h.mu.Unlock()
	if p.session != s {
		return
	}
	p.session = nil
	if p.state == joining {
		p.state = outside // and no time is held against it: it may be back at once
	}
	h.notify()
}

// FollowerStatus is what the hub knows of one follower.
type FollowerStatus struct {
	Peer
	Connected bool
	InSync    bool
	Durable   lsn.LSN
	Applied   lsn.LSN
	Seen      time.Time
}

// Followers are all that were seen, by name.
func (h *Hub) Followers() []FollowerStatus {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]FollowerStatus, 0, len(h.followers))
	for _, p := range h.followers {
		out = append(out, FollowerStatus{
			Peer: p.Peer, Connected: p.session != nil, InSync: p.state == member,
			Durable: p.durable, Applied: p.applied, Seen: p.seen,
		})
	}
	slices.SortFunc(out, func(a, b FollowerStatus) int { return cmp.Compare(a.Node, b.Node) })
	return out
}

// RetainFrom is the lowest LSN that a follower still needs of the log. One that
// was not seen for long, or is too far behind, gets a checkpoint instead.
func (h *Hub) RetainFrom() lsn.LSN {
	h.mu.Lock()
	defer h.mu.Unlock()
	from := ^lsn.LSN(0)
	now := time.Now()
	for _, p := range h.followers {
		need := max(p.durable+1, p.needs)
		switch {
		case p.session == nil && now.Sub(p.seen) > h.cfg.RetainFor:
		case h.deps.Retained(need) > h.cfg.RetainBytes:
		default:
			from = min(from, need)
		}
	}
	return from
}

// degrade notes that what is acknowledged up to at, and was not before, is so by
// fewer followers than asked for. The caller holds mu.
func (h *Hub) degrade(at lsn.LSN) {
	if at > h.acked {
		h.degraded.add(h.acked+1, at)
		h.degradedFrames += uint64(at - h.acked)
	}
}

// ranges are stretches of LSNs, ascending, that were acknowledged by fewer
// followers than asked for.
type ranges struct{ list []stretch }

type stretch struct{ first, last lsn.LSN }

// maxRanges bounds what is kept. Beyond it the two oldest become one, with what is
// between them: an answer that is repeated long after may say once too often that
// its write was degraded, and never that it was not.
const maxRanges = 256

func (r *ranges) add(first, last lsn.LSN) {
	if n := len(r.list); n > 0 && r.list[n-1].last+1 == first {
		r.list[n-1].last = last
		return
	}
	if len(r.list) == maxRanges {
		r.list[1].first = r.list[0].first
		r.list = slices.Delete(r.list, 0, 1)
	}
	r.list = append(r.list, stretch{first, last})
}

func (r *ranges) has(at lsn.LSN) bool {
	for i := len(r.list) - 1; i >= 0; i-- {
		if s := r.list[i]; s.first <= at {
			return at <= s.last
		}
	}
	return false
}
