package sql

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"originchain/shared/fault"
	"originchain/shared/schema"
)

// TestBitOperatorsAreExact: over all 64 bits, whatever the types of the operands,
// in the value and in the type that is computed with above.
func TestBitOperatorsAreExact(t *testing.T) {
	f := newFixture(t, `CREATE TABLE t.b (id BIGINT PRIMARY KEY, u BIGINT UNSIGNED, i BIGINT, f DOUBLE, s TEXT, p BOOLEAN, raw BLOB)`,
		`INSERT INTO t.b VALUES (1,18446744073709551615,-1,2.5,'7',true,X'0f'),(2,9223372036854775809,-9223372036854775808,3.5,'18446744073709551615',false,NULL),(3,NULL,NULL,NULL,NULL,NULL,NULL)`)
	for _, c := range []struct{ sql, want string }{
		{`SELECT u & 255 AS a, u | 0 AS b, u ^ i AS c, ~u AS d, u >> 1 AS e, u << 1 AS f, i >> 63 AS g FROM t.b`,
			`[{"a":255,"b":18446744073709551615,"c":0,"d":0,"e":9223372036854775807,"f":18446744073709551614,"g":1},` +
				`{"a":1,"b":9223372036854775809,"c":1,"d":9223372036854775806,"e":4611686018427387904,"f":2,"g":1},` +
				`{"a":null,"b":null,"c":null,"d":null,"e":null,"f":null,"g":null}]`},
		{`SELECT f & 7 AS a, s | 0 AS b, p | 2 AS c FROM t.b WHERE id < 3`, `[{"a":2,"b":7,"c":3},{"a":4,"b":18446744073709551615,"c":2}]`},
		{`SELECT ~0 AS a, ~~5 + 1 AS b, -1 & 18446744073709551615 AS c, 2.5 & 7 AS d, 1 << 63 AS e, 1 << 64 AS f, 1 << -1 AS g, NULL & 1 AS h, 1 | NULL AS i`,
			`[{"a":18446744073709551615,"b":6,"c":18446744073709551615,"d":3,"e":9223372036854775808,"f":0,"g":0,"h":null,"i":null}]`},
		// Above the operator, where the type counts and not the value alone.
		{`SELECT w FROM (SELECT u & 9223372036854775809 AS w FROM t.b) AS d WHERE w = 9223372036854775809`, `[{"w":9223372036854775809},{"w":9223372036854775809}]`},
		{`SELECT MAX(u | 1) AS m, MIN(~u) AS n FROM t.b`, `[{"m":18446744073709551615,"n":0}]`},
		{`SELECT u & 1 AS k, COUNT(*) AS n FROM t.b GROUP BY u & 1 ORDER BY u & 1 DESC`, `[{"k":1,"n":2},{"k":null,"n":1}]`},
		{`SELECT id FROM t.b WHERE u & 1 = 1 AND u | 1 < 18446744073709551615 ORDER BY u ^ 1`, `[{"id":2}]`},
		{`SELECT u | 0 AS v FROM t.b UNION SELECT ~1 ORDER BY 1 DESC LIMIT 1`, `[{"v":18446744073709551615}]`},
		{`WITH c AS (SELECT u << 1 AS v FROM t.b) SELECT v FROM c UNION ALL SELECT u ^ 1 FROM t.b ORDER BY v & 18446744073709551615 DESC LIMIT 1`, `[{"v":18446744073709551614}]`},
		{`SELECT id, SUM(1) OVER w AS n FROM t.b WINDOW w AS (PARTITION BY u & 2 ORDER BY id)`, `[{"id":1,"n":1},{"id":2,"n":1},{"id":3,"n":1}]`},
		{`SELECT id FROM t.b a WHERE EXISTS (SELECT 1 FROM t.b x WHERE x.u & a.u = 9223372036854775809 AND x.id = 2)`, `[{"id":1},{"id":2}]`},
		{`SELECT CASE WHEN u & 4 THEN ~u ELSE u ^ 3 END AS v FROM t.b WHERE id < 3`, `[{"v":0},{"v":9223372036854775810}]`},
	} {
		if got := f.rows(c.sql); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.sql, got, c.want)
		}
	}
	for code, list := range map[fault.Code][]string{
		fault.Unsupported:      {`SELECT raw & 1 FROM t.b`, `SELECT X'0f' | 1`, `SELECT NOW() & 1`},
		fault.TypeMismatch:     {`SELECT 'abc' & 1`},
		fault.ValidationFailed: {`SELECT 1e30 & 1`, `SELECT 18446744073709551616 & 1`, `SELECT -9223372036854775809 | 0`},
	} {
		for _, sql := range list {
			f.refused(code, sql)
		}
	}
	f.exec(`UPDATE t.b SET u = ~u | (id << 62) WHERE u & 1 = 1`)
	f.exec(`INSERT INTO t.b (id, u) VALUES (1, 0) ON DUPLICATE KEY UPDATE u = u ^ ~1`)
	f.exec(`INSERT INTO t.b (id, u) VALUES (4, ~0 ^ 1)`)
	if got := f.rows(`SELECT id, u FROM t.b WHERE u IS NOT NULL`); got != `[{"id":1,"u":13835058055282163710},{"id":2,"u":18446744073709551614},{"id":4,"u":18446744073709551614}]` {
		t.Error(got)
	}
}

// TestBitOperatorsAgreeWithTheMachine: random operands, in a column and as
// literals.
func TestBitOperatorsAgreeWithTheMachine(t *testing.T) {
	rnd := rand.New(rand.NewPCG(4, 1))
	f := newFixture(t, `CREATE TABLE t.r (id BIGINT PRIMARY KEY, a BIGINT UNSIGNED, b BIGINT UNSIGNED, i BIGINT)`)
	for id := range 100 {
		a, b := rnd.Uint64()|uint64(id%2)<<63, rnd.Uint64()>>rnd.IntN(64)
		n := rnd.Uint64() % 70
		f.exec(`INSERT INTO t.r VALUES (?, ?, ?, ?)`, id, a, b, int64(b))
		var shifted [2]uint64
		if n < 64 {
			shifted = [2]uint64{a << n, a >> n}
		}
		want := fmt.Sprintf(`[{"and":%d,"or":%d,"xor":%d,"not":%d,"l":%d,"r":%d}]`, a&b, a|b, a^b, ^a, shifted[0], shifted[1])
		for _, operand := range []string{"b", "i", fmt.Sprint(b), fmt.Sprint(int64(b))} {
			q := strings.ReplaceAll("SELECT a & B AS `and`, a | B AS `or`, a ^ B AS `xor`, ~a AS `not`, a << N AS l, a >> N AS r FROM t.r WHERE id = ?", "B", operand)
			if got := f.rows(strings.ReplaceAll(q, "N", fmt.Sprint(n)), id); got != want {
				t.Errorf("%d, %d by %d with %s:\n got %s\nwant %s", a, b, n, operand, got, want)
			}
		}
	}
}

// TestBitsInChecks: a constraint keeps the text that was written, and is compiled
// by several goroutines at the same time.
func TestBitsInChecks(t *testing.T) {
	tbl := checkedTable(t, `qty & 9223372036854775808 = 9223372036854775808`, `~qty = 9223372036854775807`, `qty >> 63 = 1 AND id | 1 = 5`, `raw & 1 = 1`)
	checks, err := CompileChecks(tbl)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i, check := range checks {
				ok, err := check(checkedRow())
				if err != nil || !ok {
					t.Errorf("check %d: %v, %v", i, ok, err)
				}
			}
		})
	}
	all.Wait()
	row := checkedRow()
	row[1] = schema.U64(1)
	for i, check := range checks[:3] {
		if ok, err := check(row); err != nil || ok {
			t.Errorf("check %d of another row: %v, %v", i, ok, err)
		}
	}
	f := newFixture(t, `CREATE TABLE t.c (id BIGINT PRIMARY KEY, u BIGINT UNSIGNED, CHECK (~u & 1 = 0))`)
	if got := f.rows(`SHOW CREATE TABLE t.c`); !strings.Contains(got, `CHECK (~u & 1 = 0)`) {
		t.Error(got)
	}
	f.exec(`INSERT INTO t.c VALUES (1, 18446744073709551615)`)
	f.refused(fault.CheckViolation, `INSERT INTO t.c VALUES (2, 18446744073709551614)`)
}
