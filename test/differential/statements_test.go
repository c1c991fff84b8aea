package differential

import (
	"fmt"
	"strings"
)

func (p *pair) pick(list ...string) string { return list[p.rng.IntN(len(list))] }

func (p *pair) table() *tableDef { return p.tables[p.rng.IntN(len(p.tables))] }

func (p *pair) column(cs []column) column { return cs[p.rng.IntN(len(cs))] }

// change is a random statement that changes rows.
func (p *pair) change() string {
	t := p.table()
	switch n := p.rng.IntN(10); {
	case n < 6:
		return p.insert(t)
	case n < 9:
		return p.update(t)
	default:
		return fmt.Sprintf("DELETE FROM d.%s WHERE %s", t.name, p.predicate(t, "", 1))
	}
}

// insert names all columns or leaves some that may be NULL out, with one row or
// a few.
func (p *pair) insert(t *tableDef) string {
	var cols []column
	for i, c := range t.columns {
		if i < len(t.key()) || c.required || p.rng.IntN(5) > 0 {
			cols = append(cols, c)
		}
	}
	names := make([]string, len(cols))
	for i, c := range cols {
		names[i] = c.name
	}
	rows := make([]string, 1+p.rng.IntN(4))
	for i := range rows {
		values := make([]string, len(cols))
		for j, c := range cols {
			values[j] = literal(p.rng, c)
			switch {
			case c.name == "id":
				values[j] = fmt.Sprint(p.rng.IntN(200))
			case c.name == "ref" && p.rng.IntN(5) > 0:
				values[j] = p.parentKey(t)
			case c.required && p.rng.IntN(60) == 0 && j >= len(t.key()):
				values[j] = "NULL"
			}
		}
		rows[i] = "(" + strings.Join(values, ", ") + ")"
	}
	return fmt.Sprintf("INSERT INTO d.%s (%s) VALUES %s", t.name, strings.Join(names, ", "), strings.Join(rows, ", "))
}

// parentKey is the key of a row of the parent, or NULL when it has none.
func (p *pair) parentKey(t *tableDef) string {
	rows := p.theirRows("SELECT id FROM d." + t.parent)
	if len(rows) == 0 {
		return "NULL"
	}
	return rows[p.rng.IntN(len(rows))]
}

// update sets one or two columns that are not of the primary key, to constants
// or to an expression of the row's own.
func (p *pair) update(t *tableDef) string {
	var sets []string
	for _, c := range t.values() {
		if p.rng.IntN(3) > 0 {
			continue
		}
		v := literal(p.rng, c)
		switch {
		case c.name == "ref" && p.rng.IntN(4) > 0:
			v = p.parentKey(t)
		case c.ty == "f64" && !t.isUnique(c.name) && p.rng.IntN(2) == 0:
			v = c.name + " + 0.25"
		case c.ty == "i64" && c.name != "ref" && !t.isUnique(c.name) && p.rng.IntN(2) == 0:
			v = p.pick("id", "id - 3", "0 - id")
		}
		sets = append(sets, c.name+" = "+v)
	}
	if len(sets) == 0 {
		c := t.values()[0]
		sets = []string{c.name + " = " + literal(p.rng, c)}
	}
	return fmt.Sprintf("UPDATE d.%s SET %s WHERE %s", t.name, strings.Join(sets, ", "), p.predicate(t, "", 1))
}

func (t *tableDef) isUnique(name string) bool {
	for _, u := range t.uniques {
		for _, c := range u {
			if c == name {
				return true
			}
		}
	}
	return false
}

// predicate is a random condition over a table under an alias ("a." or "").
func (p *pair) predicate(t *tableDef, a string, depth int) string {
	if depth > 0 && p.rng.IntN(2) == 0 {
		l, r := p.predicate(t, a, depth-1), p.predicate(t, a, depth-1)
		return p.pick("("+l+" AND "+r+")", "("+l+" OR "+r+")", "NOT ("+l+")")
	}
	c := p.column(t.columns)
	name, op := a+c.name, p.pick("=", "<>", "<", "<=", ">", ">=")
	if c.ty == "bool" {
		op = p.pick("=", "<>")
	}
	switch p.rng.IntN(8) {
	case 0:
		return name + p.pick(" IS NULL", " IS NOT NULL")
	case 1:
		return fmt.Sprintf("%s %s (%s, %s, %s)", name, p.pick("IN", "NOT IN"), plain(p.rng, c), plain(p.rng, c), plain(p.rng, c))
	case 2:
		if c.ty != "bool" {
			return fmt.Sprintf("%s %s %s AND %s", name, p.pick("BETWEEN", "NOT BETWEEN"), plain(p.rng, c), plain(p.rng, c))
		}
	case 3:
		if strs := t.of("str"); len(strs) > 0 {
			return a + p.column(strs).name + p.pick(" LIKE ", " NOT LIKE ") + p.pick("'a%'", "'%b'", "'a_'", "'%'", "'%b%'", "''")
		}
	case 4:
		return fmt.Sprintf("%sid %s %d", a, p.pick("=", "<", ">=", "<>"), p.rng.IntN(200))
	case 5:
		if same := t.of(c.ty); len(same) > 1 && c.ty != "bool" {
			return name + " " + op + " " + a + p.column(same).name
		}
	}
	return name + " " + op + " " + plain(p.rng, c)
}

// query compares one random query.
func (p *pair) query() {
	p.Helper()
	kinds := []func() (string, bool){
		p.plainSelect, p.plainSelect, p.plainSelect, p.grouped, p.grouped, p.joined, p.joined,
		p.subquery, p.common, p.window, p.aggregate, p.union,
	}
	query, ordered := kinds[p.rng.IntN(len(kinds))]()
	p.read(query, ordered)
}

// list names columns with an alias each, so that both sides call them the same.
func list(a string, cs []column) string {
	parts := make([]string, len(cs))
	for i, c := range cs {
		parts[i] = fmt.Sprintf("%s%s AS %s%d", a, c.name, "o", i)
	}
	return strings.Join(parts, ", ")
}

// totalOrder is an ORDER BY that leaves nothing open, by columns of both
// directions and the primary key last.
func (p *pair) totalOrder(t *tableDef, a string) string {
	var by []string
	for range p.rng.IntN(3) {
		by = append(by, a+p.column(t.columns).name+p.pick("", " DESC"))
	}
	dir := p.pick("", " DESC")
	for _, k := range t.key() {
		by = append(by, a+k+dir)
	}
	return " ORDER BY " + strings.Join(by, ", ")
}

func (p *pair) limit() string {
	return p.pick("", fmt.Sprintf(" LIMIT %d", p.rng.IntN(12)), fmt.Sprintf(" LIMIT %d OFFSET %d", 1+p.rng.IntN(9), p.rng.IntN(9)))
}

func (p *pair) plainSelect() (string, bool) {
	t := p.table()
	q := fmt.Sprintf("SELECT %s%s FROM d.%s WHERE %s", p.pick("", "", "DISTINCT "), list("", t.columns), t.name, p.predicate(t, "", 2))
	if p.rng.IntN(3) == 0 || strings.Contains(q, "DISTINCT") {
		return q, false
	}
	return q + p.totalOrder(t, "") + p.limit(), true
}

// aggregates are functions whose result does not depend on the order of rows.
func (p *pair) aggregateOf(t *tableDef, a string) string {
	c := p.column(t.columns)
	switch p.rng.IntN(6) {
	case 0:
		return "COUNT(*)"
	case 1:
		return "COUNT(" + a + c.name + ")"
	case 2:
		if c.ty == "bool" || c.ty == "bytes" {
			return "COUNT(" + a + c.name + ")"
		}
		return p.pick("MIN(", "MAX(") + a + c.name + ")"
	case 3:
		if fs := t.of("f64"); len(fs) > 0 {
			return p.pick("SUM(", "AVG(") + a + p.column(fs).name + ")"
		}
		return "COUNT(*)"
	case 4:
		if us := t.of("u64"); len(us) > 0 {
			return "SUM(" + a + p.column(us).name + ")"
		}
		return "SUM(" + a + "id)"
	default:
		if c.ty == "bytes" { // see doc.go
			return "COUNT(" + a + c.name + ")"
		}
		return "COUNT(DISTINCT " + a + c.name + ")"
	}
}

func (p *pair) aggregate() (string, bool) {
	t := p.table()
	return fmt.Sprintf("SELECT %s AS x, %s AS y FROM d.%s WHERE %s", p.aggregateOf(t, ""), p.aggregateOf(t, ""), t.name, p.predicate(t, "", 1)), true
}

func (p *pair) grouped() (string, bool) {
	t := p.table()
	g := p.column(t.columns).name
	q := fmt.Sprintf("SELECT %s AS g, COUNT(*) AS n, %s AS x FROM d.%s WHERE %s GROUP BY %s", g, p.aggregateOf(t, ""), t.name, p.predicate(t, "", 1), g)
	switch p.rng.IntN(3) {
	case 0:
		q += fmt.Sprintf(" HAVING COUNT(*) > %d", p.rng.IntN(4))
	case 1:
		return q + " ORDER BY n DESC, g", true
	}
	return q, false
}

// child is a table that points to a parent.
func (p *pair) child() (child, parent *tableDef) { return p.tables[1+p.rng.IntN(2)], p.tables[0] }

func (p *pair) joined() (string, bool) {
	c, t := p.child()
	on := p.pick("a.ref = b.id", "a.ref = b.id", "a.id = b.id", "a.ref = b.id AND "+p.predicate(t, "b.", 0))
	kind := p.pick("JOIN", "LEFT JOIN")
	where := p.predicate(c, "a.", 1)
	if p.rng.IntN(2) == 0 {
		where += p.pick(" AND ", " OR ") + p.predicate(t, "b.", 0)
	}
	if p.rng.IntN(4) == 0 {
		return fmt.Sprintf("SELECT b.id AS g, COUNT(*) AS n, %s AS x FROM d.%s a %s d.%s b ON %s WHERE %s GROUP BY b.id", p.aggregateOf(c, "a."), c.name, kind, t.name, on, where), false
	}
	bcols := strings.ReplaceAll(list("b.", t.columns), " AS o", " AS q")
	q := fmt.Sprintf("SELECT %s, %s FROM d.%s a %s d.%s b ON %s WHERE %s", list("a.", c.columns), bcols, c.name, kind, t.name, on, where)
	if p.rng.IntN(2) == 0 {
		return q, false
	}
	return q + p.totalOrder(c, "a.") + ", b.id" + p.limit(), true
}

func (p *pair) subquery() (string, bool) {
	c, t := p.child()
	inner := p.predicate(c, "a.", 1)
	where := p.pick(
		fmt.Sprintf("b.id IN (SELECT a.ref FROM d.%s a WHERE %s)", c.name, inner),
		fmt.Sprintf("b.id NOT IN (SELECT a.ref FROM d.%s a WHERE a.ref IS NOT NULL AND %s)", c.name, inner),
		fmt.Sprintf("EXISTS (SELECT 1 FROM d.%s a WHERE a.ref = b.id AND %s)", c.name, inner),
		fmt.Sprintf("NOT EXISTS (SELECT 1 FROM d.%s a WHERE a.ref = b.id AND %s)", c.name, inner),
		fmt.Sprintf("(SELECT COUNT(*) FROM d.%s a WHERE a.ref = b.id) > %d", c.name, p.rng.IntN(3)),
		fmt.Sprintf("b.id > (SELECT MIN(a.id) FROM d.%s a WHERE %s)", c.name, inner),
	)
	return fmt.Sprintf("SELECT %s FROM d.%s b WHERE %s%s%s", list("b.", t.columns), t.name, where, p.totalOrder(t, "b."), p.limit()), true
}

func (p *pair) common() (string, bool) {
	c, t := p.child()
	return fmt.Sprintf("WITH w AS (SELECT a.ref AS ref, COUNT(*) AS n FROM d.%s a WHERE %s GROUP BY a.ref) SELECT b.id AS x, w.n AS y FROM d.%s b JOIN w ON w.ref = b.id WHERE %s",
		c.name, p.predicate(c, "a.", 1), t.name, p.predicate(t, "b.", 1)), false
}

func (p *pair) window() (string, bool) {
	t := p.table()
	over := "ORDER BY " + strings.Join(t.key(), ", ")
	if p.rng.IntN(2) == 0 {
		over = "PARTITION BY " + p.column(t.columns).name + " " + over
	}
	fn := p.pick("ROW_NUMBER()", "SUM(id)", "LAG(id)", "RANK()", "MIN(id)")
	return fmt.Sprintf("SELECT %s, %s OVER (%s) AS w FROM d.%s WHERE %s", list("", t.columns), fn, over, t.name, p.predicate(t, "", 1)), false
}

func (p *pair) union() (string, bool) {
	a, b := p.table(), p.table()
	return fmt.Sprintf("SELECT id AS x FROM d.%s WHERE %s %s SELECT id AS x FROM d.%s WHERE %s", a.name, p.predicate(a, "", 1), p.pick("UNION", "UNION ALL"), b.name, p.predicate(b, "", 1)), false
}
