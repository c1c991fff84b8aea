package sql

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"

	gms "github.com/dolthub/go-mysql-server/sql"
	ast "github.com/dolthub/vitess/go/vt/sqlparser"
)

// casedName is the function around the first argument of an aggregate that holds
// text with capitals. The planner knows aggregates by what they print in small
// letters, and computes but one of SUM(s = 'A') and SUM(s = 'a').
const casedName = "=cased"

// casedArguments puts casedName around the first argument of an aggregate, where
// it holds text that may have capitals. Two that are written the same stay one.
func casedArguments(aggregate ast.Expr, args ast.SelectExprs) ast.SelectExprs {
	first, ok := args[0].(*ast.AliasedExpr)
	if !ok || isCall(first.Expr, casedName) || !hasCapitals(aggregate) {
		return args
	}
	sum := sha256.Sum256([]byte(ast.String(aggregate)))
	mark := &ast.AliasedExpr{Expr: ast.NewStrVal(hex.AppendEncode(nil, sum[:8]))}
	args = slices.Clone(args)
	args[0] = &ast.AliasedExpr{Expr: &ast.FuncExpr{Name: ast.NewColIdent(casedName), Exprs: ast.SelectExprs{first, mark}}}
	return args
}

// hasCapitals says whether an expression holds text with capitals, or a parameter,
// which may be one.
func hasCapitals(e ast.Expr) bool {
	found := false
	// The visitor returns no error, so neither does the walk.
	_ = ast.Walk(func(n ast.SQLNode) (bool, error) {
		switch n := n.(type) {
		case *ast.SQLVal:
			text := string(n.Val)
			found = found || n.Type == ast.ValArg || n.Type == ast.StrVal && text != strings.ToLower(text)
		case *ast.GroupConcatExpr:
			text := n.Separator.SeparatorString
			found = found || text != strings.ToLower(text)
		}
		return !found, nil
	}, e)
	return found
}

func isCall(e ast.Expr, name string) bool {
	f, ok := e.(*ast.FuncExpr)
	return ok && f.Name.String() == name
}

// cased is its expression, printed with a mark.
type cased struct {
	gms.Expression
	mark string
}

var _ gms.CollationCoercible = (*cased)(nil)

func casedFunction() gms.Function {
	return gms.Function2{Name: casedName, Fn: func(e, mark gms.Expression) gms.Expression {
		return &cased{Expression: e, mark: strings.Trim(mark.String(), "'")}
	}}
}

// String implements gms.Expression.
func (c *cased) String() string { return c.Expression.String() + " #" + c.mark }

// Children implements gms.Expression.
func (c *cased) Children() []gms.Expression { return []gms.Expression{c.Expression} }

// WithChildren implements gms.Expression.
func (c *cased) WithChildren(children ...gms.Expression) (gms.Expression, error) {
	if len(children) != 1 {
		return nil, gms.ErrInvalidChildrenNumber.New(c, len(children), 1)
	}
	return &cased{Expression: children[0], mark: c.mark}, nil
}

// CollationCoercibility implements gms.CollationCoercible.
func (c *cased) CollationCoercibility(ctx *gms.Context) (gms.CollationID, byte) {
	return gms.GetCoercibility(ctx, c.Expression)
}
