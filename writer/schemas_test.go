package writer

import (
	"strings"
	"testing"

	"originchain/shared/api"
)

func TestSchemas(t *testing.T) {
	n := start(t)
	made := n.call("POST", "/schemas", ordersManifest, "Content-Type", "text/plain").want(201)
	made.is(`{"id":"shop.orders","tenant":"` + n.tenant + `","version":1}`)
	if made.header.Get(api.HeaderLSN) == "" {
		t.Fatalf("headers: %v", made.header)
	}
	n.call("POST", "/schemas", ordersManifest).want(201).is(made.body)
	n.call("POST", "/schemas", ordersManifest+"\n# a note changes nothing\n").want(201).is(made.body)
	n.call("POST", "/schemas", ordersManifest+"\n[[columns]]\nname = \"more\"\nty = \"str\"\n").refused(409, "conflict")
	n.call("POST", "/schemas", strings.Replace(ordersManifest, "version = 1", "version = 2", 1)).refused(400, "unsupported")
	n.call("GET", "/schemas/shop.orders", "").want(200).is(ordersManifest)
	n.register(typesManifest)
	list := n.call("GET", "/schemas", "").want(200).is(`["lab.types","shop.orders"]` + "\n")
	if list.header.Get(api.HeaderLSN) == "" {
		t.Fatalf("headers: %v", list.header)
	}
	n.call("GET", "/schemas/no.such", "").refused(404, "not_found")

	for _, c := range []struct{ manifest, code, says string }{
		{"", "validation_failed", ""},
		{"namespace = \"a\"\ntabel = \"b\"", "validation_failed", "line 2"},
		{"not toml", "validation_failed", ""},
		{"\xff\xfe", "validation_failed", ""},
		{strings.Replace(ordersManifest, `"i64"`, `"decimal"`, 1), "validation_failed", "decimal"},
		{strings.Replace(ordersManifest, "total >= 0", "nope >= 0", 1), "unknown_column", "not_negative"},
		{strings.Replace(ordersManifest, "total >= 0", "total >= RAND()", 1), "unsupported", "not_negative"},
		{strings.Replace(ordersManifest, "total >= 0", "(SELECT 1) = 1", 1), "unsupported", "not_negative"},
		{"triggers = [1]\n" + ordersManifest, "unsupported", ""},
	} {
		a := n.call("POST", "/schemas", strings.Replace(c.manifest, `"orders"`, `"bad"`, 1)).refused(400, c.code)
		if !strings.Contains(a.str("message"), c.says) {
			t.Errorf("the message does not say %q: %s", c.says, a.body)
		}
	}
	n.call("POST", "/schemas", strings.Repeat("#", 1<<20+1)).refused(413, "body_too_large")
	n.call("GET", "/schemas", "").is(list.body)
}

// TestCheckCacheFollowsTheTable: a dropped and remade table has its own checks.
func TestCheckCacheFollowsTheTable(t *testing.T) {
	n := start(t)
	n.register(ordersManifest)
	n.call("POST", "/rows/shop.orders", `{"id":"a","total":-1}`).refused(409, "check_violation")
	n.sql("DROP TABLE shop.orders").want(200)
	n.register(strings.Replace(ordersManifest, "total >= 0", "total < 0", 1))
	n.call("POST", "/rows/shop.orders", `{"id":"a","total":-1}`).want(200)
	n.call("POST", "/rows/shop.orders", `{"id":"a","total":1}`).refused(409, "check_violation")
}

// TestRoutesAreComplete: every row of the API of this part, and none of a
// later one.
func TestRoutesAreComplete(t *testing.T) {
	names := map[string]bool{}
	for _, r := range Routes() {
		names[r.Method+" "+r.Pattern] = true
		if r.Summary == "" {
			t.Errorf("%s has no summary", r.Name)
		}
	}
	for _, want := range []string{
		"GET /health", "GET /ready", "GET /metrics", "GET /v1/tenants/{t}/usage", "POST /v1/tenants/{t}/diagnostics", "POST /v1/queries/{id}/cancel",
		"POST /v1/admin/tenants", "GET /v1/admin/tenants", "GET /v1/admin/tenants/{t}/tokens", "POST /v1/admin/tenants/{t}/tokens",
		"DELETE /v1/admin/tenants/{t}/tokens/{id}", "GET /v1/admin/replication", "GET /v1/topology", "GET /v1/admin/tenants/{t}/config",
		"POST /v1/admin/tenants/{t}/config", "POST /v1/tenants/{t}/schemas", "GET /v1/tenants/{t}/schemas",
		"GET /v1/tenants/{t}/schemas/{schema}", "POST /v1/tenants/{t}/rows/{schema}", "PUT /v1/tenants/{t}/rows/{schema}/{pk}",
		"GET /v1/tenants/{t}/rows/{schema}/{pk}", "DELETE /v1/tenants/{t}/rows/{schema}/{pk}", "POST /v1/tenants/{t}/rows/{schema}/_batch",
		"POST /v1/tenants/{t}/sql", "POST /v1/tenants/{t}/tx/begin", "GET /v1/tenants/{t}/tx/{tx}", "POST /v1/tenants/{t}/tx/{tx}/commit",
		"POST /v1/tenants/{t}/tx/{tx}/rollback", "GET /v1/admin/archive", "POST /v1/admin/archive/tail/pause",
		"POST /v1/admin/archive/tail/resume", "POST /v1/admin/checkpoint", "POST /v1/admin/promote", "POST /v1/admin/handover",
	} {
		if !names[want] {
			t.Errorf("no route %s", want)
		}
		delete(names, want)
	}
	for extra := range names {
		t.Errorf("route %s is none of this API", extra)
	}
}
