package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/wal"
	"originchain/test/oracle"
)

// history keeps the frames of segments that the engine removes, so that a log
// that no longer begins at LSN 1 can still be folded from there.
type history struct {
	mu      sync.Mutex
	model   *oracle.Model
	effects []oracle.Effects // of LSN i+1
	kinds   []frame.Kind
	bases   map[lsn.LSN]*oracle.Model // at the ends of removed segments
	err     error
}

func newHistory(s *oracle.Schemas) *history {
	h := &history{model: oracle.New(s), bases: map[lsn.LSN]*oracle.Model{}}
	h.bases[0] = h.model.Clone()
	return h
}

// keep folds a segment that is about to be removed.
func (h *history) keep(fs vfs.FS, path string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.fold(fs, path); err != nil && h.err == nil {
		h.err = fmt.Errorf("keep %s: %w", path, err)
	}
}

func (h *history) fold(fs vfs.FS, path string) (err error) {
	s, err := wal.OpenSegment(fs, path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if s.Header().First <= h.model.Last.LSN {
		return nil // a removal that was tried before
	}
	for {
		f, _, err := s.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		e, err := h.model.Apply(f)
		if err != nil {
			return err
		}
		h.effects, h.kinds = append(h.effects, e), append(h.kinds, f.Kind)
	}
	h.bases[h.model.Last.LSN] = h.model.Clone()
	return nil
}

// base is the model at the end of a removed segment, and what its frames mean.
func (h *history) base(at lsn.LSN) (*oracle.Model, []oracle.Effects, []frame.Kind, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m, ok := h.bases[at]
	if h.err != nil || !ok {
		return nil, nil, nil, errors.Join(h.err, fmt.Errorf("the log begins after LSN %d, where no segment was removed", at))
	}
	return m.Clone(), h.effects[:at:at], h.kinds[:at:at], nil
}

// folded is a log, folded.
type folded struct {
	*oracle.Model
	effects []oracle.Effects // of LSN i+1
	kinds   []frame.Kind
}

// fold reads the log of an opened engine, from its first frame to its last,
// and goes on from what the history has.
func (h *history) foldLog(fs vfs.FS, l *wal.Log) (*folded, error) {
	first := l.FirstLSN()
	m, effects, kinds, err := h.base(first - 1)
	if err != nil {
		return nil, err
	}
	out := &folded{m, effects, kinds}
	if got, err := prevChain(fs, l); err != nil || got != m.Chain {
		return nil, errors.Join(err, fmt.Errorf("the log goes on from chain %s, the removed segments end in %s", got, m.Chain))
	}
	return out, out.extend(l)
}

func prevChain(fs vfs.FS, l *wal.Log) (c lsn.Chain, err error) {
	s, err := wal.OpenSegment(fs, l.Segments()[0].Path)
	if err != nil {
		return c, err
	}
	return s.Header().PrevChain, s.Close()
}

// extend folds the frames that the log has gained.
func (f *folded) extend(l *wal.Log) (err error) {
	r, err := l.NewReader(f.Last.LSN + 1)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	for {
		next, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		own := *next
		own.Body = bytes.Clone(next.Body)
		e, err := f.Apply(&own)
		if err != nil {
			return err
		}
		f.effects, f.kinds = append(f.effects, e), append(f.kinds, own.Kind)
	}
	if tail := l.Tail(); tail.Pos.LSN != f.Last.LSN || tail.Chain != f.Chain || tail.Digest != f.Last.Digest {
		return fmt.Errorf("the log ends at %s, its frames at LSN %d chain %s", tail, f.Last.LSN, f.Chain)
	}
	return nil
}
