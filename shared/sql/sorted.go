package sql

import (
	"container/heap"
	"errors"
	"io"
	"sort"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/iters"
)

// sorted is ORDER BY, with LIMIT where the planner put the two together. It holds
// its rows, and with a limit no more than that many of them.
type sorted struct {
	child gms.RowIter
	st    *statement
	rows  sortHeap
	limit int64 // -1: none
	next  int
	read  bool
	held  int
}

func (x *executor) sorted(ctx *gms.Context, child gms.Node, by gms.SortFields, limit gms.Expression, row gms.Row) (gms.RowIter, error) {
	most := int64(-1)
	if limit != nil {
		var err error
		if most, err = iters.GetInt64Value(ctx, limit); err != nil {
			return nil, err
		}
	}
	iter, err := x.child(ctx, child, row)
	if err != nil {
		return nil, err
	}
	return newSorted(ctx, iter, by, most), nil
}

func newSorted(ctx *gms.Context, child gms.RowIter, by gms.SortFields, limit int64) *sorted {
	s := &sorted{child: child, st: statementOf(ctx), limit: limit}
	s.rows.Ctx = ctx
	for _, f := range by {
		f.Column = &stopping{Expression: f.Column}
		s.rows.SortFields = append(s.rows.SortFields, f)
	}
	return s
}

// Next implements gms.RowIter.
func (s *sorted) Next(ctx *gms.Context) (gms.Row, error) {
	for !s.read {
		row, err := s.child.Next(ctx)
		switch {
		case errors.Is(err, io.EOF):
			s.read = true
			sort.Sort(sort.Reverse(&s.rows))
		case err != nil:
			return nil, err
		default:
			if err := s.add(row); err != nil {
				return nil, err
			}
		}
		if err := s.failed(ctx); err != nil {
			return nil, err
		}
	}
	if s.next == len(s.rows.Rows) {
		return nil, io.EOF
	}
	s.next++
	return s.rows.Rows[s.next-1], nil
}

// add keeps a row. Where a limit is reached the last one of all goes.
func (s *sorted) add(row gms.Row) error {
	if s.limit < 0 {
		s.rows.Push(row)
		return s.hold(rowWeight(row))
	}
	heap.Push(&s.rows, row)
	n := rowWeight(row)
	if int64(len(s.rows.Rows)) > s.limit {
		n -= rowWeight(heap.Pop(&s.rows).(gms.Row))
	}
	return s.hold(n)
}

func (s *sorted) hold(n int) error {
	s.held += n
	return s.st.hold(n)
}

// failed is why the rows cannot be put in order.
func (s *sorted) failed(ctx *gms.Context) error {
	if s.rows.LastError == nil {
		return nil
	}
	// The planner's sorter wraps the end of the context into an error of its own.
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.rows.LastError
}

// Close implements gms.RowIter.
func (s *sorted) Close(ctx *gms.Context) error {
	s.st.release(s.held)
	s.held = 0
	s.rows.Rows, s.rows.came = nil, nil
	s.next = 0
	return s.child.Close(ctx)
}

// sortHeap is rows with the greatest on top. Of equal ones that is the one that
// came last, so that a limit keeps what a stable sort would.
type sortHeap struct {
	expression.Sorter
	came []int64
	n    int64
}

var _ heap.Interface = (*sortHeap)(nil)

// Less implements heap.Interface.
func (h *sortHeap) Less(i, j int) bool {
	switch {
	case h.Sorter.Less(j, i):
		return true
	case h.LastError != nil || h.Sorter.Less(i, j):
		return false
	}
	return h.came[i] > h.came[j]
}

// Swap implements heap.Interface.
func (h *sortHeap) Swap(i, j int) {
	h.Sorter.Swap(i, j)
	h.came[i], h.came[j] = h.came[j], h.came[i]
}

// Push implements heap.Interface.
func (h *sortHeap) Push(row any) {
	h.n++
	h.Rows = append(h.Rows, row.(gms.Row))
	h.came = append(h.came, h.n)
}

// Pop implements heap.Interface.
func (h *sortHeap) Pop() any {
	last := len(h.Rows) - 1
	row := h.Rows[last]
	h.Rows[last] = nil
	h.Rows, h.came = h.Rows[:last], h.came[:last]
	return row
}
