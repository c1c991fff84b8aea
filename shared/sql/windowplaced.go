package sql

import (
	"strconv"
	"strings"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/types"

	"originchain/shared/fault"
)

// placed is LAG, LEAD or NTILE: functions that count places in a partition. The
// planner's keep how many to themselves.
type placed struct {
	name   string
	args   []gms.Expression // the value and the default of LAG and LEAD
	n      int64            // rows of LAG and LEAD, groups of NTILE
	window *gms.WindowDefinition
	id     gms.ColumnId
	// wrong is what is wrong with the arguments. The planner has a text of its own
	// for a function that cannot be made, which tells nothing.
	wrong error
}

var (
	_ gms.WindowAdaptableExpression = (*placed)(nil)
	_ gms.CollationCoercible        = (*placed)(nil)
)

// placedFunction is one of them, by its name.
func placedFunction(name string) (gms.Function, bool) {
	switch name {
	case "lag", "lead", "ntile":
	default:
		return nil, false
	}
	return gms.FunctionN{Name: name, Fn: func(args ...gms.Expression) (gms.Expression, error) {
		if name == "ntile" {
			return newNtile(args), nil
		}
		return newLag(name, args), nil
	}}, true
}

func newNtile(args []gms.Expression) *placed {
	p := &placed{name: "ntile"}
	if len(args) == 1 {
		p.n, _ = wholeConstant(args[0])
	}
	if p.n == 0 {
		p.wrong = fault.New(fault.ValidationFailed, "NTILE takes one whole number from 1 on, or a parameter that is one")
	}
	return p
}

func newLag(name string, args []gms.Expression) *placed {
	if len(args) < 1 || len(args) > 3 {
		return &placed{name: name, wrong: gms.ErrInvalidArgumentNumber.New(strings.ToUpper(name), "1, 2 or 3", len(args))}
	}
	p := &placed{name: name, n: 1, args: args[:1:1]}
	if len(args) > 1 {
		n, ok := wholeConstant(args[1])
		if !ok {
			p.wrong = fault.New(fault.ValidationFailed, "the distance of %s is a whole number from 0 on, or a parameter that is one, and not %s", strings.ToUpper(name), args[1].String())
		}
		p.n, p.args = n, append(p.args, args[2:]...)
	}
	return p
}

// wholeConstant is a whole number that is not negative.
func wholeConstant(e gms.Expression) (int64, bool) {
	l, ok := e.(*expression.Literal)
	if !ok || l.Value() == nil || !types.IsNumber(l.Type()) {
		return 0, false
	}
	n, ok := asI64(l.Value())
	return n, ok && n >= 0
}

// placed computes one of them.
func (w *windowRows) placed(ctx *gms.Context, p *placed, l *layout, out []any) error {
	if p.name == "ntile" {
		l.ntile(p.n, out)
		return nil
	}
	values, err := w.values(ctx, p.args[0])
	if err != nil {
		return err
	}
	for _, part := range l.parts {
		by := int(min(p.n, int64(part.hi-part.lo)))
		if p.name == "lag" {
			by = -by
		}
		for pos := part.lo; pos < part.hi; pos++ {
			row := l.rows[pos]
			if at := pos + by; at >= part.lo && at < part.hi {
				out[row] = values[l.rows[at]]
			} else if len(p.args) > 1 {
				if out[row], err = p.args[1].Eval(ctx, w.rows[row]); err != nil {
					return err
				}
			}
			if err := w.turn(ctx); err != nil {
				return err
			}
		}
	}
	return nil
}

// ntile puts the rows of each partition into n groups, the first of which have
// one row more where they do not divide evenly.
func (l *layout) ntile(n int64, out []any) {
	for _, part := range l.parts {
		count := int64(part.hi - part.lo)
		size, larger := count/n, count%n
		for i := range count {
			group := i / (size + 1)
			if group >= larger {
				group = larger + (i-larger*(size+1))/size
			}
			out[l.rows[part.lo+int(i)]] = uint64(group + 1)
		}
	}
}

// Resolved implements gms.Expression.
func (p *placed) Resolved() bool { return expression.ExpressionsResolved(p.Children()...) }

// String implements gms.Expression.
func (p *placed) String() string {
	var args []string
	for _, a := range p.args {
		args = append(args, a.String())
	}
	n := strconv.FormatInt(p.n, 10)
	if len(args) == 0 {
		args = []string{n}
	} else {
		args = append(args[:1:1], append([]string{n}, args[1:]...)...)
	}
	s := p.name + "(" + strings.Join(args, ", ") + ")"
	if p.window != nil {
		s += " " + p.window.String()
	}
	return s
}

// Type implements gms.Expression.
func (p *placed) Type() gms.Type {
	if len(p.args) == 0 {
		return types.Uint64
	}
	return p.args[0].Type()
}

// IsNullable implements gms.Expression.
func (p *placed) IsNullable() bool { return len(p.args) > 0 }

// Eval implements gms.Expression.
func (p *placed) Eval(*gms.Context, gms.Row) (any, error) {
	return nil, gms.ErrWindowUnsupported.New(p.name)
}

// Children implements gms.Expression.
func (p *placed) Children() []gms.Expression {
	return append(p.window.ToExpressions(), p.args...)
}

// WithChildren implements gms.Expression.
func (p *placed) WithChildren(children ...gms.Expression) (gms.Expression, error) {
	n := len(children) - len(p.args)
	if n < 0 {
		return nil, gms.ErrInvalidChildrenNumber.New(p, len(children), len(p.args))
	}
	w, err := p.window.FromExpressions(children[:n])
	if err != nil {
		return nil, err
	}
	made := *p
	made.window, made.args = w, children[n:]
	return &made, nil
}

// Id implements gms.IdExpression.
func (p *placed) Id() gms.ColumnId { return p.id }

// WithId implements gms.IdExpression.
func (p *placed) WithId(id gms.ColumnId) gms.IdExpression {
	made := *p
	made.id = id
	return &made
}

// Window implements gms.WindowAdaptableExpression.
func (p *placed) Window() *gms.WindowDefinition { return p.window }

// WithWindow implements gms.WindowAdaptableExpression.
func (p *placed) WithWindow(w *gms.WindowDefinition) gms.WindowAdaptableExpression {
	made := *p
	made.window = w
	return &made
}

// NewWindowFunction implements gms.WindowAdaptableExpression. The planner's
// executor would call it.
func (p *placed) NewWindowFunction() (gms.WindowFunction, error) {
	return nil, gms.ErrWindowUnsupported.New(p.name)
}

// CollationCoercibility implements gms.CollationCoercible.
func (p *placed) CollationCoercibility(ctx *gms.Context) (gms.CollationID, byte) {
	if len(p.args) == 0 {
		return gms.Collation_binary, 5
	}
	return gms.GetCoercibility(ctx, p.args[0])
}
