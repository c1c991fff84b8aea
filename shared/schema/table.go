package schema

import (
	"slices"
	"strings"

	"originchain/shared/fault"
)

// Table is a manifest made ready for use. It is read only once Compile has
// returned it, but for the ids that the catalog fills in, and safe for
// concurrent use.
type Table struct {
	ID          string // "namespace.table"
	Version     uint32
	Columns     []Column // the declared columns, then the extractions
	PK          []int    // positions in Columns
	Indexes     []Index  // the declared ones, then those that foreign keys imply
	ForeignKeys []ForeignKey
	Checks      []Check
	Manifest    *Manifest
	TableID     uint32 // assigned by the catalog, 0 until then

	byName map[string]int
	json   jsonPlan
}

// Column is one column of a Table.
type Column struct {
	Name string
	Type Type
	// Required: NULL is refused. Always set for primary key columns.
	Required bool
	// Default is taken when a row does not name the column; NULL without one.
	Default Value
	// Extraction says that the value is read from JSON at Path.
	Extraction bool
	Path       []string
}

// Index is a secondary index. ID and Ready are the catalog's: an index is Ready
// when every row has its entry.
type Index struct {
	Name    string
	Columns []int
	Unique  bool
	ID      uint32
	Ready   bool
	// Implicit indexes were made for a foreign key, so that deleting a parent
	// never scans its children. Their names, "fk:" and the column, cannot collide
	// with a declared name.
	Implicit bool
}

// ForeignKey is a constraint on one column.
type ForeignKey struct {
	Column       int
	TargetSchema string // "namespace.table"
	TargetColumn string
}

// Compile checks m and makes it a Table. Faults are as those of ParseManifest,
// without lines. The Table keeps m, which must not change after.
func Compile(m *Manifest) (*Table, error) {
	var f manifestFaults
	m.validate(&f)
	if err := f.err(); err != nil {
		return nil, err
	}
	t := &Table{ID: m.ID(), Version: m.Version, Manifest: m, Checks: m.CheckConstraints}
	for _, c := range m.Columns {
		t.Columns = append(t.Columns, Column{Name: c.Name, Type: c.Type, Required: c.Required, Default: c.Default})
	}
	for _, e := range m.Extractions {
		t.Columns = append(t.Columns, Column{Name: e.Name, Type: e.Type, Extraction: true, Path: strings.Split(e.Path, ".")})
	}
	t.byName = make(map[string]int, len(t.Columns))
	for i, c := range t.Columns {
		t.byName[c.Name] = i
	}
	t.PK = t.positions(m.PrimaryKey)
	for _, i := range t.PK {
		t.Columns[i].Required = true
	}
	for _, x := range m.Indexes {
		t.Indexes = append(t.Indexes, Index{Name: x.Name, Columns: t.positions(x.Columns), Unique: x.Unique})
	}
	for _, col := range m.impliedIndexes() {
		t.Indexes = append(t.Indexes, Index{Name: "fk:" + col, Columns: t.positions([]string{col}), Implicit: true})
	}
	for _, k := range m.ForeignKeys {
		t.ForeignKeys = append(t.ForeignKeys, ForeignKey{Column: t.byName[k.FromCol], TargetSchema: k.TargetSchema, TargetColumn: k.TargetCol})
	}
	t.json = newJSONPlan(t)
	return t, nil
}

// positions resolves names that validate has found to exist.
func (t *Table) positions(names []string) []int {
	out := make([]int, len(names))
	for i, n := range names {
		out[i] = t.byName[n]
	}
	return out
}

// impliedIndexes are the foreign key columns that no declared index begins with,
// in declaration order, each once.
func (m *Manifest) impliedIndexes() []string {
	led := map[string]bool{}
	for _, x := range m.Indexes {
		if len(x.Columns) > 0 {
			led[x.Columns[0]] = true
		}
	}
	var cols []string
	for _, k := range m.ForeignKeys {
		if !led[k.FromCol] {
			led[k.FromCol] = true
			cols = append(cols, k.FromCol)
		}
	}
	return cols
}

// ColumnIndex is the position of a column or extraction in Columns.
func (t *Table) ColumnIndex(name string) (int, bool) {
	i, ok := t.byName[name]
	return i, ok
}

// CheckIndex decides whether an index of this name over these columns may join
// the have indexes of the table: unknown_column or validation_failed if not.
func CheckIndex(t *Table, name string, columns []string, have int) error {
	if !validIdentifier(name) {
		return fault.New(fault.ValidationFailed, "%q is not an index name: a letter or _, then letters, digits and _, at most %d in all", name, MaxIdentifierSize)
	}
	if have >= MaxIndexes {
		return fault.New(fault.ValidationFailed, "table %s has %d indexes, which is the most it may have; drop one before creating %q", t.ID, have, name)
	}
	if len(columns) == 0 || len(columns) > MaxKeyColumns {
		return fault.New(fault.ValidationFailed, "index %q of table %s names %d columns; give 1 to %d", name, t.ID, len(columns), MaxKeyColumns)
	}
	for i, c := range columns {
		if _, ok := t.byName[c]; !ok {
			return t.errUnknownColumn(c)
		}
		if slices.Contains(columns[:i], c) {
			return fault.New(fault.ValidationFailed, "index %q of table %s names column %q twice", name, t.ID, c)
		}
	}
	return nil
}

// Check decides whether r may be stored: as many values as columns, each of its
// column's type, valid UTF-8, finite numbers, and no NULL in a required column.
// Rows from DecodeJSON pass; rows built elsewhere, as from SQL, need it.
func (t *Table) Check(r Row) error {
	if len(r) != len(t.Columns) {
		return fault.New(fault.ValidationFailed, "a row of %d values for table %s, which has %d columns", len(r), t.ID, len(t.Columns))
	}
	var missing []string
	for i := range r {
		c, v := &t.Columns[i], r[i]
		switch {
		case v.t == TypeNull:
			if c.Required {
				missing = append(missing, c.Name)
			}
		case v.t != c.Type:
			return fault.New(fault.TypeMismatch, "column %q of table %s is %s and cannot hold a %s", c.Name, t.ID, c.Type, v.t).With("column", c.Name)
		default:
			if why := storable(v); why != "" {
				return fault.New(fault.TypeMismatch, "column %q of table %s is %s, and its value %s", c.Name, t.ID, c.Type, why).With("column", c.Name)
			}
		}
	}
	if missing != nil {
		return t.errMissing(missing)
	}
	return nil
}

func (t *Table) errMissing(columns []string) error {
	if len(columns) == 1 {
		return fault.New(fault.MissingColumn, "table %s requires column %q; give it a value", t.ID, columns[0]).With("columns", columns)
	}
	return fault.New(fault.MissingColumn, "table %s requires columns %s; give them values", t.ID, strings.Join(columns, ", ")).With("columns", columns)
}

// errUnknownColumn names the columns there are, as many as fit a line.
func (t *Table) errUnknownColumn(name string) error {
	const most = 20
	var names []string
	for _, c := range t.Columns[:min(most, len(t.Columns))] {
		names = append(names, c.Name)
	}
	if len(t.Columns) > most {
		names = append(names, "…")
	}
	return fault.New(fault.UnknownColumn, "table %s has no column %q; its columns are %s", t.ID, clip(name, maxQuoted), strings.Join(names, ", ")).With("column", clip(name, maxQuoted))
}
