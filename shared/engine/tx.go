package engine

import (
	"context"
	"errors"

	"github.com/oklog/ulid/v2"

	"originchain/shared/fault"
	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/schema"
	"originchain/shared/table"
)

// Tx is a transaction: one frozen visible state with its own writes on top,
// committed as one frame. Isolation is snapshot isolation: the sequencer checks
// at commit that no row it wrote, or read for update, changed since, and
// re-validates every constraint; the first committer wins. One goroutine uses a
// Tx at a time.
type Tx struct {
	e       *Engine
	tenant  ulid.ULID
	snap    *table.Snapshot
	catalog *table.Catalog
	b       *rows.Builder
	steps   []step
	seen    map[string]lsn.LSN // row key → version in the snapshot, 0 when absent
	touched []string           // keys read for update, in order
	marks   []mark
	bytes   int
	closed  bool
}

// manyRows is from how many rows on a proposal counts as Long: they take about as
// much time as an fsync.
const manyRows = 64

// step is one row change, to be repeated against the newest state at commit.
type step struct {
	put    *rows.Prepared // nil: a delete of key from table
	table  *table.Table
	key    []byte
	size   int
	expect rows.Expect
}

// mark is a savepoint.
type mark struct {
	builder, steps, touched, bytes int
}

// Begin starts a transaction on the newest visible state.
func (e *Engine) Begin(tenant ulid.ULID) (*Tx, error) {
	snap, err := e.store.Snapshot()
	if err != nil {
		return nil, err
	}
	cat, err := e.catalogs.load(snap, tenant)
	if err != nil {
		return nil, errors.Join(err, snap.Close())
	}
	tx := &Tx{e: e, tenant: tenant, snap: snap, catalog: cat, seen: map[string]lsn.LSN{}}
	tx.b = rows.New(rows.Config{
		Base: snap, Catalog: func(ulid.ULID) (*table.Catalog, error) { return cat, nil },
		// Values of a transaction are never logged; the frame makes its own.
		Salt: func() uint64 { return 0 }, LSN: table.RowVersionPending,
	})
	return tx, nil
}

// Get implements table.View: the snapshot with the transaction's own writes.
func (t *Tx) Get(key []byte) ([]byte, bool, error) { return t.b.Get(key) }

// Iter implements table.View.
func (t *Tx) Iter(lower, upper []byte, reverse bool) (table.Iterator, error) {
	return t.b.Iter(lower, upper, reverse)
}

// Catalog is the tenant's tables in the snapshot.
func (t *Tx) Catalog() (*table.Catalog, error) { return t.catalog, nil }

// Counters are exact, the transaction's own writes included.
func (t *Tx) Counters(key []byte) (table.Counters, error) { return t.b.Counters(key) }

// Pos is the frame the snapshot stands at.
func (t *Tx) Pos() lsn.Pos {
	return lsn.Pos{Epoch: t.e.epoch, LSN: t.snap.Applied().Pos.LSN}
}

// Ops is how many row changes are buffered.
func (t *Tx) Ops() int { return len(t.steps) }

// Put writes a prepared row and returns whether it replaced one the
// transaction saw. On an error the transaction is as before.
func (t *Tx) Put(p *rows.Prepared, e rows.Expect) (bool, error) {
	var replaced bool
	err := t.change(step{put: p, table: p.Table, key: p.Key(), size: p.Size()}, func() (err error) {
		replaced, err = t.b.Put(p, e.InTransaction())
		return err
	})
	return replaced, err
}

// Delete removes a row and returns whether there was one.
func (t *Tx) Delete(tbl *table.Table, key []byte, e rows.Expect) (bool, error) {
	var existed bool
	err := t.change(step{table: tbl, key: append([]byte(nil), key...), size: len(key)}, func() (err error) {
		existed, err = t.b.Delete(tbl, key, e.InTransaction())
		return err
	})
	return existed, err
}

func (t *Tx) change(s step, do func() error) error {
	if t.bytes+s.size > frame.MaxBody {
		return fault.New(fault.BodyTooLarge, "the transaction holds more than the %d bytes that fit one commit; split it into smaller ones", frame.MaxBody)
	}
	version, first, err := t.firstSight(s.key)
	if err != nil {
		return err
	}
	sp := t.b.Savepoint()
	if err := do(); err != nil {
		t.b.Rollback(sp)
		return err
	}
	// Only the first change of a row is compared with the snapshot; those that
	// follow stand on the transaction's own.
	s.expect = rows.Any()
	if first {
		t.seen[string(s.key)] = version
		s.expect = rows.Unchanged(version)
	}
	t.steps = append(t.steps, s)
	t.bytes += s.size
	return nil
}

// firstSight reads the version a key has in the snapshot; first is false when
// the transaction has changed it already.
func (t *Tx) firstSight(key []byte) (version lsn.LSN, first bool, err error) {
	if v, ok := t.seen[string(key)]; ok {
		return v, false, nil
	}
	value, ok, err := t.snap.Get(key)
	if err != nil || !ok {
		return table.RowVersionPending, true, err
	}
	h, _, err := table.SplitRowValue(value)
	return h.Version, true, err
}

// Touch reads a row for update: the commit conflicts if it changed since.
func (t *Tx) Touch(key []byte, version lsn.LSN) {
	k := string(key)
	if _, ok := t.seen[k]; ok || version == table.RowVersionPending {
		return
	}
	t.touched = append(t.touched, k)
}

// Savepoint marks where a statement starts.
func (t *Tx) Savepoint() int {
	t.marks = append(t.marks, mark{t.b.Savepoint(), len(t.steps), len(t.touched), t.bytes})
	return len(t.marks) - 1
}

// Rollback undoes everything since the savepoint.
func (t *Tx) Rollback(savepoint int) {
	m := t.marks[savepoint]
	t.b.Rollback(m.builder)
	for _, s := range t.steps[m.steps:] {
		if s.expect != rows.Any() {
			delete(t.seen, string(s.key))
		}
	}
	t.steps, t.touched, t.bytes = t.steps[:m.steps], t.touched[:m.touched], m.bytes
	t.marks = t.marks[:savepoint]
}

// Commit writes the transaction as one frame and closes it. A transaction that
// changed nothing takes no frame. With idem it does not end before its outcome
// is known, even if ctx does: the transaction is gone, so a repetition has
// nothing but the stored answer, and must find it visible.
func (t *Tx) Commit(ctx context.Context, idem *Idempotency) (lsn.Pos, error) {
	defer t.Close()
	if t.closed {
		return lsn.Pos{}, fault.New(fault.NotFound, "the transaction has ended; begin a new one")
	}
	if len(t.steps) == 0 && idem == nil {
		return t.Pos(), nil
	}
	if idem != nil {
		ctx = context.WithoutCancel(ctx)
	}
	out, err := t.e.Commit(ctx, Proposal{Tenant: t.tenant, Build: t.replay, Long: len(t.steps)+len(t.touched) > manyRows, Idem: idem})
	return out.Pos, err
}

// replay repeats the transaction against the state that the frame follows.
func (t *Tx) replay(b *rows.Builder) error {
	for _, k := range t.touched {
		if _, written := t.seen[k]; written {
			continue
		}
		if err := b.CheckUnchanged(t.snap, []byte(k)); err != nil {
			return err
		}
	}
	for _, s := range t.steps {
		var err error
		if s.put != nil {
			_, err = b.Put(s.put, s.expect)
		} else {
			_, err = b.Delete(s.table, s.key, s.expect)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// Close discards a transaction that was not committed; it may be called again.
func (t *Tx) Close() {
	if t.closed {
		return
	}
	t.closed = true
	if err := t.snap.Close(); err != nil {
		t.e.deps.Log.WithError(err).Warn("snapshot did not close")
	}
}

// Row reads a row by its full key, with the transaction's own writes.
func (t *Tx) Row(tbl *table.Table, key []byte) (schema.Row, lsn.LSN, bool, error) {
	return table.GetRow(t, tbl, key, nil)
}
