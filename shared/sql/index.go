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

// Order implements gms.OrderedIndex: keys are in order of their columns, which
// the planner is told where it uses that rightly.
func (ix *index) Order() gms.IndexOrder {
	if ix.s.st.ordered {
		return gms.IndexOrderAsc
	}
	return gms.IndexOrderNone
}

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

// cut reads the planner's bounds of column i of the index; ok is false when they
// hold nothing. Only a bound on NULL holds NULL: one that is a value leaves it out.
func (ix *index) cut(i int, r gms.MySQLRangeColumnExpr) (c columnCut, ok bool, err error) {
	if ok, err = ix.lower(&c, i, r.LowerBound); !ok || err != nil {
		return c, false, err
	}
	ok, err = ix.upper(&c, i, r.UpperBound)
	return c, ok, err
}

func (ix *index) lower(c *columnCut, i int, bound gms.MySQLRangeCut) (ok bool, err error) {
	var key any
	switch b := bound.(type) {
	case gms.BelowNull:
		return true, nil
	case gms.AboveNull:
		c.hasLower, c.openLower = true, true
		return true, nil
	case gms.Below:
		key = b.Key
	case gms.Above:
		key, c.openLower = b.Key, true
	default:
		return false, nil
	}
	c.hasLower = true
	var side outside
	c.lower, side, err = ix.value(i, key)
	if side < 0 { // below every value: what is left out is NULL
		c.lower, c.openLower = schema.Null(), true
	}
	return side <= 0, err
}

func (ix *index) upper(c *columnCut, i int, bound gms.MySQLRangeCut) (ok bool, err error) {
	var key any
	switch b := bound.(type) {
	case gms.AboveAll:
		return true, nil
	case gms.AboveNull:
		c.hasUpper = true
		return true, nil
	case gms.Above:
		key = b.Key
	case gms.Below:
		key, c.openUpper = b.Key, true
	default:
		return false, nil
	}
	c.hasUpper = true
	var side outside
	c.upper, side, err = ix.value(i, key)
	switch {
	case side > 0: // above every value: no bound
		c.hasUpper, c.openUpper = false, false
	case side < 0: // below every value: NULL alone is left
		c.upper, c.openUpper = schema.Null(), false
	}
	return true, err
}

// value is the key of a bound as a value of the index's column i, or the side on
// which it lies outside of what the column can hold.
func (ix *index) value(i int, key any) (schema.Value, outside, error) {
	converted, _, err := ix.types[i].Type.Convert(context.Background(), key)
	if err != nil {
		return schema.Value{}, 0, err
	}
	if side, ok := converted.(outside); ok {
		return schema.Value{}, side, nil
	}
	v, err := fromPlanner(converted, &ix.s.t.Columns[ix.columns[i]])
	return v, 0, err
}
