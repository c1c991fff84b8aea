package verification

import (
	"bytes"
	"errors"
	"fmt"

	"originchain/shared/lsn"
	"originchain/shared/rows"
	"originchain/shared/schema"
	"originchain/shared/table"
)

// compareTable checks the rows of a table, their entries in its indexes and what
// they point to, then the entries of its indexes. Files that do not read back
// are a fault; an error is the end that was asked for.
func (c *contents) compareTable(cat *table.Catalog, t *table.Table) error {
	if err := c.compareRows(cat, t); err != nil {
		return err
	}
	return c.links.indexes(c, t)
}

// links holds rows against their entries and what they point to. lookups asks for each
// as it comes, where the state is at hand; sums is for one that is far away.
type links interface {
	// entry is told of each row of a table for each of its indexes that are ready.
	entry(c *contents, t *table.Table, ix schema.Index, row schema.Row, pk []byte)
	// target is told of each reference: proof is the key that must be there.
	target(c *contents, r reference, proof []byte)
	// indexes ends a table: its indexes are read.
	indexes(c *contents, t *table.Table) error
	// end ends all tables.
	end(c *contents) error
}

// reference is a value of a row that stands for another row.
type reference struct {
	t   *table.Table
	fk  schema.ForeignKey
	key []byte // of the row
}

// lookups looks up each where it is.
type lookups struct{}

func (lookups) entry(c *contents, t *table.Table, ix schema.Index, row schema.Row, pk []byte) {
	c.findEntry(t, ix, row, pk)
}

func (lookups) target(c *contents, r reference, proof []byte) {
	_, ok, err := c.snap.Get(proof)
	if err != nil {
		c.unreadable(err)
	} else if !ok {
		c.missesTarget(r, "")
	}
}

func (lookups) indexes(c *contents, t *table.Table) error {
	for _, ix := range t.Indexes {
		if err := c.compareIndex(t, ix); err != nil {
			return err
		}
	}
	return nil
}

func (lookups) end(*contents) error { return nil }

func (c *contents) compareRows(cat *table.Catalog, t *table.Table) error {
	lower, upper := table.RowRange(t)
	scan, err := table.ScanRows(c.snap, t, lower, upper, false)
	if err != nil {
		c.unreadable(err)
		return nil
	}
	var row schema.Row
	for scan.Next() {
		if err := c.ended(); err != nil {
			return errors.Join(err, scan.Close())
		}
		c.advance(1)
		read, version, err := scan.Row(row)
		if err != nil {
			c.keyFault(c.of(CheckRows, t, "the row cannot be read: "+err.Error()), scan.Key())
			continue
		}
		row = read
		c.compareRow(cat, t, scan.Key(), row, version)
	}
	if err := errors.Join(scan.Err(), scan.Close()); err != nil {
		c.unreadable(err)
	}
	return nil
}

// of begins a fault of a table.
func (c *contents) of(check string, t *table.Table, problem string) Fault {
	return Fault{Check: check, Tenant: t.Tenant.String(), Table: t.Table.ID, Problem: problem}
}

func (c *contents) compareRow(cat *table.Catalog, t *table.Table, key []byte, row schema.Row, version lsn.LSN) {
	if version == table.RowVersionPending || version > c.at.Pos.LSN {
		c.keyFault(c.of(CheckRows, t, fmt.Sprintf("the row was written by LSN %d, and the state stands at %d", version, c.at.Pos.LSN)), key)
	}
	if own, err := table.RowKey(nil, t, row); err != nil || !bytes.Equal(own, key) {
		c.keyFault(c.of(CheckRows, t, "the row is under another key than its primary key makes"), key)
		return
	}
	pk := table.PKTuple(key)
	for _, ix := range t.Indexes {
		if ix.Ready {
			c.links.entry(c, t, ix, row, pk)
		}
	}
	for _, fk := range t.ForeignKeys {
		if v := row[fk.Column]; !v.IsNull() {
			c.findTarget(cat, t, fk, v, key)
		}
	}
}

// findEntry requires a row's entry in an index.
func (c *contents) findEntry(t *table.Table, ix schema.Index, row schema.Row, pk []byte) {
	entry, inValue := table.IndexEntry(nil, t, ix, row, pk)
	value, ok, err := c.snap.Get(entry)
	f := c.of(CheckIndexes, t, "")
	f.Index = ix.Name
	switch {
	case err != nil:
		c.unreadable(err)
	case !ok:
		f.Problem = "a row has no entry in the index"
		c.keyFault(f, entry)
	case inValue && !bytes.Equal(table.IndexValuePK(value), pk):
		f.Problem = "the entry of a row in the unique index stands for another row"
		c.keyFault(f, entry)
	}
}

// findTarget requires the row that a value points to.
func (c *contents) findTarget(cat *table.Catalog, t *table.Table, fk schema.ForeignKey, v schema.Value, key []byte) {
	c.report.State.References++
	target, err := cat.Table(fk.TargetSchema)
	var proof []byte
	if err == nil {
		proof, err = rows.ReferenceKey(target, fk.TargetColumn, v)
	}
	if err != nil {
		c.keyFault(c.of(CheckForeignKeys, t, "the foreign key cannot be followed: "+err.Error()), key)
		return
	}
	c.links.target(c, reference{t, fk, key}, proof)
}

// missesTarget reports a reference that leads nowhere; more is what else is to be said.
func (c *contents) missesTarget(r reference, more string) {
	c.keyFault(c.of(CheckForeignKeys, r.t, fmt.Sprintf("column %s points to a row of %s that does not exist%s", r.t.Columns[r.fk.Column].Name, r.fk.TargetSchema, more)), r.key)
}

// compareIndex requires a row for each entry. An index that is being built has
// no entry too many either.
func (c *contents) compareIndex(t *table.Table, ix schema.Index) error {
	lower, upper := table.IndexRange(t, ix)
	scan, err := table.ScanIndex(c.snap, t, ix, lower, upper, false)
	if err != nil {
		c.unreadable(err)
		return nil
	}
	f := c.of(CheckIndexes, t, "")
	f.Index = ix.Name
	var row schema.Row
	for scan.Next() {
		if err := c.ended(); err != nil {
			return errors.Join(err, scan.Close())
		}
		c.advance(1)
		read, _, ok, err := table.GetRow(c.snap, t, scan.RowKey(), row)
		switch {
		case err != nil: // the row's own fault, which its scan has reported
			continue
		case !ok:
			f.Problem = "the entry stands for a row that does not exist"
			c.keyFault(f, scan.Key())
			continue
		}
		row = read
		if entry, _ := table.IndexEntry(nil, t, ix, row, table.PKTuple(scan.RowKey())); !bytes.Equal(entry, scan.Key()) {
			f.Problem = "the entry is not the one that its row makes"
			c.keyFault(f, scan.Key())
		}
	}
	if err := errors.Join(scan.Err(), scan.Close()); err != nil { // the whole state was read before: it is the entry's form
		f.Problem = "the index cannot be read to its end: " + err.Error()
		c.fault(f)
	}
	return nil
}
