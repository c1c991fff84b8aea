package sql

import (
	"math"
	"math/big"
	"sort"
	"strings"
	"time"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/shopspring/decimal"

	"originchain/shared/fault"
)

// windowFrame says which rows a window function looks at from a row.
type windowFrame struct {
	l          *layout
	start, end bound
	ranged     bool // bounds are values, not numbers of rows
	values     []any
	descending bool
	ctx        *gms.Context
}

// bound is one end of a frame.
type bound struct {
	open bool // UNBOUNDED
	// by is how far the end stands behind the row, in rows or in value; negative
	// is before it. Both are zero for CURRENT ROW.
	rows     int64
	value    decimal.Decimal
	interval *expression.Interval
	before   bool
	distant  bool
}

// frame makes the frame of a window. Without a clause that is all rows up to the
// last peer of the row, which without an order are all of the partition.
func (w *windowRows) frame(ctx *gms.Context, def *gms.WindowDefinition, l *layout) (*windowFrame, error) {
	f := &windowFrame{l: l, ctx: ctx, ranged: true, start: bound{open: true}}
	if def.Frame == nil {
		return f, nil
	}
	// The interface tells everything about a frame but this.
	f.ranged = strings.HasPrefix(def.Frame.String(), "RANGE")
	var err error
	if f.start, err = f.bound(def.Frame.UnboundedPreceding(), def.Frame.StartNPreceding(), def.Frame.StartNFollowing()); err != nil {
		return nil, err
	}
	if f.end, err = f.bound(def.Frame.UnboundedFollowing(), def.Frame.EndNPreceding(), def.Frame.EndNFollowing()); err != nil {
		return nil, err
	}
	if !f.ranged || !f.start.distant && !f.end.distant {
		return f, nil
	}
	if len(def.OrderBy) != 1 {
		return nil, fault.New(fault.ValidationFailed, "RANGE with a distance takes an ORDER BY of one expression; this window has %d", len(def.OrderBy))
	}
	f.descending = def.OrderBy[0].Order == gms.Descending
	f.values, err = f.distances(l.first)
	return f, err
}

func (f *windowFrame) bound(open bool, preceding, following gms.Expression) (bound, error) {
	e := preceding
	if e == nil {
		e = following
	}
	b := bound{open: open, before: preceding != nil, distant: e != nil}
	if e == nil {
		return b, nil
	}
	var v any
	if i, ok := e.(*expression.Interval); !ok {
		var err error
		if v, err = e.Eval(f.ctx, nil); err != nil {
			return b, err
		}
	} else if f.ranged {
		b.interval = i
		return b, nil
	}
	d, ok := distanceOf(v)
	if !ok || d.IsNegative() || !f.ranged && !d.IsInteger() {
		return b, fault.New(fault.ValidationFailed, "%s cannot bound a frame; ROWS takes whole numbers from 0 on, RANGE such numbers and intervals", e.String())
	}
	b.value, b.rows = d, math.MaxInt64
	if n := d.BigInt(); n.IsInt64() {
		b.rows = n.Int64()
	}
	return b, nil
}

// distanceOf is any number, exactly.
func distanceOf(v any) (decimal.Decimal, bool) {
	switch v := v.(type) {
	case decimal.Decimal:
		return v, true
	case float64:
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return decimal.Decimal{}, false
		}
		return decimal.NewFromFloat(v), true
	case float32:
		return distanceOf(float64(v))
	case string, []byte:
		return decimal.Decimal{}, false
	}
	if i, ok := asI64(v); ok {
		return decimal.NewFromInt(i), true
	}
	u, ok := asU64(v)
	return decimal.NewFromBigInt(new(big.Int).SetUint64(u), 0), ok
}

// distances are the values of ORDER BY as what bounds are added to.
func (f *windowFrame) distances(values []any) ([]any, error) {
	out := make([]any, len(values))
	for i, v := range values {
		if v == nil {
			continue
		}
		if t, ok := v.(time.Time); ok && f.timed() {
			out[i] = t
			continue
		}
		d, ok := distanceOf(v)
		if !ok || f.timed() {
			return nil, fault.New(fault.ValidationFailed, "RANGE with a distance orders by a number, or by a date for an interval, and not by %s", describe(v))
		}
		out[i] = d
	}
	return out, nil
}

// timed says that a bound is an interval. Both then are, or the one that is not
// finds no number.
func (f *windowFrame) timed() bool { return f.start.interval != nil || f.end.interval != nil }

// of is the frame of the row at a position of a partition.
func (f *windowFrame) of(part places, pos int) (places, error) {
	lo, err := f.place(f.start, part, pos, true)
	if err != nil {
		return places{}, err
	}
	hi, err := f.place(f.end, part, pos, false)
	return places{lo, max(lo, hi)}, err
}

// place is where a bound is: at the first row within it for the start of a frame,
// behind the last one for its end.
func (f *windowFrame) place(b bound, part places, pos int, start bool) (int, error) {
	switch {
	case b.open && start:
		return part.lo, nil
	case b.open:
		return part.hi, nil
	case f.ranged && b.distant && f.values[pos] != nil:
		return f.search(b, part, pos, start)
	case f.ranged && start:
		return f.l.peers[pos].lo, nil
	case f.ranged:
		return f.l.peers[pos].hi, nil
	}
	// No distance beyond the partition makes a difference, nor an overflow.
	by := int(min(b.rows, int64(part.hi-part.lo)))
	if b.before {
		by = -by
	}
	if !start {
		by++
	}
	return min(max(pos+by, part.lo), part.hi), nil
}

// search finds the place of a distance among the values of a partition.
func (f *windowFrame) search(b bound, part places, pos int, start bool) (int, error) {
	limit, err := f.shifted(b, f.values[pos])
	if err != nil {
		return 0, err
	}
	return part.lo + sort.Search(part.hi-part.lo, func(i int) bool {
		v := f.values[part.lo+i]
		c := -1 // NULL is less than any value
		switch v := v.(type) {
		case decimal.Decimal:
			c = v.Cmp(limit.(decimal.Decimal))
		case time.Time:
			c = v.Compare(limit.(time.Time))
		}
		if f.descending {
			c = -c
		}
		return c > 0 || start && c == 0
	}), nil
}

// shifted is a value at a distance. Before a row are the lesser values, or the
// greater ones in a descending order.
func (f *windowFrame) shifted(b bound, v any) (any, error) {
	back := b.before != f.descending
	if d, ok := v.(decimal.Decimal); ok {
		if back {
			return d.Sub(b.value), nil
		}
		return d.Add(b.value), nil
	}
	if b.interval == nil {
		return nil, fault.New(fault.ValidationFailed, "RANGE over dates takes intervals: INTERVAL 1 DAY PRECEDING")
	}
	by, err := b.interval.EvalDelta(f.ctx, nil)
	if err != nil {
		return nil, err
	}
	if by == nil {
		return nil, fault.New(fault.ValidationFailed, "%s is no distance", b.interval.String())
	}
	if back {
		return by.Sub(v.(time.Time)), nil
	}
	return by.Add(v.(time.Time)), nil
}
