package sql

import (
	"errors"
	"fmt"
	"io"

	gms "github.com/dolthub/go-mysql-server/sql"

	"originchain/shared/lsn"
	"originchain/shared/schema"
	"originchain/shared/table"
)

// span is the planner's partition: key ranges of the table or of one index, to
// be read one after the other.
type span struct {
	ix      *index // nil: the rows themselves
	ranges  []keyRange
	reverse bool
}

// Key implements gms.Partition.
func (p *span) Key() []byte { return []byte(primaryName) }

// scan reads the rows of a span. It opens nothing before the first Next and
// reads no pair more than was asked for.
type scan struct {
	s    *scanTable
	p    *span
	want []bool // the columns to decode; nil is all of them
	next int    // the range to open
	rng  *keyRange
	rows *table.RowScan
	ents *table.IndexScan
	row  schema.Row
	// covered: the index has every wanted column, so its rows are not read.
	covered bool
	pkTypes []schema.Type
	pk      []schema.Value
}

var _ gms.RowIter = (*scan)(nil)

func newScan(s *scanTable, p *span) *scan {
	c := &scan{s: s, p: p}
	if s.proj != nil {
		c.want = make([]bool, len(s.t.Columns))
		for _, col := range s.proj {
			c.want[col] = true
		}
		// A range over a part of the primary key filters by the rest of it.
		for _, col := range s.t.PK {
			c.want[col] = c.want[col] || p.filtersKey()
		}
	}
	c.cover()
	if s.st.open == nil {
		s.st.open = map[*scan]struct{}{}
	}
	s.st.open[c] = struct{}{}
	return c
}

// cover finds out whether the index alone can answer. A row that is to be locked
// is read all the same: its version is not in the index.
func (c *scan) cover() {
	if c.p.primary() || c.s.proj == nil || c.s.st.lock {
		return
	}
	in := make([]bool, len(c.s.t.Columns))
	for _, col := range c.p.ix.columns {
		in[col] = true
	}
	for _, col := range c.s.t.PK {
		in[col] = true
		c.pkTypes = append(c.pkTypes, c.s.t.Columns[col].Type)
	}
	for _, col := range c.s.proj {
		if !in[col] {
			return
		}
	}
	c.covered = true
	c.row = make(schema.Row, len(c.s.t.Columns))
}

// fromEntry makes a row of the columns of the index entry and its primary key.
func (c *scan) fromEntry() (gms.Row, error) {
	pk, _, err := schema.DecodeKeyPrefix(table.PKTuple(c.ents.RowKey()), c.pkTypes, c.pk[:0])
	if err != nil {
		return nil, fmt.Errorf("table %s, index %s: %w", c.s.t.Table.ID, c.p.ix.def.Name, err)
	}
	c.pk = pk
	for i, col := range c.s.t.PK {
		c.row[col] = pk[i]
	}
	for i, col := range c.p.ix.columns {
		c.row[col] = c.ents.Columns()[i]
	}
	return c.project(), nil
}

// primary tells a span of rows from one of index entries.
func (p *span) primary() bool { return p.ix == nil || p.ix.def == nil }

func (p *span) filtersKey() bool {
	if !p.primary() {
		return false
	}
	for i := range p.ranges {
		if p.ranges[i].rest != nil {
			return true
		}
	}
	return false
}

// Next implements gms.RowIter.
func (c *scan) Next(ctx *gms.Context) (gms.Row, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		row, ok, err := c.step()
		if errors.Is(err, io.EOF) {
			return nil, err
		}
		if err != nil {
			return nil, c.s.st.fail(err)
		}
		if ok {
			return row, nil
		}
	}
}

// step reads one pair, or opens the next range; ok is false when that gave no row.
func (c *scan) step() (row gms.Row, ok bool, err error) {
	switch {
	case c.rows != nil:
		if !c.rows.Next() {
			return nil, false, c.release()
		}
		return c.emit(c.rows.Key(), c.rows.Value())
	case c.ents != nil:
		if !c.ents.Next() {
			return nil, false, c.release()
		}
		return c.entry()
	case c.next == len(c.p.ranges):
		return nil, false, io.EOF
	}
	return c.open()
}

// open starts the next range. A range of one whole primary key is one read of
// that key, and its row is returned at once.
func (c *scan) open() (row gms.Row, ok bool, err error) {
	c.rng = &c.p.ranges[c.next]
	c.next++
	tx, t := c.s.st.tx, c.s.t
	switch {
	case c.rng.exact:
		return c.fetch(c.rng.lower)
	case c.p.primary():
		c.rows, err = table.ScanRows(tx, t, c.rng.lower, c.rng.upper, c.p.reverse)
	default:
		c.ents, err = table.ScanIndex(tx, t, *c.p.ix.def, c.rng.lower, c.rng.upper, c.p.reverse)
	}
	return nil, false, err
}

// entry reads the row of the index entry that the scan stands on.
func (c *scan) entry() (gms.Row, bool, error) {
	if c.rng.filters(func(i int) schema.Value { return c.ents.Columns()[i] }) {
		return nil, false, nil
	}
	if c.covered {
		row, err := c.fromEntry()
		return row, err == nil, err
	}
	row, ok, err := c.fetch(c.ents.RowKey())
	if err == nil && !ok {
		err = &missingRowError{table: c.s.t.Table.ID, index: c.p.ix.def.Name}
	}
	return row, ok, err
}

// missingRowError says that the state contradicts itself: an index entry is
// there and its row is not.
type missingRowError struct{ table, index string }

func (e *missingRowError) Error() string {
	return "table " + e.table + ": index " + e.index + " has the entry of a row that is not there; stop the server and restore from the archive, or drop and create the index"
}

// fetch reads one row by its key.
func (c *scan) fetch(key []byte) (gms.Row, bool, error) {
	value, ok, err := c.s.st.tx.Get(key)
	if err != nil || !ok {
		return nil, false, err
	}
	return c.emit(key, value)
}

// emit decodes a stored row into the planner's columns.
func (c *scan) emit(key, value []byte) (gms.Row, bool, error) {
	version, err := c.decode(value)
	if err != nil {
		return nil, false, err
	}
	if c.p.primary() && c.rng.filters(func(i int) schema.Value { return c.row[c.s.t.PK[i]] }) {
		return nil, false, nil
	}
	if c.s.st.lock {
		if err := c.s.st.touch(key, version); err != nil {
			return nil, false, err
		}
	}
	return c.project(), true, nil
}

// project turns the decoded row into the planner's columns.
func (c *scan) project() gms.Row {
	out := make(gms.Row, len(c.s.columns))
	if c.s.proj == nil {
		for i := range c.row {
			out[i] = toPlanner(c.row[i])
		}
		return out
	}
	for i, col := range c.s.proj {
		out[i] = toPlanner(c.row[col])
	}
	return out
}

func (c *scan) decode(value []byte) (lsn.LSN, error) {
	if c.want == nil {
		row, version, err := table.DecodeRowValue(c.s.t, value, c.row)
		c.row = row
		return version, err
	}
	h, b, err := table.SplitRowValue(value)
	if err == nil && h.SchemaVersion != c.s.t.Table.Version {
		err = fmt.Errorf("a row of schema version %d under version %d", h.SchemaVersion, c.s.t.Table.Version)
	}
	if err == nil {
		c.row, err = schema.DecodeColumns(c.s.t.Table, b, c.want, c.row)
	}
	if err != nil {
		return 0, fmt.Errorf("table %s: %w", c.s.t.Table.ID, err)
	}
	return h.Version, nil
}

// release closes the open range.
func (c *scan) release() error {
	var err error
	if c.rows != nil {
		err = errors.Join(c.rows.Err(), c.rows.Close())
		c.rows = nil
	}
	if c.ents != nil {
		err = errors.Join(c.ents.Err(), c.ents.Close())
		c.ents = nil
	}
	return err
}

// Close implements gms.RowIter.
func (c *scan) Close(*gms.Context) error {
	delete(c.s.st.open, c)
	return c.s.st.fail(c.end())
}

// end closes the scan for good; it may be called again.
func (c *scan) end() error {
	c.next = len(c.p.ranges)
	return c.release()
}
