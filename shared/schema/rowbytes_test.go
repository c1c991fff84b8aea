package schema

import (
	"encoding/hex"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/fault"
)

// typesManifest has a column of each type, in the order of the types.
const typesManifest = `namespace = "n"
table = "types"
primary_key = ["id"]
columns = [
  { name = "id", ty = "i64" },
  { name = "s", ty = "str" },
  { name = "i", ty = "i64" },
  { name = "u", ty = "u64" },
  { name = "f", ty = "f64" },
  { name = "b", ty = "bool" },
  { name = "x", ty = "bytes" },
  { name = "last", ty = "str" },
  { name = "ninth", ty = "bool" },
]
`

func randomRow(r *rand.Rand, t *Table) Row {
	row := make(Row, len(t.Columns))
	for i, c := range t.Columns {
		for row[i] = randomValue(r); row[i].Type() != c.Type && !(row[i].IsNull() && !c.Required); row[i] = randomValue(r) {
		}
	}
	return row
}

func TestRowsRoundTrip(t *testing.T) {
	tbl := mustTable(t, typesManifest)
	r := rand.New(rand.NewPCG(3, 4))
	var into, some Row
	for range 2000 {
		row := randomRow(r, tbl)
		if err := tbl.Check(row); err != nil {
			t.Fatal(err)
		}
		b := AppendRow([]byte("head"), tbl, row)[4:]
		var err error
		if into, err = DecodeRow(tbl, b, into); err != nil {
			t.Fatalf("%v: %v", row, err)
		}
		if diff := cmp.Diff(row, into); diff != "" {
			t.Fatal(diff)
		}
		want := make([]bool, r.IntN(len(row)+3))
		for i := range want {
			want[i] = r.IntN(3) == 0
		}
		if some, err = DecodeColumns(tbl, b, want, some); err != nil {
			t.Fatal(err)
		}
		for i := range row {
			if i < len(want) && want[i] {
				if some[i] != row[i] {
					t.Fatalf("column %d: got %v, want %v", i, some[i], row[i])
				}
			} else if !some[i].IsNull() {
				t.Fatalf("column %d was not wanted: %v", i, some[i])
			}
		}
		for n := range b {
			if _, err := DecodeRow(tbl, b[:n], nil); err == nil {
				t.Fatalf("%x cut at %d decodes", b, n)
			}
		}
	}
}

func TestRowBytes(t *testing.T) {
	tbl := mustTable(t, typesManifest)
	row := Row{I64(-1), Str("hé"), Null(), U64(300), F64(1.5), Bool(true), Bytes([]byte{0}), Str(""), Null()}
	const want = "0401" + // columns 2 and 8 are NULL
		"01" + "0368c3a9" + "ac02" + "000000000000f83f" + "01" + "0100" + "00"
	if got := hex.EncodeToString(AppendRow(nil, tbl, row)); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
}

func TestDecodeRowRefuses(t *testing.T) {
	tbl := mustTable(t, typesManifest)
	const all = "f601" // only columns 0 and 3 are not NULL
	for _, c := range []struct{ row, want string }{
		{"", "row of n.types: 0 bytes, its null bitmap alone takes 2"},
		{"fe03", "row of n.types: null bits of columns it does not have"},
		{"fe0100ff", "row of n.types: 1 bytes follow its 9 columns"},
		{all + "00", "row of n.types: column u at byte 3: the row ends inside it"},
		{all + "0080", "row of n.types: column u at byte 3: the row ends inside it"},
		{all + "008000", "row of n.types: column u at byte 3: not a shortest varint of 64 bits"},
		{all + "00ffffffffffffffffff02", "row of n.types: column u at byte 3: not a shortest varint of 64 bits"},
		{"fc01" + "00" + "0261", "row of n.types: column s at byte 4: the row ends inside it"},
		{"fc01" + "00" + "ffffffffffffffffff01", "row of n.types: column s at byte 13: the row ends inside it"},
		{"ee01" + "00" + "000000000000f87f", "row of n.types: column f at byte 3: a float that is not finite, or a negative zero"},
		{"ee01" + "00" + "0000000000000080", "row of n.types: column f at byte 3: a float that is not finite, or a negative zero"},
		{"ee01" + "00" + "00000000", "row of n.types: column f at byte 3: the row ends inside it"},
		{"de01" + "00" + "02", "row of n.types: column b at byte 3: a bool is neither 0 nor 1"},
		{"de01" + "00", "row of n.types: column b at byte 3: the row ends inside it"},
	} {
		b, err := hex.DecodeString(c.row)
		if err != nil {
			t.Fatal(err)
		}
		if row, err := DecodeRow(tbl, b, nil); err == nil || err.Error() != c.want {
			t.Errorf("%s: got %v, %v; want %s", c.row, row, err, c.want)
		}
	}
}

// A projection steps over what it does not want under the same checks, and does
// not look behind the last wanted column.
func TestDecodeColumnsChecksWhatItPasses(t *testing.T) {
	tbl := mustTable(t, typesManifest)
	row := AppendRow(nil, tbl, Row{I64(1), Str("abc"), I64(2), Null(), Null(), Null(), Null(), Null(), Null()})
	if _, err := DecodeColumns(tbl, row[:5], []bool{false, false, true}, nil); err == nil {
		t.Error("a string that is cut was stepped over")
	}
	got, err := DecodeColumns(tbl, row[:3], []bool{true}, nil)
	if err != nil || got[0] != I64(1) || len(got) != len(tbl.Columns) {
		t.Errorf("%v, %v", got, err)
	}
}

func TestDecodedRowsDoNotAlias(t *testing.T) {
	tbl := mustTable(t, typesManifest)
	b := AppendRow(nil, tbl, Row{I64(1), Str("abc"), Null(), Null(), Null(), Null(), Bytes([]byte("x")), Str("end"), Null()})
	whole, err := DecodeRow(tbl, b, nil)
	if err != nil {
		t.Fatal(err)
	}
	part, err := DecodeColumns(tbl, b, []bool{false, true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	src := []byte(`{"id":1,"s":"abc"}`)
	fromJSON, err := tbl.DecodeJSON(src, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b {
		b[i] = '!'
	}
	for i := range src {
		src[i] = '!'
	}
	if whole[1].AsStr() != "abc" || whole[7].AsStr() != "end" || part[1].AsStr() != "abc" || fromJSON[1].AsStr() != "abc" {
		t.Fatal("a decoded row changes with its source")
	}
}

func TestCheck(t *testing.T) {
	tbl := mustTable(t, typesManifest)
	row := func(change func(Row)) Row {
		r := make(Row, len(tbl.Columns))
		r[0] = I64(1)
		change(r)
		return r
	}
	for _, c := range []struct {
		name    string
		row     Row
		code    fault.Code
		message string
	}{
		{"right", row(func(r Row) { r[1] = Str("ü") }), "", ""},
		{"short", Row{I64(1)}, fault.ValidationFailed, "a row of 1 values for table n.types, which has 9 columns"},
		{"no key", row(func(r Row) { r[0] = Null() }), fault.MissingColumn, `table n.types requires column "id"; give it a value`},
		{"wrong type", row(func(r Row) { r[2] = U64(1) }), fault.TypeMismatch, `column "i" of table n.types is i64 and cannot hold a u64`},
		{"NaN", row(func(r Row) { r[4] = F64(nan) }), fault.TypeMismatch, `column "f" of table n.types is f64, and its value is not a finite number`},
		{"infinite", row(func(r Row) { r[4] = F64(math.Inf(-1)) }), fault.TypeMismatch, `column "f" of table n.types is f64, and its value is not a finite number`},
		{"bad text", row(func(r Row) { r[1] = Str("\xff") }), fault.TypeMismatch, `column "s" of table n.types is str, and its value is not valid UTF-8`},
		{"bytes may be anything", row(func(r Row) { r[6] = Bytes([]byte{0xff}) }), "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := tbl.Check(c.row)
			if c.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantFault(t, err, c.code, c.message)
		})
	}
}

func TestErrorsNameColumnsInBounds(t *testing.T) {
	var b strings.Builder
	b.WriteString(head + idColumn)
	for i := range 30 {
		b.WriteString("[[columns]]\nname = \"c" + string(rune('a'+i%26)) + strings.Repeat("x", i) + "\"\nty = \"str\"\n")
	}
	tbl := mustTable(t, b.String())
	_, err := tbl.DecodeJSON([]byte(`{"`+strings.Repeat("ü", 1000)+`":1}`), nil)
	msg := fault.From(err).Message
	if !strings.HasPrefix(msg, `table n.t has no column "`+strings.Repeat("ü", 32)+`…"`) || !strings.HasSuffix(msg, ", …") {
		t.Fatal(msg)
	}
}
