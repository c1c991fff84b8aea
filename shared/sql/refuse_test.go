package sql

import (
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"

	"originchain/shared/fault"
)

// refusal is a statement that must fail, with what its message must say.
type refusal struct {
	code fault.Code
	sql  string
	says string
}

// refusedKinds are whole statements that this product does not have.
func refusedKinds() []refusal {
	return []refusal{
		{fault.Unsupported, `ALTER TABLE shop.orders ADD COLUMN x INT`, "higher version"},
		{fault.Unsupported, `ALTER TABLE shop.orders ADD INDEX i (note)`, "higher version"},
		{fault.Unsupported, `TRUNCATE TABLE shop.orders`, "DELETE FROM"},
		{fault.Unsupported, `RENAME TABLE shop.orders TO shop.o`, "copy"},
		{fault.Unsupported, `CREATE VIEW shop.v AS SELECT 1`, "WITH"},
		{fault.Unsupported, `CREATE TRIGGER tr BEFORE INSERT ON shop.orders FOR EACH ROW SET NEW.note = 1`, "transaction"},
		{fault.Unsupported, `CREATE PROCEDURE p() SELECT 1`, "one by one"},
		{fault.Unsupported, `CALL p()`, "one by one"},
		{fault.Unsupported, `CREATE DATABASE x`, "namespace"},
		{fault.Unsupported, `CREATE USER 'x'`, "token"},
		{fault.Unsupported, `GRANT SELECT ON *.* TO x`, "token"},
		{fault.Unsupported, `SET autocommit = 0`, "params"},
		{fault.Unsupported, `USE shop`, "namespace.table"},
		{fault.Unsupported, `SHOW GRANTS`, "token"},
		{fault.Unsupported, `LOAD DATA INFILE '/etc/passwd' INTO TABLE shop.orders`, "_batch"},
		{fault.Unsupported, `SELECT * FROM shop.orders INTO OUTFILE '/tmp/x'`, "INSERT INTO"},
		{fault.Unsupported, `SELECT 1 INTO DUMPFILE '/tmp/x'`, "INSERT INTO"},
		{fault.Unsupported, `LOCK TABLES shop.orders READ`, "FOR UPDATE"},
		{fault.Unsupported, `KILL 1`, "cancel"},
		{fault.Unsupported, `SAVEPOINT a`, "transaction"},
		{fault.Unsupported, `PREPARE s FROM 'SELECT 1'`, "params"},
		{fault.Unsupported, `FLUSH PRIVILEGES`, "admin API"},
		{fault.Unsupported, `ANALYZE TABLE shop.orders`, "admin API"},
		{fault.Unsupported, `START TRANSACTION READ ONLY`, "ordinary"},
	}
}

// refusedParts are statements with a part that this product does not have.
func refusedParts() []refusal {
	return []refusal{
		{fault.Unsupported, `SELECT 1; SELECT 2`, "exactly one"},
		{fault.Unsupported, `SELECT 1; DROP TABLE shop.orders`, "exactly one"},
		{fault.Unsupported, `SELECT * FROM information_schema.tables`, "schemas"},
		{fault.Unsupported, `SELECT * FROM mysql.user`, "schemas"},
		{fault.Unsupported, `INSERT INTO mysql.user VALUES (1)`, "schemas"},
		{fault.Unsupported, `SELECT 1 AS a UNION SELECT 2 ORDER BY (SELECT COUNT(*) FROM mysql.user)`, "schemas"},
		{fault.Unsupported, `WITH x AS (SELECT * FROM mysql.user) SELECT 1 UNION SELECT 2`, "schemas"},
		{fault.Unsupported, `SELECT @x`, "params"},
		{fault.Unsupported, `SELECT @@version`, "params"},
		{fault.Unsupported, `SELECT SLEEP(10)`, "wait"},
		{fault.Unsupported, `SELECT id FROM shop.orders WHERE SLEEP(1) = 0`, "wait"},
		{fault.Unsupported, `SELECT GET_LOCK('a', 1)`, "transaction"},
		{fault.Unsupported, `SELECT LOAD_FILE('/etc/passwd')`, "files"},
		{fault.Unsupported, `SELECT 1 UNION SELECT 2 ORDER BY LOAD_FILE('/etc/passwd')`, "files"},
		{fault.Unsupported, `SELECT USER()`, "session"},
		{fault.Unsupported, `SELECT LAST_INSERT_ID()`, "before"},
		{fault.Unsupported, `UPDATE shop.orders SET note = LOAD_FILE('x')`, "files"},
		{fault.Unsupported, `INSERT INTO shop.customers VALUES (1, LOAD_FILE('x'), NULL)`, "files"},
		{fault.Unsupported, `INSERT INTO shop.customers VALUES (1, 'x', NULL) ON DUPLICATE KEY UPDATE name = LOAD_FILE('x')`, "files"},
		{fault.Unsupported, `SELECT /*! 1 */ 2`, "SQL itself"},
		{fault.Unsupported, `SELECT * FROM shop.orders USE INDEX (by_customer)`, "EXPLAIN"},
		{fault.Unsupported, `SELECT * FROM shop.orders AS OF '2024-01-01'`, "oc-pitr"},
		{fault.Unsupported, `SELECT SQL_CALC_FOUND_ROWS * FROM shop.orders`, "COUNT"},
		{fault.Unsupported, `UPDATE shop.orders o JOIN shop.customers c ON c.id = o.customer SET o.note = c.name`, "IN (SELECT"},
		{fault.Unsupported, `UPDATE shop.orders, shop.customers SET note = 'x'`, "IN (SELECT"},
		{fault.Unsupported, `DELETE o FROM shop.orders o JOIN shop.customers c ON c.id = o.customer`, "IN (SELECT"},
		{fault.Unsupported, `UPDATE IGNORE shop.orders SET id = 1`, "WHERE"},
		{fault.Unsupported, `DROP TABLE shop.orders, shop.customers`, "one table"},
		{fault.Unsupported, `SELECT NOSUCH(1)`, "nosuch"},
		{fault.Unsupported, `SELECT REGEXP_REPLACE('a', 'a', 'b')`, "REPLACE"},
		{fault.ValidationFailed, `SELECT 'a' REGEXP '('`, "missing"},
		{fault.ValidationFailed, `SELECT 'aa' REGEXP '(a)\\1'`, "back references"},
		{fault.ValidationFailed, `SELECT REGEXP_LIKE('a', 'a', 'q')`, "match types"},
		{fault.ValidationFailed, ``, "empty"},
		{fault.ValidationFailed, `-- nothing`, "empty"},
		{fault.ValidationFailed, `SELEC 1`, "syntax"},
		{fault.ValidationFailed, `SELECT 'abc`, "never closed"},
		{fault.ValidationFailed, "SELECT `abc", "never closed"},
		{fault.ValidationFailed, `SELECT /* abc`, "never closed"},
		{fault.ValidationFailed, "SELECT 'a\xff'", "UTF-8"},
		{fault.ValidationFailed, `SELECT id, COUNT(*) FROM shop.orders WHERE COUNT(*) > 1`, ""},
		{fault.ValidationFailed, `SELECT o.id FROM shop.orders o JOIN shop.orders o ON 1 = 1`, ""},
		{fault.ValidationFailed, `WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT COUNT(*) FROM n`, "limit"},
	}
}

func TestRefusedStatements(t *testing.T) {
	f := shopFixture(t)
	for _, c := range append(refusedKinds(), refusedParts()...) {
		e := f.refused(c.code, c.sql)
		if !strings.Contains(strings.ToLower(e.Message), strings.ToLower(c.says)) {
			t.Errorf("%s: the message lacks %q: %s", c.sql, c.says, e.Message)
		}
	}
	tx := f.exec(`BEGIN`).TxID
	for _, sql := range []string{`CREATE TABLE a.b (id BIGINT PRIMARY KEY)`, `DROP TABLE shop.orders`, `CREATE INDEX i ON shop.orders (note)`} {
		f.refusedIn(tx, fault.Unsupported, sql)
	}
	f.execIn(tx, `ROLLBACK`)
	if got := f.rows(`SELECT COUNT(*) AS n FROM shop.orders`); got != `[{"n":5}]` {
		t.Error(got)
	}
}

func TestHugeAndNestedStatements(t *testing.T) {
	f := shopFixture(t)
	f.refused(fault.BodyTooLarge, `SELECT '`+strings.Repeat("x", 1<<20)+`'`)
	deep := 200_000
	for name, sql := range map[string]string{
		"parentheses": `SELECT ` + strings.Repeat("(", deep) + "1" + strings.Repeat(")", deep),
		"open":        `SELECT ` + strings.Repeat("(", deep),
		"close":       `SELECT ` + strings.Repeat(")", deep),
		"not":         `SELECT ` + strings.Repeat("NOT ", deep) + "1",
		"minus":       `SELECT ` + strings.Repeat("- ", deep) + "1",
		"minuses":     `SELECT ` + strings.Repeat("-", deep) + "1",
		"plus":        `SELECT 1` + strings.Repeat("+1", deep),
		"and":         `SELECT 1 FROM shop.orders WHERE id = 1` + strings.Repeat(" AND 1", deep/2),
		"or":          `SELECT 1 FROM shop.orders WHERE id = 1` + strings.Repeat(" OR id=2", deep/3),
		"case":        `SELECT ` + strings.Repeat("CASE WHEN 1 THEN ", deep/4),
		"union":       `SELECT 1` + strings.Repeat(" UNION SELECT 1", deep/4),
		"subquery":    `SELECT ` + strings.Repeat("(SELECT ", deep/10) + "1" + strings.Repeat(")", deep/10),
		"functions":   `SELECT ` + strings.Repeat("ABS(", deep/10) + "1" + strings.Repeat(")", deep/10),
		"join":        `SELECT 1 FROM shop.orders a` + strings.Repeat(" JOIN shop.orders b", deep/10),
		"collate":     `SELECT 'a'` + strings.Repeat(" COLLATE utf8mb4_bin", deep/10),
		"binary":      `SELECT ` + strings.Repeat("BINARY ", deep/4) + "1",
		"interval":    `SELECT ` + strings.Repeat("INTERVAL ", deep/4) + "1",
		"json":        `SELECT a` + strings.Repeat("->'$.a'", deep/4),
	} {
		if _, err := f.try(sql); fault.CodeOf(err) != fault.ValidationFailed && fault.CodeOf(err) != fault.BodyTooLarge {
			t.Errorf("%s: %v", name, err)
		}
	}
	// What people write passes: long lists are not deep.
	ids := make([]string, 5000)
	for i := range ids {
		ids[i] = fmt.Sprint(i)
	}
	if got := f.exec(`SELECT id FROM shop.orders WHERE id IN (` + strings.Join(ids, ",") + `)`).RowCount; got != 5 {
		t.Error(got)
	}
	if got := f.exec(`SELECT id FROM shop.orders WHERE id = 1` + strings.Repeat(" OR id = 2", 300)).RowCount; got != 2 {
		t.Error(got)
	}
	list := strings.Join(ids, ",")
	if got := f.exec(`SELECT id FROM shop.orders WHERE customer IN (` + list + `) AND total IN (` + list + `)`).RowCount; got != 3 {
		t.Error(got)
	}
	f.refused(fault.Unsupported, `SELECT 1 FROM shop.orders o0`+func() (s string) {
		for i := range maxTables {
			s += fmt.Sprintf(" JOIN shop.orders o%d ON o%d.id = o0.id", i+1, i+1)
		}
		return s
	}())
}

func TestSmallStatementsCannotMakeHugeText(t *testing.T) {
	f := shopFixture(t)
	for _, sql := range []string{
		`SELECT REPEAT('x', 1000000000000)`,
		`SELECT LENGTH(REPEAT(REPEAT('x', 1000000), 1000000))`,
		`SELECT SPACE(1e15)`,
		`SELECT LPAD('x', 100000000, 'y')`,
		`SELECT RPAD('x', 100000000, 'y')`,
		`SELECT REPLACE(REPEAT('a', 1000000), 'a', REPEAT('b', 1000000))`,
		`WITH RECURSIVE n AS (SELECT CAST('x' AS CHAR) AS s, 1 AS i UNION ALL SELECT CONCAT(s, s), i + 1 FROM n WHERE i < 60) SELECT MAX(LENGTH(s)) FROM n`,
		`WITH RECURSIVE n AS (SELECT CAST('x' AS CHAR) AS s, 1 AS i UNION ALL SELECT HEX(s), i + 1 FROM n WHERE i < 60) SELECT MAX(LENGTH(s)) FROM n`,
		`WITH RECURSIVE n AS (SELECT JSON_ARRAY(1) AS s, 1 AS i UNION ALL SELECT JSON_ARRAY(s, s), i + 1 FROM n WHERE i < 60) SELECT MAX(JSON_LENGTH(s)) FROM n`,
		`SELECT ` + strings.Repeat("HEX(", 60) + "'x'" + strings.Repeat(")", 60),
	} {
		f.refused(fault.BodyTooLarge, sql)
	}
	if got := f.rows(`SELECT LENGTH(REPEAT('ab', 1000)) AS a, CONCAT('a', NULL) AS n, CONCAT_WS('-', 'a', NULL, 3) AS w, LPAD('a', 3, 'x') AS l, HEX('a') AS h, REPLACE('aXa', 'X', 'é') AS r, UPPER('é') AS u, REPEAT('x', NULL) AS z`); got != `[{"a":2000,"n":null,"w":"a-3","l":"xxa","h":"61","r":"aéa","u":"É","z":null}]` {
		t.Error(got)
	}
}

func TestParameters(t *testing.T) {
	f := shopFixture(t)
	for _, c := range []struct {
		code   fault.Code
		sql    string
		params string
		says   string
	}{
		{fault.ValidationFailed, `SELECT ?, ?`, `[1]`, "parameter 2"},
		{fault.ValidationFailed, `SELECT ?`, `[1, 2]`, "number 2"},
		{fault.ValidationFailed, `SELECT ?`, ``, "1 parameters"},
		{fault.ValidationFailed, `SELECT ?`, `null`, "1 parameters"},
		{fault.ValidationFailed, `SELECT 1`, `[1]`, "number 1"},
		{fault.ValidationFailed, `SELECT $2`, `[1, 2]`, "number 1"},
		{fault.ValidationFailed, `SELECT $3`, `[1, 2]`, "parameter 3"},
		{fault.ValidationFailed, `SELECT $0`, `[1]`, "from 1"},
		{fault.ValidationFailed, `SELECT $`, `[1]`, "$"},
		{fault.ValidationFailed, `SELECT :a, :b`, `{"a": 1}`, ":b"},
		{fault.ValidationFailed, `SELECT :a`, `{"a": 1, "c": 2, "b": 2}`, "b, c"},
		{fault.ValidationFailed, `SELECT :a`, `[1]`, "object"},
		{fault.ValidationFailed, `SELECT ?`, `{"a": 1}`, "array"},
		{fault.ValidationFailed, `SELECT ?, :a`, `[1]`, "one style"},
		{fault.ValidationFailed, `SELECT ?`, `[[1]]`, "array or an object"},
		{fault.ValidationFailed, `SELECT :a`, `{"a": {}}`, "array or an object"},
		{fault.ValidationFailed, `SELECT ?`, `[1e999]`, "too large"},
		{fault.ValidationFailed, `SELECT : a`, ``, ":"},
		{fault.InvalidEnvelope, `SELECT ?`, `"x"`, "params"},
		{fault.InvalidEnvelope, `SELECT ?`, `[1`, "params"},
		{fault.InvalidEnvelope, `SELECT :a`, `{"a"`, "params"},
	} {
		_, err := f.e.Execute(t.Context(), Request{Tenant: testTenant, SQL: c.sql, Params: []byte(c.params)})
		if fault.CodeOf(err) != c.code || !strings.Contains(fault.From(err).Message, c.says) {
			t.Errorf("%s with %s: %v", c.sql, c.params, err)
		}
	}
	for _, c := range []struct{ params, want string }{
		{`[9007199254740993]`, `9007199254740993`},
		{`[18446744073709551615]`, `18446744073709551615`},
		{`[18446744073709551616]`, `18446744073709551616`},
		{`[1.25]`, `1.25`},
		{`[-0.5]`, `-0.5`},
		{`[1e2]`, `100`},
		{`[0.1234567890123456789]`, `0.1234567890123456789`},
		{`["a\"b"]`, `"a\"b"`},
		{`["1' OR '1'='1"]`, `"1' OR '1'='1"`},
		{`["日本\u0000\n"]`, `"日本\u0000\n"`},
		{`[true]`, `true`},
		{`[null]`, `null`},
	} {
		r, err := f.e.Execute(t.Context(), Request{Tenant: testTenant, SQL: `SELECT ? AS v`, Params: []byte(c.params)})
		if err != nil {
			t.Errorf("%s: %v", c.params, err)
			continue
		}
		if got := string(r.rows); got != `{"v":`+c.want+`}` {
			t.Errorf("%s: got %s, want %s", c.params, got, c.want)
		}
	}
}

// panicStore panics where the planner would.
type panicStore struct{ *memStore }

func (panicStore) Begin(ulid.ULID) (Tx, error) { panic("row data in a panic") }

func TestPanicIsAServerError(t *testing.T) {
	f := shopFixture(t)
	var out strings.Builder
	log := logrus.New()
	log.SetOutput(&out)
	e, err := New(Config{Store: panicStore{f.st}, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.Execute(t.Context(), Request{Tenant: testTenant, SQL: `SELECT 1`})
	if fault.CodeOf(err) != fault.ServerError || strings.Contains(out.String(), "row data") || !strings.Contains(out.String(), "Select") {
		t.Errorf("%v, logged %s", err, out.String())
	}
}

func TestConfigNamesEveryFault(t *testing.T) {
	_, err := New(Config{MaxResultBytes: -1})
	for _, want := range []string{"Store", "Log", "negative"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %s", err, want)
		}
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	if _, err := New(Config{Store: &memStore{}, Log: log}); err != nil {
		t.Error(err)
	}
}
