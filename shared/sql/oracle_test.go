package sql

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	_ "modernc.org/sqlite"
)

// oracle runs the same statements here and in SQLite.
type oracle struct {
	*fixture
	db  *sql.DB
	rnd *rand.Rand
}

func newOracle(t *testing.T, seed uint64) *oracle {
	t.Helper()
	db, err := sql.Open("sqlite", ":memory:")
	if err != nil {
		t.Fatal(err)
	}
	db.SetMaxOpenConns(1)
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := db.Exec("PRAGMA case_sensitive_like = ON"); err != nil {
		t.Fatal(err)
	}
	o := &oracle{fixture: newFixture(t), db: db, rnd: rand.New(rand.NewPCG(seed, 1))}
	for _, table := range []string{
		`CREATE TABLE %s (id BIGINT PRIMARY KEY, k BIGINT, f DOUBLE, s TEXT, u BIGINT NOT NULL DEFAULT 7, %s)`,
		`CREATE TABLE %s (a BIGINT, b TEXT, n BIGINT, PRIMARY KEY (a, b), %s)`,
	} {
		keys := []string{"KEY by_k (k), KEY by_sf (s, f), UNIQUE KEY by_u (u, id)", "KEY by_n (n), KEY by_b (b)"}
		name := []string{"t.x", "t.y"}[o.tables()]
		o.exec(fmt.Sprintf(table, name, keys[o.tables()]))
		o.lite(strings.ReplaceAll(strings.TrimSuffix(strings.Split(fmt.Sprintf(table, strings.ReplaceAll(name, ".", "_"), "#"), ", #")[0], ",")+")", "BIGINT", "INTEGER"))
	}
	return o
}

func (o *oracle) tables() int {
	cat, err := o.st.catalog(testTenant)
	if err != nil {
		o.Fatal(err)
	}
	return len(cat.Names())
}

func (o *oracle) lite(stmt string) int64 {
	o.Helper()
	r, err := o.db.Exec(strings.NewReplacer("t.x", "t_x", "t.y", "t_y", "t.z", "t_z").Replace(stmt))
	if err != nil {
		o.Fatalf("sqlite: %s: %v", stmt, err)
	}
	n, err := r.RowsAffected()
	if err != nil {
		o.Fatal(err)
	}
	return n
}

// liteRows are a query's rows as lines, numbers in one form.
func (o *oracle) liteRows(query string) []string {
	o.Helper()
	rows, err := o.db.Query(strings.NewReplacer("t.x", "t_x", "t.y", "t_y", "t.z", "t_z").Replace(query))
	if err != nil {
		o.Fatalf("sqlite: %s: %v", query, err)
	}
	defer rows.Close()
	cols, err := rows.Columns()
	if err != nil {
		o.Fatal(err)
	}
	var out []string
	for rows.Next() {
		vals := make([]any, len(cols))
		ptrs := make([]any, len(cols))
		for i := range vals {
			ptrs[i] = &vals[i]
		}
		if err := rows.Scan(ptrs...); err != nil {
			o.Fatal(err)
		}
		var line []string
		for _, v := range vals {
			line = append(line, canonical(v))
		}
		out = append(out, strings.Join(line, "|"))
	}
	if err := rows.Err(); err != nil {
		o.Fatal(err)
	}
	return out
}

func (o *oracle) ourRows(query string) []string {
	o.Helper()
	r := o.exec(query)
	dec := json.NewDecoder(strings.NewReader("[" + string(r.rows) + "]"))
	dec.UseNumber()
	var objects []map[string]any
	if err := dec.Decode(&objects); err != nil {
		o.Fatal(err)
	}
	var out []string
	for _, obj := range objects {
		var line []string
		for _, c := range r.Columns {
			line = append(line, canonical(obj[c]))
		}
		out = append(out, strings.Join(line, "|"))
	}
	return out
}

func canonical(v any) string {
	switch v := v.(type) {
	case nil:
		return "∅"
	case bool:
		if v {
			return "1"
		}
		return "0"
	case json.Number:
		f, err := v.Float64()
		if err != nil {
			return string(v)
		}
		return fmt.Sprintf("%.6g", f)
	case int64:
		return fmt.Sprintf("%.6g", float64(v))
	case float64:
		return fmt.Sprintf("%.6g", v)
	case []byte:
		return string(v)
	}
	return fmt.Sprint(v)
}

func (o *oracle) compare(query string, ordered bool) {
	o.Helper()
	ours, theirs := o.ourRows(query), o.liteRows(query)
	if !ordered {
		sort.Strings(ours)
		sort.Strings(theirs)
	}
	if d := cmp.Diff(theirs, ours); d != "" {
		o.Errorf("%s\n-sqlite +ours\n%s\n%s", query, d, o.plan(query))
	}
}

func (o *oracle) both(stmt string) {
	o.Helper()
	r := o.exec(stmt)
	if n := o.lite(stmt); uint64(n) != r.Rows() {
		o.Errorf("%s: %d rows here, %d in sqlite", stmt, r.Rows(), n)
	}
}

func (o *oracle) pick(list ...string) string { return list[o.rnd.IntN(len(list))] }

func (o *oracle) num() string {
	return o.pick("NULL", "-1", "0", "1", "2", "3", "4", "5", "6", "7", "9223372036854775807", "-9223372036854775808")
}

func (o *oracle) text() string {
	return o.pick("NULL", "''", "'a'", "'ab'", "'abc'", "'b'", "'é'", "'a日'", "'z'", "'A'")
}

func (o *oracle) float() string { return o.pick("NULL", "-1.5", "0.0", "0.5", "1.0", "2.25", "3.5") }

// predicate is a random condition over table x under an alias.
func (o *oracle) predicate(a string, depth int) string {
	if depth > 0 && o.rnd.IntN(2) == 0 {
		l, r := o.predicate(a, depth-1), o.predicate(a, depth-1)
		return o.pick("("+l+" AND "+r+")", "("+l+" OR "+r+")", "NOT ("+l+")")
	}
	op := o.pick("=", "<>", "<", "<=", ">", ">=")
	switch o.rnd.IntN(10) {
	case 0:
		return a + o.pick("id", "k", "u") + " " + op + " " + o.num()
	case 1:
		return a + "f " + op + " " + o.float()
	case 2:
		return a + "s " + op + " " + o.text()
	case 3:
		return a + o.pick("id", "k") + " IN (" + o.num() + ", " + o.num() + ", " + o.num() + ")"
	case 4:
		return a + "s IN (" + o.text() + ", " + o.text() + ")"
	case 5:
		return a + o.pick("k", "f", "s") + o.pick(" IS NULL", " IS NOT NULL")
	case 6:
		return a + "k BETWEEN " + o.pick("-1", "0", "2") + " AND " + o.pick("1", "3", "7")
	case 7:
		return a + o.pick("k", "id") + " " + op + " " + o.pick("1.5", "2.0", "-0.5", "1e30", "-1e30")
	case 8:
		return a + "s >= " + o.pick("'a'", "'b'", "''") + " AND " + a + "s < " + o.pick("'b'", "'z'", "'é'")
	}
	return a + "k " + op + " " + a + o.pick("id", "u")
}

// query is a random SELECT whose result does not depend on an order of rows.
func (o *oracle) query() string {
	p := o.predicate("x.", 2)
	switch o.rnd.IntN(22) {
	case 12:
		return "SELECT x.id FROM t.x AS x WHERE x.s LIKE " + o.pick("'a%'", "'%b'", "'a_'", "'ab%'", "'A%'", "'%'", "'a'", "'é%'") + " AND " + p
	case 13:
		return "SELECT x.id, y.a, z.id FROM t.x AS x JOIN t.y AS y ON y.n = x.k JOIN t.x AS z ON z.id = y.a WHERE " + p
	case 14:
		return "SELECT x.id, y.a, z.id FROM t.x AS x LEFT JOIN t.y AS y ON y.n = x.k LEFT JOIN t.x AS z ON z.k = y.a AND z.s = y.b WHERE " + p
	case 15:
		return "SELECT x.id FROM t.x AS x WHERE " + p + " OR EXISTS (SELECT 1 FROM t.y AS y WHERE y.n = x.k AND y.a < 4)"
	case 16:
		return "SELECT x.id FROM t.x AS x WHERE " + p + " OR x.k IN (SELECT a FROM t.y WHERE n > 1)"
	case 17:
		return "SELECT d.k, d.c FROM (SELECT x.k AS k, COUNT(*) AS c FROM t.x AS x WHERE " + p + " GROUP BY x.k) AS d WHERE d.c > 1 OR d.k IS NULL"
	case 18:
		return "SELECT x.id, ROW_NUMBER() OVER (PARTITION BY x.k ORDER BY x.id) AS r, SUM(x.id) OVER (PARTITION BY x.k) AS t FROM t.x AS x WHERE " + p
	case 19:
		return "SELECT x.id, CASE WHEN x.k > 2 THEN 'hi' WHEN x.k IS NULL THEN 'none' ELSE x.s END AS c, COALESCE(x.f, x.k, -9) AS f FROM t.x AS x WHERE " + p
	case 20:
		return "SELECT x.id, (SELECT MAX(y.n) FROM t.y AS y WHERE y.a = x.id) AS m FROM t.x AS x WHERE x.k = (SELECT MIN(z.k) FROM t.x AS z WHERE z.s = x.s) OR " + p
	case 21:
		return "SELECT x.id FROM t.x AS x WHERE x.s NOT IN (SELECT b FROM t.y WHERE a > " + o.pick("2", "200") + ") AND " + p + " EXCEPT SELECT a FROM t.y"
	case 0:
		return "SELECT x.id, x.k, x.s FROM t.x AS x WHERE " + p
	case 1:
		return "SELECT COUNT(*), COUNT(x.k), MIN(x.id), MAX(x.f) FROM t.x AS x WHERE " + p
	case 2:
		return "SELECT x.k, COUNT(*), SUM(x.f) FROM t.x AS x WHERE " + p + " GROUP BY x.k HAVING COUNT(*) > 1"
	case 3:
		return "SELECT x.id, y.a, y.b FROM t.x AS x JOIN t.y AS y ON y." + o.pick("a", "n") + " = x." + o.pick("id", "k", "u", "f") + " WHERE " + p
	case 4:
		return "SELECT x.id, y.n FROM t.x AS x LEFT JOIN t.y AS y ON y.b = x.s AND y.a > " + o.pick("0", "3") + " WHERE " + p
	case 5:
		return "SELECT x.id FROM t.x AS x WHERE x." + o.pick("k", "id") + o.pick(" IN ", " NOT IN ") + "(SELECT n FROM t.y WHERE n IS NOT NULL AND a > 1) AND " + p
	case 6:
		return "SELECT x.id FROM t.x AS x WHERE " + o.pick("", "NOT ") + "EXISTS (SELECT 1 FROM t.y AS y WHERE y.a = x.k AND y.b <> 'b') AND " + p
	case 7:
		return "SELECT DISTINCT x.s, x.k FROM t.x AS x WHERE " + p
	case 8:
		return "SELECT x.id FROM t.x AS x WHERE " + p + " UNION SELECT y.a FROM t.y AS y WHERE y.n > 2"
	case 9:
		return "SELECT x.id, (SELECT COUNT(*) FROM t.y AS y WHERE y.n = x.k) AS c FROM t.x AS x WHERE " + p
	case 10:
		return "WITH w AS (SELECT k, MAX(id) AS m FROM t.x GROUP BY k) SELECT x.id, w.m FROM t.x AS x JOIN w ON w.m = x.id WHERE " + p
	}
	return "SELECT a.id, b.id FROM t.x AS a JOIN t.x AS b ON a.k = b.id AND a.s = b.s WHERE " + o.predicate("a.", 1)
}

func (o *oracle) load(n int) {
	for i := range n {
		o.both(fmt.Sprintf("INSERT INTO t.x (id, k, f, s) VALUES (%d, %s, %s, %s)", i-3, o.num(), o.float(), o.text()))
	}
	for i := range n / 2 {
		b := strings.Trim(o.pick("'a'", "'ab'", "'b'", "'é'"), "'")
		o.both(fmt.Sprintf("INSERT INTO t.y (a, b, n) VALUES (%d, '%s%d', %s)", i%7, b, i, o.num()))
		if i%3 == 0 {
			o.both(fmt.Sprintf("INSERT INTO t.y (a, b, n) VALUES (%d, %s, %s)", 100+i, o.pick("'a'", "'b'", "'ab'"), o.num()))
		}
	}
}

func TestSQLiteAgreesOnQueries(t *testing.T) {
	o := newOracle(t, 1)
	o.load(40)
	for range 400 {
		o.compare(o.query(), false)
	}
	for range 100 {
		o.compare(fmt.Sprintf("SELECT x.id, x.k FROM t.x AS x WHERE %s ORDER BY %s, x.id %s LIMIT %d OFFSET %d",
			o.predicate("x.", 1), o.pick("x.id DESC", "x.k DESC", "x.s", "x.f"), o.pick("ASC", "DESC"), o.rnd.IntN(8)+1, o.rnd.IntN(3)), true)
	}
}

func TestSQLiteAgreesOnChanges(t *testing.T) {
	o := newOracle(t, 2)
	o.load(40)
	for i := range 150 {
		switch o.rnd.IntN(6) {
		case 0:
			o.both(fmt.Sprintf("INSERT INTO t.x (id, k, f, s) VALUES (%d, %s, %s, %s)", 1000+i, o.num(), o.float(), o.text()))
		case 1:
			o.both("DELETE FROM t.x WHERE " + o.predicate("", 1) + " AND k > 3")
		case 2:
			o.both("UPDATE t.x SET k = id % 7, f = " + o.float() + " WHERE " + o.predicate("", 2))
		case 3:
			o.both("UPDATE t.x SET s = " + o.text() + ", u = u + 1 WHERE " + o.predicate("", 1))
		case 4:
			o.both(fmt.Sprintf("INSERT INTO t.y (a, b, n) SELECT id + %d, 'q%d', k FROM t.x WHERE %s", 1000*i, i, o.predicate("", 1)))
		case 5:
			o.both("DELETE FROM t.y WHERE n IN (SELECT k FROM t.x WHERE " + o.predicate("", 1) + ") AND a > 500")
		}
	}
	o.compare("SELECT id, k, f, s, u FROM t.x", false)
	o.compare("SELECT a, b, n FROM t.y", false)
	o.compare("SELECT k, s FROM t.x WHERE k >= 0 ORDER BY k, s", true)
	o.compare("SELECT COUNT(*) FROM t.x", true)
}
