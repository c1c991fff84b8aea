package schema

import (
	"encoding/base64"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pelletier/go-toml/v2"

	"originchain/shared/fault"
)

// ParseManifest reads a manifest. The error is one fault that lists everything
// that is wrong, each with its line and key: validation_failed, or unsupported
// when declared triggers are all that is wrong.
//
// The document is decoded into generic tables and read from there rather than
// into structs in the library's strict mode: that stops at the first key of a
// wrong type, does not name the lines of semantic faults, and quotes the whole
// document once per unknown key, which is quadratic on a hostile one.
func ParseManifest(src []byte) (*Manifest, error) {
	if len(src) > MaxManifestBytes {
		return nil, fault.New(fault.ValidationFailed, "the manifest has %d bytes, more than %d; declare less", len(src), MaxManifestBytes)
	}
	if at := invalidUTF8(src); at >= 0 {
		return nil, fault.New(fault.ValidationFailed, "the manifest is not valid UTF-8: line %d: byte 0x%02x; save it as UTF-8", 1+strings.Count(string(src[:at]), "\n"), src[at])
	}
	lines, err := keyLines(src)
	if err != nil {
		return nil, err
	}
	var doc map[string]any
	if err := toml.Unmarshal(src, &doc); err != nil {
		return nil, errTOML(err)
	}
	f := &manifestFaults{lines: lines}
	m := readManifest(tomlTable{doc, "", f})
	m.validate(f)
	if err := f.err(); err != nil {
		return nil, err
	}
	return m, nil
}

// invalidUTF8 is the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(src []byte) int {
	if utf8.Valid(src) {
		return -1
	}
	for i := 0; ; {
		r, n := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && n <= 1 {
			return i
		}
		i += n
	}
}

func errTOML(err error) error {
	if de, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := de.Position()
		return fault.New(fault.ValidationFailed, "the manifest is not TOML: line %d, column %d: %s", line, column, strings.TrimPrefix(de.Error(), "toml: ")).Wrap(err)
	}
	return fault.New(fault.ValidationFailed, "the manifest is not TOML: %s", strings.TrimPrefix(err.Error(), "toml: ")).Wrap(err)
}

func readManifest(d tomlTable) *Manifest {
	m := &Manifest{
		Namespace:  d.str("namespace"),
		Table:      d.str("table"),
		PrimaryKey: d.strs("primary_key"),
		Version:    d.version(),
	}
	for _, e := range d.tables("columns") {
		m.Columns = append(m.Columns, e.column())
		e.onlyKeys("name", "ty", "required", "default")
	}
	for _, e := range d.tables("indexes") {
		m.Indexes = append(m.Indexes, IndexDef{e.str("name"), e.strs("columns"), e.flag("unique", false)})
		e.onlyKeys("name", "columns", "unique")
	}
	for _, e := range d.tables("relations") {
		m.Relations = append(m.Relations, e.relation())
		e.onlyKeys("name", "from_col", "bidirectional", "target")
	}
	for _, e := range d.tables("extractions") {
		m.Extractions = append(m.Extractions, Extraction{e.str("name"), e.str("path"), e.typ()})
		e.onlyKeys("name", "path", "ty")
	}
	for _, e := range d.tables("foreign_keys") {
		m.ForeignKeys = append(m.ForeignKeys, ForeignKeyDef{e.str("from_col"), e.str("target_schema"), e.str("target_col")})
		e.onlyKeys("from_col", "target_schema", "target_col")
	}
	for _, e := range d.tables("check_constraints") {
		m.CheckConstraints = append(m.CheckConstraints, Check{e.str("name"), e.str("expr")})
		e.onlyKeys("name", "expr")
	}
	for _, e := range d.tables("vectors") {
		m.Vectors = append(m.Vectors, Vector{e.str("name"), e.integer("dim"), e.strOr("metric", defaultMetric)})
		e.onlyKeys("name", "dim", "metric")
	}
	for _, e := range d.tables("fts") {
		m.FTS = append(m.FTS, FTS{e.str("field"), e.strOr("analyzer", defaultAnalyzer)})
		e.onlyKeys("field", "analyzer")
	}
	if v, ok := d.m["triggers"]; ok {
		if a, isArray := v.([]any); !isArray || len(a) > 0 {
			d.f.addCode(fault.Unsupported, "triggers", "triggers are not supported; leave them out or write triggers = []")
		}
	}
	m.Migration = d.migration()
	d.onlyKeys("namespace", "table", "primary_key", "version", "columns", "indexes", "relations", "extractions",
		"foreign_keys", "check_constraints", "vectors", "fts", "triggers", "migration")
	return m
}

// tomlTable reads typed keys of one table; what is wrong goes to f.
type tomlTable struct {
	m    map[string]any
	path string
	f    *manifestFaults
}

func (d tomlTable) at(key string) string {
	if d.path == "" {
		return key
	}
	return d.path + "." + key
}

// onlyKeys reports every key that is not known.
func (d tomlTable) onlyKeys(known ...string) {
	for k := range d.m {
		if !slices.Contains(known, k) {
			d.f.add(d.at(k), "unknown key; known here are %s", strings.Join(known, ", "))
		}
	}
}

func (d tomlTable) str(key string) string { return d.strOr(key, "") }

func (d tomlTable) strOr(key, absent string) string {
	v, ok := d.m[key]
	if !ok {
		return absent
	}
	s, ok := v.(string)
	if !ok {
		d.f.add(d.at(key), "is %s, want a string", tomlKind(v))
	}
	return s
}

func (d tomlTable) strs(key string) []string {
	v, ok := d.m[key]
	if !ok {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		d.f.add(d.at(key), "is %s, want an array of strings", tomlKind(v))
		return nil
	}
	var out []string
	for i, e := range list {
		s, ok := e.(string)
		if !ok {
			d.f.add(d.at(key)+"["+strconv.Itoa(i)+"]", "is %s, want a string", tomlKind(e))
		}
		out = append(out, s)
	}
	return out
}

func (d tomlTable) flag(key string, absent bool) bool {
	v, ok := d.m[key]
	if !ok {
		return absent
	}
	b, ok := v.(bool)
	if !ok {
		d.f.add(d.at(key), "is %s, want true or false", tomlKind(v))
	}
	return b
}

func (d tomlTable) integer(key string) int {
	v, ok := d.m[key]
	if !ok {
		return 0
	}
	n, ok := v.(int64)
	if !ok {
		d.f.add(d.at(key), "is %s, want an integer", tomlKind(v))
	}
	return int(n)
}

// version reads the u32 that defaults to 1.
func (d tomlTable) version() uint32 {
	if _, ok := d.m["version"]; !ok {
		return 1
	}
	n := d.integer("version")
	if n < 1 || n > math.MaxUint32 {
		d.f.add("version", "is %d; give a whole number from 1 to %d", n, uint32(math.MaxUint32))
		return 1
	}
	return uint32(n)
}

// tables reads an array of tables, written as [[key]] or inline.
func (d tomlTable) tables(key string) []tomlTable {
	v, ok := d.m[key]
	if !ok {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		d.f.add(d.at(key), "is %s, want an array of tables, [[%s]]", tomlKind(v), d.at(key))
		return nil
	}
	var out []tomlTable
	for i, e := range list {
		path := d.at(key) + "[" + strconv.Itoa(i) + "]"
		m, ok := e.(map[string]any)
		if !ok {
			d.f.add(path, "is %s, want a table", tomlKind(e))
			continue
		}
		out = append(out, tomlTable{m, path, d.f})
	}
	return out
}

// table reads a sub-table; a missing one is empty.
func (d tomlTable) table(key string) tomlTable {
	sub := tomlTable{nil, d.at(key), d.f}
	if v, ok := d.m[key]; ok {
		if sub.m, ok = v.(map[string]any); !ok {
			d.f.add(sub.path, "is %s, want a table", tomlKind(v))
		}
	}
	return sub
}

func (d tomlTable) typ() Type {
	name := d.str("ty")
	t, ok := ParseType(name)
	if !ok && name != "" {
		d.f.add(d.at("ty"), "unknown type %q; use one of %s", name, strings.Join(typeNames[1:], ", "))
	}
	return t
}

func (d tomlTable) column() ColumnDef {
	c := ColumnDef{Name: d.str("name"), Type: d.typ(), Required: d.flag("required", false)}
	if v, ok := d.m["default"]; ok && c.Type != TypeNull {
		var why string
		if c.Default, why = defaultValue(v, c.Type); why != "" {
			d.f.add(d.at("default"), "%s", why)
		}
	}
	return c
}

// defaultValue reads a default of type t, or says what is wrong with it.
func defaultValue(v any, t Type) (Value, string) {
	switch x := v.(type) {
	case string:
		switch t {
		case TypeStr:
			return Str(x), ""
		case TypeBytes:
			b, err := base64.StdEncoding.Strict().DecodeString(x)
			if err != nil {
				return Null(), "is not base64 with padding"
			}
			return Bytes(b), ""
		case TypeU64:
			if n, err := strconv.ParseUint(x, 10, 64); err == nil && strconv.FormatUint(n, 10) == x {
				return U64(n), ""
			}
			return Null(), "is not a whole number from 0 to 18446744073709551615"
		}
	case int64:
		switch t {
		case TypeI64:
			return I64(x), ""
		case TypeU64:
			if x < 0 {
				return Null(), "is negative, and the column is u64"
			}
			return U64(uint64(x)), ""
		case TypeF64:
			return F64(float64(x)), ""
		}
	case float64:
		if t == TypeF64 {
			return F64(x), ""
		}
	case bool:
		if t == TypeBool {
			return Bool(x), ""
		}
	}
	return Null(), "is " + tomlKind(v) + ", and the column is " + t.String()
}

func (d tomlTable) relation() Relation {
	target := d.table("target")
	r := Relation{
		Name: d.str("name"), FromCol: d.str("from_col"), Bidirectional: d.flag("bidirectional", false),
		Target: RelationTarget{target.str("namespace"), target.str("table"), target.str("pk")},
	}
	target.onlyKeys("namespace", "table", "pk")
	return r
}

func (d tomlTable) migration() *Migration {
	if _, ok := d.m["migration"]; !ok {
		return nil
	}
	s := d.table("migration")
	g := &Migration{Drops: s.strs("drop"), AutoCutover: s.flag("auto_cutover", true)}
	rename := s.table("rename")
	for from := range rename.m {
		g.Renames = append(g.Renames, Rename{from, rename.str(from)})
	}
	slices.SortFunc(g.Renames, func(a, b Rename) int { return strings.Compare(a.From, b.From) })
	for _, e := range s.tables("set") {
		g.Sets = append(g.Sets, MigrationSet{e.str("column"), e.str("expr")})
		e.onlyKeys("column", "expr")
	}
	s.onlyKeys("rename", "drop", "set", "auto_cutover")
	return g
}

// tomlKind names what a value is, for messages.
func tomlKind(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case bool:
		return "a bool"
	case []any:
		return "an array"
	case map[string]any:
		return "a table"
	default:
		return "a date or time"
	}
}
