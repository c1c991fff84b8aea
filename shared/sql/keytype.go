package sql

import (
	"context"

	gms "github.com/dolthub/go-mysql-server/sql"
	querypb "github.com/dolthub/vitess/go/vt/proto/query"

	"originchain/shared/schema"
)

// lookupType is the type under which the planner computes lookups in a column.
func lookupType(t schema.Type) gms.Type {
	typ := plannerType(t)
	if n, ok := typ.(gms.NumberType); ok {
		return exactNumber{NumberType: n, column: schema.Column{Type: t}}
	}
	return exactText{textType: typ, column: schema.Column{Type: t}}
}

// outside stands for a number that a column cannot hold: -1 below its values, 1
// above them. A fraction between two integers is equal to neither, so it can be
// either; the planner rounds the bounds of a range before it asks.
type outside int8

func (o outside) String() string {
	if o < 0 {
		return "-∞"
	}
	return "∞"
}

// exactNumber is a number type that loses nothing when it converts the key of a
// lookup. The planner's own types clamp a key that is out of range to the
// nearest number, which then finds rows that it is not equal to, and misses rows
// that it is greater than.
type exactNumber struct {
	gms.NumberType
	column schema.Column
}

// Convert implements gms.Type. Text is refused: 'x' equals 0 in a comparison,
// so the planner does without the index.
func (n exactNumber) Convert(_ context.Context, v any) (any, gms.ConvertInRange, error) {
	switch v := v.(type) {
	case nil, outside:
		return v, gms.InRange, nil
	case string, []byte:
		return exactKey(v, &n.column, n)
	}
	if value, err := fromPlanner(v, &n.column); err == nil {
		return toPlanner(value), gms.InRange, nil
	}
	f, ok := asF64(v)
	if !ok {
		return nil, gms.OutOfRange, gms.ErrInvalidValueType.New(v, n)
	}
	if f < 0 {
		return outside(-1), gms.InRange, nil
	}
	return outside(1), gms.InRange, nil
}

// Compare implements gms.Type.
func (n exactNumber) Compare(ctx context.Context, a, b any) (int, error) {
	x, aOut := a.(outside)
	y, bOut := b.(outside)
	if !aOut && !bOut {
		return n.NumberType.Compare(ctx, a, b)
	}
	switch {
	case x < y:
		return -1, nil
	case x > y:
		return 1, nil
	}
	return 0, nil
}

// exactText is the type of a text or bytes column. A number is no key of one: 5
// equals '5.0' and '05' there, which are different keys.
type exactText struct {
	textType
	column schema.Column
}

// textType is a planner's type under a name that can be embedded: gms.Type has a
// method called Type.
type textType interface{ gms.Type }

// Type implements gms.Type. The planner takes a unique index of TEXT or BLOB for
// one of hashes, good for equality alone; ours has the whole values.
func (t exactText) Type() querypb.Type {
	if t.column.Type == schema.TypeBytes {
		return querypb.Type_VARBINARY
	}
	return querypb.Type_VARCHAR
}

// Convert implements gms.Type.
func (t exactText) Convert(_ context.Context, v any) (any, gms.ConvertInRange, error) {
	return exactKey(v, &t.column, t)
}

func exactKey(v any, col *schema.Column, t gms.Type) (any, gms.ConvertInRange, error) {
	if v == nil {
		return nil, gms.InRange, nil
	}
	value, err := fromPlanner(v, col)
	if err != nil {
		return nil, gms.OutOfRange, gms.ErrInvalidValueType.New(v, t)
	}
	return toPlanner(value), gms.InRange, nil
}
