package sql

import (
	ast "github.com/dolthub/vitess/go/vt/sqlparser"
)

// adapt changes a tree that is about to be bound where the planner would bind it
// wrongly: it puts bitsName around the operands of the bit operators, and gives
// windows without any clause one that says the same. It changes nothing where
// that was done before: the trees of check constraints are bound by several
// goroutines.
func adapt(nodes ...ast.SQLNode) {
	// The visitor returns no error, so neither does the walk.
	_ = ast.Walk(visitToAdapt, nodes...)
}

func visitToAdapt(n ast.SQLNode) (bool, error) {
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
		adapt(n.OrderBy, n.Limit)
		if n.With != nil {
			adapt(n.With)
		}
	case *ast.Select:
		for _, w := range n.Window {
			adaptWindow(w)
			adapt(w)
		}
	case *ast.FuncExpr:
		if n.Over != nil {
			adaptWindow((*ast.WindowDef)(n.Over))
		}
	}
	return true, nil
}

// adaptWindow makes OVER () a window over one partition by a constant: the
// planner's LAG, LEAD, FIRST_VALUE and LAST_VALUE fail over a window of nothing.
// It names one that refers to another, which the planner would otherwise keep
// under no name, and take for what every OVER () behind it refers to.
func adaptWindow(w *ast.WindowDef) {
	switch {
	case !w.NameRef.IsEmpty() && w.Name.IsEmpty():
		w.Name = ast.NewColIdent("=over")
	case w.NameRef.IsEmpty() && len(w.PartitionBy) == 0 && len(w.OrderBy) == 0:
		w.PartitionBy = ast.Exprs{ast.NewIntVal([]byte("1"))}
	}
}
