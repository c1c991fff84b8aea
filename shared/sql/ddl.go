package sql

import (
	"context"
	"strings"

	ast "github.com/dolthub/vitess/go/vt/sqlparser"

	"originchain/shared/api"
	"originchain/shared/fault"
	"originchain/shared/schema"
	"originchain/shared/table"
)

// ddl runs CREATE TABLE and DROP TABLE. A change of tables is a commit of its
// own; it is not part of a transaction.
func (e *Engine) ddl(ctx context.Context, cmd *command, s *ast.DDL) (*Result, error) {
	switch {
	case s.Action == ast.CreateStr && s.ViewSpec == nil && !s.Table.IsEmpty() && s.TriggerSpec == nil && s.ProcedureSpec == nil && s.EventSpec == nil:
		if err := notInTransaction(cmd); err != nil {
			return nil, err
		}
		return e.createTable(ctx, cmd, s)
	case s.Action == ast.DropStr && len(s.FromTables) > 0 && len(s.FromViews) == 0:
		if err := notInTransaction(cmd); err != nil {
			return nil, err
		}
		return e.dropTable(ctx, cmd, s)
	}
	return nil, unsupported(s)
}

func notInTransaction(cmd *command) error {
	if cmd.TxID != "" {
		return fault.New(fault.Unsupported, "tables and indexes cannot be changed inside a transaction; send the statement without X-OC-Tx")
	}
	return nil
}

// lookup finds a table in the newest state; nil when there is none.
func (e *Engine) lookup(cmd *command, name ast.TableName) (*table.Table, error) {
	tx, err := e.cfg.Store.Begin(cmd.Tenant)
	if err != nil {
		return nil, err
	}
	defer tx.Close()
	t, err := findTable(tx, name)
	if fault.CodeOf(err) == fault.UnknownTable && !name.DbQualifier.IsEmpty() {
		return nil, nil
	}
	return t, err
}

func (e *Engine) createTable(ctx context.Context, cmd *command, s *ast.DDL) (*Result, error) {
	switch {
	case s.Temporary:
		return nil, fault.New(fault.Unsupported, "temporary tables are not available; use a WITH clause, or a table that you drop")
	case s.OptLike != nil || s.OptSelect != nil || s.TableSpec == nil:
		return nil, fault.New(fault.Unsupported, "CREATE TABLE … LIKE and … AS SELECT are not available; list the columns, then INSERT INTO … SELECT")
	}
	have, err := e.lookup(cmd, s.Table)
	if err != nil {
		return nil, err
	}
	res := &Result{Kind: api.KindCreateTable, Schema: schemaName(s.Table), Created: new(bool)}
	if have != nil {
		res.Schema = have.Table.ID
		if s.IfNotExists {
			return res, nil
		}
		return nil, errTableExists(have.Table.ID)
	}
	m, err := manifestOf(s)
	if err != nil {
		return nil, err
	}
	t, err := schema.Compile(m)
	if err != nil {
		return nil, err
	}
	if _, err := e.compiler.CompileChecks(t); err != nil {
		return nil, err
	}
	*res.Created, res.Pos, err = e.cfg.Store.CreateTable(ctx, cmd.Tenant, m.TOML())
	if err == nil && !*res.Created && !s.IfNotExists {
		err = errTableExists(m.ID())
	}
	if err != nil {
		return nil, err
	}
	return res, nil
}

func errTableExists(id string) error {
	return fault.New(fault.AlreadyExists, "table %s already exists; use CREATE TABLE IF NOT EXISTS where that is meant", id)
}

func (e *Engine) dropTable(ctx context.Context, cmd *command, s *ast.DDL) (*Result, error) {
	if len(s.FromTables) > 1 {
		return nil, fault.New(fault.Unsupported, "DROP TABLE takes one table, as each drop is a commit; send one statement per table")
	}
	name := s.FromTables[0]
	have, err := e.lookup(cmd, name)
	if err != nil {
		return nil, err
	}
	res := &Result{Kind: api.KindDropTable, Schema: schemaName(name), Dropped: new(bool)}
	if have == nil {
		if s.IfExists {
			return res, nil
		}
		return nil, fault.New(fault.UnknownTable, "table %s does not exist; use DROP TABLE IF EXISTS where that is meant", res.Schema)
	}
	res.Schema = have.Table.ID
	if res.Pos, err = e.cfg.Store.DropTable(ctx, cmd.Tenant, have.Table.ID); err != nil {
		return nil, err
	}
	*res.Dropped = true
	return res, nil
}

// alter runs CREATE INDEX and DROP INDEX, which the parser takes for forms of
// ALTER TABLE.
func (e *Engine) alter(ctx context.Context, cmd *command, s *ast.AlterTable) (*Result, error) {
	if len(s.Statements) != 1 || s.Statements[0].IndexSpec == nil || writesAlter(cmd.text) {
		return nil, unsupported(s)
	}
	if err := notInTransaction(cmd); err != nil {
		return nil, err
	}
	t, err := e.lookup(cmd, s.Table)
	if err != nil {
		return nil, err
	}
	if t == nil {
		return nil, fault.New(fault.UnknownTable, "table %s does not exist", schemaName(s.Table))
	}
	spec := s.Statements[0].IndexSpec
	res := &Result{Schema: t.Table.ID, Index: spec.ToName.String()}
	switch spec.Action {
	case ast.CreateStr:
		ix, err := indexRecord(t.Table, spec)
		if err != nil {
			return nil, err
		}
		var n uint64
		res.Kind, res.Created = api.KindCreateIndex, new(bool)
		n, res.Pos, err = e.cfg.Store.CreateIndex(ctx, cmd.Tenant, t.Table.ID, ix)
		*res.Created, res.RowsIndexed = true, &n
		return res, err
	case ast.DropStr:
		res.Kind, res.Dropped = api.KindDropIndex, new(bool)
		*res.Dropped = true
		res.Pos, err = e.cfg.Store.DropIndex(ctx, cmd.Tenant, t.Table.ID, res.Index)
		return res, err
	}
	return nil, unsupported(s)
}

// writesAlter tells ALTER TABLE … ADD INDEX from CREATE INDEX.
func writesAlter(text string) bool {
	word, _, _ := strings.Cut(strings.TrimSpace(text), " ")
	return strings.EqualFold(word, "alter")
}

func indexRecord(t *schema.Table, spec *ast.IndexSpec) (table.IndexRecord, error) {
	ix := table.IndexRecord{Name: spec.ToName.String()}
	switch spec.Type {
	case "":
	case ast.UniqueStr:
		ix.Unique = true
	default:
		return ix, fault.New(fault.Unsupported, "%s indexes are not available by SQL", strings.ToUpper(spec.Type))
	}
	if len(spec.Options) > 0 || spec.Using.String() != "" {
		return ix, fault.New(fault.Unsupported, "options of an index are not available; leave them out")
	}
	var err error
	ix.Columns, err = indexColumns(spec.Columns, func(name string) (string, error) {
		i, ok := columnOf(t, name)
		if !ok {
			return "", fault.New(fault.UnknownColumn, "table %s has no column %q", t.ID, name).With("column", name)
		}
		return t.Columns[i].Name, nil
	})
	return ix, err
}

// indexColumns reads the columns of an index; resolve gives a column its name.
func indexColumns(list []*ast.IndexColumn, resolve func(string) (string, error)) ([]string, error) {
	var out []string
	for _, c := range list {
		if c.Length != nil {
			return nil, fault.New(fault.Unsupported, "an index covers whole columns; leave the length of %q out", c.Column.String())
		}
		if strings.EqualFold(strings.TrimSpace(c.Order), "desc") {
			return nil, fault.New(fault.Unsupported, "indexes are ascending and are read in both directions; leave DESC of %q out", c.Column.String())
		}
		name, err := resolve(c.Column.String())
		if err != nil {
			return nil, err
		}
		out = append(out, name)
	}
	return out, nil
}
