package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"originchain/scripts/call"
	"originchain/shared/api"
)

const (
	maxBody = 8 << 20
	maxLine = 1 << 20
)

// badInput is a request that must be refused with this status and code.
type badInput struct {
	name        string
	method      string
	path        string // below /v1/tenants/<t>
	contentType string
	body        []byte
	status      int
	code        string
	words       []string // of the message
}

func rowsPath(rest string) string { return "/rows/" + notesID + rest }

// note is a row whose text has n bytes.
func note(n int) []byte { return []byte(`{"id":1,"text":"` + strings.Repeat("x", n) + `"}`) }

// sized is a row whose JSON has exactly n bytes.
func sized(n int) []byte { return note(n - len(note(0))) }

func sql(statement string) []byte {
	b, err := json.Marshal(map[string]string{"sql": statement})
	if err != nil {
		panic(err) // a string always encodes
	}
	return b
}

func badInputs() []badInput {
	post, js, nd, text := http.MethodPost, api.ContentTypeJSON, api.ContentTypeNDJSON, api.ContentTypeText
	deep := strings.Repeat("[", 100_000)
	return []badInput{
		{"row of 8 MiB + 1", post, rowsPath(""), js, sized(maxBody + 1), 413, "body_too_large", nil},
		{"sql of 8 MiB + 1", post, "/sql", js, sql(strings.Repeat("x", maxBody)), 413, "body_too_large", nil},
		{"line over 1 MiB", post, rowsPath("/_batch"), nd, append(sized(maxLine+1), '\n'), 413, "body_too_large", nil},
		{"no JSON", post, rowsPath(""), js, []byte(`{"id":1`), 400, "invalid_json", nil},
		{"two values", post, rowsPath(""), js, []byte(`{"id":1}{"id":2}`), 400, "invalid_json", nil},
		{"empty body", post, rowsPath(""), js, nil, 400, "invalid_json", nil},
		{"deep JSON", post, rowsPath(""), js, []byte(deep), 400, "invalid_json", nil},
		{"deep JSON in a column", post, rowsPath(""), js, []byte(`{"id":1,"text":` + deep), 400, "type_mismatch", []string{"text"}},
		{"deep JSON in a batch", post, rowsPath("/_batch"), nd, []byte(`{"id":1,"text":` + deep + "\n"), 400, "type_mismatch", []string{"text"}},
		{"deep JSON as a request", post, "/sql", js, []byte(`{"sql":` + deep), 400, "invalid_json", nil},
		{"invalid UTF-8", post, rowsPath(""), js, []byte("{\"id\":1,\"text\":\"\xff\xfe\"}"), 400, "invalid_json", nil},
		{"NaN", post, rowsPath(""), js, []byte(`{"id":1,"score":NaN}`), 400, "invalid_json", nil},
		{"infinity by overflow", post, rowsPath(""), js, []byte(`{"id":1,"score":1e999}`), 400, "type_mismatch", []string{"score"}},
		{"i64 overflow", post, rowsPath(""), js, []byte(`{"id":9223372036854775808}`), 400, "type_mismatch", []string{"id"}},
		{"u64 overflow", post, rowsPath(""), js, []byte(`{"id":1,"stars":18446744073709551616}`), 400, "type_mismatch", []string{"stars"}},
		{"negative u64", post, rowsPath(""), js, []byte(`{"id":1,"stars":-1}`), 400, "type_mismatch", []string{"stars"}},
		{"fraction for an integer", post, rowsPath(""), js, []byte(`{"id":1.5}`), 400, "type_mismatch", []string{"id"}},
		{"text for a number", post, rowsPath(""), js, []byte(`{"id":"1"}`), 400, "type_mismatch", []string{"id"}},
		{"unknown column", post, rowsPath(""), js, []byte(`{"id":1,"colour":"red"}`), 400, "unknown_column", []string{"colour"}},
		{"missing column", post, rowsPath(""), js, []byte(`{"text":"no id"}`), 400, "missing_column", []string{"id"}},
		{"unknown table", post, "/rows/e2e.nothing", js, []byte(`{"id":1}`), 400, "unknown_table", []string{"e2e.nothing"}},
		{"key that is no number", http.MethodGet, rowsPath("/seven"), "", nil, 400, "type_mismatch", nil},
		{"no such row", http.MethodGet, rowsPath("/999"), "", nil, 404, "not_found", nil},
		{"no such route", http.MethodGet, "/nothing", "", nil, 404, "not_found", nil},
		{"unknown key of a manifest", post, "/schemas", text, []byte(notesManifest + "\n[[indexes]]\nname = \"a\"\ncolums = [\"text\"]\n"), 400, "validation_failed", []string{"colums", "line"}},
		{"manifest without a key", post, "/schemas", text, []byte("namespace = \"e2e\"\ntable = \"x\"\n"), 400, "validation_failed", []string{"primary_key"}},
		{"manifest of a trigger", post, "/schemas", text, []byte(strings.Replace(notesManifest, `"notes"`, `"t"`, 1) + "\n[[triggers]]\nname = \"a\"\n"), 400, "unsupported", nil},
		{"higher version", post, "/schemas", text, []byte("version = 2\n" + notesManifest), 400, "unsupported", nil},
		{"other manifest, same version", post, "/schemas", text, []byte(notesManifest + "\n[[indexes]]\nname = \"a\"\ncolumns = [\"text\"]\n"), 409, "conflict", nil},
		{"SQL that is none", post, "/sql", js, sql("SELEC 1"), 400, "validation_failed", nil},
		{"SQL without the field", post, "/sql", js, []byte(`{"query":"SELECT 1"}`), 422, "validation_failed", []string{"sql"}},
		{"SQL on an unknown table", post, "/sql", js, sql("SELECT * FROM e2e.nothing"), 400, "unknown_table", nil},
		{"SQL on an unknown column", post, "/sql", js, sql("SELECT colour FROM e2e.notes"), 400, "unknown_column", nil},
		{"nested SQL", post, "/sql", js, sql("SELECT " + strings.Repeat("(", 50_000) + "1" + strings.Repeat(")", 50_000)), 400, "", nil},
		{"ALTER", post, "/sql", js, sql("ALTER TABLE e2e.notes ADD COLUMN colour TEXT"), 400, "unsupported", nil},
		{"reading a file", post, "/sql", js, sql("SELECT LOAD_FILE('/etc/passwd')"), 400, "unsupported", nil},
		{"writing a file", post, "/sql", js, sql("SELECT id FROM e2e.notes INTO OUTFILE '/tmp/x'"), 400, "unsupported", nil},
	}
}

// Each bad request gets a clear error in the envelope, changes nothing, and
// leaves the server as healthy as it was.
func TestBadInputIsRefusedAndChangesNothing(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	path := n.notes(t)
	if err := n.client.JSON(t.Context(), http.MethodPost, path, map[string]any{"id": 42, "text": "untouched"}, nil); err != nil {
		t.Fatal(err)
	}
	before := n.digest(t)
	for _, c := range badInputs() {
		t.Run(c.name, func(t *testing.T) {
			req := call.Request{Method: c.method, Path: "/v1/tenants/" + n.tenant + c.path, ContentType: c.contentType, Body: c.body}
			resp, err := n.client.Do(t.Context(), req)
			if err != nil {
				t.Fatal(err)
			}
			var e api.Error
			if err := json.Unmarshal(resp.Body, &e); err != nil {
				t.Fatalf("%d without an envelope: %.300s", resp.Status, resp.Body)
			}
			if resp.Status != c.status || c.code != "" && e.Error != c.code {
				t.Errorf("%d %s, want %d %s: %s", resp.Status, e.Error, c.status, c.code, e.Message)
			}
			if len(e.Message) < 10 || e.RequestID == "" || e.RequestID != resp.Header.Get(api.HeaderRequestID) {
				t.Errorf("envelope says too little: %.300s", resp.Body)
			}
			says(t, e.Message, c.words...)
		})
	}
	if after := n.digest(t); after != before {
		t.Errorf("the state changed: digest %s, was %s", after, before)
	}
	if resp, err := n.client.Do(t.Context(), call.Request{Method: http.MethodGet, Path: "/health"}); err != nil || resp.Status != http.StatusOK {
		t.Errorf("/health after it all: %v %v", resp, err)
	}
}

// digest is the state's digest and position as the server reports them.
func (n *node) digest(t *testing.T) string {
	t.Helper()
	var r api.Replication
	if err := n.admin.Get(t.Context(), "/v1/admin/replication", &r); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("%s at %d", r.Digest, r.AppliedLSN)
}

// What is just within the limits must be taken.
func TestLargestAllowedInput(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	path := n.notes(t)
	for _, c := range []call.Request{
		{Method: http.MethodPost, Path: path, ContentType: api.ContentTypeJSON, Body: sized(maxBody)},
		{Method: http.MethodPost, Path: path + "/_batch", ContentType: api.ContentTypeNDJSON, Body: append(sized(maxLine), '\n')},
		{Method: http.MethodPost, Path: path + "/_batch", ContentType: api.ContentTypeNDJSON, Body: bytes.Repeat([]byte("{\"id\":9223372036854775807,\"stars\":18446744073709551615}\n"), 25_000)},
	} {
		resp, err := n.client.Do(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		if resp.Status != http.StatusOK {
			t.Errorf("%d bytes to %s: %d %.300s", len(c.Body), c.Path, resp.Status, resp.Body)
		}
	}
}

// One token must open nothing of another tenant, and nothing of the operator.
func TestScopes(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	n.notes(t)
	other := enter(t, n.Server, n.dir, nil)
	nobody := &call.Client{URL: n.URL()}
	guess := &call.Client{URL: n.URL(), Token: "oc_live_0000000000000000000000000000000000000000"}
	usage := "/v1/tenants/" + n.tenant + "/usage"
	cases := []struct {
		name   string
		client *call.Client
		path   string
		status int
		code   string
	}{
		{"another tenant", other.client, usage, 403, "forbidden"},
		{"no token", nobody, usage, 401, "unauthorized"},
		{"a guess", guess, usage, 401, "unauthorized"},
		{"a tenant on the admin API", n.client, "/v1/admin/tenants", 403, "forbidden"},
		{"nobody on the admin API", nobody, "/v1/admin/tenants", 401, "unauthorized"},
	}
	for _, c := range cases {
		err := c.client.Get(t.Context(), c.path, nil)
		if call.Code(err) != c.code {
			t.Errorf("%s: %v, want %d %s", c.name, err, c.status, c.code)
		}
	}
}
