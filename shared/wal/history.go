package wal

import (
	"errors"
	"fmt"

	"originchain/shared/frame"
	"originchain/shared/lsn"
)

// EpochStart is where an epoch begins in the log, as its segments' headers say.
type EpochStart struct {
	Epoch lsn.Epoch
	// Parent is the epoch of the frame before; 0 where the log begins, and where
	// that frame is no longer held.
	Parent lsn.Epoch
	// First is the epoch's first LSN that the log holds: its first one, unless
	// Parent is 0 and the log begins above LSN 1.
	First lsn.LSN
	// PrevChain is the chain value of frame First-1.
	PrevChain lsn.Chain
}

// Epochs lists the epochs of the durable frames, oldest first: the line this
// log is on. It reads nothing.
func (l *Log) Epochs() []EpochStart {
	l.view.Lock()
	defer l.view.Unlock()
	var line []EpochStart
	var last lsn.Epoch
	if base := l.opts.Base.Pos; len(l.segments) > 0 && l.segments[0].header.First == base.LSN+1 {
		last = base.Epoch
	}
	for i := range l.segments {
		h := &l.segments[i].header
		if h.Epoch == last || h.First > l.durable {
			continue
		}
		line = append(line, EpochStart{Epoch: h.Epoch, Parent: last, First: h.First, PrevChain: h.PrevChain})
		last = h.Epoch
	}
	return line
}

// ChainAt returns the chain value and epoch of durable frame n: with them two
// logs find out up to where they are one. At LSN 0 both are zero. Of the frame
// below FirstLSN the chain is known and the epoch is not, which 0 says;
// ErrRemoved is returned further below. It costs up to one segment's read.
func (l *Log) ChainAt(n lsn.LSN) (lsn.Chain, lsn.Epoch, error) {
	if n == 0 {
		return lsn.Chain{}, 0, nil
	}
	s, durable, ok := l.locate(n)
	if n > durable {
		return lsn.Chain{}, 0, fmt.Errorf("chain of LSN %d: the log is durable up to %d", n, durable)
	}
	if !ok {
		if s, _, ok = l.locate(n + 1); !ok || s.header.First != n+1 {
			return lsn.Chain{}, 0, l.removed(n)
		}
		return s.header.PrevChain, 0, nil
	}
	if n == s.last.Pos.LSN {
		return s.last.Chain, s.last.Pos.Epoch, nil
	}
	chain, err := l.chainIn(s, n)
	return chain, s.header.Epoch, err
}

// chainIn reads the chain value of frame n out of its segment.
func (l *Log) chainIn(s segment, n lsn.LSN) (chain lsn.Chain, err error) {
	dec, err := frame.NewDecoder()
	if err != nil {
		return chain, err
	}
	defer dec.Close()
	r := &ChunkReader{log: l, next: n}
	if err := r.enter(s); err != nil {
		return chain, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	if err := r.seek(n); err != nil {
		return chain, err
	}
	b, err := r.frames(r.pos, 0, 0, n)
	if err != nil {
		return chain, err
	}
	var f frame.Frame
	if _, err := dec.Decode(&f, b, s.header.Seed, uint64(r.pos)); err != nil {
		return chain, corrupt(s.path, r.pos, err)
	}
	return f.Chain, nil
}

// Writer is the epoch in which this node last wrote the log itself; 0 if it has
// copied from a leader since, or never wrote.
func (l *Log) Writer() lsn.Epoch {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.mark == nil {
		return 0
	}
	return l.mark.value.writer
}
