package writer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"originchain/shared/api"
	"originchain/shared/engine"
	"originchain/shared/fault"
	"originchain/shared/httpx"
	"originchain/shared/lease"
	"originchain/shared/lsn"
	"originchain/shared/replica"
)

const (
	// maxHandoverPause bounds how long writes are held for a switchover. What the record
	// is not given for by then is given up, and writes go on.
	maxHandoverPause = 2 * time.Second
	// handoverHeard bounds the wait for a sign of life of the node that is to write. No
	// write is held meanwhile.
	handoverHeard = 2 * time.Second
)

// handover gives the writer's role to a named node and waits until the record says so.
func (s *service) handover(c *httpx.Call, in api.HandoverRequest) (out api.Handover, err error) {
	if in.Node == "" {
		return out, fault.New(fault.ValidationFailed, "node is the --node-id of the follower that is to write")
	}
	c.SetObject("node/" + in.Node)
	at, err := s.node.now().HandOver(c.Context(), in)
	return api.Handover{Epoch: uint64(at.Epoch), LSN: uint64(at.LSN)}, err
}

// giving is a record that is being given away. While nobody knows whether it is, no
// answer to a read is decided; afterwards never again.
type giving struct {
	known chan struct{}
	late  chan struct{} // closed when it is not waited for any more
	given bool          // once known
	url   string
}

// refusal is why a read is not answered; nil if all is as before.
func (g *giving) refusal() error {
	select {
	case <-g.known:
	default:
		select {
		case <-g.known:
		case <-g.late:
			return fault.New(fault.ReadOnly, "this node is handing over to another writer, and whether that one writes already is not known yet; send the request again").WithRetry()
		}
	}
	if g.given {
		return engine.HandedOver(g.url)
	}
	return nil
}

// HandOver implements Role: a planned switchover.
//
// Invariants: writes are held, not failed, until the record is given away or is known
// not to be; the node that it is given to has every frame of this one durable; once the
// compare-and-set is sent no answer is decided here unless it is known to have failed.
func (l *leader) HandOver(ctx context.Context, to api.HandoverRequest) (at lsn.Pos, err error) {
	if l.holder == nil {
		return at, notGiven("this node writes without a record of who does; start it with --control to hand it over")
	}
	if !l.handing.TryLock() {
		return at, fault.New(fault.Conflict, "this node is handing over already; see GET /v1/topology for who writes").WithRetry()
	}
	defer l.handing.Unlock()
	if g := l.giving.Load(); g != nil {
		return at, engine.HandedOver(g.url)
	}
	if err := l.successor(&to); err != nil {
		return at, err
	}
	began := time.Now()
	hearing, stop := context.WithTimeout(ctx, handoverHeard)
	defer stop()
	switch err := l.hub.AwaitHeard(hearing, to.Node); {
	case errors.Is(err, replica.ErrNotConnected):
		return at, notConnected(to.Node)
	case err != nil:
		return at, stays("nothing was heard of %s within %s", to.Node, handoverHeard).Wrap(err)
	}
	pause, err := l.engine.Pause(maxHandoverPause)
	if err != nil {
		return at, stays("writes cannot be held: %s", err.Error())
	}
	defer pause.Resume()
	held := time.Now()
	drained, stop := context.WithTimeout(ctx, maxHandoverPause)
	defer stop()
	last, err := l.drain(drained, pause, to.Node)
	if err != nil {
		return at, err
	}
	ready := time.Now()
	rec, err := l.give(drained, to, last, pause)
	if err != nil {
		return at, err
	}
	l.node.deps.Log.WithField("node", to.Node).WithField("epoch", uint64(rec.Epoch)).WithField("lsn", uint64(last.LSN)).
		WithField("heard_ms", millis(held.Sub(began))).WithField("drain_ms", millis(ready.Sub(held))).WithField("record_ms", millis(time.Since(ready))).
		Info("this node has handed over")
	return lsn.Pos{Epoch: rec.Epoch, LSN: last.LSN}, nil
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// stays is why a switchover came to nothing, before the record was given away.
func stays(format string, args ...any) *fault.Error {
	return fault.New(fault.NotReady, "the writer stays where it is, and writes go on: "+format, args...).WithRetry()
}

func notConnected(node string) error {
	return notGiven("%s is not connected; see GET /v1/admin/replication", node)
}

// successor says why a node cannot take over now; nil if it can. What the request does
// not say of it is filled in as far as it is known.
func (l *leader) successor(to *api.HandoverRequest) error {
	rec := l.holder.Record()
	switch {
	case to.Node == rec.Holder:
		return notGiven("%s is the writer already", to.Node)
	case !rec.Confirmed() || !l.term.Held():
		return stays("this node does not hold its lease; see GET /ready")
	}
	for _, f := range l.hub.Followers() {
		switch {
		case f.Node != to.Node:
			continue
		case !f.Connected:
			return notConnected(to.Node)
		case !f.Promotable:
			return notGiven("%s only ever follows; hand over to one that runs oc-server", to.Node)
		case l.cfg.Sync > 0 && !slices.Contains(rec.InSync, to.Node):
			return notGiven("%s is not in sync: it may lack what was acknowledged. In sync are %v", to.Node, rec.InSync)
		}
		if to.URL == "" {
			to.URL = f.URL
		}
		return nil
	}
	return notGiven("no follower %s is known here; see GET /v1/admin/replication", to.Node)
}

// drain waits until everything that was decided is acknowledged, and the node has it.
func (l *leader) drain(ctx context.Context, pause *engine.Pause, node string) (lsn.Pos, error) {
	last, err := pause.Drain(ctx)
	if err != nil {
		return last, stays("what was decided was not acknowledged within %s", maxHandoverPause).Wrap(err)
	}
	switch err := l.hub.AwaitDurable(ctx, node, last.LSN); {
	case errors.Is(err, replica.ErrNotConnected):
		return last, notConnected(node)
	case err != nil:
		return last, stays("%s did not have LSN %d durable within %s", node, last.LSN, maxHandoverPause).Wrap(err)
	}
	return last, nil
}

// give gives the record to the node, and ends this one's epoch when it is given.
func (l *leader) give(ctx context.Context, to api.HandoverRequest, last lsn.Pos, pause *engine.Pause) (lease.Record, error) {
	if err := ctx.Err(); err != nil { // nothing was written: the last moment to leave
		return lease.Record{}, stays("the request has ended").Wrap(err)
	}
	g := &giving{known: make(chan struct{}), late: make(chan struct{}), url: to.URL}
	defer time.AfterFunc(maxHandoverPause, func() { close(g.late) }).Stop()
	l.giving.Store(g)
	id := l.engine.Identity()
	rec, err := l.holder.Give(ctx, l.renewing, lease.Candidate{
		Instance: id.InstanceID.String(), Node: to.Node, ReplicationAddress: to.ReplicationAddress, URL: to.URL, Last: last, AtLeast: last.Epoch,
	}, last.LSN, l.cfg.Sync == 0)
	var not *lease.NotGivenError
	var fenced *lease.FencedError
	switch {
	case errors.As(err, &not):
		l.giving.Store(nil)
		close(g.known)
		return rec, stays("%s", err.Error()).Wrap(err)
	case errors.As(err, &fenced):
		other := &MustFollowError{Reason: err.Error()}
		l.retire(pause, fenced.URL, other)
		g.url, g.given = fenced.URL, true
		close(g.known)
		return rec, engine.HandedOver(fenced.URL)
	case err != nil: // the process ends
		pause.Refuse(func() error { return engine.HandedOver("") })
		return rec, fault.New(fault.NotReady, "nobody knows yet whether the writer's role was given to %s; see GET /v1/topology there", to.Node).With("outcome", "unknown").Wrap(err)
	}
	g.given = true
	close(g.known)
	l.retire(pause, to.URL, &MustFollowError{
		Address: rec.ReplicationAddress, Planned: true, Reason: fmt.Sprintf("it has given epoch %d to %s", rec.Epoch, to.Node),
	})
	return rec, nil
}

// retire ends the epoch for good: who waits, and who comes, is told where the writer is.
func (l *leader) retire(pause *engine.Pause, url string, other *MustFollowError) {
	pause.Refuse(func() error { return engine.HandedOver(url) })
	l.node.Fence(other.Reason)
	l.node.Redirect(fault.From(engine.HandedOver(url)))
	l.hub.Fence(other)
	l.engine.Fence(fmt.Errorf("%w: %w", replica.ErrFenced, other))
}
