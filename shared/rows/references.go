package rows

import (
	"errors"

	"originchain/shared/fault"
	"originchain/shared/schema"
	"originchain/shared/table"
)

// checkForeignKeys requires that every value the row newly points to exists in
// its target, this frame's own writes included.
func (b *Builder) checkForeignKeys(t *table.Table, p *Prepared, oldRow schema.Row) error {
	if len(t.ForeignKeys) == 0 {
		return nil
	}
	cat, err := b.Catalog(t.Tenant)
	if err != nil {
		return err
	}
	for _, fk := range t.ForeignKeys {
		v := p.Row[fk.Column]
		if v.IsNull() || oldRow != nil && oldRow[fk.Column].Equal(v) {
			continue
		}
		target, err := cat.Table(fk.TargetSchema)
		if err != nil {
			return err
		}
		key, err := ReferenceKey(target, fk.TargetColumn, v)
		if err != nil {
			return err
		}
		if selfReference(t, p, fk) {
			continue
		}
		_, ok, err := b.Get(key)
		if err != nil {
			return err
		}
		if !ok {
			return fault.New(fault.FKViolation, "column %s of table %s points to a %s of table %s that does not exist; insert that row first", t.Columns[fk.Column].Name, t.Table.ID, fk.TargetColumn, fk.TargetSchema).With("column", t.Columns[fk.Column].Name)
		}
	}
	return nil
}

// selfReference reports a row that points to itself: its target is this write.
func selfReference(t *table.Table, p *Prepared, fk schema.ForeignKey) bool {
	if fk.TargetSchema != t.Table.ID {
		return false
	}
	i, ok := t.ColumnIndex(fk.TargetColumn)
	return ok && p.Row[i].Equal(p.Row[fk.Column])
}

// ReferenceKey is the key whose presence proves that target has v in column:
// the row itself when column is the primary key, else a unique index entry.
func ReferenceKey(target *table.Table, column string, v schema.Value) ([]byte, error) {
	col, _ := target.ColumnIndex(column)
	if len(target.PK) == 1 && target.PK[0] == col {
		return table.RowKeyOf(nil, target, []schema.Value{v})
	}
	ix, ok := uniqueOn(target, col)
	if !ok {
		return nil, fault.New(fault.Conflict, "table %s has no unique index on %s any more, so the foreign key cannot be checked; create one", target.Table.ID, column)
	}
	key := table.AppendIndexPrefix(nil, target.Tenant, target.TableID, ix.ID)
	return schema.AppendKey(key, v), nil
}

func uniqueOn(t *table.Table, col int) (schema.Index, bool) {
	for _, ix := range t.Indexes {
		if ix.Ready && uniqueAlone(ix, col) {
			return ix, true
		}
	}
	return schema.Index{}, false
}

// uniqueAlone reports a unique index on this one column.
func uniqueAlone(ix schema.Index, col int) bool {
	return ix.Unique && len(ix.Columns) == 1 && ix.Columns[0] == col
}

// checkReferrers requires that no other row still points to a value that the
// change takes away. newRow is nil for a delete.
func (b *Builder) checkReferrers(t *table.Table, key []byte, oldRow, newRow schema.Row) error {
	if oldRow == nil {
		return nil
	}
	for _, r := range t.Referrers {
		col, _ := t.ColumnIndex(r.FK.TargetColumn)
		v := oldRow[col]
		if v.IsNull() || newRow != nil && newRow[col].Equal(v) {
			continue
		}
		found, err := b.referenced(r, v, key)
		if err != nil {
			return err
		}
		if found {
			return fault.New(fault.FKViolation, "rows of table %s still point to this row of table %s by column %s; delete or change them first", r.Child.Table.ID, t.Table.ID, r.Child.Columns[r.FK.Column].Name).With("column", r.Child.Columns[r.FK.Column].Name)
		}
	}
	return nil
}

// referenced looks for one child with v in its foreign key column, other than
// the row under self.
func (b *Builder) referenced(r table.Referrer, v schema.Value, self []byte) (found bool, err error) {
	prefix := table.AppendIndexPrefix(nil, r.Child.Tenant, r.Child.TableID, r.Index.ID)
	prefix = schema.AppendKey(prefix, v)
	scan, err := table.ScanIndex(b, r.Child, r.Index, prefix, schema.PrefixEnd(nil, prefix), false)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, scan.Close()) }()
	for scan.Next() {
		if string(scan.RowKey()) != string(self) {
			return true, nil
		}
	}
	return false, scan.Err()
}
