package verification

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/datadir"
	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/schema"
	"originchain/shared/table"
	"originchain/shared/wal"
)

// pair is the key and value of a row or entry in a state.
type pair struct{ key, value []byte }

// find returns the first pair of a range.
func find(t *testing.T, v table.View, lower, upper []byte) pair {
	t.Helper()
	it, err := v.Iter(lower, upper, false)
	if err != nil {
		t.Fatal(err)
	}
	if !it.Next() {
		t.Fatalf("nothing between %x and %x", lower, upper)
	}
	p := pair{append([]byte(nil), it.Key()...), append([]byte(nil), it.Value()...)}
	if err := it.Close(); err != nil {
		t.Fatal(err)
	}
	return p
}

func put(key, value []byte, old []byte) frame.Op {
	op := frame.Op{Type: frame.Put, Key: key, Value: value}
	if old != nil {
		op.HadOld, op.Old = true, frame.PairHash(key, old)
	}
	return op
}

func remove(p pair) frame.Op {
	return frame.Op{Type: frame.Delete, Key: p.key, HadOld: true, Old: frame.PairHash(p.key, p.value)}
}

// write puts operations into the state: as a frame of the log with all that
// belongs to it, or behind the log's back.
func write(t *testing.T, dir string, inLog bool, damage func(*table.Store, *table.Catalog) []frame.Op) {
	t.Helper()
	d, err := datadir.Open(datadir.Options{FS: vfs.Default, Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	store, err := table.Open(table.Options{FS: vfs.Default, Dir: d.State(), Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	cat, err := table.LoadCatalog(store, shop)
	if err != nil {
		t.Fatal(err)
	}
	at, err := store.Applied()
	if err != nil {
		t.Fatal(err)
	}
	ops := damage(store, cat)
	if inLog {
		at = appendFrame(t, d, at, ops)
	}
	b := store.NewBatch()
	for i := range ops {
		if err := b.Add(&ops[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(b.Commit(at), b.Close(), store.Flush(), store.Close(), d.Close()); err != nil {
		t.Fatal(err)
	}
}

// appendFrame appends operations to the log and returns where a state that has them stands.
func appendFrame(t *testing.T, d *datadir.Dir, at table.Applied, ops []frame.Op) table.Applied {
	t.Helper()
	log, err := wal.Open(wal.Options{FS: vfs.Default, Dir: d.Log(), Instance: [16]byte(d.Identity().InstanceID), Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	at.Pos = lsn.Pos{Epoch: at.Pos.Epoch + 1, LSN: at.Pos.LSN + 1}
	if err := log.BeginEpoch(at.Pos.Epoch); err != nil {
		t.Fatal(err)
	}
	at.Digest = at.Digest.Add(frame.Delta(ops))
	entry := wal.Entry{Kind: frame.KindData, LSN: at.Pos.LSN, Timestamp: at.Stamp, Digest: at.Digest, Body: frame.AppendOps(nil, ops)}
	if err := errors.Join(log.Append([]wal.Entry{entry}), log.Sync()); err != nil {
		t.Fatal(err)
	}
	at.Chain = log.Tail().Chain
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	return at
}

// contentDamages are what can be wrong with the pairs of a state.
var contentDamages = []struct {
	name string
	ops  func(t *testing.T, s *table.Store, cat *table.Catalog) []frame.Op
	// want is the fault that must be among those found; Key is how it begins.
	want Fault
}{
	{"a flipped counter", func(t *testing.T, s *table.Store, cat *table.Catalog) []frame.Op {
		tbl, _ := cat.Lookup("shop.customers")
		key := table.CounterKey(shop, tbl.TableID, 0)
		old, _, err := s.Get(key)
		if err != nil {
			t.Fatal(err)
		}
		flipped := append([]byte(nil), old...)
		flipped[0] ^= 1
		return []frame.Op{put(key, flipped, old)}
	}, Fault{Check: CheckCounters, Table: "shop.customers", Problem: "the counter says 200 entries"}},
	{"a counter's sum", func(t *testing.T, s *table.Store, cat *table.Catalog) []frame.Op {
		tbl, _ := cat.Lookup("shop.orders")
		ix, _ := tbl.Index("fk:customer")
		key := table.CounterKey(shop, tbl.TableID, ix.ID)
		old, _, err := s.Get(key)
		if err != nil {
			t.Fatal(err)
		}
		flipped := append([]byte(nil), old...)
		flipped[len(flipped)-1] ^= 1
		return []frame.Op{put(key, flipped, old)}
	}, Fault{Check: CheckCounters, Table: "shop.orders", Index: "fk:customer", Problem: "add up to"}},
	{"a missing entry", func(t *testing.T, s *table.Store, cat *table.Catalog) []frame.Op {
		tbl, _ := cat.Lookup("shop.customers")
		ix, _ := tbl.Index("later")
		lower, upper := table.IndexRange(tbl, ix)
		return []frame.Op{remove(find(t, s, lower, upper))}
	}, Fault{Check: CheckIndexes, Table: "shop.customers", Index: "later", Problem: "a row has no entry"}},
	{"an entry too many", func(t *testing.T, _ *table.Store, cat *table.Catalog) []frame.Op {
		tbl, _ := cat.Lookup("shop.orders")
		ix, _ := tbl.Index("fk:customer")
		pk := schema.AppendKey(nil, schema.I64(5))
		key, _ := table.IndexEntry(nil, tbl, ix, schema.Row{schema.I64(5), schema.I64(9)}, pk)
		return []frame.Op{put(key, table.AppendIndexValue(nil, 1, nil), nil)}
	}, Fault{Check: CheckIndexes, Table: "shop.orders", Index: "fk:customer", Problem: "not the one that its row makes"}},
	{"an entry of no row", func(t *testing.T, _ *table.Store, cat *table.Catalog) []frame.Op {
		tbl, _ := cat.Lookup("shop.orders")
		ix, _ := tbl.Index("fk:customer")
		pk := schema.AppendKey(nil, schema.I64(9999))
		key, _ := table.IndexEntry(nil, tbl, ix, schema.Row{schema.I64(9999), schema.I64(9)}, pk)
		return []frame.Op{put(key, table.AppendIndexValue(nil, 1, nil), nil)}
	}, Fault{Check: CheckIndexes, Table: "shop.orders", Index: "fk:customer", Problem: "a row that does not exist"}},
	{"an entry of no known form", func(_ *testing.T, _ *table.Store, cat *table.Catalog) []frame.Op {
		tbl, _ := cat.Lookup("shop.orders")
		ix, _ := tbl.Index("fk:customer")
		key := append(table.AppendIndexPrefix(nil, shop, tbl.TableID, ix.ID), 0xEE)
		return []frame.Op{put(key, table.AppendIndexValue(nil, 1, nil), nil)}
	}, Fault{Check: CheckIndexes, Table: "shop.orders", Index: "fk:customer", Problem: "cannot be read to its end"}},
	{"a unique entry of another row", func(t *testing.T, s *table.Store, cat *table.Catalog) []frame.Op {
		tbl, _ := cat.Lookup("shop.customers")
		ix, _ := tbl.Index("by_email")
		pk := schema.AppendKey(nil, schema.I64(3))
		key, _ := table.IndexEntry(nil, tbl, ix, schema.Row{schema.I64(3), schema.Str("c3@example.com")}, pk)
		old, _, err := s.Get(key)
		if err != nil {
			t.Fatal(err)
		}
		return []frame.Op{put(key, table.AppendIndexValue(nil, 1, schema.AppendKey(nil, schema.I64(4))), old)}
	}, Fault{Check: CheckIndexes, Table: "shop.customers", Index: "by_email", Problem: "stands for another row"}},
	{"a reference to nothing", func(t *testing.T, s *table.Store, cat *table.Catalog) []frame.Op {
		tbl, _ := cat.Lookup("shop.customers")
		lower, upper := table.RowRange(tbl)
		return []frame.Op{remove(find(t, s, lower, upper))}
	}, Fault{Check: CheckForeignKeys, Table: "shop.orders", Problem: "column customer points to a row of shop.customers"}},
	{"a row that does not decode", func(t *testing.T, s *table.Store, cat *table.Catalog) []frame.Op {
		tbl, _ := cat.Lookup("shop.orders")
		lower, upper := table.RowRange(tbl)
		p := find(t, s, lower, upper)
		return []frame.Op{put(p.key, p.value[:len(p.value)-1], p.value)}
	}, Fault{Check: CheckRows, Table: "shop.orders", Problem: "the row cannot be read"}},
	{"a row of the future", func(t *testing.T, s *table.Store, cat *table.Catalog) []frame.Op {
		tbl, _ := cat.Lookup("shop.orders")
		lower, upper := table.RowRange(tbl)
		p := find(t, s, lower, upper)
		h, row, err := table.SplitRowValue(p.value)
		if err != nil {
			t.Fatal(err)
		}
		return []frame.Op{put(p.key, table.AppendRowValue(nil, 1, 1<<40, h.SchemaVersion, row), p.value)}
	}, Fault{Check: CheckRows, Table: "shop.orders", Problem: "was written by LSN 1099511627776"}},
	{"a row under another key", func(t *testing.T, s *table.Store, cat *table.Catalog) []frame.Op {
		tbl, _ := cat.Lookup("shop.customers")
		lower, upper := table.RowRange(tbl)
		key, err := table.RowKeyOf(nil, tbl, []schema.Value{schema.I64(777)})
		if err != nil {
			t.Fatal(err)
		}
		return []frame.Op{put(key, find(t, s, lower, upper).value, nil)}
	}, Fault{Check: CheckRows, Table: "shop.customers", Problem: "under another key"}},
	{"rows of no table", func(*testing.T, *table.Store, *table.Catalog) []frame.Op {
		key := schema.AppendKey(table.AppendRowPrefix(nil, shop, 99), schema.I64(1))
		return []frame.Op{put(key, []byte("row"), nil)}
	}, Fault{Check: CheckRecords, Problem: "table number 99"}},
	{"a table without its record", func(t *testing.T, s *table.Store, _ *table.Catalog) []frame.Op {
		key := table.RecordKey(shop, table.SpaceSchemas, []byte("shop.orders"))
		return []frame.Op{remove(find(t, s, key, append(key, 0)))}
	}, Fault{Check: CheckRecords, Problem: "which no table has"}},
	{"a tenant's record", func(t *testing.T, s *table.Store, _ *table.Catalog) []frame.Op {
		lower, upper := table.RecordRange(table.System, table.SpaceTenants)
		p := find(t, s, lower, upper)
		return []frame.Op{put(p.key, []byte("{}"), p.value)}
	}, Fault{Check: CheckRecords, Problem: "tenant record has format 0"}},
	{"an answer that would not expire", func(t *testing.T, s *table.Store, _ *table.Catalog) []frame.Op {
		lower, upper := table.RecordRange(shop, table.SpaceIdemOrder)
		return []frame.Op{remove(find(t, s, lower, upper))}
	}, Fault{Check: CheckRecords, Problem: "no place in the order of expiry"}},
	{"an unknown space", func(*testing.T, *table.Store, *table.Catalog) []frame.Op {
		return []frame.Op{put(table.RecordKey(shop, 77, []byte("x")), []byte("x"), nil)}
	}, Fault{Check: CheckRecords, Problem: "no space 77"}},
}

// TestDamagedContentsAreNamed: each damage is found where it is, by table, index
// and key, and the advice depends on whether the log says the same.
func TestDamagedContentsAreNamed(t *testing.T) {
	src := sound(t)
	for _, d := range contentDamages {
		for _, inLog := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/in_log=%t", d.name, inLog), func(t *testing.T) {
				dir := damaged(t, src)
				write(t, dir, inLog, func(s *table.Store, cat *table.Catalog) []frame.Op { return d.ops(t, s, cat) })
				r := verifyDir(t, dir)
				found := false
				for _, f := range r.Faults {
					if f.Check == CheckDigest {
						continue
					}
					if inLog == (f.Do == doRebuild) || f.Do == "" {
						t.Errorf("%+v: the advice is of another case", f)
					}
					if f.Check == d.want.Check && f.Table == d.want.Table && f.Index == d.want.Index && strings.Contains(f.Problem, d.want.Problem) {
						found = true
						if key, err := hex.DecodeString(f.Key); err != nil || len(key) == 0 && !strings.Contains(f.Problem, ", key ") {
							t.Errorf("%+v: it names no key", f)
						}
					}
				}
				if !found {
					t.Errorf("want %+v, found %+v", d.want, r.Faults)
				}
				if has(r, CheckDigest) == inLog {
					t.Errorf("in the log %t, and a fault of the digest %t", inLog, !inLog)
				}
			})
		}
	}
}
