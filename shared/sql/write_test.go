package sql

import (
	"strings"
	"testing"

	"originchain/shared/fault"
)

func TestAnswersOfChanges(t *testing.T) {
	f := newFixture(t)
	for _, c := range []struct{ sql, want string }{
		{`CREATE TABLE s.t (id BIGINT PRIMARY KEY, n BIGINT DEFAULT 5, u TEXT, UNIQUE KEY by_u (u))`, `{"kind":"createtable","schema":"s.t","created":true}`},
		{`CREATE TABLE IF NOT EXISTS s.t (id BIGINT PRIMARY KEY)`, `{"kind":"createtable","schema":"s.t","created":false}`},
		{`CREATE INDEX by_n ON s.t (n)`, `{"kind":"createindex","schema":"s.t","index":"by_n","created":true,"rows_indexed":0}`},
		{`INSERT INTO s.t (id, u) VALUES (1, 'a'), (2, 'b')`, `{"kind":"insert","schema":"s.t","inserted":2,"rows":[]}`},
		{`INSERT IGNORE INTO s.t (id, u) VALUES (1, 'x'), (3, 'a'), (4, 'd')`, `{"kind":"insert","schema":"s.t","inserted":1,"skipped":2,"rows":[]}`},
		{`INSERT INTO s.t VALUES (1, 1, 'z'), (5, 1, 'e') ON DUPLICATE KEY UPDATE n = n + VALUES(n)`, `{"kind":"insert","schema":"s.t","inserted":1,"updated":1,"rows":[]}`},
		{`INSERT INTO s.t VALUES (6, 9, 'a') AS new ON DUPLICATE KEY UPDATE n = new.n`, `{"kind":"insert","schema":"s.t","inserted":0,"updated":1,"rows":[]}`},
		{`REPLACE INTO s.t VALUES (2, 2, 'bb'), (7, 7, 'g')`, `{"kind":"insert","schema":"s.t","inserted":1,"updated":1,"rows":[]}`},
		{`REPLACE INTO s.t VALUES (8, 8, 'g')`, `{"kind":"insert","schema":"s.t","inserted":0,"updated":1,"rows":[]}`},
		{`SELECT * FROM s.t ORDER BY id`, `{"kind":"select","columns":["id","n","u"],"rows":[{"id":1,"n":9,"u":"a"},{"id":2,"n":2,"u":"bb"},{"id":4,"n":5,"u":"d"},{"id":5,"n":1,"u":"e"},{"id":8,"n":8,"u":"g"}]}`},
		{`UPDATE s.t SET n = n + 1 WHERE id < 5`, `{"kind":"update","schema":"s.t","rows_affected":3}`},
		{`UPDATE s.t SET n = 0 WHERE id = 99`, `{"kind":"update","schema":"s.t","rows_affected":0}`},
		{`DELETE FROM s.t WHERE id = 4`, `{"kind":"delete","schema":"s.t","pk":"4","rows_affected":1}`},
		{`DELETE FROM s.t WHERE id = 4`, `{"kind":"delete","schema":"s.t","pk":null,"rows_affected":0}`},
		{`DELETE FROM s.t WHERE id = 1 AND n = 10`, `{"kind":"delete","schema":"s.t","pk":null,"rows_affected":1}`},
		{`DELETE FROM s.t`, `{"kind":"delete","schema":"s.t","pk":null,"rows_affected":3}`},
		{`DROP INDEX by_n ON s.t`, `{"kind":"dropindex","schema":"s.t","index":"by_n","dropped":true}`},
		{`DROP TABLE s.t`, `{"kind":"droptable","schema":"s.t","dropped":true}`},
		{`DROP TABLE IF EXISTS s.t`, `{"kind":"droptable","schema":"s.t","dropped":false}`},
		{`COMMIT`, `{"kind":"tx","op":"noop","ops_committed":0,"tx_id":"","session_id":"","status":"committed"}`},
		{`SELECT 1 AS a WHERE 1 = 0`, `{"kind":"select","columns":["a"],"rows":[]}`},
		{`EXPLAIN SELECT 1 AS a`, `{"kind":"explain","plan":"Project\n ├─ columns: [1 as a]\n └─ Table\n     └─ name: \n"}`},
	} {
		if got := f.json(c.sql); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.sql, got, c.want)
		}
	}
}

func TestCompositeKeyIsNamed(t *testing.T) {
	f := newFixture(t, `CREATE TABLE s.t (a BIGINT, b TEXT, PRIMARY KEY (a, b))`, `INSERT INTO s.t VALUES (1,'x'),(1,'y')`)
	if got, want := f.json(`DELETE FROM s.t WHERE b = 'x' AND (1 = a)`), `{"kind":"delete","schema":"s.t","pk":"[1,\"x\"]","rows_affected":1}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := f.json(`DELETE FROM s.t WHERE a = 1`), `{"kind":"delete","schema":"s.t","pk":null,"rows_affected":1}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestInsertSources(t *testing.T) {
	f := shopFixture(t)
	f.exec(`CREATE TABLE s.t (id BIGINT PRIMARY KEY, n BIGINT DEFAULT 5, d DOUBLE NOT NULL DEFAULT 1.5, s TEXT, b BLOB, f BOOLEAN)`)
	f.exec(`INSERT INTO s.t (id) VALUES (1)`)
	f.exec(`INSERT INTO s.t (id, n, d) VALUES (2, DEFAULT, DEFAULT), (3, NULL, 2)`)
	f.exec(`INSERT INTO s.t SET id = 4, s = CONCAT('a', 'b'), n = 2 * 3`)
	f.exec(`INSERT INTO s.t (id, n, s, f) SELECT id + 10, customer, note, paid FROM shop.orders WHERE id < 3`)
	f.exec(`INSERT INTO s.t (id, n) VALUES (20, (SELECT MAX(id) FROM s.t)), (21, -9223372036854775808)`)
	f.exec(`INSERT INTO s.t (id, s, b, f, d) VALUES (?, ?, X'01ff', ?, ?)`, 22, "it's", true, 1e300)
	f.exec(`INSERT INTO s.t (id, s) SELECT id + 100, s FROM s.t`)
	f.exec(`WITH w AS (SELECT 300 AS i) INSERT INTO s.t (id, n) SELECT i, 1 FROM w`)
	want := `[{"id":1,"n":5,"d":1.5,"s":null,"b":null,"f":null},{"id":2,"n":5,"d":1.5,"s":null,"b":null,"f":null},{"id":3,"n":null,"d":2,"s":null,"b":null,"f":null},` +
		`{"id":4,"n":6,"d":1.5,"s":"ab","b":null,"f":null},{"id":11,"n":1,"d":1.5,"s":"a","b":null,"f":true},{"id":12,"n":1,"d":1.5,"s":"b","b":null,"f":false},` +
		`{"id":20,"n":12,"d":1.5,"s":null,"b":null,"f":null},{"id":21,"n":-9223372036854775808,"d":1.5,"s":null,"b":null,"f":null},{"id":22,"n":5,"d":1e+300,"s":"it's","b":"Af8=","f":true}]`
	if got := f.rows(`SELECT * FROM s.t WHERE id < 100 ORDER BY id`); got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if got := f.rows(`SELECT COUNT(*) AS n FROM s.t`); got != `[{"n":19}]` {
		t.Error(got)
	}
}

// TestStatementReadsTheStateBeforeItself holds statements that read what they
// write to one pass over the old rows.
func TestStatementReadsTheStateBeforeItself(t *testing.T) {
	f := newFixture(t, `CREATE TABLE s.t (id BIGINT PRIMARY KEY, n BIGINT, KEY by_n (n))`, `INSERT INTO s.t VALUES (1,1),(2,2),(3,3)`)
	f.exec(`UPDATE s.t SET n = n + 1 WHERE n IN (1, 2, 3)`)
	if got := f.rows(`SELECT * FROM s.t`); got != `[{"id":1,"n":2},{"id":2,"n":3},{"id":3,"n":4}]` {
		t.Errorf("index walked into its own writes: %s", got)
	}
	f.exec(`UPDATE s.t SET id = id + 1`)
	if got := f.rows(`SELECT * FROM s.t`); got != `[{"id":2,"n":2},{"id":3,"n":3},{"id":4,"n":4}]` {
		t.Errorf("keys met each other: %s", got)
	}
	f.exec(`UPDATE s.t SET n = id, id = n + 10`)
	if got := f.rows(`SELECT * FROM s.t`); got != `[{"id":12,"n":2},{"id":13,"n":3},{"id":14,"n":4}]` {
		t.Errorf("an assignment saw another: %s", got)
	}
	f.exec(`INSERT INTO s.t SELECT id + 1, n FROM s.t WHERE id > 13`)
	f.exec(`UPDATE s.t SET n = (SELECT MAX(n) FROM s.t) + 1 WHERE id > 13`)
	f.exec(`DELETE FROM s.t WHERE n < (SELECT MAX(n) FROM s.t) AND n > 2 ORDER BY id LIMIT 5`)
	if got := f.rows(`SELECT * FROM s.t`); got != `[{"id":12,"n":2},{"id":14,"n":5},{"id":15,"n":5}]` {
		t.Errorf("got %s", got)
	}
	f.exec(`UPDATE s.t SET n = 0 ORDER BY n DESC, id DESC LIMIT 1`)
	if got := f.rows(`SELECT id FROM s.t WHERE n = 0`); got != `[{"id":15}]` {
		t.Errorf("ORDER BY of UPDATE: %s", got)
	}
}

func TestRefusedValues(t *testing.T) {
	f := newFixture(t, `CREATE TABLE s.t (id BIGINT PRIMARY KEY, u BIGINT UNSIGNED, d DOUBLE, s TEXT, b BLOB, f BOOLEAN, r BIGINT NOT NULL DEFAULT 1, CONSTRAINT small CHECK (id < 1000))`,
		`CREATE TABLE s.c (id BIGINT PRIMARY KEY, t BIGINT, FOREIGN KEY (t) REFERENCES s.t (id))`)
	f.exec(`INSERT INTO s.t (id, u, d, s) VALUES ('7', '18446744073709551615', '1.5', 'x'), (8.0, 1e3, 3, '5')`)
	for _, c := range []struct {
		code fault.Code
		sql  string
	}{
		{fault.TypeMismatch, `INSERT INTO s.t (id) VALUES ('x')`},
		{fault.TypeMismatch, `INSERT INTO s.t (id) VALUES (1.5)`},
		{fault.TypeMismatch, `INSERT INTO s.t (id) VALUES (9223372036854775808)`},
		{fault.TypeMismatch, `INSERT INTO s.t (id) VALUES (-9223372036854775809)`},
		{fault.TypeMismatch, `INSERT INTO s.t (id, u) VALUES (1, -1)`},
		{fault.TypeMismatch, `INSERT INTO s.t (id, u) VALUES (1, 18446744073709551616)`},
		{fault.TypeMismatch, `INSERT INTO s.t (id, d) VALUES (1, 'abc')`},
		{fault.TypeMismatch, `INSERT INTO s.t (id, s) VALUES (1, 5)`},
		{fault.TypeMismatch, `INSERT INTO s.t (id, s) VALUES (1, X'ff')`},
		{fault.TypeMismatch, `INSERT INTO s.t (id, f) VALUES (1, 2)`},
		{fault.TypeMismatch, `INSERT INTO s.t (id, f) VALUES (1, 'true')`},
		{fault.TypeMismatch, `INSERT INTO s.t (id, b) VALUES (1, 1)`},
		{fault.TypeMismatch, `INSERT IGNORE INTO s.t (id) VALUES ('x')`},
		{fault.TypeMismatch, `UPDATE s.t SET id = id * 1.5`},
		{fault.MissingColumn, `INSERT INTO s.t (u) VALUES (1)`},
		{fault.MissingColumn, `INSERT INTO s.t (id, r) VALUES (1, NULL)`},
		{fault.MissingColumn, `INSERT IGNORE INTO s.t (id, r) VALUES (1, NULL)`},
		{fault.MissingColumn, `UPDATE s.t SET r = NULL`},
		{fault.UniqueViolation, `INSERT INTO s.t (id) VALUES (7)`},
		{fault.UniqueViolation, `INSERT INTO s.t (id) VALUES (1), (1)`},
		{fault.UniqueViolation, `UPDATE s.t SET id = 7 WHERE id = 8`},
		{fault.CheckViolation, `INSERT INTO s.t (id) VALUES (1000)`},
		{fault.CheckViolation, `UPDATE s.t SET id = 2000 WHERE id = 7`},
		{fault.FKViolation, `INSERT INTO s.c VALUES (1, 555)`},
		{fault.UnknownColumn, `INSERT INTO s.t (id, nope) VALUES (1, 2)`},
		{fault.UnknownColumn, `UPDATE s.t SET nope = 1`},
		{fault.UnknownColumn, `UPDATE s.t SET u = nope`},
		{fault.UnknownColumn, `DELETE FROM s.t WHERE nope = 1`},
		{fault.UnknownColumn, `SELECT nope FROM s.t`},
		{fault.UnknownTable, `SELECT * FROM s.nope`},
		{fault.UnknownTable, `SELECT * FROM t`},
		{fault.UnknownTable, `SELECT * FROM nope.t`},
		{fault.UnknownTable, `INSERT INTO t VALUES (1)`},
		{fault.UnknownTable, `UPDATE t SET a = 1`},
		{fault.UnknownTable, `DROP TABLE s.nope`},
		{fault.UnknownTable, `CREATE INDEX i ON s.nope (a)`},
		{fault.ValidationFailed, `INSERT INTO s.t (id, id) VALUES (1, 2)`},
		{fault.ValidationFailed, `INSERT INTO s.t (id, u) VALUES (1)`},
		{fault.ValidationFailed, `INSERT INTO s.t (id, u) SELECT 1`},
		{fault.ValidationFailed, `UPDATE s.t SET u = 1, u = 2`},
	} {
		f.refused(c.code, c.sql)
	}
	if got := f.rows(`SELECT id, u, d, s, r FROM s.t ORDER BY id`); got != `[{"id":7,"u":18446744073709551615,"d":1.5,"s":"x","r":1},{"id":8,"u":1000,"d":3,"s":"5","r":1}]` {
		t.Errorf("a refused statement left something: %s", got)
	}
	f.exec(`INSERT INTO s.c VALUES (1, 7)`)
	f.refused(fault.FKViolation, `DELETE FROM s.t WHERE id = 7`)
	f.refused(fault.FKViolation, `UPDATE s.t SET id = 9 WHERE id = 7`)
	if e := f.refused(fault.TypeMismatch, `INSERT INTO s.t (id) VALUES ('secret value')`); strings.Contains(e.Message, "secret") {
		t.Errorf("the message carries a value: %s", e.Message)
	}
}

func TestIgnorePassesOverConstraints(t *testing.T) {
	f := newFixture(t, `CREATE TABLE s.p (id BIGINT PRIMARY KEY, CHECK (id < 10))`, `CREATE TABLE s.c (id BIGINT PRIMARY KEY, p BIGINT REFERENCES s.p (id))`)
	if got := f.json(`INSERT IGNORE INTO s.p VALUES (1), (20), (1), (2)`); got != `{"kind":"insert","schema":"s.p","inserted":2,"skipped":2,"rows":[]}` {
		t.Error(got)
	}
	f.exec(`CREATE TABLE s.d (id BIGINT PRIMARY KEY, p BIGINT, FOREIGN KEY (p) REFERENCES s.p (id))`)
	if got := f.json(`INSERT IGNORE INTO s.d VALUES (1, 1), (2, 9), (3, NULL)`); got != `{"kind":"insert","schema":"s.d","inserted":2,"skipped":1,"rows":[]}` {
		t.Error(got)
	}
}

func TestReplaceAndUpsertOverSeveralKeys(t *testing.T) {
	f := newFixture(t, `CREATE TABLE s.t (id BIGINT PRIMARY KEY, a TEXT, b TEXT, n BIGINT, UNIQUE KEY by_a (a), UNIQUE KEY by_b (b))`,
		`INSERT INTO s.t VALUES (1,'a','x',0),(2,'b','y',0),(3,NULL,NULL,0),(4,NULL,NULL,0)`)
	f.exec(`REPLACE INTO s.t VALUES (9,'a','y',1)`)
	if got := f.rows(`SELECT id, a, b FROM s.t`); got != `[{"id":3,"a":null,"b":null},{"id":4,"a":null,"b":null},{"id":9,"a":"a","b":"y"}]` {
		t.Error(got)
	}
	f.exec(`INSERT INTO s.t VALUES (9,'q','z',5) ON DUPLICATE KEY UPDATE n = n + VALUES(n) * 2, a = DEFAULT, id = 10`)
	if got := f.rows(`SELECT * FROM s.t WHERE n > 1`); got != `[{"id":10,"a":null,"b":"y","n":11}]` {
		t.Error(got)
	}
	f.exec(`INSERT INTO s.t VALUES (50,'k','y',100) ON DUPLICATE KEY UPDATE n = VALUES(n), a = VALUES(a)`)
	if got := f.rows(`SELECT * FROM s.t WHERE n > 1`); got != `[{"id":10,"a":"k","b":"y","n":100}]` {
		t.Error(got)
	}
	f.refused(fault.UnknownColumn, `INSERT INTO s.t VALUES (50,'k','y',100) ON DUPLICATE KEY UPDATE n = VALUES(nope)`)
	f.refused(fault.Unsupported, `INSERT INTO s.t VALUES (50,'k','y',100) ON DUPLICATE KEY UPDATE n = (SELECT 1)`)
	f.refused(fault.UniqueViolation, `INSERT INTO s.t VALUES (10,'k','y',100) ON DUPLICATE KEY UPDATE id = 3`)
}

func TestConflictRunsAgain(t *testing.T) {
	f := newFixture(t, `CREATE TABLE s.t (id BIGINT PRIMARY KEY, n BIGINT)`, `INSERT INTO s.t VALUES (1, 0)`)
	f.st.beforeCommit = func() { f.exec(`UPDATE s.t SET n = n + 10 WHERE id = 1`) }
	f.exec(`UPDATE s.t SET n = n + 1 WHERE id = 1`)
	if got := f.rows(`SELECT n FROM s.t`); got != `[{"n":11}]` {
		t.Errorf("an update was lost: %s", got)
	}
	f.st.beforeCommit = func() { f.exec(`INSERT INTO s.t VALUES (2, 5)`) }
	f.exec(`INSERT INTO s.t VALUES (2, 1) AS new ON DUPLICATE KEY UPDATE n = n + new.n`)
	if got := f.rows(`SELECT n FROM s.t WHERE id = 2`); got != `[{"n":6}]` {
		t.Errorf("the second run planned something else: %s", got)
	}
	f.st.beforeCommit = func() { f.exec(`INSERT INTO s.t VALUES (3, 5)`) }
	f.refused(fault.UniqueViolation, `INSERT INTO s.t VALUES (3, 1)`)
	var again func()
	again = func() {
		f.st.beforeCommit = nil
		f.exec(`UPDATE s.t SET n = n + 1 WHERE id = 1`)
		f.st.beforeCommit = again
	}
	f.st.beforeCommit = again
	e := f.refused(fault.Conflict, `UPDATE s.t SET n = 0 WHERE id = 1`)
	if !e.Retry {
		t.Error("a conflict is worth a retry")
	}
	f.st.beforeCommit = nil
	if got := f.rows(`SELECT n FROM s.t WHERE id = 1`); got != `[{"n":17}]` {
		t.Errorf("%d attempts: %s", maxAttempts, got)
	}
}

func TestAnswerIsStoredWithTheCommit(t *testing.T) {
	f := newFixture(t, `CREATE TABLE s.t (id BIGINT PRIMARY KEY)`)
	r, err := f.e.Execute(t.Context(), Request{Tenant: testTenant, SQL: `INSERT INTO s.t VALUES (1)`, Idem: &IdempotencyKey{Key: "k"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := string(f.st.answers["k"]), string(r.AppendJSON(nil)); got != want {
		t.Errorf("stored %s, answered %s", got, want)
	}
	if r.Pos.LSN != f.st.lsn {
		t.Errorf("at %v, the commit stands at %d", r.Pos, f.st.lsn)
	}
	if _, err := f.e.Execute(t.Context(), Request{Tenant: testTenant, SQL: `SELECT 1`, Idem: &IdempotencyKey{Key: "r"}}); err != nil || f.st.answers["r"] != nil {
		t.Errorf("a read stored its answer: %v", err)
	}
}

func TestExtractionsFollowTheirSource(t *testing.T) {
	f := newFixture(t)
	manifest := `namespace = "s"
table = "t"
primary_key = ["id"]
[[columns]]
name = "id"
ty = "i64"
[[columns]]
name = "doc"
ty = "str"
[[extractions]]
name = "city"
path = "doc.address.city"
ty = "str"
`
	if _, _, err := f.st.CreateTable(t.Context(), testTenant, []byte(manifest)); err != nil {
		t.Fatal(err)
	}
	f.exec(`INSERT INTO s.t (id, doc) VALUES (1, '{"address":{"city":"Rome"}}')`)
	f.exec(`UPDATE s.t SET doc = '{"address":{"city":"Oslo"}}' WHERE city = 'Rome'`)
	if got := f.rows(`SELECT id, city FROM s.t WHERE city = 'Oslo'`); got != `[{"id":1,"city":"Oslo"}]` {
		t.Error(got)
	}
	f.refused(fault.ValidationFailed, `UPDATE s.t SET city = 'Paris'`)
	f.refused(fault.TypeMismatch, `UPDATE s.t SET doc = 'no json'`)
}

func TestTooMuchForOneCommit(t *testing.T) {
	f := indexed(t, 2000)
	f.exec(`CREATE TABLE s.wide (id BIGINT PRIMARY KEY, t TEXT)`)
	f.refused(fault.BodyTooLarge, `INSERT INTO s.wide SELECT id, REPEAT('x', 10000) FROM t.big`)
	if got := f.rows(`SELECT COUNT(*) AS n FROM s.wide`); got != `[{"n":0}]` {
		t.Error(got)
	}
}
