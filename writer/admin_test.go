package writer

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/oklog/ulid/v2"

	"originchain/shared/table"
)

func TestAdmin(t *testing.T) {
	n := start(t)
	t.Run("tenants", func(t *testing.T) { testTenants(n.sub(t)) })
	t.Run("tokens", func(t *testing.T) { testTokens(n.sub(t)) })
	t.Run("keys", func(t *testing.T) { testAdminKeys(n.sub(t)) })
	t.Run("audit", func(t *testing.T) { testAudit(n.sub(t)) })
	t.Run("replication", func(t *testing.T) { testReplication(n.sub(t)) })
}

func testTenants(n *node) {
	const id = "01HQZX3V5N8M2K7P4R6T9W1Y3B"
	made := n.admin("POST", "/tenants", `{"tenant":"`+strings.ToLower(id)+`","name":"Acme","tier":"pro","subscription":{"status":"trialing","current_period_end":"2030-01-02T00:00:00Z"}}`).want(201)
	if made.str("tenant") != id || len(made.str("token_id")) != 26 || !strings.HasPrefix(made.str("token"), "oc_live_") {
		n.t.Fatalf("created: %s", made.body)
	}
	if made.header.Get("Cache-Control") != "no-store" {
		n.t.Fatalf("an answer with a secret may be cached: %v", made.header)
	}
	n.admin("POST", "/tenants", `{"tenant":"`+id+`"}`).refused(409, "already_exists")
	n.admin("POST", "/tenants", `{"tenant":"nonsense"}`).refused(400, "validation_failed")
	n.admin("POST", "/tenants", `{"tier":"gigantic"}`).refused(400, "validation_failed")
	n.admin("POST", "/tenants", `{"subscription":{"status":"odd"}}`).refused(400, "validation_failed")
	n.admin("POST", "/tenants", `{"nom":"x"}`).refused(422, "validation_failed")
	list := n.admin("GET", "/tenants", "").want(200)
	for _, want := range []string{`"tenant":"` + id + `","name":"Acme","tier":"pro"`, `"status":"trialing","current_period_end":"2030-01-02T00:00:00Z"`, n.tenant} {
		if !strings.Contains(list.body, want) {
			n.t.Fatalf("the list lacks %s: %s", want, list.body)
		}
	}
	u := n.do(context.Background(), made.str("token"), "GET", "/v1/tenants/"+id+"/usage", nil).want(200)
	if u.str("tier") != "pro" || !strings.Contains(u.body, `"limits":{"requests_per_second":5000`) || !strings.Contains(u.body, `"slug":"pro"`) {
		n.t.Fatalf("usage of a tier: %s", u.body)
	}
}

func testTokens(n *node) {
	id, token := n.newTenant(``)
	minted := n.admin("POST", "/tenants/"+strings.ToLower(id)+"/tokens", `{"kind":"test"}`).want(201)
	second := minted.str("token")
	if !strings.HasPrefix(second, "oc_test_") {
		n.t.Fatalf("minted: %s", minted.body)
	}
	use := func(token string) *answer {
		return n.do(context.Background(), token, "GET", "/v1/tenants/"+id+"/schemas", nil)
	}
	use(token).want(200)
	use(second).want(200)
	list := n.admin("GET", "/tenants/"+id+"/tokens", "").want(200)
	if strings.Count(list.body, `"token_id"`) != 2 || strings.Contains(list.body, second) {
		n.t.Fatalf("list: %s", list.body)
	}
	path := "/tenants/" + id + "/tokens/" + minted.str("token_id")
	n.admin("DELETE", path, "").want(200).is(`{"token_id":"` + minted.str("token_id") + `","revoked":true}` + "\n")
	use(second).refused(401, "unauthorized")
	use(token).want(200)
	n.admin("DELETE", path, "").want(200).is(`{"token_id":"` + minted.str("token_id") + `","revoked":false}` + "\n")
	if list := n.admin("GET", "/tenants/"+id+"/tokens", ""); strings.Count(list.body, `"revoked_at"`) != 1 {
		n.t.Fatalf("list after a revocation: %s", list.body)
	}
	n.admin("DELETE", "/tenants/"+n.tenant+"/tokens/"+minted.str("token_id"), "").refused(404, "not_found")
	n.admin("DELETE", "/tenants/"+id+"/tokens/01HQZX3V5N8M2K7P4R6T9W1Y3B", "").refused(404, "not_found")
	n.admin("DELETE", "/tenants/"+id+"/tokens/x", "").refused(400, "validation_failed")
	n.admin("POST", "/tenants/01HQZX3V5N8M2K7P4R6T9W1YZZ/tokens", `{}`).refused(404, "not_found")
	n.admin("GET", "/tenants/01HQZX3V5N8M2K7P4R6T9W1YZZ/tokens", "").refused(404, "not_found")
	n.admin("POST", "/tenants/"+id+"/tokens", `{"kind":"gold"}`).refused(400, "validation_failed")
	n.admin("GET", "/tenants/"+id+"/nothing", "").refused(404, "not_found")
}

// testAdminKeys: a repeated key is refused, since the answer it would repeat is
// not kept, and no secret is in the state.
func testAdminKeys(n *node) {
	made := n.admin("POST", "/tenants", `{}`, idem, "admin-1").want(201)
	n.admin("POST", "/tenants", `{}`, idem, "admin-1").refused(409, "conflict")
	n.admin("POST", "/tenants/"+n.tenant+"/tokens", `{}`, idem, "admin-1").refused(409, "conflict")
	n.admin("POST", "/tenants", `{"tenant":"x"}`, idem, "admin-2").refused(400, "validation_failed")
	n.admin("POST", "/tenants", `{}`, idem, "admin-2").want(201)
	lower, upper := table.LoggedRange()
	it, err := n.w.engine.Load().View().Iter(lower, upper, false)
	if err != nil {
		n.t.Fatal(err)
	}
	defer it.Close()
	for it.Next() {
		if strings.Contains(string(it.Value()), made.str("token")) {
			n.t.Fatalf("the token is in the state under %x", it.Key())
		}
	}
}

// testAudit: each privileged action leaves a line, refused ones too, without secrets.
func testAudit(n *node) {
	made := n.admin("POST", "/tenants", `{"name":"audited"}`).want(201)
	n.admin("DELETE", "/tenants/"+made.str("tenant")+"/tokens/"+made.str("token_id"), "").want(200)
	n.do(context.Background(), made.str("token"), "POST", "/v1/admin/tenants", strings.NewReader(`{}`)).want(401)
	raw, err := os.ReadFile(n.audit)
	if err != nil {
		n.t.Fatal(err)
	}
	text := string(raw)
	for _, want := range []string{
		`"action":"tenant.create","object":"tenant/` + made.str("tenant") + `","outcome":"ok"`,
		`"action":"token.revoke","object":"tenant/` + made.str("tenant") + `/token/` + made.str("token_id") + `","outcome":"ok"`,
		`"outcome":"unauthorized"`,
	} {
		if !strings.Contains(text, want) {
			n.t.Errorf("the audit log lacks %s:\n%s", want, text)
		}
	}
	if strings.Contains(text, made.str("token")) || strings.Contains(text, adminText) {
		n.t.Error("a secret is in the audit log")
	}
}

func testReplication(n *node) {
	e := n.w.engine.Load()
	a, err := e.Applied()
	if err != nil {
		n.t.Fatal(err)
	}
	r := n.admin("GET", "/replication", "").want(200)
	for name, want := range map[string]string{"role": "writer", "node": "node-1", "epoch": "1", "digest": a.Digest.String(), "in_sync": "[]", "followers": "[]"} {
		if got := r.str(name); got != want {
			n.t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	for _, name := range []string{"lsn", "durable_lsn", "commit_lsn", "applied_lsn"} {
		if r.str(name) != fmt.Sprint(uint64(a.Pos.LSN)) {
			n.t.Errorf("%s is %s, want %d", name, r.str(name), a.Pos.LSN)
		}
	}
}

// TestRecordCache: what was read before a change is not kept after it.
func TestRecordCache(t *testing.T) {
	v := &gatedView{values: map[string]string{}}
	r := &recordCache{view: v}
	id := ulid.ULID{7}
	key := string(table.RecordKey(table.System, table.SpaceTokens, id[:]))
	v.values[key] = "old"
	v.entered, v.release = make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		if b, ok, err := r.TokenBytes(id); string(b) != "old" || !ok || err != nil {
			t.Errorf("a read that began before the change: %s %v %v", b, ok, err)
		}
	})
	<-v.entered
	v.values[key] = "new"
	r.forget()
	close(v.release)
	wg.Wait()
	v.entered = nil
	if b, _, _ := r.TokenBytes(id); string(b) != "new" {
		t.Fatalf("after the change: %s", b)
	}
	v.values[key] = "unseen"
	if b, _, _ := r.TokenBytes(id); string(b) != "new" {
		t.Fatalf("the record was not kept: %s", b)
	}
	if _, ok, _ := r.TenantBytes(id); ok || len(r.known) != 1 {
		t.Fatal("a record that is not there was kept")
	}
}

// gatedView is a state whose reads can be held up.
type gatedView struct {
	values           map[string]string
	entered, release chan struct{}
}

func (v *gatedView) Get(key []byte) ([]byte, bool, error) {
	s, ok := v.values[string(key)]
	if v.entered != nil {
		close(v.entered)
		<-v.release
	}
	return []byte(s), ok, nil
}

func (v *gatedView) Iter([]byte, []byte, bool) (table.Iterator, error) { return nil, nil }

// How a tenant is replicated has one value so far; what is not there yet is
// refused and changes nothing.
func TestTenantConfig(t *testing.T) {
	n := start(t)
	path := "/v1/admin/tenants/" + n.tenant + "/config"
	get := func(want string) {
		t.Helper()
		if a := n.do(t.Context(), adminText, "GET", path, nil); a.status != 200 || strings.TrimSpace(a.body) != want {
			t.Errorf("%d %s, want %s", a.status, a.body, want)
		}
	}
	set := func(body string, status int, code string) {
		t.Helper()
		a := n.do(t.Context(), adminText, "POST", path, strings.NewReader(body))
		if a.status != status || (code != "" && !strings.Contains(a.body, `"`+code+`"`)) {
			t.Errorf("%s: %d %s", body, a.status, a.body)
		}
	}
	get(`{"replication_mode":"active_passive"}`)
	set(`{"replication_mode":"raft_quorum"}`, 400, "unsupported")
	set(`{"replication_mode":"both"}`, 400, "validation_failed")
	set(`{}`, 422, "validation_failed")
	get(`{"replication_mode":"active_passive"}`)
	set(`{"replication_mode":"active_passive"}`, 200, "")
	get(`{"replication_mode":"active_passive","installed":true}`)
	if a := n.do(t.Context(), n.token, "GET", path, nil); a.status != 401 && a.status != 403 {
		t.Errorf("a tenant's token: %d", a.status)
	}
	if a := n.do(t.Context(), adminText, "GET", "/v1/admin/tenants/01J0000000000000000000000Z/config", nil); a.status != 404 {
		t.Errorf("an unknown tenant: %d", a.status)
	}
}

// A writer alone is all of the topology there is.
func TestTopologyOfOne(t *testing.T) {
	n := start(t, func(c *Config, _ *Deps) { c.URL = "https://db.example.com" })
	a := n.do(t.Context(), n.token, "GET", "/v1/topology", nil)
	if want := `{"epoch":1,"writer":"https://db.example.com","followers":[]}`; a.status != 200 || strings.TrimSpace(a.body) != want {
		t.Errorf("%d %s", a.status, a.body)
	}
}
