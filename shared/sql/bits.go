package sql

import (
	"math"
	"math/big"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/types"
	ast "github.com/dolthub/vitess/go/vt/sqlparser"
	"github.com/shopspring/decimal"

	"originchain/shared/fault"
)

// bitsName is the function that turns an operand of &, |, ^, ~, << or >> into its
// 64 bits. The planner computes the operators as doubles where one operand is
// signed and the other is not, and cuts what is above 2^63; over operands that are
// both BIGINT UNSIGNED it is exact, and so is the type that columns above get.
// That is decided when a statement is bound, hence before that, in its tree.
const bitsName = "=bits"

func isBits(e ast.Expr) bool { return isCall(e, bitsName) }

func bitsOf(e ast.Expr) ast.Expr {
	return &ast.FuncExpr{Name: ast.NewColIdent(bitsName), Exprs: ast.SelectExprs{&ast.AliasedExpr{Expr: e}}}
}

// bitsOperand is the 64 bits of a number: itself, two's complement where it is negative,
// and rounded where it has a fraction.
type bitsOperand struct{ gms.Expression }

var _ gms.CollationCoercible = (*bitsOperand)(nil)

func bitsFunction() gms.Function {
	return gms.Function1{Name: bitsName, Fn: func(e gms.Expression) gms.Expression { return &bitsOperand{e} }}
}

// Type implements gms.Expression.
func (*bitsOperand) Type() gms.Type { return types.Uint64 }

// Eval implements gms.Expression.
func (b *bitsOperand) Eval(ctx *gms.Context, row gms.Row) (any, error) {
	v, err := b.Expression.Eval(ctx, row)
	if err != nil || v == nil {
		return nil, err
	}
	if v, err = gms.UnwrapAny(ctx, v); err != nil || v == nil {
		return nil, err
	}
	_, isBytes := v.([]byte)
	if isBytes || types.IsBinaryType(b.Expression.Type()) {
		return nil, fault.New(fault.Unsupported, "bit operators over bytes are not available (%s); compute with CONV(HEX(…), 16, 10) where 64 bits are enough", b.String())
	}
	switch v := v.(type) {
	case float32:
		return b.float(float64(v))
	case float64:
		return b.float(v)
	case decimal.Decimal:
		return b.whole(v.Round(0).BigInt())
	case string:
		d, ok := textNumber(v)
		if !ok {
			return nil, fault.New(fault.TypeMismatch, "%s is text that spells no number, and has no bits; use ASCII or HEX for those of its characters", b.String())
		}
		return b.whole(d.Round(0).BigInt())
	}
	if u, ok := asU64(v); ok {
		return u, nil
	}
	if i, ok := asI64(v); ok {
		return uint64(i), nil
	}
	return nil, fault.New(fault.Unsupported, "bit operators take numbers, and %s is %s; convert it, for example with CAST(… AS SIGNED)", b.String(), describe(v))
}

// float rounds as doubles are: half to even.
func (b *bitsOperand) float(f float64) (any, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, b.outOfRange()
	}
	whole, _ := big.NewFloat(math.RoundToEven(f)).Int(nil)
	return b.whole(whole)
}

func (b *bitsOperand) whole(n *big.Int) (any, error) {
	switch {
	case n.IsUint64():
		return n.Uint64(), nil
	case n.IsInt64():
		return uint64(n.Int64()), nil
	}
	return nil, b.outOfRange()
}

func (b *bitsOperand) outOfRange() error {
	return fault.New(fault.ValidationFailed, "%s does not fit the 64 bits that bit operators have", b.String())
}

// String implements gms.Expression: the operand, as the statement wrote it.
func (b *bitsOperand) String() string { return b.Expression.String() }

// Children implements gms.Expression.
func (b *bitsOperand) Children() []gms.Expression { return []gms.Expression{b.Expression} }

// WithChildren implements gms.Expression.
func (b *bitsOperand) WithChildren(children ...gms.Expression) (gms.Expression, error) {
	if len(children) != 1 {
		return nil, gms.ErrInvalidChildrenNumber.New(b, len(children), 1)
	}
	return &bitsOperand{children[0]}, nil
}

// CollationCoercibility implements gms.CollationCoercible.
func (*bitsOperand) CollationCoercibility(*gms.Context) (gms.CollationID, byte) {
	return gms.Collation_binary, 5
}
