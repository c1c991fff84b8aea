package table

import (
	"fmt"

	"originchain/shared/lsn"
	"originchain/shared/schema"
)

// GetRow reads the row under a full row key into a row (reused when large
// enough). Shape: one value per column of t, in order.
func GetRow(v View, t *Table, rowKey []byte, into schema.Row) (row schema.Row, version lsn.LSN, ok bool, err error) {
	value, ok, err := v.Get(rowKey)
	if err != nil || !ok {
		return nil, 0, false, err
	}
	row, version, err = DecodeRowValue(t, value, into)
	return row, version, err == nil, err
}

// RowRange is the range of all rows of a table.
func RowRange(t *Table) (lower, upper []byte) {
	lower = AppendRowPrefix(nil, t.Tenant, t.TableID)
	return lower, schema.PrefixEnd(nil, lower)
}

// IndexRange is the range of all entries of an index.
func IndexRange(t *Table, ix schema.Index) (lower, upper []byte) {
	lower = AppendIndexPrefix(nil, t.Tenant, t.TableID, ix.ID)
	return lower, schema.PrefixEnd(nil, lower)
}

// RowScan walks rows in primary key order.
type RowScan struct {
	t  *Table
	it Iterator
}

// ScanRows walks the rows with keys in [lower, upper), backwards when reverse.
func ScanRows(v View, t *Table, lower, upper []byte, reverse bool) (*RowScan, error) {
	it, err := v.Iter(lower, upper, reverse)
	if err != nil {
		return nil, err
	}
	return &RowScan{t: t, it: it}, nil
}

// Next moves to the next row; false at the end and on an error.
func (s *RowScan) Next() bool { return s.it.Next() }

// Key is the row's full key, valid until the next call of Next.
func (s *RowScan) Key() []byte { return s.it.Key() }

// Row decodes the row into one that the caller may reuse; values of type str
// and bytes are copies when the row is kept.
func (s *RowScan) Row(into schema.Row) (schema.Row, lsn.LSN, error) {
	return DecodeRowValue(s.t, s.it.Value(), into)
}

// Value is the stored row value, valid until the next call of Next.
func (s *RowScan) Value() []byte { return s.it.Value() }

// Err is the error that ended the scan, if one did.
func (s *RowScan) Err() error { return s.it.Err() }

// Close releases the scan.
func (s *RowScan) Close() error { return s.it.Close() }

// IndexScan walks the entries of one index in index order.
type IndexScan struct {
	t     *Table
	ix    schema.Index
	types []schema.Type
	it    Iterator
	cols  []schema.Value
	row   []byte
	err   error
}

// ScanIndex walks the entries of ix with keys in [lower, upper).
func ScanIndex(v View, t *Table, ix schema.Index, lower, upper []byte, reverse bool) (*IndexScan, error) {
	it, err := v.Iter(lower, upper, reverse)
	if err != nil {
		return nil, err
	}
	s := &IndexScan{t: t, ix: ix, it: it, row: AppendRowPrefix(nil, t.Tenant, t.TableID)}
	for _, c := range ix.Columns {
		s.types = append(s.types, t.Columns[c].Type)
	}
	return s, nil
}

// Next moves to the next entry; false at the end and on an error.
func (s *IndexScan) Next() bool {
	if s.err != nil || !s.it.Next() {
		return false
	}
	pk, err := s.split()
	if err != nil {
		s.err = fmt.Errorf("table %s, index %s, key %x: %w", s.t.Table.ID, s.ix.Name, s.it.Key(), err)
		return false
	}
	s.row = append(s.row[:rowPrefixSize], pk...)
	return true
}

// split decodes the entry's columns and finds its primary key: in the value
// for a unique entry without NULL, at the end of the key otherwise.
func (s *IndexScan) split() ([]byte, error) {
	key := s.it.Key()
	if len(key) < indexPrefixSize {
		return nil, fmt.Errorf("entry key of %d bytes", len(key))
	}
	cols, rest, err := schema.DecodeKeyPrefix(key[indexPrefixSize:], s.types, s.cols[:0])
	if err != nil {
		return nil, err
	}
	s.cols = cols
	if !s.ix.Unique || hasNull(cols) {
		return rest, nil
	}
	if len(s.it.Value()) < saltSize {
		return nil, fmt.Errorf("entry value of %d bytes", len(s.it.Value()))
	}
	return s.it.Value()[saltSize:], nil
}

func hasNull(vs []schema.Value) bool {
	for _, v := range vs {
		if v.IsNull() {
			return true
		}
	}
	return false
}

// Key is the entry's full key, valid until the next call of Next.
func (s *IndexScan) Key() []byte { return s.it.Key() }

// RowKey is the full key of the row the entry stands for, valid until the next
// call of Next.
func (s *IndexScan) RowKey() []byte { return s.row }

// Columns are the indexed values, in index column order, valid until the next
// call of Next.
func (s *IndexScan) Columns() []schema.Value { return s.cols }

// Err is the error that ended the scan, if one did.
func (s *IndexScan) Err() error {
	if s.err != nil {
		return s.err
	}
	return s.it.Err()
}

// Close releases the scan.
func (s *IndexScan) Close() error { return s.it.Close() }
