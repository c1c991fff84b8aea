package sql

import (
	"errors"
	"io"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression/function/aggregation"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/transform"
	ast "github.com/dolthub/vitess/go/vt/sqlparser"

	"originchain/shared/fault"
)

// windowRows are the rows of window functions: one per row that goes in. The
// planner makes one of none, or fails, so it is not asked where there are none.
type windowRows struct {
	x     *executor
	n     *plan.Window
	row   gms.Row
	begun bool
	child gms.RowIter
	iter  gms.RowIter
}

// Next implements gms.RowIter.
func (w *windowRows) Next(ctx *gms.Context) (gms.Row, error) {
	if !w.begun {
		w.begun = true
		if err := w.begin(ctx); err != nil {
			return nil, err
		}
	}
	if w.iter == nil {
		return nil, io.EOF
	}
	row, err := w.iter.Next(ctx)
	// A window function has no way to say that the context ended while it
	// computed; what it answers then is no answer.
	if cerr := ctx.Err(); cerr != nil {
		return nil, cerr
	}
	return row, err
}

func (w *windowRows) begin(ctx *gms.Context) error {
	st := statementOf(ctx)
	st.weigh(w.n.Child, held{rows: 1, returns: true})
	var err error
	if w.child, err = w.x.child(ctx, w.n.Child, w.row); err != nil {
		return err
	}
	first, err := w.child.Next(ctx)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err != nil {
		return err
	}
	exprs := make([]gms.Expression, len(w.n.SelectExprs))
	for i, e := range w.n.SelectExprs {
		if exprs[i], _, err = transform.Expr(e, stoppableWindow); err != nil {
			return err
		}
	}
	n := plan.NewWindow(exprs, &givenRows{Node: w.n.Child, iter: &pushedBack{RowIter: w.child, first: first}})
	w.iter, err = w.x.planners(n)(ctx, w.row)
	return err
}

// Close implements gms.RowIter. The planner's iterator leaves its child open.
func (w *windowRows) Close(ctx *gms.Context) error {
	var err error
	if w.iter != nil {
		err = w.iter.Close(ctx)
	}
	if w.child != nil {
		err = errors.Join(err, w.child.Close(ctx))
	}
	w.iter, w.child = nil, nil
	return err
}

// stoppableWindow makes the window functions stop with the context that look at
// every row of a frame for each row: over a large partition they take for ever.
func stoppableWindow(e gms.Expression) (gms.Expression, transform.TreeIdentity, error) {
	switch e.(type) {
	case *aggregation.Max, *aggregation.Min, *aggregation.BitAnd, *aggregation.BitOr, *aggregation.BitXor, *aggregation.JsonArray:
	default:
		return e, transform.SameTree, nil
	}
	children := append([]gms.Expression(nil), e.Children()...)
	children[0] = &stopping{Expression: children[0]}
	made, err := e.WithChildren(children...)
	return made, transform.NewTree, err
}

// windowsApart refuses window functions in a SELECT that has aggregates or groups:
// the planner would not compute them.
func windowsApart(s *ast.Select) error {
	window, group := false, len(s.GroupBy) > 0
	visit := func(n ast.SQLNode) (bool, error) {
		switch n := n.(type) {
		case *ast.Subquery:
			return false, nil
		case *ast.GroupConcatExpr:
			group = true
		case *ast.FuncExpr:
			window = window || n.Over != nil
			group = group || n.Over == nil && n.IsAggregate()
		}
		return true, nil
	}
	// The visitor returns no error, so neither does the walk.
	_ = ast.Walk(visit, s.SelectExprs, s.Having, s.OrderBy)
	if window && group {
		return fault.New(fault.Unsupported, "a window function cannot stand in one SELECT with aggregates or GROUP BY; compute those in a subquery in FROM, and the window function over it")
	}
	return nil
}

// givenRows stands for a node whose iterator is there already.
type givenRows struct {
	gms.Node
	iter gms.RowIter
}

// Children implements gms.Node.
func (*givenRows) Children() []gms.Node { return nil }

// WithChildren implements gms.Node.
func (g *givenRows) WithChildren(...gms.Node) (gms.Node, error) { return g, nil }

// pushedBack gives a row that was read from an iterator once more, and then the
// others.
type pushedBack struct {
	gms.RowIter
	first gms.Row
}

// Next implements gms.RowIter.
func (p *pushedBack) Next(ctx *gms.Context) (gms.Row, error) {
	if row := p.first; row != nil {
		p.first = nil
		return row, nil
	}
	return p.RowIter.Next(ctx)
}
