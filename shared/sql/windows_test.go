package sql

import (
	"fmt"
	"strings"
	"testing"

	"originchain/shared/fault"
)

// windowQuery is a random query with window functions whose result does not
// depend on an order of rows that its windows leave open.
func (o *oracle) windowQuery() string {
	total := o.pick("id", "id DESC", "k, id", "k DESC, id", "s, id DESC", "f DESC, k, id", "u, k DESC, id")
	loose := o.pick("k", "k DESC", "s", "f", "f DESC", "k, s", "s DESC, f", "id % 3", "k % 2 DESC, f")
	part := o.pick("", "", "PARTITION BY k ", "PARTITION BY s ", "PARTITION BY k, f ", "PARTITION BY k % 2 ")
	agg := o.pick("COUNT(*)", "COUNT(k)", "COUNT(f)", "SUM(f)", "SUM(u)", "SUM(id)", "AVG(f)", "AVG(id)", "MIN(f)", "MIN(s)", "MAX(s)", "MAX(k)", "MIN(k)", "MAX(id + u)")
	bound := func(n string) string { return o.pick("UNBOUNDED "+n, o.pick("0", "1", "2", "3", "50")+" "+n) }
	rows := o.pick(
		"ROWS UNBOUNDED PRECEDING", "ROWS 2 PRECEDING", "ROWS CURRENT ROW",
		"ROWS BETWEEN "+bound("PRECEDING")+" AND CURRENT ROW",
		"ROWS BETWEEN "+bound("PRECEDING")+" AND "+bound("FOLLOWING"),
		"ROWS BETWEEN CURRENT ROW AND "+bound("FOLLOWING"),
		"ROWS BETWEEN "+o.pick("1", "2", "50")+" FOLLOWING AND "+bound("FOLLOWING"),
		"ROWS BETWEEN "+bound("PRECEDING")+" AND "+o.pick("1", "2", "50")+" PRECEDING")
	peers := o.pick("", "RANGE UNBOUNDED PRECEDING", "RANGE BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW", "RANGE BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING",
		"RANGE CURRENT ROW", "RANGE BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING")
	near := o.pick("RANGE 2 PRECEDING", "RANGE BETWEEN 2 PRECEDING AND 1 FOLLOWING", "RANGE BETWEEN CURRENT ROW AND 3 FOLLOWING", "RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING",
		"RANGE BETWEEN 1 FOLLOWING AND UNBOUNDED FOLLOWING", "RANGE BETWEEN 4 PRECEDING AND 2 PRECEDING", "RANGE BETWEEN 1 FOLLOWING AND 2 FOLLOWING")
	from := o.pick("t.x", "t.x", "t.x WHERE k > 100", "t.x WHERE "+o.predicate("", 1), "(SELECT * FROM t.x WHERE k IS NOT NULL) AS d",
		"(SELECT x.id * 1000 + y.a AS id, x.k AS k, x.f AS f, y.b AS s, x.u AS u FROM t.x AS x JOIN (SELECT a, MIN(b) AS b, MAX(n) AS n FROM t.y GROUP BY a) AS y ON y.n = x.k) AS d")
	first := o.pick("FIRST_VALUE", "LAST_VALUE")
	switch o.rnd.IntN(16) {
	case 0, 1, 2:
		return fmt.Sprintf("SELECT id, %s OVER (%sORDER BY %s %s) AS v FROM %s", agg, part, total, rows, from)
	case 3, 4:
		return fmt.Sprintf("SELECT id, %s OVER (%sORDER BY %s %s) AS v FROM %s", agg, part, loose, peers, from)
	case 5:
		return fmt.Sprintf("SELECT id, %s OVER (%sORDER BY %s %s) AS v FROM %s", agg, part, o.pick("id", "id DESC", "f", "f DESC"), near, from)
	case 6:
		return fmt.Sprintf("SELECT id, %s OVER (%s) AS v, %s OVER () AS w FROM %s", agg, part, o.pick("MAX(id)", "SUM(f)", "COUNT(*)"), from)
	case 7:
		return fmt.Sprintf("SELECT id, RANK() OVER (%[1]sORDER BY %[2]s) AS v, DENSE_RANK() OVER (%[1]sORDER BY %[2]s) AS w, PERCENT_RANK() OVER (%[1]sORDER BY %[2]s) AS p FROM %[3]s", part, loose, from)
	case 8:
		return fmt.Sprintf("SELECT id, ROW_NUMBER() OVER (%[1]sORDER BY %[2]s) AS v, NTILE(3) OVER (%[1]sORDER BY %[2]s) AS w, NTILE(%[3]s) OVER (%[1]sORDER BY %[2]s) AS y FROM %[4]s", part, total, o.pick("1", "2", "7", "100"), from)
	case 9:
		arg := o.pick("id", "k", "f", "s")
		return fmt.Sprintf("SELECT id, %s(%s%s) OVER (%sORDER BY %s) AS v FROM %s", o.pick("LAG", "LEAD"), arg, o.pick("", ", 0", ", 1", ", 2", ", 3, 77", ", 1, id", ", 100"), part, total, from)
	case 10:
		return fmt.Sprintf("SELECT id, %s(%s) OVER (%sORDER BY %s %s) AS v FROM %s", first, o.pick("id", "k", "f", "s"), part, total, rows, from)
	case 11:
		return fmt.Sprintf("SELECT id, %s OVER w AS v, %s OVER (w ORDER BY %s) AS y, COUNT(*) OVER () AS z FROM %s WINDOW w AS (%s)", agg, o.pick("SUM(f)", "COUNT(*)", "MAX(k)", "ROW_NUMBER()"), total, from, part)
	case 12:
		return fmt.Sprintf("SELECT id, %s OVER q AS v, RANK() OVER (w ORDER BY %s) AS y FROM %s WINDOW w AS (%s), q AS (w ORDER BY %s %s)", agg, loose, from, part, total, rows)
	case 13:
		return fmt.Sprintf("WITH w AS (SELECT id, %s OVER (%sORDER BY %s) AS v FROM %s) SELECT v, COUNT(*) FROM w GROUP BY v", agg, part, loose, from)
	case 14:
		return fmt.Sprintf("SELECT DISTINCT %s OVER (%sORDER BY %s %s) AS v FROM %s", agg, part, loose, peers, from)
	}
	return fmt.Sprintf("SELECT id FROM (SELECT id, %s OVER (%sORDER BY %s %s) AS v FROM %s) AS e WHERE v IS NOT NULL UNION ALL SELECT a FROM t.y", agg, part, total, rows, from)
}

func TestSQLiteAgreesOnWindows(t *testing.T) {
	o := newOracle(t, 4)
	o.load(40)
	for range 1500 {
		o.compare(o.windowQuery(), false)
	}
	for range 150 {
		o.compare(fmt.Sprintf("SELECT id, %s OVER (ORDER BY %s) AS v FROM t.x ORDER BY %s LIMIT %d OFFSET %d",
			o.pick("SUM(f)", "COUNT(*)", "ROW_NUMBER()", "MAX(k)"), o.pick("id DESC", "k, id", "s DESC, id"), o.pick("id", "v, id", "id DESC"), o.rnd.IntN(6)+1, o.rnd.IntN(4)), true)
	}
}

func windowFixture(t *testing.T) *fixture {
	t.Helper()
	return newFixture(t, `CREATE TABLE t.w (id BIGINT PRIMARY KEY, k BIGINT, u BIGINT UNSIGNED, x DOUBLE, s TEXT, raw BLOB, b BOOLEAN)`,
		`INSERT INTO t.w VALUES (1,1,18446744073709551615,1e30,'A',X'00ff',true),(2,1,9223372036854775808,1,'a',X'00ff',true),(3,2,5,NULL,NULL,NULL,false),(4,2,NULL,2,'b',X'61',NULL),(5,9223372036854775807,1,3,'B',X'62',true)`)
}

// TestWindowValues: what SQLite has no type for, or computes in another way.
func TestWindowValues(t *testing.T) {
	f := windowFixture(t)
	for _, c := range []struct{ window, want string }{
		{`RANK() OVER (ORDER BY raw)`, `2,2,1,4,5`},
		{`DENSE_RANK() OVER (ORDER BY raw DESC)`, `3,3,4,2,1`},
		{`RANK() OVER (ORDER BY k * 0.5)`, `1,1,3,3,5`},
		{`RANK() OVER (ORDER BY u)`, `5,4,3,1,2`},
		{`COUNT(*) OVER (PARTITION BY raw)`, `2,2,1,1,1`},
		{`HEX(LAG(raw) OVER (ORDER BY id))`, `null,"00FF","00FF",null,"61"`},
		{`HEX(MAX(raw) OVER (ORDER BY id ROWS 1 PRECEDING))`, `"00FF","00FF","00FF","61","62"`},
		{`SUM(u) OVER (ORDER BY id)`, `18446744073709551615,27670116110564327423,27670116110564327428,27670116110564327428,27670116110564327429`},
		{`MAX(u) OVER (ORDER BY id DESC)`, `18446744073709551615,9223372036854775808,5,1,1`},
		{`COUNT(*) OVER (ORDER BY u RANGE BETWEEN 10 PRECEDING AND CURRENT ROW)`, `1,1,2,1,1`},
		{`COUNT(*) OVER (ORDER BY k RANGE BETWEEN CURRENT ROW AND 10 FOLLOWING)`, `4,4,2,2,1`},
		{`SUM(x) OVER (ORDER BY id ROWS CURRENT ROW)`, `1e+30,1,null,2,3`},
		{`SUM(k) OVER (ORDER BY id ROWS 1 PRECEDING) - 1`, `0,1,2,3,9223372036854775808`},
		{`SUM(b) OVER (ORDER BY id)`, `1,2,2,2,3`},
		{`SUM(s = 'a') OVER () + 10 * (SUM(s = 'A') OVER ())`, `11,11,11,11,11`},
		{`NTILE(2) OVER (ORDER BY id) * 10 + NTILE(3) OVER (ORDER BY id)`, `11,11,12,22,23`},
		{`JSON_ARRAYAGG(id) OVER ()`, `[1,2,3,4,5],[1,2,3,4,5],[1,2,3,4,5],[1,2,3,4,5],[1,2,3,4,5]`},
		{`JSON_ARRAYAGG(id) OVER (ORDER BY id DESC ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)`, `[1],[2,1],[3,2,1],[4,3,2,1],[5,4,3,2,1]`},
		{`VAR_POP(id) OVER (ORDER BY id ROWS 1 PRECEDING)`, `0,0.25,0.25,0.25,0.25`},
		{`STDDEV_SAMP(id) OVER (ORDER BY id ROWS CURRENT ROW)`, `null,null,null,null,null`},
		{`MIN(id) OVER (ORDER BY id ROWS BETWEEN CURRENT ROW AND 9223372036854775807 FOLLOWING)`, `1,2,3,4,5`},
		{`MIN(id) OVER (ORDER BY id ROWS BETWEEN 18446744073709551615 PRECEDING AND 2 PRECEDING)`, `null,null,1,1,1`},
		{`COUNT(*) OVER (ORDER BY TIMESTAMP(CONCAT('2024-05-0', id)) DESC RANGE BETWEEN INTERVAL 1 DAY PRECEDING AND CURRENT ROW)`, `2,2,2,2,1`},
		{`TRIM(LEADING 'A' FROM LAG(s) OVER (ORDER BY id))`, `null,"","a",null,"b"`},
		{`SUM((SELECT COUNT(*) FROM t.w i WHERE i.k = w.k)) OVER (ORDER BY id)`, `2,4,6,8,9`},
	} {
		var got []string
		rows := f.rows("SELECT " + c.window + " AS v FROM t.w AS w ORDER BY id")
		for _, row := range strings.Split(strings.TrimSuffix(rows, "}]"), "},") {
			got = append(got, strings.TrimPrefix(strings.TrimPrefix(row, "["), `{"v":`))
		}
		if got := strings.Join(got, ","); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.window, got, c.want)
		}
	}
	for _, c := range []struct{ sql, want string }{
		{`SELECT id, ROW_NUMBER() OVER w AS r FROM t.w WHERE id < 3 WINDOW w AS (ORDER BY id DESC) UNION ALL SELECT id, RANK() OVER w FROM t.w WHERE id < 3 WINDOW w AS (ORDER BY k)`,
			`[{"id":1,"r":2},{"id":2,"r":1},{"id":1,"r":1},{"id":2,"r":1}]`},
		{`SELECT id, ROW_NUMBER() OVER (ORDER BY id DESC) + 1 AS r FROM t.w ORDER BY ROW_NUMBER() OVER (ORDER BY id DESC) LIMIT 2`, `[{"id":5,"r":2},{"id":4,"r":3}]`},
		{`SELECT v FROM (SELECT SUM(i.b) OVER (ORDER BY i.id, j.id, l.id, m.id) AS v FROM t.w i, t.w j, t.w l, t.w m) AS d ORDER BY v DESC LIMIT 1`, `[{"v":375}]`},
		{`SELECT o.id, (SELECT SUM(o.id) OVER (ORDER BY i.id) FROM t.w i ORDER BY i.id DESC LIMIT 1) AS v FROM t.w o WHERE o.id < 3`, `[{"id":1,"v":5},{"id":2,"v":10}]`},
		{`SELECT DISTINCT raw, RANK() OVER (ORDER BY raw) AS r FROM t.w`, `[{"raw":"AP8=","r":2},{"raw":null,"r":1},{"raw":"YQ==","r":4},{"raw":"Yg==","r":5}]`},
	} {
		if got := f.rows(c.sql); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.sql, got, c.want)
		}
	}
	if got := f.rows(`SELECT LAG(id, ?, 'none') OVER w AS a, NTILE(?) OVER w AS b FROM t.w WHERE id < 3 WINDOW w AS (ORDER BY id)`, 1, 2); got != `[{"a":"none","b":1},{"a":1,"b":2}]` {
		t.Error(got)
	}
}

// TestWindowsAreRefused: what is no window, or cannot be computed, is not taken
// for something else.
func TestWindowsAreRefused(t *testing.T) {
	f := windowFixture(t)
	for _, c := range []struct {
		code  fault.Code
		query string
		says  string
	}{
		{fault.ValidationFailed, `SUM(x) OVER nope FROM t.w`, "no window nope"},
		{fault.ValidationFailed, `SUM(x) OVER (nope ORDER BY id) FROM t.w`, "no window nope"},
		{fault.ValidationFailed, `SUM(x) OVER w FROM t.w WINDOW w AS (nope)`, "no window nope"},
		{fault.ValidationFailed, `(SELECT SUM(x) OVER w FROM t.w) FROM t.w WINDOW w AS ()`, "no window w"},
		{fault.ValidationFailed, `SUM(x) OVER w FROM t.w WINDOW w AS (q), q AS (w)`, "by itself"},
		{fault.ValidationFailed, `SUM(x) OVER w FROM t.w WINDOW w AS (ORDER BY id), W AS ()`, "twice"},
		{fault.ValidationFailed, `SUM(x) OVER (w PARTITION BY s) FROM t.w WINDOW w AS (ORDER BY id)`, "cannot add PARTITION BY"},
		{fault.ValidationFailed, `SUM(x) OVER (w ORDER BY s) FROM t.w WINDOW w AS (ORDER BY id)`, "another ORDER BY"},
		{fault.ValidationFailed, `SUM(x) OVER (w ROWS 1 PRECEDING) FROM t.w WINDOW w AS (ORDER BY id ROWS 2 PRECEDING)`, "has a frame"},
		{fault.UnknownColumn, `SUM(x) OVER w FROM t.w WINDOW w AS (), q AS (ORDER BY nope)`, "nope"},
		{fault.ValidationFailed, `id FROM t.w WHERE ROW_NUMBER() OVER (ORDER BY id) = 1`, "subquery in FROM"},
		{fault.ValidationFailed, `id FROM t.w HAVING ROW_NUMBER() OVER (ORDER BY id) = 1`, "subquery in FROM"},
		{fault.ValidationFailed, `1 FROM t.w a JOIN t.w b ON ROW_NUMBER() OVER () = b.id`, "subquery in FROM"},
		{fault.ValidationFailed, `SUM(SUM(x) OVER ()) OVER () FROM t.w`, "subquery in FROM"},
		{fault.ValidationFailed, `SUM(x) OVER (ORDER BY RANK() OVER ()) FROM t.w`, "subquery in FROM"},
		{fault.ValidationFailed, `id FROM t.w UNION SELECT id FROM t.w ORDER BY ROW_NUMBER() OVER (ORDER BY id)`, "subquery in FROM"},
		{fault.Unsupported, `BIT_OR(k) OVER (ORDER BY id) FROM t.w`, "BIT_OR is not available over"},
		{fault.Unsupported, `CUME_DIST() OVER (ORDER BY id) FROM t.w`, "CUME_DIST is not available over"},
		{fault.ValidationFailed, `SUM(*) OVER () FROM t.w`, "not *"},
		{fault.ValidationFailed, `SUM(*) FROM t.w`, "not *"},
		{fault.ValidationFailed, `COUNT(DISTINCT *) FROM t.w`, "not *"},
		{fault.ValidationFailed, `NTILE(id) OVER () FROM t.w WHERE id > 9`, "NTILE takes"},
		{fault.ValidationFailed, `NTILE(0) OVER () FROM t.w`, "NTILE takes"},
		{fault.ValidationFailed, `LAG(x, id) OVER (ORDER BY id) FROM t.w`, "distance of LAG"},
		{fault.ValidationFailed, `LEAD(x, -1) OVER (ORDER BY id) FROM t.w`, "distance of LEAD"},
		{fault.ValidationFailed, `COUNT(*) OVER (ORDER BY s RANGE 1 PRECEDING) FROM t.w`, "orders by a number"},
		{fault.ValidationFailed, `COUNT(*) OVER (ORDER BY id, k RANGE 1 PRECEDING) FROM t.w`, "one expression"},
		{fault.ValidationFailed, `COUNT(*) OVER (RANGE 1 PRECEDING) FROM t.w`, "one expression"},
		{fault.ValidationFailed, `COUNT(*) OVER (ORDER BY id ROWS INTERVAL 1 DAY PRECEDING) FROM t.w`, "cannot bound a frame"},
		{fault.ValidationFailed, `COUNT(*) OVER (ORDER BY id RANGE INTERVAL 1 DAY PRECEDING) FROM t.w`, "orders by a number"},
		{fault.ValidationFailed, `COUNT(*) OVER (ORDER BY TIMESTAMP('2024-05-06') RANGE INTERVAL NULL DAY PRECEDING) FROM t.w`, "no distance"},
		{fault.ValidationFailed, `SUM(k + 1) OVER () FROM t.w`, "out of the range"},
		{fault.ValidationFailed, `MIN(k + 1) OVER (PARTITION BY s) FROM t.w`, "out of the range"},
		{fault.ValidationFailed, `LAG(k + 1) OVER (ORDER BY id) FROM t.w`, "out of the range"},
		{fault.ValidationFailed, `RANK() OVER (ORDER BY k + 1) FROM t.w`, "out of the range"},
	} {
		if got := f.refused(c.code, "SELECT "+c.query).Message; !strings.Contains(got, c.says) {
			t.Errorf("%s: %s", c.query, got)
		}
	}
}

// TestWindowsAreBounded: each window arranges the rows anew, and some functions
// have a value of every row in each.
func TestWindowsAreBounded(t *testing.T) {
	f := indexed(t, 2000)
	f.e.cfg.MaxBufferedBytes = 1 << 20
	many := `SELECT id`
	for i := range 40 {
		many += fmt.Sprintf(", SUM(f) OVER (ORDER BY f %% %d)", i+2)
	}
	for _, sql := range []string{
		many + ` FROM t.big`,
		`SELECT LENGTH(JSON_ARRAYAGG(id) OVER (ORDER BY id)) FROM t.big`,
		`SELECT LENGTH(MAX(REPEAT(pad, 1000)) OVER ()) FROM t.big`,
	} {
		f.refused(fault.BodyTooLarge, sql)
	}
	if got := f.rows(`SELECT v FROM (SELECT id, SUM(id) OVER (ORDER BY f DESC) AS v, COUNT(*) OVER (PARTITION BY k) AS n FROM t.big) AS d WHERE id = 1998`); got != `[{"v":3997}]` {
		t.Error(got)
	}
}
