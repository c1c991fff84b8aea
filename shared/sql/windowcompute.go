package sql

import (
	"errors"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/expression/function/aggregation"
	"github.com/dolthub/go-mysql-server/sql/expression/function/aggregation/window"

	"originchain/shared/fault"
)

// compute computes a window function for every row.
func (w *windowRows) compute(ctx *gms.Context, call gms.WindowAdaptableExpression) ([]any, error) {
	if p, ok := call.(*placed); ok && p.wrong != nil {
		return nil, p.wrong
	}
	if len(w.rows) == 0 {
		return []any{}, nil
	}
	l, err := w.layout(ctx, call.Window())
	if err != nil {
		return nil, err
	}
	if err := w.hold(valueWeight * len(w.rows)); err != nil {
		return nil, err
	}
	out := make([]any, len(w.rows))
	switch call := call.(type) {
	case *window.RowNumber, *window.Rank, *window.DenseRank, *window.PercentRank:
		l.number(call, out)
		return out, nil
	case *placed:
		return out, w.placed(ctx, call, l, out)
	case *window.FirstValue:
		return out, w.edge(ctx, call, call.Child, l, out)
	case *window.LastValue:
		return out, w.edge(ctx, call, call.Child, l, out)
	case gms.Aggregation:
		return out, w.aggregate(ctx, call, l, out)
	}
	return nil, fault.New(fault.Unsupported, "%s is not available as a window function", call.String())
}

// number numbers the rows of each partition.
func (l *layout) number(call gms.Expression, out []any) {
	for _, part := range l.parts {
		groups := uint64(0)
		for pos := part.lo; pos < part.hi; pos++ {
			before := l.peers[pos].lo - part.lo
			if l.peers[pos].lo == pos {
				groups++
			}
			var v any
			switch call.(type) {
			case *window.RowNumber:
				v = int64(pos - part.lo + 1)
			case *window.DenseRank:
				v = groups
			case *window.PercentRank:
				v = float64(before) / float64(max(1, part.hi-part.lo-1))
			default:
				v = uint64(before + 1)
			}
			out[l.rows[pos]] = v
		}
	}
}

// edge is FIRST_VALUE and LAST_VALUE.
func (w *windowRows) edge(ctx *gms.Context, call gms.WindowAdaptableExpression, e gms.Expression, l *layout, out []any) error {
	_, last := call.(*window.LastValue)
	values, err := w.values(ctx, e)
	if err != nil {
		return err
	}
	f, err := w.frame(ctx, call.Window(), l)
	if err != nil {
		return err
	}
	for _, part := range l.parts {
		for pos := part.lo; pos < part.hi; pos++ {
			in, err := f.of(part, pos)
			if err != nil {
				return err
			}
			at := in.lo
			if last {
				at = in.hi - 1
			}
			if in.lo < in.hi {
				out[l.rows[pos]] = values[l.rows[at]]
			}
			if err := w.turn(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// aggregate is an aggregate over frames.
func (w *windowRows) aggregate(ctx *gms.Context, call gms.Aggregation, l *layout, out []any) error {
	child := call.Children()[0]
	values, err := w.values(ctx, child)
	if err != nil {
		return err
	}
	f, err := w.frame(ctx, call.Window(), l)
	if err != nil {
		return err
	}
	r := &running{w: w, values: values, rows: l.rows}
	_, r.inOrder = call.(*aggregation.JsonArray)
	children := append([]gms.Expression{expression.NewGetField(0, child.Type(), "", true)}, call.Children()[1:]...)
	over, err := call.WithChildren(children...)
	if err != nil {
		return err
	}
	r.begin = over.(gms.Aggregation).NewBuffer
	defer r.end()
	for _, part := range l.parts {
		// Frames that reach to the end of their partition grow towards its start.
		backwards := f.end.open && !f.start.open && !r.inOrder
		for i := range part.hi - part.lo {
			pos := part.lo + i
			if backwards {
				pos = part.hi - 1 - i
			}
			in, err := f.of(part, pos)
			if err != nil {
				return err
			}
			if out[l.rows[pos]], err = r.over(ctx, in); err != nil {
				return err
			}
		}
		r.end()
	}
	return nil
}

// running is an aggregate over the rows of a frame. It goes on from one frame to
// the next where that holds all of the rows before.
type running struct {
	w       *windowRows
	begin   func() (gms.AggregationBuffer, error)
	inOrder bool // the order of rows matters
	values  []any
	rows    []int
	buffer  gms.AggregationBuffer
	in      places
	value   any
}

// over is the aggregate over a frame.
func (r *running) over(ctx *gms.Context, to places) (any, error) {
	if r.buffer != nil && to == r.in {
		return r.value, nil
	}
	if r.buffer == nil || to.lo > r.in.lo || to.hi < r.in.hi {
		r.end()
		var err error
		if r.buffer, err = r.begin(); err != nil {
			return nil, err
		}
		r.in = places{to.lo, to.lo}
	}
	if err := errors.Join(r.add(ctx, places{to.lo, r.in.lo}), r.add(ctx, places{r.in.hi, to.hi})); err != nil {
		return nil, err
	}
	r.in = to
	if r.inOrder {
		// The value is as long as the frame, in every row.
		if err := r.w.hold(2 * valueWeight * (1 + to.hi - to.lo)); err != nil {
			return nil, err
		}
	}
	var err error
	r.value, err = r.buffer.Eval(ctx)
	return r.value, err
}

func (r *running) add(ctx *gms.Context, more places) error {
	for pos := more.lo; pos < more.hi; pos++ {
		if err := r.w.turn(ctx); err != nil {
			return err
		}
		if err := r.buffer.Update(ctx, gms.Row{r.values[r.rows[pos]]}); err != nil {
			return err
		}
	}
	return nil
}

func (r *running) end() {
	if r.buffer != nil {
		r.buffer.Dispose()
	}
	r.buffer = nil
}
