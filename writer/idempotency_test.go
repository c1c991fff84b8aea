package writer

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/oklog/ulid/v2"

	"originchain/shared/api"
)

const idem = api.HeaderIdempotencyKey

func TestIdempotency(t *testing.T) {
	n := start(t)
	n.register(ordersManifest)
	t.Run("rows", func(t *testing.T) { testIdempotentRows(n.sub(t)) })
	t.Run("failures are not kept", func(t *testing.T) { testFailuresNotKept(n.sub(t)) })
	t.Run("concurrent duplicates", func(t *testing.T) { testConcurrentDuplicates(n.sub(t)) })
	t.Run("schemas", func(t *testing.T) { testIdempotentSchemas(n.sub(t)) })
	t.Run("sql", func(t *testing.T) { testIdempotentSQL(n.sub(t)) })
	t.Run("transactions", func(t *testing.T) { testIdempotentTx(n.sub(t)) })
	t.Run("tenants are apart", func(t *testing.T) { testIdempotencyPerTenant(n.sub(t)) })
}

func testIdempotentRows(n *node) {
	first := n.call("POST", "/rows/shop.orders", `{"id":"a","total":1}`, idem, "k1").want(200)
	n.call("POST", "/rows/shop.orders", `{"id":"a","total":2}`).want(200)
	again := n.call("POST", "/rows/shop.orders", `{"id":"a","total":1}`, idem, "k1").want(200).is(first.body)
	if again.header.Get(api.HeaderLSN) == "" {
		n.t.Fatal("a repeated answer has no position")
	}
	n.call("GET", "/rows/shop.orders/a", "").is(`{"id":"a","total":2,"email":null}`)
	for _, other := range []*answer{
		n.call("POST", "/rows/shop.orders", `{"id":"a","total":9}`, idem, "k1"),
		n.call("POST", "/rows/shop.orders?expect=insert", `{"id":"a","total":1}`, idem, "k1"),
		n.call("PUT", "/rows/shop.orders/a", `{"id":"a","total":1}`, idem, "k1"),
		n.call("DELETE", "/rows/shop.orders/a", "", idem, "k1"),
	} {
		other.refused(409, "conflict")
	}
	once := n.call("POST", "/rows/shop.orders?expect=insert", `{"id":"new"}`, idem, "k2").want(200)
	n.call("POST", "/rows/shop.orders?expect=insert", `{"id":"new"}`, idem, "k2").want(200).is(once.body)
	n.call("DELETE", "/rows/shop.orders/new", "", idem, "k3").want(200).is(`{"deleted":true}`)
	n.call("DELETE", "/rows/shop.orders/new", "", idem, "k3").want(200).is(`{"deleted":true}`)
	n.call("DELETE", "/rows/shop.orders/new", "", idem, "k4").want(200).is(`{"deleted":false}`)
	n.call("PUT", "/rows/shop.orders/new", "", idem, "k4").refused(400, "invalid_json")
	n.call("POST", "/rows/shop.orders", `{"id":"z"}`, idem, strings.Repeat("k", 256)).refused(400, "validation_failed")
	// The answer outlives the table it was about.
	n.register(strings.ReplaceAll(typesManifest, `"types"`, `"brief"`))
	brief := n.call("POST", "/rows/lab.brief", `{"k":1}`, idem, "brief").want(200)
	n.sql("DROP TABLE lab.brief").want(200)
	n.call("POST", "/rows/lab.brief", `{"k":1}`, idem, "brief").want(200).is(brief.body)
	n.call("POST", "/rows/lab.brief", `{"k":1}`, idem, "brief2").refused(400, "unknown_table")
	n.call("DELETE", "/rows/lab.brief/1", "", idem, "brief3").refused(400, "unknown_table")
}

func testFailuresNotKept(n *node) {
	n.call("POST", "/rows/shop.orders", `{"id":"f","total":-1}`, idem, "f1").refused(409, "check_violation")
	n.call("POST", "/rows/shop.orders", `{"id":"f","total":1}`, idem, "f1").want(200)
	n.call("POST", "/rows/shop.orders", `{"id":"u1","email":"taken"}`).want(200)
	n.call("POST", "/rows/shop.orders", `{"id":"u2","email":"taken"}`, idem, "f2").refused(409, "unique_violation")
	n.call("DELETE", "/rows/shop.orders/u1", "").want(200)
	n.call("POST", "/rows/shop.orders", `{"id":"u2","email":"taken"}`, idem, "f2").want(200)
}

// testConcurrentDuplicates: of many equal requests one does the work, and all
// get its answer.
func testConcurrentDuplicates(n *node) {
	const clients = 16
	tx := n.call("POST", "/tx/begin", "").want(200).str("tx_id")
	for what, send := range map[string]func(key string) *answer{
		"row": func(key string) *answer {
			return n.call("POST", "/rows/shop.orders?expect=insert", `{"id":"`+key+`"}`, idem, key)
		},
		"sql": func(key string) *answer {
			return n.sql(`INSERT INTO shop.orders (id) VALUES ('`+key+`')`, idem, key)
		},
		"batch": func(key string) *answer {
			return n.call("POST", "/rows/shop.orders/_batch?expect=insert", `[{"id":"`+key+`"}]`, idem, key)
		},
		"tx": func(key string) *answer {
			return n.call("POST", "/rows/shop.orders?expect=insert", `{"id":"`+key+`"}`, idem, key, api.HeaderTx, tx)
		},
	} {
		answers := make([]*answer, clients)
		var wg sync.WaitGroup
		for i := range clients {
			wg.Go(func() { answers[i] = send("dup-" + what) })
		}
		wg.Wait()
		for _, a := range answers {
			a.want(200).is(answers[0].body)
		}
	}
}

func testIdempotentSchemas(n *node) {
	m := strings.ReplaceAll(typesManifest, `"types"`, `"idem"`)
	first := n.call("POST", "/schemas", m, idem, "s1").want(201)
	n.call("POST", "/schemas", m, idem, "s1").want(201).is(first.body)
	n.call("POST", "/schemas", m+"\n", idem, "s1").refused(409, "conflict")
	n.call("POST", "/schemas", m).want(201).is(first.body)
}

func testIdempotentSQL(n *node) {
	insert := `INSERT INTO shop.orders (id, total) VALUES ('s1', 1)`
	first := n.sql(insert, idem, "q1").want(200)
	n.sql(insert, idem, "q1").want(200).is(first.body)
	n.sqlRefused(insert+" ", 409, "conflict", idem, "q1")
	n.sqlRefused(insert, 409, "unique_violation", idem, "q-other")
	raise := `UPDATE shop.orders SET total = total + 1 WHERE id = 's1'`
	n.sql(raise, idem, "q2").want(200)
	n.sql(raise, idem, "q2").want(200)
	if got := n.sql(`SELECT total FROM shop.orders WHERE id = 's1'`, idem, "q1").want(200).str("rows"); got != "[map[total:2]]" {
		n.t.Fatalf("rows %s", got)
	}
	// A read is answered anew under any key.
	n.sql(raise).want(200)
	if got := n.sql(`SELECT total FROM shop.orders WHERE id = 's1'`, idem, "q1").want(200).str("rows"); got != "[map[total:3]]" {
		n.t.Fatalf("a read was answered from the store: %s", got)
	}
	create := `CREATE TABLE lab.made (k BIGINT PRIMARY KEY)`
	made := n.sql(create, idem, "q3").want(200)
	n.sql(create, idem, "q3").want(200).is(made.body)
	n.sqlRefused(create, 409, "already_exists", idem, "q4")
}

func testIdempotentTx(n *node) {
	begin := n.call("POST", "/tx/begin", "", idem, "t1").want(200)
	n.call("POST", "/tx/begin", "", idem, "t1").want(200).is(begin.body)
	tx := begin.str("tx_id")
	in := []string{api.HeaderTx, tx, idem}
	put := n.call("POST", "/rows/shop.orders?expect=insert", `{"id":"t"}`, append(in, "t2")...).want(200)
	n.call("POST", "/rows/shop.orders?expect=insert", `{"id":"t"}`, append(in, "t2")...).want(200).is(put.body)
	n.call("POST", "/rows/shop.orders?expect=insert", `{"id":"tt"}`, append(in, "t2")...).refused(409, "conflict")
	bump := `UPDATE shop.orders SET total = 1 WHERE id = 't'`
	stranger := *n
	stranger.tenant, stranger.token = n.newTenant(`{}`)
	stranger.sqlRefused(bump, 404, "not_found", append(in, "t2")...)
	up := n.sql(bump, append(in, "t3")...).want(200)
	n.sql(bump, append(in, "t3")...).want(200).is(up.body)
	done := n.call("POST", "/tx/"+tx+"/commit", "", idem, "t4").want(200)
	n.call("POST", "/tx/"+tx+"/commit", "", idem, "t4").want(200).is(done.body)
	if got := done.str("ops_committed"); got != "2" {
		n.t.Fatalf("ops_committed %s, want 2: a repeated call was buffered twice", got)
	}
	n.call("POST", "/tx/"+tx+"/commit", "", idem, "t5").refused(404, "not_found")
	// The transaction has ended, so its BEGIN begins another.
	if other := n.call("POST", "/tx/begin", "", idem, "t1").want(200).str("tx_id"); other == tx {
		n.t.Fatal("an ended transaction was handed out again")
	} else {
		back := n.call("POST", "/tx/"+other+"/rollback", "", idem, "t6").want(200)
		n.call("POST", "/tx/"+other+"/rollback", "", idem, "t6").want(200).is(back.body)
	}
}

func testIdempotencyPerTenant(n *node) {
	n.call("POST", "/rows/shop.orders", `{"id":"mine"}`, idem, "shared").want(200)
	other := *n
	other.tenant, other.token = n.newTenant(`{}`)
	other.register(ordersManifest)
	other.call("POST", "/rows/shop.orders", `{"id":"theirs"}`, idem, "shared").want(200)
}

// TestIdempotencyOutlivesRestart: answers are in the log.
func TestIdempotencyOutlivesRestart(t *testing.T) {
	n := start(t)
	n.register(ordersManifest)
	first := n.call("POST", "/rows/shop.orders?expect=insert", `{"id":"a"}`, idem, "k").want(200)
	batch := n.call("POST", "/rows/shop.orders/_batch", `[{"id":"b"},{"id":"c"}]`, idem, "kb").want(200)
	m := n.restart()
	m.call("POST", "/rows/shop.orders?expect=insert", `{"id":"a"}`, idem, "k").want(200).is(first.body)
	m.call("POST", "/rows/shop.orders/_batch", `[{"id":"b"},{"id":"c"}]`, idem, "kb").want(200).is(batch.body)
	m.call("POST", "/rows/shop.orders/_batch", `[{"id":"b"},{"id":"x"}]`, idem, "kb").refused(409, "conflict")
}

// aliveOnly says that one transaction is open.
func aliveOnly(open string) func(ulid.ULID, string) bool {
	return func(_ ulid.ULID, tx string) bool { return tx == open }
}

// TestBufferedKeysAreBounded: a transaction cannot fill the memory with answers.
func TestBufferedKeysAreBounded(t *testing.T) {
	var b buffered
	key := func(i int) *requestKey { return &requestKey{key: fmt.Sprint(i)} }
	for i := range maxBufferedKeys {
		b.add("open", ulid.ULID{}, key(i), nil, aliveOnly("open"))
	}
	if _, _, err := b.find(ulid.ULID{}, "open", key(maxBufferedKeys)); err == nil {
		t.Fatal("one key more than allowed was taken")
	}
	if _, ok, err := b.find(ulid.ULID{}, "open", key(0)); !ok || err != nil {
		t.Fatal("a kept answer is gone")
	}
	if _, ok, _ := b.find(ulid.ULID{1}, "open", key(0)); ok {
		t.Fatal("another tenant found the answer")
	}
	b.add("next", ulid.ULID{}, key(0), nil, aliveOnly("next"))
	if len(b.open) != 1 {
		t.Fatal("the answers of an ended transaction were kept")
	}
}
