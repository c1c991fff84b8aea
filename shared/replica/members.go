package replica

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"originchain/shared/lsn"
)

// Record is the in-sync set where a successor will find it. A change is durable
// there when the call returns nil. Calls come one after the other.
type Record interface {
	Enter(ctx context.Context, node string) error
	// Leave takes node out of the set.
	Leave(ctx context.Context, node string) error
}

// ErrFenced is in the chain of a Record's error when the record is another
// writer's by now: nothing more may be acknowledged.
var ErrFenced = errors.New("another node is the writer now")

const (
	// joinWithin is how many frames a follower may be behind when acknowledgements
	// begin to wait for it.
	joinWithin = 1000
	// What a follower waits that was too slow, before it is tried again.
	firstBackoff = time.Second
	maxBackoff   = 30 * time.Second
	// recordRetry is how long after a failed change of the record it is tried again.
	recordRetry = 200 * time.Millisecond
)

// Run keeps the recorded set in step with who keeps up, until ctx ends. It is the
// only one who changes the record.
func (h *Hub) Run(ctx context.Context) {
	for ctx.Err() == nil {
		changed, step, wait := h.next()
		if step != nil {
			err := step(ctx)
			if err == nil {
				continue
			}
			if h.trouble(err) {
				return
			}
			wait = recordRetry
			changed = nil // whatever changes, the record is not tried again before
		}
		await(ctx, changed, wait)
	}
}

// await returns when changed is closed, wait has passed (unless it is 0) or ctx ends.
func await(ctx context.Context, changed <-chan struct{}, wait time.Duration) {
	var due <-chan time.Time
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		due = t.C
	}
	select {
	case <-ctx.Done():
	case <-changed:
	case <-due:
	}
}

// trouble ends everything if the record is another's; other failures pass.
func (h *Hub) trouble(err error) (ended bool) {
	h.deps.Log.WithError(err).Error("the in-sync set could not be changed; acknowledgements that need it wait")
	if !errors.Is(err, ErrFenced) {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fatal = err
	h.notify()
	return true
}

// next is what is to be done about the set now: a change of the record, or to
// wait for a change of what follows, at most for wait unless it is 0.
func (h *Hub) next() (changed <-chan struct{}, step func(context.Context) error, wait time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.begun {
		return h.changed, nil, 0
	}
	p, wait := h.candidate(time.Now())
	if p != nil {
		p.state = joining
		h.notify() // acknowledgements wait for it from here on
	}
	for _, p := range h.followers {
		named := p.state == member || p.state == entering
		switch {
		case named && p.overdue && h.mayLeave(p), h.tooMany(p):
			return nil, h.leave(p), 0
		case p.state == entering && p.durable < h.acked:
			// It came back without what was acknowledged, and its leave went wrong.
			return nil, h.leave(p), 0
		case p.state == entering:
			return nil, h.enter(p), 0
		case p.state == joining && p.durable >= h.acked:
			p.state = entering
			return nil, h.enter(p), 0
		}
	}
	return h.changed, nil, wait
}

// mayLeave: under Strict a member has every acknowledged frame, as none is
// acknowledged without it, so it stays a successor until there are enough others.
func (h *Hub) mayLeave(p *peer) bool {
	return !h.cfg.Strict || h.othersThan(p) >= h.cfg.Sync
}

// othersThan counts the other members. The caller holds mu.
func (h *Hub) othersThan(p *peer) (n int) {
	for _, other := range h.followers {
		if other != p && other.state == member {
			n++
		}
	}
	return n
}

// tooMany: one came in for a member that was overdue and has caught up meanwhile.
// Whoever has least goes.
func (h *Hub) tooMany(p *peer) bool {
	if p.state != member || h.othersThan(p) < h.cfg.Sync {
		return false
	}
	for _, other := range h.followers {
		if other != p && other.state == member && cmp.Or(cmp.Compare(other.durable, p.durable), cmp.Compare(other.Node, p.Node)) < 0 {
			return false
		}
	}
	return true
}

// ready says that a follower outside could be waited for.
func (h *Hub) ready(p *peer) bool {
	return p.Promotable && p.session != nil && p.durable+joinWithin >= h.deps.Durable()
}

// candidate is who is waited for next, if the set has room; else after how long
// there may be one. Under Strict there is room for one more while a member is
// overdue, who leaves when that one is in.
func (h *Hub) candidate(now time.Time) (p *peer, in time.Duration) {
	inside, overdue := 0, 0
	var best *peer
	for _, p := range h.followers {
		switch {
		case p.state != outside:
			inside++
			if p.overdue {
				overdue = 1
			}
		case !h.ready(p):
		case p.retryAt.After(now):
			if wait := p.retryAt.Sub(now); in == 0 || wait < in {
				in = wait
			}
		case best == nil || cmp.Or(-cmp.Compare(p.durable, best.durable), cmp.Compare(p.Node, best.Node)) < 0:
			best = p
		}
	}
	room := h.cfg.Sync
	if h.cfg.Strict {
		room += overdue
	}
	if inside >= room {
		return nil, 0
	}
	return best, in
}

// enter records a follower that has every acknowledged frame, unless it came back
// without them meanwhile.
func (h *Hub) enter(p *peer) func(context.Context) error {
	return func(ctx context.Context) error {
		done, err := h.record(ctx)
		if err != nil {
			return err
		}
		defer done()
		if !h.mayEnter(p) {
			return nil
		}
		if err := h.deps.Record.Enter(ctx, p.Node); err != nil {
			return err
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		p.state, p.backoff = member, 0
		h.deps.Log.WithField("node", p.Node).WithField("lsn", uint64(p.durable)).Info("follower is in sync")
		h.notify()
		return nil
	}
}

// record waits until nobody else changes the record.
func (h *Hub) record(ctx context.Context) (done func(), err error) {
	select {
	case h.recording <- struct{}{}:
		return func() { <-h.recording }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// mayEnter is asked by whoever has recording: the follower may have come back
// meanwhile, without what it had when its entry was decided.
func (h *Hub) mayEnter(p *peer) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return p.state == entering && p.durable >= h.acked
}

// leave takes a follower out of the record, and only then out of the set.
func (h *Hub) leave(p *peer) func(context.Context) error {
	return func(ctx context.Context) error {
		done, err := h.record(ctx)
		if err != nil {
			return err
		}
		defer done()
		return h.strike(ctx, p)
	}
}

// strike is leave for whoever has recording.
func (h *Hub) strike(ctx context.Context, p *peer) error {
	err := h.deps.Record.Leave(ctx, p.Node)
	h.mu.Lock()
	defer h.mu.Unlock()
	if err != nil {
		p.state = entering // the record may name it or not, until another change says
		return err
	}
	h.outside(p)
	h.deps.Log.WithField("node", p.Node).WithField("durable_lsn", uint64(p.durable)).WithField("acked_lsn", uint64(h.acked)).
		Warn("follower is no longer in sync")
	h.notify()
	return nil
}

// Readmit is told where the log of a follower ends that says Hello. One that lacks
// something that was acknowledged is taken out of the record, before a byte is
// streamed to it: else it could pass for a successor as soon as it has some of that
// again. What older streams of it said counts no more.
func (h *Hub) Readmit(ctx context.Context, node string, durable lsn.LSN) error {
	done, err := h.record(ctx)
	if err != nil {
		return err
	}
	defer done()
	p, named := h.returned(node, durable)
	switch {
	case !h.Begun() && durable < h.cfg.Boot:
		// Any of the log may have been acknowledged by the epoch before.
		return h.deps.Record.Leave(ctx, node)
	case !named:
		return nil
	}
	return h.strike(ctx, p)
}

// returned takes note of where a follower stands that says Hello, and whether the
// record names it wrongly.
func (h *Hub) returned(node string, durable lsn.LSN) (p *peer, wrongly bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if p = h.followers[node]; p == nil {
		return nil, false
	}
	p.session, p.durable = nil, durable
	if p.state == joining {
		p.state = outside // it is asked again when it is connected
	}
	h.notify()
	return p, (p.state == member || p.state == entering) && durable < h.acked
}

// outside puts a follower out of the set for a while. The caller holds mu.
func (h *Hub) outside(p *peer) {
	p.state, p.overdue = outside, false
	p.backoff = min(max(2*p.backoff, firstBackoff), maxBackoff)
	p.retryAt = time.Now().Add(p.backoff)
}

// InSync are the nodes that the record names.
func (h *Hub) InSync() []string {
	out := []string{}
	for _, f := range h.Followers() {
		if f.InSync {
			out = append(out, f.Node)
		}
	}
	return out
}

// Short says how many followers are in sync and answer, of how many are asked for.
func (h *Hub) Short() (have, want int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.responsive(), h.cfg.Sync
}

// AwaitMembers waits until the nodes named have everything up to at, at most for
// the time-out of acknowledgements. It is how a new writer gives the followers of
// the one before it the time to come back.
func (h *Hub) AwaitMembers(ctx context.Context, nodes []string, at lsn.LSN) {
	deadline := time.NewTimer(h.cfg.Timeout)
	defer deadline.Stop()
	h.await(ctx, deadline.C, func() bool { return len(h.having(at, nodes)) == len(nodes) })
}

// ErrNotConnected ends a wait for a follower whose stream is not there (any more).
var ErrNotConnected = errors.New("the follower is not connected")

// AwaitDurable waits until a follower that is connected has everything up to at.
// It returns [ErrNotConnected], ctx's error, or why the hub was fenced.
func (h *Hub) AwaitDurable(ctx context.Context, node string, at lsn.LSN) error {
	var has, gone bool
	h.await(ctx, nil, func() bool {
		has, gone = len(h.having(at, []string{node})) == 1, !h.connected(node)
		return h.Fenced() != nil || has || gone
	})
	if gone && !has {
		return errors.Join(h.Fenced(), ErrNotConnected)
	}
	return errors.Join(h.Fenced(), ctx.Err())
}

func (h *Hub) connected(node string) bool {
	return slices.ContainsFunc(h.Followers(), func(f FollowerStatus) bool { return f.Node == node && f.Connected })
}

// heardPoll is how often it is looked whether a follower was heard of.
const heardPoll = 5 * time.Millisecond

// AwaitHeard waits until a follower that is connected says something, whatever that is:
// what it said before proves nothing of now. It returns [ErrNotConnected] or ctx's error.
func (h *Hub) AwaitHeard(ctx context.Context, node string) error {
	asked := time.Now()
	poll := time.NewTicker(heardPoll)
	defer poll.Stop()
	for {
		if !h.connected(node) {
			return ErrNotConnected
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-poll.C:
		}
		for _, f := range h.Followers() {
			if f.Node == node && f.Connected && f.Seen.After(asked) {
				return nil
			}
		}
	}
}

// AwaitAny waits until as many followers as acknowledgements wait for have
// everything up to at, however long that takes. It returns ctx's error, or why the
// hub was fenced.
func (h *Hub) AwaitAny(ctx context.Context, at lsn.LSN) error {
	h.await(ctx, nil, func() bool { return h.Fenced() != nil || len(h.having(at, nil)) >= h.cfg.Sync })
	return errors.Join(h.Fenced(), ctx.Err())
}

// Fenced is why nothing more is acknowledged by this leader, if that is so.
func (h *Hub) Fenced() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.fatal
}

// await waits for done, asked at each change.
func (h *Hub) await(ctx context.Context, deadline <-chan time.Time, done func() bool) {
	for {
		changed := h.Changed()
		if done() {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			return
		case <-ctx.Done():
			return
		}
	}
}

// Settle begins the epoch: confirm names in the record, of the followers that have
// everything up to at, as many as acknowledgements are to wait for. Nobody says
// Hello meanwhile: a follower that comes back with less after it was counted would
// be named wrongly.
func (h *Hub) Settle(ctx context.Context, at lsn.LSN, confirm func(members []string) error) error {
	done, err := h.record(ctx)
	if err != nil {
		return err
	}
	defer done()
	members := h.having(at, nil)
	members = members[:min(len(members), h.cfg.Sync)]
	if err := confirm(members); err != nil {
		return err
	}
	h.Begin(at, members)
	return nil
}

// having are the promotable followers that are connected and have everything up to
// at, by name; with nodes, only those of them.
func (h *Hub) having(at lsn.LSN, nodes []string) (have []string) {
	for _, f := range h.Followers() {
		if f.Promotable && f.Connected && f.Durable >= at && (nodes == nil || slices.Contains(nodes, f.Node)) {
			have = append(have, f.Node)
		}
	}
	return have
}
