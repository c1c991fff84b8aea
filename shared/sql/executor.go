package sql

import (
	"time"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression/function/aggregation"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/rowexec"
	"github.com/dolthub/go-mysql-server/sql/transform"
)

// executor stands before the planner's own executor. It builds the nodes that
// keep rows or keys by itself; it weighs the rows that go into the other nodes
// which keep them; it watches the nodes that can turn without reading a row of a
// table, so that a statement that is to end stops in them too; and it measures
// every node for EXPLAIN ANALYZE.
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
	markHeld(st, n)
	own := x.own(n)
	holding, weighed := st.takeWeighed(n)
	if st.profile == nil && own == nil && !turns(n) && !weighed {
		return nil, nil
	}
	var stats *nodeStats
	var begun time.Time
	if st.profile != nil {
		stats = st.profile.of(n)
		begun = time.Now()
	}
	if own == nil {
		own = x.planners(n)
	}
	iter, err := own(ctx, row)
	if err != nil {
		return nil, err
	}
	if weighed {
		iter = &weighing{iter: iter, st: st, holding: holding}
	}
	if stats == nil {
		return &watched{iter: iter}, nil
	}
	stats.took += time.Since(begun)
	return &measured{iter: iter, stats: stats}, nil
}

// builds makes the iterator of one node.
type builds func(ctx *gms.Context, row gms.Row) (gms.RowIter, error)

// own are the nodes whose iterator is ours: the planner's holds rows or keys in
// tables of its own, which nothing can weigh, or answers wrongly.
func (x *executor) own(n gms.Node) builds {
	switch n := n.(type) {
	case *plan.GroupBy:
		if len(n.GroupByExprs) > 0 {
			return func(ctx *gms.Context, row gms.Row) (gms.RowIter, error) { return x.grouped(ctx, n, row) }
		}
	case *plan.Distinct:
		return func(ctx *gms.Context, row gms.Row) (gms.RowIter, error) { return x.distinct(ctx, n, row) }
	case *plan.SetOp:
		return func(ctx *gms.Context, row gms.Row) (gms.RowIter, error) { return x.setOp(ctx, n, row) }
	case *plan.Sort:
		return func(ctx *gms.Context, row gms.Row) (gms.RowIter, error) {
			return x.sorted(ctx, n.Child, n.SortFields, nil, row)
		}
	case *plan.TopN:
		return func(ctx *gms.Context, row gms.Row) (gms.RowIter, error) {
			return x.sorted(ctx, n.Child, n.Fields, n.Limit, row)
		}
	case *plan.Window:
		return func(_ *gms.Context, row gms.Row) (gms.RowIter, error) {
			return &windowRows{x: x, n: n, row: row}, nil
		}
	}
	return nil
}

// planners builds a node by the planner's executor.
func (x *executor) planners(n gms.Node) builds {
	return func(ctx *gms.Context, row gms.Row) (gms.RowIter, error) {
		st := statementOf(ctx)
		st.building = n
		iter, err := x.child(ctx, n, row)
		st.building = nil
		return iter, err
	}
}

// child builds the iterator of a node below one of ours.
func (x *executor) child(ctx *gms.Context, n gms.Node, row gms.Row) (gms.RowIter, error) {
	return rowexec.NewOverrideBuilder(x).Build(ctx, n, row)
}

// turns tells the nodes that can go on without a row from a table: the others
// ask a child for every row.
func turns(n gms.Node) bool {
	switch n.(type) {
	case *plan.JoinNode, *plan.RecursiveCte, *plan.RecursiveTable, *plan.CachedResults, *plan.HashLookup:
		return true
	}
	return false
}

// markHeld notes the children of n whose rows n holds in memory, or of whose
// rows it holds keys. Those of our own iterators are not among them: they weigh
// what they hold by themselves.
func markHeld(st *statement, n gms.Node) {
	switch n := n.(type) {
	case *plan.HashLookup, *plan.CachedResults:
		st.weigh(n.Children()[0], held{rows: 1})
	case *plan.RecursiveCte:
		// Its second child is built again for every round, and it is not.
		for _, c := range n.Children() {
			st.weigh(c, held{rows: 1, stays: true})
		}
	case *plan.JoinNode:
		// A full join has a key of every row that had a match. It reads the right
		// side again for each row of the left, so the first time counts.
		if n.Op.IsFullOuter() {
			st.weigh(n.Left(), held{})
			st.weigh(n.Right(), held{})
		}
	case *plan.GroupBy:
		for _, e := range n.SelectedExprs {
			if transform.InspectExpr(e, collects) {
				// Some keep a wider copy.
				st.weigh(n.Child, held{rows: 2})
				return
			}
		}
	}
}

// collects tells the aggregates that keep a value of every row. The others keep
// one of each group, or of each different value.
func collects(e gms.Expression) bool {
	switch e.(type) {
	case *aggregation.JsonArray, *aggregation.JSONObjectAgg, *aggregation.GroupConcat:
		return true
	}
	return false
}

// held says how the rows of a node count against the statement's memory.
type held struct {
	// rows is how many times each row is held; 0 where just a key of it is.
	rows int
	// stays counts them every time that the node is built.
	stays bool
	// returns gives the memory back when the node's iterator is closed.
	returns bool
}

// weigh notes that the rows of n will be held.
func (st *statement) weigh(n gms.Node, how held) {
	if !isPointer(n) {
		return
	}
	if st.weighed == nil {
		st.weighed = map[gms.Node]held{}
	}
	st.weighed[n] = how
}

// takeWeighed says how the rows of n are held. The note goes with that: the plan
// of a correlated subquery is copied for every row, and would stay with its note.
func (st *statement) takeWeighed(n gms.Node) (held, bool) {
	how, ok := st.weighed[n]
	if ok && !how.stays {
		delete(st.weighed, n)
	}
	return how, ok
}

// weighing counts the rows that a node hands to one that keeps them.
type weighing struct {
	iter    gms.RowIter
	st      *statement
	holding held
	bytes   int
}

// Next implements gms.RowIter.
func (w *weighing) Next(ctx *gms.Context) (gms.Row, error) {
	row, err := w.iter.Next(ctx)
	if err != nil {
		return nil, err
	}
	n := keyWeight
	if w.holding.rows > 0 {
		n = w.holding.rows * rowWeight(row)
	}
	w.bytes += n
	return row, w.st.hold(n)
}

// Close implements gms.RowIter.
func (w *weighing) Close(ctx *gms.Context) error {
	if w.holding.returns {
		w.st.release(w.bytes)
		w.bytes = 0
	}
	return w.iter.Close(ctx)
}

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
