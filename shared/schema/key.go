package schema

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strings"

	"originchain/shared/fault"
)

// MaxKeyBytes bounds an encoded primary key.
const MaxKeyBytes = 1024

// ErrKeyTooLong is in the chain of the fault for a primary key whose encoding
// is longer than MaxKeyBytes.
var ErrKeyTooLong = errors.New("encoded primary key is too long")

// Tags of a tuple element. Their order is the order of the types; 0x00 and 0xFF
// are no tags, so that a terminator or an upper bound sorts beside every key.
//
//	NULL    02
//	str     04 ‖ text with 00 as 00 FF ‖ 00 01
//	i64     18+n ‖ n bytes big-endian            n ≥ 0, no leading zero byte
//	        18-n ‖ n bytes, complement of |n|    n < 0
//	u64     28+n ‖ n bytes big-endian            no leading zero byte
//	f64     38 ‖ 8 bytes big-endian              sign flipped, or all bits if negative
//	bool    40 false, 41 true
//	bytes   48 ‖ as str
//
// Integers take as many bytes as they need: a fixed width of eight would make
// the keys of most tables twice as long, in the log, in Pebble and in caches.
const (
	tagNull  = 0x02
	tagStr   = 0x04
	tagI64   = 0x18
	tagU64   = 0x28
	tagF64   = 0x38
	tagFalse = 0x40
	tagTrue  = 0x41
	tagBytes = 0x48
)

// In a str or bytes element a zero byte is 00 FF, and 00 01 ends it: the end
// sorts below every continuation, so that a prefix sorts before the longer text.
const (
	escapedZero = 0xFF
	endOfText   = 0x01
)

// AppendKey appends the order-preserving encoding of v. An element delimits
// itself, so a tuple is its elements one after another, and the encoding of a
// leading part of a tuple is a prefix of the encodings of exactly those tuples
// that begin with it.
func AppendKey(dst []byte, v Value) []byte {
	switch v.t {
	case TypeStr:
		return appendKeyText(append(dst, tagStr), v.s)
	case TypeBytes:
		return appendKeyText(append(dst, tagBytes), v.s)
	case TypeI64:
		if n := int64(v.n); n < 0 {
			m := -v.n // the magnitude; right for the smallest i64 too
			size := byteLen(m)
			return appendBigEndian(append(dst, byte(tagI64-size)), ^m, size)
		}
		size := byteLen(v.n)
		return appendBigEndian(append(dst, byte(tagI64+size)), v.n, size)
	case TypeU64:
		size := byteLen(v.n)
		return appendBigEndian(append(dst, byte(tagU64+size)), v.n, size)
	case TypeF64:
		return binary.BigEndian.AppendUint64(append(dst, tagF64), sortableFloat(v.n))
	case TypeBool:
		return append(dst, tagFalse+byte(v.n))
	default:
		return append(dst, tagNull)
	}
}

func byteLen(n uint64) int { return (bits.Len64(n) + 7) / 8 }

// appendBigEndian appends the lowest size bytes of n.
func appendBigEndian(dst []byte, n uint64, size int) []byte {
	for i := size - 1; i >= 0; i-- {
		dst = append(dst, byte(n>>(8*i)))
	}
	return dst
}

func appendKeyText(dst []byte, s string) []byte {
	for {
		i := strings.IndexByte(s, 0)
		if i < 0 {
			break
		}
		dst = append(dst, s[:i]...)
		dst = append(dst, 0, escapedZero)
		s = s[i+1:]
	}
	dst = append(dst, s...)
	return append(dst, 0, endOfText)
}

// DecodeKey decodes a whole tuple of n elements, which must be of the first n
// types or NULL. Bytes left over are an error.
func DecodeKey(src []byte, n int, types []Type) ([]Value, error) {
	if n < 0 || n > len(types) {
		return nil, fmt.Errorf("tuple key: %d elements asked of %d types", n, len(types))
	}
	vs, rest, err := DecodeKeyPrefix(src, types[:n], nil)
	if err != nil {
		return nil, err
	}
	if len(rest) > 0 {
		return nil, fmt.Errorf("tuple key: %d bytes follow the %d elements", len(rest), n)
	}
	return vs, nil
}

// DecodeKeyPrefix decodes one element per type from the front of src, appends
// them to into, and returns the bytes that follow. Only what AppendKey writes is
// accepted, so each tuple has one encoding.
func DecodeKeyPrefix(src []byte, types []Type, into []Value) (vs []Value, rest []byte, err error) {
	rest = src
	for i, t := range types {
		var v Value
		if v, rest, err = decodeKeyElement(rest); err != nil {
			return nil, nil, fmt.Errorf("tuple key: element %d at byte %d: %w", i, len(src)-len(rest), err)
		}
		if v.t != t && v.t != TypeNull {
			return nil, nil, fmt.Errorf("tuple key: element %d is %s, want %s", i, v.t, t)
		}
		into = append(into, v)
	}
	return into, rest, nil
}

// decodeKeyElement returns the bytes after the element, and src unchanged with
// an error.
func decodeKeyElement(src []byte) (Value, []byte, error) {
	if len(src) == 0 {
		return Value{}, src, errors.New("the key ends before it")
	}
	tag, body := src[0], src[1:]
	switch {
	case tag == tagNull:
		return Value{}, body, nil
	case tag == tagStr || tag == tagBytes:
		s, rest, err := decodeKeyText(body)
		if err != nil {
			return Value{}, src, err
		}
		if tag == tagStr {
			return Str(s), rest, nil
		}
		return Value{s: s, t: TypeBytes}, rest, nil
	case tag >= tagI64-8 && tag <= tagI64+8:
		return decodeKeyI64(src, int(tag)-tagI64)
	case tag >= tagU64 && tag <= tagU64+8:
		n, err := bigEndian(body, int(tag)-tagU64, 0)
		if err != nil {
			return Value{}, src, err
		}
		return U64(n), body[int(tag)-tagU64:], nil
	case tag == tagF64:
		return decodeKeyF64(src)
	case tag == tagFalse || tag == tagTrue:
		return Bool(tag == tagTrue), body, nil
	}
	return Value{}, src, fmt.Errorf("unknown tag 0x%02x", tag)
}

// decodeKeyI64 decodes an integer of |size| bytes, negative if size is.
func decodeKeyI64(src []byte, size int) (Value, []byte, error) {
	body := src[1:]
	if size >= 0 {
		n, err := bigEndian(body, size, 0)
		if err != nil {
			return Value{}, src, err
		}
		if n > 1<<63-1 {
			return Value{}, src, errors.New("an i64 above its largest value")
		}
		return I64(int64(n)), body[size:], nil
	}
	m, err := bigEndian(body, -size, 0xFF)
	if err != nil {
		return Value{}, src, err
	}
	if m > 1<<63 {
		return Value{}, src, errors.New("an i64 below its smallest value")
	}
	return I64(int64(-m)), body[-size:], nil
}

// bigEndian reads size bytes, each xored with flip; the first must not be zero
// then, since a shorter form exists.
func bigEndian(src []byte, size int, flip byte) (uint64, error) {
	if len(src) < size {
		return 0, fmt.Errorf("an integer of %d bytes with %d left", size, len(src))
	}
	if size > 0 && src[0]^flip == 0 {
		return 0, errors.New("an integer with a leading zero byte")
	}
	var n uint64
	for _, b := range src[:size] {
		n = n<<8 | uint64(b^flip)
	}
	return n, nil
}

func decodeKeyF64(src []byte) (Value, []byte, error) {
	if len(src) < 9 {
		return Value{}, src, fmt.Errorf("a float with %d bytes left", len(src)-1)
	}
	b := floatFromSortable(binary.BigEndian.Uint64(src[1:]))
	if !finiteBits(b) {
		return Value{}, src, errors.New("a float that is not finite")
	}
	if b == 1<<63 {
		return Value{}, src, errors.New("a negative zero")
	}
	return Value{n: b, t: TypeF64}, src[9:], nil
}

func decodeKeyText(src []byte) (string, []byte, error) {
	first := bytes.IndexByte(src, 0)
	if first >= 0 && first+1 < len(src) && src[first+1] == endOfText {
		return string(src[:first]), src[first+2:], nil
	}
	var text []byte
	rest := src
	for {
		i := bytes.IndexByte(rest, 0)
		if i < 0 || i+1 == len(rest) {
			return "", nil, errors.New("a text without its end")
		}
		text = append(text, rest[:i]...)
		switch rest[i+1] {
		case endOfText:
			return string(text), rest[i+2:], nil
		case escapedZero:
			text = append(text, 0)
		default:
			return "", nil, fmt.Errorf("unknown escape 0x%02x in a text", rest[i+1])
		}
		rest = rest[i+2:]
	}
}

// PrefixEnd appends to dst the exclusive upper end of the keys that begin with
// prefix: the smallest key above them all. It appends nothing when there is
// none, which happens only for an empty prefix or one of 0xFF bytes alone.
func PrefixEnd(dst, prefix []byte) []byte {
	n := len(prefix)
	for n > 0 && prefix[n-1] == 0xFF {
		n--
	}
	if n == 0 {
		return dst
	}
	dst = append(dst, prefix[:n]...)
	dst[len(dst)-1]++
	return dst
}

// CheckKeySize refuses an encoded primary key of more than MaxKeyBytes, as a
// validation_failed fault that names the size and wraps ErrKeyTooLong.
func CheckKeySize(t *Table, size int) error {
	if size <= MaxKeyBytes {
		return nil
	}
	return fault.New(fault.ValidationFailed, "the primary key of a row of table %s takes %d bytes encoded, more than %d; shorten its values", t.ID, size, MaxKeyBytes).Wrap(ErrKeyTooLong)
}
