package table

import (
	"errors"
	"fmt"
	"slices"
	"sort"

	"github.com/oklog/ulid/v2"

	"originchain/shared/fault"
	"originchain/shared/lsn"
	"originchain/shared/schema"
)

// Table is a table of one tenant: its compiled schema with the ids its keys
// carry. It is immutable; a change of the schema makes a new one.
type Table struct {
	*schema.Table
	Tenant ulid.ULID
	// ChangedLSN is the frame that last wrote the table's record.
	ChangedLSN lsn.LSN
	// Source is the manifest as it was registered.
	Source string
	// Referrers are the foreign keys, of this and other tables, that point here.
	Referrers []Referrer

	record *Record
}

// Referrer is one foreign key that points at a table.
type Referrer struct {
	Child *Table
	FK    schema.ForeignKey
	// Index of the child whose first column is the foreign key's column.
	Index schema.Index
}

// Record returns a copy of the stored record, to be changed and stored again.
func (t *Table) Record() *Record {
	r := *t.record
	r.Indexes = slices.Clone(t.record.Indexes)
	return &r
}

// Usable returns the indexes that readers may use.
func (t *Table) Usable() []schema.Index {
	out := make([]schema.Index, 0, len(t.Indexes))
	for _, ix := range t.Indexes {
		if ix.Ready {
			out = append(out, ix)
		}
	}
	return out
}

// Index finds an index by name.
func (t *Table) Index(name string) (schema.Index, bool) {
	for _, ix := range t.Indexes {
		if ix.Name == name {
			return ix, true
		}
	}
	return schema.Index{}, false
}

// Catalog is the set of tables of one tenant at one LSN. Immutable.
type Catalog struct {
	Tenant ulid.ULID
	tables map[string]*Table
	names  []string
}

// LoadCatalog reads a tenant's tables from a view and joins their foreign keys.
func LoadCatalog(v View, tenant ulid.ULID) (*Catalog, error) {
	c := &Catalog{Tenant: tenant, tables: map[string]*Table{}}
	lo, hi := RecordRange(tenant, SpaceSchemas)
	it, err := v.Iter(lo, hi, false)
	if err != nil {
		return nil, err
	}
	for it.Next() {
		t, err := decodeTable(tenant, string(it.Key()[prefixSize:]), it.Value())
		if err != nil {
			return nil, errors.Join(err, it.Close())
		}
		c.tables[t.Table.ID] = t
		c.names = append(c.names, t.Table.ID)
	}
	err = it.Err()
	if cerr := it.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	return c, c.join()
}

// DecodeTable makes a table of its stored record alone, without the foreign keys that
// point at it.
func DecodeTable(tenant ulid.ULID, name string, record []byte) (*Table, error) {
	return decodeTable(tenant, name, record)
}

func decodeTable(tenant ulid.ULID, name string, value []byte) (*Table, error) {
	r, err := DecodeRecord(value)
	if err != nil {
		return nil, fmt.Errorf("table %s of tenant %s: %w", name, tenant, err)
	}
	m, err := schema.ParseManifest([]byte(r.Manifest))
	if err != nil {
		return nil, fmt.Errorf("stored manifest of %s, tenant %s: %w", name, tenant, err)
	}
	st, err := schema.Compile(m)
	if err != nil {
		return nil, fmt.Errorf("stored manifest of %s, tenant %s: %w", name, tenant, err)
	}
	st.TableID = r.TableID
	t := &Table{Table: st, Tenant: tenant, ChangedLSN: r.ChangedLSN, Source: r.Manifest, record: r}
	return t, t.bindIndexes()
}

// bindIndexes gives the compiled indexes their stored ids and adds those that
// CREATE INDEX made.
func (t *Table) bindIndexes() error {
	implicit := map[string]bool{}
	for _, ix := range t.Indexes {
		implicit[ix.Name] = ix.Implicit
	}
	bound := make([]schema.Index, 0, len(t.record.Indexes))
	for _, r := range t.record.Indexes {
		ix := schema.Index{Name: r.Name, Unique: r.Unique, ID: r.ID, Ready: !r.Building, Implicit: implicit[r.Name]}
		for _, name := range r.Columns {
			i, ok := t.ColumnIndex(name)
			if !ok {
				return fmt.Errorf("table %s: stored index %s names column %s, which its manifest does not have", t.Table.ID, r.Name, name)
			}
			ix.Columns = append(ix.Columns, i)
		}
		bound = append(bound, ix)
	}
	t.Indexes = bound
	return nil
}

// join resolves foreign keys into Referrers, in name order.
func (c *Catalog) join() error {
	sort.Strings(c.names)
	for _, name := range c.names {
		child := c.tables[name]
		for _, fk := range child.ForeignKeys {
			r, parent, err := c.referrer(child, fk)
			if err != nil {
				return err
			}
			parent.Referrers = append(parent.Referrers, r)
		}
	}
	return nil
}

// referrer resolves one foreign key of a table.
func (c *Catalog) referrer(child *Table, fk schema.ForeignKey) (r Referrer, parent *Table, err error) {
	parent, ok := c.tables[fk.TargetSchema]
	if !ok {
		return r, nil, errNoTarget(child.Table.ID, fk.TargetSchema)
	}
	ix, ok := child.leadingIndex(fk.Column)
	if !ok {
		return r, nil, fmt.Errorf("table %s: no index leads with foreign key column %s", child.Table.ID, child.Columns[fk.Column].Name)
	}
	return Referrer{Child: child, FK: fk, Index: ix}, parent, nil
}

func errNoTarget(child, target string) error {
	return fmt.Errorf("table %s: foreign key to %s, which does not exist", child, target)
}

// leadingIndex finds an index that begins with the column. One that is still
// being built does not count: it cannot prove that no child exists.
func (t *Table) leadingIndex(col int) (schema.Index, bool) {
	for _, ix := range t.Indexes {
		if ix.Ready && ix.Columns[0] == col {
			return ix, true
		}
	}
	return schema.Index{}, false
}

// Table finds a table by "namespace.table"; unknown is a fault.
func (c *Catalog) Table(name string) (*Table, error) {
	if t, ok := c.tables[name]; ok {
		return t, nil
	}
	return nil, fault.New(fault.UnknownTable, "table %q does not exist in this tenant; register its manifest with POST /v1/tenants/%s/schemas or CREATE TABLE first", name, c.Tenant)
}

// Lookup finds a table by "namespace.table".
func (c *Catalog) Lookup(name string) (*Table, bool) {
	t, ok := c.tables[name]
	return t, ok
}

// Names lists the tables in name order.
func (c *Catalog) Names() []string { return c.names }
