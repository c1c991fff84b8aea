package engine

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"

	"originchain/shared/frame"
	"originchain/shared/lsn"
	recovery "originchain/shared/recover"
	"originchain/shared/table"
	"originchain/shared/wal"
)

// recover brings the state to the end of the log. The state is never ahead of
// the log: only durable frames are applied.
func (e *Engine) recover(ctx context.Context) error {
	at, err := e.join()
	if err != nil {
		return err
	}
	tail := e.log.Tail()
	if at.Pos.LSN < tail.Pos.LSN {
		if at, err = e.replay(ctx, at); err != nil {
			return err
		}
	}
	if at.Digest != tail.Digest {
		return &recovery.MismatchError{LSN: at.Pos.LSN, What: "state digest", Want: tail.Digest.String(), Got: at.Digest.String()}
	}
	e.applied, e.boot = at, tail.Pos
	e.visible.Store(uint64(at.Pos.LSN))
	return nil
}

// join holds the state against the log and returns where it stands.
func (e *Engine) join() (table.Applied, error) {
	at, err := e.store.Applied()
	if err != nil {
		return at, err
	}
	if tail := e.log.Tail(); e.log.FirstLSN() == 0 && at.Pos == tail.Pos && at.Chain == tail.Chain {
		return at, nil // a restored copy, whose log begins behind it
	}
	return at, recovery.Join(at, e.log.FirstLSN(), e.log.Tail().Pos.LSN, e.chainAt)
}

func (e *Engine) replay(ctx context.Context, at table.Applied) (table.Applied, error) {
	e.deps.Log.WithField("from_lsn", at.Pos.LSN+1).WithField("to_lsn", e.log.Tail().Pos.LSN).Info("recovering the state from the log")
	r, err := e.log.NewReader(at.Pos.LSN + 1)
	if err != nil {
		return at, err
	}
	at, err = recovery.Replay(ctx, e.store, r, at, recovery.Options{})
	if err = errors.Join(err, r.Close()); err != nil {
		return at, fmt.Errorf("recover from the log: %w", err)
	}
	return at, nil
}

func (e *Engine) chainAt(n lsn.LSN) (lsn.Chain, error) {
	r, err := e.log.NewReader(n)
	if err != nil {
		return lsn.Chain{}, err
	}
	f, err := r.Next()
	if err != nil {
		return lsn.Chain{}, errors.Join(err, r.Close())
	}
	return f.Chain, r.Close()
}

// takeEpoch allots this opening's epoch, seals what an earlier one left open
// and opens the new epoch in the log. The epoch is durable in the directory
// before its first frame exists.
func (e *Engine) takeEpoch(ctx context.Context) (err error) {
	tail := e.log.Tail()
	o := Opening{Who: e.dir.Identity(), Last: tail, Line: e.log.Epochs(), NoteClaims: e.dir.NoteClaims}
	o.Allot = func(atLeast lsn.Epoch) (lsn.Epoch, error) { return e.dir.AllotEpoch(max(atLeast, tail.Pos.Epoch)) }
	o.Adopt = func(epoch lsn.Epoch) error {
		if epoch <= tail.Pos.Epoch {
			return fmt.Errorf("epoch %d was given to this node, and its log has reached epoch %d", epoch, tail.Pos.Epoch)
		}
		return e.dir.AdoptEpoch(epoch)
	}
	if e.deps.TakeEpoch == nil {
		e.epoch, err = o.Allot(0)
	} else if err = e.decided(&o); err == nil {
		e.epoch, err = e.deps.TakeEpoch(ctx, o)
	}
	if err != nil {
		return fmt.Errorf("allot an epoch: %w", err)
	}
	if err := e.log.BeginEpoch(e.epoch); err != nil {
		return fmt.Errorf("begin epoch %d: %w", e.epoch, err)
	}
	if err := e.seq.init(e, tail); err != nil {
		return err
	}
	rec := frame.EpochRecord{Parent: tail.Pos.Epoch, FirstLSN: tail.Pos.LSN + 1, ParentChain: tail.Chain}
	entry, err := e.seq.record(frame.KindEpoch, rec.Append(nil))
	if err != nil {
		return err
	}
	if err := e.log.Append([]wal.Entry{entry.Entry}); err != nil {
		return fmt.Errorf("write the frame of epoch %d: %w", e.epoch, err)
	}
	if err := e.log.Sync(); err != nil {
		return fmt.Errorf("make the frame of epoch %d durable: %w", e.epoch, err)
	}
	return e.apply([]*entryRef{entry})
}

// decided adds what the directory knows of epochs besides its log.
func (e *Engine) decided(o *Opening) (err error) {
	if o.Claims, err = e.dir.Claims(); err != nil {
		return err
	}
	r, err := e.dir.Restored()
	if err == nil && r != nil && r.Accepted != nil {
		o.Ended = r.Accepted.Epoch
	}
	return err
}

// newSalts seeds the generator of salts. ChaCha8 is a cryptographic generator:
// a salt cannot be guessed from those before it.
func newSalts(src io.Reader) (*mathrand.ChaCha8, error) {
	if src == nil {
		src = rand.Reader
	}
	var seed [32]byte
	if _, err := io.ReadFull(src, seed[:]); err != nil {
		return nil, fmt.Errorf("seed the salts: %w", err)
	}
	return mathrand.NewChaCha8(seed), nil
}

func fillSalt(g *mathrand.ChaCha8, salt *[frame.SaltSize]byte) {
	binary.LittleEndian.PutUint64(salt[:], g.Uint64())
	binary.LittleEndian.PutUint64(salt[8:], g.Uint64())
}
