package sql

import (
	"errors"
	"sort"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
)

// layout is the rows of a window: partition by partition, and each in order. A
// position is a place in that order.
type layout struct {
	rows  []int // per position, the row
	parts []places
	peers []places // per position, the rows that ORDER BY takes for equal
	first []any    // per position, the value of the first ORDER BY; nil without one
}

// places is the positions from lo up to hi, without hi.
type places struct{ lo, hi int }

// layout arranges the rows for a window. Functions over the same one share it.
func (w *windowRows) layout(ctx *gms.Context, def *gms.WindowDefinition) (*layout, error) {
	partition, mark := unmarked(def)
	if l, ok := w.layouts[mark]; ok && mark != "" {
		return l, nil
	}
	s := &windowOrder{w: w, ctx: ctx}
	for _, e := range partition {
		if err := s.add(e, false); err != nil {
			return nil, err
		}
	}
	for _, f := range def.OrderBy {
		if err := s.add(f.Column, f.Order == gms.Descending); err != nil {
			return nil, err
		}
	}
	l := &layout{rows: make([]int, len(w.rows))}
	for i := range l.rows {
		l.rows[i] = i
	}
	if err := w.hold(5 * 8 * len(w.rows)); err != nil {
		return nil, err
	}
	sort.SliceStable(l.rows, func(i, j int) bool { return s.compare(l.rows[i], l.rows[j], 0, len(s.keys)) < 0 })
	l.parts = s.runs(l.rows, places{0, len(l.rows)}, 0, len(partition))
	for _, p := range l.parts {
		for _, run := range s.runs(l.rows, p, len(partition), len(s.keys)) {
			for range run.hi - run.lo {
				l.peers = append(l.peers, run)
			}
		}
	}
	if len(def.OrderBy) > 0 {
		l.first = make([]any, len(l.rows))
		for i, row := range l.rows {
			l.first[i] = s.keys[len(partition)].values[row]
		}
	}
	if s.err == nil {
		w.layouts[mark] = l
	}
	return l, s.err
}

// unmarked is the PARTITION BY of a window without what adapt put in front of it,
// and the number of the window.
func unmarked(def *gms.WindowDefinition) (partition []gms.Expression, mark string) {
	if def.Name != markedName {
		return def.PartitionBy, ""
	}
	return def.PartitionBy[windowMarks:], def.PartitionBy[0].String()
}

// windowOrder compares rows by values that are computed once.
type windowOrder struct {
	w    *windowRows
	ctx  *gms.Context
	keys []windowKey
	err  error
}

type windowKey struct {
	values     []any // per row
	typ        gms.Type
	descending bool
}

func (s *windowOrder) add(e gms.Expression, descending bool) error {
	values, err := s.w.values(s.ctx, e)
	s.keys = append(s.keys, windowKey{values: values, typ: e.Type(), descending: descending})
	return err
}

// compare compares two rows by the keys from one up to another. NULL is less than
// any value. After an error all are equal, so that a sort ends.
func (s *windowOrder) compare(a, b, from, to int) int {
	for _, k := range s.keys[from:to] {
		if s.err != nil {
			return 0
		}
		c, err := compareNullable(s.ctx, k.typ, k.values[a], k.values[b])
		if s.err = errors.Join(err, s.w.turn(s.ctx)); s.err != nil {
			return 0
		}
		if k.descending {
			c = -c
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

func compareNullable(ctx *gms.Context, t gms.Type, a, b any) (int, error) {
	switch {
	case a == nil && b == nil:
		return 0, nil
	case a == nil:
		return -1, nil
	case b == nil:
		return 1, nil
	}
	return t.Compare(ctx, a, b)
}

// runs cuts positions where one of the keys changes.
func (s *windowOrder) runs(rows []int, of places, from, to int) []places {
	var out []places
	for i := of.lo; i < of.hi; i++ {
		if i == of.lo || s.compare(rows[i-1], rows[i], from, to) != 0 {
			out = append(out, places{lo: i})
		}
		out[len(out)-1].hi = i + 1
	}
	return out
}

// plainColumn is the column that an expression is, and nothing more.
func plainColumn(e gms.Expression) (*expression.GetField, bool) {
	f, ok := e.(*expression.GetField)
	return f, ok
}
