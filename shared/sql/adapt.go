package sql

import (
	ast "github.com/dolthub/vitess/go/vt/sqlparser"
)

// adapt changes a tree that is about to be bound where the planner would bind it
// wrongly: it puts bitsName around the operands of the bit operators, writes out
// and marks the windows of window functions, tells apart aggregates that differ in
// letter case, and puts the arguments of GROUP_CONCAT together. It changes nothing
// where that was done before: the trees of check constraints are bound by several
// goroutines.
func adapt(nodes ...ast.SQLNode) {
	a := &adapter{marker: windowMarker{windows: map[string]int{}}}
	a.walk(nodes...)
}

type adapter struct{ marker windowMarker }

func (a *adapter) walk(nodes ...ast.SQLNode) {
	// The visitor returns no error, so neither does the walk.
	_ = ast.Walk(a.visit, nodes...)
}

func (a *adapter) visit(n ast.SQLNode) (bool, error) {
	switch n := n.(type) {
	case *ast.BinaryExpr:
		switch n.Operator {
		case ast.BitAndStr, ast.BitOrStr, ast.BitXorStr, ast.ShiftLeftStr, ast.ShiftRightStr:
			if !isBits(n.Left) {
				n.Left = bitsOf(n.Left)
			}
			if !isBits(n.Right) {
				n.Right = bitsOf(n.Right)
			}
		}
	case *ast.UnaryExpr:
		// The planner has no ~, and leaves a sign + out.
		if n.Operator == ast.TildaStr {
			n.Operator = ast.UPlusStr
			n.Expr = &ast.ParenExpr{Expr: &ast.BinaryExpr{Operator: ast.BitXorStr, Left: bitsOf(n.Expr), Right: bitsOf(ast.NewIntVal([]byte("18446744073709551615")))}}
		}
	case *ast.SetOp:
		// The parser's walk passes these by.
		a.walk(n.OrderBy, n.Limit)
		if n.With != nil {
			a.walk(n.With)
		}
	case *ast.FuncExpr:
		if n.IsAggregate() && n.Over == nil && len(n.Exprs) > 0 {
			n.Exprs = casedArguments(n, n.Exprs)
		}
	case *ast.GroupConcatExpr:
		// The planner takes the first of its arguments alone.
		if len(n.Exprs) > 1 {
			n.Exprs = ast.SelectExprs{&ast.AliasedExpr{Expr: &ast.FuncExpr{Name: ast.NewColIdent("concat"), Exprs: n.Exprs}}}
		}
		n.Exprs = casedArguments(n, n.Exprs)
	case *ast.Select:
		a.marker.mark(n)
		for _, w := range n.Window {
			a.walk(w)
		}
	}
	return true, nil
}
