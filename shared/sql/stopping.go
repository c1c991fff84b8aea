package sql

import (
	gms "github.com/dolthub/go-mysql-server/sql"
)

// stopEvery is how often stopping looks at the context.
const stopEvery = 256

// stopping is its expression until the statement's context ends, and an error
// from then on. It stands where the planner evaluates an expression again and
// again over rows that it holds, without looking at the context itself.
type stopping struct {
	gms.Expression
	evaluated uint
}

var _ gms.CollationCoercible = (*stopping)(nil)

// Eval implements gms.Expression.
func (s *stopping) Eval(ctx *gms.Context, row gms.Row) (any, error) {
	if s.evaluated++; s.evaluated%stopEvery == 0 {
		if err := ctx.Err(); err != nil {
			// So that every further call ends at once.
			s.evaluated--
			return nil, err
		}
	}
	return s.Expression.Eval(ctx, row)
}

// Children implements gms.Expression.
func (s *stopping) Children() []gms.Expression { return []gms.Expression{s.Expression} }

// WithChildren implements gms.Expression.
func (s *stopping) WithChildren(children ...gms.Expression) (gms.Expression, error) {
	if len(children) != 1 {
		return nil, gms.ErrInvalidChildrenNumber.New(s, len(children), 1)
	}
	return &stopping{Expression: children[0]}, nil
}

// CollationCoercibility implements gms.CollationCoercible.
func (s *stopping) CollationCoercibility(ctx *gms.Context) (gms.CollationID, byte) {
	return gms.GetCoercibility(ctx, s.Expression)
}
