package sql

import (
	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/transform"
)

// weighSubqueries makes the subqueries in the expressions of a plan weigh their
// rows: IN (SELECT …) holds all of them.
func weighSubqueries(n gms.Node, b gms.NodeExecBuilder) (gms.Node, error) {
	n, _, err := transform.NodeWithOpaque(n, func(n gms.Node) (gms.Node, transform.TreeIdentity, error) {
		return transform.OneNodeExpressions(n, func(e gms.Expression) (gms.Expression, transform.TreeIdentity, error) {
			sub, ok := e.(*plan.Subquery)
			if !ok {
				return e, transform.SameTree, nil
			}
			q, err := weighSubqueries(sub.Query, b)
			if err != nil {
				return nil, transform.SameTree, err
			}
			// The planner keeps the rows of a subquery that is the same for every row.
			how := held{rows: 1, returns: !sub.CanCacheResults()}
			return sub.WithQuery(q).WithExecBuilder(&subqueryBuilder{NodeExecBuilder: b, how: how}), transform.NewTree, nil
		})
	})
	return n, err
}

// subqueryBuilder builds the iterator of a whole subquery.
type subqueryBuilder struct {
	gms.NodeExecBuilder
	how held
}

// Build implements gms.NodeExecBuilder.
func (b *subqueryBuilder) Build(ctx *gms.Context, n gms.Node, row gms.Row) (gms.RowIter, error) {
	iter, err := b.NodeExecBuilder.Build(ctx, n, row)
	if err != nil {
		return nil, err
	}
	return &weighing{iter: iter, st: statementOf(ctx), holding: b.how}, nil
}
