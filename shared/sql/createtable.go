package sql

import (
	"strconv"
	"strings"

	ast "github.com/dolthub/vitess/go/vt/sqlparser"

	"originchain/shared/fault"
	"originchain/shared/schema"
)

// tableMaker turns CREATE TABLE into a manifest.
type tableMaker struct {
	m     *schema.Manifest
	names map[string]bool // of indexes and checks
}

func manifestOf(s *ast.DDL) (*schema.Manifest, error) {
	spec := s.TableSpec
	if len(spec.TableOpts) > 0 {
		return nil, fault.New(fault.Unsupported, "table options (%s=…) are not available; leave them out", strings.ToUpper(spec.TableOpts[0].Name))
	}
	if spec.PartitionOpt != nil {
		return nil, fault.New(fault.Unsupported, "tables have no partitions; leave PARTITION BY out")
	}
	mk := &tableMaker{names: map[string]bool{}, m: &schema.Manifest{Namespace: s.Table.DbQualifier.String(), Table: s.Table.Name.String(), Version: 1}}
	for _, c := range spec.Columns {
		if err := mk.column(c); err != nil {
			return nil, err
		}
	}
	for _, ix := range spec.Indexes {
		if err := mk.index(ix); err != nil {
			return nil, err
		}
	}
	for _, c := range spec.Constraints {
		if err := mk.constraint(c); err != nil {
			return nil, err
		}
	}
	if len(mk.m.PrimaryKey) == 0 {
		return nil, fault.New(fault.ValidationFailed, "table %s has no primary key; add PRIMARY KEY to a column, or PRIMARY KEY (columns)", mk.m.ID())
	}
	return mk.m, nil
}

// resolve finds a column of the table that is being made.
func (mk *tableMaker) resolve(name string) (string, error) {
	for _, c := range mk.m.Columns {
		if strings.EqualFold(c.Name, name) {
			return c.Name, nil
		}
	}
	return "", fault.New(fault.UnknownColumn, "table %s has no column %q", mk.m.ID(), name).With("column", name)
}

func (mk *tableMaker) column(c *ast.ColumnDefinition) error {
	name, t := c.Name.String(), &c.Type
	typ, err := columnType(name, t)
	if err != nil {
		return err
	}
	if err := refuseOptions(name, t); err != nil {
		return err
	}
	def := schema.ColumnDef{Name: name, Type: typ, Required: bool(t.NotNull)}
	if t.Default != nil {
		if def.Default, err = columnDefault(name, typ, t.Default); err != nil {
			return err
		}
	}
	mk.m.Columns = append(mk.m.Columns, def)
	if t.Length != nil {
		mk.lengthCheck(name, typ, string(t.Length.Val))
	}
	switch t.KeyOpt {
	case keyPrimary:
		if len(mk.m.PrimaryKey) > 0 {
			return errTwoKeys()
		}
		mk.m.PrimaryKey = []string{name}
	case keyUnique, keyUniqueKey:
		mk.addIndex("", []string{name}, true)
	case keyPlain:
		mk.addIndex("", []string{name}, false)
	case keyNone:
	default:
		return fault.New(fault.Unsupported, "this key option of column %q is not available", name)
	}
	if t.ForeignKeyDef != nil {
		return mk.foreignKey([]string{name}, t.ForeignKeyDef)
	}
	return nil
}

// The key options of a column, which the parser numbers and does not export. A
// test holds the two together.
const (
	keyNone ast.ColumnKeyOption = iota
	keyPrimary
	_ // spatial
	keyUnique
	keyUniqueKey
	keyPlain
)

func errTwoKeys() error {
	return fault.New(fault.ValidationFailed, "the table has two primary keys; use PRIMARY KEY (first, second) for one of several columns")
}

// lengthCheck keeps the length that VARCHAR(n) and VARBINARY(n) declare, as a
// check constraint: it is never accepted and then ignored.
func (mk *tableMaker) lengthCheck(name string, typ schema.Type, length string) {
	fn := ""
	switch typ {
	case schema.TypeStr:
		fn = "char_length"
	case schema.TypeBytes:
		fn = "length"
	default:
		return // the display width of a number says nothing about its values
	}
	expr := &ast.ComparisonExpr{Operator: ast.LessEqualStr, Right: ast.NewIntVal([]byte(length)), Left: &ast.FuncExpr{
		Name: ast.NewColIdent(fn), Exprs: ast.SelectExprs{&ast.AliasedExpr{Expr: ast.NewColName(name)}},
	}}
	mk.m.CheckConstraints = append(mk.m.CheckConstraints, schema.Check{Name: mk.name(name + "_length"), Expr: ast.String(expr)})
}

// columnType maps a type of SQL to one of the six.
func columnType(name string, t *ast.ColumnType) (schema.Type, error) {
	sqlType := strings.ToLower(t.Type)
	switch sqlType {
	case "tinyint":
		if t.Length != nil && string(t.Length.Val) == "1" && !t.Unsigned {
			return schema.TypeBool, nil
		}
		return integerType(t), nil
	case "bigint", "int", "integer", "mediumint", "smallint", "int2", "int4", "int8":
		return integerType(t), nil
	case "double", "double precision", "float", "real", "float4", "float8":
		return schema.TypeF64, nil
	case "boolean", "bool":
		return schema.TypeBool, nil
	case "text", "varchar", "char", "longtext", "mediumtext", "tinytext", "character", "character varying":
		return schema.TypeStr, nil
	case "blob", "varbinary", "binary", "longblob", "mediumblob", "tinyblob":
		return schema.TypeBytes, nil
	}
	instead := "use BIGINT, BIGINT UNSIGNED, DOUBLE, BOOLEAN, TEXT or BLOB"
	switch sqlType {
	case "decimal", "numeric", "dec", "fixed":
		instead = "use DOUBLE, or BIGINT for the amount in its smallest unit"
	case "date", "datetime", "timestamp", "time", "year":
		instead = "use TEXT in the form 2006-01-02T15:04:05Z, which sorts by time, or BIGINT for microseconds"
	case "json":
		instead = "use TEXT; JSON_EXTRACT reads it, and an extraction of a manifest makes a column of a part of it"
	case "enum", "set":
		instead = "use TEXT with CHECK (column IN (…))"
	}
	return 0, fault.New(fault.Unsupported, "column %q has type %s, which is not available; %s", name, strings.ToUpper(sqlType), instead).With("column", name)
}

func integerType(t *ast.ColumnType) schema.Type {
	if t.Unsigned {
		return schema.TypeU64
	}
	return schema.TypeI64
}

// refuseOptions refuses what a column cannot have here.
func refuseOptions(name string, t *ast.ColumnType) error {
	what, hint := "", ""
	switch {
	case bool(t.Autoincrement):
		what, hint = "AUTO_INCREMENT", "make the key in the client, for example a ULID"
	case t.OnUpdate != nil:
		what, hint = "ON UPDATE", "set the column in the UPDATE"
	case t.GeneratedExpr != nil:
		what, hint = "a generated column", "compute it in the query, or use an extraction of a manifest"
	case t.SRID != nil:
		what, hint = "SRID", "leave it out"
	case bool(t.Zerofill):
		what, hint = "ZEROFILL", "use LPAD in the query"
	case t.Comment != nil:
		what, hint = "COMMENT", "use an SQL comment"
	case t.Charset != "" && !strings.EqualFold(t.Charset, "utf8mb4") && !strings.EqualFold(t.Charset, "utf8"):
		what, hint = "CHARACTER SET "+t.Charset, "text is UTF-8"
	case t.BinaryCollate, t.Collate != "" && !strings.HasSuffix(strings.ToLower(t.Collate), "_bin"):
		what, hint = "COLLATE", "text compares by its bytes; use LOWER in the query to compare without case"
	default:
		return nil
	}
	return fault.New(fault.Unsupported, "column %q: %s is not available; %s", name, what, hint).With("column", name)
}

func columnDefault(name string, typ schema.Type, e ast.Expr) (schema.Value, error) {
	for {
		p, ok := e.(*ast.ParenExpr)
		if !ok {
			break
		}
		e = p.Expr
	}
	v, ok := constant(e, nil)
	if !ok {
		return schema.Value{}, fault.New(fault.Unsupported, "the default of column %q is not a literal; give the value in the INSERT", name).With("column", name)
	}
	return fromPlanner(v, &schema.Column{Name: name, Type: typ})
}

func (mk *tableMaker) index(ix *ast.IndexDefinition) error {
	if ix.Info.Spatial || ix.Info.Fulltext || ix.Info.Vector {
		return fault.New(fault.Unsupported, "%s indexes are not available by SQL", strings.ToUpper(ix.Info.Type))
	}
	if len(ix.Options) > 0 {
		return fault.New(fault.Unsupported, "options of an index are not available; leave them out")
	}
	columns, err := indexColumns(ix.Columns, mk.resolve)
	if err != nil {
		return err
	}
	if !ix.Info.Primary {
		mk.addIndex(ix.Info.Name.String(), columns, ix.Info.Unique)
		return nil
	}
	if len(mk.m.PrimaryKey) > 0 {
		return errTwoKeys()
	}
	mk.m.PrimaryKey = columns
	return nil
}

func (mk *tableMaker) addIndex(name string, columns []string, unique bool) {
	if name == "" {
		name = strings.Join(columns, "_") + "_idx"
	}
	mk.m.Indexes = append(mk.m.Indexes, schema.IndexDef{Name: mk.name(name), Columns: columns, Unique: unique})
}

// name makes a name that the table does not use yet.
func (mk *tableMaker) name(want string) string {
	name := want
	for n := 2; mk.names[name]; n++ {
		name = want + "_" + strconv.Itoa(n)
	}
	mk.names[name] = true
	return name
}

func (mk *tableMaker) constraint(c *ast.ConstraintDefinition) error {
	switch d := c.Details.(type) {
	case *ast.ForeignKeyDefinition:
		var columns []string
		for _, col := range d.Source {
			columns = append(columns, col.String())
		}
		return mk.foreignKey(columns, d)
	case *ast.CheckConstraintDefinition:
		if !d.Enforced {
			return fault.New(fault.Unsupported, "NOT ENFORCED is not available; leave the check out")
		}
		name := c.Name
		if name == "" {
			name = "check_1"
		}
		mk.m.CheckConstraints = append(mk.m.CheckConstraints, schema.Check{Name: mk.name(name), Expr: ast.String(d.Expr)})
		return nil
	}
	return fault.New(fault.Unsupported, "this constraint is not available; use PRIMARY KEY, UNIQUE, FOREIGN KEY and CHECK")
}

func (mk *tableMaker) foreignKey(columns []string, d *ast.ForeignKeyDefinition) error {
	if len(columns) != 1 || len(d.ReferencedColumns) != 1 {
		return fault.New(fault.Unsupported, "a foreign key is over one column and points to one column")
	}
	for _, action := range []ast.ReferenceAction{d.OnDelete, d.OnUpdate} {
		switch action {
		case ast.DefaultAction, ast.Restrict, ast.NoAction:
		default:
			return fault.New(fault.Unsupported, "foreign keys restrict: CASCADE, SET NULL and SET DEFAULT are not available; change the rows that point here in the same transaction")
		}
	}
	from, err := mk.resolve(columns[0])
	if err != nil {
		return err
	}
	ns := d.ReferencedTable.DbQualifier.String()
	if ns == "" {
		ns = mk.m.Namespace
	}
	mk.m.ForeignKeys = append(mk.m.ForeignKeys, schema.ForeignKeyDef{
		FromCol: from, TargetSchema: ns + "." + d.ReferencedTable.Name.String(), TargetCol: d.ReferencedColumns[0].String(),
	})
	return nil
}
