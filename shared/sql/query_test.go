package sql

import (
	"fmt"
	"testing"
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
		{sql: `SELECT customer, COUNT(*) AS n, SUM(total) AS s, AVG(big) AS a FROM shop.orders GROUP BY customer HAVING n > 1 ORDER BY customer`, want: `[{"customer":1,"n":2,"s":30.5,"a":9223372036854775808.5},{"customer":2,"n":2,"s":12.25,"a":3}]`},
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
		{sql: `SELECT 1 UNION SELECT 2 ORDER BY 1 DESC`, want: `[{"1":2},{"1":1}]`},
		{sql: `SELECT 'it''s "q" \\ ' || 'x' AS a`, want: `[{"a":false}]`},
		{sql: `SELECT CONCAT('a', "b") AS a, 1/0 AS d, 7 DIV 2 AS i, 1.10 AS dec1, -5 AS m, 1e3 AS f, X'01' AS b, TRUE AS t, NULL AS n`, want: `[{"a":"ab","d":null,"i":3,"dec1":1.1,"m":-5,"f":1000,"b":"AQ==","t":true,"n":null}]`},
		{sql: `SELECT ? AS a, ? AS b, ? AS c, ? AS d, ? AS e, ? AS g`, params: []any{int64(-9223372036854775808), uint64(18446744073709551615), "x'; DROP", nil, false, 0.25}, want: `[{"a":-9223372036854775808,"b":18446744073709551615,"c":"x'; DROP","d":null,"e":false,"g":0.25}]`},
		{sql: `SELECT JSON_EXTRACT('{"a":[1,{"b":"x"}]}', '$.a') AS j`, want: `[{"j":[1,{"b":"x"}]}]`},
		{sql: `SELECT COUNT(*) FROM shop.orders`, want: `[{"COUNT(*)":5}]`},
		{sql: `SELECT COUNT(NULL) AS n FROM shop.orders`, want: `[{"n":0}]`},
		{sql: `SELECT MIN(id) AS a, MAX(id) AS b FROM shop.orders`, want: `[{"a":1,"b":5}]`},
		{sql: `SELECT DATE('2024-05-06 07:08:09') AS d, TIMESTAMP('2024-05-06 07:08:09') AS t`, want: `[{"d":"2024-05-06","t":"2024-05-06 07:08:09"}]`},
	} {
		if got := f.rows(c.sql, c.params...); got != c.want {
			t.Errorf("%s\n got %s\nwant %s", c.sql, got, c.want)
		}
	}
}

func TestPlansDebug(t *testing.T) {
	f := shopFixture(t)
	for _, q := range []string{
		`SELECT * FROM shop.orders WHERE id = 3`,
		`SELECT id FROM shop.orders WHERE id IN (1,3,5)`,
		`SELECT id FROM shop.orders WHERE id BETWEEN 2 AND 3`,
		`SELECT id FROM shop.orders WHERE customer = 1 AND total > 3`,
		`SELECT id FROM shop.orders WHERE customer = 1 ORDER BY total DESC`,
		`SELECT id FROM shop.orders ORDER BY id DESC LIMIT 2`,
		`SELECT id FROM shop.orders ORDER BY id LIMIT 2`,
		`SELECT name FROM shop.customers WHERE name = 'Ada'`,
		`SELECT COUNT(*) FROM shop.orders`,
		`SELECT o.id, c.name FROM shop.orders o JOIN shop.customers c ON c.id = o.customer`,
		`UPDATE shop.orders SET note = 'x' WHERE id = 2`,
		`DELETE FROM shop.orders WHERE customer = 2`,
	} {
		fmt.Println(q)
		fmt.Println(f.plan(q))
	}
	fmt.Println(string(f.exec(`EXPLAIN ANALYZE SELECT o.id, c.name FROM shop.orders o JOIN shop.customers c ON c.id = o.customer WHERE o.total > 1`).AppendJSON(nil)))
	fmt.Println(f.exec(`EXPLAIN ANALYZE SELECT o.id, c.name FROM shop.orders o JOIN shop.customers c ON c.id = o.customer WHERE o.total > 1`).Plan)
}
