package schema

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/fault"
)

func TestDecodeJSON(t *testing.T) {
	tbl := mustTable(t, typesManifest)
	row := func(set ...any) Row {
		r := make(Row, len(tbl.Columns))
		r[0] = I64(1)
		for i := 0; i < len(set); i += 2 {
			c, _ := tbl.ColumnIndex(set[i].(string))
			r[c] = set[i+1].(Value)
		}
		return r
	}
	for _, c := range []struct {
		src  string
		want Row
	}{
		{`{"id":1}`, row()},
		{" \t\r\n{ \"id\" : 1 , \"b\" : true } \n", row("b", Bool(true))},
		{`{"b":false,"id":1}`, row("b", Bool(false))},
		{`{"id":1,"s":null,"i":null,"u":null,"f":null,"b":null,"x":null}`, row()},
		{`{"id":1,"s":""}`, row("s", Str(""))},
		{`{"id":1,"s":"ü😀"}`, row("s", Str("ü😀"))},
		{`{"id":1,"s":"\"\\\/\b\f\n\r\t\u0000\u00fc\ud83d\ude00","last":"z"}`, row("s", Str("\"\\/\b\f\n\r\t\x00ü😀"), "last", Str("z"))},
		{`{"\u0069d":1,"\u0073":"k"}`, row("s", Str("k"))},
		{`{"id":1,"i":-9223372036854775808}`, row("i", I64(math.MinInt64))},
		{`{"id":1,"i":9223372036854775807}`, row("i", I64(math.MaxInt64))},
		{`{"id":1,"i":-0}`, row("i", I64(0))},
		{`{"id":1,"i":1.0}`, row("i", I64(1))},
		{`{"id":1,"i":-12.50e1}`, row("i", I64(-125))},
		{`{"id":1,"i":9223372036854775807.000}`, row("i", I64(math.MaxInt64))},
		{`{"id":1,"i":9223372036854775807000e-3}`, row("i", I64(math.MaxInt64))},
		{`{"id":1,"i":0e99999999999}`, row("i", I64(0))},
		{`{"id":1,"i":0e-5}`, row("i", I64(0))},
		{`{"id":1,"i":0.0000}`, row("i", I64(0))},
		{`{"id":1,"i":1` + strings.Repeat("0", 300) + `e-300}`, row("i", I64(1))},
		{`{"id":1,"u":18446744073709551615}`, row("u", U64(math.MaxUint64))},
		{`{"id":1,"u":1.8446744073709551615E+19}`, row("u", U64(math.MaxUint64))},
		{`{"id":1,"u":-0.0}`, row("u", U64(0))},
		{`{"id":1,"f":5}`, row("f", F64(5))},
		{`{"id":1,"f":-0.0}`, row("f", F64(0))},
		{`{"id":1,"f":0.1}`, row("f", F64(0.1))},
		{`{"id":1,"f":1e-400}`, row("f", F64(0))},
		{`{"id":1,"f":1.7976931348623157e308}`, row("f", F64(math.MaxFloat64))},
		{`{"id":1,"f":9007199254740993}`, row("f", F64(9007199254740992))},
		{`{"id":1,"x":"AAEC/w=="}`, row("x", Bytes([]byte{0, 1, 2, 255}))},
		{`{"id":1,"x":""}`, row("x", Bytes(nil))},
		{`{"id":1,"x":"\u0041AAA"}`, row("x", Bytes([]byte{0, 0, 0}))},
	} {
		got, err := tbl.DecodeJSON([]byte(c.src), nil)
		if err != nil {
			t.Errorf("%.80s: %v", c.src, err)
		} else if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%.80s: %s", c.src, diff)
		}
	}
}

var jsonFaultCases = []struct {
	src     string
	code    fault.Code
	message string
}{
	{``, fault.InvalidJSON, "invalid JSON at byte 0: it ends where a JSON object is expected"},
	{`[]`, fault.InvalidJSON, "invalid JSON at byte 0: '[' where a JSON object is expected"},
	{`{"id":1`, fault.InvalidJSON, "invalid JSON at byte 7: it ends where a comma or } is expected"},
	{`{"id":1,}`, fault.InvalidJSON, "invalid JSON at byte 8: '}' where a key in quotes is expected"},
	{`{id:1}`, fault.InvalidJSON, "invalid JSON at byte 1: 'i' where a key in quotes is expected"},
	{`{"id" 1}`, fault.InvalidJSON, "invalid JSON at byte 6: '1' where a colon is expected"},
	{`{"id":}`, fault.InvalidJSON, "invalid JSON at byte 6: '}' where a value is expected"},
	{`{"id":1 "s":""}`, fault.InvalidJSON, "invalid JSON at byte 8: '\"' where a comma or } is expected"},
	{`{"id":1} x`, fault.InvalidJSON, "invalid JSON at byte 9: 'x' after the end of the value"},
	{`{"id":1}{"id":2}`, fault.InvalidJSON, "invalid JSON at byte 8: '{' after the end of the value"},
	{`{"id":1,"id":1}`, fault.InvalidJSON, `invalid JSON at byte 13: key "id" occurs twice`},
	{`{"id":1,"\u0069d":1}`, fault.InvalidJSON, `invalid JSON at byte 18: key "id" occurs twice`},
	{`{"id":NaN}`, fault.InvalidJSON, "invalid JSON at byte 6: 'N' where a value is expected"},
	{`{"id":-Infinity}`, fault.InvalidJSON, "invalid JSON at byte 7: 'I' where a digit is expected"},
	{`{"f":nan}`, fault.InvalidJSON, "invalid JSON at byte 5: 'n' where a value is expected"},
	{`{"b":tru}`, fault.InvalidJSON, "invalid JSON at byte 5: 't' where a value is expected"},
	{`{"id":01}`, fault.InvalidJSON, "invalid JSON at byte 7: a number with a leading zero"},
	{`{"id":1.}`, fault.InvalidJSON, "invalid JSON at byte 8: '}' where a digit is expected"},
	{`{"id":1e}`, fault.InvalidJSON, "invalid JSON at byte 8: '}' where a digit is expected"},
	{`{"id":.5}`, fault.InvalidJSON, "invalid JSON at byte 6: '.' where a value is expected"},
	{`{"id":+1}`, fault.InvalidJSON, "invalid JSON at byte 6: '+' where a value is expected"},
	{`{"id":0x10}`, fault.InvalidJSON, "invalid JSON at byte 7: 'x' where a comma or } is expected"},
	{`{"s":"abc`, fault.InvalidJSON, "invalid JSON at byte 9: a string without its closing quote"},
	{`{"s":"abc\`, fault.InvalidJSON, "invalid JSON at byte 10: a string without its closing quote"},
	{"{\"s\":\"a\x01\"}", fault.InvalidJSON, "invalid JSON at byte 7: control character 0x01 in a string; escape it"},
	{"{\"s\":\"a\xc3\"}", fault.InvalidJSON, "invalid JSON at byte 7: byte 0xc3 is not valid UTF-8"},
	{"{\"s\":\"\xed\xa0\x80\"}", fault.InvalidJSON, "invalid JSON at byte 6: byte 0xed is not valid UTF-8"},
	{"{\"\xff\":1}", fault.InvalidJSON, "invalid JSON at byte 2: byte 0xff is not valid UTF-8"},
	{`{"s":"\x41"}`, fault.InvalidJSON, `invalid JSON at byte 11: unknown escape \x in the string before`},
	{`{"s":"\u12G4"}`, fault.InvalidJSON, `invalid JSON at byte 13: a \u escape without four hex digits, or half of a surrogate pair, in the string before`},
	{`{"s":"\ud800"}`, fault.InvalidJSON, `invalid JSON at byte 13: a \u escape without four hex digits, or half of a surrogate pair, in the string before`},
	{`{"s":"\ud800\ud800"}`, fault.InvalidJSON, `invalid JSON at byte 19: a \u escape without four hex digits, or half of a surrogate pair, in the string before`},
	{`{"s":"\ud800\udc0"}`, fault.InvalidJSON, `invalid JSON at byte 18: a \u escape without four hex digits, or half of a surrogate pair, in the string before`},
	{`{"s":"\ud800a"}`, fault.InvalidJSON, `invalid JSON at byte 14: a \u escape without four hex digits, or half of a surrogate pair, in the string before`},
	{`{"s":"\udc00\ud800"}`, fault.InvalidJSON, `invalid JSON at byte 19: a \u escape without four hex digits, or half of a surrogate pair, in the string before`},
	{`{"id":1,"gate":2}`, fault.UnknownColumn, `table n.types has no column "gate"; its columns are id, s, i, u, f, b, x, last, ninth`},
	{`{"ID":1}`, fault.UnknownColumn, `table n.types has no column "ID"; its columns are id, s, i, u, f, b, x, last, ninth`},
	{`{}`, fault.MissingColumn, `table n.types requires column "id"; give it a value`},
	{`{"id":null}`, fault.MissingColumn, `table n.types requires column "id"; give it a value`},
	{`{"id":"1"}`, fault.TypeMismatch, `column "id" of table n.types is i64, and its value is a string`},
	{`{"id":true}`, fault.TypeMismatch, `column "id" of table n.types is i64, and its value is a bool`},
	{`{"id":{}}`, fault.TypeMismatch, `column "id" of table n.types is i64, and its value is an object`},
	{`{"s":5}`, fault.TypeMismatch, `column "s" of table n.types is str, and its value is a number`},
	{`{"s":{"a":1}}`, fault.TypeMismatch, `column "s" of table n.types is str, and its value is an object`},
	{`{"id":1,"s":` + strings.Repeat("[", 40), fault.TypeMismatch, `column "s" of table n.types is str, and its value is an array`},
	{`{"b":1}`, fault.TypeMismatch, `column "b" of table n.types is bool, and its value is a number`},
	{`{"i":1.5}`, fault.TypeMismatch, `column "i" of table n.types is i64, and its value 1.5 is not a whole number`},
	{`{"i":1e-1}`, fault.TypeMismatch, `column "i" of table n.types is i64, and its value 1e-1 is not a whole number`},
	{`{"i":9223372036854775808}`, fault.TypeMismatch, `column "i" of table n.types is i64, and its value 9223372036854775808 is out of range`},
	{`{"i":-9223372036854775809}`, fault.TypeMismatch, `column "i" of table n.types is i64, and its value -9223372036854775809 is out of range`},
	{`{"i":1e19}`, fault.TypeMismatch, `column "i" of table n.types is i64, and its value 1e19 is out of range`},
	{`{"i":1e99999999999999999999}`, fault.TypeMismatch, `column "i" of table n.types is i64, and its value 1e99999999999999999999 is out of range`},
	{`{"i":1e-99999999999999999999}`, fault.TypeMismatch, `column "i" of table n.types is i64, and its value 1e-99999999999999999999 is not a whole number`},
	{`{"i":1e18446744073709551616}`, fault.TypeMismatch, `column "i" of table n.types is i64, and its value 1e18446744073709551616 is out of range`},
	{`{"u":18446744073709551616}`, fault.TypeMismatch, `column "u" of table n.types is u64, and its value 18446744073709551616 is out of range`},
	{`{"u":-1}`, fault.TypeMismatch, `column "u" of table n.types is u64, and its value -1 is out of range`},
	{`{"f":1e309}`, fault.TypeMismatch, `column "f" of table n.types is f64, and its value 1e309 is out of range`},
	{`{"f":-1` + strings.Repeat("0", 400) + `}`, fault.TypeMismatch, `column "f" of table n.types is f64, and its value -1` + strings.Repeat("0", 62) + `… is out of range`},
	{`{"x":"AAEC/w"}`, fault.TypeMismatch, `column "x" of table n.types is bytes, and its value is not standard base64 with padding`},
	{`{"x":"AAEC_w=="}`, fault.TypeMismatch, `column "x" of table n.types is bytes, and its value is not standard base64 with padding`},
	{`{"x":"AAEC/x=="}`, fault.TypeMismatch, `column "x" of table n.types is bytes, and its value is not standard base64 with padding`},
	{`{"x":"AAEC\n/w=="}`, fault.TypeMismatch, `column "x" of table n.types is bytes, and its value is not standard base64 with padding`},
}

func TestDecodeJSONRefuses(t *testing.T) {
	tbl := mustTable(t, typesManifest)
	for _, c := range jsonFaultCases {
		t.Run(fmt.Sprintf("%.40s", c.src), func(t *testing.T) {
			_, err := tbl.DecodeJSON([]byte(c.src), nil)
			wantFault(t, err, c.code, c.message)
		})
	}
	_, err := tbl.DecodeJSON(make([]byte, MaxRowJSONBytes+1), nil)
	wantFault(t, err, fault.BodyTooLarge, "a row of 8388609 bytes of JSON for table n.types, more than 8388608; keep large content elsewhere and its address here")
}

const defaultsManifest = `namespace = "n"
table = "d"
primary_key = ["id"]
columns = [
  { name = "id", ty = "i64" },
  { name = "a", ty = "str", required = true },
  { name = "b", ty = "f64", required = true },
  { name = "c", ty = "str", default = "long enough to be told from the row's own text" },
  { name = "d", ty = "str", default = "" },
  { name = "e", ty = "u64", required = true, default = 5 },
]
`

func TestDefaultsAndRequired(t *testing.T) {
	tbl := mustTable(t, defaultsManifest)
	got, err := tbl.DecodeJSON([]byte(`{"id":1,"a":"x","b":2}`), nil)
	want := Row{I64(1), Str("x"), F64(2), Str("long enough to be told from the row's own text"), Str(""), U64(5)}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Fatalf("%v %s", err, diff)
	}
	// NULL is a value: it does not bring the default back.
	got, err = tbl.DecodeJSON([]byte(`{"id":1,"a":"x","b":2,"c":null}`), got)
	if err != nil || !got[3].IsNull() {
		t.Fatalf("%v %v", got, err)
	}
	_, err = tbl.DecodeJSON([]byte(`{"id":1,"b":null}`), nil)
	wantFault(t, err, fault.MissingColumn, "table n.d requires columns a, b; give them values")
	_, err = tbl.DecodeJSON([]byte(`{"id":1,"a":"","b":1,"e":null}`), nil)
	wantFault(t, err, fault.MissingColumn, `table n.d requires column "e"; give it a value`)
}

func TestDecodeJSONReusesTheRow(t *testing.T) {
	tbl := mustTable(t, flightManifest)
	src := []byte(flightJSON)
	row, err := tbl.DecodeJSON(src, nil)
	if err != nil {
		t.Fatal(err)
	}
	n := testing.AllocsPerRun(100, func() {
		if row, err = tbl.DecodeJSON(src, row); err != nil {
			t.Fatal(err)
		}
	})
	if n > 1 {
		t.Errorf("%v allocations for a row, want the one of its strings", n)
	}
	// The strings of a row do not keep the memory of a much longer body.
	padded := append(make([]byte, 0, 2048), strings.Repeat(" ", 1024)+flightJSON...)
	n = testing.AllocsPerRun(100, func() {
		if row, err = tbl.DecodeJSON(padded, row); err != nil {
			t.Fatal(err)
		}
	})
	if n != 2 {
		t.Errorf("%v allocations for a padded row, want its text and the copy that fits", n)
	}
	// What an earlier row held must not shine through.
	row, err = tbl.DecodeJSON([]byte(`{"id":2}`), row)
	if diff := cmp.Diff(Row{I64(2), Null(), Null(), Null(), Null(), Null()}, row); err != nil || diff != "" {
		t.Fatalf("%v %s", err, diff)
	}
}

// Floats read as strconv reads them, by the fast way and the slow one.
func TestParseFloatRoundsCorrectly(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	for range 20000 {
		var s string
		switch r.IntN(3) {
		case 0:
			s = strconv.FormatFloat((r.Float64()-0.5)*1e6, 'f', r.IntN(12), 64)
		case 1:
			s = strconv.FormatInt(int64(r.Uint64())>>r.IntN(64), 10)
		case 2:
			s = strconv.FormatFloat(math.Float64frombits(r.Uint64()&^(1<<62)), 'e', -1, 64)
		}
		want, err := strconv.ParseFloat(s, 64)
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := parseFloat([]byte(s)); !ok || got != want {
			t.Fatalf("%s: got %v, want %v", s, got, want)
		}
	}
}

func TestAppendJSON(t *testing.T) {
	tbl := mustTable(t, typesManifest)
	row := Row{I64(-5), Str("a\"\\\n\r\t\x00\x1f\u2028ü😀</"), Null(), U64(math.MaxUint64), F64(1e-7), Bool(false), Bytes([]byte{255}), Str("bad\xffutf"), Bool(true)}
	const want = `{"id":-5,"s":"a\"\\\n\r\t\u0000\u001f` + "\u2028" + `ü😀</","i":null,"u":18446744073709551615,"f":1e-7,"b":false,"x":"/w==","last":"bad` + "\uFFFD" + `utf","ninth":true}`
	got := tbl.AppendJSON([]byte("x"), row)
	if string(got[1:]) != want {
		t.Fatalf("got  %s\nwant %s", got[1:], want)
	}
	if !json.Valid(got[1:]) {
		t.Fatal("not JSON")
	}
}

func TestJSONRoundTrips(t *testing.T) {
	tbl := mustTable(t, typesManifest)
	r := rand.New(rand.NewPCG(7, 8))
	var back Row
	for range 3000 {
		row := randomRow(r, tbl)
		b := tbl.AppendJSON(nil, row)
		var err error
		if back, err = tbl.DecodeJSON(b, back); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		if diff := cmp.Diff(row, back); diff != "" {
			t.Fatalf("%s: %s", b, diff)
		}
	}
}

func TestPrimaryKeysInPaths(t *testing.T) {
	of := func(ty string) *Table {
		return mustTable(t, "namespace=\"n\"\ntable=\"t\"\nprimary_key=[\"k\"]\ncolumns=[{name=\"k\",ty=\""+ty+"\"}]")
	}
	for _, c := range []struct {
		ty, pk string
		want   Value
	}{
		{"str", "a/b ü", Str("a/b ü")}, {"str", "", Str("")},
		{"i64", "-9223372036854775808", I64(math.MinInt64)}, {"i64", "0", I64(0)},
		{"u64", "18446744073709551615", U64(math.MaxUint64)},
		{"f64", "1.5", F64(1.5)}, {"f64", "1e-7", F64(1e-7)}, {"f64", "0", F64(0)},
		{"bool", "true", Bool(true)}, {"bool", "false", Bool(false)},
		{"bytes", "/w==", Bytes([]byte{255})}, {"bytes", "", Bytes(nil)},
	} {
		got, err := of(c.ty).ParsePK(c.pk)
		if err != nil || got != c.want || FormatPK([]Value{got}) != c.pk {
			t.Errorf("%s %q: got %v (%s), %v", c.ty, c.pk, got, FormatPK([]Value{got}), err)
		}
	}
	for _, c := range []struct{ ty, pk, form string }{
		{"str", "\xff", "valid UTF-8"},
		{"i64", "01", "a whole number in its range, in decimal without leading zeros"},
		{"i64", "+1", "a whole number in its range, in decimal without leading zeros"},
		{"i64", "-0", "a whole number in its range, in decimal without leading zeros"},
		{"i64", "9223372036854775808", "a whole number in its range, in decimal without leading zeros"},
		{"i64", "1.0", "a whole number in its range, in decimal without leading zeros"},
		{"u64", "01", "a whole number in its range, in decimal without leading zeros"},
		{"u64", "-1", "a whole number in its range, in decimal without leading zeros"},
		{"f64", "NaN", "a finite number written as in JSON"},
		{"f64", "1e400", "a finite number written as in JSON"},
		{"f64", "0x1p4", "a finite number written as in JSON"},
		{"f64", "", "a finite number written as in JSON"},
		{"bool", "1", "true or false"},
		{"bytes", "_w==", "standard base64 with padding"},
		{"bytes", "/w=\n=", "standard base64 with padding"},
	} {
		_, err := of(c.ty).ParsePK(c.pk)
		wantFault(t, err, fault.TypeMismatch, fmt.Sprintf("%q is not a key of table n.t: column \"k\" is %s, %s", c.pk, c.ty, c.form))
	}
	composite := mustTable(t, "namespace=\"n\"\ntable=\"t\"\nprimary_key=[\"a\",\"b\"]\ncolumns=[{name=\"a\",ty=\"str\"},{name=\"b\",ty=\"u64\"}]")
	_, err := composite.ParsePK("x")
	wantFault(t, err, fault.Unsupported, "the primary key of table n.t has 2 columns, and a path holds one value; use SQL with a WHERE over them")
	for _, text := range []string{`["x",7]`, ` [ "x" , 7 ] `, `["\u0078",7]`} {
		if got, err := composite.ParseTuple(text); err != nil || len(got) != 2 || FormatPK(got) != `["x",7]` {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{``, `x`, `["x"]`, `["x",7,8]`, `["x","7"]`, `[x,7]`, `["x",7.0]`, `["x",-1]`, `["x",null]`, `{"a":"x"}`, `["x",7]]`, "[\"\xff\",7]"} {
		if _, err := composite.ParseTuple(text); err == nil {
			t.Errorf("%q is taken for a key", text)
		}
	}
	if got, err := of("str").ParseTuple(`["x"]`); err != nil || got[0] != Str(`["x"]`) {
		t.Errorf("a key of one column is its text: %v, %v", got, err)
	}
	if got := FormatPK([]Value{Str("a\"b"), U64(7), Bytes([]byte{255}), Null()}); got != `["a\"b",7,"/w==",null]` {
		t.Error(got)
	}
}
