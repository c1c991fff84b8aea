package sql

import (
	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/expression/function/aggregation"
	"github.com/dolthub/go-mysql-server/sql/transform"
)

// ownDistinct replaces COUNT(DISTINCT …) and the DISTINCT of other aggregates by
// ours, which take every value, bytes among them, and weigh what they keep.
func ownDistinct(e gms.Expression) (gms.Expression, transform.TreeIdentity, error) {
	switch e := e.(type) {
	case *aggregation.CountDistinct:
		return &countDistinct{e}, transform.NewTree, nil
	case *expression.DistinctExpression:
		return &distinctValue{Expression: e.Child}, transform.NewTree, nil
	}
	return e, transform.SameTree, nil
}

// countDistinct is COUNT(DISTINCT …).
type countDistinct struct{ *aggregation.CountDistinct }

var _ gms.Aggregation = (*countDistinct)(nil)

// WithChildren implements gms.Expression.
func (c *countDistinct) WithChildren(children ...gms.Expression) (gms.Expression, error) {
	made := c.CountDistinct.WithId(c.Id()).(*aggregation.CountDistinct)
	made.NaryExpression = expression.NaryExpression{ChildExpressions: children}
	return &countDistinct{made}, nil
}

// WithId implements gms.IdExpression.
func (c *countDistinct) WithId(id gms.ColumnId) gms.IdExpression {
	return &countDistinct{c.CountDistinct.WithId(id).(*aggregation.CountDistinct)}
}

// NewBuffer implements gms.Aggregation.
func (c *countDistinct) NewBuffer() (gms.AggregationBuffer, error) {
	exprs := make([]gms.Expression, len(c.ChildExpressions))
	for i, e := range c.ChildExpressions {
		var err error
		if exprs[i], err = transform.Clone(e); err != nil {
			return nil, err
		}
	}
	return &countDistinctBuffer{exprs: exprs, keys: keysOfExpressions(exprs)}, nil
}

// countDistinctBuffer counts the different values of one group.
type countDistinctBuffer struct {
	exprs []gms.Expression
	keys  rowKeys
	seen  *keySet
}

// Update implements gms.AggregationBuffer. A row in which a value is NULL does
// not count.
func (b *countDistinctBuffer) Update(ctx *gms.Context, row gms.Row) error {
	values := row
	if _, star := b.exprs[0].(*expression.Star); star {
		b.keys.columns = nil
	} else {
		values = make(gms.Row, len(b.exprs))
		for i, e := range b.exprs {
			var err error
			if values[i], err = e.Eval(ctx, row); err != nil {
				return err
			}
		}
	}
	for _, v := range values {
		if v == nil {
			return nil
		}
	}
	if b.seen == nil {
		b.seen = newKeySet(ctx)
	}
	key, err := b.keys.key(ctx, values)
	if err == nil {
		_, err = b.seen.add(key)
	}
	return err
}

// Eval implements gms.AggregationBuffer.
func (b *countDistinctBuffer) Eval(*gms.Context) (any, error) {
	if b.seen == nil {
		return int64(0), nil
	}
	return int64(len(b.seen.keys)), nil
}

// Dispose implements gms.Disposable.
func (b *countDistinctBuffer) Dispose() {
	if b.seen != nil {
		b.seen.release()
	}
	for _, e := range b.exprs {
		expression.Dispose(e)
	}
}

// distinctValue is its expression where that gives a value for the first time,
// and NULL, which aggregates pass over, where it gives it again. It starts afresh
// when it is cloned, for the next group, and when it is disposed of.
type distinctValue struct {
	gms.Expression
	keys rowKeys
	seen *keySet
}

var (
	_ gms.Disposable         = (*distinctValue)(nil)
	_ gms.CollationCoercible = (*distinctValue)(nil)
)

// Eval implements gms.Expression.
func (d *distinctValue) Eval(ctx *gms.Context, row gms.Row) (any, error) {
	v, err := d.Expression.Eval(ctx, row)
	if err != nil || v == nil {
		return nil, err
	}
	if d.seen == nil {
		d.seen, d.keys = newKeySet(ctx), keysOfExpressions([]gms.Expression{d.Expression})
	}
	key, err := d.keys.key(ctx, gms.Row{v})
	if err != nil {
		return nil, err
	}
	if first, err := d.seen.add(key); err != nil || !first {
		return nil, err
	}
	return v, nil
}

// Dispose implements gms.Disposable.
func (d *distinctValue) Dispose() {
	if d.seen != nil {
		d.seen.release()
		d.seen = nil
	}
}

// String implements gms.Expression.
func (d *distinctValue) String() string { return "DISTINCT " + d.Expression.String() }

// IsNullable implements gms.Expression.
func (d *distinctValue) IsNullable() bool { return true }

// Children implements gms.Expression.
func (d *distinctValue) Children() []gms.Expression { return []gms.Expression{d.Expression} }

// WithChildren implements gms.Expression.
func (d *distinctValue) WithChildren(children ...gms.Expression) (gms.Expression, error) {
	if len(children) != 1 {
		return nil, gms.ErrInvalidChildrenNumber.New(d, len(children), 1)
	}
	return &distinctValue{Expression: children[0]}, nil
}

// CollationCoercibility implements gms.CollationCoercible.
func (d *distinctValue) CollationCoercibility(ctx *gms.Context) (gms.CollationID, byte) {
	return gms.GetCoercibility(ctx, d.Expression)
}
