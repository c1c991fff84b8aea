package schema

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// AppendRow appends the stored bytes of r, a row of t's columns:
//
//	bitmap   ⌈columns/8⌉ bytes, bit i%8 of byte i/8 set when column i is NULL
//	values   of the columns that are not NULL, in column order:
//	         str, bytes  uvarint length ‖ content
//	         i64         uvarint of the zigzag form
//	         u64         uvarint
//	         f64         8 bytes little-endian
//	         bool        one byte, 0 or 1
//
// A row says nothing of its schema: shared/table stores the version beside it,
// and only that version's Table decodes it.
func AppendRow(dst []byte, t *Table, r Row) []byte {
	base := len(dst)
	for range bitmapSize(len(t.Columns)) {
		dst = append(dst, 0)
	}
	for i := range t.Columns {
		v := &r[i]
		switch v.t {
		case TypeNull:
			dst[base+i/8] |= 1 << (i % 8)
		case TypeStr, TypeBytes:
			dst = binary.AppendUvarint(dst, uint64(len(v.s)))
			dst = append(dst, v.s...)
		case TypeI64:
			dst = binary.AppendUvarint(dst, zigzag(int64(v.n)))
		case TypeU64:
			dst = binary.AppendUvarint(dst, v.n)
		case TypeF64:
			dst = binary.LittleEndian.AppendUint64(dst, v.n)
		case TypeBool:
			dst = append(dst, byte(v.n))
		}
	}
	return dst
}

func bitmapSize(columns int) int { return (columns + 7) / 8 }

func zigzag(n int64) uint64 { return uint64(n)<<1 ^ uint64(n>>63) }

func unzigzag(u uint64) int64 { return int64(u>>1) ^ -int64(u&1) }

// DecodeRow decodes what AppendRow wrote for the same schema version. It uses
// into's storage when it is large enough; the values do not alias src. Only what
// AppendRow writes is accepted, and src must be used up.
func DecodeRow(t *Table, src []byte, into Row) (Row, error) {
	d, err := startRow(t, src)
	if err != nil {
		return nil, err
	}
	into = sized(into, len(t.Columns))
	for i := range t.Columns {
		if d.null(i) {
			into[i] = Value{}
			continue
		}
		if into[i], err = d.value(t.Columns[i].Type); err != nil {
			return nil, fmt.Errorf("row of %s: column %s at byte %d: %w", t.ID, t.Columns[i].Name, d.at, err)
		}
	}
	if d.at != len(src) {
		return nil, fmt.Errorf("row of %s: %d bytes follow its %d columns", t.ID, len(src)-d.at, len(t.Columns))
	}
	return into, nil
}

// DecodeColumns decodes only the columns that want names, in column order, and
// leaves NULL in the others. It stops after the last wanted column, so bytes
// behind it are not looked at. A want shorter than the columns wants no more.
func DecodeColumns(t *Table, src []byte, want []bool, into Row) (Row, error) {
	d, err := startRow(t, src)
	if err != nil {
		return nil, err
	}
	d.single = true
	into = sized(into, len(t.Columns))
	clear(into)
	last := min(len(want), len(t.Columns)) - 1
	for last >= 0 && !want[last] {
		last--
	}
	for i := 0; i <= last; i++ {
		if d.null(i) {
			continue
		}
		if want[i] {
			into[i], err = d.value(t.Columns[i].Type)
		} else {
			err = d.skip(t.Columns[i].Type)
		}
		if err != nil {
			return nil, fmt.Errorf("row of %s: column %s at byte %d: %w", t.ID, t.Columns[i].Name, d.at, err)
		}
	}
	return into, nil
}

// sized gives a row of n values, in into's storage if that is large enough.
func sized(into Row, n int) Row {
	if cap(into) < n {
		return make(Row, n)
	}
	return into[:n]
}

// rowReader walks the values of one stored row.
type rowReader struct {
	src []byte
	at  int
	// text is a copy of src from textAt on, made at the first string: one
	// allocation for all strings of the row. single copies each string by
	// itself, so that a projection of one column does not hold the whole row.
	text   string
	textAt int
	single bool
}

func startRow(t *Table, src []byte) (rowReader, error) {
	size := bitmapSize(len(t.Columns))
	if len(src) < size {
		return rowReader{}, fmt.Errorf("row of %s: %d bytes, its null bitmap alone takes %d", t.ID, len(src), size)
	}
	if tail := len(t.Columns) % 8; tail != 0 && src[size-1]>>tail != 0 {
		return rowReader{}, fmt.Errorf("row of %s: null bits of columns it does not have", t.ID)
	}
	return rowReader{src: src, at: size}, nil
}

func (d *rowReader) null(i int) bool { return d.src[i/8]>>(i%8)&1 != 0 }

var (
	errRowEnds    = errors.New("the row ends inside it")
	errRowVarint  = errors.New("not a shortest varint of 64 bits")
	errRowBool    = errors.New("a bool is neither 0 nor 1")
	errRowFloat   = errors.New("a float that is not finite, or a negative zero")
	errRowUnknown = errors.New("a column without a type")
)

func (d *rowReader) uvarint() (uint64, error) {
	if d.at < len(d.src) && d.src[d.at] < 0x80 {
		d.at++
		return uint64(d.src[d.at-1]), nil
	}
	u, n := binary.Uvarint(d.src[d.at:])
	if n == 0 {
		return 0, errRowEnds
	}
	if n < 0 || d.src[d.at+n-1] == 0 {
		return 0, errRowVarint
	}
	d.at += n
	return u, nil
}

// span reads a length and steps over that many bytes.
func (d *rowReader) span() (from, to int, err error) {
	n, err := d.uvarint()
	if err != nil {
		return 0, 0, err
	}
	if n > uint64(len(d.src)-d.at) {
		return 0, 0, errRowEnds
	}
	from = d.at
	d.at += int(n)
	return from, d.at, nil
}

func (d *rowReader) string() (string, error) {
	from, to, err := d.span()
	if err != nil || from == to {
		return "", err
	}
	if d.single {
		return string(d.src[from:to]), nil
	}
	if d.text == "" {
		d.text, d.textAt = string(d.src[from:]), from
	}
	return d.text[from-d.textAt : to-d.textAt], nil
}

func (d *rowReader) value(t Type) (Value, error) {
	switch t {
	case TypeStr, TypeBytes:
		s, err := d.string()
		return Value{s: s, t: t}, err
	case TypeI64:
		u, err := d.uvarint()
		return I64(unzigzag(u)), err
	case TypeU64:
		u, err := d.uvarint()
		return U64(u), err
	case TypeF64:
		if len(d.src)-d.at < 8 {
			return Value{}, errRowEnds
		}
		b := binary.LittleEndian.Uint64(d.src[d.at:])
		if !finiteBits(b) || b == 1<<63 {
			return Value{}, errRowFloat
		}
		d.at += 8
		return Value{n: b, t: TypeF64}, nil
	case TypeBool:
		if d.at == len(d.src) {
			return Value{}, errRowEnds
		}
		if d.src[d.at] > 1 {
			return Value{}, errRowBool
		}
		d.at++
		return Bool(d.src[d.at-1] == 1), nil
	}
	return Value{}, errRowUnknown
}

// skip steps over a value that is not wanted.
func (d *rowReader) skip(t Type) error {
	var err error
	switch t {
	case TypeStr, TypeBytes:
		_, _, err = d.span()
	case TypeI64, TypeU64:
		_, err = d.uvarint()
	default:
		_, err = d.value(t)
	}
	return err
}
