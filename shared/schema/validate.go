package schema

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// validate reports everything that is wrong with m beyond the types of its keys.
func (m *Manifest) validate(f *manifestFaults) {
	v := &validation{m: m, f: f, columns: map[string]Type{}, roots: map[string]bool{}}
	v.identifier("namespace", m.Namespace)
	v.identifier("table", m.Table)
	if m.Version == 0 {
		f.add("version", "versions begin at 1")
	}
	v.bound("columns", len(m.Columns)+len(m.Extractions), MaxColumns, "columns and extractions")
	v.columnDefs()
	v.extractions()
	v.primaryKey()
	v.indexes()
	v.foreignKeys()
	v.relations()
	v.checks()
	v.vectors()
	v.fts()
	v.migration()
}

type validation struct {
	m       *Manifest
	f       *manifestFaults
	columns map[string]Type // columns and extractions
	roots   map[string]bool // first keys of extraction paths
}

func (v *validation) identifier(path, s string) bool {
	switch {
	case s == "":
		v.f.add(path, "is missing; give it a name of letters, digits and _")
	case !validIdentifier(s):
		v.f.add(path, "%q is not a name: a letter or _, then letters, digits and _, at most %d in all", s, MaxIdentifierSize)
	default:
		return true
	}
	return false
}

func (v *validation) bound(path string, n, most int, what string) {
	if n > most {
		v.f.add(path, "%d %s, more than %d", n, what, most)
	}
}

// unique reports a name that was there before.
func (v *validation) unique(seen map[string]bool, path, name, what string) {
	if name != "" && seen[name] {
		v.f.add(path, "%s %q is declared twice", what, name)
	}
	seen[name] = true
}

// reference reports a name that is neither a column nor an extraction.
func (v *validation) reference(path, name string) bool {
	if name == "" {
		v.f.add(path, "is missing; name a column")
		return false
	}
	if _, ok := v.columns[name]; !ok {
		v.f.add(path, "column %q does not exist", name)
		return false
	}
	return true
}

func (v *validation) typed(path string, t Type) {
	if t < TypeStr || t > TypeBytes {
		v.f.add(path, "is missing; use one of %s", strings.Join(typeNames[1:], ", "))
	}
}

func (v *validation) columnDefs() {
	if len(v.m.Columns) == 0 && len(v.m.Extractions) == 0 {
		v.f.add("columns", "a table needs at least one column")
	}
	seen := map[string]bool{}
	for i, c := range v.m.Columns {
		path := fmt.Sprintf("columns[%d]", i)
		v.identifier(path+".name", c.Name)
		v.unique(seen, path+".name", c.Name, "column")
		v.typed(path+".ty", c.Type)
		v.columns[c.Name] = c.Type
		if !c.Default.IsNull() && c.Default.Type() != c.Type {
			v.f.add(path+".default", "is %s, and the column is %s", c.Default.Type(), c.Type)
		} else if err := storable(c.Default); err != "" {
			v.f.add(path+".default", "%s", err)
		}
	}
}

// storable says why a value of the right type cannot be kept, or "".
func storable(val Value) string {
	switch {
	case val.t == TypeF64 && !finiteBits(val.n):
		return "is not a finite number"
	case val.t == TypeStr && !utf8.ValidString(val.s):
		return "is not valid UTF-8"
	}
	return ""
}

func (v *validation) extractions() {
	seen := map[string]bool{}
	for _, e := range v.m.Extractions {
		root, _, _ := strings.Cut(e.Path, ".")
		v.roots[root] = true
	}
	for i, e := range v.m.Extractions {
		path := fmt.Sprintf("extractions[%d]", i)
		v.identifier(path+".name", e.Name)
		v.unique(seen, path+".name", e.Name, "extraction")
		v.typed(path+".ty", e.Type)
		v.extractionPath(path+".path", e.Path)
		switch _, column := v.columns[e.Name]; {
		case column:
			v.f.add(path+".name", "%q is a column's name too; give the extraction another", e.Name)
		case v.roots[e.Name]:
			v.f.add(path+".name", "%q is also the first key of an extraction's path; give the extraction another name", e.Name)
		}
	}
	// After the loop, so that an extraction's root is looked up among the
	// declared columns alone.
	for _, e := range v.m.Extractions {
		v.columns[e.Name] = e.Type
	}
}

func (v *validation) extractionPath(at, path string) {
	if path == "" {
		v.f.add(at, "is missing; name the keys from the row's top level, such as payload.user.id")
		return
	}
	if !utf8.ValidString(path) {
		v.f.add(at, "is not valid UTF-8")
		return
	}
	keys := strings.Split(path, ".")
	v.bound(at, len(keys), MaxPathKeys, "keys")
	for _, k := range keys {
		if k == "" || k == "$" {
			v.f.add(at, "%q is not a dotted path: keys joined by single dots, without $", path)
			return
		}
	}
	t, declared := v.columns[keys[0]]
	switch {
	case declared && t != TypeStr:
		v.f.add(at, "begins with column %q, which is %s; only a str column can hold JSON", keys[0], t)
	case declared && len(keys) == 1:
		v.f.add(at, "is column %q itself; name a key inside it", path)
	}
}

// keyColumns checks the columns of a primary key or an index.
func (v *validation) keyColumns(path string, names []string) {
	if len(names) == 0 {
		v.f.add(path, "names no column")
	}
	v.bound(path, len(names), MaxKeyColumns, "columns in one key")
	seen := map[string]bool{}
	for i, n := range names {
		at := fmt.Sprintf("%s[%d]", path, i)
		v.reference(at, n)
		v.unique(seen, at, n, "column")
	}
}

func (v *validation) primaryKey() { v.keyColumns("primary_key", v.m.PrimaryKey) }

func (v *validation) indexes() {
	v.bound("indexes", len(v.m.Indexes)+len(v.m.impliedIndexes()), MaxIndexes, "indexes, with those that foreign keys imply")
	seen := map[string]bool{}
	for i, x := range v.m.Indexes {
		path := fmt.Sprintf("indexes[%d]", i)
		v.identifier(path+".name", x.Name)
		v.unique(seen, path+".name", x.Name, "index")
		v.keyColumns(path+".columns", x.Columns)
	}
}

func (v *validation) foreignKeys() {
	v.bound("foreign_keys", len(v.m.ForeignKeys), maxEntries, "foreign keys")
	seen := map[string]bool{}
	for i, k := range v.m.ForeignKeys {
		path := fmt.Sprintf("foreign_keys[%d]", i)
		v.reference(path+".from_col", k.FromCol)
		ns, table, ok := strings.Cut(k.TargetSchema, ".")
		if !ok || !validIdentifier(ns) || !validIdentifier(table) {
			v.f.add(path+".target_schema", "%q is not of the form namespace.table", k.TargetSchema)
		}
		v.identifier(path+".target_col", k.TargetCol)
		if k.TargetSchema == v.m.ID() && validIdentifier(k.TargetCol) {
			v.reference(path+".target_col", k.TargetCol)
		}
		v.unique(seen, path, k.FromCol+" to "+k.TargetSchema+"."+k.TargetCol, "foreign key")
	}
}

func (v *validation) relations() {
	v.bound("relations", len(v.m.Relations), maxEntries, "relations")
	seen := map[string]bool{}
	for i, r := range v.m.Relations {
		path := fmt.Sprintf("relations[%d]", i)
		v.identifier(path+".name", r.Name)
		v.unique(seen, path+".name", r.Name, "relation")
		v.reference(path+".from_col", r.FromCol)
		v.identifier(path+".target.namespace", r.Target.Namespace)
		v.identifier(path+".target.table", r.Target.Table)
		v.identifier(path+".target.pk", r.Target.PK)
	}
}

func (v *validation) expr(path, expr string) {
	switch {
	case strings.TrimSpace(expr) == "":
		v.f.add(path, "is missing; write an SQL expression over the row's columns")
	case !utf8.ValidString(expr):
		v.f.add(path, "is not valid UTF-8")
	default:
		v.bound(path, len(expr), MaxExprBytes, "bytes in an expression")
	}
}

func (v *validation) checks() {
	v.bound("check_constraints", len(v.m.CheckConstraints), maxEntries, "check constraints")
	seen := map[string]bool{}
	for i, c := range v.m.CheckConstraints {
		path := fmt.Sprintf("check_constraints[%d]", i)
		v.identifier(path+".name", c.Name)
		v.unique(seen, path+".name", c.Name, "check constraint")
		v.expr(path+".expr", c.Expr)
	}
}

func (v *validation) vectors() {
	v.bound("vectors", len(v.m.Vectors), maxEntries, "vectors")
	seen := map[string]bool{}
	for i, x := range v.m.Vectors {
		path := fmt.Sprintf("vectors[%d]", i)
		v.identifier(path+".name", x.Name)
		v.unique(seen, path+".name", x.Name, "vector")
		if x.Dim < 1 || x.Dim > MaxVectorDim {
			v.f.add(path+".dim", "is %d; give a dimension from 1 to %d", x.Dim, MaxVectorDim)
		}
		if !knownMetric(x.Metric) {
			v.f.add(path+".metric", "unknown metric %q; use one of cosine, dot, l2, manhattan", x.Metric)
		}
	}
}

func (v *validation) fts() {
	v.bound("fts", len(v.m.FTS), maxEntries, "full-text fields")
	seen := map[string]bool{}
	for i, x := range v.m.FTS {
		path := fmt.Sprintf("fts[%d]", i)
		v.identifier(path+".field", x.Field)
		v.unique(seen, path+".field", x.Field, "full-text field")
		if t, ok := v.columns[x.Field]; ok && t != TypeStr {
			v.f.add(path+".field", "column %q is %s; only str columns have full text", x.Field, t)
		}
		if !knownAnalyzer(x.Analyzer) {
			v.f.add(path+".analyzer", "unknown analyzer %q; use one of standard, simple, keyword, english", x.Analyzer)
		}
	}
}

func (v *validation) migration() {
	g := v.m.Migration
	if g == nil {
		return
	}
	if v.m.Version == 1 {
		v.f.add("migration", "version 1 has nothing to migrate from; leave the section out or raise the version")
	}
	to := map[string]bool{}
	for _, r := range g.Renames {
		path := "migration.rename." + r.From
		if v.identifier(path, r.From) && v.reference(path, r.To) {
			v.unique(to, path, r.To, "the target")
		}
	}
	dropped := map[string]bool{}
	for i, name := range g.Drops {
		path := fmt.Sprintf("migration.drop[%d]", i)
		v.identifier(path, name)
		v.unique(dropped, path, name, "column")
		if _, ok := v.columns[name]; ok {
			v.f.add(path, "column %q is dropped and declared; do one of both", name)
		}
	}
	v.bound("migration.set", len(g.Sets), maxEntries, "expressions")
	set := map[string]bool{}
	for i, s := range g.Sets {
		path := fmt.Sprintf("migration.set[%d]", i)
		v.reference(path+".column", s.Column)
		v.unique(set, path+".column", s.Column, "column")
		v.expr(path+".expr", s.Expr)
	}
}
