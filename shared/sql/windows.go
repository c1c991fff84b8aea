package sql

import (
	"errors"
	"io"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/plan"
)

// windowRows are the rows of window functions: one per row that goes in, in the
// order in which they come. It computes the functions by itself. The planner's
// executor takes peers for rows that follow one another, whole partitions for
// running frames, NULL for 0 and errors for values, and holds every row once more
// for each window.
type windowRows struct {
	x       *executor
	n       *plan.Window
	row     gms.Row
	st      *statement
	child   gms.RowIter
	begun   bool
	rows    []gms.Row
	columns [][]any // per expression; nil where it looks at its row alone
	layouts map[string]*layout
	next    int
	held    int
	turned  uint
}

// Next implements gms.RowIter.
func (w *windowRows) Next(ctx *gms.Context) (gms.Row, error) {
	if !w.begun {
		w.begun = true
		if err := w.begin(ctx); err != nil {
			return nil, err
		}
	}
	if w.next == len(w.rows) {
		return nil, io.EOF
	}
	out := make(gms.Row, len(w.columns))
	for i, column := range w.columns {
		if column != nil {
			out[i] = column[w.next]
			continue
		}
		var err error
		if out[i], err = w.n.SelectExprs[i].Eval(ctx, w.rows[w.next]); err != nil {
			return nil, err
		}
	}
	w.next++
	return out, nil
}

// begin reads the rows and computes the functions over them.
func (w *windowRows) begin(ctx *gms.Context) error {
	w.st = statementOf(ctx)
	var err error
	if w.child, err = w.x.child(ctx, w.n.Child, w.row); err != nil {
		return err
	}
	for {
		row, err := w.child.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		w.rows = append(w.rows, row)
		if err := w.hold(rowWeight(row)); err != nil {
			return err
		}
	}
	w.columns, w.layouts = make([][]any, len(w.n.SelectExprs)), map[string]*layout{}
	for i, e := range w.n.SelectExprs {
		call, ok := e.(gms.WindowAdaptableExpression)
		if !ok || call.Window() == nil {
			continue
		}
		if w.columns[i], err = w.compute(ctx, call); err != nil {
			return err
		}
	}
	w.layouts = nil
	return nil
}

// valueWeight is what a value takes in memory, without its text.
const valueWeight = 16

func (w *windowRows) hold(n int) error {
	w.held += n
	return w.st.hold(n)
}

// turn looks at the context now and then: what a frame costs grows with the
// square of its partition.
func (w *windowRows) turn(ctx *gms.Context) error {
	if w.turned++; w.turned%stopEvery == 0 {
		return ctx.Err()
	}
	return nil
}

// values are those of an expression, row by row. What they hold counts until the
// iterator is closed.
func (w *windowRows) values(ctx *gms.Context, e gms.Expression) ([]any, error) {
	out := make([]any, len(w.rows))
	_, inRow := plainColumn(e)
	for i, row := range w.rows {
		v, err := e.Eval(ctx, row)
		if err == nil {
			v, err = gms.UnwrapAny(ctx, v)
		}
		if err != nil {
			return nil, err
		}
		out[i] = v
		n := valueWeight
		if !inRow {
			n += int(length([]any{v}, 0))
		}
		if err := errors.Join(w.hold(n), w.turn(ctx)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Close implements gms.RowIter.
func (w *windowRows) Close(ctx *gms.Context) error {
	if w.st != nil {
		w.st.release(w.held)
	}
	w.held, w.rows, w.columns, w.layouts, w.next = 0, nil, nil, nil, 0
	if w.child == nil {
		return nil
	}
	return w.child.Close(ctx)
}
