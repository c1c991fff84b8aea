package sql

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"

	"originchain/shared/fault"
	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/table"
)

var testTenant = ulid.MustParse("01ARZ3NDEKTSV4RRFFQ69G5FAV")

// memStore is a Store over the real state on an in-memory disk. It commits by
// itself what a log would carry.
type memStore struct {
	mu    sync.Mutex
	state *table.Store
	lsn   lsn.LSN
	salt  uint64
	// reads counts the pairs that transactions read.
	reads int
	// failReads makes every read of a transaction fail.
	failReads error
	// beforeCommit, when set, runs once before the next commit of a transaction.
	beforeCommit func()
	// answers keeps what commits stored for repeated requests.
	answers map[string][]byte
	open    int
	// catalogs keeps each tenant's tables until one of them changes.
	catalogs map[ulid.ULID]*table.Catalog
}

func newMemStore(t testing.TB) *memStore {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	st, err := table.Open(table.Options{FS: vfs.NewMem(), Dir: "state", Log: log, CacheBytes: 8 << 20, MemtableBytes: 32 << 20})
	if err != nil {
		t.Fatal(err)
	}
	s := &memStore{state: st, answers: map[string][]byte{}, catalogs: map[ulid.ULID]*table.Catalog{}}
	t.Cleanup(func() {
		if s.open != 0 {
			t.Errorf("%d transactions were not closed", s.open)
		}
		if err := st.Close(); err != nil {
			t.Errorf("state: %v", err)
		}
	})
	return s
}

func (s *memStore) builder() *rows.Builder {
	return rows.New(rows.Config{Base: s.state, LSN: s.lsn + 1, Catalog: s.catalog, Salt: func() uint64 { s.salt++; return s.salt }})
}

// catalog is a tenant's newest tables; the caller holds mu.
func (s *memStore) catalog(id ulid.ULID) (*table.Catalog, error) {
	if c, ok := s.catalogs[id]; ok {
		return c, nil
	}
	c, err := table.LoadCatalog(s.state, id)
	s.catalogs[id] = c
	return c, err
}

// commit builds one frame on the newest state and applies it.
func (s *memStore) commit(build func(*rows.Builder) error) (lsn.Pos, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.builder()
	if err := build(b); err != nil {
		return lsn.Pos{}, err
	}
	if b.Empty() {
		return lsn.Pos{Epoch: 1, LSN: s.lsn}, nil
	}
	ops, _, err := b.Finish(nil)
	if err != nil {
		return lsn.Pos{}, err
	}
	for id, c := range b.Changed() {
		s.catalogs[id] = c
	}
	return s.apply(ops)
}

func (s *memStore) apply(ops []frame.Op) (lsn.Pos, error) {
	batch := s.state.NewBatch()
	for i := range ops {
		if err := batch.Add(&ops[i]); err != nil {
			return lsn.Pos{}, err
		}
	}
	s.lsn++
	pos := lsn.Pos{Epoch: 1, LSN: s.lsn}
	return pos, errors.Join(batch.Commit(table.Applied{Pos: pos}), batch.Close())
}

func (s *memStore) Begin(tenant ulid.ULID) (Tx, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	snap, err := s.state.Snapshot()
	if err != nil {
		return nil, err
	}
	cat, err := s.catalog(tenant)
	if err != nil {
		return nil, errors.Join(err, snap.Close())
	}
	tx := &memTx{s: s, snap: snap, cat: cat, seen: map[string]bool{}}
	tx.b = rows.New(rows.Config{Base: snap, Catalog: func(ulid.ULID) (*table.Catalog, error) { return cat, nil }, Salt: func() uint64 { return 0 }})
	s.open++
	return tx, nil
}

func (s *memStore) CreateTable(_ context.Context, tenant ulid.ULID, manifest []byte) (created bool, pos lsn.Pos, err error) {
	pos, err = s.commit(func(b *rows.Builder) (err error) {
		_, created, err = b.CreateTable(tenant, manifest)
		return err
	})
	return created, pos, err
}

func (s *memStore) DropTable(_ context.Context, tenant ulid.ULID, name string) (lsn.Pos, error) {
	return s.commit(func(b *rows.Builder) error { return b.DropTable(tenant, name) })
}

func (s *memStore) CreateIndex(ctx context.Context, tenant ulid.ULID, name string, ix table.IndexRecord) (n uint64, pos lsn.Pos, err error) {
	if err := ctx.Err(); err != nil {
		return 0, pos, err
	}
	var t *table.Table
	if _, err = s.commit(func(b *rows.Builder) (err error) { t, err = b.CreateIndex(tenant, name, ix); return err }); err != nil {
		return 0, pos, err
	}
	def, _ := t.Index(ix.Name)
	_, err = s.commit(func(b *rows.Builder) error {
		lower, upper := table.RowRange(t)
		scan, err := table.ScanRows(s.state, t, lower, upper, false)
		if err != nil {
			return err
		}
		var keys [][]byte
		for scan.Next() {
			keys = append(keys, append([]byte(nil), scan.Key()...))
		}
		n = uint64(len(keys))
		return errors.Join(scan.Err(), scan.Close(), b.FillIndex(t, def, keys))
	})
	if err == nil {
		pos, err = s.commit(func(b *rows.Builder) error { return b.FinishIndex(t, ix.Name) })
	}
	if err != nil {
		_, derr := s.DropIndex(context.Background(), tenant, name, ix.Name)
		return 0, pos, errors.Join(err, derr)
	}
	return n, pos, nil
}

func (s *memStore) DropIndex(_ context.Context, tenant ulid.ULID, name, index string) (lsn.Pos, error) {
	return s.commit(func(b *rows.Builder) error { return b.DropIndex(tenant, name, index) })
}

// memTx repeats its changes on the newest state when it commits.
type memTx struct {
	s       *memStore
	snap    *table.Snapshot
	cat     *table.Catalog
	b       *rows.Builder
	steps   []func(*rows.Builder) error
	seen    map[string]bool
	touched [][]byte
	marks   [][3]int
	closed  bool
}

func (t *memTx) Get(key []byte) ([]byte, bool, error) {
	if t.s.failReads != nil {
		return nil, false, t.s.failReads
	}
	t.s.reads++
	return t.b.Get(key)
}

func (t *memTx) Iter(lower, upper []byte, reverse bool) (table.Iterator, error) {
	if t.s.failReads != nil {
		return nil, t.s.failReads
	}
	it, err := t.b.Iter(lower, upper, reverse)
	return &countingIter{it, t.s}, err
}

// countingIter counts the pairs it moves over.
type countingIter struct {
	table.Iterator
	s *memStore
}

func (i *countingIter) Next() bool {
	ok := i.Iterator.Next()
	if ok {
		i.s.reads++
	}
	return ok
}

func (t *memTx) Catalog() (*table.Catalog, error) { return t.cat, nil }

func (t *memTx) Counters(key []byte) (table.Counters, error) { return t.b.Counters(key) }

func (t *memTx) version(key []byte) (lsn.LSN, error) {
	value, ok, err := t.snap.Get(key)
	if err != nil || !ok {
		return table.RowVersionPending, err
	}
	h, _, err := table.SplitRowValue(value)
	return h.Version, err
}

// change runs do in the transaction and notes the same for the commit, where the
// first change of a row finds it as the snapshot had it, or is a conflict.
func (t *memTx) change(key []byte, do func(*rows.Builder, rows.Expect) error, e rows.Expect) error {
	if err := do(t.b, e.InTransaction()); err != nil {
		return err
	}
	at := rows.Any()
	if !t.seen[string(key)] {
		v, err := t.version(key)
		if err != nil {
			return err
		}
		t.seen[string(key)] = true
		at = rows.Unchanged(v)
	}
	t.steps = append(t.steps, func(b *rows.Builder) error { return do(b, at) })
	return nil
}

func (t *memTx) Put(p *rows.Prepared, e rows.Expect) (replaced bool, err error) {
	err = t.change(p.Key(), func(b *rows.Builder, e rows.Expect) error {
		r, err := b.Put(p, e)
		replaced = r
		return err
	}, e)
	return replaced, err
}

func (t *memTx) Delete(tbl *table.Table, key []byte, e rows.Expect) (existed bool, err error) {
	err = t.change(key, func(b *rows.Builder, e rows.Expect) error {
		x, err := b.Delete(tbl, key, e)
		existed = x
		return err
	}, e)
	return existed, err
}

func (t *memTx) Touch(key []byte, version lsn.LSN) {
	if version != table.RowVersionPending {
		t.touched = append(t.touched, append([]byte(nil), key...))
	}
}

func (t *memTx) Savepoint() int {
	t.marks = append(t.marks, [3]int{t.b.Savepoint(), len(t.steps), len(t.touched)})
	return len(t.marks) - 1
}

func (t *memTx) Rollback(sp int) {
	m := t.marks[sp]
	t.b.Rollback(m[0])
	t.steps, t.touched, t.marks = t.steps[:m[1]], t.touched[:m[2]], t.marks[:sp]
}

func (t *memTx) Pos() lsn.Pos { return t.snap.Applied().Pos }
func (t *memTx) Ops() int     { return len(t.steps) }

func (t *memTx) Commit(_ context.Context, idem *Idempotency) (lsn.Pos, error) {
	defer t.Close()
	if t.closed {
		return lsn.Pos{}, fault.New(fault.NotFound, "the transaction has ended")
	}
	if f := t.s.beforeCommit; f != nil {
		t.s.beforeCommit = nil
		f()
	}
	pos, err := t.s.commit(func(b *rows.Builder) error {
		for _, key := range t.touched {
			if err := b.CheckUnchanged(t.snap, key); err != nil {
				return err
			}
		}
		for _, step := range t.steps {
			if err := step(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && idem != nil {
		t.s.answers[idem.Key] = idem.Answer(pos)
	}
	return pos, err
}

func (t *memTx) Close() {
	if t.closed {
		return
	}
	t.closed = true
	t.s.mu.Lock()
	t.s.open--
	t.s.mu.Unlock()
	if err := t.snap.Close(); err != nil {
		panic(err)
	}
}

// fixture is an Engine over a memStore, with helpers that fail the test.
type fixture struct {
	*testing.T
	e  *Engine
	st *memStore
}

func newFixture(t *testing.T, setup ...string) *fixture {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	st := newMemStore(t)
	e, err := New(Config{Store: st, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{T: t, e: e, st: st}
	for _, s := range setup {
		f.exec(s)
	}
	return f
}

func (f *fixture) try(sql string, params ...any) (*Result, error) {
	f.Helper()
	return f.tryIn("", sql, params...)
}

// tryIn runs a statement in a transaction. One parameter that is a map goes by
// name, others by place.
func (f *fixture) tryIn(tx, sql string, params ...any) (*Result, error) {
	f.Helper()
	req := Request{Tenant: testTenant, SQL: sql, TxID: tx}
	if len(params) > 0 {
		var v any = params
		if m, ok := params[0].(map[string]any); ok {
			v = m
		}
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		req.Params = b
	}
	return f.e.Execute(f.Context(), req)
}

func (f *fixture) exec(sql string, params ...any) *Result {
	f.Helper()
	return f.execIn("", sql, params...)
}

func (f *fixture) execIn(tx, sql string, params ...any) *Result {
	f.Helper()
	r, err := f.tryIn(tx, sql, params...)
	if err != nil {
		f.Fatalf("%s: %v", sql, err)
	}
	return r
}

// json runs a statement and returns its answer as it is sent.
func (f *fixture) json(sql string, params ...any) string {
	f.Helper()
	return string(f.exec(sql, params...).AppendJSON(nil))
}

// rows runs a query and returns its rows as they are sent.
func (f *fixture) rows(sql string, params ...any) string {
	f.Helper()
	return f.rowsIn("", sql, params...)
}

func (f *fixture) rowsIn(tx, sql string, params ...any) string {
	f.Helper()
	return "[" + string(f.execIn(tx, sql, params...).rows) + "]"
}

// refused runs a statement that must fail with a code.
func (f *fixture) refused(code fault.Code, sql string, params ...any) *fault.Error {
	f.Helper()
	return f.refusedIn("", code, sql, params...)
}

func (f *fixture) refusedIn(tx string, code fault.Code, sql string, params ...any) *fault.Error {
	f.Helper()
	r, err := f.tryIn(tx, sql, params...)
	if err == nil {
		f.Errorf("%s: got %s, want %s", sql, r.AppendJSON(nil), code)
		return &fault.Error{}
	}
	if got := fault.CodeOf(err); got != code {
		f.Errorf("%s: got %v, want %s", sql, err, code)
	}
	return fault.From(err)
}

// plan is the plan of a statement.
func (f *fixture) plan(sql string, params ...any) string {
	f.Helper()
	return f.exec("EXPLAIN "+sql, params...).Plan
}
