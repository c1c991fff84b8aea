package sql

import (
	"strconv"
	"strings"

	ast "github.com/dolthub/vitess/go/vt/sqlparser"

	"originchain/shared/fault"
)

// windowMarks is how many constants adapt puts in front of the PARTITION BY of a
// window function: the number of its window, which functions over the same one
// share, and a number of its own. The planner computes but one of two functions
// that it prints the same way, and it prints neither the bound of a frame nor the
// argument of NTILE, and no letter case.
const windowMarks = 2

// checkWindows refuses window functions where they cannot stand or would not be
// computed, and windows that are not there.
func checkWindows(s *ast.Select) error {
	if err := windowsApart(s); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, w := range s.Window {
		if seen[w.Name.Lowered()] {
			return fault.New(fault.ValidationFailed, "window %s is defined twice", w.Name.String())
		}
		seen[w.Name.Lowered()] = true
		if _, err := resolveWindow(s.Window, w, 0); err != nil {
			return err
		}
	}
	return inSelect(func(n ast.SQLNode) (bool, error) {
		f, ok := n.(*ast.FuncExpr)
		if !ok || f.Over == nil {
			return true, nil
		}
		if !windowFunction(f.Name.Lowered()) {
			return false, fault.New(fault.Unsupported, "function %s is not available over a window", strings.ToUpper(f.Name.String())).With("function", f.Name.Lowered())
		}
		if _, err := resolveWindow(s.Window, (*ast.WindowDef)(f.Over), 0); err != nil {
			return false, err
		}
		return false, inSelect(misplacedWindow, f.Exprs, f.Over)
	}, s.SelectExprs, s.OrderBy)
}

// misplacedWindow refuses a window function.
func misplacedWindow(n ast.SQLNode) (bool, error) {
	if f, ok := n.(*ast.FuncExpr); ok && f.Over != nil {
		return false, fault.New(fault.ValidationFailed, "window function %s stands in the list of a SELECT or its ORDER BY alone; compute it in a subquery in FROM, and use its column", strings.ToUpper(f.Name.String()))
	}
	return true, nil
}

// inSelect walks the expressions of one SELECT, and not those of its subqueries.
func inSelect(visit ast.Visit, nodes ...ast.SQLNode) error {
	return ast.Walk(func(n ast.SQLNode) (bool, error) {
		if _, ok := n.(*ast.Subquery); ok {
			return false, nil
		}
		return visit(n)
	}, nodes...)
}

// windowFunction tells the functions that are computed over a window.
func windowFunction(name string) bool {
	switch name {
	case "row_number", "rank", "dense_rank", "percent_rank", "ntile", "lag", "lead", "first_value", "last_value", "count", "sum", "avg", "min", "max",
		"any_value", "json_arrayagg", "std", "stddev", "stddev_pop", "stddev_samp", "variance", "var_pop", "var_samp":
		return true
	}
	return false
}

// windowsApart refuses window functions in a SELECT that has aggregates or groups:
// the planner would not compute them.
func windowsApart(s *ast.Select) error {
	window, group := false, len(s.GroupBy) > 0
	// The visitor returns no error, so neither does the walk.
	_ = inSelect(func(n ast.SQLNode) (bool, error) {
		switch n := n.(type) {
		case *ast.GroupConcatExpr:
			group = true
		case *ast.FuncExpr:
			window = window || n.Over != nil
			group = group || n.Over == nil && n.IsAggregate()
		}
		return true, nil
	}, s.SelectExprs, s.Having, s.OrderBy)
	if window && group {
		return fault.New(fault.Unsupported, "a window function cannot stand in one SELECT with aggregates or GROUP BY; compute those in a subquery in FROM, and the window function over it")
	}
	return inSelect(misplacedWindow, s.From, s.Where, s.GroupBy, s.Having, s.Limit)
}

// resolveWindow is a window with all that it takes from the one it refers to. The
// planner would take for nothing a window that is not defined, and would give one
// that adds an order to another the frame of a window without.
func resolveWindow(named ast.Window, w *ast.WindowDef, depth int) (*ast.WindowDef, error) {
	out := *w
	if w.NameRef.IsEmpty() {
		return &out, nil
	}
	if depth > len(named) {
		return nil, fault.New(fault.ValidationFailed, "window %s is defined by itself", w.NameRef.String())
	}
	var base *ast.WindowDef
	for _, d := range named {
		if d.Name.Lowered() == w.NameRef.Lowered() {
			base = d
		}
	}
	if base == nil {
		return nil, fault.New(fault.ValidationFailed, "there is no window %s; define it in a WINDOW clause", w.NameRef.String())
	}
	base, err := resolveWindow(named, base, depth+1)
	if err != nil {
		return nil, err
	}
	what := ""
	switch {
	case len(w.PartitionBy) > 0:
		what = "PARTITION BY"
	case len(w.OrderBy) > 0 && len(base.OrderBy) > 0:
		what = "another ORDER BY"
	case base.Frame != nil && (len(w.OrderBy) > 0 || w.Frame != nil):
		what = "anything, as it has a frame,"
	}
	if what != "" {
		return nil, fault.New(fault.ValidationFailed, "a window that refers to %s cannot add %s to it; write that window out", w.NameRef.String(), what)
	}
	out.NameRef = ast.ColIdent{}
	out.PartitionBy = base.PartitionBy
	if len(w.OrderBy) == 0 {
		out.OrderBy = base.OrderBy
	}
	if w.Frame == nil {
		out.Frame = base.Frame
	}
	return &out, nil
}

// markedName is the name of windows that were marked.
const markedName = "=over"

// windowMarker marks the windows of a statement.
type windowMarker struct {
	windows map[string]int
	calls   int
}

// mark writes out the windows of a SELECT and marks those of its functions.
func (m *windowMarker) mark(s *ast.Select) {
	named := make(ast.Window, len(s.Window))
	for i, w := range s.Window {
		if named[i], _ = resolveWindow(s.Window, w, 0); named[i] == nil {
			return // check refuses it
		}
	}
	_ = inSelect(func(n ast.SQLNode) (bool, error) {
		f, ok := n.(*ast.FuncExpr)
		if !ok || f.Over == nil || f.Over.Name.String() == markedName {
			return true, nil
		}
		w, err := resolveWindow(named, (*ast.WindowDef)(f.Over), 0)
		if err != nil {
			return true, nil // check refuses it
		}
		// The frame is no part of how rows are arranged.
		arranged := *w
		arranged.Frame, arranged.Name = nil, ast.ColIdent{}
		text := ast.String(&arranged)
		if m.windows[text] == 0 {
			m.windows[text] = len(m.windows) + 1
		}
		m.calls++
		w.Name = ast.NewColIdent(markedName)
		w.PartitionBy = append(ast.Exprs{intVal(m.windows[text]), intVal(m.calls)}, w.PartitionBy...)
		f.Over = (*ast.Over)(w)
		if f.Name.EqualString("sum") {
			callArgument(f, termName)
		}
		return true, nil
	}, s.SelectExprs, s.OrderBy)
	s.Window = named
}

// callArgument puts a function around the first argument of another.
func callArgument(f *ast.FuncExpr, name string) {
	if arg, ok := f.Exprs[0].(*ast.AliasedExpr); ok {
		f.Exprs[0] = &ast.AliasedExpr{Expr: &ast.FuncExpr{Name: ast.NewColIdent(name), Exprs: ast.SelectExprs{arg}}}
	}
}

// intVal is a constant.
func intVal(n int) ast.Expr { return ast.NewIntVal(strconv.AppendInt(nil, int64(n), 10)) }
