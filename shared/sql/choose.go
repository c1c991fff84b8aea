package sql

import (
	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/analyzer"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/transform"

	"originchain/shared/fault"
)

// maxRanges bounds the key ranges of one lookup. The planner makes every
// combination of the values of IN lists over the columns of an index, so two
// lists of ten thousand would be a hundred million ranges; such a filter is
// evaluated row by row.
const maxRanges = 16_384

// chooseIndexes stands before the planner's choice of an index. Without
// histograms it guesses, from names and lengths; so of the indexes that a filter
// could use it is offered the one that narrows the rows most. Those that the
// filter cannot use stay, for joins.
func chooseIndexes(_ *gms.Context, _ *analyzer.Analyzer, n gms.Node, _ *plan.Scope, _ analyzer.RuleSelector, _ *gms.QueryFlags) (gms.Node, transform.TreeIdentity, error) {
	return transform.NodeWithOpaque(n, func(n gms.Node) (gms.Node, transform.TreeIdentity, error) {
		filter, ok := n.(*plan.Filter)
		if !ok {
			return n, transform.SameTree, nil
		}
		switch child := filter.Child.(type) {
		case *plan.ResolvedTable:
			chosen, err := chooseIndex(child, filter.Expression)
			if err != nil || chosen == nil {
				return n, transform.SameTree, err
			}
			return plan.NewFilter(filter.Expression, chosen), transform.NewTree, nil
		case *plan.TableAlias:
			rt, ok := child.Child.(*plan.ResolvedTable)
			if !ok {
				return n, transform.SameTree, nil
			}
			chosen, err := chooseIndex(rt, filter.Expression)
			if err != nil || chosen == nil {
				return n, transform.SameTree, err
			}
			alias, err := child.WithChildren(chosen)
			if err != nil {
				return n, transform.SameTree, err
			}
			return plan.NewFilter(filter.Expression, alias), transform.NewTree, nil
		}
		return n, transform.SameTree, nil
	})
}

// chooseIndex leaves a table the best index for a filter; nil changes nothing.
func chooseIndex(rt *plan.ResolvedTable, filter gms.Expression) (gms.Node, error) {
	s, ok := rt.Table.(*scanTable)
	if !ok {
		return nil, nil
	}
	use := map[int]usage{}
	for _, e := range expression.SplitConjunction(filter) {
		if col, u := usageOf(s, rt.Id(), e); u > use[col] {
			use[col] = u
		}
	}
	chosen := *s
	chosen.noIndexes = combinations(filter) > maxRanges
	chosen.hidden = worseIndexes(s, use)
	return rt.WithTable(&chosen)
}

// maxJoined bounds the tables of one join. The planner keeps every order of them
// in memory before it takes one, and cannot be stopped: a chain of equal keys
// takes four times as long for each table more, 0.7 s for ten and minutes and
// gigabytes for fourteen.
const maxJoined = 10

// boundJoins refuses a join that cannot be planned in reasonable time. Subqueries
// that the planner has made part of a join count, those that stand alone do not.
func boundJoins(_ *gms.Context, _ *analyzer.Analyzer, n gms.Node, _ *plan.Scope, _ analyzer.RuleSelector, _ *gms.QueryFlags) (gms.Node, transform.TreeIdentity, error) {
	most := 0
	transform.Inspect(n, func(n gms.Node) bool {
		most = max(most, joined(n))
		return true
	})
	if most > maxJoined {
		return nil, transform.SameTree, fault.New(fault.Unsupported, "the statement joins %d tables at once; at most %d can be planned. Join some of them first, in a query of its own", most, maxJoined)
	}
	return n, transform.SameTree, nil
}

// joined counts what one join brings together.
func joined(n gms.Node) int {
	switch n := n.(type) {
	case *plan.JoinNode:
		return joined(n.Left()) + joined(n.Right())
	case *plan.Filter:
		return joined(n.Child)
	}
	return 1
}

// usage is what a condition does for an index over its column.
type usage uint8

const (
	usageNone usage = iota
	usageRange
	usageEqual
)

// usageOf reads one condition: which column of the table it fixes or bounds.
func usageOf(s *scanTable, id gms.TableId, e gms.Expression) (col int, u usage) {
	op, left, right, ok := analyzer.IndexLeafChildren(e)
	if !ok {
		return 0, usageNone
	}
	f, ok := left.(*expression.GetField)
	if !ok {
		if f, ok = right.(*expression.GetField); !ok {
			return 0, usageNone
		}
		right = left
	}
	if f.TableId() != id || right != nil && hasColumn(right) {
		return 0, usageNone
	}
	if col = s.full.Schema.IndexOfColName(f.Name()); col < 0 {
		return 0, usageNone
	}
	switch op {
	case analyzer.IndexScanOpEq, analyzer.IndexScanOpNullSafeEq, analyzer.IndexScanOpInSet, analyzer.IndexScanOpIsNull:
		return col, usageEqual
	case analyzer.IndexScanOpGt, analyzer.IndexScanOpGte, analyzer.IndexScanOpLt, analyzer.IndexScanOpLte:
		return col, usageRange
	}
	return 0, usageNone
}

// worseIndexes are the indexes that the conditions could use, but for the best:
// the one whose leading columns they fix furthest. All of a unique one is best,
// then the most columns, then a range behind them. The primary key wins a tie,
// since its rows need no second read, then the shorter index.
func worseIndexes(s *scanTable, use map[int]usage) map[string]bool {
	best, name, length := 0, "", 0
	hidden := map[string]bool{}
	rate := func(n string, columns []int, unique bool) {
		score := usefulness(columns, unique, use)
		if score == 0 {
			return
		}
		hidden[n] = true
		if score > best || score == best && name != primaryName && len(columns) < length {
			best, name, length = score, n, len(columns)
		}
	}
	rate(primaryName, s.t.PK, true)
	for _, ix := range s.t.Usable() {
		rate(ix.Name, ix.Columns, ix.Unique)
	}
	delete(hidden, name)
	return hidden
}

func usefulness(columns []int, unique bool, use map[int]usage) int {
	score := 0
	for i, c := range columns {
		if use[c] != usageEqual {
			if use[c] == usageRange {
				score++
			}
			break
		}
		score += 2
		if unique && i == len(columns)-1 {
			score += 1000
		}
	}
	return score
}

// combinations estimates how many ranges the planner would make of a filter.
func combinations(e gms.Expression) int {
	switch e := e.(type) {
	case *expression.And:
		return capped(combinations(e.LeftChild) * combinations(e.RightChild))
	case *expression.Or:
		return capped(combinations(e.LeftChild) + combinations(e.RightChild))
	}
	op, _, right, ok := analyzer.IndexLeafChildren(e)
	if !ok {
		return 1
	}
	switch op {
	case analyzer.IndexScanOpInSet, analyzer.IndexScanOpNotInSet:
		if tuple, ok := right.(expression.Tuple); ok {
			return capped(len(tuple) + 1)
		}
	case analyzer.IndexScanOpNotEq:
		return 2
	}
	return 1
}

// capped keeps products of estimates from running over.
func capped(n int) int { return min(n, maxRanges+1) }
