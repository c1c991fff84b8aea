package rows_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"sort"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"

	"originchain/shared/fault"
	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/schema"
	"originchain/shared/table"
)

var tenant = ulid.MustParse("01JADE0000000000000000000A")

// bench is a state that frames are built against and applied to.
type bench struct {
	t      *testing.T
	store  *table.Store
	digest lsn.Digest
	next   lsn.LSN
	stamp  int64
	rng    *rand.Rand
}

func newBench(t *testing.T, seed uint64) *bench {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	s, err := table.Open(table.Options{FS: vfs.NewMem(), Dir: "state", Log: log})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return &bench{t: t, store: s, next: 1, stamp: 1_000_000, rng: rand.New(rand.NewPCG(seed, 1))}
}

func (w *bench) builder() *rows.Builder {
	return rows.New(rows.Config{
		Base:    w.store,
		Catalog: func(id ulid.ULID) (*table.Catalog, error) { return table.LoadCatalog(w.store, id) },
		Salt:    w.rng.Uint64, LSN: w.next, Stamp: w.stamp,
	})
}

// commit builds one frame and applies it; a frame that is refused changes nothing.
func (w *bench) commit(build func(*rows.Builder) error) error {
	w.t.Helper()
	b := w.builder()
	if err := build(b); err != nil {
		return err
	}
	if b.Empty() {
		return nil
	}
	ops, delta, err := b.Finish(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.apply(ops, delta)
	return nil
}

func (w *bench) apply(ops []frame.Op, delta lsn.Digest) {
	w.t.Helper()
	if err := frame.CheckKeys(ops); err != nil {
		w.t.Fatalf("frame %d: %v", w.next, err)
	}
	if got := frame.Delta(ops); got != delta {
		w.t.Fatalf("frame %d: the operations add %s to the digest, the builder says %s", w.next, got, delta)
	}
	batch := w.store.NewBatch()
	for i := range ops {
		w.checkOld(&ops[i])
		if err := batch.Add(&ops[i]); err != nil {
			w.t.Fatal(err)
		}
	}
	w.digest = w.digest.Add(delta)
	if err := batch.Commit(table.Applied{Pos: lsn.Pos{LSN: w.next}, Digest: w.digest}); err != nil {
		w.t.Fatal(err)
	}
	w.next++
	w.stamp += 1000
}

// checkOld holds every operation to the pair that is really there.
func (w *bench) checkOld(op *frame.Op) {
	w.t.Helper()
	if op.Type == frame.RangeDelete {
		return
	}
	value, ok, err := w.store.Get(op.Key)
	if err != nil {
		w.t.Fatal(err)
	}
	if ok != (op.HadOld || op.Type == frame.Delete) || ok && frame.PairHash(op.Key, value) != op.Old {
		w.t.Fatalf("frame %d: %s of %x names an old pair that is not there", w.next, op.Type, op.Key)
	}
}

// check compares digest, counters and indexes with a full scan.
func (w *bench) check() {
	w.t.Helper()
	got, _, err := table.ScanDigest(w.store)
	if err != nil {
		w.t.Fatal(err)
	}
	if got != w.digest {
		w.t.Fatalf("digest by scan %s, by operations %s", got, w.digest)
	}
	cat, err := table.LoadCatalog(w.store, tenant)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, name := range cat.Names() {
		tbl, _ := cat.Lookup(name)
		lo, hi := table.RowRange(tbl)
		w.checkCounters(name, table.CounterKey(tenant, tbl.TableID, 0), lo, hi)
		for _, ix := range tbl.Indexes {
			lo, hi := table.IndexRange(tbl, ix)
			w.checkCounters(name+"/"+ix.Name, table.CounterKey(tenant, tbl.TableID, ix.ID), lo, hi)
			w.checkIndex(tbl, ix)
		}
	}
}

func (w *bench) checkCounters(what string, key, lo, hi []byte) {
	w.t.Helper()
	got, err := table.ReadCounters(w.store, key)
	if err != nil {
		w.t.Fatal(err)
	}
	var want table.Counters
	it, err := w.store.Iter(lo, hi, false)
	if err != nil {
		w.t.Fatal(err)
	}
	for it.Next() {
		want.Entries++
		want.Bytes += uint64(len(it.Key()) + len(it.Value()))
		want.Sum = want.Sum.Add(frame.PairHash(it.Key(), it.Value()))
	}
	if err := it.Close(); err != nil {
		w.t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Fatalf("counters of %s differ from a scan (-scan +counters):\n%s", what, diff)
	}
}

// checkIndex requires exactly one entry per row, in index order.
func (w *bench) checkIndex(tbl *table.Table, ix schema.Index) {
	w.t.Helper()
	want := map[string]bool{}
	lo, hi := table.RowRange(tbl)
	scan, err := table.ScanRows(w.store, tbl, lo, hi, false)
	if err != nil {
		w.t.Fatal(err)
	}
	for scan.Next() {
		row, _, err := scan.Row(nil)
		if err != nil {
			w.t.Fatal(err)
		}
		key, _ := table.IndexEntry(nil, tbl, ix, row, table.PKTuple(scan.Key()))
		want[string(key)+string(scan.Key())] = true
	}
	if err := scan.Close(); err != nil {
		w.t.Fatal(err)
	}
	ilo, ihi := table.IndexRange(tbl, ix)
	entries, err := table.ScanIndex(w.store, tbl, ix, ilo, ihi, false)
	if err != nil {
		w.t.Fatal(err)
	}
	n := 0
	for entries.Next() {
		row, _, ok, err := table.GetRow(w.store, tbl, entries.RowKey(), nil)
		if err != nil || !ok {
			w.t.Fatalf("index %s points to a row that is not there: %v", ix.Name, err)
		}
		key, _ := table.IndexEntry(nil, tbl, ix, row, table.PKTuple(entries.RowKey()))
		if !want[string(key)+string(entries.RowKey())] {
			w.t.Fatalf("index %s has an entry that no row makes", ix.Name)
		}
		n++
	}
	if err := entries.Err(); err != nil {
		w.t.Fatal(err)
	}
	if err := entries.Close(); err != nil {
		w.t.Fatal(err)
	}
	if n != len(want) {
		w.t.Fatalf("index %s has %d entries for %d rows", ix.Name, n, len(want))
	}
}

const parentManifest = `
namespace = "shop"
table = "customers"
primary_key = ["id"]
[[columns]]
name = "id"
ty = "i64"
[[columns]]
name = "email"
ty = "str"
[[columns]]
name = "city"
ty = "str"
[[indexes]]
name = "by_email"
columns = ["email"]
unique = true
[[indexes]]
name = "by_city"
columns = ["city"]
`

const childManifest = `
namespace = "shop"
table = "orders"
primary_key = ["id"]
[[columns]]
name = "id"
ty = "i64"
[[columns]]
name = "customer"
ty = "i64"
[[columns]]
name = "total"
ty = "f64"
[[foreign_keys]]
from_col = "customer"
target_schema = "shop.customers"
target_col = "id"
`

func (w *bench) create(manifest string) {
	w.t.Helper()
	err := w.commit(func(b *rows.Builder) error {
		_, _, err := b.CreateTable(tenant, []byte(manifest))
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *bench) table(name string) *table.Table {
	w.t.Helper()
	cat, err := table.LoadCatalog(w.store, tenant)
	if err != nil {
		w.t.Fatal(err)
	}
	tbl, err := cat.Table(name)
	if err != nil {
		w.t.Fatal(err)
	}
	return tbl
}

func prepare(t *testing.T, tbl *table.Table, row schema.Row) *rows.Prepared {
	t.Helper()
	p, err := rows.Prepare(tbl, row, nil)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

type customer struct{ email, city string }

// model is the plain truth the state is compared with.
type model struct {
	customers map[int64]customer
	orders    map[int64]int64 // order → customer, -1 for NULL
}

func (m *model) emailTaken(id int64, email string) bool {
	for other, c := range m.customers {
		if other != id && email != "" && c.email == email {
			return true
		}
	}
	return false
}

func (m *model) ordered(customer int64) bool {
	for _, c := range m.orders {
		if c == customer {
			return true
		}
	}
	return false
}

func text(s string) schema.Value {
	if s == "" {
		return schema.Null()
	}
	return schema.Str(s)
}

// TestRandomFramesMatchAModel drives random changes, several to a frame, and
// compares every decision, and the whole state, with a model.
func TestRandomFramesMatchAModel(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			w := newBench(t, seed)
			w.create(parentManifest)
			w.create(childManifest)
			m := &model{customers: map[int64]customer{}, orders: map[int64]int64{}}
			for range 400 {
				w.randomFrame(m)
			}
			w.check()
			w.compare(m)
		})
	}
}

func (w *bench) randomFrame(m *model) {
	customers, orders := w.table("shop.customers"), w.table("shop.orders")
	next := m.clone()
	var want fault.Code
	err := w.commit(func(b *rows.Builder) error {
		for range 1 + w.rng.IntN(3) {
			code, err := w.randomChange(b, next, customers, orders)
			if want = code; code != "" || err != nil {
				return err
			}
		}
		return nil
	})
	if got := fault.CodeOf(err); got != want {
		w.t.Fatalf("frame %d: got %q (%v), the model says %q", w.next, got, err, want)
	}
	if err == nil {
		*m = *next
	}
}

func (m *model) clone() *model {
	c := &model{customers: map[int64]customer{}, orders: map[int64]int64{}}
	for k, v := range m.customers {
		c.customers[k] = v
	}
	for k, v := range m.orders {
		c.orders[k] = v
	}
	return c
}

func (w *bench) randomChange(b *rows.Builder, m *model, customers, orders *table.Table) (fault.Code, error) {
	id := int64(w.rng.IntN(12))
	switch w.rng.IntN(4) {
	case 0: // put a customer
		c := customer{city: []string{"", "Ulm", "Pune"}[w.rng.IntN(3)]}
		if w.rng.IntN(4) > 0 {
			c.email = fmt.Sprintf("m%d@x", w.rng.IntN(14))
		}
		_, err := b.Put(prepare(w.t, customers, schema.Row{schema.I64(id), text(c.email), text(c.city)}), rows.Any())
		if m.emailTaken(id, c.email) {
			return fault.UniqueViolation, err
		}
		m.customers[id] = c
		return "", err
	case 1: // delete a customer
		key, err := table.RowKeyOf(nil, customers, []schema.Value{schema.I64(id)})
		if err != nil {
			return "", err
		}
		existed, err := b.Delete(customers, key, rows.Any())
		_, has := m.customers[id]
		if has && m.ordered(id) {
			return fault.FKViolation, err
		}
		if err == nil && existed != has {
			w.t.Fatalf("delete of customer %d: existed %v, the model says %v", id, existed, has)
		}
		delete(m.customers, id)
		return "", err
	case 2: // insert or replace an order
		order, cust := int64(w.rng.IntN(20)), int64(w.rng.IntN(12))
		expect, v := rows.Any(), schema.I64(cust)
		insert := w.rng.IntN(2) == 0
		if insert {
			expect = rows.Absent()
		}
		if w.rng.IntN(5) == 0 {
			cust, v = -1, schema.Null()
		}
		_, err := b.Put(prepare(w.t, orders, schema.Row{schema.I64(order), v, schema.F64(1.5)}), expect)
		if _, has := m.orders[order]; has && insert {
			return fault.AlreadyExists, err
		}
		if _, has := m.customers[cust]; cust >= 0 && !has {
			return fault.FKViolation, err
		}
		m.orders[order] = cust
		return "", err
	default: // delete an order
		order := int64(w.rng.IntN(20))
		key, err := table.RowKeyOf(nil, orders, []schema.Value{schema.I64(order)})
		if err != nil {
			return "", err
		}
		_, err = b.Delete(orders, key, rows.Any())
		delete(m.orders, order)
		return "", err
	}
}

func (w *bench) compare(m *model) {
	w.t.Helper()
	got := map[int64]customer{}
	tbl := w.table("shop.customers")
	lo, hi := table.RowRange(tbl)
	scan, err := table.ScanRows(w.store, tbl, lo, hi, false)
	if err != nil {
		w.t.Fatal(err)
	}
	var ids []int64
	for scan.Next() {
		row, _, err := scan.Row(nil)
		if err != nil {
			w.t.Fatal(err)
		}
		c := customer{}
		if !row[1].IsNull() {
			c.email = row[1].AsStr()
		}
		if !row[2].IsNull() {
			c.city = row[2].AsStr()
		}
		got[row[0].AsI64()] = c
		ids = append(ids, row[0].AsI64())
	}
	if err := scan.Close(); err != nil {
		w.t.Fatal(err)
	}
	if diff := cmp.Diff(m.customers, got, cmp.AllowUnexported(customer{})); diff != "" {
		w.t.Fatalf("customers differ (-model +state):\n%s", diff)
	}
	if !sort.SliceIsSorted(ids, func(i, j int) bool { return ids[i] < ids[j] }) {
		w.t.Fatalf("rows are not in primary key order: %v", ids)
	}
}
