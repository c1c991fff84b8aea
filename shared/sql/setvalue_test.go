package sql

import (
	"testing"

	"originchain/shared/fault"
)

// TestSetOperationsConvertExactly: columns of two types have one, and no value is
// changed for that.
func TestSetOperationsConvertExactly(t *testing.T) {
	f := newFixture(t, `CREATE TABLE t.m (id BIGINT PRIMARY KEY, u BIGINT UNSIGNED, s TEXT, raw BLOB)`, `INSERT INTO t.m VALUES (9,18446744073709551615,'a',X'00ff'),(10,2,'b',X'61')`)
	for _, c := range []struct{ sql, want string }{
		{`SELECT u FROM t.m WHERE id = 10 UNION SELECT id FROM t.m`, `[{"u":2},{"u":9},{"u":10}]`},
		{`SELECT u FROM t.m UNION ALL SELECT u FROM t.m WHERE id = 9`, `[{"u":18446744073709551615},{"u":2},{"u":18446744073709551615}]`},
		{`SELECT CAST(u AS DECIMAL(20,0)) AS v FROM t.m INTERSECT SELECT CAST(9223372036854775807 AS DECIMAL(20,0))`, `[]`},
		{`SELECT NULL AS v UNION ALL SELECT raw FROM t.m WHERE id = 10`, `[{"v":null},{"v":"a"}]`},
		{`SELECT CAST(NULL AS BINARY) AS v UNION ALL SELECT raw FROM t.m`, `[{"v":null},{"v":"AP8="},{"v":"YQ=="}]`},
	} {
		if got := f.rows(c.sql); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.sql, got, c.want)
		}
	}
	for _, c := range []struct {
		code fault.Code
		sql  string
	}{
		{fault.ValidationFailed, `SELECT u FROM t.m UNION SELECT id FROM t.m`},
		{fault.ValidationFailed, `SELECT u FROM t.m INTERSECT SELECT 9223372036854775807`},
		{fault.ValidationFailed, `SELECT 1 WHERE EXISTS (SELECT id FROM t.m EXCEPT SELECT u FROM t.m)`},
		{fault.ValidationFailed, `SELECT COUNT(*) FROM (SELECT id FROM t.m UNION SELECT u FROM t.m) AS d`},
		{fault.TypeMismatch, `SELECT NULL AS v UNION ALL SELECT raw FROM t.m`},
		{fault.TypeMismatch, `SELECT s FROM t.m UNION SELECT raw FROM t.m`},
	} {
		f.refused(c.code, c.sql)
	}
}
