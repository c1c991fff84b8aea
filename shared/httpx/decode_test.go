package httpx

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/time/rate"

	"originchain/shared/api"
	"originchain/shared/fault"
)

func TestStrictEnvelope(t *testing.T) {
	var got api.SQLRequest
	r := newRig(t, Config{}, newRoute("POST", "/sql", Public, Typed(201, func(_ *Call, in api.SQLRequest) (api.SQLRequest, error) {
		got = in
		return in, nil
	})))
	deep := func(n int) string {
		return `{"sql":"x","params":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}`
	}
	for _, c := range []struct {
		body   string
		status int
		code   string
	}{
		{`{"sql":"select 1"}`, 201, ""},
		{`{"sql":"a\ud83d\ude00","params":[1,18446744073709551615,{"sql":1}]}`, 201, ""},
		{" {\"params\":null,\"sql\":\"x\"}\n", 201, ""},
		{deep(MaxJSONDepth - 1), 201, ""},
		{deep(MaxJSONDepth), 400, "invalid_json"},
		{deep(100_000), 400, "invalid_json"},
		{strings.Repeat("[", 1_000_000), 400, "invalid_json"},
		{``, 400, "invalid_json"},
		{`{"sql":"x"`, 400, "invalid_json"},
		{`{"sql":"x"} {}`, 400, "invalid_json"},
		{`{"sql":"x",}`, 400, "invalid_json"},
		{`{"sql":NaN}`, 400, "invalid_json"},
		{"{\"sql\":\"\xff\"}", 400, "invalid_json"},
		{`{"sql":"\ud800"}`, 400, "invalid_json"},
		{`{"sql":"\ude00\ud83d"}`, 400, "invalid_json"},
		{`{"sql":"\ud83d\u0041"}`, 400, "invalid_json"},
		{`{"sql":"\\ud800"}`, 201, ""},
		{`{}`, 422, "validation_failed"},
		{`{"sql":null}`, 422, "validation_failed"},
		{`{"SQL":"x"}`, 422, "validation_failed"},
		{`{"sql":"x","query":"x"}`, 422, "validation_failed"},
		{`{"sql":"x","SQL":"y"}`, 422, "validation_failed"},
		{`{"sql":"x","sql":"y"}`, 422, "validation_failed"},
		{`{"sql":5}`, 422, "validation_failed"},
		{`["sql"]`, 422, "validation_failed"},
		{`null`, 422, "validation_failed"},
		{`"sql"`, 422, "validation_failed"},
	} {
		w := r.do("POST", "/sql", "", strings.NewReader(c.body))
		short := c.body[:min(60, len(c.body))]
		if c.code == "" {
			if w.Code != c.status {
				t.Errorf("%s: %d %s", short, w.Code, w.Body)
			}
			continue
		}
		if w.Code != c.status {
			t.Errorf("%s: %d, want %d", short, w.Code, c.status)
		}
		envelope(t, w, c.status, c.code)
	}
	r.do("POST", "/sql", "", strings.NewReader(`{"sql":"a","params":[1]}`))
	r.do("POST", "/sql", "", strings.NewReader(`{"sql":"bbb"}`))
	if got.SQL != "bbb" || got.Params != nil {
		t.Errorf("one request sees another's fields: %+v", got)
	}
}

func TestEnvelopeWithoutRequiredFields(t *testing.T) {
	r := newRig(t, Config{}, newRoute("POST", "/x", Public, Typed(200, func(_ *Call, in api.CreateTenantRequest) (string, error) {
		return in.Name, nil
	})), newRoute("GET", "/y", Public, Reply(200, func(c *Call) (string, error) { return "y", nil })),
		newRoute("GET", "/z", Public, Reply(200, func(c *Call) (string, error) { return "", fault.New(fault.NotFound, "x") })))
	for body, status := range map[string]int{
		"": 200, "{}": 200, `{"name":"a"}`: 200, `{"subscription":{"status":"active"}}`: 200,
		`{"subscription":{"state":"active"}}`: 422, `{"subscription":5}`: 422, `{"nom":"a"}`: 422, " ": 400,
	} {
		if w := r.do("POST", "/x", "", strings.NewReader(body)); w.Code != status {
			t.Errorf("%q: %d %s", body, w.Code, w.Body)
		}
	}
	if w := r.do("GET", "/y", "", nil); w.Body.String() != "\"y\"\n" {
		t.Errorf("%s", w.Body)
	}
	envelope(t, r.do("GET", "/z", "", nil), 404, "not_found")
}

func TestEnvelopeOfBytes(t *testing.T) {
	got, err := NewEnvelope[api.SQLRequest]().Decode([]byte(`{"sql":"x"}`))
	if got.SQL != "x" || err != nil {
		t.Errorf("%+v %v", got, err)
	}
	if _, err := NewEnvelope[api.SQLRequest]().Decode(nil); fault.CodeOf(err) != fault.InvalidJSON {
		t.Errorf("no body where a field is required: %v", err)
	}
	if _, err := NewEnvelope[api.MintTokenRequest]().Decode(nil); err != nil {
		t.Errorf("no body where none is: %v", err)
	}
}

func TestRequestTypesWithoutAShape(t *testing.T) {
	for _, bad := range []any{5, struct{ Name string }{}, []string{}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%T is taken for a request", bad)
				}
			}()
			shapeOf(reflect.TypeOf(bad))
		}()
	}
}

func FuzzEnvelope(f *testing.F) {
	for _, seed := range []string{`{"sql":"x","params":[1,{"a":"\ud83d\ude00"}]}`, `{"sql":"\ud800"}`, `{"sql":"x","sql":"y"}`, `[[[[`, "\xff", `{"\u0073ql":"x"}`} {
		f.Add([]byte(seed))
	}
	shape := shapeOf(reflect.TypeFor[api.SQLRequest]())
	f.Fuzz(func(t *testing.T, src []byte) {
		var in api.SQLRequest
		if err := decodeEnvelope(src, &in, shape); err != nil {
			if code := fault.CodeOf(err); code != fault.InvalidJSON && code != fault.InvalidEnvelope {
				t.Errorf("%q: %v", src, err)
			}
			return
		}
		var plain struct {
			SQL string `json:"sql"`
		}
		if err := json.Unmarshal(src, &plain); err != nil || plain.SQL != in.SQL {
			t.Errorf("%q: read as %q, encoding/json reads %q, %v", src, in.SQL, plain.SQL, err)
		}
	})
}

// auditLines reads the audit log.
func (r *rig) auditLines(t *testing.T) []map[string]any {
	t.Helper()
	raw, err := os.ReadFile(r.audit)
	if err != nil {
		t.Fatal(err)
	}
	var lines []map[string]any
	for _, text := range strings.Split(strings.TrimSpace(string(raw)), "\n") {
		if text == "" {
			continue
		}
		var line map[string]any
		if err := json.Unmarshal([]byte(text), &line); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		lines = append(lines, line)
	}
	return lines
}

func TestPrivilegedActionsAreAuditedBeforeTheyAreAnswered(t *testing.T) {
	var fail error
	r := newRig(t, Config{}, newRoute("POST", "/v1/admin/x", Admin, func(c *Call) error {
		c.SetObject("tenant/x")
		if fail != nil {
			return fail
		}
		return c.JSON(201, "done")
	}))
	w := r.do("POST", "/v1/admin/x", adminToken, nil)
	if w.Code != 201 || w.Body.String() != "\"done\"\n" {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	fail = fault.New(fault.AlreadyExists, "x")
	r.do("POST", "/v1/admin/x", adminToken, nil)
	r.do("POST", "/v1/admin/x", tenantToken, nil)
	r.do("POST", "/v1/admin/x", "wrong", nil)
	lines := r.auditLines(t)
	admin, _ := r.deps.Admin.Matches(adminToken)
	want := []struct{ actor, outcome, object string }{
		{admin, "ok", "tenant/x"}, {admin, "already_exists", "tenant/x"}, {owner.String(), "forbidden", ""}, {"unknown", "unauthorized", ""}}
	if len(lines) != len(want) {
		t.Fatalf("%d lines: %v", len(lines), lines)
	}
	for i, l := range lines {
		object, _ := l["object"].(string)
		if l["actor"] != want[i].actor || l["outcome"] != want[i].outcome || object != want[i].object || l["action"] != "test.act" {
			t.Errorf("line %d: %v", i, l)
		}
	}
	if lines[0]["request_id"] != w.Header().Get(api.HeaderRequestID) {
		t.Errorf("the line names another request: %v", lines[0])
	}
	if err := r.deps.Audit.Close(); err != nil {
		t.Fatal(err)
	}
	fail = nil
	e := envelope(t, r.do("POST", "/v1/admin/x", adminToken, nil), 500, "server_error")
	if !strings.Contains(fmt.Sprint(e["message"]), "audit log") {
		t.Errorf("an action that is not audited is answered with %v", e)
	}
}

func TestAFloodOfRefusalsDoesNotFloodTheAuditLog(t *testing.T) {
	r := newRig(t, Config{}, newRoute("POST", "/v1/admin/x", Admin, ok))
	for range 500 {
		r.do("POST", "/v1/admin/x", "wrong", nil)
	}
	lines := r.auditLines(t)
	if len(lines) < auditedDenialsBurst || len(lines) > 2*auditedDenialsBurst {
		t.Errorf("500 refusals gave %d lines", len(lines))
	}
	if got := len(lines) + int(r.denials.suppressed.Load()); got != 500 {
		counted := 0
		for _, l := range lines {
			n, _ := l["suppressed"].(float64)
			counted += int(n)
		}
		if got+counted != 500 {
			t.Errorf("%d of 500 refusals are accounted for", got+counted)
		}
	}
	r.denials.suppressed.Store(7)
	r.denials.bucket.SetBurst(1000)
	r.denials.bucket.SetLimit(rate.Inf)
	r.do("POST", "/v1/admin/x", "wrong", nil)
	lines = r.auditLines(t)
	if last := lines[len(lines)-1]; last["suppressed"] != 7.0 || r.denials.suppressed.Load() != 0 {
		t.Errorf("what was not written is not told: %v", last)
	}
	before := len(lines)
	r.do("POST", "/v1/admin/x", adminToken, nil)
	if got := len(r.auditLines(t)); got != before+1 {
		t.Error("a flood of refusals keeps a real action out of the log")
	}
}
