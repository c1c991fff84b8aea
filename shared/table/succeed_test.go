package table

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"

	"originchain/shared/lsn"
	"originchain/shared/schema"
)

var catalogTenant = ulid.MustParse("01JADE0000000000000000000A")

// evolution changes a catalog step by step, in the store and by succession.
type evolution struct {
	t     *testing.T
	rng   *rand.Rand
	store *Overlay
	now   *Catalog
	at    lsn.LSN
	// before are the older versions, each with what was in the store then.
	before []versionPair
}

type versionPair struct{ made, loaded *Catalog }

// evolvingNames are few, so that changes meet.
var evolvingNames = []string{"shop.a", "shop.b", "shop.c", "shop.d", "shop.e", "shop.f", "shop.g"}

func newEvolution(t *testing.T, seed uint64) *evolution {
	return &evolution{
		t: t, rng: rand.New(rand.NewPCG(seed, 7)), store: NewOverlay(openStore(t)),
		now: &Catalog{Tenant: catalogTenant, tables: map[string]*Table{}},
	}
}

// manifest declares a table with these foreign keys, each from a column of its own.
func manifest(name string, targets []string) string {
	ns, table, _ := strings.Cut(name, ".")
	var b strings.Builder
	fmt.Fprintf(&b, "namespace = %q\ntable = %q\nprimary_key = [\"id\"]\n[[columns]]\nname = \"id\"\nty = \"i64\"\n", ns, table)
	for i := range 3 {
		fmt.Fprintf(&b, "[[columns]]\nname = \"c%d\"\nty = \"i64\"\n", i)
	}
	for i, target := range targets {
		fmt.Fprintf(&b, "[[foreign_keys]]\nfrom_col = \"c%d\"\ntarget_schema = %q\ntarget_col = \"id\"\n", i, target)
	}
	return b.String()
}

// record lays out a table with foreign keys to random tables, its own included.
func (e *evolution) record(name string) *Record {
	e.t.Helper()
	var targets []string
	for range e.rng.IntN(4) {
		known := append([]string{name}, e.now.Names()...)
		targets = append(targets, known[e.rng.IntN(len(known))])
	}
	source := manifest(name, targets)
	m, err := schema.ParseManifest([]byte(source))
	if err != nil {
		e.t.Fatal(err)
	}
	compiled, err := schema.Compile(m)
	if err != nil {
		e.t.Fatal(err)
	}
	return NewRecord(compiled, []byte(source), uint32(e.at)+1, e.at)
}

// change makes up a record for name: a new table, other foreign keys (which can
// close a cycle), or an index announced, finished or dropped.
func (e *evolution) change(name string) *Record {
	have, ok := e.now.Lookup(name)
	if !ok || e.rng.IntN(3) == 0 {
		return e.record(name)
	}
	r := have.Record()
	r.ChangedLSN = e.at
	extra := func(x IndexRecord) bool { return x.Extra }
	switch i := slices.IndexFunc(r.Indexes, extra); {
	case i < 0:
		r.AddIndex(IndexRecord{Name: "extra", Columns: []string{fmt.Sprintf("c%d", e.rng.IntN(3))}, Extra: true, Building: true})
		// An index in front is the one that leads, once it is ready.
		r.Indexes[0], r.Indexes[len(r.Indexes)-1] = r.Indexes[len(r.Indexes)-1], r.Indexes[0]
	case r.Indexes[i].Building:
		r.Indexes[i].Building = false
	default:
		r.Indexes = slices.DeleteFunc(r.Indexes, extra)
	}
	return r
}

func (e *evolution) load() (*Catalog, error) { return LoadCatalog(e.store, catalogTenant) }

// step makes one change and holds the two catalogs against each other.
func (e *evolution) step() {
	e.t.Helper()
	e.at++
	name := evolvingNames[e.rng.IntN(len(evolvingNames))]
	key := string(RecordKey(catalogTenant, SpaceSchemas, []byte(name)))
	old, present := e.now.Lookup(name)
	var next *Catalog
	var err error
	if present && e.rng.IntN(4) == 0 {
		next, err = e.now.Without(name)
		e.store.Set(key, Write{Deleted: true})
	} else {
		value := e.change(name).Encode()
		next, err = e.now.With(name, value)
		e.store.Set(key, Write{Value: value})
	}
	loaded, loadErr := e.load()
	if (err == nil) != (loadErr == nil) {
		e.t.Fatalf("step %d, %s: by succession %v, by loading %v", e.at, name, err, loadErr)
	}
	if err != nil { // a table that others point to stays
		e.store.Set(key, Write{Value: old.record.Encode()})
		return
	}
	if !reflect.DeepEqual(next, loaded) {
		e.t.Fatalf("step %d, %s: by succession\n%sby loading\n%s", e.at, name, sketch(next), sketch(loaded))
	}
	e.checkPointers(name, next)
	e.before = append(e.before, versionPair{next, loaded})
	e.now = next
}

// checkPointers requires one version of each table in a catalog, and a new one
// only of those that hold the changed table, however indirectly.
func (e *evolution) checkPointers(changed string, next *Catalog) {
	e.t.Helper()
	holds := map[string]bool{changed: true}
	for range evolvingNames {
		for _, c := range []*Catalog{e.now, next} {
			for _, t := range c.tables {
				for _, fk := range t.ForeignKeys {
					// The foreign keys of unchanged tables are the same in both.
					holds[fk.TargetSchema] = holds[fk.TargetSchema] || holds[t.Table.ID]
				}
			}
		}
	}
	for name, t := range next.tables {
		for _, r := range t.Referrers {
			if r.Child != next.tables[r.Child.Table.ID] {
				e.t.Fatalf("step %d: %s holds another version of %s than the catalog", e.at, name, r.Child.Table.ID)
			}
		}
		if was := e.now.tables[name]; was != nil && (was == t) == holds[name] {
			e.t.Fatalf("step %d: %s changed; %s is shared: %t", e.at, changed, name, was == t)
		}
	}
}

// sketch prints what a catalog's tables are and who points to them.
func sketch(c *Catalog) string {
	var b strings.Builder
	for _, name := range c.names {
		t := c.tables[name]
		fmt.Fprintf(&b, "  %s changed at %d, indexes %v, referrers", name, t.ChangedLSN, t.Indexes)
		for _, r := range t.Referrers {
			fmt.Fprintf(&b, " %s.%d by %s (%d)", r.Child.Table.ID, r.FK.Column, r.Index.Name, r.Child.ChangedLSN)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// TestSuccessionEqualsLoading: after each of many random changes the catalog
// made from the one before is, to the last field, the one read from the store;
// and no older version has changed.
func TestSuccessionEqualsLoading(t *testing.T) {
	var selfs, cycles, refused int
	for seed := range uint64(20) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			e := newEvolution(t, seed)
			for range 150 {
				was := e.now
				e.step()
				if e.now == was {
					refused++
				}
				s, c := loops(e.now)
				selfs, cycles = selfs+s, cycles+c
			}
			for i, v := range e.before {
				if !reflect.DeepEqual(v.made, v.loaded) {
					t.Fatalf("version %d was changed later: is\n%swas\n%s", i, sketch(v.made), sketch(v.loaded))
				}
			}
		})
	}
	if selfs == 0 || cycles == 0 || refused == 0 {
		t.Errorf("%d self references, %d cycles and %d refusals: the changes are too tame to prove anything", selfs, cycles, refused)
	}
}

// loops counts foreign keys to the table itself and pairs that point at each other.
func loops(c *Catalog) (selfs, pairs int) {
	for name, t := range c.tables {
		for _, r := range t.Referrers {
			child := r.Child.Table.ID
			if child == name {
				selfs++
			} else if slices.ContainsFunc(r.Child.Referrers, func(back Referrer) bool { return back.Child.Table.ID == name }) {
				pairs++
			}
		}
	}
	return selfs, pairs
}

func TestSuccessionRefusesWhatLoadingRefuses(t *testing.T) {
	e := newEvolution(t, 1)
	value := e.record("shop.a").Encode()
	for what, change := range map[string]func() (*Catalog, error){
		"another table's record": func() (*Catalog, error) { return e.now.With("shop.b", value) },
		"bytes":                  func() (*Catalog, error) { return e.now.With("shop.a", []byte("{")) },
		"no target": func() (*Catalog, error) {
			r := &Record{NextIndexID: 1, Manifest: manifest("shop.a", []string{"shop.gone"})}
			r.AddIndex(IndexRecord{Name: "fk:c0", Columns: []string{"c0"}})
			return e.now.With("shop.a", r.Encode())
		},
		"no leading index": func() (*Catalog, error) {
			r := &Record{NextIndexID: 1, Manifest: manifest("shop.a", []string{"shop.a"})}
			return e.now.With("shop.a", r.Encode())
		},
	} {
		if c, err := change(); err == nil {
			t.Errorf("%s was accepted:\n%s", what, sketch(c))
		}
	}
}

// BenchmarkCatalogChange compares making a catalog from the one before with
// loading it, for a tenant of 1,000 tables of which every second has a foreign key.
func BenchmarkCatalogChange(b *testing.B) {
	store := NewOverlay(emptyView{})
	c := &Catalog{Tenant: catalogTenant, tables: map[string]*Table{}}
	var last []byte
	const tables = 1000
	for i := range tables {
		name := fmt.Sprintf("shop.t%04d", i)
		var targets []string
		if i%2 == 1 {
			targets = []string{fmt.Sprintf("shop.t%04d", i-1)}
		}
		source := manifest(name, targets)
		m, err := schema.ParseManifest([]byte(source))
		if err != nil {
			b.Fatal(err)
		}
		compiled, err := schema.Compile(m)
		if err != nil {
			b.Fatal(err)
		}
		last = NewRecord(compiled, []byte(source), uint32(i)+1, 1).Encode()
		if c, err = c.With(name, last); err != nil {
			b.Fatal(err)
		}
		store.Set(string(RecordKey(catalogTenant, SpaceSchemas, []byte(name))), Write{Value: last})
	}
	b.Run("how=load/tables=1000", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := LoadCatalog(store, catalogTenant); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("how=succeed/tables=1000", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.With("shop.t0999", last); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// emptyView is a View of nothing.
type emptyView struct{}

func (emptyView) Get([]byte) ([]byte, bool, error)           { return nil, false, nil }
func (emptyView) Iter(_, _ []byte, _ bool) (Iterator, error) { return emptyIterator{}, nil }

type emptyIterator struct{}

func (emptyIterator) Next() bool    { return false }
func (emptyIterator) Key() []byte   { return nil }
func (emptyIterator) Value() []byte { return nil }
func (emptyIterator) Err() error    { return nil }
func (emptyIterator) Close() error  { return nil }
