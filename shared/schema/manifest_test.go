package schema

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/fault"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func mustTable(t testing.TB, manifest string) *Table {
	t.Helper()
	m, err := ParseManifest([]byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	tbl, err := Compile(m)
	if err != nil {
		t.Fatal(err)
	}
	return tbl
}

// wantFault compares the whole client's view of an error.
func wantFault(t *testing.T, err error, code fault.Code, message string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s: %s", code, message)
	}
	got := fault.From(err)
	if got.Code != code || got.Message != message {
		t.Fatalf("got  %s: %s\nwant %s: %s", got.Code, got.Message, code, message)
	}
}

func TestGoldenManifests(t *testing.T) {
	files, err := filepath.Glob("testdata/manifests/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden manifests: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			m, err := ParseManifest(src)
			if err != nil {
				t.Fatal(err)
			}
			golden := strings.TrimSuffix(file, ".toml") + ".canonical"
			if *update {
				if err := os.WriteFile(golden, m.TOML(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), string(m.TOML())); diff != "" {
				t.Fatalf("canonical text (-want +got; -update rewrites it):\n%s", diff)
			}
			again, err := ParseManifest(m.TOML())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(m, again); diff != "" {
				t.Fatalf("the canonical text means another manifest:\n%s", diff)
			}
		})
	}
}

func TestManifestOfEverySection(t *testing.T) {
	src, err := os.ReadFile("testdata/manifests/everything.toml")
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseManifest(src)
	if err != nil {
		t.Fatal(err)
	}
	want := &Manifest{
		Namespace: "shop", Table: "orders", PrimaryKey: []string{"region", "id"}, Version: 7,
		Columns: []ColumnDef{
			{Name: "id", Type: TypeU64},
			{Name: "region", Type: TypeStr, Default: Str("de \"süd\"\n\x01")},
			{Name: "customer_id", Type: TypeI64, Required: true, Default: I64(-1 << 63)},
			{Name: "serial", Type: TypeU64, Default: U64(1<<64 - 1)},
			{Name: "weight", Type: TypeF64, Default: F64(2)},
			{Name: "tiny", Type: TypeF64, Default: F64(5e-324)},
			{Name: "open", Type: TypeBool, Default: Bool(true)},
			{Name: "blob", Type: TypeBytes, Default: Bytes([]byte{0, 1, 2, 255})},
			{Name: "doc", Type: TypeStr},
		},
		Indexes: []IndexDef{
			{Name: "by_region", Columns: []string{"region", "serial"}, Unique: true},
			{Name: "by_city", Columns: []string{"city"}},
		},
		Relations: []Relation{{Name: "placed_by", FromCol: "customer_id", Bidirectional: true,
			Target: RelationTarget{Namespace: "shop", Table: "customers", PK: "id"}}},
		Extractions: []Extraction{
			{Name: "city", Path: "doc.address.city", Type: TypeStr},
			{Name: "first_sku", Path: "items.0.sku", Type: TypeI64},
		},
		ForeignKeys: []ForeignKeyDef{
			{FromCol: "customer_id", TargetSchema: "shop.customers", TargetCol: "id"},
			{FromCol: "region", TargetSchema: "shop.regions", TargetCol: "code"},
		},
		CheckConstraints: []Check{{Name: "positive", Expr: "weight > 0 AND region <> ''"}},
		Vectors:          []Vector{{Name: "embedding", Dim: 16384, Metric: "l2"}, {Name: "small", Dim: 1, Metric: "cosine"}},
		FTS:              []FTS{{Field: "doc", Analyzer: "english"}, {Field: "notes", Analyzer: "standard"}},
		Migration: &Migration{
			Renames: []Rename{{From: "addr", To: "doc"}, {From: "zone", To: "region"}},
			Drops:   []string{"legacy", "older"},
			Sets:    []MigrationSet{{Column: "weight", Expr: "coalesce(kg, 0)"}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
}

// head is a manifest that is right; cases add to it.
const head = `namespace = "n"
table = "t"
primary_key = ["id"]
`

const idColumn = `
[[columns]]
name = "id"
ty = "i64"
`

const oneFault = "the manifest has a fault: "

var manifestFaultCases = []struct {
	name, src string
	code      fault.Code
	message   string
}{
	{"empty", "", fault.ValidationFailed,
		"the manifest has 4 faults: columns: a table needs at least one column; namespace: is missing; give it a name of letters, digits and _; primary_key: names no column; table: is missing; give it a name of letters, digits and _"},
	{"not TOML", head + "a = = 1", fault.ValidationFailed,
		"the manifest is not TOML: line 4, column 5: unexpected character U+003D '=' at start of value"},
	{"a key twice", head + "table = \"u\"", fault.ValidationFailed,
		"the manifest is not TOML: line 4, column 1: key table is already defined"},
	{"invalid UTF-8", head + "# \xff", fault.ValidationFailed,
		"the manifest is not valid UTF-8: line 4: byte 0xff; save it as UTF-8"},
	{"unknown key at the top", head + "colums = []" + idColumn, fault.ValidationFailed,
		oneFault + "line 4: colums: unknown key; known here are namespace, table, primary_key, version, columns, indexes, relations, extractions, foreign_keys, check_constraints, vectors, fts, triggers, migration"},
	{"unknown key in an entry", head + idColumn + "typ = 1", fault.ValidationFailed,
		oneFault + "line 8: columns[0].typ: unknown key; known here are name, ty, required, default"},
	{"unknown key in an inline entry", head + "columns = [\n{name = \"id\", ty = \"i64\"},\n{name = \"a\", ty = \"str\", x = 1}]", fault.ValidationFailed,
		oneFault + "line 6: columns[1].x: unknown key; known here are name, ty, required, default"},
	{"unknown key below", head + idColumn + "[[relations]]\nname = \"r\"\nfrom_col = \"id\"\n[relations.target]\nnamespace = \"n\"\ntable = \"t\"\npk = \"id\"\nschema = \"x\"", fault.ValidationFailed,
		oneFault + "line 15: relations[0].target.schema: unknown key; known here are namespace, table, pk"},
	{"every fault at once", "namespace = \"n n\"\ntable = 5\nprimary_key = [\"id\", \"none\", 3, \"id\"]\nversion = 4294967296\n[[columns]]\nname = \"id\"\nty = \"int\"\nrequired = 1", fault.ValidationFailed,
		`the manifest has 8 faults: line 1: namespace: "n n" is not a name: a letter or _, then letters, digits and _, at most 63 in all; line 2: table: is an integer, want a string; line 3: primary_key[1]: column "none" does not exist; line 3: primary_key[2]: is an integer, want a string; line 3: primary_key[3]: column "id" is declared twice; line 4: version: is 4294967296; give a whole number from 1 to 4294967295; line 7: columns[0].ty: unknown type "int"; use one of str, i64, u64, f64, bool, bytes; line 8: columns[0].required: is an integer, want true or false`},
	{"version 0", head + "version = 0" + idColumn, fault.ValidationFailed,
		oneFault + "line 4: version: is 0; give a whole number from 1 to 4294967295"},
	{"version beyond an integer", head + "version = 9223372036854775808" + idColumn, fault.ValidationFailed,
		"the manifest is not TOML: line 4, column 11: decimal number is too large to fit in a 64-bit signed integer"},
	{"triggers alone", head + "triggers = [\"x\"]" + idColumn, fault.Unsupported,
		oneFault + "line 4: triggers: triggers are not supported; leave them out or write triggers = []"},
	{"triggers as tables and a fault", head + idColumn + "x = 1\n[[triggers]]\nname = \"t\"", fault.ValidationFailed,
		"the manifest has 2 faults: line 8: columns[0].x: unknown key; known here are name, ty, required, default; line 9: triggers: triggers are not supported; leave them out or write triggers = []"},
	{"triggers before a fault", head + "triggers = [1]\nx = 1" + idColumn, fault.ValidationFailed,
		"the manifest has 2 faults: line 4: triggers: triggers are not supported; leave them out or write triggers = []; line 5: x: unknown key; known here are namespace, table, primary_key, version, columns, indexes, relations, extractions, foreign_keys, check_constraints, vectors, fts, triggers, migration"},
	{"a foreign key twice", head + idColumn + strings.Repeat("[[foreign_keys]]\nfrom_col = \"id\"\ntarget_schema = \"n.u\"\ntarget_col = \"k\"\n", 2), fault.ValidationFailed,
		`the manifest has a fault: line 12: foreign_keys[1]: foreign key "id to n.u.k" is declared twice`},
	{"a column twice", head + idColumn + idColumn, fault.ValidationFailed,
		oneFault + `line 10: columns[1].name: column "id" is declared twice`},
	{"a name of 64 bytes", head + idColumn + "[[columns]]\nty = \"str\"\nname = \"" + strings.Repeat("x", 64) + "\"", fault.ValidationFailed,
		oneFault + `line 10: columns[1].name: "` + strings.Repeat("x", 64) + `" is not a name: a letter or _, then letters, digits and _, at most 63 in all`},
	{"defaults of wrong types", head + idColumn + `
[[columns]]
name = "a"
ty = "i64"
default = "5"
[[columns]]
name = "b"
ty = "u64"
default = -1
[[columns]]
name = "c"
ty = "u64"
default = "18446744073709551616"
[[columns]]
name = "d"
ty = "f64"
default = nan
[[columns]]
name = "e"
ty = "bytes"
default = "AAEC/w"
[[columns]]
name = "f"
ty = "str"
default = 2020-01-01
[[columns]]
name = "g"
ty = "i64"
default = 1.0
[[columns]]
name = "h"
ty = "bool"
default = []
[[columns]]
name = "i"
ty = "u64"
default = "01"
[[columns]]
name = "j"
ty = "bytes"
default = "AAEC/x=="
`, fault.ValidationFailed,
		"the manifest has 10 faults: line 12: columns[1].default: is a string, and the column is i64; line 16: columns[2].default: is negative, and the column is u64; line 20: columns[3].default: is not a whole number from 0 to 18446744073709551615; line 24: columns[4].default: is not a finite number; line 28: columns[5].default: is not base64 with padding; line 32: columns[6].default: is a date or time, and the column is str; line 36: columns[7].default: is a float, and the column is i64; line 40: columns[8].default: is an array, and the column is bool; line 44: columns[9].default: is not a whole number from 0 to 18446744073709551615; line 48: columns[10].default: is not base64 with padding"},
	{"references that do not exist", head + idColumn + `
[[indexes]]
name = "i"
columns = ["x"]
[[indexes]]
name = "i"
columns = []
[[foreign_keys]]
from_col = "y"
target_schema = "people"
target_col = "id"
[[foreign_keys]]
from_col = "id"
target_schema = "n.t"
target_col = "none"
[[relations]]
name = "r"
from_col = "z"
target = { namespace = "n", table = "t" }
`, fault.ValidationFailed,
		`the manifest has 8 faults: line 11: indexes[0].columns[0]: column "x" does not exist; line 13: indexes[1].name: index "i" is declared twice; line 14: indexes[1].columns: names no column; line 16: foreign_keys[0].from_col: column "y" does not exist; line 17: foreign_keys[0].target_schema: "people" is not of the form namespace.table; line 22: foreign_keys[1].target_col: column "none" does not exist; line 25: relations[0].from_col: column "z" does not exist; line 26: relations[0].target.pk: is missing; give it a name of letters, digits and _`},
	{"extractions", head + idColumn + `
[[columns]]
name = "doc"
ty = "str"
[[extractions]]
name = "doc"
path = "a.b"
ty = "str"
[[extractions]]
name = "a"
path = "doc"
ty = "i64"
[[extractions]]
name = "c"
path = "id.x"
ty = "i64"
[[extractions]]
name = "d"
path = "$.x"
ty = "i64"
[[extractions]]
name = "e"
path = "x..y"
[[extractions]]
name = "e"
path = "x.y"
ty = "text"
`, fault.ValidationFailed,
		`the manifest has 9 faults: line 13: extractions[0].name: "doc" is a column's name too; give the extraction another; line 17: extractions[1].name: "a" is also the first key of an extraction's path; give the extraction another name; line 18: extractions[1].path: is column "doc" itself; name a key inside it; line 22: extractions[2].path: begins with column "id", which is i64; only a str column can hold JSON; line 26: extractions[3].path: "$.x" is not a dotted path: keys joined by single dots, without $; line 28: extractions[4].ty: is missing; use one of str, i64, u64, f64, bool, bytes; line 30: extractions[4].path: "x..y" is not a dotted path: keys joined by single dots, without $; line 32: extractions[5].name: extraction "e" is declared twice; line 34: extractions[5].ty: unknown type "text"; use one of str, i64, u64, f64, bool, bytes`},
	{"checks, vectors, full text", head + idColumn + `
[[check_constraints]]
name = "c"
expr = " "
[[check_constraints]]
name = "c"
expr = "id > 0"
[[vectors]]
name = "v"
dim = 0
[[vectors]]
name = "v"
dim = 16385
metric = "euclid"
[[fts]]
field = "id"
[[fts]]
field = "body"
analyzer = "klingon"
`, fault.ValidationFailed,
		`the manifest has 8 faults: line 11: check_constraints[0].expr: is missing; write an SQL expression over the row's columns; line 13: check_constraints[1].name: check constraint "c" is declared twice; line 17: vectors[0].dim: is 0; give a dimension from 1 to 16384; line 19: vectors[1].name: vector "v" is declared twice; line 20: vectors[1].dim: is 16385; give a dimension from 1 to 16384; line 21: vectors[1].metric: unknown metric "euclid"; use one of cosine, dot, l2, manhattan; line 23: fts[0].field: column "id" is i64; only str columns have full text; line 26: fts[1].analyzer: unknown analyzer "klingon"; use one of standard, simple, keyword, english`},
	{"migration", head + idColumn + "[migration]\ndrop = [\"id\", \"old\", \"old\"]\nrename = { a = \"none\" }\nextra = 1\n[[migration.set]]\ncolumn = \"none\"\nexpr = \"\"\nx = 1", fault.ValidationFailed,
		`the manifest has 8 faults: line 8: migration: version 1 has nothing to migrate from; leave the section out or raise the version; line 9: migration.drop[0]: column "id" is dropped and declared; do one of both; line 9: migration.drop[2]: column "old" is declared twice; line 10: migration.rename.a: column "none" does not exist; line 11: migration.extra: unknown key; known here are rename, drop, set, auto_cutover; line 13: migration.set[0].column: column "none" does not exist; line 14: migration.set[0].expr: is missing; write an SQL expression over the row's columns; line 15: migration.set[0].x: unknown key; known here are column, expr`},
	{"sections of wrong kinds", "columns = 1\nindexes = [1]\nmigration = 2\nprimary_key = \"id\"\nnamespace = \"n\"\ntable = \"t\"\nversion = \"1\"\nvectors = { name = \"v\" }", fault.ValidationFailed,
		"the manifest has 6 faults: line 1: columns: is an integer, want an array of tables, [[columns]]; line 2: indexes[0]: is an integer, want a table; line 3: migration: is an integer, want a table; line 4: primary_key: is a string, want an array of strings; line 7: version: is a string, want an integer; line 8: vectors: is a table, want an array of tables, [[vectors]]"},
}

func TestManifestFaults(t *testing.T) {
	for _, c := range manifestFaultCases {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseManifest([]byte(c.src))
			wantFault(t, err, c.code, c.message)
		})
	}
}

func TestManifestBounds(t *testing.T) {
	columns := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "[[columns]]\nname = \"c%d\"\nty = \"i64\"\n", i)
		}
		return b.String()
	}
	indexes := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, "[[indexes]]\nname = \"i%d\"\ncolumns = [\"c0\"]\n", i)
		}
		return b.String()
	}
	key := func(n int) string {
		names := make([]string, n)
		for i := range n {
			names[i] = fmt.Sprintf("%q", fmt.Sprint("c", i))
		}
		return "namespace = \"n\"\ntable = \"t\"\nprimary_key = [" + strings.Join(names, ", ") + "]\n"
	}
	fk := "[[foreign_keys]]\nfrom_col = \"c1\"\ntarget_schema = \"a.b\"\ntarget_col = \"c\"\n"
	extraction := "[[extractions]]\nname = \"x\"\npath = \"" + strings.Repeat("a.", MaxPathKeys) + "a\"\nty = \"str\"\n"
	for _, c := range []struct{ name, src, message string }{
		{"columns", key(1) + columns(MaxColumns), ""},
		{"columns", key(1) + columns(MaxColumns+1), "the manifest has a fault: line 4: columns: 1001 columns and extractions, more than 1000"},
		{"indexes", key(1) + columns(1) + indexes(MaxIndexes), ""},
		{"indexes", key(1) + columns(2) + indexes(MaxIndexes) + fk, "the manifest has a fault: line 10: indexes: 65 indexes, with those that foreign keys imply, more than 64"},
		{"key columns", key(MaxKeyColumns) + columns(17), ""},
		{"key columns", key(MaxKeyColumns+1) + columns(17), "the manifest has a fault: line 3: primary_key: 17 columns in one key, more than 16"},
		{"path", key(1) + columns(1) + extraction, "the manifest has a fault: line 9: extractions[0].path: 31 keys, more than 30"},
		{"expression", key(1) + columns(1) + "[[check_constraints]]\nname = \"c\"\nexpr = \"" + strings.Repeat("x", 4097) + "\"", "the manifest has a fault: line 9: check_constraints[0].expr: 4097 bytes in an expression, more than 4096"},
		{"bytes", key(1) + columns(1) + "#" + strings.Repeat("x", MaxManifestBytes), "the manifest has 1048661 bytes, more than 1048576; declare less"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseManifest([]byte(c.src))
			if c.message == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			wantFault(t, err, fault.ValidationFailed, c.message)
		})
	}
}

// A hostile manifest may be as long as it is allowed to be, and must not take
// more than its length in work and in answer: each of these shapes is quadratic
// in the reader or in the library below it unless it is bounded.
func TestHostileManifests(t *testing.T) {
	repeat := func(format string) string {
		var b strings.Builder
		for i := 0; b.Len() < MaxManifestBytes-32; i++ {
			fmt.Fprintf(&b, format, i)
		}
		return b.String()
	}
	for _, c := range []struct{ name, src, message string }{
		{"keys", repeat("k%d=1\n"), "the manifest has a table of more than 2000 keys at line 2001; declare less"},
		{"inline keys", "a = { z = 1" + repeat(",k%d=1") + "}", "the manifest has a table of more than 2000 keys at line 1; declare less"},
		{"inline keys, deep", "a=[[[[[[{b={z=1" + repeat(",k%d=1") + "}}]]]]]]", "the manifest has a table of more than 2000 keys at line 1; declare less"},
		{"tables", repeat("[k%d]\n"), "the manifest has more than 10000 tables; declare less"},
		{"arrays of tables", repeat("[[k%d]]\n"), "the manifest has more than 10000 tables; declare less"},
		{"a long key", strings.Repeat("k", MaxManifestBytes-8) + " = 1", ""},
		{"a long value", "table = \"" + strings.Repeat("ü", MaxManifestBytes/2-16) + "\"", ""},
		{"dots", strings.Repeat("a.", MaxManifestBytes/2-4) + "a=1", ""},
		{"brackets", "a=" + strings.Repeat("[", MaxManifestBytes-8), ""},
	} {
		_, err := ParseManifest([]byte(c.src))
		if fault.CodeOf(err) != fault.ValidationFailed || c.message != "" && fault.From(err).Message != c.message {
			t.Errorf("%s: %.200s", c.name, fault.From(err).Message)
		} else if n := len(err.Error()); n > 64<<10 {
			t.Errorf("%s: the message has %d bytes", c.name, n)
		}
	}
}

func TestLongListsOfFaultsAreCut(t *testing.T) {
	_, err := ParseManifest([]byte(head + idColumn + strings.Repeat("[[fts]]\n", 60)))
	msg := fault.From(err).Message
	if !strings.HasPrefix(msg, "the manifest has 60 faults: line 8: fts[0].field: is missing") || !strings.HasSuffix(msg, "; and 10 more") {
		t.Fatal(msg)
	}
}

func TestCompile(t *testing.T) {
	src, err := os.ReadFile("testdata/manifests/everything.toml")
	if err != nil {
		t.Fatal(err)
	}
	tbl := mustTable(t, string(src))
	if tbl.ID != "shop.orders" || tbl.Version != 7 {
		t.Errorf("got %s version %d", tbl.ID, tbl.Version)
	}
	if diff := cmp.Diff([]int{1, 0}, tbl.PK); diff != "" {
		t.Error(diff)
	}
	if !tbl.Columns[0].Required || !tbl.Columns[1].Required {
		t.Error("primary key columns must be required")
	}
	city := Column{Name: "city", Type: TypeStr, Extraction: true, Path: []string{"doc", "address", "city"}}
	if i, ok := tbl.ColumnIndex("city"); !ok || !cmp.Equal(tbl.Columns[i], city) {
		t.Errorf("column %d: %v", i, tbl.Columns[i])
	}
	if _, ok := tbl.ColumnIndex("items"); ok {
		t.Error("an undeclared root is a column")
	}
	// by_region begins with region, so only customer_id needs an index.
	want := []Index{
		{Name: "by_region", Columns: []int{1, 3}, Unique: true},
		{Name: "by_city", Columns: []int{9}},
		{Name: "fk:customer_id", Columns: []int{2}, Implicit: true},
	}
	if diff := cmp.Diff(want, tbl.Indexes); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]ForeignKey{{2, "shop.customers", "id"}, {1, "shop.regions", "code"}}, tbl.ForeignKeys); diff != "" {
		t.Error(diff)
	}
}

func TestForeignKeysOnOneColumnShareAnIndex(t *testing.T) {
	tbl := mustTable(t, head+idColumn+`
[[foreign_keys]]
from_col = "id"
target_schema = "n.a"
target_col = "k"
[[foreign_keys]]
from_col = "id"
target_schema = "n.b"
target_col = "k"
`)
	if diff := cmp.Diff([]Index{{Name: "fk:id", Columns: []int{0}, Implicit: true}}, tbl.Indexes); diff != "" {
		t.Fatal(diff)
	}
}

func TestCompileChecksManifestsThatWereNotParsed(t *testing.T) {
	_, err := Compile(&Manifest{Namespace: "n", Table: "t", Version: 0, PrimaryKey: []string{"id"},
		Columns: []ColumnDef{{Name: "id", Type: TypeI64, Default: Str("x")}, {Name: "f", Type: TypeF64, Default: F64(nan)}, {Name: "s", Type: TypeStr, Default: Str("\xff")}, {Name: "n"}}})
	wantFault(t, err, fault.ValidationFailed, "the manifest has 5 faults: columns[0].default: is str, and the column is i64; columns[1].default: is not a finite number; columns[2].default: is not valid UTF-8; columns[3].ty: is missing; use one of str, i64, u64, f64, bool, bytes; version: versions begin at 1")
}

func TestCheckIndex(t *testing.T) {
	tbl := mustTable(t, flightManifest)
	for _, c := range []struct {
		name    string
		columns []string
		have    int
		code    fault.Code
		message string
	}{
		{"ok", []string{"delay", "origin"}, 63, "", ""},
		{"ok", []string{"delay"}, 64, fault.ValidationFailed, `table air.flights has 64 indexes, which is the most it may have; drop one before creating "ok"`},
		{"not ok", []string{"delay"}, 0, fault.ValidationFailed, `"not ok" is not an index name: a letter or _, then letters, digits and _, at most 63 in all`},
		{"ok", nil, 0, fault.ValidationFailed, `index "ok" of table air.flights names 0 columns; give 1 to 16`},
		{"ok", []string{"delay", "delay"}, 0, fault.ValidationFailed, `index "ok" of table air.flights names column "delay" twice`},
		{"ok", []string{"gate"}, 0, fault.UnknownColumn, `table air.flights has no column "gate"; its columns are id, date, delay, distance, origin, destination`},
	} {
		err := CheckIndex(tbl, c.name, c.columns, c.have)
		if c.code != "" {
			wantFault(t, err, c.code, c.message)
		} else if err != nil {
			t.Error(err)
		}
	}
}
