package sql

import (
	"errors"
	"io"
	"math"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/iters"
	"github.com/dolthub/go-mysql-server/sql/plan"
)

// setOp is UNION, INTERSECT and EXCEPT, with their ORDER BY and LIMIT.
func (x *executor) setOp(ctx *gms.Context, n *plan.SetOp, row gms.Row) (gms.RowIter, error) {
	left, err := x.child(ctx, n.Left(), row)
	if err != nil {
		return nil, err
	}
	var iter gms.RowIter
	if n.SetOpType == plan.UnionType {
		iter = &iters.UnionIter{Cur: left, NextIter: func(ctx *gms.Context) (gms.RowIter, error) { return x.child(ctx, n.Right(), row) }}
	} else {
		right, err := x.child(ctx, n.Right(), row)
		if err != nil {
			return nil, errors.Join(err, left.Close(ctx))
		}
		except := n.SetOpType == plan.ExceptType
		if except && n.Distinct {
			left, right = newDistinctRows(ctx, left, n.Schema()), newDistinctRows(ctx, right, n.Schema())
		}
		iter = &matchedRows{left: left, right: right, except: except, keys: keysOf(n.Schema()), st: statementOf(ctx)}
	}
	if n.Distinct && n.SetOpType != plan.ExceptType {
		iter = newDistinctRows(ctx, iter, n.Schema())
	}
	return limited(ctx, n, iter)
}

// limited puts the ORDER BY and the LIMIT of a set operation over its rows. What
// is skipped does not count for the limit.
func limited(ctx *gms.Context, n *plan.SetOp, iter gms.RowIter) (gms.RowIter, error) {
	skip, limit, err := limits(ctx, n)
	if err != nil {
		return nil, errors.Join(err, iter.Close(ctx))
	}
	if len(n.SortFields) > 0 {
		most := int64(-1)
		if n.Limit != nil {
			most = min(skip, math.MaxInt64-limit) + limit
		}
		iter = newSorted(ctx, iter, n.SortFields, most)
	}
	if skip > 0 {
		iter = &skipped{RowIter: iter, left: skip}
	}
	if n.Limit != nil {
		iter = &iters.LimitIter{Limit: limit, ChildIter: iter}
	}
	return iter, nil
}

func limits(ctx *gms.Context, n *plan.SetOp) (skip, limit int64, err error) {
	if n.Offset != nil {
		skip, err = iters.GetInt64Value(ctx, n.Offset)
	}
	if err == nil && n.Limit != nil {
		limit, err = iters.GetInt64Value(ctx, n.Limit)
	}
	return skip, limit, err
}

// skipped leaves out the first rows.
type skipped struct {
	gms.RowIter
	left int64
}

// Next implements gms.RowIter.
func (s *skipped) Next(ctx *gms.Context) (gms.Row, error) {
	for ; s.left > 0; s.left-- {
		if _, err := s.RowIter.Next(ctx); err != nil {
			return nil, err
		}
	}
	return s.RowIter.Next(ctx)
}

// distinctRows is DISTINCT: it leaves out the rows that it gave before.
type distinctRows struct {
	gms.RowIter
	keys rowKeys
	seen *keySet
}

func newDistinctRows(ctx *gms.Context, iter gms.RowIter, columns gms.Schema) *distinctRows {
	return &distinctRows{RowIter: iter, keys: keysOf(columns), seen: newKeySet(ctx)}
}

func (x *executor) distinct(ctx *gms.Context, n *plan.Distinct, row gms.Row) (gms.RowIter, error) {
	child, err := x.child(ctx, n.Child, row)
	if err != nil {
		return nil, err
	}
	return newDistinctRows(ctx, child, n.Schema()), nil
}

// Next implements gms.RowIter.
func (d *distinctRows) Next(ctx *gms.Context) (gms.Row, error) {
	for {
		row, err := d.RowIter.Next(ctx)
		if err != nil {
			return nil, err
		}
		key, err := d.keys.key(ctx, row)
		if err != nil {
			return nil, err
		}
		if first, err := d.seen.add(key); err != nil || first {
			return row, err
		}
	}
}

// Close implements gms.RowIter.
func (d *distinctRows) Close(ctx *gms.Context) error {
	d.seen.release()
	return d.RowIter.Close(ctx)
}

// matchedRows is INTERSECT ALL and EXCEPT ALL: the rows on the left that have
// one on the right, or have none; each row on the right is used up by one on the
// left.
type matchedRows struct {
	left, right gms.RowIter
	except      bool
	keys        rowKeys
	st          *statement
	counts      map[string]int // nil until the right side was read
	held        int
}

// Next implements gms.RowIter.
func (m *matchedRows) Next(ctx *gms.Context) (gms.Row, error) {
	if m.counts == nil {
		if err := m.count(ctx); err != nil {
			return nil, err
		}
	}
	for {
		row, err := m.left.Next(ctx)
		if err != nil {
			return nil, err
		}
		key, err := m.keys.key(ctx, row)
		if err != nil {
			return nil, err
		}
		n := m.counts[key]
		if n > 0 {
			m.counts[key] = n - 1
		}
		if (n == 0) == m.except {
			return row, nil
		}
	}
}

// count reads the right side.
func (m *matchedRows) count(ctx *gms.Context) error {
	counts := map[string]int{}
	for {
		row, err := m.right.Next(ctx)
		if errors.Is(err, io.EOF) {
			m.counts = counts
			return nil
		}
		if err != nil {
			return err
		}
		key, err := m.keys.key(ctx, row)
		if err != nil {
			return err
		}
		if counts[key]++; counts[key] > 1 {
			continue
		}
		n := len(key) + keyWeight
		m.held += n
		if err := m.st.hold(n); err != nil {
			return err
		}
	}
}

// Close implements gms.RowIter.
func (m *matchedRows) Close(ctx *gms.Context) error {
	m.st.release(m.held)
	m.held, m.counts = 0, nil
	return errors.Join(m.left.Close(ctx), m.right.Close(ctx))
}
