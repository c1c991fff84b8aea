package sql

import (
	"context"
	"strings"

	gms "github.com/dolthub/go-mysql-server/sql"

	"originchain/shared/schema"
	"originchain/shared/table"
)

// index shows the primary key, or a secondary index, to the planner.
type index struct {
	s       *scanTable
	name    string
	columns []int
	unique  bool
	def     *schema.Index // nil: the primary key
	exprs   []string
	types   []gms.ColumnExpressionType
}

var _ gms.OrderedIndex = (*index)(nil)

func (s *scanTable) index(name string, columns []int, unique bool, def *schema.Index) *index {
	ix := &index{s: s, name: name, columns: columns, unique: unique, def: def}
	for _, c := range columns {
		expr := s.name + "." + s.t.Columns[c].Name
		ix.exprs = append(ix.exprs, expr)
		ix.types = append(ix.types, gms.ColumnExpressionType{Expression: strings.ToLower(expr), Type: lookupType(s.t.Columns[c].Type)})
	}
	return ix
}

// ID implements gms.Index.
func (ix *index) ID() string { return ix.name }

// Database implements gms.Index.
func (ix *index) Database() string { return ix.s.ns }

// Table implements gms.Index.
func (ix *index) Table() string { return ix.s.name }

// Expressions implements gms.Index.
func (ix *index) Expressions() []string { return ix.exprs }

// IsUnique implements gms.Index.
func (ix *index) IsUnique() bool { return ix.unique }

// IsSpatial implements gms.Index.
func (ix *index) IsSpatial() bool { return false }

// IsFullText implements gms.Index.
func (ix *index) IsFullText() bool { return false }

// IsVector implements gms.Index.
func (ix *index) IsVector() bool { return false }

// Comment implements gms.Index.
func (ix *index) Comment() string { return "" }

// IndexType implements gms.Index.
func (ix *index) IndexType() string { return "BTREE" }

// IsGenerated implements gms.Index.
func (ix *index) IsGenerated() bool { return false }

// ColumnExpressionTypes implements gms.Index.
func (ix *index) ColumnExpressionTypes() []gms.ColumnExpressionType { return ix.types }

// CanSupport implements gms.Index: every range of cuts is a range of keys.
func (ix *index) CanSupport(*gms.Context, ...gms.Range) bool { return true }

// CanSupportOrderBy implements gms.Index; it is asked for vector indexes alone.
func (ix *index) CanSupportOrderBy(gms.Expression) bool { return false }

// PrefixLengths implements gms.Index.
func (ix *index) PrefixLengths() []uint16 { return nil }

// Order implements gms.OrderedIndex: keys are in order of their columns.
func (ix *index) Order() gms.IndexOrder { return gms.IndexOrderAsc }

// Reversible implements gms.OrderedIndex.
func (ix *index) Reversible() bool { return true }

func (ix *index) String() string { return ix.name }

// keyRange is a range of keys, and what the columns behind the ordered ones
// must hold besides.
type keyRange struct {
	lower, upper []byte
	// exact marks one whole primary key: lower is that key.
	exact bool
	// rest constrains the columns of the index from restFrom on. Keys are ordered
	// by the first column that is not fixed, so those after it are filtered.
	rest     []columnCut
	restFrom int
}

// filters tells an entry that the range of keys holds and the range of cuts does
// not. value gives column i of the index.
func (r *keyRange) filters(value func(i int) schema.Value) bool {
	for i := range r.rest {
		if !r.rest[i].holds(value(r.restFrom + i)) {
			return true
		}
	}
	return false
}

// columnCut is what one column may hold. A NULL sorts before every value.
type columnCut struct {
	lower, upper         schema.Value
	hasLower, hasUpper   bool
	openLower, openUpper bool // the bound itself is outside
}

func (c *columnCut) holds(v schema.Value) bool {
	if c.hasLower {
		if n := v.Compare(c.lower); n < 0 || n == 0 && c.openLower {
			return false
		}
	}
	if c.hasUpper {
		if n := v.Compare(c.upper); n > 0 || n == 0 && c.openUpper {
			return false
		}
	}
	return true
}

func (c *columnCut) equality() bool {
	return c.hasLower && c.hasUpper && !c.openLower && !c.openUpper && c.lower.Compare(c.upper) == 0
}

// empty is a cut that nothing is in.
func (c *columnCut) empty() bool {
	if !c.hasLower || !c.hasUpper {
		return false
	}
	n := c.lower.Compare(c.upper)
	return n > 0 || n == 0 && (c.openLower || c.openUpper)
}

// keyRange turns the planner's range of cuts into a range of keys; ok is false
// when no key can be in it.
func (ix *index) keyRange(r gms.MySQLRange) (kr keyRange, ok bool, err error) {
	if ix.def == nil {
		kr.lower = table.AppendRowPrefix(nil, ix.s.t.Tenant, ix.s.t.TableID)
	} else {
		kr.lower = table.AppendIndexPrefix(nil, ix.s.t.Tenant, ix.s.t.TableID, ix.def.ID)
	}
	cuts := make([]columnCut, len(r))
	for i := range r {
		if cuts[i], ok, err = ix.cut(i, r[i]); err != nil || !ok || cuts[i].empty() {
			return kr, false, err
		}
	}
	i := 0
	for ; i < len(cuts) && cuts[i].equality(); i++ {
		kr.lower = schema.AppendKey(kr.lower, cuts[i].lower)
	}
	if i == len(ix.columns) && ix.def == nil {
		kr.exact = true
		return kr, true, nil
	}
	prefix := kr.lower
	kr.upper = schema.PrefixEnd(nil, prefix)
	if i < len(cuts) {
		kr.lower, kr.upper = cuts[i].bounds(prefix, kr.upper)
		kr.rest, kr.restFrom = unbounded(cuts[i+1:]), i+1
	}
	return kr, true, nil
}

// bounds narrows the keys under prefix, which end at end, to one column's cut.
func (c *columnCut) bounds(prefix, end []byte) (lower, upper []byte) {
	lower, upper = prefix, end
	if c.hasLower {
		lower = schema.AppendKey(append([]byte(nil), prefix...), c.lower)
		if c.openLower {
			lower = schema.PrefixEnd(nil, lower)
		}
	}
	if c.hasUpper {
		upper = schema.AppendKey(append([]byte(nil), prefix...), c.upper)
		if !c.openUpper {
			upper = schema.PrefixEnd(nil, upper)
		}
	}
	return lower, upper
}

// unbounded drops the cuts when none of them excludes anything.
func unbounded(cuts []columnCut) []columnCut {
	for i := range cuts {
		if cuts[i].hasLower || cuts[i].hasUpper {
			return cuts
		}
	}
	return nil
}

// cut reads the planner's bounds of column i of the index.
func (ix *index) cut(i int, r gms.MySQLRangeColumnExpr) (c columnCut, ok bool, err error) {
	switch b := r.LowerBound.(type) {
	case gms.Below:
		c.hasLower = true
		c.lower, err = ix.value(i, b.Key)
	case gms.Above:
		c.hasLower, c.openLower = true, true
		c.lower, err = ix.value(i, b.Key)
	case gms.AboveNull:
		c.hasLower, c.openLower, c.lower = true, true, schema.Null()
	case gms.AboveAll:
		return c, false, nil
	}
	if err != nil {
		return c, false, err
	}
	switch b := r.UpperBound.(type) {
	case gms.Above:
		c.hasUpper = true
		c.upper, err = ix.value(i, b.Key)
	case gms.Below:
		c.hasUpper, c.openUpper = true, true
		c.upper, err = ix.value(i, b.Key)
	case gms.AboveNull:
		c.hasUpper, c.upper = true, schema.Null()
	case gms.BelowNull:
		return c, false, nil
	}
	return c, err == nil, err
}

// value is the key of a cut as a value of the index's column i. A key that the
// column cannot hold fails: the planner asked the column's own type before, so
// it means a lookup this index must not answer.
func (ix *index) value(i int, key any) (schema.Value, error) {
	col := &ix.s.t.Columns[ix.columns[i]]
	converted, _, err := ix.types[i].Type.Convert(context.Background(), key)
	if err != nil {
		return schema.Value{}, err
	}
	return fromPlanner(converted, col)
}

// lookupType is the type under which the planner computes lookups in a column.
func lookupType(t schema.Type) gms.Type {
	typ := plannerType(t)
	if n, ok := typ.(gms.NumberType); ok {
		return exactNumber{NumberType: n, column: schema.Column{Type: t}}
	}
	return exactText{textType: typ, column: schema.Column{Type: t}}
}

// exactNumber is a number type that converts a key of a lookup only when
// nothing is lost. The planner would clamp a key that is out of range to the
// nearest number, and so miss rows; now it does without the index instead.
type exactNumber struct {
	gms.NumberType
	column schema.Column
}

// Convert implements gms.Type.
func (n exactNumber) Convert(_ context.Context, v any) (any, gms.ConvertInRange, error) {
	return exactKey(v, &n.column, n)
}

// exactText is exactNumber for text and bytes. A number is no key of a text
// column: 5 equals '5.0' and '05' there, which are different keys.
type exactText struct {
	textType
	column schema.Column
}

// textType is a planner's type under a name that can be embedded: gms.Type has a
// method called Type.
type textType interface{ gms.Type }

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
