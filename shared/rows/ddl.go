package rows

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/oklog/ulid/v2"

	"originchain/shared/fault"
	"originchain/shared/frame"
	"originchain/shared/schema"
	"originchain/shared/table"
)

// maxTablesPerTenant bounds a tenant's catalog, which is held in memory.
const maxTablesPerTenant = 10_000

// CreateTable registers a manifest. Registering the identical manifest again
// changes nothing and returns created false.
func (b *Builder) CreateTable(tenant ulid.ULID, source []byte) (t *table.Table, created bool, err error) {
	m, err := schema.ParseManifest(source)
	if err != nil {
		return nil, false, err
	}
	compiled, err := schema.Compile(m)
	if err != nil {
		return nil, false, err
	}
	cat, err := b.Catalog(tenant)
	if err != nil {
		return nil, false, err
	}
	if have, ok := cat.Lookup(m.ID()); ok {
		return have, false, sameManifest(have, m)
	}
	if len(cat.Names()) >= maxTablesPerTenant {
		return nil, false, fault.New(fault.Conflict, "the tenant has %d tables, which is the most it may have; drop one first", maxTablesPerTenant)
	}
	if err := checkTargets(cat, compiled); err != nil {
		return nil, false, err
	}
	id, err := b.nextTableID(tenant)
	if err != nil {
		return nil, false, err
	}
	r := table.NewRecord(compiled, source, id, b.cfg.LSN)
	t, err = b.putTable(cat, m.ID(), r)
	return t, true, err
}

// sameManifest decides a registration of a table that exists.
func sameManifest(have *table.Table, m *schema.Manifest) error {
	switch {
	case m.Version > have.Manifest.Version:
		return fault.New(fault.Unsupported, "table %s has version %d; online migration to version %d is not available in this server, and nothing was changed. Register a new table and copy the rows", m.ID(), have.Manifest.Version, m.Version)
	case m.Version < have.Manifest.Version:
		return fault.New(fault.Conflict, "table %s already has version %d, above %d; versions only grow", m.ID(), have.Manifest.Version, m.Version).With("current_version", have.Manifest.Version)
	case string(m.TOML()) != string(have.Manifest.TOML()):
		return fault.New(fault.Conflict, "table %s version %d is registered with other content; a changed manifest needs a higher version", m.ID(), m.Version).With("current_version", have.Manifest.Version)
	}
	return nil
}

// checkTargets holds foreign keys to tables and columns that can prove them.
func checkTargets(cat *table.Catalog, t *schema.Table) error {
	for _, fk := range t.ForeignKeys {
		if fk.TargetSchema == t.ID {
			if err := checkTarget(t, t, t.Indexes, fk); err != nil {
				return err
			}
			continue
		}
		target, err := cat.Table(fk.TargetSchema)
		if err != nil {
			return err
		}
		// An index that is half built proves nothing, and has to go if its build fails.
		if err := checkTarget(t, target.Table, target.Usable(), fk); err != nil {
			return err
		}
	}
	return nil
}

// checkTarget requires that the key's target exists, has its type, and is the
// primary key or has one of these indexes to itself.
func checkTarget(t, target *schema.Table, indexes []schema.Index, fk schema.ForeignKey) error {
	from := t.Columns[fk.Column]
	i, ok := target.ColumnIndex(fk.TargetColumn)
	if !ok {
		return fault.New(fault.UnknownColumn, "foreign key %s of table %s points to %s.%s, a column that does not exist", from.Name, t.ID, fk.TargetSchema, fk.TargetColumn)
	}
	if target.Columns[i].Type != from.Type {
		return fault.New(fault.TypeMismatch, "foreign key %s of table %s is %s and points to %s.%s, which is %s; give both the same type", from.Name, t.ID, from.Type, fk.TargetSchema, fk.TargetColumn, target.Columns[i].Type)
	}
	if len(target.PK) == 1 && target.PK[0] == i {
		return nil
	}
	if slices.ContainsFunc(indexes, func(ix schema.Index) bool { return uniqueAlone(ix, i) }) {
		return nil
	}
	return fault.New(fault.ValidationFailed, "foreign key %s of table %s points to %s.%s, which is neither the primary key nor unique; add a unique index there first", from.Name, t.ID, fk.TargetSchema, fk.TargetColumn)
}

// DropTable removes a table with its rows and indexes: a range delete each,
// which carries the sum that the counters kept, so nothing is scanned.
func (b *Builder) DropTable(tenant ulid.ULID, name string) error {
	cat, err := b.Catalog(tenant)
	if err != nil {
		return err
	}
	t, err := cat.Table(name)
	if err != nil {
		return err
	}
	for _, r := range t.Referrers {
		if r.Child.Table.ID != name {
			return fault.New(fault.FKViolation, "table %s is the target of a foreign key of table %s; drop that table first", name, r.Child.Table.ID)
		}
	}
	lower, upper := table.RowRange(t)
	if err := b.dropRange(lower, upper, table.CounterKey(tenant, t.TableID, 0)); err != nil {
		return err
	}
	for _, ix := range t.Indexes {
		if err := b.dropIndexRange(t, ix); err != nil {
			return err
		}
	}
	if err := b.removeRecord(tenant, table.SpaceSchemas, []byte(name)); err != nil {
		return err
	}
	return b.succeed(cat.Without(name))
}

// CreateIndex adds an index that writers maintain from this frame on and
// readers do not use before FinishIndex. Rows that are there are added by
// FillIndex, in frames of their own.
func (b *Builder) CreateIndex(tenant ulid.ULID, name string, ix table.IndexRecord) (*table.Table, error) {
	cat, err := b.Catalog(tenant)
	if err != nil {
		return nil, err
	}
	t, err := cat.Table(name)
	if err != nil {
		return nil, err
	}
	if _, ok := t.Index(ix.Name); ok {
		return nil, fault.New(fault.AlreadyExists, "table %s already has an index %q", name, ix.Name)
	}
	if err := schema.CheckIndex(t.Table, ix.Name, ix.Columns, len(t.Indexes)); err != nil {
		return nil, err
	}
	r := t.Record()
	r.ChangedLSN = b.cfg.LSN
	ix.Extra, ix.Building = true, true
	r.AddIndex(ix)
	return b.putTable(cat, name, r)
}

// FillIndex adds the entries of the rows under these keys, as they are now. A
// row that is gone is passed over; an entry that a writer already made stays.
func (b *Builder) FillIndex(t *table.Table, ix schema.Index, rowKeys [][]byte) error {
	t, _, err := b.underConstruction(t, ix)
	if err != nil {
		return err
	}
	var row schema.Row
	for _, key := range rowKeys {
		var ok bool
		if row, _, ok, err = table.GetRow(b, t, key, row); err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := b.fillEntry(t, ix, row, table.PKTuple(key)); err != nil {
			return err
		}
	}
	return nil
}

// underConstruction returns the table as this frame sees it, if ix is still being
// built in it. The index is known by its id, as one of its name may have been
// made since; other changes of the table, such as another index, do not end a
// build.
func (b *Builder) underConstruction(t *table.Table, ix schema.Index) (*table.Table, *table.Catalog, error) {
	cat, err := b.Catalog(t.Tenant)
	if err != nil {
		return nil, nil, err
	}
	if now, ok := cat.Lookup(t.Table.ID); ok && now.TableID == t.TableID {
		if have, ok := now.Index(ix.Name); ok && have.ID == ix.ID && !have.Ready {
			return now, cat, nil
		}
	}
	return nil, nil, fault.New(fault.Conflict, "index %q of table %s was dropped while it was built; create it again if it is wanted", ix.Name, t.Table.ID)
}

func (b *Builder) fillEntry(t *table.Table, ix schema.Index, row schema.Row, pkTuple []byte) error {
	key, inValue := table.IndexEntry(nil, t, ix, row, pkTuple)
	if len(key) > maxIndexKeyBytes {
		return fault.New(fault.ValidationFailed, "a row of table %s has a value that takes %d bytes in index %q, more than %d; shorten it first", t.Table.ID, len(key), ix.Name, maxIndexKeyBytes)
	}
	value, present, err := b.Get(key)
	if err != nil {
		return err
	}
	if present {
		if inValue && string(table.IndexValuePK(value)) != string(pkTuple) {
			return errUnique(t, ix)
		}
		return nil
	}
	var tail []byte
	if inValue {
		tail = pkTuple
	}
	return b.set(table.CounterKey(t.Tenant, t.TableID, ix.ID), key, table.AppendIndexValue(nil, b.cfg.Salt(), tail), nil, false)
}

// FinishIndex makes a built index usable, in one frame.
func (b *Builder) FinishIndex(t *table.Table, name string) error {
	ix, ok := t.Index(name)
	if !ok {
		return fmt.Errorf("rows: index %s of table %s was not announced", name, t.Table.ID)
	}
	t, cat, err := b.underConstruction(t, ix)
	if err != nil {
		return err
	}
	r := t.Record()
	r.ChangedLSN = b.cfg.LSN
	for i := range r.Indexes {
		if r.Indexes[i].ID == ix.ID {
			r.Indexes[i].Building = false
		}
	}
	_, err = b.putTable(cat, t.Table.ID, r)
	return err
}

// DropIndex removes an index that CREATE INDEX made. One that the manifest
// declares, or that a foreign key stands on, stays.
func (b *Builder) DropIndex(tenant ulid.ULID, name, index string) error {
	cat, err := b.Catalog(tenant)
	if err != nil {
		return err
	}
	t, err := cat.Table(name)
	if err != nil {
		return err
	}
	ix, ok := t.Index(index)
	if !ok {
		return fault.New(fault.NotFound, "table %s has no index %q", name, index)
	}
	r := t.Record()
	r.ChangedLSN = b.cfg.LSN
	kept := r.Indexes[:0]
	for _, x := range r.Indexes {
		if x.Name != index {
			kept = append(kept, x)
		} else if !x.Extra {
			return fault.New(fault.Unsupported, "index %q belongs to the manifest of table %s and cannot be dropped by itself", index, name)
		}
	}
	r.Indexes = kept
	if ref, ok := leansOn(t, ix); ok {
		return fault.New(fault.FKViolation, "index %q proves the foreign key of table %s; drop that table first", index, ref)
	}
	if err := b.dropIndexRange(t, ix); err != nil {
		return err
	}
	_, err = b.putTable(cat, name, r)
	return err
}

// leansOn finds a foreign key that only this unique index can prove.
func leansOn(t *table.Table, ix schema.Index) (string, bool) {
	for _, r := range t.Referrers {
		col, _ := t.ColumnIndex(r.FK.TargetColumn)
		proof := func(x schema.Index) bool { return x.Ready && uniqueAlone(x, col) }
		other := func(x schema.Index) bool { return x.ID != ix.ID && proof(x) }
		byKey := len(t.PK) == 1 && t.PK[0] == col
		if proof(ix) && !byKey && !slices.ContainsFunc(t.Indexes, other) {
			return r.Child.Table.ID, true
		}
	}
	return "", false
}

func (b *Builder) dropIndexRange(t *table.Table, ix schema.Index) error {
	lower, upper := table.IndexRange(t, ix)
	return b.dropRange(lower, upper, table.CounterKey(t.Tenant, t.TableID, ix.ID))
}

// dropRange deletes [lower, upper), whose counters are under ck, and the
// counters. It is used only in frames that write nothing else in the range.
func (b *Builder) dropRange(lower, upper, ck []byte) error {
	n, err := b.counter(ck)
	if err != nil {
		return err
	}
	n.gone = true
	if n.now.Entries == 0 {
		return nil
	}
	b.ranges = append(b.ranges, frame.Op{Type: frame.RangeDelete, Key: lower, End: upper, Old: n.now.Sum})
	return nil
}

// putTable stores a table's record and returns the table as this frame leaves it.
func (b *Builder) putTable(cat *table.Catalog, name string, r *table.Record) (*table.Table, error) {
	key, value := table.RecordKey(cat.Tenant, table.SpaceSchemas, []byte(name)), r.Encode()
	old, ok, err := b.Get(key)
	if err != nil {
		return nil, err
	}
	if err := b.set(nil, key, value, old, ok); err != nil {
		return nil, err
	}
	if err := b.succeed(cat.With(name, value)); err != nil {
		return nil, err
	}
	t, _ := b.catalogs[cat.Tenant].Lookup(name)
	return t, nil
}

// succeed makes cat the tenant's catalog for the rest of the frame and for those
// that follow. It is made from the one before it: DDL runs where all writes
// wait, and reading a catalog takes as long as it has tables.
func (b *Builder) succeed(cat *table.Catalog, err error) error {
	if err != nil {
		return err
	}
	if b.catalogs == nil {
		b.catalogs = map[ulid.ULID]*table.Catalog{}
	}
	b.catalogs[cat.Tenant] = cat
	return nil
}

func (b *Builder) removeRecord(tenant ulid.ULID, s table.Space, id []byte) error {
	key := table.RecordKey(tenant, s, id)
	old, ok, err := b.Get(key)
	if err != nil || !ok {
		return err
	}
	return b.remove(nil, key, old)
}

// nextTableID allots a table id; ids are never used twice in a tenant.
func (b *Builder) nextTableID(tenant ulid.ULID) (uint32, error) {
	key := table.RecordKey(tenant, table.SpaceIDs, nil)
	old, ok, err := b.Get(key)
	if err != nil {
		return 0, err
	}
	next := uint32(1)
	if ok && len(old) == 4 {
		next = binary.LittleEndian.Uint32(old)
	}
	if next == table.IdemTable {
		return 0, fault.New(fault.Conflict, "the tenant has used every table id; create a new tenant and copy the tables")
	}
	return next, b.set(nil, key, binary.LittleEndian.AppendUint32(nil, next+1), old, ok)
}

// PutRecord stores a whole-value record (a tenant, a token). With absent set,
// a record that is there is already_exists.
func (b *Builder) PutRecord(s table.Space, id, value []byte, absent bool) error {
	key := table.RecordKey(table.System, s, id)
	old, ok, err := b.Get(key)
	if err != nil {
		return err
	}
	if ok && absent {
		return fault.New(fault.AlreadyExists, "a %s with this id already exists", s)
	}
	return b.set(nil, key, value, old, ok)
}
