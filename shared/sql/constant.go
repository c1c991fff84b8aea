package sql

import (
	"encoding/hex"
	"strconv"
	"strings"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	ast "github.com/dolthub/vitess/go/vt/sqlparser"
)

// constant reads a literal or a parameter without the planner: a bulk INSERT is
// made of nothing else. ok is false for any other expression.
func constant(e ast.Expr, params map[string]gms.Expression) (v any, ok bool) {
	switch e := e.(type) {
	case *ast.NullVal:
		return nil, true
	case ast.BoolVal:
		return bool(e), true
	case *ast.SQLVal:
		return constantValue(e, params)
	case *ast.UnaryExpr:
		if e.Operator != ast.UMinusStr {
			return nil, false
		}
		inner, ok := e.Expr.(*ast.SQLVal)
		if !ok || inner.Type != ast.IntVal && inner.Type != ast.FloatVal {
			return nil, false
		}
		return parseNumber("-" + string(inner.Val))
	}
	return nil, false
}

func constantValue(e *ast.SQLVal, params map[string]gms.Expression) (any, bool) {
	switch e.Type {
	case ast.StrVal:
		return string(e.Val), true
	case ast.IntVal, ast.FloatVal:
		return parseNumber(string(e.Val))
	case ast.HexVal:
		b, err := hex.DecodeString(string(e.Val))
		return b, err == nil
	case ast.ValArg:
		l, ok := params[strings.TrimPrefix(string(e.Val), ":")].(*expression.Literal)
		if !ok {
			return nil, false
		}
		return l.Value(), true
	}
	return nil, false
}

// parseNumber reads a numeric literal: an integer, a float where it has an
// exponent, else an exact decimal.
func parseNumber(s string) (any, bool) {
	if i, err := strconv.ParseInt(s, 10, 64); err == nil {
		return i, true
	}
	if u, err := strconv.ParseUint(s, 10, 64); err == nil {
		return u, true
	}
	if strings.ContainsAny(s, "eE") {
		f, err := strconv.ParseFloat(s, 64)
		return f, err == nil
	}
	return textNumber(s)
}
