package sql

import (
	"strings"

	gms "github.com/dolthub/go-mysql-server/sql"
	ast "github.com/dolthub/vitess/go/vt/sqlparser"

	"originchain/shared/api"
	"originchain/shared/fault"
	"originchain/shared/schema"
	"originchain/shared/table"
)

// show answers SHOW DATABASES, SHOW TABLES, SHOW COLUMNS (DESCRIBE) and SHOW
// CREATE TABLE from the tenant's own catalog.
func (e *Engine) show(tx Tx, s *ast.Show) (*Result, error) {
	if s.Filter != nil || s.ShowTablesOpt != nil && (s.ShowTablesOpt.Filter != nil || s.ShowTablesOpt.AsOf != nil) {
		return nil, fault.New(fault.Unsupported, "SHOW with LIKE or WHERE is not available; filter the answer")
	}
	cat, err := tx.Catalog()
	if err != nil {
		return nil, err
	}
	switch strings.ToLower(s.Type) {
	case "databases", "schemas":
		var rows [][]any
		for _, ns := range namespaces(cat) {
			rows = append(rows, []any{ns})
		}
		return e.listing([]string{"Database"}, rows)
	case "tables":
		return e.showTables(cat, s)
	case "columns", "fields":
		return e.showTable(tx, s.Table, e.showColumns)
	case "create table":
		return e.showTable(tx, s.Table, func(t *table.Table) (*Result, error) {
			return e.listing([]string{"Table", "Create Table"}, [][]any{{t.Table.ID, createStatement(t)}})
		})
	}
	return nil, unsupported(s)
}

func (e *Engine) showTables(cat *table.Catalog, s *ast.Show) (*Result, error) {
	want := ""
	if s.ShowTablesOpt != nil {
		want = s.ShowTablesOpt.DbName
	}
	var rows [][]any
	for _, id := range cat.Names() {
		ns, name, _ := strings.Cut(id, ".")
		switch {
		case want == "":
			rows = append(rows, []any{id})
		case strings.EqualFold(ns, want):
			rows = append(rows, []any{name})
		}
	}
	return e.listing([]string{"Table"}, rows)
}

func (e *Engine) showTable(tx Tx, name ast.TableName, show func(*table.Table) (*Result, error)) (*Result, error) {
	t, err := findTable(tx, name)
	if err != nil {
		return nil, err
	}
	return show(t)
}

func (e *Engine) showColumns(t *table.Table) (*Result, error) {
	var rows [][]any
	for i := range t.Columns {
		c := &t.Columns[i]
		null, key := "YES", ""
		if c.Required {
			null = "NO"
		}
		for _, p := range t.PK {
			if p == i {
				key = "PRI"
			}
		}
		var def any
		if !c.Default.IsNull() {
			def = c.Default.String()
		}
		rows = append(rows, []any{c.Name, sqlType(c.Type), null, key, def})
	}
	return e.listing([]string{"Field", "Type", "Null", "Key", "Default"}, rows)
}

// listing is the answer to SHOW: rows of text.
func (e *Engine) listing(names []string, rows [][]any) (*Result, error) {
	var columns gms.Schema
	for _, n := range names {
		columns = append(columns, &gms.Column{Name: n, Type: strType, Nullable: true})
	}
	enc := newRowEncoder(columns, e.cfg.MaxResultBytes)
	for _, r := range rows {
		if err := enc.append(gms.Row(r)); err != nil {
			return nil, err
		}
	}
	return &Result{Kind: api.KindSelect, Columns: enc.names, rows: enc.out, RowCount: enc.count}, nil
}

// sqlType is how CREATE TABLE writes a column type.
func sqlType(t schema.Type) string {
	switch t {
	case schema.TypeI64:
		return "BIGINT"
	case schema.TypeU64:
		return "BIGINT UNSIGNED"
	case schema.TypeF64:
		return "DOUBLE"
	case schema.TypeBool:
		return "BOOLEAN"
	case schema.TypeBytes:
		return "BLOB"
	}
	return "TEXT"
}

// createStatement writes the CREATE TABLE that makes a table like t. Parts of a
// manifest that SQL does not know are not in it.
func createStatement(t *table.Table) string {
	var lines []string
	for i := range t.Columns {
		c := &t.Columns[i]
		line := quoteName(c.Name) + " " + sqlType(c.Type)
		if c.Required {
			line += " NOT NULL"
		}
		if !c.Default.IsNull() {
			line += " DEFAULT " + sqlLiteral(c.Default)
		}
		lines = append(lines, line)
	}
	lines = append(lines, "PRIMARY KEY ("+quoteColumns(t, t.PK)+")")
	for _, ix := range t.Indexes {
		kind := "KEY "
		if ix.Unique {
			kind = "UNIQUE KEY "
		}
		if !ix.Implicit {
			lines = append(lines, kind+quoteName(ix.Name)+" ("+quoteColumns(t, ix.Columns)+")")
		}
	}
	for _, fk := range t.ForeignKeys {
		ns, name, _ := strings.Cut(fk.TargetSchema, ".")
		lines = append(lines, "FOREIGN KEY ("+quoteName(t.Columns[fk.Column].Name)+") REFERENCES "+quoteName(ns)+"."+quoteName(name)+" ("+quoteName(fk.TargetColumn)+")")
	}
	for _, c := range t.Checks {
		lines = append(lines, "CONSTRAINT "+quoteName(c.Name)+" CHECK ("+c.Expr+")")
	}
	ns, name, _ := strings.Cut(t.Table.ID, ".")
	return "CREATE TABLE " + quoteName(ns) + "." + quoteName(name) + " (\n  " + strings.Join(lines, ",\n  ") + "\n)"
}

func quoteColumns(t *table.Table, columns []int) string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = quoteName(t.Columns[c].Name)
	}
	return strings.Join(names, ", ")
}

func quoteName(name string) string { return "`" + strings.ReplaceAll(name, "`", "``") + "`" }

func sqlLiteral(v schema.Value) string {
	switch v.Type() {
	case schema.TypeStr:
		return ast.NewStrVal([]byte(v.AsStr())).String()
	case schema.TypeBytes:
		return ast.String(ast.NewHexVal([]byte(hexText(v.AsBytes()))))
	}
	return v.String()
}

func hexText(b []byte) string {
	out := make([]byte, 0, 2*len(b))
	for _, c := range b {
		out = append(out, hexDigits[c>>4], hexDigits[c&15])
	}
	return string(out)
}
