package differential

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// column is one column of a random table.
type column struct {
	name     string
	ty       string // str, i64, u64, f64, bool, bytes
	required bool
}

// tableDef is a random table. Its primary key is id, or id and part.
type tableDef struct {
	name      string
	columns   []column
	composite bool
	indexes   [][]string
	uniques   [][]string
	parent    string // the table that column ref points to
}

var types = []string{"str", "i64", "u64", "f64", "bool", "bytes"}

// randomTable makes a table with one column of each of a few types, some
// required, with indexes, unique ones too, and often a reference to a parent.
func randomTable(rng *rand.Rand, name, parent string) *tableDef {
	t := &tableDef{name: name, composite: parent != "" && rng.IntN(2) == 0}
	t.columns = append(t.columns, column{"id", "i64", true})
	if t.composite {
		t.columns = append(t.columns, column{"part", "str", true})
	}
	for i := range 4 + rng.IntN(4) {
		ty := types[(i+rng.IntN(2))%len(types)]
		t.columns = append(t.columns, column{fmt.Sprintf("c%d", i), ty, rng.IntN(4) == 0})
	}
	if parent != "" {
		t.parent = parent
		t.columns = append(t.columns, column{"ref", "i64", false})
	}
	for range rng.IntN(3) {
		t.indexes = appendNew(t.indexes, t.someColumns(rng))
	}
	if rng.IntN(2) == 0 {
		t.uniques = appendNew(t.uniques, t.someColumns(rng))
	}
	return t
}

// appendNew adds a column list unless it is there: one index is enough for it.
func appendNew(lists [][]string, cols []string) [][]string {
	for _, l := range lists {
		if strings.Join(l, ",") == strings.Join(cols, ",") {
			return lists
		}
	}
	return append(lists, cols)
}

// someColumns picks one or two columns that are not of the primary key.
func (t *tableDef) someColumns(rng *rand.Rand) []string {
	rest := t.values()
	a, b := rng.IntN(len(rest)), rng.IntN(len(rest))
	if a == b || rng.IntN(2) == 0 {
		return []string{rest[a].name}
	}
	return []string{rest[a].name, rest[b].name}
}

func (t *tableDef) key() []string {
	if t.composite {
		return []string{"id", "part"}
	}
	return []string{"id"}
}

// values are the columns after the primary key.
func (t *tableDef) values() []column { return t.columns[len(t.key()):] }

// of lists the columns of these types.
func (t *tableDef) of(tys ...string) (out []column) {
	for _, c := range t.columns {
		for _, ty := range tys {
			if c.ty == ty {
				out = append(out, c)
			}
		}
	}
	return out
}

func quoted(names []string) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = strconv.Quote(n)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// manifest is the table for OriginChain.
func (t *tableDef) manifest() string {
	var b strings.Builder
	fmt.Fprintf(&b, "namespace = \"d\"\ntable = %q\nprimary_key = %s\n", t.name, quoted(t.key()))
	for _, c := range t.columns {
		fmt.Fprintf(&b, "[[columns]]\nname = %q\nty = %q\nrequired = %v\n", c.name, c.ty, c.required)
	}
	for i, ix := range t.indexes {
		fmt.Fprintf(&b, "[[indexes]]\nname = \"by_%d\"\ncolumns = %s\n", i, quoted(ix))
	}
	for i, ix := range t.uniques {
		fmt.Fprintf(&b, "[[indexes]]\nname = \"one_%d\"\ncolumns = %s\nunique = true\n", i, quoted(ix))
	}
	if t.parent != "" {
		fmt.Fprintf(&b, "[[foreign_keys]]\nfrom_col = \"ref\"\ntarget_schema = \"d.%s\"\ntarget_col = \"id\"\n", t.parent)
	}
	return b.String()
}

var sqliteTypes = map[string]string{"str": "TEXT", "i64": "INTEGER", "u64": "INTEGER", "f64": "REAL", "bool": "INTEGER", "bytes": "BLOB"}

// ddl is the table for SQLite.
func (t *tableDef) ddl() string {
	var parts []string
	for _, c := range t.columns {
		null := ""
		if c.required {
			null = " NOT NULL"
		}
		parts = append(parts, c.name+" "+sqliteTypes[c.ty]+null)
	}
	parts = append(parts, "PRIMARY KEY ("+strings.Join(t.key(), ", ")+")")
	for _, u := range t.uniques {
		parts = append(parts, "UNIQUE ("+strings.Join(u, ", ")+")")
	}
	if t.parent != "" {
		parts = append(parts, "FOREIGN KEY (ref) REFERENCES "+t.parent+" (id)")
	}
	return "CREATE TABLE d." + t.name + " (" + strings.Join(parts, ", ") + ") STRICT"
}

// literal is a random value of a column, in SQL that both understand. The pools
// are small, so that values meet.
func literal(rng *rand.Rand, c column) string {
	if !c.required && rng.IntN(6) == 0 {
		return "NULL"
	}
	return plain(rng, c)
}

// plain is never NULL. No float is a whole number: MySQL's and SQLite's texts
// of those differ, and sums of quarters are exact in any order.
func plain(rng *rand.Rand, c column) string {
	switch c.ty {
	case "str":
		return []string{"''", "'a'", "'ab'", "'abc'", "'b'", "'B'", "'é'", "'a b'", "'日本'", "'x''y'"}[rng.IntN(10)]
	case "i64":
		if rng.IntN(12) == 0 {
			return []string{"9223372036854775807", "-9223372036854775807", "4294967296", "-1"}[rng.IntN(4)]
		}
		return strconv.Itoa(rng.IntN(24) - 4)
	case "u64":
		return strconv.Itoa(rng.IntN(24))
	case "f64":
		return strconv.FormatFloat(float64(rng.IntN(80)-20)/4+0.125, 'f', -1, 64)
	case "bool":
		return []string{"TRUE", "FALSE"}[rng.IntN(2)]
	default:
		return []string{"X'00'", "X''", "X'ff01'", "X'6162'"}[rng.IntN(4)]
	}
}

// encodeBytes is how a row of JSON carries bytes.
func encodeBytes(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
