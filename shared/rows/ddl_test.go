package rows_test

import (
	"fmt"
	"reflect"
	"testing"

	"originchain/shared/fault"
	"originchain/shared/rows"
	"originchain/shared/schema"
	"originchain/shared/table"
)

func TestDropTableLeavesNothingAndKeepsTheDigest(t *testing.T) {
	w := newBench(t, 1)
	w.create(parentManifest)
	before := w.digest
	w.create(childManifest)
	customers, orders := w.table("shop.customers"), w.table("shop.orders")
	for i := range int64(50) {
		if err := w.commit(func(b *rows.Builder) error {
			if _, err := b.Put(prepare(t, customers, schema.Row{schema.I64(i), schema.Null(), schema.Str("Ulm")}), rows.Absent()); err != nil {
				return err
			}
			_, err := b.Put(prepare(t, orders, schema.Row{schema.I64(i), schema.I64(i), schema.F64(2)}), rows.Absent())
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	drop := func(name string) error {
		return w.commit(func(b *rows.Builder) error { return b.DropTable(tenant, name) })
	}
	if got := fault.CodeOf(drop("shop.customers")); got != fault.FKViolation {
		t.Fatalf("dropping a referenced table: got %q", got)
	}
	for _, name := range []string{"shop.orders", "shop.customers"} {
		if err := drop(name); err != nil {
			t.Fatal(err)
		}
		w.check()
	}
	if w.digest == before {
		t.Fatal("the id counter should still count")
	}
	lo, hi := table.LoggedRange()
	it, err := w.store.Iter(lo, hi, false)
	if err != nil {
		t.Fatal(err)
	}
	for it.Next() {
		if p, _ := table.SplitKey(it.Key()); p.Space != table.SpaceIDs {
			t.Errorf("left behind: %s %x", p.Space, it.Key())
		}
	}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestRegisteringAManifestAgain(t *testing.T) {
	w := newBench(t, 1)
	w.create(parentManifest)
	register := func(m string) error {
		return w.commit(func(b *rows.Builder) error {
			_, created, err := b.CreateTable(tenant, []byte(m))
			if err == nil && created {
				t.Error("created again")
			}
			return err
		})
	}
	if err := register(parentManifest); err != nil {
		t.Fatalf("identical manifest: %v", err)
	}
	if got := fault.CodeOf(register(parentManifest + "\n[[columns]]\nname = \"zip\"\nty = \"str\"\n")); got != fault.Conflict {
		t.Fatalf("other content at the same version: %q", got)
	}
	if got := fault.CodeOf(register("version = 2\n" + parentManifest)); got != fault.Unsupported {
		t.Fatalf("higher version: %q", got)
	}
}

func TestIndexBuildAmongWrites(t *testing.T) {
	w := newBench(t, 1)
	w.create(parentManifest)
	tbl := w.table("shop.customers")
	put := func(tbl *table.Table, id int64, city string) {
		t.Helper()
		if err := w.commit(func(b *rows.Builder) error {
			_, err := b.Put(prepare(t, tbl, schema.Row{schema.I64(id), schema.Null(), text(city)}), rows.Any())
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	var keys [][]byte
	for i := range int64(10) {
		put(tbl, i, "Ulm")
		key, err := table.RowKeyOf(nil, tbl, []schema.Value{schema.I64(i)})
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	if err := w.commit(func(b *rows.Builder) error {
		_, err := b.CreateIndex(tenant, "shop.customers", table.IndexRecord{Name: "extra", Columns: []string{"city", "id"}, Unique: true})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	stale := w.commit(func(b *rows.Builder) error {
		_, err := b.Put(prepare(t, tbl, schema.Row{schema.I64(1), schema.Null(), schema.Str("Pune")}), rows.Any())
		return err
	})
	if got := fault.From(stale); got.Code != fault.Conflict || !got.Retry {
		t.Fatalf("a write prepared before the index was announced: %v", stale)
	}
	tbl = w.table("shop.customers")
	put(tbl, 3, "Pune")                              // before the build reaches it
	if err := w.commit(func(b *rows.Builder) error { // and one row goes
		_, err := b.Delete(tbl, keys[4], rows.Any())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	ix, _ := tbl.Index("extra")
	if len(tbl.Usable()) == len(tbl.Indexes) {
		t.Fatal("an index that is being built is offered to readers")
	}
	if err := w.commit(func(b *rows.Builder) error { return b.FillIndex(tbl, ix, keys) }); err != nil {
		t.Fatal(err)
	}
	if err := w.commit(func(b *rows.Builder) error { return b.FinishIndex(tbl, "extra") }); err != nil {
		t.Fatal(err)
	}
	w.check()
	if err := w.commit(func(b *rows.Builder) error { return b.DropIndex(tenant, "shop.customers", "extra") }); err != nil {
		t.Fatal(err)
	}
	w.check()
	err := w.commit(func(b *rows.Builder) error { return b.DropIndex(tenant, "shop.customers", "by_email") })
	if got := fault.CodeOf(err); got != fault.Unsupported {
		t.Fatalf("dropping a manifest's index: %q", got)
	}
}

func TestRollbackLeavesTheFrameAsItWas(t *testing.T) {
	w := newBench(t, 1)
	w.create(parentManifest)
	tbl := w.table("shop.customers")
	if err := w.commit(func(b *rows.Builder) error {
		if _, err := b.Put(prepare(t, tbl, schema.Row{schema.I64(1), schema.Str("a"), schema.Str("Ulm")}), rows.Any()); err != nil {
			return err
		}
		sp := b.Savepoint()
		if _, err := b.Put(prepare(t, tbl, schema.Row{schema.I64(1), schema.Str("b"), schema.Str("Pune")}), rows.Any()); err != nil {
			return err
		}
		if _, err := b.Put(prepare(t, tbl, schema.Row{schema.I64(2), schema.Str("c"), schema.Null()}), rows.Any()); err != nil {
			return err
		}
		b.Rollback(sp)
		_, err := b.Put(prepare(t, tbl, schema.Row{schema.I64(3), schema.Str("b"), schema.Null()}), rows.Any())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	w.check()
	w.compare(&model{customers: map[int64]customer{1: {"a", "Ulm"}, 3: {"b", ""}}})
}

// TestUniqueBuildKeepsTheOtherRowsEntry: two rows have the same value when a
// unique index over it is announced, the build has passed the first, and then
// the second goes. The first one's entry must stay.
func TestUniqueBuildKeepsTheOtherRowsEntry(t *testing.T) {
	for _, deletes := range []bool{true, false} {
		w := newBench(t, 1)
		w.create(parentManifest)
		put := func(id int64, city string) error {
			return w.commit(func(b *rows.Builder) error {
				_, err := b.Put(prepare(t, w.table("shop.customers"), schema.Row{schema.I64(id), schema.Null(), text(city)}), rows.Any())
				return err
			})
		}
		var keys [][]byte
		for id := range int64(2) {
			if err := put(id, "Ulm"); err != nil {
				t.Fatal(err)
			}
			key, err := table.RowKeyOf(nil, w.table("shop.customers"), []schema.Value{schema.I64(id)})
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, key)
		}
		if err := w.commit(func(b *rows.Builder) error {
			_, err := b.CreateIndex(tenant, "shop.customers", table.IndexRecord{Name: "extra", Columns: []string{"city"}, Unique: true})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		tbl := w.table("shop.customers")
		ix, _ := tbl.Index("extra")
		if err := w.commit(func(b *rows.Builder) error { return b.FillIndex(tbl, ix, keys[:1]) }); err != nil {
			t.Fatal(err)
		}
		change := func() error { return put(1, "Pune") }
		if deletes {
			change = func() error {
				return w.commit(func(b *rows.Builder) error { _, err := b.Delete(tbl, keys[1], rows.Any()); return err })
			}
		}
		if err := change(); err != nil {
			t.Fatal(err)
		}
		if err := w.commit(func(b *rows.Builder) error { return b.FillIndex(tbl, ix, keys[1:]) }); err != nil {
			t.Fatal(err)
		}
		if err := w.commit(func(b *rows.Builder) error { return b.FinishIndex(tbl, "extra") }); err != nil {
			t.Fatal(err)
		}
		w.check()
		if got := fault.CodeOf(put(2, "Ulm")); got != fault.UniqueViolation {
			t.Errorf("deletes=%v: a second row with the value: got %q", deletes, got)
		}
	}
}

// cityManifest points to a column that the parent's manifest does not make unique.
const cityManifest = `
namespace = "shop"
table = "depots"
primary_key = ["id"]
[[columns]]
name = "id"
ty = "i64"
[[columns]]
name = "at"
ty = "str"
[[foreign_keys]]
from_col = "at"
target_schema = "shop.customers"
target_col = "%s"
`

func (w *bench) announce(name string, columns ...string) *table.Table {
	w.t.Helper()
	if err := w.commit(func(b *rows.Builder) error {
		_, err := b.CreateIndex(tenant, "shop.customers", table.IndexRecord{Name: name, Columns: columns, Unique: true})
		return err
	}); err != nil {
		w.t.Fatal(err)
	}
	return w.table("shop.customers")
}

func (w *bench) dropIndex(name string) error {
	return w.commit(func(b *rows.Builder) error { return b.DropIndex(tenant, "shop.customers", name) })
}

// TestAHalfBuiltIndexProvesNothing: a foreign key that stood on it would keep it
// from being taken away when its build fails.
func TestAHalfBuiltIndexProvesNothing(t *testing.T) {
	w := newBench(t, 1)
	w.create(parentManifest)
	w.announce("extra", "city")
	register := func() error {
		return w.commit(func(b *rows.Builder) error {
			_, _, err := b.CreateTable(tenant, fmt.Appendf(nil, cityManifest, "city"))
			return err
		})
	}
	if got := fault.CodeOf(register()); got != fault.ValidationFailed {
		t.Fatalf("a foreign key to a column whose unique index is half built: %q", got)
	}
	if err := w.commit(func(b *rows.Builder) error { return b.FinishIndex(w.table("shop.customers"), "extra") }); err != nil {
		t.Fatal(err)
	}
	if err := register(); err != nil {
		t.Fatal(err)
	}
	if got := fault.CodeOf(w.dropIndex("extra")); got != fault.FKViolation {
		t.Fatalf("dropping the index that proves a foreign key: %q", got)
	}
	w.check()
}

// TestAnIndexThatIsNotTheOnlyProofMayGo, whether it is whole or half built.
func TestAnIndexThatIsNotTheOnlyProofMayGo(t *testing.T) {
	w := newBench(t, 1)
	w.create(parentManifest)
	w.create(fmt.Sprintf(cityManifest, "email"))
	w.announce("half", "email")
	tbl := w.announce("whole", "email")
	if err := w.commit(func(b *rows.Builder) error { return b.FinishIndex(tbl, "whole") }); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"half", "whole"} {
		if err := w.dropIndex(name); err != nil {
			t.Errorf("index %s beside the one of the manifest: %v", name, err)
		}
	}
	w.check()
}

// TestABuildKnowsItsIndexById: one of its name that is being built as well is
// not filled for it, nor made usable.
func TestABuildKnowsItsIndexById(t *testing.T) {
	w := newBench(t, 1)
	w.create(parentManifest)
	first := w.announce("extra", "city", "id")
	if err := w.dropIndex("extra"); err != nil {
		t.Fatal(err)
	}
	w.announce("extra", "email", "id")
	ix, _ := first.Index("extra")
	if got := fault.CodeOf(w.commit(func(b *rows.Builder) error { return b.FillIndex(first, ix, nil) })); got != fault.Conflict {
		t.Errorf("filling: %q", got)
	}
	if got := fault.CodeOf(w.commit(func(b *rows.Builder) error { return b.FinishIndex(first, "extra") })); got != fault.Conflict {
		t.Errorf("finishing: %q", got)
	}
	w.check()
}

// TestEveryChangeOfATableLeavesTheStoredCatalog: what a frame leaves as the
// tenant's catalog is what its records say, whatever kind of DDL it holds.
func TestEveryChangeOfATableLeavesTheStoredCatalog(t *testing.T) {
	w := newBench(t, 1)
	var made *table.Catalog
	ddl := func(what string, f func(b *rows.Builder) error) {
		t.Helper()
		if err := w.commit(func(b *rows.Builder) error {
			if err := f(b); err != nil {
				return err
			}
			made = b.Changed()[tenant]
			return nil
		}); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		stored, err := table.LoadCatalog(w.store, tenant)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(made, stored) {
			t.Fatalf("%s: the frame's catalog has %q, the stored one %q", what, made.Names(), stored.Names())
		}
	}
	create := func(manifest string) func(b *rows.Builder) error {
		return func(b *rows.Builder) error {
			_, _, err := b.CreateTable(tenant, []byte(manifest))
			return err
		}
	}
	ddl("create the parent", create(parentManifest))
	ddl("create the child", create(childManifest))
	for _, name := range []string{"shop.customers", "shop.orders"} {
		ddl("create index", func(b *rows.Builder) error {
			_, err := b.CreateIndex(tenant, name, table.IndexRecord{Name: "extra", Columns: []string{"id"}})
			return err
		})
		ddl("finish index", func(b *rows.Builder) error { return b.FinishIndex(w.table(name), "extra") })
		ddl("drop index", func(b *rows.Builder) error { return b.DropIndex(tenant, name, "extra") })
	}
	ddl("two changes in a frame", func(b *rows.Builder) error {
		if err := b.DropTable(tenant, "shop.orders"); err != nil {
			return err
		}
		_, err := b.CreateIndex(tenant, "shop.customers", table.IndexRecord{Name: "again", Columns: []string{"id"}})
		return err
	})
	ddl("drop the parent", func(b *rows.Builder) error { return b.DropTable(tenant, "shop.customers") })
}
