package sql

import (
	"context"
	"strings"

	gms "github.com/dolthub/go-mysql-server/sql"
	ast "github.com/dolthub/vitess/go/vt/sqlparser"

	"originchain/shared/api"
	"originchain/shared/fault"
	"originchain/shared/frame"
	"originchain/shared/rows"
	"originchain/shared/schema"
)

// insertion is one INSERT or REPLACE.
type insertion struct {
	*target
	res     *Result
	columns []int // the columns that the source gives, in its order
	ignore  bool
	replace bool
	onDup   *onDuplicate // nil without ON DUPLICATE KEY UPDATE
}

// insert runs INSERT, INSERT IGNORE, INSERT … ON DUPLICATE KEY UPDATE and
// REPLACE. INSERT IGNORE passes over rows that a unique index, a foreign key or
// a check refuses; a value of the wrong type is an error all the same.
func (e *Engine) insert(ctx context.Context, cmd *command, tx Tx, s *ast.Insert) (*Result, error) {
	ins, err := e.newInsertion(ctx, cmd, tx, s)
	if err != nil {
		return nil, err
	}
	switch source := s.Rows.(type) {
	case *ast.AliasedValues:
		err = e.insertValues(ctx, cmd, ins, source.Values)
	case ast.Values:
		err = e.insertValues(ctx, cmd, ins, source)
	case ast.SelectStatement:
		err = e.insertSelect(ctx, cmd, ins, s, source)
	default:
		err = fault.New(fault.Unsupported, "this source of INSERT is not available; use VALUES or SELECT")
	}
	if err != nil {
		return nil, err
	}
	return ins.res, nil
}

func (e *Engine) newInsertion(ctx context.Context, cmd *command, tx Tx, s *ast.Insert) (*insertion, error) {
	if len(s.Partitions) > 0 {
		return nil, fault.New(fault.Unsupported, "tables have no partitions")
	}
	if len(s.Returning) > 0 {
		return nil, fault.New(fault.Unsupported, "RETURNING is not available; SELECT the rows in the same transaction")
	}
	w, err := e.target(tx, s.Table)
	if err != nil {
		return nil, err
	}
	ins := &insertion{
		target: w, ignore: s.Ignore != "", replace: s.Action == ast.ReplaceStr,
		res: &Result{Kind: api.KindInsert, Schema: w.t.Table.ID},
	}
	seen := make([]bool, len(w.t.Columns))
	for _, c := range s.Columns {
		i, err := w.settable(c.String())
		if err != nil {
			return nil, err
		}
		if seen[i] {
			return nil, fault.New(fault.ValidationFailed, "column %q is named twice", w.t.Columns[i].Name)
		}
		seen[i] = true
		ins.columns = append(ins.columns, i)
	}
	if len(s.Columns) == 0 {
		for i := range w.t.Columns {
			ins.columns = append(ins.columns, i)
		}
	}
	if len(s.OnDup) > 0 {
		ins.onDup, err = e.newOnDuplicate(ctx, cmd, w, s)
	}
	return ins, err
}

// blank is a row of the defaults.
func (ins *insertion) blank() schema.Row {
	row := make(schema.Row, len(ins.t.Columns))
	for i := range row {
		row[i] = ins.t.Columns[i].Default
	}
	return row
}

func (ins *insertion) wrongCount(n, got int) error {
	return fault.New(fault.ValidationFailed, "row %d has %d values for %d columns", n+1, got, len(ins.columns))
}

// insertValues inserts the rows of a VALUES list, one after the other.
func (e *Engine) insertValues(ctx context.Context, cmd *command, ins *insertion, list ast.Values) error {
	for n, tuple := range list {
		if err := ctx.Err(); err != nil {
			return err
		}
		row := ins.blank()
		// INSERT INTO t () VALUES () is a row of defaults.
		if len(tuple) != len(ins.columns) && len(tuple) != 0 {
			return ins.wrongCount(n, len(tuple))
		}
		var computed []int
		for i, expr := range tuple {
			col := &ins.t.Columns[ins.columns[i]]
			if d, ok := expr.(*ast.Default); ok && d.ColName == "" {
				continue
			}
			v, simple := constant(expr, cmd.params)
			if !simple {
				computed = append(computed, i)
				continue
			}
			var err error
			if row[ins.columns[i]], err = fromPlanner(v, col); err != nil {
				return err
			}
		}
		if len(computed) > 0 {
			if err := e.computeValues(ctx, cmd, ins, row, tuple, computed); err != nil {
				return err
			}
		}
		if err := ins.add(row); err != nil {
			return err
		}
	}
	return nil
}

// computeValues has the planner compute the values of a row that are no plain
// constants.
func (e *Engine) computeValues(ctx context.Context, cmd *command, ins *insertion, row schema.Row, tuple ast.ValTuple, computed []int) error {
	exprs := make([]ast.Expr, len(computed))
	for i, at := range computed {
		exprs[i] = tuple[at]
	}
	stmt := selectOver(exprs, nil)
	if err := check(stmt); err != nil {
		return err
	}
	return e.read(ctx, ins.tx, reading{stmt: stmt, params: cmd.params, row: func(out gms.Row) error {
		for i, at := range computed {
			var err error
			c := ins.columns[at]
			if row[c], err = fromPlanner(out[i], &ins.t.Columns[c]); err != nil {
				return err
			}
		}
		return nil
	}})
}

// insertSelect reads the whole source before it writes the first row, so that
// the statement reads the state before itself, also of its own table.
func (e *Engine) insertSelect(ctx context.Context, cmd *command, ins *insertion, s *ast.Insert, source ast.SelectStatement) error {
	if s.With != nil {
		source.SetWith(s.With)
	}
	if err := check(source); err != nil {
		return err
	}
	if lock, err := lockOf(source, cmd.TxID != ""); err != nil || lock {
		return fault.New(fault.Unsupported, "FOR UPDATE cannot stand in INSERT … SELECT; lock the rows by a SELECT of their own first")
	}
	var pending []schema.Row
	size := 0
	err := e.read(ctx, ins.tx, reading{stmt: source, text: cmd.text, params: cmd.params,
		columns: func(schema gms.Schema) error {
			if len(schema) != len(ins.columns) {
				return fault.New(fault.ValidationFailed, "the SELECT has %d columns for %d columns of table %s", len(schema), len(ins.columns), ins.t.Table.ID)
			}
			return nil
		},
		row: func(out gms.Row) error {
			row := ins.blank()
			for i, c := range ins.columns {
				var err error
				if row[c], err = fromPlanner(out[i], &ins.t.Columns[c]); err != nil {
					return err
				}
			}
			pending = append(pending, row)
			size += rowSize(row)
			return fitsCommit(size)
		}})
	if err != nil {
		return err
	}
	for _, row := range pending {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := ins.add(row); err != nil {
			return err
		}
	}
	return nil
}

// rowSize is about what a row takes in a commit.
func rowSize(row schema.Row) int {
	n := 8
	for i := range row {
		n += 2 + len(row[i].AsStr())
	}
	return n
}

// fitsCommit refuses a statement whose changes cannot fit one commit, before they
// are all in memory.
func fitsCommit(size int) error {
	if size > frame.MaxBody {
		return fault.New(fault.BodyTooLarge, "the statement changes more than the %d bytes that fit one commit; change fewer rows at a time, by WHERE or LIMIT", frame.MaxBody)
	}
	return nil
}

// add inserts one row.
func (ins *insertion) add(row schema.Row) error {
	err := ins.addRow(row)
	if ins.ignore && skippable(err) {
		ins.res.Skipped++
		return nil
	}
	return err
}

// skippable tells the errors that INSERT IGNORE passes over.
func skippable(err error) bool {
	switch fault.CodeOf(err) {
	case fault.AlreadyExists, fault.UniqueViolation, fault.FKViolation, fault.CheckViolation:
		return true
	}
	return false
}

func (ins *insertion) addRow(row schema.Row) error {
	p, err := ins.prepare(row)
	if err != nil {
		return err
	}
	switch {
	case ins.replace:
		return ins.replaceRow(p)
	case ins.onDup != nil:
		key, have, found, err := ins.duplicate(p)
		if err != nil {
			return err
		}
		if found {
			return ins.updateRow(key, have, row)
		}
	}
	if err := ins.create(p); err != nil {
		return err
	}
	ins.res.Inserted++
	return nil
}

// replaceRow takes away every other row that has a unique value of this one,
// then writes it over what is there.
func (ins *insertion) replaceRow(p *rows.Prepared) error {
	replaced := false
	for _, ix := range ins.t.Usable() {
		key, ok, err := ins.holder(p, ix)
		if err != nil {
			return err
		}
		if !ok || string(key) == string(p.Key()) {
			continue
		}
		if _, err := ins.tx.Delete(ins.t, key, rows.Any()); err != nil {
			return err
		}
		replaced = true
	}
	existed, err := ins.tx.Put(p, rows.Any())
	if err != nil {
		return err
	}
	if existed || replaced {
		ins.res.Updated++
	} else {
		ins.res.Inserted++
	}
	return nil
}

// updateRow applies ON DUPLICATE KEY UPDATE to the row that is there.
func (ins *insertion) updateRow(key []byte, have, incoming schema.Row) error {
	row := have.Clone()
	for i, c := range ins.onDup.columns {
		if ins.onDup.exprs[i] < 0 {
			row[c] = ins.t.Columns[c].Default
			continue
		}
		v, err := ins.onDup.compiled.eval(ins.onDup.exprs[i], have, incoming)
		if err != nil {
			return planError(statementOf(ins.onDup.compiled.ctx), err)
		}
		if row[c], err = fromPlanner(v, &ins.t.Columns[c]); err != nil {
			return err
		}
	}
	p, err := ins.prepare(row)
	if err != nil {
		return err
	}
	if err := ins.rewrite(key, p); err != nil {
		return err
	}
	ins.res.Updated++
	return nil
}

// onDuplicate are the assignments of ON DUPLICATE KEY UPDATE.
type onDuplicate struct {
	columns  []int
	exprs    []int // per column, its place in compiled; -1 is DEFAULT
	compiled *rowExpression
}

func (e *Engine) newOnDuplicate(ctx context.Context, cmd *command, w *target, s *ast.Insert) (*onDuplicate, error) {
	alias := ""
	if v, ok := s.Rows.(*ast.AliasedValues); ok {
		alias = v.As.String()
		if len(v.Columns) > 0 {
			return nil, fault.New(fault.Unsupported, "an alias of VALUES cannot rename columns; use the names of the table")
		}
	}
	od := &onDuplicate{}
	var exprs []ast.Expr
	for _, a := range s.OnDup {
		c, err := w.settable(a.Name.Name.String())
		if err != nil {
			return nil, err
		}
		od.columns = append(od.columns, c)
		if d, ok := a.Expr.(*ast.Default); ok && d.ColName == "" {
			od.exprs = append(od.exprs, -1)
			continue
		}
		expr, err := bothRows(a.Expr, w.t.Table, s.Table.Name.String(), alias)
		if err != nil {
			return nil, err
		}
		od.exprs = append(od.exprs, len(exprs))
		exprs = append(exprs, expr)
	}
	if len(exprs) == 0 {
		return od, nil
	}
	var err error
	od.compiled, err = e.compiler.compile(w.t.Table, exprs, compileOptions{incoming: true, params: cmd.params, ctx: ctx})
	return od, err
}

// bothRows rewrites an expression over the row that is there and the one that
// the INSERT brings, which is VALUES(column) or alias.column.
func bothRows(e ast.Expr, t *schema.Table, tableName, alias string) (ast.Expr, error) {
	var incoming []*ast.ValuesFuncExpr
	err := ast.Walk(func(n ast.SQLNode) (bool, error) {
		switch n := n.(type) {
		case *ast.ValuesFuncExpr:
			incoming = append(incoming, n)
			return false, checkColumnName(&ast.ColName{Name: n.Name.Name}, t)
		case *ast.ColName:
			if q := n.Qualifier.Name.String(); alias != "" && strings.EqualFold(q, alias) {
				n.Qualifier = ast.TableName{}
				if err := checkColumnName(n, t); err != nil {
					return false, err
				}
				n.Name = ast.NewColIdent(incomingPrefix + n.Name.String())
				return false, nil
			} else if strings.EqualFold(q, tableName) {
				n.Qualifier = ast.TableName{}
			}
			return false, checkColumnName(n, t)
		case *ast.Subquery, *ast.GroupConcatExpr, *ast.MatchExpr:
			return false, fault.New(fault.Unsupported, "ON DUPLICATE KEY UPDATE takes expressions over the row and VALUES(column), not %s", ast.String(n))
		}
		return true, nil
	}, e)
	for _, v := range incoming {
		e = ast.ReplaceExpr(e, v, &ast.ColName{Name: ast.NewColIdent(incomingPrefix + v.Name.Name.String())})
	}
	return e, err
}
