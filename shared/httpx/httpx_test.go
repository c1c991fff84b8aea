package httpx

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"

	"originchain/shared/alarms"
	"originchain/shared/api"
	"originchain/shared/fault"
	"originchain/shared/lsn"
	"originchain/shared/telemetry"
	"originchain/shared/tenant"
)

const (
	tenantToken = "oc_live_01J8ZQ4T6W8Y0A2C4E6G8J0M2P0123456789ABCDEFGHJKMNPQRSTVWX"
	adminToken  = "oc_admin_0123456789ABCDEFGHJKMNPQRSTVWXYZ"
)

var owner = ulid.MustParse("01J8ZQ4T6W8Y0A2C4E6G8J0M2P")

// oneToken knows one token.
type oneToken struct {
	tier *tenant.Tier
	// longest is the length of the longest token it was asked about.
	longest int
	mu      sync.Mutex
}

func (a *oneToken) Authenticate(_ context.Context, token string) (tenant.Identity, error) {
	a.mu.Lock()
	a.longest = max(a.longest, len(token))
	a.mu.Unlock()
	if token != tenantToken {
		return tenant.Identity{}, fault.New(fault.Unauthorized, "no")
	}
	return tenant.Identity{Tenant: owner, Token: owner, Tier: a.tier}, nil
}

// safeBuffer is a log that handlers and tests share.
type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// rig is a server with its dependencies in view.
type rig struct {
	*Server
	auth    *oneToken
	metrics *telemetry.Metrics
	log     *safeBuffer
	audit   string
}

func newRig(t testing.TB, cfg Config, routes ...Route) *rig {
	t.Helper()
	r := &rig{auth: &oneToken{}, metrics: telemetry.NewMetrics(), log: &safeBuffer{}, audit: filepath.Join(t.TempDir(), "audit.log")}
	log, err := telemetry.NewLogger(r.log, "info")
	if err != nil {
		t.Fatal(err)
	}
	admin, err := tenant.NewAdminToken(adminToken)
	if err != nil {
		t.Fatal(err)
	}
	audit, err := telemetry.OpenAudit(r.audit, log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = audit.Close() })
	r.Server, err = New(cfg, Deps{Log: log, Metrics: NewMetrics(r.metrics), Auth: r.auth, Admin: admin, Audit: audit}, routes)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// do sends one request and returns the answer.
func (r *rig) do(method, path, token string, body io.Reader, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, path, body)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	return w
}

// envelope reads an error answer and checks what every one of them has.
func envelope(t testing.TB, w *httptest.ResponseRecorder, status int, code string) map[string]any {
	t.Helper()
	if w.Code != status {
		t.Errorf("status %d, want %d: %s", w.Code, status, w.Body)
	}
	var e map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &e); err != nil {
		t.Fatalf("the answer is not an envelope: %v: %s", err, w.Body)
	}
	if e["error"] != code || e["message"] == "" || e["request_id"] != w.Header().Get(api.HeaderRequestID) {
		t.Errorf("want %s with the request's id: %s", code, w.Body)
	}
	if _, ok := e["retry"].(bool); !ok {
		t.Errorf("retry is missing: %s", w.Body)
	}
	if w.Header().Get("Content-Type") != api.ContentTypeJSON {
		t.Errorf("content type %q", w.Header().Get("Content-Type"))
	}
	return e
}

// metric is the sum of a metric's samples.
func (r *rig) metric(t testing.TB, name string) float64 {
	t.Helper()
	families, err := r.metrics.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return sum
}

func ok(c *Call) error {
	return c.JSON(http.StatusOK, map[string]string{"tenant": c.Identity.Tenant.String()})
}

func echo(c *Call) error {
	body, err := c.Body()
	if err != nil {
		return err
	}
	return c.Send(http.StatusOK, api.ContentTypeText, body)
}

func newRoute(method, pattern string, scope Scope, h Handler) Route {
	r := Route{Method: method, Pattern: pattern, Name: method + pattern, Scope: scope, Handler: h}
	if scope == Admin {
		r.Audit = "test.act"
	}
	return r
}

func TestEveryAnswerHasARequestID(t *testing.T) {
	r := newRig(t, Config{}, newRoute("GET", "/health", Public, ok))
	form := regexp.MustCompile(`^[0-9a-f]{28}$`)
	seen := map[string]bool{}
	for _, path := range []string{"/health", "/health", "/nowhere", "/v1//x", "/health/../health"} {
		id := r.do("GET", path, "", nil).Header().Get(api.HeaderRequestID)
		if !form.MatchString(id) || seen[id] {
			t.Errorf("%s: request id %q", path, id)
		}
		seen[id] = true
	}
}

func TestUnroutedRequestsAreEnvelopes(t *testing.T) {
	r := newRig(t, Config{}, newRoute("GET", "/a/{x}", Public, ok), newRoute("POST", "/a/_batch", Public, ok))
	for _, path := range []string{"/", "/b", "/a", "/a/", "/a/b/", "//a/b", "/a/../a/b", "/a/./b", "*"} {
		w := r.do("GET", path, "", nil)
		envelope(t, w, 404, "not_found")
		if w.Header().Get("Location") != "" {
			t.Errorf("%s: redirects to %s", path, w.Header().Get("Location"))
		}
	}
	w := r.do("DELETE", "/a/b", "", nil)
	envelope(t, w, 405, "method_not_allowed")
	if got := w.Header().Get("Allow"); got != "GET, HEAD" {
		t.Errorf("Allow: %q", got)
	}
	if w := r.do("GET", "/a/_batch", "", nil); w.Code != 200 {
		t.Errorf("a row named _batch: %d", w.Code)
	}
	if w := r.do("GET", "/a/%2F%20b", "", nil); w.Code != 200 {
		t.Errorf("an escaped slash in a key: %d", w.Code)
	}
	opening := newRig(t, Config{Unrouted: fault.New(fault.NotReady, "opening").WithRetry()}, newRoute("GET", "/a", Public, ok))
	if e := envelope(t, opening.do("GET", "/v1/x", "", nil), 503, "not_ready"); e["retry"] != true {
		t.Errorf("%v", e)
	}
}

func TestPathParametersAreUnescaped(t *testing.T) {
	var got string
	r := newRig(t, Config{}, newRoute("GET", "/rows/{pk}", Public, func(c *Call) error {
		got = c.Path("pk") + " " + c.Query("k") + c.Query("none")
		return ok(c)
	}))
	r.do("GET", "/rows/a%2F..%2Fb%20c?k=1&k=2", "", nil)
	if got != "a/../b c 1" {
		t.Errorf("got %q", got)
	}
}

func TestScopes(t *testing.T) {
	r := newRig(t, Config{}, newRoute("GET", "/open", Public, ok), newRoute("GET", "/v1/tenants/{t}/x", Tenant, ok),
		newRoute("GET", "/v1/any", Tenant, ok), newRoute("POST", "/v1/admin/x", Admin, ok))
	mine, other := owner.String(), ulid.Make().String()
	for _, c := range []struct {
		method, path, token string
		want                string
		status              int
	}{
		{"GET", "/open", "", "", 200},
		{"GET", "/v1/tenants/" + mine + "/x", tenantToken, "", 200},
		{"GET", "/v1/tenants/" + strings.ToLower(mine) + "/x", tenantToken, "", 200},
		{"GET", "/v1/tenants/" + other + "/x", tenantToken, "forbidden", 403},
		{"GET", "/v1/tenants/nonsense/x", tenantToken, "forbidden", 403},
		{"GET", "/v1/tenants/" + mine + "/x", "", "unauthorized", 401},
		{"GET", "/v1/tenants/" + mine + "/x", "oc_live_wrong", "unauthorized", 401},
		{"GET", "/v1/tenants/" + mine + "/x", adminToken, "forbidden", 403},
		{"GET", "/v1/any", tenantToken, "", 200},
		{"POST", "/v1/admin/x", adminToken, "", 200},
		{"POST", "/v1/admin/x", adminToken + "0", "unauthorized", 401},
		{"POST", "/v1/admin/x", tenantToken, "forbidden", 403},
		{"POST", "/v1/admin/x", "", "unauthorized", 401},
	} {
		w := r.do(c.method, c.path, c.token, nil)
		if c.want == "" {
			if w.Code != c.status {
				t.Errorf("%s %s: %d %s", c.method, c.path, w.Code, w.Body)
			}
			continue
		}
		envelope(t, w, c.status, c.want)
		if (w.Header().Get("Www-Authenticate") != "") != (c.status == 401) {
			t.Errorf("%s: WWW-Authenticate %q", c.path, w.Header().Get("Www-Authenticate"))
		}
	}
	for _, header := range []string{"Basic " + tenantToken, tenantToken, "Bearer", "Bearer ", "Bearer " + strings.Repeat("x", maxTokenBytes+1)} {
		envelope(t, r.do("GET", "/v1/any", "", nil, "Authorization", header), 401, "unauthorized")
	}
	if r.auth.longest > maxTokenBytes {
		t.Errorf("a token of %d bytes was looked at", r.auth.longest)
	}
	if w := r.do("GET", "/v1/any", "", nil, "Authorization", "bearer "+tenantToken); w.Code != 200 {
		t.Errorf("the scheme is matched by case: %d", w.Code)
	}
	if w := r.do("POST", "/v1/admin/x", adminToken, nil); w.Header().Get("Cache-Control") != "no-store" {
		t.Error("an admin answer may be stored")
	}
}

func TestRouteListsThatCannotBeServed(t *testing.T) {
	base := newRoute("POST", "/a", Tenant, ok)
	for name, change := range map[string]func(*Route){
		"no name": func(r *Route) { r.Name = "" }, "no method": func(r *Route) { r.Method = "" }, "no handler": func(r *Route) { r.Handler = nil },
		"no pattern": func(r *Route) { r.Pattern = "" }, "not audited": func(r *Route) { r.Scope = Admin },
	} {
		bad := base
		change(&bad)
		rig := newRig(t, Config{})
		if _, err := New(Config{}, rig.deps, []Route{bad}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	rig := newRig(t, Config{})
	other := base
	other.Pattern = "/b"
	if _, err := New(Config{}, rig.deps, []Route{base, other}); err == nil {
		t.Error("two routes with one name")
	}
	other.Name, other.Pattern = "other", base.Pattern
	if _, err := New(Config{}, rig.deps, []Route{base, other}); err == nil {
		t.Error("two routes with one pattern")
	}
	bare := Deps{Log: rig.deps.Log, Metrics: rig.deps.Metrics}
	for _, scope := range []Scope{Tenant, Admin} {
		if _, err := New(Config{}, bare, []Route{newRoute("GET", "/a", scope, ok)}); err == nil {
			t.Errorf("scope %s without authenticator", scope)
		}
	}
	if _, err := New(Config{}, bare, []Route{newRoute("GET", "/a", Public, ok)}); err != nil {
		t.Error(err)
	}
	if got := InScope([]Route{base, newRoute("GET", "/h", Public, ok)}, Public); len(got) != 1 || got[0].Pattern != "/h" {
		t.Errorf("in scope: %v", got)
	}
}

// cut is a body that ends in an error.
func TestPanicBecomesAnAnswer(t *testing.T) {
	r := newRig(t, Config{}, newRoute("GET", "/before", Public, func(*Call) error { panic("boom " + tenantToken) }),
		newRoute("GET", "/after", Public, func(c *Call) error {
			_, _ = c.Writer().Write([]byte("half"))
			panic("boom")
		}), newRoute("GET", "/abort", Public, func(c *Call) error { panic(http.ErrAbortHandler) }))
	e := envelope(t, r.do("GET", "/before", "", nil), 500, "server_error")
	if id, _ := e["trace_id"].(string); len(id) != 32 || !strings.Contains(r.log.String(), id) {
		t.Errorf("trace id %v is not in the log", e["trace_id"])
	}
	if log := r.log.String(); !strings.Contains(log, "httpx_test.go") || strings.Contains(log, tenantToken) {
		t.Errorf("the log lacks the stack or has the token: %s", log)
	}
	for _, path := range []string{"/after", "/abort"} {
		func() {
			defer func() {
				if p := recover(); p != http.ErrAbortHandler {
					t.Errorf("%s: the connection is not cut: %v", path, p)
				}
			}()
			r.do("GET", path, "", nil)
		}()
	}
	if got := r.metric(t, "oc_requests_seconds"); got != 3 {
		t.Errorf("%v of 3 requests are counted", got)
	}
	if got := r.metric(t, "oc_panics_total"); got != 2 {
		t.Errorf("oc_panics_total is %v", got)
	}
}

func TestAnErrorAfterTheFirstByteCutsTheConnection(t *testing.T) {
	r := newRig(t, Config{}, newRoute("GET", "/a", Public, func(c *Call) error {
		_, _ = c.Writer().Write([]byte(`{"rows":[`))
		return errors.New("disk")
	}))
	defer func() {
		if p := recover(); p != http.ErrAbortHandler {
			t.Errorf("half an answer ends like a whole one: %v", p)
		}
		if !strings.Contains(r.log.String(), `"error":"disk"`) {
			t.Errorf("the cause is not in the log: %s", r.log)
		}
	}()
	r.do("GET", "/a", "", nil)
}

func TestErrorEnvelope(t *testing.T) {
	var err error
	r := newRig(t, Config{}, newRoute("GET", "/a", Public, func(*Call) error { return err }))
	err = fault.New(fault.VersionMismatch, "stale").With("current_version", uint64(1<<63)).With("retry", "forged").With("error", "forged")
	w := r.do("GET", "/a", "", nil)
	e := envelope(t, w, 409, "version_mismatch")
	if !strings.Contains(w.Body.String(), `"current_version":9223372036854775808`) || e["retry"] != false {
		t.Errorf("%s", w.Body)
	}
	err = fault.New(fault.InvalidEnvelope, "quotes %s", tenantToken).With("field", tenantToken)
	if w = r.do("GET", "/a", "", nil); strings.Contains(w.Body.String(), tenantToken) {
		t.Errorf("an answer has a token: %s", w.Body)
	}
	envelope(t, w, 422, "validation_failed")
	err = errors.New("secret cause")
	if w = r.do("GET", "/a", "", nil); strings.Contains(w.Body.String(), "secret cause") || !strings.Contains(r.log.String(), "secret cause") {
		t.Errorf("the cause belongs in the log, not in the answer: %s", w.Body)
	}
	if e = envelope(t, w, 500, "server_error"); e["trace_id"] == nil {
		t.Errorf("%v", e)
	}
	slow := fault.New(fault.Overloaded, "later")
	slow.RetryAfter = 2500 * time.Millisecond
	err = slow
	if w = r.do("GET", "/a", "", nil); w.Header().Get("Retry-After") != "3" {
		t.Errorf("Retry-After %q", w.Header().Get("Retry-After"))
	}
	err = context.Canceled
	envelope(t, r.do("GET", "/a", "", nil), 499, "cancelled")
	err = fault.New(fault.ValidationFailed, "x").With("bad", func() {})
	envelope(t, r.do("GET", "/a", "", nil), 400, "validation_failed")
}

// TestRequestThatTheNodeEnds: a client that did not cancel is not told that it did.
func TestRequestThatTheNodeEnds(t *testing.T) {
	r := newRig(t, Config{}, newRoute("GET", "/a", Public, func(c *Call) error { return c.Context().Err() }))
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fault.New(fault.NotReady, "another time").WithRetry())
	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", "/a", nil))
	if e := envelope(t, w, 503, "not_ready"); e["retry"] != true {
		t.Errorf("%v", e)
	}
}

// TestTokenThatMayBeKnownLater: the node can answer for a token that it does not
// know, and for no other refusal.
// A 503 without an outcome says that nothing was written: it must not stand for a fault
// that says that nobody knows.
func TestAnOutcomeInDoubtStaysInDoubt(t *testing.T) {
	write := func(c *Call) error {
		return fault.New(fault.Cancelled, "the frame is on its way").With("outcome", "unknown").Wrap(c.Context().Err())
	}
	r := newRig(t, Config{}, newRoute("POST", "/v1/write", Tenant, write))
	ctx, end := context.WithCancelCause(context.Background())
	end(fault.New(fault.NotReady, "the node is being stopped"))
	req := httptest.NewRequest("POST", "/v1/write", nil).WithContext(ctx)
	req.Header.Set("Authorization", "Bearer "+tenantToken)
	w := httptest.NewRecorder()
	r.ServeHTTP(w, req)
	if e := envelope(t, w, 503, "not_ready"); e["outcome"] != "unknown" {
		t.Errorf("interrupted: %v", e)
	}
	r.Server.deps.MayAnswer = func() error { return fault.New(fault.LeaseLost, "the lease is lost") }
	if e := envelope(t, r.do("POST", "/v1/write", tenantToken, nil), 503, "lease_lost"); e["outcome"] != "unknown" {
		t.Errorf("without the lease: %v", e)
	}
}

func TestTokenThatMayBeKnownLater(t *testing.T) {
	r := newRig(t, Config{}, newRoute("GET", "/v1/tenants/{tenant}/a", Tenant, ok))
	path := "/v1/tenants/" + owner.String() + "/a"
	var unknown error
	r.deps.Unknown = func(*Call) error { return unknown }
	envelope(t, r.do("GET", path, "oc_live_other", nil), 401, "unauthorized")
	unknown = fault.New(fault.LSNNotReached, "later").WithRetry()
	envelope(t, r.do("GET", path, "oc_live_other", nil), 503, "lsn_not_reached")
	envelope(t, r.do("GET", path, adminToken, nil), 403, "forbidden")
	if w := r.do("GET", path, tenantToken, nil); w.Code != 200 {
		t.Errorf("a token that is known: %d %s", w.Code, w.Body)
	}
}

func TestTraceIDIsTheCallers(t *testing.T) {
	r := newRig(t, Config{}, newRoute("GET", "/a", Public, func(*Call) error { return errors.New("x") }))
	const id = "4bf92f3577b34da6a3ce929d0e0e4736"
	if e := envelope(t, r.do("GET", "/a", "", nil, "traceparent", "00-"+id+"-00f067aa0ba902b7-01"), 500, "server_error"); e["trace_id"] != id {
		t.Errorf("trace id %v", e["trace_id"])
	}
}

func TestLogicalRequestID(t *testing.T) {
	var got string
	r := newRig(t, Config{}, newRoute("GET", "/a", Public, func(c *Call) error {
		got = telemetry.RequestFrom(c.Context()).LogicalID
		return ok(c)
	}))
	for _, c := range []struct{ sent, want string }{
		{"abc-1", "abc-1"}, {strings.Repeat("x", maxLogicalIDBytes), strings.Repeat("x", maxLogicalIDBytes)},
		{strings.Repeat("x", maxLogicalIDBytes+1), ""}, {"a b", ""}, {"ä", ""}, {"", ""},
	} {
		if r.do("GET", "/a", "", nil, api.HeaderLogicalRequestID, c.sent); got != c.want {
			t.Errorf("%q: %q", c.sent, got)
		}
	}
}

// TestAlarmsHaveABoundOfTheBuckets: a request that is faster than an alarm's threshold is not
// in a bucket that ends above it.
func TestAlarmsHaveABoundOfTheBuckets(t *testing.T) {
	r := newRig(t, Config{}, newRoute("GET", "/a", Public, ok))
	r.do("GET", "/a", "", nil)
	families, err := r.metrics.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, f := range families {
		for _, a := range alarms.Table() {
			for _, c := range a.Any {
				if c.Kind != alarms.Quantile || c.Metric != f.GetName() {
					continue
				}
				seen++
				var ends []float64
				for _, b := range f.GetMetric()[0].GetHistogram().GetBucket() {
					ends = append(ends, b.GetUpperBound())
				}
				if !slices.Contains(ends, c.Threshold) {
					t.Errorf("the alarm of %s is above %g, and its buckets end at %v", c.Metric, c.Threshold, ends)
				}
			}
		}
	}
	if seen == 0 {
		t.Error("no alarm reads what requests are measured by")
	}
}

func TestMetricsOfRequests(t *testing.T) {
	r := newRig(t, Config{}, newRoute("GET", "/a", Public, ok))
	r.do("GET", "/a", "", nil)
	r.do("HEAD", "/a", "", nil)
	r.do("BREW", "/made-up", "", nil)
	families, err := r.metrics.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]uint64{}
	for _, f := range families {
		if f.GetName() == "oc_requests_seconds" {
			for _, m := range f.GetMetric() {
				key := ""
				for _, l := range m.GetLabel() {
					key += l.GetName() + "=" + l.GetValue() + " "
				}
				got[key] = m.GetHistogram().GetSampleCount()
			}
		}
	}
	want := map[string]uint64{"method=GET route=GET/a status=200 ": 2, "method=any route=unmatched status=404 ": 1}
	if len(got) != len(want) {
		t.Errorf("series %v", got)
	}
	for key, n := range want {
		if got[key] != n {
			t.Errorf("%s: %d, want %d", key, got[key], n)
		}
	}
}

func TestAccessLog(t *testing.T) {
	r := newRig(t, Config{}, newRoute("GET", "/a", Public, ok), newRoute("GET", "/bad", Tenant, func(*Call) error { return fault.New(fault.NotReady, "x") }),
		newRoute("GET", "/ready", Public, func(*Call) error { return fault.New(fault.NotReady, "x") }))
	r.do("GET", "/a", "", nil)
	r.do("GET", "/ready", "", nil)
	if r.log.String() != "" {
		t.Errorf("a quick success or a check that says no is logged at info: %s", r.log)
	}
	r.do("GET", "/bad?q="+tenantToken, tenantToken, nil)
	if log := r.log.String(); !strings.Contains(log, `"status":503`) || !strings.Contains(log, owner.String()) || strings.Contains(log, tenantToken) {
		t.Errorf("the failure reads %s", log)
	}
	r.deps.Log.SetLevel(logrus.DebugLevel)
	r.do("GET", "/a", "", nil)
	if !strings.Contains(r.log.String(), `"route":"GET/a"`) {
		t.Errorf("no line at debug: %s", r.log)
	}
	slow := newRig(t, Config{SlowRequest: time.Nanosecond}, newRoute("GET", "/a", Public, ok))
	slow.do("GET", "/a", "", nil)
	if !strings.Contains(slow.log.String(), `"msg":"request"`) {
		t.Error("a slow request is not logged")
	}
}

func TestPositionAndQueryID(t *testing.T) {
	id := ulid.Make()
	r := newRig(t, Config{}, newRoute("GET", "/a", Public, func(c *Call) error {
		c.SetPosition(lsn.Pos{Epoch: 3, LSN: 1 << 63})
		c.SetQueryID(id)
		return ok(c)
	}))
	h := r.do("GET", "/a", "", nil).Header()
	if h.Get(api.HeaderLSN) != "9223372036854775808" || h.Get(api.HeaderEpoch) != "3" || h.Get(api.HeaderQueryID) != id.String() {
		t.Errorf("%v", h)
	}
}

// discard is an answer that nobody reads.
