package sql

import (
	"context"
	"strconv"
	"strings"

	gms "github.com/dolthub/go-mysql-server/sql"
	ast "github.com/dolthub/vitess/go/vt/sqlparser"

	"originchain/shared/api"
	"originchain/shared/fault"
	"originchain/shared/rows"
	"originchain/shared/schema"
	"originchain/shared/table"
)

// rowSource is the FROM, WHERE, ORDER BY and LIMIT of an UPDATE or a DELETE.
type rowSource struct {
	with    *ast.With
	from    ast.TableExprs
	where   *ast.Where
	orderBy ast.OrderBy
	limit   *ast.Limit
}

// single finds the one table of the source and the name it goes by.
func (s *rowSource) single(what string) (ast.TableName, error) {
	errMany := fault.New(fault.Unsupported, "%s of several tables is not available; use WHERE … IN (SELECT …) or WHERE EXISTS (…)", what)
	if len(s.from) != 1 {
		return ast.TableName{}, errMany
	}
	e, ok := s.from[0].(*ast.AliasedTableExpr)
	if !ok {
		return ast.TableName{}, errMany
	}
	name, ok := e.Expr.(ast.TableName)
	if !ok {
		return ast.TableName{}, errMany
	}
	return name, nil
}

// primaryKeys is SELECT primary key, exprs FROM … of the source: what the
// planner has to find out for the statement.
func (s *rowSource) primaryKeys(t *table.Table, exprs []ast.Expr) *ast.Select {
	sel := &ast.Select{With: s.with, From: s.from, Where: s.where, OrderBy: s.orderBy, Limit: s.limit}
	for _, c := range t.PK {
		sel.SelectExprs = append(sel.SelectExprs, &ast.AliasedExpr{Expr: ast.NewColName(t.Columns[c].Name)})
	}
	for i, e := range exprs {
		// No column has such a name, so ORDER BY finds the column, not the new value.
		sel.SelectExprs = append(sel.SelectExprs, &ast.AliasedExpr{Expr: e, As: ast.NewColIdent("=" + strconv.Itoa(i+1))})
	}
	return sel
}

// keyOf is the key of the row whose primary key begins a row of primaryKeys.
func (w *target) keyOf(row gms.Row) ([]byte, []schema.Value, error) {
	pk := make([]schema.Value, len(w.t.PK))
	for i, c := range w.t.PK {
		var err error
		if pk[i], err = fromPlanner(row[i], &w.t.Columns[c]); err != nil {
			return nil, nil, err
		}
	}
	key, err := table.RowKeyOf(nil, w.t, pk)
	return key, pk, err
}

// assignment is one column = value of an UPDATE.
type assignment struct {
	column int
	expr   int // its place behind the primary key; -1 is DEFAULT
}

// modification is one row that an UPDATE changes.
type modification struct {
	key []byte
	row *rows.Prepared
}

// update runs an UPDATE. Every expression sees the row as it was before the
// statement, and so does the WHERE: rows are written when all of them are known.
// RowsAffected counts the rows that matched.
func (e *Engine) update(ctx context.Context, cmd *command, tx Tx, s *ast.Update) (*Result, error) {
	w, source, assigned, err := e.planUpdate(tx, s)
	if err != nil {
		return nil, err
	}
	var changes []modification
	size := 0
	err = e.read(ctx, tx, reading{stmt: source, text: cmd.text, params: cmd.params, row: func(out gms.Row) error {
		key, _, err := w.keyOf(out)
		if err != nil {
			return err
		}
		m, err := w.modify(key, out[len(w.t.PK):], assigned)
		if err != nil {
			return err
		}
		changes = append(changes, m)
		size += m.row.Size()
		return fitsCommit(size)
	}})
	if err != nil {
		return nil, err
	}
	if err := w.apply(ctx, changes); err != nil {
		return nil, err
	}
	return &Result{Kind: api.KindUpdate, Schema: w.t.Table.ID, RowsAffected: uint64(len(changes))}, nil
}

// planUpdate checks an UPDATE and makes the SELECT that finds its rows.
func (e *Engine) planUpdate(tx Tx, s *ast.Update) (*target, *ast.Select, []assignment, error) {
	switch {
	case s.Ignore != "":
		return nil, nil, nil, fault.New(fault.Unsupported, "UPDATE IGNORE is not available; leave the rows that conflict out by WHERE")
	case len(s.Returning) > 0:
		return nil, nil, nil, fault.New(fault.Unsupported, "RETURNING is not available; SELECT the rows in the same transaction")
	}
	src := rowSource{s.With, s.TableExprs, s.Where, s.OrderBy, s.Limit}
	name, err := src.single("UPDATE")
	if err != nil {
		return nil, nil, nil, err
	}
	w, err := e.target(tx, name)
	if err != nil {
		return nil, nil, nil, err
	}
	assigned, exprs, err := w.assignments(s.Exprs)
	if err != nil {
		return nil, nil, nil, err
	}
	sel := src.primaryKeys(w.t, exprs)
	return w, sel, assigned, check(sel)
}

func (w *target) assignments(list ast.AssignmentExprs) ([]assignment, []ast.Expr, error) {
	var out []assignment
	var exprs []ast.Expr
	seen := make([]bool, len(w.t.Columns))
	for _, a := range list {
		c, err := w.settable(a.Name.Name.String())
		if err != nil {
			return nil, nil, err
		}
		if seen[c] {
			return nil, nil, fault.New(fault.ValidationFailed, "column %q is set twice", w.t.Columns[c].Name)
		}
		seen[c] = true
		if d, ok := a.Expr.(*ast.Default); ok && d.ColName == "" {
			out = append(out, assignment{column: c, expr: -1})
			continue
		}
		out = append(out, assignment{column: c, expr: len(exprs)})
		exprs = append(exprs, a.Expr)
	}
	return out, exprs, nil
}

// modify computes the new form of the row under key.
func (w *target) modify(key []byte, values gms.Row, assigned []assignment) (m modification, err error) {
	row, _, ok, err := table.GetRow(w.tx, w.t, key, nil)
	if err != nil {
		return m, err
	}
	if !ok {
		return m, fault.New(fault.TypeMismatch, "a primary key of table %s changed its type while it was read", w.t.Table.ID)
	}
	for _, a := range assigned {
		col := &w.t.Columns[a.column]
		if a.expr < 0 {
			row[a.column] = col.Default
			continue
		}
		if row[a.column], err = fromPlanner(values[a.expr], col); err != nil {
			return m, err
		}
	}
	p, err := w.prepare(row)
	return modification{key: key, row: p}, err
}

// apply writes the changed rows. Rows that get another primary key leave their
// old place first, all of them, so that SET id = id + 1 does not meet itself.
func (w *target) apply(ctx context.Context, changes []modification) error {
	for _, m := range changes {
		if string(m.key) == string(m.row.Key()) {
			continue
		}
		if _, err := w.tx.Delete(w.t, m.key, rows.Any()); err != nil {
			return err
		}
	}
	for _, m := range changes {
		if err := ctx.Err(); err != nil {
			return err
		}
		if string(m.key) != string(m.row.Key()) {
			if err := w.create(m.row); err != nil {
				return err
			}
		} else if _, err := w.tx.Put(m.row, rows.Any()); err != nil {
			return err
		}
	}
	return nil
}

// delete runs a DELETE. Rows go when all of them are known.
func (e *Engine) delete(ctx context.Context, cmd *command, tx Tx, s *ast.Delete) (*Result, error) {
	w, source, err := e.planDelete(tx, s)
	if err != nil {
		return nil, err
	}
	var keys [][]byte
	var last []schema.Value
	size := 0
	err = e.read(ctx, tx, reading{stmt: source, text: cmd.text, params: cmd.params, row: func(out gms.Row) error {
		key, pk, err := w.keyOf(out)
		if err != nil {
			return err
		}
		keys, last = append(keys, key), pk
		size += len(key)
		return fitsCommit(size)
	}})
	if err != nil {
		return nil, err
	}
	for _, key := range keys {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if _, err := tx.Delete(w.t, key, rows.Any()); err != nil {
			return nil, err
		}
	}
	res := &Result{Kind: api.KindDelete, Schema: w.t.Table.ID, RowsAffected: uint64(len(keys))}
	if len(keys) == 1 && namesOneRow(s.Where, w.t) {
		pk := schema.FormatPK(last)
		res.PK = &pk
	}
	return res, nil
}

// planDelete checks a DELETE and makes the SELECT that finds its rows.
func (e *Engine) planDelete(tx Tx, s *ast.Delete) (*target, *ast.Select, error) {
	switch {
	case len(s.Returning) > 0:
		return nil, nil, fault.New(fault.Unsupported, "RETURNING is not available; SELECT the rows in the same transaction")
	case len(s.Partitions) > 0:
		return nil, nil, fault.New(fault.Unsupported, "tables have no partitions; use WHERE")
	}
	src := rowSource{s.With, s.TableExprs, s.Where, s.OrderBy, s.Limit}
	name, err := src.single("DELETE")
	if err == nil && len(s.Targets) > 0 {
		err = fault.New(fault.Unsupported, "DELETE with a list of tables is not available; write DELETE FROM namespace.table")
	}
	if err != nil {
		return nil, nil, err
	}
	w, err := e.target(tx, name)
	if err != nil {
		return nil, nil, err
	}
	sel := src.primaryKeys(w.t, nil)
	return w, sel, check(sel)
}

// namesOneRow tells a WHERE that is column = value for the columns of the
// primary key and nothing else.
func namesOneRow(where *ast.Where, t *table.Table) bool {
	if where == nil {
		return false
	}
	named := map[int]bool{}
	var walk func(e ast.Expr) bool
	walk = func(e ast.Expr) bool {
		switch e := e.(type) {
		case *ast.ParenExpr:
			return walk(e.Expr)
		case *ast.AndExpr:
			return walk(e.Left) && walk(e.Right)
		case *ast.ComparisonExpr:
			col, value := e.Left, e.Right
			if _, ok := col.(*ast.ColName); !ok {
				col, value = value, col
			}
			name, ok := col.(*ast.ColName)
			if !ok || e.Operator != ast.EqualStr || !isConstant(value) {
				return false
			}
			i, ok := columnOf(t.Table, name.Name.String())
			named[i] = true
			return ok
		}
		return false
	}
	if !walk(where.Expr) || len(named) != len(t.PK) {
		return false
	}
	for _, c := range t.PK {
		if !named[c] {
			return false
		}
	}
	return true
}

func isConstant(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.SQLVal, ast.BoolVal:
		return true
	case *ast.UnaryExpr:
		return isConstant(e.Expr)
	}
	return false
}

// schemaName is a table's name as a statement writes it.
func schemaName(name ast.TableName) string {
	return strings.TrimPrefix(name.DbQualifier.String()+"."+name.Name.String(), ".")
}
