package sql

import (
	"math"
	"math/big"
	"math/bits"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/expression/function/aggregation"
	"github.com/dolthub/go-mysql-server/sql/transform"
	"github.com/dolthub/go-mysql-server/sql/types"
	"github.com/shopspring/decimal"

	"originchain/shared/fault"
)

// exactIntegers replaces the planner's +, - and * of whole numbers, and its sign,
// which wrap at the ends of their range and cut an unsigned operand to the signed
// range: n + 1 of the greatest n would be the least, and be stored. Ours says so.
// The type of the result stays the planner's, since columns above were bound to it.
func exactIntegers(e gms.Expression) (gms.Expression, transform.TreeIdentity, error) {
	switch e := e.(type) {
	case *expression.Arithmetic:
		if whole(e.LeftChild) && whole(e.RightChild) && types.IsInteger(e.Type()) {
			return &exactArithmetic{e}, transform.NewTree, nil
		}
	case *expression.UnaryMinus:
		if whole(e.Child) && types.IsUnsigned(e.Child.Type()) {
			return &exactMinus{e}, transform.NewTree, nil
		}
	}
	return e, transform.SameTree, nil
}

// exactSum makes SUM of whole numbers add them as decimals: the planner adds
// doubles, which are not exact above 2^53. Those over a window have terms that are
// decimals.
func exactSum(e gms.Expression) (gms.Expression, transform.TreeIdentity, error) {
	sum, ok := e.(*aggregation.Sum)
	if !ok || sum.Window() != nil || !whole(sum.Child) {
		return e, transform.SameTree, nil
	}
	return &wholeSum{sum}, transform.NewTree, nil
}

// wholeSum is SUM of whole numbers.
type wholeSum struct{ *aggregation.Sum }

var _ gms.Aggregation = (*wholeSum)(nil)

// WithChildren implements gms.Expression.
func (s *wholeSum) WithChildren(children ...gms.Expression) (gms.Expression, error) {
	made, err := s.Sum.WithChildren(children...)
	if err != nil {
		return nil, err
	}
	exact, _, err := exactSum(made)
	return exact, err
}

// NewBuffer implements gms.Aggregation.
func (s *wholeSum) NewBuffer() (gms.AggregationBuffer, error) {
	// Each group has an expression of its own: DISTINCT remembers in it what it saw.
	child, err := transform.Clone(s.Child)
	if err != nil {
		return nil, err
	}
	return &wholeSumBuffer{AggregationBuffer: aggregation.NewSumBuffer(
		expression.NewConvertWithLengthAndScale(child, expression.ConvertToDecimal, types.DecimalTypeMaxPrecision, 0)), as: s.Type()}, nil
}

// wholeSumBuffer gives a decimal sum the type that the columns above were bound
// to, where it fits; a larger one stays a decimal.
type wholeSumBuffer struct {
	gms.AggregationBuffer
	as gms.Type
}

// Eval implements gms.AggregationBuffer.
func (b *wholeSumBuffer) Eval(ctx *gms.Context) (any, error) {
	sum, err := b.AggregationBuffer.Eval(ctx)
	if err != nil || sum == nil {
		return nil, err
	}
	d, ok := sum.(decimal.Decimal)
	if !ok {
		return sum, nil
	}
	// The planner's conversion of a decimal saturates without a word.
	switch n := d.BigInt(); {
	case types.IsUnsigned(b.as) && n.IsUint64():
		return n.Uint64(), nil
	case !types.IsUnsigned(b.as) && n.IsInt64():
		return n.Int64(), nil
	}
	return sum, nil
}

// termName is the function around the argument of SUM over a window, which has the
// type of its argument: as the sum of booleans would have one digit.
const termName = "=term"

// termFunction makes whole numbers decimals, and what is no number a double.
func termFunction() gms.Function {
	return gms.Function1{Name: termName, Fn: func(e gms.Expression) gms.Expression {
		switch {
		case whole(e):
			return expression.NewConvertWithLengthAndScale(e, expression.ConvertToDecimal, types.DecimalTypeMaxPrecision, 0)
		case !types.IsNumber(e.Type()):
			return expression.NewConvert(e, expression.ConvertToDouble)
		}
		return e
	}}
}

func whole(e gms.Expression) bool {
	return !types.IsDeferredType(e.Type()) && types.IsInteger(e.Type())
}

// exactArithmetic is +, - or * of two whole numbers.
type exactArithmetic struct{ *expression.Arithmetic }

// Eval implements gms.Expression.
func (x *exactArithmetic) Eval(ctx *gms.Context, row gms.Row) (any, error) {
	l, ok, err := evalWhole(ctx, x.LeftChild, row)
	if err != nil || !ok {
		return nil, err
	}
	r, ok, err := evalWhole(ctx, x.RightChild, row)
	if err != nil || !ok {
		return nil, err
	}
	var out magnitude
	switch x.Op {
	case "+":
		out = l.plus(r)
	case "-":
		out = l.plus(r.negated())
	default:
		out = l.times(r)
	}
	return out.as(x.Type(), x)
}

// WithChildren implements gms.Expression.
func (x *exactArithmetic) WithChildren(children ...gms.Expression) (gms.Expression, error) {
	made, err := x.Arithmetic.WithChildren(children...)
	if err != nil {
		return nil, err
	}
	exact, _, err := exactIntegers(made)
	return exact, err
}

// exactMinus is the sign before an unsigned number.
type exactMinus struct{ *expression.UnaryMinus }

// Eval implements gms.Expression.
func (x *exactMinus) Eval(ctx *gms.Context, row gms.Row) (any, error) {
	v, ok, err := evalWhole(ctx, x.Child, row)
	if err != nil || !ok {
		return nil, err
	}
	return v.negated().as(types.Int64, x)
}

// WithChildren implements gms.Expression.
func (x *exactMinus) WithChildren(children ...gms.Expression) (gms.Expression, error) {
	made, err := x.UnaryMinus.WithChildren(children...)
	if err != nil {
		return nil, err
	}
	exact, _, err := exactIntegers(made)
	return exact, err
}

// magnitude is a whole number of 64 bits and a sign. What has more bits is over,
// and stays over.
type magnitude struct {
	negative, over bool
	abs            uint64
}

// evalWhole evaluates to a whole number; ok is false for NULL.
func evalWhole(ctx *gms.Context, e gms.Expression, row gms.Row) (m magnitude, ok bool, err error) {
	v, err := e.Eval(ctx, row)
	if err != nil || v == nil {
		return m, false, err
	}
	if d, ok := v.(decimal.Decimal); ok { // a sum beyond the range of its type
		n := d.BigInt()
		abs := new(big.Int).Abs(n)
		return magnitude{negative: n.Sign() < 0, over: !abs.IsUint64(), abs: abs.Uint64()}, true, nil
	}
	var to gms.Type = types.Int64
	if types.IsUnsigned(e.Type()) {
		to = types.Uint64
	}
	v, inRange, err := to.Convert(ctx, v)
	if err != nil {
		return m, false, err
	}
	if inRange != gms.InRange {
		return magnitude{over: true}, true, nil
	}
	switch v := v.(type) {
	case int64:
		if v < 0 {
			return magnitude{negative: true, abs: -uint64(v)}, true, nil
		}
		return magnitude{abs: uint64(v)}, true, nil
	case uint64:
		return magnitude{abs: v}, true, nil
	}
	return m, false, fault.New(fault.TypeMismatch, "%s is not a whole number", e.String())
}

func (m magnitude) negated() magnitude {
	m.negative = !m.negative
	return m
}

func (m magnitude) plus(o magnitude) magnitude {
	out := magnitude{negative: m.negative, over: m.over || o.over}
	switch {
	case m.negative == o.negative:
		var carry uint64
		out.abs, carry = bits.Add64(m.abs, o.abs, 0)
		out.over = out.over || carry != 0
	case m.abs >= o.abs:
		out.abs = m.abs - o.abs
	default:
		out.negative, out.abs = o.negative, o.abs-m.abs
	}
	return out
}

func (m magnitude) times(o magnitude) magnitude {
	high, low := bits.Mul64(m.abs, o.abs)
	return magnitude{negative: m.negative != o.negative, over: m.over || o.over || high != 0, abs: low}
}

// as gives the number the type of the expression that made it, or refuses it.
func (m magnitude) as(t gms.Type, from gms.Expression) (any, error) {
	negative := m.negative && m.abs != 0
	switch {
	case m.over:
	case types.IsUnsigned(t) && !negative:
		return m.abs, nil
	case types.IsUnsigned(t):
	case negative && m.abs <= 1<<63:
		return -int64(m.abs-1) - 1, nil
	case !negative && m.abs <= math.MaxInt64:
		return int64(m.abs), nil
	}
	name := "BIGINT"
	if types.IsUnsigned(t) {
		name = "BIGINT UNSIGNED"
	}
	return nil, fault.New(fault.ValidationFailed, "%s is out of the range of %s; compute with CAST(… AS DECIMAL(40,0)) where that is meant", from.String(), name)
}
