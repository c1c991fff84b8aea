package sql

import (
	"math"

	gms "github.com/dolthub/go-mysql-server/sql"
	"github.com/dolthub/go-mysql-server/sql/expression"
	"github.com/dolthub/go-mysql-server/sql/plan"
	"github.com/dolthub/go-mysql-server/sql/transform"
	"github.com/dolthub/go-mysql-server/sql/types"

	"originchain/shared/fault"
)

// exactSets makes set operations convert columns of different types exactly, or
// not at all: the planner cuts what is unsigned to the signed range, so that rows
// become equal which are not, and takes bytes that are no text for NULL. The type
// of the result stays the planner's, since columns above were bound to it.
func exactSets(n gms.Node) (gms.Node, transform.TreeIdentity, error) {
	set, ok := n.(*plan.SetOp)
	if !ok {
		return n, transform.SameTree, nil
	}
	left, lsame, err := exactColumns(set.Left())
	if err != nil {
		return n, transform.SameTree, err
	}
	right, rsame, err := exactColumns(set.Right())
	if err != nil || lsame && rsame {
		return n, transform.SameTree, err
	}
	made, err := set.WithChildren(left, right)
	return made, transform.NewTree, err
}

// exactColumns changes the columns that the planner put over one side.
func exactColumns(side gms.Node) (gms.Node, transform.TreeIdentity, error) {
	p, ok := side.(*plan.Project)
	if !ok {
		return side, transform.SameTree, nil
	}
	same := transform.SameTree
	columns := make([]gms.Expression, len(p.Projections))
	for i, e := range p.Projections {
		columns[i] = e
		alias, ok := e.(*expression.Alias)
		if !ok {
			continue
		}
		c, ok := alias.Child.(*expression.Convert)
		if !ok || !losesSilently(c.Child.Type(), c.Type()) {
			continue
		}
		made, err := alias.WithChildren(&setValue{Expression: c.Child, to: c.Type()})
		if err != nil {
			return nil, same, err
		}
		columns[i], same = made, transform.NewTree
	}
	if same {
		return side, same, nil
	}
	made, err := p.WithExpressions(columns...)
	return made, same, err
}

func losesSilently(from, to gms.Type) bool {
	return types.IsUnsigned(from) && types.IsSigned(to) || types.IsBinaryType(from) && types.IsText(to) && !types.IsBinaryType(to)
}

// setValue is a value in the type that a set operation has for its column.
type setValue struct {
	gms.Expression
	to gms.Type
}

var _ gms.CollationCoercible = (*setValue)(nil)

// Type implements gms.Expression.
func (s *setValue) Type() gms.Type { return s.to }

// Eval implements gms.Expression.
func (s *setValue) Eval(ctx *gms.Context, row gms.Row) (any, error) {
	v, err := s.Expression.Eval(ctx, row)
	if err == nil {
		v, err = gms.UnwrapAny(ctx, v)
	}
	if err != nil || v == nil {
		return nil, err
	}
	if types.IsText(s.to) {
		text, ok := asStr(v)
		if !ok {
			return nil, fault.New(fault.TypeMismatch, "column %s of the set operation has bytes that are no text, and text or NULL on the other side; use HEX, or CAST the other side AS BINARY", s.String())
		}
		return text, nil
	}
	u, ok := asU64(v)
	if !ok || u > math.MaxInt64 {
		return nil, fault.New(fault.ValidationFailed, "%s is %s, which is out of the range of the BIGINT on the other side of the set operation; CAST both AS DECIMAL(20,0)", s.String(), describe(v))
	}
	return int64(u), nil
}

// Children implements gms.Expression.
func (s *setValue) Children() []gms.Expression { return []gms.Expression{s.Expression} }

// WithChildren implements gms.Expression.
func (s *setValue) WithChildren(children ...gms.Expression) (gms.Expression, error) {
	if len(children) != 1 {
		return nil, gms.ErrInvalidChildrenNumber.New(s, len(children), 1)
	}
	return &setValue{Expression: children[0], to: s.to}, nil
}

// CollationCoercibility implements gms.CollationCoercible.
func (s *setValue) CollationCoercibility(ctx *gms.Context) (gms.CollationID, byte) {
	return gms.GetCoercibility(ctx, s.Expression)
}
