package sql

import (
	"context"
	"errors"
	"sync"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/analyzer"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/planbuilder"
	"github.com/dolthub/go-mysql-server/sql/transform"
	ast "github.com/dolthub/vitess/go/vt/sqlparser"

	"originchain/shared/fault"
	"originchain/shared/rows"
	"originchain/shared/schema"
)

// Compiler makes executable expressions over one row. It is safe for concurrent
// use; making one is far dearer than compiling with it.
type Compiler struct {
	sessions *sessions
	catalog  *analyzer.Catalog
}

// NewCompiler makes a Compiler.
func NewCompiler() *Compiler {
	c := &Compiler{sessions: newSessions(), catalog: analyzer.NewCatalog(newProvider())}
	c.catalog.AuthHandler = gms.NoopAuthorizationHandler{}
	return c
}

// CompileChecks compiles a table's check constraints with a Compiler of its own.
func CompileChecks(t *schema.Table) ([]rows.CheckFunc, error) {
	if len(t.Checks) == 0 {
		return nil, nil
	}
	return NewCompiler().CompileChecks(t)
}

// CompileChecks compiles the check constraints of a table, in the order of
// t.Checks. A constraint may use the row's columns and deterministic functions;
// anything else is unsupported, by name. A result of NULL is no violation. The
// functions are safe for concurrent use.
func (c *Compiler) CompileChecks(t *schema.Table) ([]rows.CheckFunc, error) {
	var out []rows.CheckFunc
	for i := range t.Checks {
		ck := &checkConstraint{compiler: c, table: t, name: t.Checks[i].Name}
		var err error
		if ck.expr, err = parseExpression(t.Checks[i].Expr); err == nil {
			err = checkRowExpression(ck.expr, t, false)
		}
		if err != nil {
			return nil, inConstraint(ck.name, err)
		}
		first, err := ck.compile()
		if err != nil {
			return nil, inConstraint(ck.name, err)
		}
		ck.pool.New = func() any {
			// It compiled once, so it compiles again.
			again, err := ck.compile()
			if err != nil {
				return err
			}
			return again
		}
		ck.pool.Put(first)
		out = append(out, ck.eval)
	}
	return out, nil
}

func inConstraint(name string, err error) error {
	var f *fault.Error
	if !errors.As(err, &f) {
		return err
	}
	return fault.New(f.Code, "check constraint %q: %s", name, f.Message).With("constraint", name)
}

// checkConstraint is one compiled constraint. Expressions of the planner keep
// scratch memory, so each goroutine takes its own from the pool.
type checkConstraint struct {
	compiler *Compiler
	table    *schema.Table
	name     string
	expr     ast.Expr
	pool     sync.Pool
}

func (c *checkConstraint) compile() (*rowExpression, error) {
	return c.compiler.compile(c.table, []ast.Expr{c.expr}, compileOptions{pure: true})
}

func (c *checkConstraint) eval(row schema.Row) (bool, error) {
	x, ok := c.pool.Get().(*rowExpression)
	if !ok {
		return false, fault.New(fault.ServerError, "check constraint %q of table %s did not compile again", c.name, c.table.ID)
	}
	defer c.pool.Put(x)
	v, err := x.eval(0, row, nil)
	if err != nil {
		return false, fault.New(fault.CheckViolation, "check constraint %q of table %s cannot be evaluated for the row: %s", c.name, c.table.ID, err.Error()).With("constraint", c.name)
	}
	if v == nil {
		return true, nil
	}
	return gms.ConvertToBool(x.ctx, v)
}

// rowExpression is a set of expressions over the columns of one row, or of two.
// One goroutine uses it at a time.
type rowExpression struct {
	ctx   *gms.Context
	exprs []gms.Expression
	row   gms.Row
	used  []int // the columns the expressions read
	width int   // columns of the first row
}

// eval computes expression i over row, and over the row that an INSERT brings.
func (x *rowExpression) eval(i int, row, incoming schema.Row) (any, error) {
	for _, c := range x.used {
		if c < x.width {
			x.row[c] = toPlanner(row[c])
		} else {
			x.row[c] = toPlanner(incoming[c-x.width])
		}
	}
	return x.exprs[i].Eval(x.ctx, x.row)
}

type compileOptions struct {
	// pure allows deterministic functions alone.
	pure bool
	// incoming adds the columns of the row that an INSERT brings.
	incoming bool
	params   map[string]gms.Expression
	ctx      context.Context
}

// compile binds expressions to the columns of t.
func (c *Compiler) compile(t *schema.Table, exprs []ast.Expr, o compileOptions) (*rowExpression, error) {
	if o.ctx == nil {
		o.ctx = context.Background()
	}
	for _, e := range exprs {
		adapt(e)
	}
	st := &statement{pure: o.pure, scratch: newScratchTable(t, o.incoming)}
	// The session stays with the expressions: they evaluate in its context.
	ctx := c.sessions.begin(o.ctx, st)
	b := planbuilder.New(ctx, c.catalog, nil, nil)
	if o.params != nil {
		b.SetBindingsWithExpr(o.params)
	}
	node, _, err := b.BindOnly(selectOver(exprs, scratchSource()), "", nil)
	if err != nil {
		return nil, planError(st, err)
	}
	project, ok := node.(*plan.Project)
	if ok {
		// An aggregate would stand between the projection and the table.
		_, ok = project.Child.(*plan.ResolvedTable)
	}
	if !ok || len(project.Projections) != len(exprs) {
		return nil, fault.New(fault.Unsupported, "an expression over a row cannot hold a subquery, an aggregate or a window function")
	}
	x := &rowExpression{ctx: ctx, row: make(gms.Row, len(st.scratch.columns)), width: len(t.Columns)}
	seen := make([]bool, len(x.row))
	for _, e := range project.Projections {
		bound, err := x.bind(e, st.scratch.columns, seen)
		if err != nil {
			return nil, err
		}
		x.exprs = append(x.exprs, bound)
	}
	return x, nil
}

// bind points the column references of an expression at places in the row.
func (x *rowExpression) bind(e gms.Expression, columns gms.Schema, seen []bool) (gms.Expression, error) {
	for _, own := range []transform.ExprFunc{ownRegexp, exactIntegers} {
		var err error
		if e, _, err = transform.Expr(e, own); err != nil {
			return nil, err
		}
	}
	bound, _, err := transform.Expr(e, func(e gms.Expression) (gms.Expression, transform.TreeIdentity, error) {
		f, ok := e.(*expression.GetField)
		if !ok {
			return e, transform.SameTree, nil
		}
		i := columns.IndexOfColName(f.Name())
		if i < 0 {
			return nil, transform.SameTree, fault.New(fault.UnknownColumn, "column %q does not exist", f.Name())
		}
		if !seen[i] {
			seen[i] = true
			x.used = append(x.used, i)
		}
		return f.WithIndex(i), transform.NewTree, nil
	})
	return bound, err
}

// selectOver is SELECT exprs FROM source.
func selectOver(exprs []ast.Expr, source ast.TableExprs) *ast.Select {
	s := &ast.Select{From: source}
	for _, e := range exprs {
		s.SelectExprs = append(s.SelectExprs, &ast.AliasedExpr{Expr: e})
	}
	return s
}

func scratchSource() ast.TableExprs {
	return ast.TableExprs{&ast.AliasedTableExpr{Expr: ast.TableName{Name: ast.NewTableIdent(scratchName), DbQualifier: ast.NewTableIdent(scratchDatabase)}}}
}

// parseExpression reads one expression and nothing beside it.
func parseExpression(src string) (ast.Expr, error) {
	l, err := lex("SELECT " + src)
	if err != nil {
		return nil, err
	}
	if len(l.names) > 0 {
		return nil, fault.New(fault.ValidationFailed, "it cannot have parameters")
	}
	stmt, err := parse(l.text)
	if err != nil {
		return nil, err
	}
	s, ok := stmt.(*ast.Select)
	if !ok || len(s.SelectExprs) != 1 || s.From != nil || s.Where != nil || s.GroupBy != nil || s.Having != nil || s.OrderBy != nil ||
		s.Limit != nil || s.Into != nil || s.With != nil || s.Lock != "" || s.Window != nil || s.QueryOpts != (ast.QueryOpts{}) {
		return nil, fault.New(fault.ValidationFailed, "%q is not one expression", src)
	}
	e, ok := s.SelectExprs[0].(*ast.AliasedExpr)
	if !ok || !e.As.IsEmpty() {
		return nil, fault.New(fault.ValidationFailed, "%q is not one expression", src)
	}
	return e.Expr, nil
}

// checkRowExpression refuses what cannot be computed from a row alone.
// VALUES(column) is the row that an INSERT brings.
func checkRowExpression(e ast.Expr, t *schema.Table, values bool) error {
	return ast.Walk(func(n ast.SQLNode) (bool, error) {
		switch n := n.(type) {
		case *ast.Subquery, *ast.ExistsExpr:
			return false, fault.New(fault.Unsupported, "a subquery cannot stand here; only columns of the row can")
		case *ast.GroupConcatExpr, *ast.MatchExpr:
			return false, fault.New(fault.Unsupported, "%s cannot stand here; only columns of the row can", ast.String(n))
		case *ast.FuncExpr:
			if n.Over != nil {
				return false, fault.New(fault.Unsupported, "window function %s cannot stand here; only columns of the row can", n.Name.String())
			}
		case *ast.ValuesFuncExpr:
			if !values {
				return false, fault.New(fault.Unsupported, "VALUES(column) stands only in ON DUPLICATE KEY UPDATE")
			}
		case *ast.ColName:
			return false, checkColumnName(n, t)
		}
		return true, nil
	}, e)
}

func checkColumnName(n *ast.ColName, t *schema.Table) error {
	if !n.Qualifier.IsEmpty() {
		return fault.New(fault.ValidationFailed, "write column %s without its table", ast.String(n))
	}
	if _, ok := columnOf(t, n.Name.String()); !ok {
		return fault.New(fault.UnknownColumn, "table %s has no column %q", t.ID, n.Name.String()).With("column", n.Name.String())
	}
	return nil
}
