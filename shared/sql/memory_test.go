package sql

import (
	"fmt"
	"testing"

	"originchain/shared/fault"
)

// TestHashTablesAreBounded: what GROUP BY, DISTINCT, set operations, subqueries
// and sorts with a limit hold counts like the rows of a sort, and the statement
// ends when that is too much, not when it has read everything.
func TestHashTablesAreBounded(t *testing.T) {
	f := indexed(t, 2000)
	for _, c := range []struct {
		sql   string
		reads int // the pairs that are read by then, at most
	}{
		{`SELECT id, COUNT(*) FROM t.big GROUP BY id`, 1000},
		{`SELECT s, k, SUM(f), MAX(pad) FROM t.big GROUP BY s, k`, 1000},
		{`SELECT COUNT(*) FROM (SELECT f FROM t.big GROUP BY f HAVING COUNT(*) > 5) AS x`, 1000},
		{`SELECT k % 2, MAX(REPEAT(pad, k)) FROM t.big GROUP BY id`, 1000},
		{`SELECT DISTINCT s, f FROM t.big`, 1500},
		{`SELECT COUNT(*) FROM (SELECT DISTINCT f FROM t.big) AS x`, 1500},
		{`SELECT COUNT(DISTINCT s) FROM t.big`, 1500},
		{`SELECT COUNT(DISTINCT f, pad) FROM t.big`, 1500},
		{`SELECT SUM(DISTINCT f) FROM t.big`, 1500},
		{`SELECT AVG(DISTINCT id) FROM t.big`, 1500},
		{`SELECT k % 2, COUNT(DISTINCT f) FROM t.big GROUP BY k % 2`, 1500},
		{`SELECT COUNT(*) FROM (SELECT s FROM t.big UNION SELECT pad FROM t.big) AS x`, 1500},
		{`SELECT COUNT(*) FROM (SELECT v FROM t.pair INTERSECT SELECT id FROM t.big) AS x`, 1500},
		{`SELECT COUNT(*) FROM (SELECT v FROM t.pair EXCEPT SELECT id FROM t.big) AS x`, 1500},
		{`SELECT id FROM t.big UNION ALL SELECT id FROM t.big ORDER BY 1 DESC`, 2200},
		{`SELECT id FROM t.big UNION ALL SELECT id FROM t.big ORDER BY 1 DESC LIMIT 3000`, 2200},
		{`SELECT id FROM t.big ORDER BY pad, f LIMIT 1900`, 2000},
		{`SELECT a FROM t.pair WHERE v IN (SELECT f FROM t.big) OR a = 1`, 2000},
		{`SELECT COUNT(*) FROM t.big a FULL OUTER JOIN t.pair p ON p.v = a.id`, 80_000},
		{`SELECT COUNT(*) FROM t.pair p FULL OUTER JOIN t.big a ON p.v = a.id`, 8000},
		{`WITH RECURSIVE n AS (SELECT 1 AS i UNION SELECT i + b.id FROM n, t.big b WHERE i < 3) SELECT COUNT(*) FROM n`, 2500},
	} {
		f.e.cfg.MaxBufferedBytes = 0
		f.exec(c.sql)
		f.e.cfg.MaxBufferedBytes = 100_000
		f.st.reads = 0
		f.refused(fault.BodyTooLarge, c.sql)
		if f.st.reads > c.reads {
			t.Errorf("%s: it read %d pairs before it was refused", c.sql, f.st.reads)
		}
	}
}

// TestMemoryIsGivenBack: what is held no longer does not count, so that a
// subquery that is computed for every row is not refused for their sum; and what
// is there once counts once.
func TestMemoryIsGivenBack(t *testing.T) {
	f := indexed(t, 2000)
	f.e.cfg.MaxBufferedBytes = 100_000
	for _, c := range []struct{ sql, want string }{
		{`SELECT SUM(n) AS s FROM (SELECT (SELECT COUNT(DISTINCT p.b) FROM t.pair p WHERE p.a = x.k % 3) AS n FROM t.big x) AS y`, `[{"s":20000}]`},
		{`SELECT SUM(n) AS s FROM (SELECT (SELECT COUNT(*) FROM (SELECT DISTINCT p.b FROM t.pair p WHERE p.a = x.k % 3) AS d) AS n FROM t.big x) AS y`, `[{"s":20000}]`},
		{`SELECT SUM(n) AS s FROM (SELECT (SELECT MAX(p.v) FROM t.pair p WHERE p.a = x.k % 3 GROUP BY p.a) AS n FROM t.big x) AS y`, `[{"s":37900}]`},
		{`SELECT SUM(n) AS s FROM (SELECT (SELECT p.v FROM t.pair p WHERE p.a = x.k % 3 ORDER BY p.v DESC LIMIT 1) AS n FROM t.big x) AS y`, `[{"s":37900}]`},
		{`SELECT COUNT(*) AS n FROM t.big x WHERE x.k % 3 IN (SELECT p.v FROM t.pair p WHERE p.a <= x.k % 2) OR x.id = -1`, `[{"n":2000}]`},
		{`SELECT SUM(n) AS s FROM (SELECT (SELECT MAX(r) FROM (SELECT ROW_NUMBER() OVER (ORDER BY p.v) AS r FROM t.pair p WHERE p.a = x.k % 3) AS w) AS n FROM t.big x) AS y`, `[{"s":20000}]`},
		{`SELECT pad, COUNT(*) AS n FROM t.big GROUP BY pad`, `[{"pad":"padding","n":2000}]`},
		{`SELECT DISTINCT pad FROM t.big`, `[{"pad":"padding"}]`},
		{`SELECT COUNT(*) AS n FROM (SELECT pad FROM t.big UNION SELECT pad FROM t.big) AS x`, `[{"n":1}]`},
		{`SELECT COUNT(*) AS n FROM (SELECT 'x' AS a EXCEPT SELECT pad FROM t.big) AS x`, `[{"n":1}]`},
		{`SELECT * FROM t.big ORDER BY f DESC LIMIT 1`, `[{"id":1999,"k":199,"s":"s001999","f":1999.5,"pad":"padding"}]`},
	} {
		if got := f.rows(c.sql); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.sql, got, c.want)
		}
	}
}

// TestSetsSortAndSkip: ORDER BY and LIMIT of a set operation, whose rows are put
// in order before any is skipped, and rows that are equal in the order.
func TestSetsSortAndSkip(t *testing.T) {
	f := newFixture(t, `CREATE TABLE t.n (id BIGINT PRIMARY KEY, k BIGINT)`)
	for i := range 10 {
		f.exec(`INSERT INTO t.n VALUES (?, ?)`, i, i/5)
	}
	for _, c := range []struct{ sql, want string }{
		{`SELECT id FROM t.n WHERE id < 3 UNION ALL SELECT id FROM t.n WHERE id < 2 ORDER BY 1 DESC LIMIT 2 OFFSET 1`, `[{"id":1},{"id":1}]`},
		{`SELECT id FROM t.n WHERE id < 3 UNION ALL SELECT id FROM t.n WHERE id < 2 ORDER BY 1 DESC LIMIT 2 OFFSET 4`, `[{"id":0}]`},
		{`SELECT k FROM t.n INTERSECT SELECT id FROM t.n ORDER BY 1`, `[{"k":0},{"k":1}]`},
		{`SELECT id FROM t.n EXCEPT SELECT k FROM t.n ORDER BY 1 LIMIT 2`, `[{"id":2},{"id":3}]`},
		{`SELECT id FROM t.n WHERE id > 20 UNION SELECT k FROM t.n WHERE id > 20`, `[]`},
		{`SELECT k, id FROM t.n ORDER BY k DESC LIMIT 3`, `[{"k":1,"id":5},{"k":1,"id":6},{"k":1,"id":7}]`},
		{`SELECT k, id FROM t.n ORDER BY k DESC LIMIT 3 OFFSET 4`, `[{"k":1,"id":9},{"k":0,"id":0},{"k":0,"id":1}]`},
		{`SELECT id FROM t.n ORDER BY k LIMIT 0`, `[]`},
		{`SELECT id FROM t.n UNION SELECT NULL ORDER BY 1 LIMIT 2`, `[{"id":null},{"id":0}]`},
	} {
		if got := f.rows(c.sql); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.sql, got, c.want)
		}
	}
}

// TestKeysTellRowsApart: rows that print alike are not alike.
func TestKeysTellRowsApart(t *testing.T) {
	f := newFixture(t, `CREATE TABLE t.k (id BIGINT PRIMARY KEY, a TEXT, b TEXT, f DOUBLE, raw BLOB)`)
	for i, row := range [][]any{{nil, "x", 0.0}, {"<nil>", "x", 1.0}, {"a,", "b", 2.0}, {"a", ",b", 3.0}, {"a,\x00b", "c", 1e300}, {"a", "b,\x00c", 1e-300}, {"", nil, nil}, {nil, "", nil}} {
		f.exec(`INSERT INTO t.k VALUES (?, ?, ?, ?, NULL)`, append([]any{i}, row...)...)
	}
	f.exec(`INSERT INTO t.k VALUES (100, 'a', ',b', 0 * -1.0e0, NULL)`)
	for _, c := range []struct{ sql, want string }{
		{`SELECT COUNT(*) AS n FROM (SELECT DISTINCT a, b FROM t.k) AS x`, `[{"n":8}]`},
		{`SELECT COUNT(*) AS n FROM (SELECT a, b FROM t.k GROUP BY a, b) AS x`, `[{"n":8}]`},
		{`SELECT COUNT(*) AS n FROM (SELECT a, b FROM t.k UNION SELECT a, b FROM t.k) AS x`, `[{"n":8}]`},
		{`SELECT COUNT(DISTINCT a, b) AS n, COUNT(DISTINCT a) AS a, COUNT(DISTINCT f) AS f FROM t.k`, `[{"n":5,"a":5,"f":6}]`},
		{`SELECT COUNT(*) AS n FROM (SELECT f FROM t.k GROUP BY f) AS x`, `[{"n":7}]`},
		{`SELECT COUNT(*) AS n FROM (SELECT 1 AS a UNION SELECT 1.0 UNION SELECT 1e0 UNION SELECT TRUE) AS x`, `[{"n":1}]`},
		{fmt.Sprintf(`SELECT COUNT(*) AS n FROM (SELECT REPEAT('x', %d) AS a UNION SELECT REPEAT('x', %d) UNION SELECT REPEAT('x', %d)) AS x`, 4*longKey, 4*longKey+1, 4*longKey), `[{"n":2}]`},
	} {
		if got := f.rows(c.sql); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.sql, got, c.want)
		}
	}
}
