package table

import (
	"encoding/binary"
	"fmt"

	"originchain/shared/lsn"
	"originchain/shared/schema"
)

// saltSize: row and index values begin with 8 random bytes from the sequencer,
// so that the pair hashes that frames carry cannot be guessed from a value.
const saltSize = 8

// RowVersionPending is the version of a row that a transaction has written and
// not committed: it has no LSN yet.
const RowVersionPending lsn.LSN = 0

// AppendRowValue encodes a stored row: salt, row version (the LSN of the frame
// that wrote it), schema version, row bytes.
func AppendRowValue(dst []byte, salt uint64, version lsn.LSN, schemaVersion uint32, rowBytes []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, salt)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(version))
	dst = binary.AppendUvarint(dst, uint64(schemaVersion))
	return append(dst, rowBytes...)
}

// RowHeader is what precedes the columns in a row value.
type RowHeader struct {
	Version       lsn.LSN
	SchemaVersion uint32
}

// SplitRowValue is the inverse of AppendRowValue; rowBytes aliases value.
func SplitRowValue(value []byte) (h RowHeader, rowBytes []byte, err error) {
	if len(value) < saltSize+8+1 {
		return h, nil, fmt.Errorf("row value: %d bytes are too few", len(value))
	}
	h.Version = lsn.LSN(binary.LittleEndian.Uint64(value[saltSize:]))
	v, n := binary.Uvarint(value[saltSize+8:])
	if n <= 0 || v > 1<<32-1 {
		return h, nil, fmt.Errorf("row value: bad schema version")
	}
	h.SchemaVersion = uint32(v)
	return h, value[saltSize+8+n:], nil
}

// DecodeRowValue decodes a stored row into a row of t's columns.
func DecodeRowValue(t *Table, value []byte, into schema.Row) (schema.Row, lsn.LSN, error) {
	h, b, err := SplitRowValue(value)
	if err != nil {
		return nil, 0, fmt.Errorf("table %s: %w", t.Table.ID, err)
	}
	if h.SchemaVersion != t.Table.Version {
		return nil, 0, fmt.Errorf("table %s: a row of schema version %d under version %d", t.Table.ID, h.SchemaVersion, t.Table.Version)
	}
	row, err := schema.DecodeRow(t.Table, b, into)
	if err != nil {
		return nil, 0, fmt.Errorf("table %s: %w", t.Table.ID, err)
	}
	return row, h.Version, nil
}

// AppendIndexValue encodes an index value: salt, and for a unique entry the
// primary key tuple it stands for.
func AppendIndexValue(dst []byte, salt uint64, pkTuple []byte) []byte {
	dst = binary.LittleEndian.AppendUint64(dst, salt)
	return append(dst, pkTuple...)
}

// RowKey appends the full key of a row to dst. The tuple may be at most 1 KiB.
func RowKey(dst []byte, t *Table, row schema.Row) ([]byte, error) {
	dst = AppendRowPrefix(dst, t.Tenant, t.TableID)
	start := len(dst)
	for _, c := range t.PK {
		dst = schema.AppendKey(dst, row[c])
	}
	return dst, schema.CheckKeySize(t.Table, len(dst)-start)
}

// RowKeyOf appends the key of the row with these primary key values.
func RowKeyOf(dst []byte, t *Table, pk []schema.Value) ([]byte, error) {
	dst = AppendRowPrefix(dst, t.Tenant, t.TableID)
	start := len(dst)
	for _, v := range pk {
		dst = schema.AppendKey(dst, v)
	}
	return dst, schema.CheckKeySize(t.Table, len(dst)-start)
}

// PKTuple is the part of a row key after the table prefix; it aliases key.
func PKTuple(rowKey []byte) []byte { return rowKey[rowPrefixSize:] }

// IndexEntry appends the key of a row's entry in ix to dst. pkTuple is the
// row's primary key. An entry of a unique index carries the primary key in its
// value, so that two rows with the same columns collide on one key; NULL is not
// equal to NULL, so such an entry carries it in the key, as a plain index does.
func IndexEntry(dst []byte, t *Table, ix schema.Index, row schema.Row, pkTuple []byte) (key []byte, pkInValue bool) {
	dst = AppendIndexPrefix(dst, t.Tenant, t.TableID, ix.ID)
	null := false
	for _, c := range ix.Columns {
		null = null || row[c].IsNull()
		dst = schema.AppendKey(dst, row[c])
	}
	if ix.Unique && !null {
		return dst, true
	}
	return append(dst, pkTuple...), false
}

// IndexValuePK is the primary key tuple of a unique entry; it aliases value.
func IndexValuePK(value []byte) []byte {
	if len(value) < saltSize {
		return nil
	}
	return value[saltSize:]
}
