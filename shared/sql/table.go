package sql

import (
	"errors"
	"strings"

	gms "github.com/dolthub/go-mysql-server/sql"

	"originchain/shared/table"
)

// primaryName is what the planner calls the index of the primary key.
const primaryName = "PRIMARY"

// scanTable shows one table to the planner, in one statement. The planner asks
// for copies with fewer columns, or bound to an index; each is immutable.
type scanTable struct {
	st      *statement
	t       *table.Table
	ns      string
	name    string
	full    gms.PrimaryKeySchema
	columns gms.Schema // as projected
	// proj are the columns to return, in order; nil is all of them.
	proj  []int
	names []string
	// hidden are the indexes not to offer; noIndexes offers none.
	hidden    map[string]bool
	noIndexes bool
}

var (
	_ gms.PrimaryKeyTable       = (*scanTable)(nil)
	_ gms.ProjectedTable        = (*scanTable)(nil)
	_ gms.StatisticsTable       = (*scanTable)(nil)
	_ gms.IndexAddressableTable = (*scanTable)(nil)
	_ gms.Databaseable          = (*scanTable)(nil)
)

func newScanTable(st *statement, t *table.Table) *scanTable {
	ns, name, _ := strings.Cut(t.Table.ID, ".")
	s := &scanTable{st: st, t: t, ns: ns, name: name}
	pk := make(map[int]bool, len(t.PK))
	for _, c := range t.PK {
		pk[c] = true
	}
	cols := make([]gms.Column, len(t.Columns))
	s.columns = make(gms.Schema, len(t.Columns))
	for i := range t.Columns {
		c := &t.Columns[i]
		cols[i] = gms.Column{
			Name: c.Name, Type: plannerType(c.Type), Nullable: !c.Required && !pk[i],
			Source: name, DatabaseSource: ns, PrimaryKey: pk[i],
		}
		s.columns[i] = &cols[i]
	}
	s.full = gms.NewPrimaryKeySchema(s.columns, t.PK...)
	return s
}

// Name implements gms.Table.
func (s *scanTable) Name() string { return s.name }

func (s *scanTable) String() string { return s.name }

// Database implements gms.Databaseable.
func (s *scanTable) Database() string { return s.ns }

// Schema implements gms.Table: the projected columns.
func (s *scanTable) Schema() gms.Schema { return s.columns }

// PrimaryKeySchema implements gms.PrimaryKeyTable: every column.
func (s *scanTable) PrimaryKeySchema() gms.PrimaryKeySchema { return s.full }

// Collation implements gms.Table.
func (s *scanTable) Collation() gms.CollationID { return gms.Collation_utf8mb4_0900_bin }

// WithProjections implements gms.ProjectedTable.
func (s *scanTable) WithProjections(names []string) gms.Table {
	n := *s
	n.names = names
	n.proj = make([]int, 0, len(names))
	n.columns = make(gms.Schema, 0, len(names))
	for _, name := range names {
		i := s.full.Schema.IndexOfColName(name)
		if i < 0 {
			continue
		}
		n.proj = append(n.proj, i)
		n.columns = append(n.columns, s.full.Schema[i])
	}
	return &n
}

// Projections implements gms.ProjectedTable.
func (s *scanTable) Projections() []string { return s.names }

// RowCount implements gms.StatisticsTable. The counter is exact, own writes
// included, so COUNT(*) without a filter is answered by it. A SELECT … FOR
// UPDATE must read its rows, so there the number is only an estimate.
func (s *scanTable) RowCount(*gms.Context) (uint64, bool, error) {
	c, err := s.st.tx.Counters(table.CounterKey(s.t.Tenant, s.t.TableID, 0))
	return c.Entries, !s.st.lock, s.st.fail(err)
}

// DataLength implements gms.StatisticsTable.
func (s *scanTable) DataLength(*gms.Context) (uint64, error) {
	c, err := s.st.tx.Counters(table.CounterKey(s.t.Tenant, s.t.TableID, 0))
	return c.Bytes, s.st.fail(err)
}

// GetIndexes implements gms.IndexAddressable: the primary key, then every index
// that readers may use, but for those that are not to be chosen.
func (s *scanTable) GetIndexes(*gms.Context) ([]gms.Index, error) {
	if s.noIndexes {
		return nil, nil
	}
	usable := s.t.Usable()
	out := make([]gms.Index, 0, 1+len(usable))
	if !s.hidden[primaryName] {
		out = append(out, s.index(primaryName, s.t.PK, true, nil))
	}
	for i := range usable {
		if ix := &usable[i]; !s.hidden[ix.Name] {
			out = append(out, s.index(ix.Name, ix.Columns, ix.Unique, ix))
		}
	}
	return out, nil
}

// PreciseMatch implements gms.IndexAddressable. The filter is kept above every
// lookup: it costs one evaluation per row that matched, and it makes every
// conversion between types that the planner does for a lookup harmless.
func (s *scanTable) PreciseMatch() bool { return false }

// IndexedAccess implements gms.IndexAddressable.
func (s *scanTable) IndexedAccess(_ *gms.Context, lookup gms.IndexLookup) gms.IndexedTable {
	return &indexedTable{scanTable: s, ix: lookup.Index.(*index)}
}

// Partitions implements gms.Table: one, all rows in order of the primary key.
func (s *scanTable) Partitions(*gms.Context) (gms.PartitionIter, error) {
	lower, upper := table.RowRange(s.t)
	return gms.PartitionsToPartitionIter(&span{ranges: []keyRange{{lower: lower, upper: upper}}}), nil
}

// PartitionRows implements gms.Table.
func (s *scanTable) PartitionRows(_ *gms.Context, p gms.Partition) (gms.RowIter, error) {
	return newScan(s, p.(*span)), nil
}

// indexedTable is a table read through one index.
type indexedTable struct {
	*scanTable
	ix *index
}

var (
	_ gms.IndexedTable   = (*indexedTable)(nil)
	_ gms.ProjectedTable = (*indexedTable)(nil)
)

// WithProjections implements gms.ProjectedTable.
func (t *indexedTable) WithProjections(names []string) gms.Table {
	return &indexedTable{scanTable: t.scanTable.WithProjections(names).(*scanTable), ix: t.ix}
}

// LookupPartitions implements gms.IndexedTable. The planner reuses the lookup's
// memory for the next one, so the ranges become keys at once.
func (t *indexedTable) LookupPartitions(_ *gms.Context, lookup gms.IndexLookup) (gms.PartitionIter, error) {
	if lookup.IsEmptyRange {
		return gms.PartitionsToPartitionIter(), nil
	}
	ranges, ok := lookup.Ranges.(gms.MySQLRangeCollection)
	if !ok {
		return nil, errors.New("index lookup without ranges")
	}
	p := &span{ix: t.ix, reverse: lookup.IsReverse}
	for _, r := range ranges {
		kr, ok, err := t.ix.keyRange(r)
		if err != nil {
			return nil, err
		}
		if ok {
			p.ranges = append(p.ranges, kr)
		}
	}
	if len(p.ranges) == 0 {
		return gms.PartitionsToPartitionIter(), nil
	}
	return gms.PartitionsToPartitionIter(p), nil
}
