package writer

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/shared/api"
	"originchain/shared/fault"
	"originchain/shared/tenant"
)

func TestSQL(t *testing.T) {
	n := start(t)
	n.register(ordersManifest)
	t.Run("answers", func(t *testing.T) { testSQLAnswers(n.sub(t)) })
	t.Run("envelopes", func(t *testing.T) { testSQLEnvelopes(n.sub(t)) })
	t.Run("transactions", func(t *testing.T) { testTransactions(n.sub(t)) })
	t.Run("snapshot isolation", func(t *testing.T) { testIsolation(n.sub(t)) })
	t.Run("rows inside a transaction", func(t *testing.T) { testRowsInTx(n.sub(t)) })
	t.Run("cancel", func(t *testing.T) { testCancel(n.sub(t)) })
}

func testSQLAnswers(n *node) {
	a := n.sql(`INSERT INTO shop.orders (id, total) VALUES ('a', 1), ('b', 2)`).want(200)
	if a.str("kind") != "insert" || a.str("inserted") != "2" || a.header.Get(api.HeaderLSN) == "" || len(a.header.Get(api.HeaderQueryID)) != 26 {
		n.t.Fatalf("insert: %s %v", a.body, a.header)
	}
	s := n.call("POST", "/sql", `{"sql":"SELECT id, total FROM shop.orders WHERE total >= ? ORDER BY id","params":[1]}`).want(200)
	s.is(`{"kind":"select","columns":["id","total"],"rows":[{"id":"a","total":1},{"id":"b","total":2}]}`)
	if s.header.Get(api.HeaderLSN) != a.header.Get(api.HeaderLSN) || s.header.Get(api.HeaderEpoch) != "1" {
		n.t.Fatalf("a read stands at %v, the write before it at %v", s.header, a.header)
	}
	if got := n.sql(`EXPLAIN SELECT * FROM shop.orders WHERE id = 'a'`).want(200); got.str("kind") != "explain" || got.str("plan") == "" {
		n.t.Fatalf("explain: %s", got.body)
	}
	if got := n.sql(`DELETE FROM shop.orders WHERE id = 'a'`).want(200); got.str("kind") != "delete" || got.str("rows_affected") != "1" {
		n.t.Fatalf("delete: %s", got.body)
	}
	if got := n.sql(`CREATE INDEX by_email ON shop.orders (email)`).want(200); got.str("kind") != "createindex" {
		n.t.Fatalf("create index: %s", got.body)
	}
}

func testSQLEnvelopes(n *node) {
	for _, c := range []struct {
		body   string
		status int
		code   string
	}{
		{``, 400, "invalid_json"},
		{`{"sql":`, 400, "invalid_json"},
		{`[]`, 422, "validation_failed"},
		{`{}`, 422, "validation_failed"},
		{`{"query":"SELECT 1"}`, 422, "validation_failed"},
		{`{"sql":5}`, 422, "validation_failed"},
		{`{"sql":"SELECT 1","params":7}`, 422, "validation_failed"},
		{`{"sql":"SELEC 1"}`, 400, "validation_failed"},
		{`{"sql":""}`, 400, "validation_failed"},
		{`{"sql":"SELECT * FROM no.such"}`, 400, "unknown_table"},
		{`{"sql":"SELECT nope FROM shop.orders"}`, 400, "unknown_column"},
		{`{"sql":"ALTER TABLE shop.orders ADD COLUMN x BIGINT"}`, 400, "unsupported"},
		{`{"sql":"SELECT 1; SELECT 2"}`, 400, "unsupported"},
		{`{"sql":"SELECT ` + strings.Repeat("(", 5000) + `1"}`, 400, "validation_failed"},
		{`{"sql":"SELECT '` + strings.Repeat("x", 2<<20) + `'"}`, 413, "body_too_large"},
		{`{"sql":"` + strings.Repeat("x", 8<<20) + `"}`, 413, "body_too_large"},
		{`{"sql":"SELECT 1","params":` + strings.Repeat("[", 200) + strings.Repeat("]", 200) + `}`, 400, "invalid_json"},
	} {
		n.call("POST", "/sql", c.body).refused(c.status, c.code)
	}
}

func testTransactions(n *node) {
	begin := n.sql("BEGIN").want(200)
	tx := begin.str("tx_id")
	begin.is(fmt.Sprintf(`{"kind":"tx","op":"begin","ops_committed":0,"tx_id":%q,"session_id":%q,"status":"running"}`, tx, tx))
	n.call("GET", "/tx/"+tx, "").want(200)
	n.sql(`INSERT INTO shop.orders (id, total) VALUES ('tx1', 1)`, api.HeaderTx, tx).want(200)
	n.call("GET", "/rows/shop.orders/tx1", "").refused(404, "not_found")
	done := n.sql("COMMIT", api.HeaderTx, tx).want(200)
	if done.str("op") != "commit" || done.str("ops_committed") != "1" || done.str("status") != "committed" {
		n.t.Fatalf("commit: %s", done.body)
	}
	n.call("GET", "/rows/shop.orders/tx1", "").want(200)
	n.call("GET", "/tx/"+tx, "").refused(404, "not_found")
	n.sqlRefused("SELECT 1", 404, "not_found", api.HeaderTx, tx)
	n.call("GET", "/rows/shop.orders/tx1", "", api.HeaderTx, tx).refused(404, "not_found")
	n.call("POST", "/tx/"+tx+"/rollback", "").refused(404, "not_found")
	n.call("POST", "/tx/nonsense/commit", "").refused(400, "validation_failed")

	other := n.call("POST", "/tx/begin", "{}").want(200).str("tx_id")
	n.call("POST", "/tx/begin", "", api.HeaderTx, other).refused(400, "validation_failed")
	n.call("POST", "/tx/begin", `{"x":1}`).refused(422, "validation_failed")
	stranger := *n
	stranger.tenant, stranger.token = n.newTenant(`{}`)
	stranger.call("GET", "/tx/"+other, "").refused(404, "not_found")
	stranger.call("POST", "/tx/"+other+"/commit", "").refused(404, "not_found")
	back := n.call("POST", "/tx/"+other+"/rollback", "").want(200)
	if back.str("op") != "rollback" || back.str("status") != "aborted" {
		n.t.Fatalf("rollback: %s", back.body)
	}
	if got := n.sql("COMMIT").want(200).str("op"); got != "noop" {
		n.t.Fatalf("a COMMIT without a transaction: op %s", got)
	}
}

// testIsolation: the first of two that change a row wins.
func testIsolation(n *node) {
	n.call("POST", "/rows/shop.orders", `{"id":"iso","total":1}`).want(200)
	tx := n.call("POST", "/tx/begin", "").want(200).str("tx_id")
	n.sql(`UPDATE shop.orders SET total = 10 WHERE id = 'iso'`, api.HeaderTx, tx).want(200)
	n.call("PUT", "/rows/shop.orders/iso", `{"total":20}`).want(200)
	lost := n.call("POST", "/tx/"+tx+"/commit", "").refused(409, "conflict")
	if lost.str("retry") != "true" {
		n.t.Fatalf("a conflict of transactions is worth a retry: %s", lost.body)
	}
	n.call("GET", "/rows/shop.orders/iso", "").is(`{"id":"iso","total":20,"email":null}`)
}

func testRowsInTx(n *node) {
	n.call("POST", "/rows/shop.orders", `{"id":"in","total":1}`).want(200)
	tx := n.call("POST", "/tx/begin", "").want(200).str("tx_id")
	h := []string{api.HeaderTx, tx}
	p := n.call("POST", "/rows/shop.orders", `{"id":"in","total":2}`, h...).want(200)
	if p.str("version") != "0" {
		n.t.Fatalf("a row that is not committed has no version: %s", p.body)
	}
	n.call("GET", "/rows/shop.orders/in", "", h...).want(200).is(`{"id":"in","total":2,"email":null}`)
	n.call("GET", "/rows/shop.orders/in", "").want(200).is(`{"id":"in","total":1,"email":null}`)
	n.call("PUT", "/rows/shop.orders/in2", `{"total":-5}`, h...).refused(409, "check_violation")
	n.call("PUT", "/rows/shop.orders/in2", `{"total":5}`, h...).want(200)
	n.call("POST", "/rows/no.such", `{}`, h...).refused(400, "unknown_table")
	n.call("DELETE", "/rows/shop.orders/in", "", h...).want(200).is(`{"deleted":true}`)
	n.call("DELETE", "/rows/shop.orders/in", "", h...).want(200).is(`{"deleted":false}`)
	n.call("GET", "/rows/shop.orders/in", "", h...).refused(404, "not_found")
	n.call("POST", "/tx/"+tx+"/commit", "").want(200)
	n.call("GET", "/rows/shop.orders/in", "").refused(404, "not_found")
	n.call("GET", "/rows/shop.orders/in2", "").want(200)
}

// testCancel: a running statement ends with 499 under either of its names, and
// only at its own tenant's word.
func testCancel(n *node) {
	n.batch("shop.orders", lines(0, 2000, nil)).want(200)
	const endless = `SELECT COUNT(*) FROM shop.orders a, shop.orders b, shop.orders c, shop.orders d WHERE a.total + b.total + c.total + d.total = -1`
	stranger := *n
	stranger.tenant, stranger.token = n.newTenant(`{}`)
	cancel := func(m *node, id string) *answer {
		return m.do(context.Background(), m.token, "POST", "/v1/queries/"+id+"/cancel", strings.NewReader(""))
	}
	ended := make(chan *answer, 1)
	go func() { ended <- n.sql(endless, api.HeaderLogicalRequestID, "job-7") }()
	for n.call("GET", "/usage", "").want(200).str("in_flight") != "map[ask:0 sql:1]" {
		runtime.Gosched()
	}
	cancel(&stranger, "job-7").refused(404, "not_found")
	cancel(n, "job-7").want(200).is(`{"id":"job-7","cancelled":true}` + "\n")
	a := <-ended
	a.refused(499, "cancelled")
	id := a.header.Get(api.HeaderQueryID)
	if len(id) != 26 {
		n.t.Fatalf("no query id on a cancelled query: %v", a.header)
	}
	cancel(n, id).refused(404, "not_found")
	cancel(n, "job-7").refused(404, "not_found")
	if got := n.call("GET", "/usage", "").want(200).str("in_flight"); got != "map[ask:0 sql:0]" {
		n.t.Fatalf("in_flight %s", got)
	}
}

// TestStatementTimeout: a statement that runs for longer than it may is answered
// 499 and counted among the failed ones; what takes no statement goes on.
func TestStatementTimeout(t *testing.T) {
	n := start(t, func(c *Config, _ *Deps) { c.StatementTimeout = time.Nanosecond })
	n.register(ordersManifest)
	n.call("PUT", "/rows/shop.orders/a", `{"total":1}`).want(200)
	a := n.sqlRefused(`SELECT COUNT(*) FROM shop.orders WHERE email IS NULL`, 499, "cancelled")
	if !strings.Contains(a.str("message"), "--statement-timeout") || a.header.Get(api.HeaderQueryID) == "" {
		t.Errorf("the answer does not say what to do: %s", a.body)
	}
	n.sqlRefused(`UPDATE shop.orders SET total = 2`, 499, "cancelled")
	n.call("GET", "/rows/shop.orders/a", "").want(200).is(`{"id":"a","total":1,"email":null}`)
	if m := n.do(context.Background(), "", "GET", "/metrics", nil).want(200); !strings.Contains(m.body, `oc_sql_statements_total{kind="error"} 2`) {
		t.Errorf("not counted:\n%s", m.body)
	}
}

// TestQueries: a statement is found by its id in either case, or with all
// others of its operation, and only by its tenant; a tier bounds how many run.
func TestQueries(t *testing.T) {
	var q queries
	mine, theirs := ulid.ULID{1}, ulid.ULID{2}
	ended := map[ulid.ULID]bool{}
	add := func(owner ulid.ULID, id byte, logical string, tier *tenant.Tier) error {
		name := ulid.ULID{9, id}
		return q.add(owner, name, &query{logical: logical, cancel: func() { ended[name] = true }}, tier)
	}
	for _, err := range []error{add(mine, 1, "job", nil), add(mine, 2, "job", nil), add(mine, 3, "", nil), add(theirs, 4, "job", nil)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if q.cancel(theirs, ulid.ULID{9, 3}.String()) || q.cancel(mine, "") || q.cancel(mine, "other") || len(ended) != 0 {
		t.Fatalf("ended %v", ended)
	}
	if !q.cancel(mine, strings.ToLower(ulid.ULID{9, 3}.String())) || !ended[ulid.ULID{9, 3}] || len(ended) != 1 {
		t.Fatalf("by id: ended %v", ended)
	}
	if !q.cancel(mine, "job") || len(ended) != 3 || ended[ulid.ULID{9, 4}] {
		t.Fatalf("by operation: ended %v", ended)
	}
	tier := &tenant.Tier{Slug: "small", Limits: tenant.Limits{ConcurrentSQL: 3}}
	if err := add(mine, 5, "", tier); fault.CodeOf(err) != fault.RateLimited {
		t.Fatalf("one more than the tier allows: %v", err)
	}
	q.end(mine, ulid.ULID{9, 3})
	if err := add(mine, 5, "", tier); err != nil || q.running(mine) != 3 {
		t.Fatalf("after one ended: %v, running %d", err, q.running(mine))
	}
}

func TestFirstWord(t *testing.T) {
	for text, want := range map[string]string{
		"SELECT 1": "select", "  \n(select 1)": "select", "-- note\nUPDATE x": "update", "# note\n/* more */ Insert": "insert",
		"/* open": "", "": "", "--": "", "with a as (select 1) delete": "with", "explain(select)": "explain",
	} {
		if got := firstWord(text); got != want {
			t.Errorf("firstWord(%q) = %q, want %q", text, got, want)
		}
	}
	for _, writes := range []string{"WITH a AS (SELECT 1) DELETE FROM x", "INSERT", "BEGIN", "COMMIT", "DROP TABLE x", "-- SELECT\nDELETE"} {
		if onlyReads(writes) {
			t.Errorf("%q counts as a read", writes)
		}
	}
}
