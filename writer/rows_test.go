package writer

import (
	"encoding/base64"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"

	"originchain/shared/api"
)

const linesManifest = `
namespace = "shop"
table = "lines"
primary_key = ["order_id", "line"]

[[columns]]
name = "order_id"
ty = "str"

[[columns]]
name = "line"
ty = "i64"

[[foreign_keys]]
from_col = "order_id"
target_schema = "shop.orders"
target_col = "id"
`

const typesManifest = `
namespace = "lab"
table = "types"
primary_key = ["k"]

[[columns]]
name = "k"
ty = "u64"

[[columns]]
name = "i"
ty = "i64"

[[columns]]
name = "f"
ty = "f64"

[[columns]]
name = "b"
ty = "bool"

[[columns]]
name = "raw"
ty = "bytes"

[[columns]]
name = "s"
ty = "str"
default = "none"
`

func TestRows(t *testing.T) {
	n := start(t)
	n.register(ordersManifest)
	n.register(linesManifest)
	n.register(typesManifest)
	t.Run("write, read, replace, delete", func(t *testing.T) { testRowLife(n.sub(t)) })
	t.Run("keys of paths", func(t *testing.T) { testRowKeys(n.sub(t)) })
	t.Run("put and its path", func(t *testing.T) { testPutPath(n.sub(t)) })
	t.Run("compare and swap", func(t *testing.T) { testCompareAndSwap(n.sub(t)) })
	t.Run("constraints", func(t *testing.T) { testConstraints(n.sub(t)) })
	t.Run("bad input", func(t *testing.T) { testBadRows(n.sub(t)) })
	t.Run("types", func(t *testing.T) { testTypes(n.sub(t)) })
	t.Run("positions", func(t *testing.T) { testPositions(n.sub(t)) })
}

func testRowLife(n *node) {
	a := n.call("POST", "/rows/shop.orders", `{"id":"a","total":5}`).want(200)
	v := a.str("version")
	a.is(`{"schema":"shop.orders","pk":"a","lsn":` + v + `,"version":` + v + `}`)
	if a.header.Get(api.HeaderLSN) != v || a.header.Get(api.HeaderEpoch) != "1" || len(a.header.Get(api.HeaderRequestID)) != 28 {
		n.t.Fatalf("headers of a write: %v", a.header)
	}
	g := n.call("GET", "/rows/shop.orders/a", "").want(200).is(`{"id":"a","total":5,"email":null}`)
	if g.header.Get("ETag") != `"`+v+`"` || g.header.Get(api.HeaderLSN) == "" || g.header.Get("Content-Type") != "application/json" {
		n.t.Fatalf("headers of a read: %v", g.header)
	}
	b := n.call("POST", "/rows/shop.orders", `{"id":"a","email":"x@y"}`).want(200)
	if b.str("version") == v {
		n.t.Fatal("a replaced row kept its version")
	}
	n.call("GET", "/rows/shop.orders/a", "").want(200).is(`{"id":"a","total":null,"email":"x@y"}`)
	n.call("POST", "/rows/shop.orders?expect=insert", `{"id":"a"}`).refused(409, "already_exists")
	n.call("DELETE", "/rows/shop.orders/a", "").want(200).is(`{"deleted":true}`)
	n.call("DELETE", "/rows/shop.orders/a", "").want(200).is(`{"deleted":false}`)
	gone := n.call("GET", "/rows/shop.orders/a", "").refused(404, "not_found")
	if gone.header.Get(api.HeaderLSN) == "" {
		n.t.Fatal("a 404 has no position")
	}
	n.call("POST", "/rows/shop.orders?expect=insert", `{"id":"a"}`).want(200)
}

// testRowKeys: a key is one path segment, whatever it holds.
func testRowKeys(n *node) {
	for _, key := range []string{"a/b", "ü and space", "..", "_batch", `quo"te`, "100%", "a\u0000b", "x?y#z"} {
		body := fmt.Sprintf(`{"id":%q,"total":1}`, key)
		if key == "a\u0000b" {
			body = `{"id":"a\u0000b","total":1}`
		}
		n.call("POST", "/rows/shop.orders", body).want(200)
		path := "/rows/shop.orders/" + strings.ReplaceAll(url.PathEscape(key), ".", "%2E")
		if got := n.call("GET", path, "").want(200).str("id"); got != key {
			n.t.Fatalf("GET %s: id %q, want %q", path, got, key)
		}
		if got := n.call("PUT", path, `{"total":2}`).want(200).str("pk"); got != key {
			n.t.Fatalf("PUT %s: pk %q, want %q", path, got, key)
		}
		n.call("DELETE", path, "").want(200).is(`{"deleted":true}`)
	}
	n.call("POST", "/rows/shop.orders", `{"id":"p"}`).want(200)
	composite := n.call("POST", "/rows/shop.lines", `{"order_id":"p","line":2}`).want(200)
	if got := composite.str("pk"); got != `["p",2]` {
		n.t.Fatalf("composite pk %q", got)
	}
	for _, method := range []string{"GET", "DELETE", "PUT"} {
		n.call(method, "/rows/shop.lines/p", `{"order_id":"p","line":2}`).refused(400, "unsupported")
	}
	long := strings.Repeat("k", 1100)
	n.call("POST", "/rows/shop.orders", `{"id":"`+long+`"}`).refused(400, "validation_failed")
	n.call("GET", "/rows/shop.orders/"+long, "").refused(400, "validation_failed")
}

func testPutPath(n *node) {
	n.call("PUT", "/rows/shop.orders/put", `{}`).want(200)
	n.call("GET", "/rows/shop.orders/put", "").want(200).is(`{"id":"put","total":null,"email":null}`)
	n.call("PUT", "/rows/shop.orders/put", ` { "total" : 3 } `).want(200)
	n.call("PUT", "/rows/shop.orders/put", `{"id":"put","total":4}`).want(200)
	n.call("GET", "/rows/shop.orders/put", "").want(200).is(`{"id":"put","total":4,"email":null}`)
	n.call("PUT", "/rows/shop.orders/put", `{"id":"other"}`).refused(400, "validation_failed")
	n.call("PUT", "/rows/shop.orders/put", `{"id":null}`).refused(400, "missing_column")
	n.call("PUT", "/rows/shop.orders/put", `{"nope":1}`).refused(400, "unknown_column")
	n.call("PUT", "/rows/lab.types/x", `{}`).refused(400, "type_mismatch")
	n.call("PUT", "/rows/lab.types/18446744073709551615", `{}`).want(200)
	n.call("GET", "/rows/lab.types/18446744073709551615", "").want(200)

	n.register(strings.ReplaceAll(strings.Replace(typesManifest, `name = "k"`+"\n"+`ty = "u64"`, `name = "k"`+"\n"+`ty = "u64"`+"\n"+`default = 7`, 1), `"types"`, `"defaulted"`))
	n.call("PUT", "/rows/lab.defaulted/8", `{}`).want(200)
	n.call("GET", "/rows/lab.defaulted/8", "").want(200)
	n.call("PUT", "/rows/lab.defaulted/8", `{"k":7}`).refused(400, "validation_failed")
	n.call("PUT", "/rows/lab.defaulted/7", `{"i":1}`).want(200)
}

func testCompareAndSwap(n *node) {
	v := n.call("POST", "/rows/shop.orders", `{"id":"cas","total":1}`).want(200).str("version")
	n.call("PUT", "/rows/shop.orders/cas", `{"total":2}`, "If-Match", "1").refused(409, "version_mismatch")
	if got := n.call("PUT", "/rows/shop.orders/cas", `{"total":2}`, "If-Match", "1").str("current_version"); got != v {
		n.t.Fatalf("current_version %s, want %s", got, v)
	}
	v2 := n.call("PUT", "/rows/shop.orders/cas", `{"total":2}`, "If-Match", v).want(200).str("version")
	n.call("PUT", "/rows/shop.orders/cas", `{"total":3}`, "If-Match", `"`+v+`"`).refused(409, "version_mismatch")
	v3 := n.call("POST", "/rows/shop.orders", `{"id":"cas","total":3}`, "If-Match", `"`+v2+`"`).want(200).str("version")
	n.call("GET", "/rows/shop.orders/cas", "", "If-Match", v2).refused(409, "version_mismatch")
	n.call("GET", "/rows/shop.orders/cas", "", "If-Match", v3).want(200)
	n.call("DELETE", "/rows/shop.orders/cas", "", "If-Match", v2).refused(409, "version_mismatch")
	n.call("DELETE", "/rows/shop.orders/cas", "", "If-Match", v3).want(200).is(`{"deleted":true}`)
	gone := n.call("DELETE", "/rows/shop.orders/cas", "", "If-Match", v3).refused(409, "version_mismatch")
	if v, ok := gone.field("current_version"), strings.Contains(gone.body, `"current_version":null`); v != nil || !ok {
		n.t.Fatalf("current_version of a missing row: %s", gone.body)
	}
	for _, bad := range []string{"*", "abc", `"1","2"`, "-1", `W/"1"`} {
		n.call("PUT", "/rows/shop.orders/cas", `{}`, "If-Match", bad).refused(400, "validation_failed")
	}
	n.call("POST", "/rows/shop.orders?expect=insert", `{"id":"x"}`, "If-Match", "1").refused(400, "validation_failed")
	n.call("POST", "/rows/shop.orders?expect=update", `{"id":"x"}`).refused(400, "validation_failed")
	n.call("DELETE", "/rows/shop.orders/cas?expect=insert", "").refused(400, "validation_failed")
}

func testConstraints(n *node) {
	n.call("POST", "/rows/shop.orders", `{"id":"c1","email":"one@x"}`).want(200)
	if got := n.call("POST", "/rows/shop.orders", `{"id":"c2","email":"one@x"}`).refused(409, "unique_violation").str("index"); got != "one_email" {
		n.t.Fatalf("index %q", got)
	}
	if got := n.call("POST", "/rows/shop.orders", `{"id":"c2","total":-1}`).refused(409, "check_violation").str("constraint"); got != "not_negative" {
		n.t.Fatalf("constraint %q", got)
	}
	n.call("POST", "/rows/shop.lines", `{"order_id":"none","line":1}`).refused(409, "fk_violation")
	n.call("POST", "/rows/shop.lines", `{"order_id":"c1","line":1}`).want(200)
	n.call("DELETE", "/rows/shop.orders/c1", "").refused(409, "fk_violation")
}

func testBadRows(n *node) {
	for _, c := range []struct {
		body   string
		status int
		code   string
	}{
		{``, 400, "invalid_json"},
		{`{`, 400, "invalid_json"},
		{`[]`, 400, "invalid_json"},
		{`{"id":"a"} x`, 400, "invalid_json"},
		{`{"id":"a","id":"b"}`, 400, "invalid_json"},
		{"{\"id\":\"\xff\"}", 400, "invalid_json"},
		{`{"id":"\ud800"}`, 400, "invalid_json"},
		{`{"id":"a","total":NaN}`, 400, "invalid_json"},
		{`{"id":"a","nope":1}`, 400, "unknown_column"},
		{`{"id":"a","total":"5"}`, 400, "type_mismatch"},
		{`{"id":"a","total":9223372036854775808}`, 400, "type_mismatch"},
		{`{"id":"a","total":1.5}`, 400, "type_mismatch"},
		{`{"id":5}`, 400, "type_mismatch"},
		{`{"id":"a","total":` + strings.Repeat("[", 10_000), 400, "type_mismatch"},
		{`{"total":1}`, 400, "missing_column"},
		{`{"id":null}`, 400, "missing_column"},
		{`{"id":"` + strings.Repeat("x", 8<<20) + `"}`, 413, "body_too_large"},
	} {
		n.call("POST", "/rows/shop.orders", c.body).refused(c.status, c.code)
	}
	n.call("POST", "/rows/lab.types", `{"k":-1}`).refused(400, "type_mismatch")
	n.call("POST", "/rows/lab.types", `{"k":18446744073709551616}`).refused(400, "type_mismatch")
	n.call("POST", "/rows/lab.types", `{"k":1,"f":1e400}`).refused(400, "type_mismatch")
	n.call("POST", "/rows/lab.types", `{"k":1,"raw":"***"}`).refused(400, "type_mismatch")
	n.call("POST", "/rows/no.such", `{}`).refused(400, "unknown_table")
	n.call("GET", "/rows/no.such/1", "").refused(400, "unknown_table")
	n.call("DELETE", "/rows/no.such/1", "").refused(400, "unknown_table")
	n.call("PATCH", "/rows/shop.orders/a", "").refused(405, "method_not_allowed")
	n.call("GET", "/watch", "").refused(404, "not_found")
	n.call("GET", "/rows/shop.orders/absent-row", "").refused(404, "not_found")
}

func testTypes(n *node) {
	raw := base64.StdEncoding.EncodeToString([]byte{0, 255, 7})
	body := `{"k":9007199254740993,"i":-9223372036854775808,"f":0.1,"b":true,"raw":"` + raw + `","s":"ü\n"}`
	n.call("POST", "/rows/lab.types", body).want(200)
	n.call("GET", "/rows/lab.types/9007199254740993", "").want(200).is(body)
	if got := n.call("POST", "/rows/lab.types", `{"k":1}`).want(200).str("pk"); got != "1" {
		n.t.Fatalf("pk %q", got)
	}
	n.call("GET", "/rows/lab.types/1", "").want(200).is(`{"k":1,"i":null,"f":null,"b":null,"raw":null,"s":"none"}`)
}

// unknownToken is a token of another id.
func unknownToken(known string) string {
	return strings.Replace(known, "oc_live_0", "oc_live_1", 1)
}

func testPositions(n *node) {
	at := n.call("POST", "/rows/shop.orders", `{"id":"pos"}`).want(200).header.Get(api.HeaderLSN)
	read := func(headers ...string) *answer { return n.call("GET", "/rows/shop.orders/pos", "", headers...) }
	read(api.HeaderMinLSN, at).want(200)
	read(api.HeaderMinLSN, at, api.HeaderMinEpoch, "1").want(200)
	late := read(api.HeaderMinLSN, "999999").refused(503, "lsn_not_reached")
	if late.str("applied_lsn") == "" || late.str("retry") != "true" || late.header.Get("Retry-After") == "" {
		n.t.Fatalf("lsn_not_reached: %s", late.body)
	}
	if got := read(api.HeaderMinLSN, at, api.HeaderMinEpoch, "9").refused(409, "conflict").str("fork_lsn"); got == "" {
		n.t.Fatal("the fork is not named")
	}
	read(api.HeaderMinLSN, "x").refused(400, "validation_failed")
	read(api.HeaderMinLSN, "0").refused(400, "validation_failed")
	read(api.HeaderMinEpoch, "1").refused(400, "validation_failed")
	n.call("GET", "/schemas", "", api.HeaderMinLSN, "999999").refused(503, "lsn_not_reached")
	n.call("GET", "/usage", "", api.HeaderMinLSN, "999999").refused(503, "lsn_not_reached")
	n.sqlRefused("SELECT 1", 503, "lsn_not_reached", api.HeaderMinLSN, "999999")
	// A token may be younger than what this node shows.
	n.call("GET", "/usage", "", "Authorization", "Bearer "+unknownToken(n.token), api.HeaderMinLSN, "999999").refused(503, "lsn_not_reached")
	n.call("GET", "/usage", "", "Authorization", "Bearer "+unknownToken(n.token), api.HeaderMinLSN, at).refused(401, "unauthorized")
}

// TestHistoryOfRestart: an epoch that ended with a restart is part of the
// history up to its last frame, and no further.
func TestHistoryOfRestart(t *testing.T) {
	n := start(t)
	n.register(ordersManifest)
	at := n.call("POST", "/rows/shop.orders", `{"id":"a"}`).want(200).header.Get(api.HeaderLSN)
	m := n.restart().restart()
	read := func(lsn, epoch string) *answer {
		return m.call("GET", "/rows/shop.orders/a", "", api.HeaderMinLSN, lsn, api.HeaderMinEpoch, epoch)
	}
	forked := func(lsn, epoch, at string) {
		t.Helper()
		if got := read(lsn, epoch).refused(409, "conflict").str("fork_lsn"); got != at {
			t.Fatalf("fork of %s@%s: %s, want %s", lsn, epoch, got, at)
		}
	}
	read(at, "1").want(200)
	first := m.call("POST", "/rows/shop.orders", `{"id":"b"}`).want(200).header.Get(api.HeaderLSN)
	read(first, "3").want(200)
	forked(first, "1", at)
	forked("9999", "1", at)
	forked("9999", "4", first)
	forked("2", "3", "1")
	forked("2", "4", "1")
}

// TestRowAcrossSchemaChanges: a write whose table changes under it is prepared
// again, and its client sees nothing of it.
func TestRowAcrossSchemaChanges(t *testing.T) {
	n := start(t)
	n.register(ordersManifest)
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for w := range 8 {
		writers.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				n.call("POST", "/rows/shop.orders", fmt.Sprintf(`{"id":"%d-%d","total":%d}`, w, i, i)).want(200)
				n.call("DELETE", fmt.Sprintf("/rows/shop.orders/%d-%d", w, i), "").want(200)
			}
		})
	}
	for range 10 {
		n.sql("CREATE INDEX coming ON shop.orders (total, email)").want(200)
		n.sql("DROP INDEX coming ON shop.orders").want(200)
	}
	close(stop)
	writers.Wait()
}
