package schema

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

// TOML is the canonical text of the manifest: fixed order of keys, defaults left
// out. Parsing it gives the same manifest, and manifests that mean the same have
// the same text, which is how a repeated registration is recognised.
func (m *Manifest) TOML() []byte {
	var w tomlWriter
	w.str("namespace", m.Namespace)
	w.str("table", m.Table)
	w.strs("primary_key", m.PrimaryKey)
	w.key("version", strconv.FormatUint(uint64(m.Version), 10))
	for _, c := range m.Columns {
		w.entry("columns")
		w.str("name", c.Name)
		w.str("ty", c.Type.String())
		w.flag("required", c.Required)
		if !c.Default.IsNull() {
			w.key("default", tomlValue(c.Default))
		}
	}
	for _, x := range m.Indexes {
		w.entry("indexes")
		w.str("name", x.Name)
		w.strs("columns", x.Columns)
		w.flag("unique", x.Unique)
	}
	for _, r := range m.Relations {
		w.entry("relations")
		w.str("name", r.Name)
		w.str("from_col", r.FromCol)
		w.flag("bidirectional", r.Bidirectional)
		w.WriteString("[relations.target]\n")
		w.str("namespace", r.Target.Namespace)
		w.str("table", r.Target.Table)
		w.str("pk", r.Target.PK)
	}
	for _, e := range m.Extractions {
		w.entry("extractions")
		w.str("name", e.Name)
		w.str("path", e.Path)
		w.str("ty", e.Type.String())
	}
	for _, k := range m.ForeignKeys {
		w.entry("foreign_keys")
		w.str("from_col", k.FromCol)
		w.str("target_schema", k.TargetSchema)
		w.str("target_col", k.TargetCol)
	}
	for _, c := range m.CheckConstraints {
		w.entry("check_constraints")
		w.str("name", c.Name)
		w.str("expr", c.Expr)
	}
	for _, v := range m.Vectors {
		w.entry("vectors")
		w.str("name", v.Name)
		w.key("dim", strconv.Itoa(v.Dim))
		w.str("metric", v.Metric)
	}
	for _, x := range m.FTS {
		w.entry("fts")
		w.str("field", x.Field)
		w.str("analyzer", x.Analyzer)
	}
	w.migration(m.Migration)
	return []byte(w.String())
}

type tomlWriter struct{ strings.Builder }

func (w *tomlWriter) key(key, value string) { w.WriteString(key + " = " + value + "\n") }

func (w *tomlWriter) str(key, value string) { w.key(key, quoteTOML(value)) }

func (w *tomlWriter) strs(key string, values []string) {
	quoted := make([]string, len(values))
	for i, v := range values {
		quoted[i] = quoteTOML(v)
	}
	w.key(key, "["+strings.Join(quoted, ", ")+"]")
}

// flag writes true and leaves false, the default, out.
func (w *tomlWriter) flag(key string, on bool) {
	if on {
		w.key(key, "true")
	}
}

func (w *tomlWriter) entry(table string) { w.WriteString("\n[[" + table + "]]\n") }

func (w *tomlWriter) migration(g *Migration) {
	if g == nil {
		return
	}
	w.WriteString("\n[migration]\n")
	if len(g.Drops) > 0 {
		w.strs("drop", g.Drops)
	}
	w.key("auto_cutover", strconv.FormatBool(g.AutoCutover))
	if len(g.Renames) > 0 {
		w.WriteString("\n[migration.rename]\n")
		for _, r := range g.Renames {
			w.str(quoteTOML(r.From), r.To)
		}
	}
	for _, s := range g.Sets {
		w.entry("migration.set")
		w.str("column", s.Column)
		w.str("expr", s.Expr)
	}
}

// tomlValue writes a default so that defaultValue reads it back.
func tomlValue(v Value) string {
	switch v.t {
	case TypeStr:
		return quoteTOML(v.s)
	case TypeBytes:
		return quoteTOML(base64.StdEncoding.EncodeToString([]byte(v.s)))
	case TypeU64:
		if v.n > 1<<63-1 { // above TOML's integers
			return quoteTOML(v.String())
		}
		return v.String()
	case TypeF64:
		s := v.String()
		if !strings.ContainsAny(s, ".e") {
			s += ".0"
		}
		return s
	default:
		return v.String()
	}
}

// quoteTOML writes a basic string on one line.
func quoteTOML(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, "\\u%04X", r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
