package sql

import (
	"time"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression/function/aggregation"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/rowexec"
	"github.com/dolthub/go-mysql-server/sql/transform"
)

// executor stands before the planner's own executor. It watches the nodes that
// can turn without reading a row of a table, so that a cancelled query stops in
// them too; it weighs the rows that go into a node which keeps them; and it
// measures every node for EXPLAIN ANALYZE.
type executor struct{}

// Build implements gms.NodeExecBuilder. It returns nil for a node that the
// planner's executor shall build. To get such an iterator and wrap it, Build
// asks the planner's executor, which asks Build about that same node first.
func (x *executor) Build(ctx *gms.Context, n gms.Node, row gms.Row) (gms.RowIter, error) {
	st := statementOf(ctx)
	if st.building != nil && st.building == n {
		st.building = nil
		return nil, nil
	}
	if !isPointer(n) {
		return nil, nil
	}
	if keepsRows(n) {
		for _, c := range n.Children() {
			st.weigh(c)
		}
	}
	weighed := st.weighed[n]
	if st.profile == nil && !turns(n) && !weighed {
		return nil, nil
	}
	var stats *nodeStats
	var begun time.Time
	if st.profile != nil {
		stats = st.profile.of(n)
		begun = time.Now()
	}
	st.building = n
	iter, err := rowexec.NewOverrideBuilder(x).Build(ctx, n, row)
	st.building = nil
	if err != nil {
		return nil, err
	}
	if weighed {
		iter = &weighing{iter: iter, st: st}
	}
	if stats == nil {
		return &watched{iter: iter}, nil
	}
	stats.took += time.Since(begun)
	return &measured{iter: iter, stats: stats}, nil
}

// turns tells the nodes that can go on without a row from a table: the others
// ask a child for every row.
func turns(n gms.Node) bool {
	switch n.(type) {
	case *plan.JoinNode, *plan.RecursiveCte, *plan.RecursiveTable, *plan.CachedResults, *plan.HashLookup, *plan.SetOp:
		return true
	}
	return false
}

// keepsRows tells the nodes that hold the rows of their children in memory.
func keepsRows(n gms.Node) bool {
	switch n := n.(type) {
	case *plan.Sort, *plan.Window, *plan.HashLookup, *plan.CachedResults, *plan.RecursiveCte:
		return true
	case *plan.GroupBy:
		for _, e := range n.SelectedExprs {
			if transform.InspectExpr(e, collects) {
				return true
			}
		}
	}
	return false
}

// collects tells the aggregates that keep a value of every row. The others keep
// one of each group, or of each different value.
func collects(e gms.Expression) bool {
	switch e.(type) {
	case *aggregation.JsonArray, *aggregation.JSONObjectAgg:
		return true
	}
	return false
}

// weigh notes that the rows of n will be held.
func (st *statement) weigh(n gms.Node) {
	if !isPointer(n) {
		return
	}
	if st.weighed == nil {
		st.weighed = map[gms.Node]bool{}
	}
	st.weighed[n] = true
}

// weighing counts the rows that a node hands to one that keeps them.
type weighing struct {
	iter gms.RowIter
	st   *statement
}

// Next implements gms.RowIter.
func (w *weighing) Next(ctx *gms.Context) (gms.Row, error) {
	row, err := w.iter.Next(ctx)
	if err != nil {
		return nil, err
	}
	return row, w.st.hold(rowWeight(row))
}

// Close implements gms.RowIter.
func (w *weighing) Close(ctx *gms.Context) error { return w.iter.Close(ctx) }

// rowWeight is about what a row takes in memory.
func rowWeight(row gms.Row) int {
	n := 24 + 24*len(row)
	for _, v := range row {
		switch v := v.(type) {
		case string:
			n += len(v)
		case []byte:
			n += len(v)
		}
	}
	return n
}

// isPointer tells nodes that may be compared: those held by pointer.
func isPointer(n gms.Node) bool {
	switch n.(type) {
	case plan.Nothing, plan.ShowWarnings:
		return false
	}
	return true
}

// watched ends an iteration when its context does.
type watched struct{ iter gms.RowIter }

// Next implements gms.RowIter.
func (w *watched) Next(ctx *gms.Context) (gms.Row, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return w.iter.Next(ctx)
}

// Close implements gms.RowIter.
func (w *watched) Close(ctx *gms.Context) error { return w.iter.Close(ctx) }

// profile is what EXPLAIN ANALYZE measures.
type profile struct {
	nodes map[gms.Node]*nodeStats
}

// nodeStats is what one node did. took includes the node's children.
type nodeStats struct {
	rows  uint64
	loops uint64
	took  time.Duration
}

func (p *profile) of(n gms.Node) *nodeStats {
	s, ok := p.nodes[n]
	if !ok {
		s = &nodeStats{}
		p.nodes[n] = s
	}
	s.loops++
	return s
}

// measured counts the rows of a node and the time it takes.
type measured struct {
	iter  gms.RowIter
	stats *nodeStats
}

// Next implements gms.RowIter.
func (m *measured) Next(ctx *gms.Context) (gms.Row, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	begun := time.Now()
	row, err := m.iter.Next(ctx)
	m.stats.took += time.Since(begun)
	if err == nil {
		m.stats.rows++
	}
	return row, err
}

// Close implements gms.RowIter.
func (m *measured) Close(ctx *gms.Context) error { return m.iter.Close(ctx) }
