package writer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"originchain/shared/engine"
	"originchain/shared/lease"
	"originchain/shared/lsn"
	"originchain/shared/replica"
)

// takeEpoch is the engine's question for an epoch, where a record answers it. When
// somebody else changes the record meanwhile it is asked again who may open.
func (l *leader) takeEpoch(ctx context.Context, o engine.Opening) (lsn.Epoch, error) {
	who, last := o.Who, o.Last.Pos
	archived, err := l.archive.highestEpoch(ctx)
	if err != nil {
		return 0, err
	}
	place, err := l.place()
	if err != nil {
		return 0, err
	}
	for {
		rec, err := l.vacant(ctx, who.NodeID, last)
		if err != nil {
			return 0, err
		}
		if rec.Given(who.NodeID) && place != "" && rec.Epoch > archived {
			epoch, err := l.adopt(ctx, o, rec, place)
			if conflict := new(lease.ConflictError); !errors.As(err, &conflict) {
				return epoch, err
			}
			continue
		}
		// The directory first: an epoch that was taken in the record and forgotten
		// here could be allotted again.
		epoch, err := o.Allot(max(rec.Epoch, archived))
		if err != nil {
			return 0, err
		}
		next, err := rec.Take(lease.Candidate{
			Instance: who.InstanceID.String(), Node: who.NodeID, Last: last, AtLeast: epoch - 1,
			ReplicationAddress: l.address(), URL: l.node.cfg.URL, Place: place,
		})
		if err != nil {
			return 0, err
		}
		sent := l.term.Sending()
		stored, err := l.take(ctx, rec.Version, next)
		var conflict *lease.ConflictError
		switch {
		case err == nil:
			l.term.Renewed(sent)
			l.holder = lease.NewHolder(l.cfg.Control, stored)
			return stored.Epoch, nil
		case !errors.As(err, &conflict) || ctx.Err() != nil:
			return 0, fmt.Errorf("take epoch %d in the record: %w", next.Epoch, errors.Join(err, ctx.Err()))
		}
	}
}

// adopt opens in the epoch that a failover took on this node's behalf. The record
// first: it says where the node is, so that no copy of it adopts the same epoch; after
// a crash in between the node finds its own place there and takes another one.
func (l *leader) adopt(ctx context.Context, o engine.Opening, rec lease.Record, place string) (lsn.Epoch, error) {
	next, err := rec.Adopt(lease.Candidate{
		Instance: o.Who.InstanceID.String(), Node: o.Who.NodeID, Last: o.Last.Pos,
		ReplicationAddress: l.address(), URL: l.node.cfg.URL, Place: place,
	})
	if err != nil {
		return 0, err
	}
	sent := l.term.Sending()
	stored, err := l.take(ctx, rec.Version, next)
	if err != nil {
		return 0, fmt.Errorf("adopt epoch %d, which was given to this node in the record: %w", rec.Epoch, err)
	}
	if err := o.Adopt(stored.Epoch); err != nil {
		return 0, err
	}
	l.term.Renewed(sent)
	l.holder = lease.NewHolder(l.cfg.Control, stored)
	return stored.Epoch, nil
}

// take writes the record of a new epoch. Whether a write took effect of which nobody
// can tell is read back: the record then is this node's, or it is not known.
func (l *leader) take(ctx context.Context, version uint64, next lease.Record) (lease.Record, error) {
	stored, err := l.cfg.Control.CompareAndSet(ctx, version, next)
	var unknown *lease.OutcomeUnknownError
	if !errors.As(err, &unknown) {
		return stored, err
	}
	now, _, loadErr := l.cfg.Control.Load(ctx)
	if loadErr == nil && now.Version == version+1 && now.Epoch == next.Epoch && now.Holder == next.Holder && now.Place == next.Place {
		return now, nil
	}
	return stored, errors.Join(err, loadErr)
}

func (l *leader) clock() lease.Clock {
	if l.cfg.Clock == nil {
		return lease.MachineClock{}
	}
	return l.cfg.Clock
}

func (l *leader) place() (string, error) {
	if l.cfg.Place == nil {
		return "", nil
	}
	return l.cfg.Place()
}

// vacant returns the record once the node may take it: it is entitled to, and the
// holder has stopped, was this node in this very directory, whose lock it has now, was
// given it and has not opened yet, or has not renewed for the time of a lease by this node's own clock.
func (l *leader) vacant(ctx context.Context, node string, last lsn.Pos) (lease.Record, error) {
	place, err := l.place()
	if err != nil {
		return lease.Record{}, err
	}
	rec, _, err := l.cfg.Control.Load(ctx)
	if err != nil {
		return rec, fmt.Errorf("read the record of who writes: %w", err)
	}
	for seen := time.Now(); ; {
		v := rec.MayOpen(node, last)
		switch {
		case v.Decision == lease.Follow:
			return rec, &MustFollowError{Address: v.ReplicationAddress, Reason: v.Detail}
		case v.Decision != lease.Open:
			return rec, &lease.RefusedError{Verdict: v}
		case rec.Epoch == 0, rec.SamePlace(node, place), place != "" && rec.Given(node), rec.Released, rec.Version == l.stood, time.Since(seen) > lease.Expiry:
			l.stood = rec.Version
			return rec, nil
		}
		wait(ctx, lease.RenewEvery/2)
		now, _, err := l.cfg.Control.Load(ctx)
		if err != nil {
			return rec, fmt.Errorf("read the record of who writes: %w", err)
		}
		if now.Version != rec.Version {
			return now, changedHands(now, node)
		}
	}
}

// changedHands is why a node does not open that waited for a lease to run out.
func changedHands(now lease.Record, node string) error {
	if now.Holder == node {
		return fmt.Errorf("another process renews epoch %d under this node's id, %s: stop it, or give this one its own --node-id and an empty --data-dir", now.Epoch, node)
	}
	return &MustFollowError{Address: now.ReplicationAddress, Reason: fmt.Sprintf("%s holds epoch %d and renews it", now.Holder, now.Epoch)}
}

// confirm is the second step of the epoch: the followers that may have more than
// was acknowledged get the time to come back, the record names those that did, and
// from then on the node acknowledges. Under Strict nothing is shown that fewer
// followers have than asked for: unless all of the log is known to be acknowledged,
// they are waited for, however long it takes.
func (l *leader) confirm(ctx context.Context) error {
	visible := l.engine.Visible().LSN
	if l.holder == nil {
		l.hub.Begin(visible, nil)
		return nil
	}
	rec := l.holder.Record()
	if l.cfg.Sync > 0 {
		eligible := slices.DeleteFunc(rec.Eligible, func(n string) bool { return n == l.engine.Identity().NodeID })
		l.hub.AwaitMembers(ctx, eligible, visible)
	}
	if l.cfg.Strict && rec.CommitLSN < l.engine.Boot().LSN {
		l.node.deps.Log.WithField("lsn", uint64(visible)).WithField("acknowledged_lsn", uint64(rec.CommitLSN)).WithField("followers", l.cfg.Sync).
			Warn("the log ends with frames that may not have been acknowledged; --sync-strict shows them when enough followers have them")
		l.waits.Store(true)
		if err := l.hub.AwaitAny(ctx, visible); err != nil {
			return err
		}
		l.waits.Store(false)
	}
	return l.hub.Settle(ctx, visible, func(members []string) error {
		err := l.holder.Confirm(ctx, l.engine.Boot(), members, l.cfg.Sync)
		var fenced *lease.FencedError
		if errors.As(err, &fenced) {
			return &MustFollowError{Reason: err.Error()}
		} else if err != nil {
			return fmt.Errorf("confirm epoch %d in the record: %w", l.engine.Epoch(), err)
		}
		return nil
	})
}

// renew tells the record how far acknowledgements may be, until ctx ends or the
// record is another's.
func (l *leader) renew(ctx context.Context) error {
	tick := time.NewTicker(lease.RenewEvery)
	defer tick.Stop()
	left := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		was := left
		if left = l.leaves(was); left {
			if !was {
				l.node.deps.Log.WithField("remaining_ms", l.term.Remaining().Milliseconds()).Error("the record of who writes is not renewed while the log's disk does not take writes: a follower may take this node's place")
			}
			continue
		}
		commit := lsn.LSN(0) // the recorded one stays
		if l.holder.Record().Confirmed() {
			commit = l.hub.Acked()
		}
		sent := l.term.Sending()
		err := l.holder.Renew(ctx, commit)
		var fenced *lease.FencedError
		switch {
		case err == nil:
			l.term.Renewed(sent)
		case errors.As(err, &fenced) && l.giving.Load() != nil:
			return nil // this node has given it away, and says so itself
		case errors.As(err, &fenced):
			other := &MustFollowError{Reason: err.Error()}
			l.fence(other)
			return &Ended{other}
		case ctx.Err() == nil:
			l.node.deps.Log.WithError(err).WithField("remaining_ms", l.term.Remaining().Milliseconds()).Error("the record of who writes could not be renewed")
		}
	}
}

// leaves says whether the record is left to others: the log takes no writes, and one of them
// is there that has all that was acknowledged. A disk that hangs stops everything but the
// renewals, which would keep the role for as long as it does. Nothing else is given up: who is
// not replaced goes on with its epoch when the disk comes back, since nobody has changed the
// record. Who waits for followers is not unwell by that, and renews.
//
// The streams end with the lease: who has left the record stays away from it for as long as the
// disk hangs, since a follower that this node has sent away says nothing by not being there.
func (l *leader) leaves(left bool) bool {
	have, _ := l.hub.Short() // before the lease is looked at, whose end ends the streams
	switch {
	case l.node.unwell(time.Now()) == "":
		return false
	case left && !l.term.Held():
		return true
	}
	return have > 0
}

// release says in the record that this node has stopped, and how far it had
// acknowledged, so that nobody waits.
func (l *leader) release(ctx context.Context) {
	if l.holder == nil || l.hub.Fenced() != nil {
		return
	}
	if err := l.holder.Release(ctx, l.hub.Acked()); err != nil {
		l.node.deps.Log.WithError(err).Warn("the record still names this node, which has stopped; a successor waits until it would have expired")
	}
}

// admit takes a node out of the record that is named there and has lost what it
// stands for.
func (l *leader) admit(ctx context.Context, node string, last lsn.LSN) error {
	if l.holder == nil {
		return nil
	}
	return l.hub.Readmit(ctx, node, last)
}

// record is the in-sync set in the record of who writes.
type record struct{ l *leader }

// Enter implements replica.Record.
func (r record) Enter(ctx context.Context, node string) error {
	return r.fenced(r.l.holder.Enter(ctx, node))
}

// Leave implements replica.Record. Before the epoch is confirmed only those
// eligible are named; each leaves once.
func (r record) Leave(ctx context.Context, node string) error {
	if rec := r.l.holder.Record(); !rec.Confirmed() && !slices.Contains(rec.Eligible, node) {
		return nil
	}
	return r.fenced(r.l.holder.Leave(ctx, node))
}

func (record) fenced(err error) error {
	var fenced *lease.FencedError
	if errors.As(err, &fenced) {
		return fmt.Errorf("%w: %w", replica.ErrFenced, err)
	}
	return err
}
