package sql

import (
	"errors"
	"io"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression/function/aggregation"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/types"
)

// groupWeight and bufferWeight are about what a group takes in memory, and each
// of its results: an aggregate has a buffer in every group.
const (
	groupWeight  = 96
	bufferWeight = 96
)

// grouped is GROUP BY: one row per group, in the order in which they began.
type grouped struct {
	n     *plan.GroupBy
	child gms.RowIter
	st    *statement
	keys  rowKeys
	// values says that a group keeps values of its rows, and not just numbers.
	values bool
	groups map[string]*group
	order  []*group
	next   int
	read   bool
	held   int
}

type group struct {
	buffers []gms.AggregationBuffer
	values  int // the most that its row may hold
}

func (x *executor) grouped(ctx *gms.Context, n *plan.GroupBy, row gms.Row) (gms.RowIter, error) {
	child, err := x.child(ctx, n.Child, row)
	if err != nil {
		return nil, err
	}
	g := &grouped{n: n, child: child, st: statementOf(ctx), keys: keysOfExpressions(n.GroupByExprs), groups: map[string]*group{}}
	for _, e := range n.SelectedExprs {
		g.values = g.values || !types.IsNumber(e.Type())
	}
	return g, nil
}

// Next implements gms.RowIter.
func (g *grouped) Next(ctx *gms.Context) (gms.Row, error) {
	for !g.read {
		row, err := g.child.Next(ctx)
		if errors.Is(err, io.EOF) {
			g.read = true
		} else if err != nil {
			return nil, err
		} else if err := g.add(ctx, row); err != nil {
			return nil, err
		}
	}
	if g.next == len(g.order) {
		return nil, io.EOF
	}
	buffers := g.order[g.next].buffers
	g.next++
	out := make(gms.Row, len(buffers))
	for i, b := range buffers {
		var err error
		if out[i], err = b.Eval(ctx); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// add puts a row into its group.
func (g *grouped) add(ctx *gms.Context, row gms.Row) error {
	by := make(gms.Row, len(g.n.GroupByExprs))
	for i, e := range g.n.GroupByExprs {
		var err error
		if by[i], err = e.Eval(ctx, row); err != nil {
			return err
		}
	}
	key, err := g.keys.key(ctx, by)
	if err != nil {
		return err
	}
	to, ok := g.groups[key]
	if !ok {
		if to, err = g.begin(key); err != nil {
			return err
		}
	}
	if n := rowWeight(row); g.values && n > to.values {
		if err := g.hold(n - to.values); err != nil {
			return err
		}
		to.values = n
	}
	for _, b := range to.buffers {
		if err := b.Update(ctx, row); err != nil {
			return err
		}
	}
	return nil
}

// begin makes a group. A value that is no aggregate is that of the first row.
func (g *grouped) begin(key string) (*group, error) {
	to := &group{buffers: make([]gms.AggregationBuffer, len(g.n.SelectedExprs))}
	for i, e := range g.n.SelectedExprs {
		agg, ok := e.(gms.Aggregation)
		if !ok {
			agg = aggregation.NewFirst(e)
		}
		var err error
		if to.buffers[i], err = agg.NewBuffer(); err != nil {
			return nil, err
		}
	}
	g.groups[key] = to
	g.order = append(g.order, to)
	return to, g.hold(groupWeight + keyWeight + len(key) + bufferWeight*len(to.buffers))
}

func (g *grouped) hold(n int) error {
	g.held += n
	return g.st.hold(n)
}

// Close implements gms.RowIter.
func (g *grouped) Close(ctx *gms.Context) error {
	for _, to := range g.order {
		for _, b := range to.buffers {
			b.Dispose()
		}
	}
	g.groups, g.order, g.next = nil, nil, 0
	g.st.release(g.held)
	g.held = 0
	return g.child.Close(ctx)
}
