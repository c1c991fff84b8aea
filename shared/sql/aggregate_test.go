package sql

import (
	"fmt"
	"testing"

	"originchain/shared/fault"
)

// TestWindowsOverNoRows: a window function gives a row per row, so none for none.
func TestWindowsOverNoRows(t *testing.T) {
	f := newFixture(t, `CREATE TABLE t.none (id BIGINT PRIMARY KEY, k BIGINT, x DOUBLE, s TEXT)`,
		`CREATE TABLE t.some (id BIGINT PRIMARY KEY, k BIGINT, x DOUBLE, s TEXT)`, `INSERT INTO t.some VALUES (1,1,1,'a'),(2,1,2,'b'),(3,2,NULL,NULL)`)
	functions := []string{"COUNT(*)", "COUNT(x)", "SUM(x)", "AVG(x)", "MIN(x)", "MAX(s)", "ROW_NUMBER()", "RANK()", "DENSE_RANK()", "PERCENT_RANK()",
		"NTILE(2)", "LAG(x)", "LEAD(x, 1)", "FIRST_VALUE(x)", "LAST_VALUE(x)", "STDDEV_POP(x)"}
	windows := []string{"()", "(ORDER BY id)", "(PARTITION BY k)", "(PARTITION BY k ORDER BY id DESC)",
		"(ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW)", "(PARTITION BY k ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)"}
	for _, fn := range functions {
		for _, w := range windows {
			q := fmt.Sprintf("SELECT id, %s OVER %s AS v FROM ", fn, w)
			if got := f.rows(q + "t.none"); got != `[]` {
				t.Errorf("%s: %s", q, got)
			}
			if got := f.exec(q + "t.some").RowCount; got != 3 {
				t.Errorf("%s over rows: %d of 3", q, got)
			}
			if got := f.rows(q + "t.some WHERE id > 5"); got != `[]` {
				t.Errorf("%s with nothing left by WHERE: %s", q, got)
			}
		}
	}
	for _, c := range []struct{ sql, want string }{
		{`SELECT COUNT(*) OVER (ORDER BY id) AS a, SUM(x) OVER () AS b, RANK() OVER (PARTITION BY k ORDER BY id) AS c FROM t.none`, `[]`},
		{`SELECT COUNT(*) AS n FROM (SELECT ROW_NUMBER() OVER (ORDER BY id) AS r FROM t.none) AS d`, `[{"n":0}]`},
		{`SELECT FIRST_VALUE(id) OVER w AS f, LAST_VALUE(id) OVER (w) AS l, LAG(id) OVER () AS p FROM t.some WINDOW w AS ()`, `[{"f":1,"l":3,"p":null},{"f":1,"l":3,"p":1},{"f":1,"l":3,"p":2}]`},
		{`SELECT id, COUNT(*) OVER w AS a, COUNT(*) OVER () AS b, COUNT(*) OVER (ORDER BY id) AS d FROM t.some WINDOW w AS (PARTITION BY k) ORDER BY id`,
			`[{"id":1,"a":2,"b":3,"d":1},{"id":2,"a":2,"b":3,"d":2},{"id":3,"a":1,"b":3,"d":3}]`},
		{`SELECT RANK() OVER (ORDER BY n) AS r FROM (SELECT COUNT(*) AS n FROM t.none) AS c`, `[{"r":1}]`},
		{`SELECT k, SUM(n) OVER () AS s FROM (SELECT k, COUNT(*) AS n FROM t.none GROUP BY k) AS c`, `[]`},
		{`SELECT id, (SELECT MAX(r) FROM (SELECT ROW_NUMBER() OVER (ORDER BY n.id) AS r FROM t.some n WHERE n.k = o.id) AS d) AS m FROM t.some o ORDER BY id`, `[{"id":1,"m":2},{"id":2,"m":1},{"id":3,"m":null}]`},
		{`SELECT s.id, w.r FROM t.some s LEFT JOIN (SELECT k, ROW_NUMBER() OVER (ORDER BY id) AS r FROM t.none) AS w ON w.k = s.id ORDER BY s.id`, `[{"id":1,"r":null},{"id":2,"r":null},{"id":3,"r":null}]`},
	} {
		if got := f.rows(c.sql); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.sql, got, c.want)
		}
	}
	for _, sql := range []string{
		`SELECT COUNT(DISTINCT x) OVER (PARTITION BY k) FROM t.some`,
		`SELECT RANK() OVER (ORDER BY COUNT(*)) FROM t.none`,
		`SELECT k, SUM(COUNT(*)) OVER () FROM t.some GROUP BY k`,
		`SELECT 1 FROM t.some WHERE id IN (SELECT SUM(COUNT(*)) OVER () FROM t.none)`,
	} {
		f.refused(fault.Unsupported, sql)
	}
}

// TestSQLiteAgreesOnBytes: bytes that are no text count, group and compare.
func TestSQLiteAgreesOnBytes(t *testing.T) {
	o := newOracle(t, 3)
	o.exec(`CREATE TABLE t.z (id BIGINT PRIMARY KEY, k BIGINT, raw BLOB)`)
	o.lite(`CREATE TABLE t_z (id INTEGER PRIMARY KEY, k INTEGER, raw BLOB)`)
	values := []string{"NULL", "X''", "X'00'", "X'00ff'", "X'ff00'", "X'fffe80'", "X'c328'", "X'61'", "X'6100'", "X'c3a9'"}
	for i := range 60 {
		o.both(fmt.Sprintf("INSERT INTO t.z (id, k, raw) VALUES (%d, %s, %s)", i, o.pick("1", "2", "3", "NULL"), values[i%len(values)]))
	}
	for _, q := range []string{
		`SELECT COUNT(DISTINCT raw) FROM t.z`,
		`SELECT k, COUNT(DISTINCT raw), COUNT(raw) FROM t.z GROUP BY k`,
		`SELECT CASE WHEN raw IS NULL THEN 'none' ELSE HEX(raw) END AS h, COUNT(*), MIN(id) FROM t.z GROUP BY raw`,
		`SELECT CASE WHEN r IS NULL THEN 'none' ELSE HEX(r) END FROM (SELECT DISTINCT raw AS r FROM t.z) AS d`,
		`SELECT k, CASE WHEN raw IS NULL THEN 'none' ELSE HEX(raw) END AS h, COUNT(*) FROM t.z GROUP BY k, raw HAVING COUNT(DISTINCT id) > 1`,
		`SELECT COUNT(*) FROM (SELECT raw FROM t.z WHERE k = 1 UNION SELECT raw FROM t.z WHERE k = 2) AS d`,
		`SELECT CASE WHEN r IS NULL THEN 'none' ELSE HEX(r) END FROM (SELECT raw AS r FROM t.z WHERE k = 1 INTERSECT SELECT raw FROM t.z WHERE k = 2) AS d`,
		`SELECT CASE WHEN r IS NULL THEN 'none' ELSE HEX(r) END FROM (SELECT raw AS r FROM t.z WHERE k = 1 EXCEPT SELECT raw FROM t.z WHERE k = 2) AS d`,
		`SELECT a.id, b.id FROM t.z AS a JOIN t.z AS b ON a.raw = b.raw AND a.id < b.id`,
		`SELECT id FROM t.z WHERE raw IN (SELECT raw FROM t.z WHERE k = 1) OR k = 3`,
		`SELECT HEX(MIN(raw)), HEX(MAX(raw)) FROM t.z`,
		`SELECT k, SUM(DISTINCT id % 4), COUNT(DISTINCT id % 4), AVG(DISTINCT id % 4) FROM t.z GROUP BY k`,
		`SELECT id % 4, SUM(DISTINCT k), COUNT(DISTINCT k), AVG(DISTINCT k) FROM t.z GROUP BY id % 4`,
	} {
		o.compare(q, false)
	}
}

// TestLetterCaseTellsAggregatesApart: two that differ in it alone are two.
func TestLetterCaseTellsAggregatesApart(t *testing.T) {
	f := newFixture(t, `CREATE TABLE t.c (id BIGINT PRIMARY KEY, k BIGINT, s TEXT)`, `INSERT INTO t.c VALUES (1,1,'A'),(2,1,'a'),(3,2,'a'),(4,2,NULL)`)
	for _, c := range []struct {
		sql    string
		params []any
		want   string
	}{
		{sql: `SELECT SUM(s = 'A') AS a, SUM(s = 'a') AS b, SUM(s = 'A') + 10 AS c FROM t.c`, want: `[{"a":1,"b":2,"c":11}]`},
		{sql: `SELECT SUM(s = ?) AS a, SUM(s = ?) AS b FROM t.c`, params: []any{"A", "a"}, want: `[{"a":1,"b":2}]`},
		{sql: `SELECT k, COUNT(CASE s WHEN 'A' THEN 1 END) AS a, COUNT(CASE s WHEN 'a' THEN 1 END) AS b FROM t.c GROUP BY k ORDER BY k`, want: `[{"k":1,"a":1,"b":1},{"k":2,"a":0,"b":1}]`},
		{sql: `SELECT k FROM t.c GROUP BY k HAVING SUM(s = 'a') > 0 AND SUM(s = 'A') = 0`, want: `[{"k":2}]`},
		{sql: `SELECT k, SUM(s = 'A') AS n FROM t.c GROUP BY k HAVING SUM(s = 'A') < 1 ORDER BY SUM(s = 'A'), SUM(s = 'a')`, want: `[{"k":2,"n":0}]`},
		{sql: `SELECT GROUP_CONCAT(s SEPARATOR 'X') AS a, GROUP_CONCAT(s SEPARATOR 'x') AS b, GROUP_CONCAT(DISTINCT s ORDER BY s = 'A', id) AS c, GROUP_CONCAT(DISTINCT s ORDER BY s = 'a', id) AS d FROM t.c`,
			want: `[{"a":"AXaXa","b":"Axaxa","c":"a,A","d":"A,a"}]`},
		{sql: `SELECT MIN(CONCAT(s, 'Z')), min(CONCAT(s, 'z')) FROM t.c`, want: `[{"MIN(CONCAT(s, 'Z'))":"AZ","min(CONCAT(s, 'z'))":"Az"}]`},
		{sql: `SELECT COUNT(DISTINCT CONCAT(s, 'Q'), k) AS a, JSON_OBJECTAGG(CONCAT(id, 'K'), k) AS b FROM t.c WHERE id < 3`, want: `[{"a":2,"b":{"1K":1,"2K":1}}]`},
		{sql: `SELECT GROUP_CONCAT(id, '=', s ORDER BY id) AS a, GROUP_CONCAT(DISTINCT k, k) AS b FROM t.c`, want: `[{"a":"1=A,2=a,3=a","b":"11,22"}]`},
	} {
		if got := f.rows(c.sql, c.params...); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.sql, got, c.want)
		}
	}
}
