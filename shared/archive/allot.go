package archive

import (
	"context"
	"fmt"
	"slices"
	"time"

	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/wal"
)

// Allotment is what is known of a node that asks an archive for an epoch.
type Allotment struct {
	// Line are the epochs of the node's log, whose objects come first; the new one
	// begins behind At, the end of that log.
	Line []wal.EpochStart
	At   wal.Tail
	// AtLeast is an epoch that the new one is to be above.
	AtLeast lsn.Epoch
	// Ended is the epoch up to which an operator has ended all others for this node.
	Ended lsn.Epoch
	// Claims are nonces of epochs that the node has asked for before. Note keeps others
	// in their place, durably, before an object is created that carries one; nil where
	// nobody is to go on with an epoch that came to nothing.
	Claims []string
	Note   func(nonces []string) error
	// Trouble is told of each try that failed and is made again; may be nil.
	Trouble func(error)
}

const (
	// allotTries bounds how often AllotEpoch tries before it gives the error back,
	// allotTimeout how long a try may take. What a try has found out stays.
	allotTries   = 8
	allotTimeout = 20 * time.Second
)

// AllotEpoch takes the next epoch of an instance that has no lease record: the one
// who creates its object has it.
//
// A node gets one only if the newest epoch of the archive is its own history: its log
// holds it, or the node took it and it came to nothing (Claims), or an
// operator has ended it (Ended). Else another node is the writer, and an epoch above
// its would fence it: *FencedError. And the log must hold all frames of its last epoch
// that the archive has, unless they were ended: *BehindError.
func AllotEpoch(ctx context.Context, store object.Store, who Claimant, o Allotment) (lsn.Epoch, error) {
	a := allotting{claim: claim{a: New(store), who: who}, o: &o}
	var err error
	if a.nonce, err = a.claim.nonce(); err != nil {
		return 0, err
	}
	backoff := firstBackoff
	for try := 1; ; try++ {
		epoch, err := a.try(ctx)
		if err == nil || permanent(err) || try == allotTries || ctx.Err() != nil {
			return epoch, err
		}
		if o.Trouble != nil {
			o.Trouble(err)
		}
		if err := sleep(ctx, backoff); err != nil {
			return 0, err
		}
		backoff *= 2
	}
}

// allotting is one call of AllotEpoch. The nonce is that of all tries: an object that
// carries it is one that a try created whose answer was lost.
type allotting struct {
	claim
	o     *Allotment
	nonce string
	there int // epochs of the line that have their objects
}

func (a *allotting) try(ctx context.Context) (lsn.Epoch, error) {
	ctx, cancel := context.WithTimeout(ctx, allotTimeout)
	defer cancel()
	if err := a.ownArchive(ctx); err != nil {
		return 0, err
	}
	newest, err := a.newest(ctx)
	if err != nil {
		return 0, err
	}
	if newest != nil && newest.Nonce == a.nonce {
		return newest.Epoch, nil
	}
	if err := a.entitled(ctx, newest); err != nil {
		return 0, err
	}
	next := max(a.o.AtLeast, a.o.Ended, a.o.At.Pos.Epoch)
	if newest != nil {
		next = max(next, newest.Epoch)
	}
	if err := a.untold(ctx, next); err != nil {
		return 0, err
	}
	for _, e := range a.o.Line[a.there:] {
		if err := a.ensureEpoch(ctx, e); err != nil {
			return 0, err
		}
		a.there++
	}
	if err := a.note(newest); err != nil {
		return 0, err
	}
	return a.take(ctx, next+1)
}

// newest reads the object of the highest epoch; nil if there is none. Of one that was
// ended it does not matter what the object says.
func (a *allotting) newest(ctx context.Context) (*Epoch, error) {
	highest, err := a.a.HighestEpoch(ctx)
	switch {
	case err != nil || highest == 0:
		return nil, err
	case highest <= a.o.Ended:
		return &Epoch{Epoch: highest}, nil
	}
	d, err := a.a.Epoch(ctx, EpochKey{highest})
	return &d, err
}

// entitled is an error unless the newest epoch is the node's own history, and its log
// holds what the archive has of it.
func (a *allotting) entitled(ctx context.Context, newest *Epoch) error {
	if newest == nil || newest.Epoch <= a.o.Ended {
		return nil
	}
	at := &a.o.At
	held := slices.ContainsFunc(a.o.Line, func(e wal.EpochStart) bool { return e.Epoch == newest.Epoch && sameBeginning(newest, e) })
	mine := slices.Contains(a.o.Claims, newest.Nonce)
	if mine && !held && newest.Epoch > at.Pos.Epoch {
		// It came to nothing, unless another life of this directory has gone on in it.
		last, err := a.last(ctx, newest.Epoch)
		if err != nil {
			return err
		}
		mine = last == 0
		if mine && newest.FirstLSN == at.Pos.LSN+1 && newest.ParentChain == at.Chain {
			return nil // where it begins was decided when it was taken
		}
	}
	if !held && !mine {
		return &FencedError{Own: at.Pos.Epoch, Epoch: newest.Epoch, Key: EpochKey{newest.Epoch}.String(), Node: newest.Node}
	}
	// Only what is durable here is shipped: what is there beyond was written by this
	// log, and lost, or by the one that it is a copy of.
	last, err := a.last(ctx, at.Pos.Epoch)
	if err == nil && last > at.Pos.LSN {
		err = &BehindError{Store: a.a.store.String(), Last: at.Pos, Has: last}
	}
	return err
}

// untold is an error if the archive has frames of an epoch above one whose object is the
// newest: theirs is gone. To take its number would put two histories under it. What else
// stands there, under a name that is none of an archive's, hides nothing.
func (a *allotting) untold(ctx context.Context, newest lsn.Epoch) error {
	own := a.o.At.Pos.Epoch
	segments, err := keys[SegmentKey](ctx, a.a, logPrefix, logPrefix+hex16(uint64(newest))+"/~", nil)
	if err != nil {
		return err
	}
	if len(segments) > 0 {
		k := segments[0].Key
		return &FencedError{Own: own, Epoch: k.Epoch, Key: k.String()}
	}
	parts, err := keys[PartKey](ctx, a.a, tailPrefix, tailPrefix+hex16(uint64(newest))+"/~", nil)
	if err != nil {
		return err
	}
	if len(parts) > 0 {
		k := parts[0].Key
		return &FencedError{Own: own, Epoch: k.Epoch, Key: k.String()}
	}
	return nil
}

// last is the last frame of an epoch that the archive has in any object; 0 for none.
func (a *allotting) last(ctx context.Context, epoch lsn.Epoch) (last lsn.LSN, err error) {
	segments, err := keys[SegmentKey](ctx, a.a, logPrefix+hex16(uint64(epoch))+"/", "", nil)
	if err != nil {
		return 0, err
	}
	for _, k := range segments {
		last = max(last, k.Key.Last)
	}
	parts, err := keys[PartKey](ctx, a.a, tailPrefix+hex16(uint64(epoch))+"/", "", nil)
	for _, k := range parts {
		last = max(last, k.Key.To)
	}
	return last, err
}

// note keeps the nonce before an object carries it, beside that of the newest epoch if
// it is the node's too: a kill at any moment leaves the one that then is the newest.
func (a *allotting) note(newest *Epoch) error {
	if a.o.Note == nil {
		return nil
	}
	keep := []string{a.nonce}
	if newest != nil && slices.Contains(a.o.Claims, newest.Nonce) {
		keep = []string{newest.Nonce, a.nonce}
	}
	if slices.Equal(keep, a.o.Claims) {
		return nil
	}
	if err := a.o.Note(keep); err != nil {
		return &noteError{err}
	}
	a.o.Claims = keep
	return nil
}

// noteError says that the node's own disk does not keep what it must: no try mends it.
type noteError struct{ err error }

// Error implements error.
func (e *noteError) Error() string { return "note the claim to an epoch: " + e.err.Error() }

// Unwrap gives the cause.
func (e *noteError) Unwrap() error { return e.err }

// take creates the object of an epoch.
func (a *allotting) take(ctx context.Context, epoch lsn.Epoch) (lsn.Epoch, error) {
	at := &a.o.At
	own := a.epochOf(wal.EpochStart{Epoch: epoch, Parent: at.Pos.Epoch, First: at.Pos.LSN + 1, PrevChain: at.Chain}, a.nonce)
	taken, err := a.a.putDocument(ctx, EpochKey{epoch}, &own)
	if err != nil {
		return 0, err
	}
	if !taken {
		return epoch, nil
	}
	d, err := a.a.Epoch(ctx, EpochKey{epoch})
	switch {
	case err != nil:
		return 0, err
	case d.Nonce == a.nonce:
		return epoch, nil
	}
	return 0, fmt.Errorf("epoch %d was taken by node %s a moment before", epoch, d.Node)
}
