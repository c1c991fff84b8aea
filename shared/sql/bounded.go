package sql

import (
	"fmt"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/expression/function"

	"originchain/shared/fault"
)

// maxComputedBytes bounds the text that one function makes. A few characters of
// SQL can ask for terabytes: REPEAT('x', 1e12), or a text that a recursive query
// doubles a thousand times.
const maxComputedBytes = 16 << 20

// growth estimates, from its arguments, how long the result of a function that
// can make long text of short one may be.
type growth func(args []any) float64

// growing are the functions whose result can be longer than their arguments.
func growing(name string) (growth, bool) {
	switch name {
	case "repeat":
		return func(a []any) float64 { return length(a, 0) * count(a, 1) }, true
	case "space":
		return func(a []any) float64 { return count(a, 0) }, true
	case "lpad", "rpad":
		return func(a []any) float64 { return 4 * count(a, 1) }, true
	case "replace":
		return func(a []any) float64 {
			if length(a, 1) == 0 {
				return length(a, 0)
			}
			return length(a, 0) * max(1, length(a, 2)/length(a, 1))
		}, true
	case "concat_ws":
		return func(a []any) float64 { return total(a) + length(a, 0)*float64(len(a)) }, true
	case "concat", "elt", "insert":
		return total, true
	case "hex", "to_base64", "quote", "json_quote", "upper", "ucase", "lower", "lcase":
		return func(a []any) float64 { return 2 * total(a) }, true
	case "format", "json_pretty", "json_array", "json_object", "json_array_append", "json_array_insert", "json_insert", "json_set",
		"json_replace", "json_merge", "json_merge_patch", "json_merge_preserve":
		return func(a []any) float64 { return 2*total(a) + 64*float64(len(a)) }, true
	}
	return nil, false
}

func length(args []any, i int) float64 {
	if i >= len(args) {
		return 0
	}
	switch v := args[i].(type) {
	case nil:
		return 0
	case string:
		return float64(len(v))
	case []byte:
		return float64(len(v))
	case gms.JSONWrapper:
		b, err := jsonText(v)
		if err != nil {
			return 0
		}
		return float64(len(b))
	}
	return 32 // a number or a date
}

func total(args []any) float64 {
	n := 0.0
	for i := range args {
		n += length(args, i)
	}
	return n
}

func count(args []any, i int) float64 {
	if i >= len(args) || args[i] == nil {
		return 0
	}
	f, _ := asF64(args[i])
	return max(0, f)
}

// boundedFunction wraps one of the planner's functions; ok is false when it
// needs no bound.
func boundedFunction(builtIn function.Registry, name string) (gms.Function, bool) {
	grow, ok := growing(name)
	if !ok {
		return nil, false
	}
	inner, ok := builtIn[name]
	if !ok {
		return nil, false
	}
	return gms.FunctionN{Name: name, Fn: func(args ...gms.Expression) (gms.Expression, error) {
		made, err := inner.NewInstance(args)
		if err != nil {
			return nil, err
		}
		return &bounded{Expression: made, name: name, grow: grow}, nil
	}}, true
}

// bounded computes its arguments once, looks at how long the result may be, and
// only then computes it.
type bounded struct {
	gms.Expression
	name string
	grow growth
}

var _ gms.CollationCoercible = (*bounded)(nil)

// Eval implements gms.Expression.
func (b *bounded) Eval(ctx *gms.Context, row gms.Row) (any, error) {
	children := b.Children()
	values := make([]any, len(children))
	literals := make([]gms.Expression, len(children))
	for i, c := range children {
		v, err := c.Eval(ctx, row)
		if err != nil {
			return nil, err
		}
		if v, err = gms.UnwrapAny(ctx, v); err != nil {
			return nil, err
		}
		values[i], literals[i] = v, expression.NewLiteral(v, c.Type())
	}
	if n := b.grow(values); n > maxComputedBytes {
		return nil, fault.New(fault.BodyTooLarge, "%s would make more than %d bytes; make less", b.name, maxComputedBytes)
	}
	made, err := b.Expression.WithChildren(literals...)
	if err != nil {
		return nil, err
	}
	out, err := made.Eval(ctx, nil)
	if err != nil {
		return nil, err
	}
	// Short results live as long as their row; of long ones a few thousand, held
	// by a sort or an aggregate, fill the memory.
	if n := int(length([]any{out}, 0)); n >= longText {
		return out, statementOf(ctx).hold(n)
	}
	return out, nil
}

// longText is from where on the results of functions count as held.
const longText = 64 << 10

// WithChildren implements gms.Expression.
func (b *bounded) WithChildren(children ...gms.Expression) (gms.Expression, error) {
	made, err := b.Expression.WithChildren(children...)
	if err != nil {
		return nil, err
	}
	return &bounded{Expression: made, name: b.name, grow: b.grow}, nil
}

// CollationCoercibility implements gms.CollationCoercible.
func (b *bounded) CollationCoercibility(ctx *gms.Context) (gms.CollationID, byte) {
	return gms.GetCoercibility(ctx, b.Expression)
}

// DebugString implements gms.DebugStringer.
func (b *bounded) DebugString() string { return fmt.Sprint(b.Expression) }
