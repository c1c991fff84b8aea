package sql

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"originchain/shared/fault"
)

const shop = `CREATE TABLE shop.orders (id BIGINT PRIMARY KEY, customer BIGINT NOT NULL, total DOUBLE, note TEXT, paid BOOLEAN DEFAULT false, big BIGINT UNSIGNED, raw BLOB, KEY by_customer (customer, total))`
const customers = `CREATE TABLE shop.customers (id BIGINT PRIMARY KEY, name TEXT NOT NULL, city TEXT, UNIQUE KEY by_name (name))`

func shopFixture(t *testing.T) *fixture {
	t.Helper()
	return newFixture(t, shop, customers,
		`INSERT INTO shop.customers VALUES (1,'Ada','Paris'),(2,'Bob','Rome'),(3,'Cyd',NULL)`,
		`INSERT INTO shop.orders (id,customer,total,note,paid,big,raw) VALUES (1,1,10.5,'a',true,18446744073709551615,X'00ff'),(2,1,20,'b',false,2,NULL),(3,2,5,NULL,true,3,NULL),(4,2,7.25,'d',false,NULL,NULL),(5,9,1,'e',true,5,NULL)`)
}

func TestSelectShapes(t *testing.T) {
	f := shopFixture(t)
	for _, c := range []struct {
		sql    string
		params []any
		want   string
	}{
		{sql: `SELECT * FROM shop.orders WHERE id = 1`, want: `[{"id":1,"customer":1,"total":10.5,"note":"a","paid":true,"big":18446744073709551615,"raw":"AP8="}]`},
		{sql: `SELECT id FROM shop.orders WHERE id = 1 OR note = 'e' ORDER BY id DESC`, want: `[{"id":5},{"id":1}]`},
		{sql: `SELECT o.id, c.name FROM shop.orders o JOIN shop.customers c ON c.id = o.customer ORDER BY o.id`, want: `[{"id":1,"name":"Ada"},{"id":2,"name":"Ada"},{"id":3,"name":"Bob"},{"id":4,"name":"Bob"}]`},
		{sql: `SELECT o.id, c.name FROM shop.orders o LEFT JOIN shop.customers c ON c.id = o.customer WHERE o.id > 3 ORDER BY o.id`, want: `[{"id":4,"name":"Bob"},{"id":5,"name":null}]`},
		{sql: `SELECT customer, COUNT(*) AS n, SUM(total) AS s, AVG(big) AS a FROM shop.orders GROUP BY customer HAVING n > 1 ORDER BY customer`, want: `[{"customer":1,"n":2,"s":30.5,"a":9223372036854776000},{"customer":2,"n":2,"s":12.25,"a":3}]`},
		{sql: `WITH big AS (SELECT * FROM shop.orders WHERE total > 6) SELECT COUNT(*) AS n FROM big`, want: `[{"n":3}]`},
		{sql: `WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n WHERE i < 4) SELECT SUM(i) AS s FROM n`, want: `[{"s":10}]`},
		{sql: `SELECT id, ROW_NUMBER() OVER (PARTITION BY customer ORDER BY total DESC) AS r FROM shop.orders ORDER BY id`, want: `[{"id":1,"r":2},{"id":2,"r":1},{"id":3,"r":2},{"id":4,"r":1},{"id":5,"r":1}]`},
		{sql: `SELECT name FROM shop.customers c WHERE EXISTS (SELECT 1 FROM shop.orders o WHERE o.customer = c.id AND o.total > 15)`, want: `[{"name":"Ada"}]`},
		{sql: `SELECT id FROM shop.orders WHERE customer IN (SELECT id FROM shop.customers WHERE city = 'Rome') ORDER BY id`, want: `[{"id":3},{"id":4}]`},
		{sql: `SELECT (SELECT MAX(total) FROM shop.orders) AS m`, want: `[{"m":20}]`},
		{sql: `SELECT DISTINCT paid FROM shop.orders ORDER BY paid`, want: `[{"paid":false},{"paid":true}]`},
		{sql: `SELECT id FROM shop.orders WHERE customer = ? AND total < ? ORDER BY id`, params: []any{1, 15.5}, want: `[{"id":1}]`},
		{sql: `SELECT id FROM shop.orders WHERE id = $2 OR id = $1 OR id = $2 ORDER BY id`, params: []any{2, 1}, want: `[{"id":1},{"id":2}]`},
		{sql: `SELECT ':x ? $1' AS s, id FROM shop.orders WHERE note = :n -- ? :y`, params: []any{map[string]any{"n": "b"}}, want: `[{"s":":x ? $1","id":2}]`},
		{sql: `SELECT id FROM shop.orders WHERE paid = true ORDER BY id LIMIT ? OFFSET ?`, params: []any{1, 1}, want: `[{"id":3}]`},
		{sql: `SELECT id FROM shop.orders WHERE paid = ? ORDER BY id`, params: []any{true}, want: `[{"id":1},{"id":3},{"id":5}]`},
		{sql: `SELECT id FROM shop.orders WHERE note IS NULL`, want: `[{"id":3}]`},
		{sql: `SELECT a.id, b.id FROM shop.orders a JOIN shop.orders b ON a.id = b.id - 1 WHERE a.id = 1`, want: `[{"id":1,"id_2":2}]`},
		{sql: `SELECT 1 AS a UNION SELECT 2 ORDER BY 1 DESC`, want: `[{"a":2},{"a":1}]`},
		{sql: `SELECT 'it''s "q" \\ ' || 'x' AS a`, want: `[{"a":false}]`},
		{sql: `SELECT CONCAT('a', "b") AS a, 1/0 AS d, 7 DIV 2 AS i, 1.10 AS dec1, -5 AS m, 1e3 AS f, X'01' AS b, TRUE AS t, NULL AS n`, want: `[{"a":"ab","d":null,"i":3,"dec1":1.1,"m":-5,"f":1000,"b":"AQ==","t":true,"n":null}]`},
		{sql: `SELECT ? AS a, ? AS b, ? AS c, ? AS d, ? AS e, ? AS g`, params: []any{int64(-9223372036854775808), uint64(18446744073709551615), "x'; DROP", nil, false, 0.25}, want: `[{"a":-9223372036854775808,"b":18446744073709551615,"c":"x'; DROP","d":null,"e":false,"g":0.25}]`},
		{sql: `SELECT ? + 1, ?`, params: []any{2, "x"}, want: `[{"? + 1":3,"?":"x"}]`},
		{sql: `SELECT :a, ':p9' FROM shop.customers WHERE id = :a`, params: []any{map[string]any{"a": 2}}, want: `[{":a":2,":p9":":p9"}]`},
		{sql: `SELECT JSON_EXTRACT('{"a":[1,{"b":"x"}]}', '$.a') AS j`, want: `[{"j":[1,{"b":"x"}]}]`},
		{sql: `SELECT name FROM shop.customers WHERE name REGEXP '^[AB]' AND name NOT REGEXP 'b$' AND NOT (city REGEXP NULL IS NOT NULL)`, want: `[{"name":"Ada"}]`},
		{sql: `SELECT REGEXP_LIKE('aB', 'AB') AS a, REGEXP_LIKE('aB', 'AB', 'i') AS b, REGEXP_LIKE('a\nb', 'a.b', 'n') AS c`, want: `[{"a":false,"b":true,"c":true}]`},
		{sql: `SELECT (SELECT COUNT(*) FROM shop.customers WHERE name REGEXP c.name) AS n FROM shop.customers c HAVING n REGEXP '1' LIMIT 1`, want: `[{"n":1}]`},
		{sql: `SELECT COUNT(*) FROM shop.orders`, want: `[{"COUNT(*)":5}]`},
		{sql: `SELECT COUNT(NULL) AS n FROM shop.orders`, want: `[{"n":0}]`},
		{sql: `SELECT MIN(id) AS a, MAX(id) AS b FROM shop.orders`, want: `[{"a":1,"b":5}]`},
		{sql: "SELECT 1 , 2\t,\n 3+4, a.* FROM (SELECT 5 , 6+1) a", want: `[{"1":1,"2":2,"3+4":7,"5":5,"6+1":7}]`},
		{sql: `SELECT DATE('2024-05-06 07:08:09') AS d, TIMESTAMP('2024-05-06 07:08:09') AS t`, want: `[{"d":"2024-05-06","t":"2024-05-06 07:08:09"}]`},
	} {
		if got := f.rows(c.sql, c.params...); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.sql, got, c.want)
		}
	}
}

// indexed makes a table of n rows: k has ten values, s is unique.
func indexed(t *testing.T, n int) *fixture {
	t.Helper()
	f := newFixture(t, `CREATE TABLE t.big (id BIGINT PRIMARY KEY, k BIGINT NOT NULL, s TEXT, f DOUBLE, pad TEXT, KEY by_k (k), UNIQUE KEY by_s (s), KEY by_kf (k, f))`,
		`CREATE TABLE t.pair (a BIGINT, b TEXT, v BIGINT, PRIMARY KEY (a, b))`)
	for i := 0; i < n; i += 1000 {
		var b strings.Builder
		b.WriteString("INSERT INTO t.big VALUES ")
		for j := i; j < min(n, i+1000); j++ {
			if j > i {
				b.WriteByte(',')
			}
			fmt.Fprintf(&b, "(%d,%d,'s%06d',%d.5,'padding')", j, j%(n/10), j, j)
		}
		f.exec(b.String())
	}
	for i := range 30 {
		f.exec(`INSERT INTO t.pair VALUES (?, ?, ?)`, i/10, fmt.Sprint("b", i%10), i)
	}
	return f
}

func TestReadsNoMoreThanItMust(t *testing.T) {
	f := indexed(t, 5000)
	for _, c := range []struct {
		sql         string
		rows, reads int
	}{
		{`SELECT * FROM t.big LIMIT 5`, 5, 5},
		{`SELECT * FROM t.big LIMIT 5 OFFSET 5`, 5, 10},
		{`SELECT * FROM t.big WHERE id = 777`, 1, 1},
		{`SELECT * FROM t.big WHERE id = 77700`, 0, 1},
		{`SELECT * FROM t.big WHERE id IN (1, 5, 4000, 99999)`, 3, 4},
		{`SELECT * FROM t.big WHERE id = 1 OR id = 5`, 2, 2},
		{`SELECT * FROM t.big WHERE id BETWEEN 10 AND 19`, 10, 10},
		{`SELECT * FROM t.big WHERE id >= 10 AND id < 20 ORDER BY id DESC`, 10, 10},
		{`SELECT * FROM t.big WHERE id > 4990`, 9, 9},
		{`SELECT * FROM t.big WHERE id < 10.5`, 11, 11},
		{`SELECT * FROM t.big WHERE id < -1e30`, 0, 0},
		{`SELECT * FROM t.big WHERE k = 7`, 10, 20},
		{`SELECT id FROM t.big WHERE k = 7`, 10, 10},
		{`SELECT COUNT(*) FROM t.big WHERE k = 7`, 1, 10},
		{`SELECT * FROM t.big WHERE k = 7 AND f = 507.5`, 1, 2},
		{`SELECT * FROM t.big WHERE k = 7 AND f > 4000`, 2, 4},
		{`SELECT * FROM t.big WHERE s = 's000100'`, 1, 2},
		{`SELECT * FROM t.big WHERE s IN ('s000100', 's000200', 'zz')`, 2, 4},
		{`SELECT * FROM t.big WHERE s LIKE 's00012%'`, 10, 20},
		{`SELECT * FROM t.big WHERE s IS NULL`, 0, 0},
		{`SELECT * FROM t.big ORDER BY id LIMIT 3`, 3, 3},
		{`SELECT * FROM t.big ORDER BY id DESC LIMIT 3`, 3, 3},
		{`SELECT id FROM t.big ORDER BY s DESC LIMIT 3`, 3, 3},
		{`SELECT COUNT(*) FROM t.big`, 1, 0},
		{`SELECT COUNT(*) AS n FROM t.big AS b`, 1, 0},
		{`SELECT MAX(id) FROM t.big`, 1, 1},
		{`SELECT * FROM t.big WHERE id > 5 AND k = 7`, 10, 20},
		{`SELECT * FROM t.big WHERE k = 7 AND id = 507`, 1, 1},
		{`SELECT * FROM t.big b WHERE f = 507.5 AND k IN (6, 7)`, 1, 2},
		{`SELECT v FROM t.pair WHERE a = 1 AND b = 'b3'`, 1, 1},
		{`SELECT v FROM t.pair WHERE a = 1`, 10, 10},
		{`SELECT v FROM t.pair WHERE a = 1 AND b > 'b6'`, 3, 3},
		{`SELECT b.id FROM t.pair p JOIN t.big b ON b.id = p.v WHERE p.a = 2 AND p.b = 'b4'`, 1, 2},
		{`SELECT id FROM t.big WHERE id IN (SELECT v FROM t.pair WHERE a = 1)`, 10, 20},
	} {
		f.st.reads = 0
		r := f.exec(c.sql)
		if r.RowCount != c.rows || f.st.reads != c.reads {
			t.Errorf("%s\n%d rows by %d reads, want %d by %d\n%s", c.sql, r.RowCount, f.st.reads, c.rows, c.reads, f.plan(c.sql))
		}
	}
}

func TestPlans(t *testing.T) {
	f := indexed(t, 100)
	for _, c := range []struct {
		sql  string
		want []string
	}{
		{`SELECT * FROM t.big WHERE id = 3`, []string{"IndexedTableAccess(big)", "index: [big.id]", "[3, 3]"}},
		{`SELECT * FROM t.big WHERE k = 3 AND f > 2`, []string{"index: [big.k,big.f]"}},
		{`SELECT id FROM t.big ORDER BY id DESC LIMIT 2`, []string{"Limit(2)", "reverse: true"}},
		{`SELECT COUNT(*) FROM t.big`, []string{"table_count(big)"}},
		{`SELECT pad, COUNT(*) FROM t.big GROUP BY pad`, []string{"GroupBy", "Table", "columns: [pad]"}},
		{`UPDATE t.big SET pad = 'x' WHERE id = 2`, []string{"Update(t.big)", "IndexedTableAccess(big)"}},
		{`DELETE FROM t.big WHERE k = 2`, []string{"Delete(t.big)", "IndexedTableAccess(big)"}},
		{`INSERT INTO t.big VALUES (1,2,'a',3,'b')`, []string{"Insert(t.big)"}},
		{`INSERT INTO t.pair SELECT id, s, k FROM t.big WHERE id = 5`, []string{"Insert(t.pair)", "└─ ", "index: [big.id]"}},
		{`WITH x AS (SELECT id FROM t.big) SELECT * FROM x WHERE id = 4`, []string{"index: [big.id]"}},
	} {
		plan := f.plan(c.sql)
		for _, w := range c.want {
			if !strings.Contains(plan, w) {
				t.Errorf("%s: the plan lacks %q\n%s", c.sql, w, plan)
			}
		}
	}
	if got := f.rows(`SELECT COUNT(*) AS n, MAX(pad) AS p FROM t.big`); got != `[{"n":100,"p":"padding"}]` {
		t.Errorf("EXPLAIN changed rows: %s", got)
	}
}

// TestJoinsOfTextAndNumbers has an index that the planner would look numbers up
// in as text.
func TestJoinsOfTextAndNumbers(t *testing.T) {
	f := newFixture(t, `CREATE TABLE t.code (s TEXT PRIMARY KEY, n BIGINT)`, `CREATE TABLE t.num (n BIGINT PRIMARY KEY, x DOUBLE)`)
	for i := range 300 {
		f.exec(`INSERT INTO t.code VALUES (?, ?)`, fmt.Sprintf("%04d", i), i)
	}
	f.exec(`INSERT INTO t.code VALUES ('', -1)`)
	f.exec(`INSERT INTO t.num VALUES (7, 7), (12, 12.5), (9999, 1e300)`)
	for _, c := range []struct{ sql, want string }{
		{`SELECT c.s FROM t.num m JOIN t.code c ON c.s = m.n`, `[{"s":"0007"},{"s":"0012"}]`},
		{`SELECT m.n, c.s FROM t.num m LEFT JOIN t.code c ON c.s = m.n WHERE m.n > 10 ORDER BY m.n`, `[{"n":12,"s":"0012"},{"n":9999,"s":null}]`},
		{`SELECT s FROM t.code WHERE s IN (SELECT n FROM t.num)`, `[{"s":"0007"},{"s":"0012"}]`},
		{`SELECT m.n, k.n FROM t.num k JOIN t.num m ON m.n = k.x`, `[{"n":7,"n_2":7}]`},
	} {
		if got := f.rows(c.sql); got != c.want {
			t.Errorf("%s\n got %s\nwant %s\n%s", c.sql, got, c.want, f.plan(c.sql))
		}
	}
}

// TestJoinsDoNotMerge holds joins off the orders of two indexes, also where a
// subquery was planned before.
func TestJoinsDoNotMerge(t *testing.T) {
	f := shopFixture(t)
	join := `SELECT o.id FROM shop.orders o JOIN shop.customers c ON c.id = o.customer`
	for _, sql := range []string{
		join,
		join + ` UNION ` + join,
		`SELECT x.id FROM (` + join + ` ORDER BY o.id) x JOIN (` + join + `) y ON x.id = y.id`,
		join + ` WHERE o.total > (SELECT MIN(total) FROM shop.orders)`,
	} {
		if p := f.plan(sql); strings.Contains(p, "MergeJoin") {
			t.Errorf("%s\n%s", sql, p)
		}
	}
}

func TestExplainTree(t *testing.T) {
	f := indexed(t, 100)
	want := "Project\n" +
		" ├─ columns: [b.id]\n" +
		" └─ Filter\n" +
		"     ├─ (b.k = 3)\n" +
		"     └─ TableAlias(b)\n" +
		"         └─ IndexedTableAccess(big)\n" +
		"             ├─ index: [big.k]\n" +
		"             ├─ filters: [{[3, 3]}]\n" +
		"             └─ columns: [id k]\n"
	if got := f.plan(`SELECT b.id FROM t.big b WHERE b.k = 3`); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestExplainAnalyze(t *testing.T) {
	f := indexed(t, 100)
	r := f.exec(`EXPLAIN ANALYZE SELECT b.id, p.v FROM t.big b JOIN t.pair p ON p.v = b.id WHERE b.k = 3 ORDER BY b.id`)
	var stats struct {
		Nodes []struct {
			Node  string
			Depth int
			Rows  int
			Loops int
			Ms    *float64
		}
	}
	if err := json.Unmarshal(r.Stats, &stats); err != nil {
		t.Fatalf("%s: %v", r.Stats, err)
	}
	if len(stats.Nodes) < 4 || stats.Nodes[0].Rows != 3 || stats.Nodes[0].Depth != 0 || stats.Nodes[0].Ms == nil || stats.Nodes[1].Depth != 1 {
		t.Errorf("stats: %s", r.Stats)
	}
	if !strings.Contains(r.Plan, "(rows=3 loops=1 time=") || !strings.Contains(r.Plan, " └─ ") {
		t.Errorf("plan:\n%s", r.Plan)
	}
	f.refused(fault.ValidationFailed, `EXPLAIN ANALYZE DELETE FROM t.big WHERE id = 3`)
	f.refused(fault.ValidationFailed, `EXPLAIN FORMAT=JSON SELECT 1`)
	if tree, plain := f.exec(`EXPLAIN FORMAT=TREE SELECT 1`).Plan, f.exec(`EXPLAIN SELECT 1`).Plan; tree != plain || tree == "" {
		t.Errorf("FORMAT=TREE: %q, want %q", tree, plain)
	}
	if got := f.rows(`SELECT COUNT(*) AS n FROM t.big`); got != `[{"n":100}]` {
		t.Error(got)
	}
}

func TestPlannerFaultsStayFixed(t *testing.T) {
	f := newFixture(t, `CREATE TABLE t.a (id BIGINT PRIMARY KEY, s TEXT, u BIGINT UNSIGNED, b BLOB, KEY by_s (s), KEY by_u (u), KEY by_b (b))`,
		`INSERT INTO t.a VALUES (1,'a日',0,X'61'),(2,'10',18446744073709551615,NULL),(3,'9',NULL,X'39'),(9223372036854775807,'A',5,X'')`,
		`CREATE TABLE t.n (n BIGINT PRIMARY KEY, x DOUBLE)`, `INSERT INTO t.n VALUES (9,1.5),(10,2),(0,1e30)`)
	for _, c := range []struct{ sql, want string }{
		{`SELECT id FROM t.a WHERE s LIKE 'a%'`, `[{"id":1}]`},
		{`SELECT id FROM t.a WHERE id LIKE '9%'`, `[{"id":9223372036854775807}]`},
		{`SELECT id FROM t.a WHERE s LIKE '10'`, `[{"id":2}]`},
		{`SELECT id FROM t.a WHERE id < 99999999999999999999 ORDER BY id`, `[{"id":1},{"id":2},{"id":3},{"id":9223372036854775807}]`},
		{`SELECT id FROM t.a WHERE u > -1 ORDER BY id`, `[{"id":1},{"id":2},{"id":9223372036854775807}]`},
		{`SELECT id FROM t.a WHERE u >= 0 AND u < 1e30 ORDER BY id`, `[{"id":1},{"id":2},{"id":9223372036854775807}]`},
		{`SELECT id FROM t.a WHERE id = 1.5`, `[]`},
		{`SELECT id FROM t.a WHERE s = 10`, `[{"id":2}]`},
		{`SELECT n, id FROM t.n JOIN t.a ON s = n WHERE n > 0 ORDER BY n`, `[{"n":9,"id":3},{"n":10,"id":2}]`},
		{`SELECT n FROM t.n WHERE n IN (SELECT s FROM t.a WHERE id < 4 AND id > 1) ORDER BY n`, `[{"n":9},{"n":10}]`},
		{`SELECT n, id FROM t.n JOIN t.a ON id = x`, `[{"n":10,"id":2}]`},
		{`SELECT id FROM t.a WHERE b = 'a'`, `[{"id":1}]`},
		{`SELECT x.id, y.id FROM t.a x JOIN t.a y ON x.s = y.b`, `[{"id":3,"id_2":3}]`},
		{`SELECT n FROM t.n WHERE NOT EXISTS (SELECT 1 FROM t.a WHERE u = n) ORDER BY n`, `[{"n":9},{"n":10}]`},
	} {
		if got := f.rows(c.sql); got != c.want {
			t.Errorf("%s\n got %s\nwant %s\n%s", c.sql, got, c.want, f.plan(c.sql))
		}
	}
}

// TestIntegersDoNotWrap: what the planner would compute modulo 2^64, or cut to
// the signed range, is computed exactly or refused, wherever it stands.
func TestIntegersDoNotWrap(t *testing.T) {
	f := newFixture(t, `CREATE TABLE t.i (id BIGINT PRIMARY KEY, n BIGINT, u BIGINT UNSIGNED, CONSTRAINT c CHECK (n + 1 > n))`,
		`INSERT INTO t.i VALUES (1,9223372036854775806,18446744073709551615),(2,-9223372036854775808,9223372036854775807),(3,NULL,3)`)
	for _, c := range []struct{ sql, want string }{
		{`SELECT n + 1 AS v FROM t.i WHERE id = 1`, `[{"v":9223372036854775807}]`},
		{`SELECT n - n AS v, n + 9223372036854775807 AS w FROM t.i WHERE id = 2`, `[{"v":0,"w":-1}]`},
		{`SELECT u - 9223372036854775808 AS v FROM t.i WHERE id = 1`, `[{"v":9223372036854775807}]`},
		{`SELECT u * 0 - 1 AS v, -u AS w, 1 - u AS x FROM t.i WHERE id = 2`, `[{"v":-1,"w":-9223372036854775807,"x":-9223372036854775806}]`},
		{`SELECT n + 1 AS v, n * u AS w FROM t.i WHERE id = 3`, `[{"v":null,"w":null}]`},
		{`SELECT CAST(u AS DECIMAL(40,0)) + 1 AS v FROM t.i WHERE id = 1`, `[{"v":18446744073709551616}]`},
	} {
		if got := f.rows(c.sql); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.sql, got, c.want)
		}
	}
	for _, sql := range []string{
		`SELECT n + 2 FROM t.i WHERE id = 1`, `SELECT n - 1 FROM t.i WHERE id = 2`, `SELECT n * 2 FROM t.i WHERE id = 1`, `SELECT -1 * n FROM t.i WHERE id = 2`,
		`SELECT u * 1 FROM t.i WHERE id = 1`, `SELECT -u FROM t.i WHERE id = 1`, `SELECT u + u FROM t.i WHERE id = 1`, `SELECT 9223372036854775807 + 1`,
		`UPDATE t.i SET n = n + 2 WHERE id = 1`, `UPDATE t.i SET u = u - 1 WHERE id = 1`, `INSERT INTO t.i VALUES (4, 9223372036854775807 + 1, 1)`,
		`INSERT INTO t.i VALUES (1, 5, 1) ON DUPLICATE KEY UPDATE n = n + 2`,
	} {
		if got := f.refused(fault.ValidationFailed, sql).Message; !strings.Contains(got, "out of the range") {
			t.Errorf("%s: %s", sql, got)
		}
	}
	f.refused(fault.CheckViolation, `INSERT INTO t.i VALUES (4, 9223372036854775807, 1)`)
	if got := f.rows(`SELECT n, u FROM t.i WHERE id = 1`); got != `[{"n":9223372036854775806,"u":18446744073709551615}]` {
		t.Error(got)
	}
}

// TestJoinsAreBounded: a join of many tables is refused before it is planned.
func TestJoinsAreBounded(t *testing.T) {
	f := newFixture(t, `CREATE TABLE t.j (id BIGINT PRIMARY KEY)`, `INSERT INTO t.j VALUES (1)`)
	chain := func(n int) string {
		from, where := "t.j t0", "1 = 1"
		for i := 1; i < n; i++ {
			from += fmt.Sprintf(", t.j t%d", i)
			where += fmt.Sprintf(" AND t%d.id = t%d.id", i-1, i)
		}
		return "SELECT COUNT(*) AS n FROM " + from + " WHERE " + where
	}
	if got := f.rows(chain(7)); got != `[{"n":1}]` {
		t.Error(got)
	}
	for _, sql := range []string{chain(maxJoined + 1), "SELECT * FROM (" + chain(maxJoined+1) + ") AS x", "SELECT 1 WHERE EXISTS (" + chain(maxJoined+1) + ")", "WITH x AS (" + chain(maxJoined+1) + ") SELECT * FROM x"} {
		if got := f.refused(fault.Unsupported, sql).Message; !strings.Contains(got, "can be planned") {
			t.Errorf("%.60s: %s", sql, got)
		}
	}
}

// TestSumOfIntegersIsExact: not the double that is nearest to it.
func TestSumOfIntegersIsExact(t *testing.T) {
	f := newFixture(t, `CREATE TABLE t.s (id BIGINT PRIMARY KEY, k BIGINT, n BIGINT, u BIGINT UNSIGNED, x DOUBLE)`,
		`INSERT INTO t.s VALUES (1,1,9007199254740993,18446744073709551615,0.5),(2,1,2,1,1),(3,2,NULL,NULL,NULL)`)
	for _, c := range []struct{ sql, want string }{
		{`SELECT SUM(n) AS n, SUM(u) AS u, SUM(x) AS x, SUM(id) AS i FROM t.s`, `[{"n":9007199254740995,"u":18446744073709551616,"x":1.5,"i":6}]`},
		{`SELECT k, SUM(n) AS n FROM t.s GROUP BY k HAVING SUM(n) > 5 OR SUM(n) IS NULL ORDER BY k`, `[{"k":1,"n":9007199254740995},{"k":2,"n":null}]`},
		{`SELECT v + 1 AS w FROM (SELECT SUM(n) AS v FROM t.s) AS y WHERE v = 9007199254740995`, `[{"w":9007199254740996}]`},
		{`SELECT k FROM t.s GROUP BY k ORDER BY SUM(id) DESC, k LIMIT 1`, `[{"k":1}]`},
		{`SELECT SUM(id) / 4 AS h, SUM(DISTINCT k) AS d FROM t.s`, `[{"h":1.5,"d":3}]`},
	} {
		if got := f.rows(c.sql); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.sql, got, c.want)
		}
	}
}

func TestCountIsExactInATransaction(t *testing.T) {
	f := shopFixture(t)
	tx := f.exec("BEGIN").TxID
	f.execIn(tx, `INSERT INTO shop.customers VALUES (4,'Dee',NULL),(5,'Eve',NULL)`)
	f.execIn(tx, `DELETE FROM shop.customers WHERE id = 1`)
	if got := f.rowsIn(tx, `SELECT COUNT(*) AS n FROM shop.customers`); got != `[{"n":4}]` {
		t.Errorf("inside: %s", got)
	}
	if got := f.rows(`SELECT COUNT(*) AS n FROM shop.customers`); got != `[{"n":3}]` {
		t.Errorf("outside: %s", got)
	}
	f.execIn(tx, "ROLLBACK")
}

// TestCancelStopsAQuery runs queries that take minutes when nothing stops them,
// in the nodes that read no table any more.
func TestCancelStopsAQuery(t *testing.T) {
	f := indexed(t, 1000)
	for _, sql := range []string{
		`SELECT COUNT(*) FROM t.big a, t.big b, t.big c WHERE a.pad > b.s AND b.pad < c.s`,
		`SELECT COUNT(*) FROM t.big a JOIN t.big b ON a.pad = b.pad JOIN t.big c ON c.pad = b.pad`,
		// One row on the left: all that turns after the first pass is in memory.
		`SELECT COUNT(*) FROM (SELECT 1 AS x LIMIT 1) a, t.big b, t.big c, t.big d WHERE b.pad > c.s AND c.pad < d.s AND d.f + b.f = a.x`,
		`WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT n.i + 1 FROM n, t.big b, t.big c WHERE i < 900) SELECT COUNT(*) FROM n`,
		`SELECT * FROM t.big a WHERE EXISTS (SELECT 1 FROM t.big b, t.big c WHERE b.pad > a.s AND c.f = a.f + b.f)`,
		`INSERT INTO t.pair SELECT a.id, b.s, c.k FROM t.big a, t.big b, t.big c WHERE a.pad > b.s AND b.pad < c.s`,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		_, err := f.e.Execute(ctx, Request{Tenant: testTenant, SQL: sql})
		cancel()
		if fault.CodeOf(err) != fault.Cancelled {
			t.Errorf("%s: %v", sql, err)
		}
	}
	if got := f.rows(`SELECT COUNT(*) AS n FROM t.pair`); got != `[{"n":30}]` {
		t.Errorf("a cancelled INSERT left rows: %s", got)
	}
}

func TestFailedReadIsNoFaultOfTheRequest(t *testing.T) {
	f := shopFixture(t)
	f.st.failReads = errors.New("disk on fire")
	_, err := f.try(`SELECT * FROM shop.orders WHERE id = 1`)
	if !errors.Is(err, f.st.failReads) || fault.CodeOf(err) != fault.ServerError {
		t.Error(err)
	}
	_, err = f.try(`SELECT * FROM shop.orders`)
	if !errors.Is(err, f.st.failReads) {
		t.Error(err)
	}
}

func TestResultIsBounded(t *testing.T) {
	f := indexed(t, 1000)
	f.e.cfg.MaxResultBytes = 2000
	f.refused(fault.BodyTooLarge, `SELECT * FROM t.big`)
	if got := f.exec(`SELECT * FROM t.big LIMIT 10`).RowCount; got != 10 {
		t.Error(got)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	f := indexed(t, 2000)
	f.e.cfg.MaxBufferedBytes = 100_000
	for _, sql := range []string{
		`SELECT * FROM t.big ORDER BY pad, f`,
		`SELECT a.id FROM t.big a JOIN t.big b ON a.pad = b.pad AND a.f = b.f`,
		`SELECT id, SUM(f) OVER (ORDER BY f) FROM t.big`,
		`SELECT MAX(s) FROM (SELECT REPEAT(pad, 10000) AS s FROM t.big) AS x`,
		`SELECT LENGTH(GROUP_CONCAT(REPEAT(pad, 10000))) FROM t.big`,
		`UPDATE t.big SET pad = 'x' ORDER BY pad`,
		`SELECT JSON_LENGTH(JSON_ARRAYAGG(a.pad)) FROM t.big a`,
		`SELECT JSON_LENGTH(JSON_OBJECTAGG(a.id, a.pad)) FROM t.big a`,
		`SELECT LENGTH(GROUP_CONCAT(pad)) FROM t.big`,
	} {
		f.refused(fault.BodyTooLarge, sql)
	}
	for _, sql := range []string{
		`SELECT SUM(f), COUNT(DISTINCT k) FROM t.big`,
		`SELECT * FROM t.big ORDER BY id`,
		`SELECT * FROM t.big ORDER BY f DESC LIMIT 3`,
		`SELECT a.id FROM t.big a JOIN t.big b ON a.id = b.id`,
	} {
		f.exec(sql)
	}
}

func TestNothingIsLeftOfAStatement(t *testing.T) {
	f := indexed(t, 100)
	round := func() uint64 {
		for i := range 400 {
			f.exec(`SELECT b.id, p.v FROM t.big b LEFT JOIN t.pair p ON p.v = b.id WHERE b.k = ? ORDER BY b.f LIMIT 3`, i%10)
			f.exec(`SELECT id FROM t.big WHERE s = ? AND pad REGEXP '^p' AND id IN (SELECT v FROM t.pair)`, fmt.Sprintf("s%06d", i%100))
			f.refused(fault.UnknownColumn, fmt.Sprintf(`SELECT nope%d FROM t.big`, i))
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	round()
	before, goroutines := round(), runtime.NumGoroutine()
	if after := round(); after > before+2<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before, after)
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines became %d", goroutines, n)
	}
}

func TestTenantsDoNotSeeEachOther(t *testing.T) {
	f := shopFixture(t)
	other := testTenant
	other[0] ^= 1
	for _, sql := range []string{`SELECT * FROM shop.orders`, `DELETE FROM shop.orders`, `SHOW CREATE TABLE shop.orders`} {
		_, err := f.e.Execute(t.Context(), Request{Tenant: other, SQL: sql})
		if fault.CodeOf(err) != fault.UnknownTable {
			t.Errorf("%s: %v", sql, err)
		}
	}
	tx := f.exec("BEGIN").TxID
	_, err := f.e.Execute(t.Context(), Request{Tenant: other, SQL: "COMMIT", TxID: tx})
	if fault.CodeOf(err) != fault.NotFound {
		t.Error(err)
	}
	f.execIn(tx, "ROLLBACK")
}

func TestShow(t *testing.T) {
	f := shopFixture(t)
	for _, c := range []struct{ sql, want string }{
		{`SHOW DATABASES`, `{"kind":"select","columns":["Database"],"rows":[{"Database":"shop"}]}`},
		{`SHOW TABLES FROM shop`, `{"kind":"select","columns":["Table"],"rows":[{"Table":"customers"},{"Table":"orders"}]}`},
		{`SHOW TABLES`, `{"kind":"select","columns":["Table"],"rows":[{"Table":"shop.customers"},{"Table":"shop.orders"}]}`},
		{`DESCRIBE shop.customers`, `{"kind":"select","columns":["Field","Type","Null","Key","Default"],"rows":[{"Field":"id","Type":"BIGINT","Null":"NO","Key":"PRI","Default":null},{"Field":"name","Type":"TEXT","Null":"NO","Key":"","Default":null},{"Field":"city","Type":"TEXT","Null":"YES","Key":"","Default":null}]}`},
	} {
		if got := f.json(c.sql); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.sql, got, c.want)
		}
	}
	f.refused(fault.Unsupported, `SHOW TABLES FROM shop LIKE 'o%'`)
	f.refused(fault.Unsupported, `SHOW VARIABLES`)
	f.refused(fault.Unsupported, `SHOW PROCESSLIST`)
}
