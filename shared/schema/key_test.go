package schema

import (
	"bytes"
	"cmp"
	"encoding/hex"
	"errors"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"

	gocmp "github.com/google/go-cmp/cmp"

	"originchain/shared/fault"
)

var nan = math.NaN()

// samples are values around every boundary of the encodings, of all types.
func samples() []Value {
	vs := []Value{Null(), Bool(false), Bool(true)}
	for _, s := range []string{"", "\x00", "\x00\x00", "\x00\x01", "\x00\xff", "a", "a\x00", "a\x00b", "a\x01", "ab", "b", "\x7f", "ü", "\U0010FFFF"} {
		vs = append(vs, Bytes([]byte(s)))
		if utf8.ValidString(s) {
			vs = append(vs, Str(s))
		}
	}
	vs = append(vs, Bytes([]byte{0xff}), Bytes([]byte{0xff, 0xff}), Bytes([]byte{0xff, 0}))
	for shift := range 64 {
		for _, d := range []int64{-1, 0, 1} {
			n := int64(1)<<shift + d
			vs = append(vs, I64(n), I64(-n), U64(uint64(n)))
		}
	}
	vs = append(vs, I64(math.MinInt64), I64(math.MaxInt64), U64(math.MaxUint64))
	for _, f := range []float64{0, 1, 1.5, 1e-300, 5e-324, 1e300, math.MaxFloat64, math.Pi, math.Copysign(0, -1)} {
		vs = append(vs, F64(f), F64(-f))
	}
	return vs
}

func TestKeysSortAsValues(t *testing.T) {
	vs := samples()
	keys := make([][]byte, len(vs))
	for i, v := range vs {
		keys[i] = AppendKey(nil, v)
	}
	for i, a := range vs {
		for j, b := range vs {
			if got, want := bytes.Compare(keys[i], keys[j]), a.Compare(b); got != want {
				t.Fatalf("%s %q and %s %q: keys %x and %x compare %d, values %d", a.Type(), a, b.Type(), b, keys[i], keys[j], got, want)
			}
			if i != j && a != b && bytes.HasPrefix(keys[j], keys[i]) {
				t.Fatalf("the key of %s %q begins that of %s %q", a.Type(), a, b.Type(), b)
			}
		}
	}
}

func randomValue(r *rand.Rand) Value {
	switch r.IntN(8) {
	case 0:
		return Null()
	case 1, 2:
		s := make([]byte, r.IntN(6))
		for i := range s {
			s[i] = "\x00\x01\xfeab\xff"[r.IntN(6)]
		}
		if r.IntN(2) == 0 {
			return Bytes(s)
		}
		return Str(strings.ToValidUTF8(string(s), ""))
	case 3:
		return I64(int64(r.Uint64()) >> r.IntN(64))
	case 4:
		return U64(r.Uint64() >> r.IntN(64))
	case 5:
		return F64((r.Float64() - 0.5) * math.Pow(10, float64(r.IntN(40)-20)))
	case 6:
		return Bool(r.IntN(2) == 0)
	}
	all := samples()
	return all[r.IntN(len(all))]
}

// Tuples of mixed types and lengths: the order of the bytes is the order of the
// elements, the shorter of two that begin alike first; and each decodes.
func TestTuplesSortAndDecode(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	tuple := func() ([]Value, []byte) {
		vs := make([]Value, r.IntN(5))
		var key []byte
		for i := range vs {
			vs[i] = randomValue(r)
			key = AppendKey(key, vs[i])
		}
		return vs, key
	}
	for range 5000 {
		a, ka := tuple()
		b, kb := tuple()
		if n := min(len(a), len(b)); r.IntN(2) == 0 { // make them share a beginning
			kb = nil
			b = append(append([]Value(nil), a[:r.IntN(n+1)]...), b...)
			for _, v := range b {
				kb = AppendKey(kb, v)
			}
		}
		if got, want := bytes.Compare(ka, kb), compareTuples(a, b); got != want {
			t.Fatalf("%v and %v: keys %x and %x compare %d, want %d", a, b, ka, kb, got, want)
		}
		types := make([]Type, len(a))
		for i, v := range a {
			types[i] = v.Type()
		}
		got, err := DecodeKey(ka, len(a), types)
		if err != nil || compareTuples(got, a) != 0 {
			t.Fatalf("%v decodes to %v, %v", a, got, err)
		}
	}
}

func compareTuples(a, b []Value) int {
	for i := range min(len(a), len(b)) {
		if c := a[i].Compare(b[i]); c != 0 {
			return c
		}
	}
	return cmp.Compare(len(a), len(b))
}

func TestKeyBytes(t *testing.T) {
	for _, c := range []struct {
		v    Value
		want string
	}{
		{Null(), "02"},
		{Str(""), "040001"},
		{Str("a\x00b"), "046100ff620001"},
		{I64(0), "18"},
		{I64(1), "1901"},
		{I64(-1), "17fe"},
		{I64(-256), "16feff"},
		{I64(math.MinInt64), "107fffffffffffffff"},
		{I64(math.MaxInt64), "207fffffffffffffff"},
		{U64(0), "28"},
		{U64(300), "2a012c"},
		{U64(math.MaxUint64), "30ffffffffffffffff"},
		{F64(0), "388000000000000000"},
		{F64(math.Copysign(0, -1)), "388000000000000000"},
		{F64(1.5), "38bff8000000000000"},
		{F64(-1.5), "384007ffffffffffff"},
		{Bool(false), "40"},
		{Bool(true), "41"},
		{Bytes([]byte{0, 1}), "4800ff010001"},
	} {
		if got := hex.EncodeToString(AppendKey(nil, c.v)); got != c.want {
			t.Errorf("%s %s: got %s, want %s", c.v.Type(), c.v, got, c.want)
		}
	}
}

func TestDecodeKeyRefuses(t *testing.T) {
	for _, c := range []struct {
		key  string
		typ  Type
		want string
	}{
		{"", TypeI64, "tuple key: element 0 at byte 0: the key ends before it"},
		{"00", TypeI64, "tuple key: element 0 at byte 0: unknown tag 0x00"},
		{"0f", TypeI64, "tuple key: element 0 at byte 0: unknown tag 0x0f"},
		{"31", TypeU64, "tuple key: element 0 at byte 0: unknown tag 0x31"},
		{"1a01", TypeI64, "tuple key: element 0 at byte 0: an integer of 2 bytes with 1 left"},
		{"1900", TypeI64, "tuple key: element 0 at byte 0: an integer with a leading zero byte"},
		{"17ff", TypeI64, "tuple key: element 0 at byte 0: an integer with a leading zero byte"},
		{"208000000000000000", TypeI64, "tuple key: element 0 at byte 0: an i64 above its largest value"},
		{"107ffffffffffffffe", TypeI64, "tuple key: element 0 at byte 0: an i64 below its smallest value"},
		{"38bff8", TypeF64, "tuple key: element 0 at byte 0: a float with 2 bytes left"},
		{"38fff8000000000000", TypeF64, "tuple key: element 0 at byte 0: a float that is not finite"},
		{"387fffffffffffffff", TypeF64, "tuple key: element 0 at byte 0: a negative zero"},
		{"046162", TypeStr, "tuple key: element 0 at byte 0: a text without its end"},
		{"046100", TypeStr, "tuple key: element 0 at byte 0: a text without its end"},
		{"0461000201", TypeStr, "tuple key: element 0 at byte 0: unknown escape 0x02 in a text"},
		{"1901", TypeU64, "tuple key: element 0 is i64, want u64"},
		{"190102", TypeI64, "tuple key: 1 bytes follow the 1 elements"},
	} {
		key, err := hex.DecodeString(c.key)
		if err != nil {
			t.Fatal(err)
		}
		if vs, err := DecodeKey(key, 1, []Type{c.typ}); err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v, %v; want %s", c.key, vs, err, c.want)
		}
	}
	if _, err := DecodeKey([]byte{tagNull, tagNull}, 2, []Type{TypeStr}); err == nil {
		t.Error("more elements than types")
	}
}

func TestDecodeKeyPrefixLeavesTheRest(t *testing.T) {
	key := AppendKey(AppendKey(AppendKey(nil, Null()), Str("x")), I64(7))
	vs, rest, err := DecodeKeyPrefix(key, []Type{TypeI64, TypeStr}, nil)
	if err != nil || !gocmp.Equal(vs, []Value{Null(), Str("x")}) || hex.EncodeToString(rest) != "1907" {
		t.Fatalf("%v %x %v", vs, rest, err)
	}
}

func TestPrefixEnd(t *testing.T) {
	for _, c := range []struct{ prefix, want string }{
		{"", ""}, {"ff", ""}, {"ffff", ""}, {"00", "01"}, {"01ff", "02"}, {"61ffff", "62"}, {"6162", "6163"},
	} {
		p, err := hex.DecodeString(c.prefix)
		if err != nil {
			t.Fatal(err)
		}
		got := PrefixEnd([]byte("x"), p)
		if hex.EncodeToString(got[1:]) != c.want {
			t.Errorf("%s: got %x, want %s", c.prefix, got[1:], c.want)
		}
	}
	if PrefixEnd(nil, []byte{0xff}) != nil {
		t.Error("an end where there is none")
	}
}

func TestCheckKeySize(t *testing.T) {
	tbl := mustTable(t, flightManifest)
	if err := CheckKeySize(tbl, MaxKeyBytes); err != nil {
		t.Error(err)
	}
	err := CheckKeySize(tbl, MaxKeyBytes+1)
	wantFault(t, err, fault.ValidationFailed, "the primary key of a row of table air.flights takes 1025 bytes encoded, more than 1024; shorten its values")
	if !errors.Is(err, ErrKeyTooLong) {
		t.Error("ErrKeyTooLong is not in the chain")
	}
}

func TestValueBasics(t *testing.T) {
	if F64(math.Copysign(0, -1)) != F64(0) || math.Signbit(F64(math.Copysign(0, -1)).AsF64()) {
		t.Error("-0 is not normalised")
	}
	b := []byte("x")
	v := Bytes(b)
	b[0] = 'y'
	v.AsBytes()[0] = 'z'
	if v.AsStr() != "x" {
		t.Error("a value shares its bytes")
	}
	for _, c := range []struct {
		v    Value
		want string
	}{
		{Null(), "NULL"}, {Str("a"), "a"}, {I64(-5), "-5"}, {U64(1<<64 - 1), "18446744073709551615"}, {Bool(true), "true"},
		{Bytes([]byte{255}), "/w=="}, {F64(1e21), "1e+21"}, {F64(1e-7), "1e-7"}, {F64(123456789012345680), "123456789012345680"}, {F64(-2.5e-9), "-2.5e-9"}, {F64(0.000001), "0.000001"},
	} {
		if c.v.String() != c.want {
			t.Errorf("got %s, want %s", c.v, c.want)
		}
	}
	for typ := TypeStr; typ <= TypeBytes; typ++ {
		if got, ok := ParseType(typ.String()); !ok || got != typ {
			t.Errorf("%s does not parse", typ)
		}
	}
	if _, ok := ParseType("null"); ok {
		t.Error("null is no column type")
	}
}
