package sql

import (
	"strings"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/analyzer"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/expression/function/aggregation"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/transform"
	"github.com/dolthub/go-mysql-server/sql/types"
)

// addRules puts our rules among the planner's. Each stands before one of the
// planner's own whose result would be wrong for some rows, and makes the plan
// safe for it.
func addRules(a *analyzer.Analyzer) error {
	for _, r := range []struct {
		before string
		apply  analyzer.RuleFunc
	}{
		{"applyDefaultSelectLimit", onExpressions(ownRegexp, false)},
		{"applyDefaultSelectLimit", onExpressions(exactIntegers, false)},
		{"applyDefaultSelectLimit", onExpressions(exactSum, false)},
		{"applyDefaultSelectLimit", onExpressions(ownDistinct, false)},
		{"applyDefaultSelectLimit", onNodes(exactSets)},
		{"replaceCountStar", onExpressions(countOfNull, false)},
		{"simplifyFilters", onExpressions(wholeLike, true)},
		{"unnestExistsSubqueries", onExpressions(keepNotExists, true)},
		{"optimizeJoins", onExpressions(sameType, false)},
		{"optimizeJoins", chooseIndexes},
		{"optimizeJoins", boundJoins},
		{"optimizeJoins", setOrdered(false)},
		{"replaceAgg", setOrdered(true)},
	} {
		if !insertRule(a, r.before, r.apply) {
			return &missingRuleError{r.before}
		}
	}
	return nil
}

// missingRuleError says that the planner is another one than this package was
// written for.
type missingRuleError struct{ rule string }

func (e *missingRuleError) Error() string {
	return "sql: the planner has no rule " + e.rule + "; build with the version in go.mod"
}

func insertRule(a *analyzer.Analyzer, before string, apply analyzer.RuleFunc) bool {
	for _, batch := range a.Batches {
		for i, r := range batch.Rules {
			if r.Id.String() != before {
				continue
			}
			// The planner's rules are shared by all analyzers; this one gets its own.
			rules := make([]analyzer.Rule, 0, len(batch.Rules)+1)
			rules = append(rules, batch.Rules[:i]...)
			rules = append(rules, analyzer.Rule{Id: r.Id, Apply: apply})
			batch.Rules = append(rules, batch.Rules[i:]...)
			return true
		}
	}
	return false
}

// setOrdered says whether indexes are in order. While joins are planned they are
// not: a merge of two ordered indexes drops the DISTINCT of a semi-join, and
// gives rows more than once. After that they are, so ORDER BY can use them.
func setOrdered(ordered bool) analyzer.RuleFunc {
	return func(ctx *gms.Context, _ *analyzer.Analyzer, n gms.Node, _ *plan.Scope, _ analyzer.RuleSelector, _ *gms.QueryFlags) (gms.Node, transform.TreeIdentity, error) {
		statementOf(ctx).ordered = ordered
		return n, transform.SameTree, nil
	}
}

// onNodes applies a change to every node of a plan.
func onNodes(apply transform.NodeFunc) analyzer.RuleFunc {
	return func(_ *gms.Context, _ *analyzer.Analyzer, n gms.Node, _ *plan.Scope, _ analyzer.RuleSelector, _ *gms.QueryFlags) (gms.Node, transform.TreeIdentity, error) {
		return transform.NodeWithOpaque(n, apply)
	}
}

// onExpressions applies a change to every expression of a plan, or to those of
// its filters alone.
func onExpressions(apply transform.ExprFunc, filter bool) analyzer.RuleFunc {
	return func(_ *gms.Context, _ *analyzer.Analyzer, n gms.Node, _ *plan.Scope, _ analyzer.RuleSelector, _ *gms.QueryFlags) (gms.Node, transform.TreeIdentity, error) {
		return transform.NodeWithOpaque(n, func(n gms.Node) (gms.Node, transform.TreeIdentity, error) {
			if _, ok := n.(*plan.Filter); filter && !ok {
				return n, transform.SameTree, nil
			}
			return transform.OneNodeExpressions(n, apply)
		})
	}
}

// countOfNull keeps COUNT(NULL), which is zero, from being taken for COUNT(*).
func countOfNull(e gms.Expression) (gms.Expression, transform.TreeIdentity, error) {
	count, ok := e.(*aggregation.Count)
	if !ok {
		return e, transform.SameTree, nil
	}
	l, ok := count.Child.(*expression.Literal)
	if !ok || l.Value() != nil {
		return e, transform.SameTree, nil
	}
	n, err := count.WithChildren(expression.NewConvert(l, expression.ConvertToSigned))
	return n, transform.NewTree, err
}

// wholeLike keeps the planner from replacing column LIKE 'abc%' by a range that
// ends at U+00FF and by nothing else: it would miss every row that goes on with
// a later character, and compare numbers as numbers. A LIKE with an escape is
// left alone, so it gets the one that it has anyway; and where the column is
// text, the right range is put beside it, for an index to use.
func wholeLike(e gms.Expression) (gms.Expression, transform.TreeIdentity, error) {
	like, ok := e.(*expression.Like)
	if !ok || like.Escape != nil {
		return e, transform.SameTree, nil
	}
	whole := expression.NewLike(like.LeftChild, like.RightChild, expression.NewLiteral(`\`, strType))
	column, ok := like.LeftChild.(*expression.GetField)
	if !ok || column.Type() != strType {
		return whole, transform.NewTree, nil
	}
	pattern, ok := like.RightChild.(*expression.Literal)
	if !ok {
		return whole, transform.NewTree, nil
	}
	text, ok := pattern.Value().(string)
	if !ok {
		return whole, transform.NewTree, nil
	}
	prefix, _, _ := strings.Cut(text, "%")
	if i := strings.IndexAny(prefix, `_\`); i >= 0 {
		prefix = prefix[:i]
	}
	if prefix == "" {
		return whole, transform.NewTree, nil
	}
	whole = expression.NewAnd(whole, expression.NewGreaterThanOrEqual(column, expression.NewLiteral(prefix, strType)))
	if end, ok := textAfter(prefix); ok {
		whole = expression.NewAnd(whole, expression.NewLessThan(column, expression.NewLiteral(end, strType)))
	}
	return whole, transform.NewTree, nil
}

// textAfter is the first text after all that begin with prefix, in the order of
// bytes; ok is false when there is none that is text.
func textAfter(prefix string) (end string, ok bool) {
	runes := []rune(prefix)
	for i := len(runes) - 1; i >= 0; i-- {
		next := runes[i] + 1
		if next == 0xD800 {
			next = 0xE000 // the surrogates are no text
		}
		if next <= 0x10FFFF {
			return string(append(runes[:i:i], next)), true
		}
	}
	return "", false
}

// keepNotExists keeps NOT EXISTS from becoming a join, which would lose the rows
// whose columns are NULL: for them nothing exists.
func keepNotExists(e gms.Expression) (gms.Expression, transform.TreeIdentity, error) {
	not, ok := e.(*expression.Not)
	if !ok {
		return e, transform.SameTree, nil
	}
	if _, ok := not.Child.(*plan.ExistsSubquery); !ok {
		return e, transform.SameTree, nil
	}
	// Not of this form is not looked for.
	return expression.NewNot(expression.NewAnd(not.Child, expression.NewLiteral(true, types.Boolean))), transform.NewTree, nil
}

// sameType makes both sides of an equality of two columns one type, where one is
// text and the other is not. The planner would look the one up in an index of
// the other, or merge the two in the orders of their indexes, which differ: as
// text, '10' comes before '9'.
func sameType(e gms.Expression) (gms.Expression, transform.TreeIdentity, error) {
	eq, ok := e.(expression.Equality)
	if !ok || !hasColumn(eq.Left()) || !hasColumn(eq.Right()) {
		return e, transform.SameTree, nil
	}
	l, r := familyOf(eq.Left().Type()), familyOf(eq.Right().Type())
	if l == r || l == familyOther || r == familyOther {
		return e, transform.SameTree, nil
	}
	to := expression.ConvertToDouble
	if l != familyNumber && r != familyNumber {
		to = expression.ConvertToBinary
	}
	n, err := eq.WithChildren(expression.NewConvert(eq.Left(), to), expression.NewConvert(eq.Right(), to))
	return n, transform.NewTree, err
}

func hasColumn(e gms.Expression) bool {
	return transform.InspectExpr(e, func(e gms.Expression) bool {
		_, ok := e.(*expression.GetField)
		return ok
	})
}

// family is what decides whether two types compare as they sort.
type family uint8

const (
	familyOther family = iota
	familyNumber
	familyText
	familyBinary
)

func familyOf(t gms.Type) family {
	switch {
	case types.IsNumber(t):
		return familyNumber
	case types.IsBinaryType(t):
		return familyBinary
	case types.IsText(t):
		return familyText
	}
	return familyOther
}
