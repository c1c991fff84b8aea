package engine

import (
	"errors"
	"fmt"
	mathrand "math/rand/v2"

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
	flight   []inFlight // decided, not yet seen to be visible, in order
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

// entryRef is a decided frame on its way through the pipeline.
type entryRef struct {
	wal.Entry
	ops      []frame.Op
	catalogs map[ulid.ULID]*table.Catalog
}

func (s *sequencer) init(e *Engine, tail wal.Tail) (err error) {
	s.e = e
	s.view = table.NewOverlay(e.store)
	s.catalogs = map[ulid.ULID]*table.Catalog{}
	s.last, s.stamp, s.digest = tail.Pos.LSN, tail.Timestamp, tail.Digest
	s.salts, err = newSalts(e.deps.Rand)
	return err
}

// sequence runs until intake stops.
func (e *Engine) sequence() {
	defer e.queue.close()
	for w := range e.proposals {
		e.seq.decide(w)
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
	b := rows.New(rows.Config{
		Base: s.view, Catalog: s.catalog, Salt: s.salts.Uint64, LSN: s.last + 1, Stamp: stamp,
	})
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
	ops, delta, err := b.Finish()
	if err != nil {
		return nil, err
	}
	body := frame.AppendOps(make([]byte, 0, opsSize(ops)), ops)
	if len(body) > frame.MaxBody {
		return nil, fault.New(fault.BodyTooLarge, "the commit takes %d bytes in the log, more than a frame's %d; split it into smaller ones", len(body), frame.MaxBody)
	}
	if s.e.pendingBytes.Load()+int64(len(body)) > maxPendingBytes {
		return nil, errOverloaded()
	}
	entry := s.entry(frame.KindData, body, stamp, wall, s.digest.Add(delta))
	entry.ops, entry.catalogs = ops, b.Changed()
	keys := make([]string, 0, len(ops))
	rows.Writes(ops, func(key, value []byte, deleted bool) {
		k := string(key)
		s.view.Set(k, table.Write{Value: value, Deleted: deleted, Tag: uint64(entry.LSN)})
		keys = append(keys, k)
	})
	s.flight = append(s.flight, inFlight{entry.LSN, keys})
	for t, c := range entry.catalogs {
		s.catalogs[t] = c
	}
	s.e.pendingBytes.Add(int64(len(body)))
	s.prepare(entry)
	return entry, nil
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

// entry takes the next LSN.
func (s *sequencer) entry(kind frame.Kind, body []byte, stamp, wall int64, digest lsn.Digest) *entryRef {
	s.last++
	s.stamp, s.digest = stamp, digest
	r := &entryRef{Entry: wal.Entry{Kind: kind, LSN: s.last, Timestamp: stamp, Wall: wall, Digest: digest, Body: body}}
	fillSalt(s.salts, &r.Salt)
	return r
}

// record makes a frame that changes no state, such as the epoch's.
func (s *sequencer) record(kind frame.Kind, body []byte) (*entryRef, error) {
	stamp, wall, jump := s.e.deps.Clock.Stamp(s.stamp)
	if jump != nil {
		return nil, fmt.Errorf("the clock jumped before the first frame")
	}
	return s.entry(kind, body, stamp, wall, s.digest), nil
}

// clockFrame records that stamps jump forward to a new offset of the wall clock.
func (s *sequencer) clockFrame(stamp, wall, oldOffset, newOffset int64) {
	rec := frame.ClockRecord{OldOffset: oldOffset, NewOffset: newOffset}
	entry := s.entry(frame.KindClock, frame.AppendOps(rec.Append(nil), nil), stamp, wall, s.digest)
	s.e.pendingBytes.Add(int64(len(entry.Body)))
	s.e.queue.push(entry)
}

// forget takes frames that are visible off the view: the state has them.
func (s *sequencer) forget(visible lsn.LSN) {
	n := 0
	for n < len(s.flight) && s.flight[n].lsn <= visible {
		f := &s.flight[n]
		for _, k := range f.keys {
			s.view.Drop(k, uint64(f.lsn))
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
