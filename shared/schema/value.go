package schema

import (
	"cmp"
	"encoding/base64"
	"math"
	"strconv"
	"strings"
)

// Type is the type of a column or of a value.
type Type uint8

// The six column types, and Null, which is the type of the NULL value alone.
// Their numeric order is the order of values of different types.
const (
	TypeNull Type = iota
	TypeStr
	TypeI64
	TypeU64
	TypeF64
	TypeBool
	TypeBytes
)

// typeNames is read only; an array rather than a map, so that the names come in
// a fixed order in messages.
var typeNames = [...]string{"null", "str", "i64", "u64", "f64", "bool", "bytes"}

// String is the type's name in a manifest.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return "type(" + strconv.Itoa(int(t)) + ")"
}

// ParseType reads a manifest's `ty`.
func ParseType(name string) (Type, bool) {
	for i, n := range typeNames {
		if i > 0 && n == name {
			return Type(i), true
		}
	}
	return TypeNull, false
}

// Value is one column's value: 32 bytes, immutable, safe to copy and to share.
// The zero Value is NULL. Bytes are kept in the string header, so that one
// struct serves all types without an interface and without a pointer more.
type Value struct {
	s string
	n uint64 // i64 and u64 as they are, f64 as IEEE bits, bool as 0 or 1
	t Type
}

// Null is the NULL value.
func Null() Value { return Value{} }

// Str is a text value; s must be valid UTF-8 (Table.Check verifies it).
func Str(s string) Value { return Value{s: s, t: TypeStr} }

// I64 is a signed integer.
func I64(n int64) Value { return Value{n: uint64(n), t: TypeI64} }

// U64 is an unsigned integer.
func U64(n uint64) Value { return Value{n: n, t: TypeU64} }

// F64 is a float. -0 becomes 0, so that equal numbers have equal bytes. Rows
// hold finite numbers only: Table.Check refuses NaN and infinities.
func F64(f float64) Value {
	if f == 0 {
		f = 0
	}
	return Value{n: math.Float64bits(f), t: TypeF64}
}

// Bool is a truth value.
func Bool(b bool) Value {
	if b {
		return Value{n: 1, t: TypeBool}
	}
	return Value{t: TypeBool}
}

// Bytes is a byte string; b is copied.
func Bytes(b []byte) Value { return Value{s: string(b), t: TypeBytes} }

// Type is the value's type; TypeNull for NULL.
func (v Value) Type() Type { return v.t }

// IsNull says whether the value is NULL.
func (v Value) IsNull() bool { return v.t == TypeNull }

// AsStr is the text of a str value, and the content of a bytes value without a
// copy; "" for other types.
func (v Value) AsStr() string { return v.s }

// AsI64 is the number of an i64 value.
func (v Value) AsI64() int64 { return int64(v.n) }

// AsU64 is the number of a u64 value.
func (v Value) AsU64() uint64 { return v.n }

// AsF64 is the number of an f64 value.
func (v Value) AsF64() float64 { return math.Float64frombits(v.n) }

// AsBool is the truth of a bool value.
func (v Value) AsBool() bool { return v.n != 0 }

// AsBytes is a copy of the content of a bytes value.
func (v Value) AsBytes() []byte { return []byte(v.s) }

// Compare is a total order: NULL first, then by type in the order of the Type
// constants, then by value. AppendKey keeps it: comparing two encodings as
// bytes gives the same answer.
func (v Value) Compare(o Value) int {
	if v.t != o.t {
		return cmp.Compare(v.t, o.t)
	}
	switch v.t {
	case TypeStr, TypeBytes:
		return strings.Compare(v.s, o.s)
	case TypeI64:
		return cmp.Compare(int64(v.n), int64(o.n))
	case TypeF64:
		return cmp.Compare(sortableFloat(v.n), sortableFloat(o.n))
	case TypeNull:
		return 0
	default:
		return cmp.Compare(v.n, o.n)
	}
}

// Equal says whether type and value are the same; NULL equals NULL here, which
// SQL's comparison operators do not share.
func (v Value) Equal(o Value) bool { return v == o }

// sortableFloat maps IEEE bits to integers that sort as the numbers do: the
// sign bit is flipped for positive numbers, all bits for negative ones.
func sortableFloat(bits uint64) uint64 {
	if bits>>63 != 0 {
		return ^bits
	}
	return bits | 1<<63
}

// floatFromSortable undoes sortableFloat.
func floatFromSortable(u uint64) uint64 {
	if u>>63 != 0 {
		return u &^ (1 << 63)
	}
	return ^u
}

// finiteBits says whether the IEEE bits are of a finite number.
func finiteBits(bits uint64) bool { return bits>>52&0x7ff != 0x7ff }

// String shows the value to people: NULL, numbers in decimal, strings as they
// are, bytes in base64.
func (v Value) String() string {
	switch v.t {
	case TypeStr:
		return v.s
	case TypeBytes:
		return base64.StdEncoding.EncodeToString([]byte(v.s))
	case TypeNull:
		return "NULL"
	default:
		return string(appendPlain(nil, v))
	}
}

// appendPlain writes a number or a bool as in JSON.
func appendPlain(dst []byte, v Value) []byte {
	switch v.t {
	case TypeI64:
		return strconv.AppendInt(dst, int64(v.n), 10)
	case TypeU64:
		return strconv.AppendUint(dst, v.n, 10)
	case TypeF64:
		return appendFloat(dst, v.AsF64())
	default:
		return strconv.AppendBool(dst, v.AsBool())
	}
}

// appendFloat writes the shortest decimal that reads back as the same float:
// plain from 1e-6 to below 1e21, with an exponent outside, as ECMAScript and
// encoding/json do.
func appendFloat(dst []byte, f float64) []byte {
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		start := len(dst)
		dst = strconv.AppendFloat(dst, f, 'e', -1, 64)
		// 1e-09 is written 1e-9.
		if n := len(dst); n-start >= 4 && dst[n-4] == 'e' && dst[n-3] == '-' && dst[n-2] == '0' {
			dst[n-2] = dst[n-1]
			dst = dst[:n-1]
		}
		return dst
	}
	return strconv.AppendFloat(dst, f, 'f', -1, 64)
}

// Row is one row's values, in Table.Columns order.
type Row []Value

// Clone copies the slice; values are immutable and shared.
func (r Row) Clone() Row { return append(Row(nil), r...) }
