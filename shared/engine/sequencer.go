package engine

import (
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"runtime"
	"slices"
	"sync"

	"github.com/oklog/ulid/v2"

	"originchain/shared/fault"
	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/table"
	"originchain/shared/wal"
)

// sequencer decides proposals one by one. Its view is the state with every
// frame that is decided and not yet visible on top, so unique keys, foreign
// keys, checks and versions are exact. Only the sequence goroutine uses it.
type sequencer struct {
	e        *Engine
	salts    *mathrand.ChaCha8
	view     *table.Overlay
	builder  *rows.Builder // one for all frames, reset for each
	flight   []inFlight    // decided, not yet seen to be visible, in order
	spare    [][]string    // of inFlight.keys, to be used again
	catalogs map[ulid.ULID]*table.Catalog
	last     lsn.LSN
	stamp    int64
	digest   lsn.Digest
}

// inFlight remembers which keys a frame laid over the view.
type inFlight struct {
	lsn  lsn.LSN
	keys []string
}

// entryRef is a decided frame on its way through the pipeline. It is made by the
// sequencer and given back by the publisher, when the state has the frame.
type entryRef struct {
	wal.Entry
	ops      []frame.Op
	catalogs map[ulid.ULID]*table.Catalog
}

var entryRefs = sync.Pool{New: func() any { return new(entryRef) }}

// Up to this size an entryRef keeps its memory for the next frame.
const (
	keptBodyBytes = 16 << 10
	keptOps       = 64
)

// recycle gives r back. What its operations point to lives on: the view and the
// state may have it.
func (r *entryRef) recycle() {
	body, ops := r.Body, r.ops
	*r = entryRef{}
	if cap(body) <= keptBodyBytes {
		r.Body = body[:0]
	}
	if cap(ops) <= keptOps {
		clear(ops)
		r.ops = ops[:0]
	}
	entryRefs.Put(r)
}

func (s *sequencer) init(e *Engine, tail wal.Tail) (err error) {
	s.e = e
	s.view = table.NewOverlay(e.store)
	s.catalogs = map[ulid.ULID]*table.Catalog{}
	s.last, s.stamp, s.digest = tail.Pos.LSN, tail.Timestamp, tail.Digest
	if s.salts, err = newSalts(e.deps.Rand); err != nil {
		return err
	}
	s.builder = rows.New(rows.Config{Base: s.view, Catalog: s.catalog, Salt: s.salts.Uint64})
	return nil
}

// sequence runs until intake stops. When nothing waits any more it gives way to
// whoever is about to propose, and only then lets the appender have what was
// decided: writers that were answered together come back together.
func (e *Engine) sequence() {
	defer e.queue.close()
	for w := range e.proposals {
		if w.Long {
			e.queue.release()
		}
		e.seq.decide(w)
		if len(e.proposals) > 0 {
			e.queue.releaseAged()
			continue
		}
		runtime.Gosched()
		if len(e.proposals) == 0 {
			e.queue.release()
		}
	}
}

// decide turns one proposal into a frame, or into an answer without one.
func (s *sequencer) decide(w *pending) {
	e := s.e
	if f := e.failure.Load(); f != nil {
		w.answer(lsn.Pos{}, e.errFailed(f.err))
		return
	}
	s.forget(lsn.LSN(e.visible.Load()))
	stamp, wall, jump := e.deps.Clock.Stamp(s.stamp)
	if jump != nil {
		s.clockFrame(stamp, wall, jump.OldOffset, jump.NewOffset)
	}
	b := s.builder
	b.Reset(s.last+1, stamp)
	if err := s.build(b, w); err != nil || b.Empty() {
		// The decision may rest on frames that are not visible yet.
		e.answers.add(e, w, s.last, err)
		return
	}
	entry, err := s.finish(b, stamp, wall)
	switch {
	case fault.CodeOf(err) == fault.Overloaded:
		w.answer(lsn.Pos{}, err) // it rests on no frame, and is of use now
		return
	case err != nil:
		e.answers.add(e, w, s.last, err)
		return
	}
	e.answers.add(e, w, entry.LSN, nil)
	e.queue.push(entry)
}

func (s *sequencer) build(b *rows.Builder, w *pending) error {
	w.deciding.Lock()
	defer w.deciding.Unlock()
	if w.left {
		return errLeft // which nobody waits for
	}
	w.decided = true
	if w.Idem == nil {
		return w.Build(b)
	}
	stored, err := rows.StoredAnswer(b, w.Tenant, w.Idem.Key, w.Idem.Request)
	if err != nil {
		return err
	}
	if stored != nil {
		w.out.Stored = stored
		return nil
	}
	if err := w.Build(b); err != nil {
		return err
	}
	return b.StoreAnswer(w.Tenant, w.Idem.Key, rows.Answer{
		Request: w.Idem.Request, Status: w.Idem.Status, Done: true,
		Body: w.Idem.Answer(lsn.Pos{Epoch: s.e.epoch, LSN: s.last + 1}),
	})
}

var errLeft = errors.New("the caller left before the proposal was decided")

// finish encodes the frame, lays its writes over the view and moves on to the
// next LSN. Nothing of the sequencer changes on an error.
func (s *sequencer) finish(b *rows.Builder, stamp, wall int64) (*entryRef, error) {
	entry := entryRefs.Get().(*entryRef)
	ops, delta, err := b.Finish(entry.ops)
	if err != nil {
		return nil, err
	}
	body := frame.AppendOps(slices.Grow(entry.Body, opsSize(ops)), ops)
	entry.ops, entry.Body = ops, body
	if err := s.fits(len(body)); err != nil {
		entry.recycle()
		return nil, err
	}
	entry.catalogs = b.Changed()
	s.take(entry, frame.KindData, stamp, wall, s.digest.Add(delta))
	s.lay(b, entry.LSN)
	for t, c := range entry.catalogs {
		s.catalogs[t] = c
	}
	s.e.pendingBytes.Add(int64(len(body)))
	s.prepare(entry)
	return entry, nil
}

// fits refuses a frame that is too large, or too much for now.
func (s *sequencer) fits(body int) error {
	if body > frame.MaxBody {
		return fault.New(fault.BodyTooLarge, "the commit takes %d bytes in the log, more than a frame's %d; split it into smaller ones", body, frame.MaxBody)
	}
	if s.e.pendingBytes.Load()+int64(body) > maxPendingBytes {
		return errOverloaded()
	}
	return nil
}

// lay puts the frame's writes over the view.
func (s *sequencer) lay(b *rows.Builder, at lsn.LSN) {
	var keys []string
	if n := len(s.spare); n > 0 {
		keys, s.spare = s.spare[n-1], s.spare[:n-1]
	}
	b.Writes(func(key string, value []byte, deleted bool) {
		s.view.Set(key, table.Write{Value: value, Deleted: deleted, Tag: uint64(at)})
		keys = append(keys, key)
	})
	s.flight = append(s.flight, inFlight{at, keys})
}

// prepareBelow: a small body is hashed here, while the group before it waits for
// its fsync; a large one is left to the appender, so that the next proposal is
// decided meanwhile.
const prepareBelow = 64 << 10

func (s *sequencer) prepare(entry *entryRef) {
	if len(entry.Body) >= prepareBelow {
		return
	}
	if err := s.e.log.Prepare(&entry.Entry); err != nil {
		// The LSN is taken: without its frame the log cannot go on.
		s.e.fail(fmt.Sprintf("encode frame %d", entry.LSN), err)
	}
}

// opsSize is an upper bound of the encoded size, so that a body is allocated once.
func opsSize(ops []frame.Op) int {
	n := 10
	for i := range ops {
		n += len(ops[i].Key) + len(ops[i].End) + len(ops[i].Value) + 2 + lsn.DigestSize + 3*5
	}
	return n
}

// take gives the entry the next LSN.
func (s *sequencer) take(r *entryRef, kind frame.Kind, stamp, wall int64, digest lsn.Digest) {
	s.last++
	s.stamp, s.digest = stamp, digest
	r.Entry = wal.Entry{Kind: kind, LSN: s.last, Timestamp: stamp, Wall: wall, Digest: digest, Body: r.Body}
	fillSalt(s.salts, &r.Salt)
}

// entry makes a frame that changes no state.
func (s *sequencer) entry(kind frame.Kind, record []byte, stamp, wall int64) *entryRef {
	r := &entryRef{Entry: wal.Entry{Body: frame.AppendOps(record, nil)}}
	s.take(r, kind, stamp, wall, s.digest)
	return r
}

// record makes the epoch's frame.
func (s *sequencer) record(kind frame.Kind, record []byte) (*entryRef, error) {
	stamp, wall, jump := s.e.deps.Clock.Stamp(s.stamp)
	if jump != nil {
		return nil, fmt.Errorf("the clock jumped before the first frame")
	}
	return s.entry(kind, record, stamp, wall), nil
}

// clockFrame records that stamps jump forward to a new offset of the wall clock.
func (s *sequencer) clockFrame(stamp, wall, oldOffset, newOffset int64) {
	rec := frame.ClockRecord{OldOffset: oldOffset, NewOffset: newOffset}
	entry := s.entry(frame.KindClock, rec.Append(nil), stamp, wall)
	s.e.pendingBytes.Add(int64(len(entry.Body)))
	s.e.queue.push(entry)
}

// maxSpareKeys bounds the lists of keys that wait to be used again.
const maxSpareKeys = 256

// forget takes frames that are visible off the view: the state has them.
func (s *sequencer) forget(visible lsn.LSN) {
	n := 0
	for n < len(s.flight) && s.flight[n].lsn <= visible {
		f := &s.flight[n]
		for _, k := range f.keys {
			s.view.Drop(k, uint64(f.lsn))
		}
		if len(s.spare) < maxSpareKeys && cap(f.keys) <= keptOps {
			clear(f.keys)
			s.spare = append(s.spare, f.keys[:0])
		}
		f.keys = nil
		n++
	}
	if n > 0 {
		s.flight = append(s.flight[:0], s.flight[n:]...)
	}
}

func (s *sequencer) catalog(tenant ulid.ULID) (*table.Catalog, error) {
	if c, ok := s.catalogs[tenant]; ok {
		return c, nil
	}
	c, err := table.LoadCatalog(s.view, tenant)
	if err == nil {
		s.catalogs[tenant] = c
	}
	return c, err
}
