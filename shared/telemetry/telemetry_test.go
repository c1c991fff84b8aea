package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
)

const secret = "oc_live_01J8ZQ4T6W8Y0A2C4E6G8J0M2P0123456789ABCDEFGHJKMNPQRSTVWX"

func TestTraceparent(t *testing.T) {
	const id, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	good := "00-" + id + "-" + span + "-01"
	for _, c := range []struct {
		header string
		ok     bool
	}{
		{good, true},
		{"cc-" + id + "-" + span + "-01", true},      // a later version
		{"cc-" + id + "-" + span + "-01-more", true}, // which may say more
		{"cc-" + id + "-" + span + "-01more", false}, // after a dash only
		{good + "-more", false},                      // version 00 may not
		{"ff-" + id + "-" + span + "-01", false},     // the forbidden version
		{strings.ToUpper(good), false},               // hex is lower case
		{"00-" + strings.Repeat("0", 32) + "-" + span + "-01", false},
		{"00-" + id + "-" + strings.Repeat("0", 16) + "-01", false},
		{good[:54], false},
		{"", false},
		{strings.Replace(good, "-", "_", 1), false},
		{"00-" + id + "-" + span + "-0x", false},
	} {
		got, ok := ParseTrace(c.header)
		if ok != c.ok {
			t.Errorf("%q: got %v, want %v", c.header, ok, c.ok)
		}
		if ok && (got.TraceID() != id || !got.Sampled()) {
			t.Errorf("%q: read as %v", c.header, got)
		}
	}
	if parsed, _ := ParseTrace(good); parsed.String() != good {
		t.Errorf("does not write what it reads: %s", parsed)
	}
}

func TestNewTraceAndChild(t *testing.T) {
	a, b := NewTrace(), NewTrace()
	if !a.Valid() || a.ID == b.ID || a.Sampled() {
		t.Errorf("traces %v and %v", a, b)
	}
	child := a.Child()
	if child.ID != a.ID || child.Span == a.Span || !child.Valid() {
		t.Errorf("child of %v is %v", a, child)
	}
}

func TestRequestID(t *testing.T) {
	form := regexp.MustCompile(`^[0-9a-f]{28}$`)
	a, b := NewRequestID(), NewRequestID()
	if !form.MatchString(a) || a == b {
		t.Errorf("request ids %q and %q", a, b)
	}
}

func TestRequestContext(t *testing.T) {
	want := &Request{ID: "x"}
	if got := RequestFrom(WithRequest(context.Background(), want)); got != want {
		t.Errorf("got %v", got)
	}
	if got := RequestFrom(context.Background()); got == nil || got.ID != "" {
		t.Errorf("background work has request %v", got)
	}
}

// token hides in types whose text only the encoder of the line produces.
type token struct{ Nested struct{ Value string } }

func TestNoTokenReachesTheLog(t *testing.T) {
	var out bytes.Buffer
	log, err := NewLogger(&out, "debug")
	if err != nil {
		t.Fatal(err)
	}
	nested := token{}
	nested.Nested.Value = secret
	admin := "oc_admin_0123456789ABCDEFGHJKMNPQRSTVWXYZ"
	log.WithFields(logrus.Fields{
		"text": "sent " + secret, "struct": nested, "pointer": &nested, "bytes": json.RawMessage(`"` + secret + `"`), "admin": admin,
		"map": map[string]string{secret: secret}, "stringer": fmt.Stringer(stringer(secret)),
	}).WithError(errors.New("bad " + secret)).Warn("message " + strings.Replace(secret, "live", "test", 1))
	if bytes.Contains(out.Bytes(), []byte(secret[20:])) || bytes.Contains(out.Bytes(), []byte(admin[9:])) {
		t.Fatalf("a token is in the log: %s", out.String())
	}
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("the redacted line is not JSON: %v: %s", err, out.String())
	}
	if line["text"] != "sent oc_live_[redacted]" || line[FieldMessage] != "message oc_test_[redacted]" {
		t.Errorf("redacted as %s", out.String())
	}
}

type stringer string

func (s stringer) String() string { return string(s) }

func TestLogLineNamesTheRequest(t *testing.T) {
	var out bytes.Buffer
	log, err := NewLogger(&out, "info")
	if err != nil {
		t.Fatal(err)
	}
	r := &Request{ID: "req", Trace: NewTrace(), Tenant: "01T", Actor: "01A", QueryID: "01Q", LogicalID: "l"}
	Entry(log, r).Info("done")
	Entry(log, &Request{}).Debug("not at this level")
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{FieldRequestID: "req", FieldTraceID: r.Trace.TraceID(), FieldTenant: "01T", FieldActor: "01A",
		FieldQueryID: "01Q", FieldLogicalID: "l", FieldMessage: "done", FieldLevel: "info"} {
		if line[name] != want {
			t.Errorf("%s is %v, want %s", name, line[name], want)
		}
	}
	stamp, err := time.Parse(time.RFC3339Nano, fmt.Sprint(line[FieldTime]))
	if err != nil || stamp.Location() != time.UTC {
		t.Errorf("%s is %v: %v", FieldTime, line[FieldTime], err)
	}
	if _, err := NewLogger(io.Discard, "loud"); err == nil {
		t.Error("a level that does not exist is accepted")
	}
}

func openAudit(t *testing.T, path string) (*Audit, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	log, err := NewLogger(&out, "info")
	if err != nil {
		t.Fatal(err)
	}
	a, err := OpenAudit(path, log)
	if err != nil {
		t.Fatal(err)
	}
	a.now = func() time.Time { return time.Unix(1_800_000_000, 0) }
	return a, &out
}

func TestAuditLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	a, out := openAudit(t, path)
	r := &Request{ID: "req", Tenant: "01T", Actor: "01A"}
	if err := a.Record(r, AuditEvent{Action: "tenant.create", Object: "tenant/" + secret, Outcome: "ok", Suppressed: 3}); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"ts":"2027-01-15T08:00:00Z","actor":"01A","action":"tenant.create","object":"tenant/oc_live_[redacted]","outcome":"ok","tenant":"01T","request_id":"req","suppressed":3}` + "\n"
	if string(got) != want {
		t.Errorf("got  %swant %s", got, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v: %v", info.Mode(), err)
	}
	if !strings.Contains(out.String(), `"action":"tenant.create"`) || strings.Contains(out.String(), secret) {
		t.Errorf("the normal log has %s", out.String())
	}
}

func TestAuditAppendsAfterATornLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(path, []byte("{\"whole\":1}\n{\"torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, _ := openAudit(t, path)
	if err := a.Record(&Request{}, AuditEvent{Action: "x", Outcome: "ok"}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(got), "\n"), "\n")
	if len(lines) != 3 || lines[0] != `{"whole":1}` || lines[1] != `{"torn` || !json.Valid([]byte(lines[2])) {
		t.Errorf("lines %q", lines)
	}
	if !strings.Contains(lines[2], `"actor":"unknown"`) {
		t.Errorf("an action without an actor reads %s", lines[2])
	}
}

// failing is a file whose sync fails.
type failing struct {
	synced int
	wrote  int
}

func (f *failing) Write(p []byte) (int, error) { f.wrote++; return len(p), nil }
func (f *failing) Sync() error                 { f.synced++; return errors.New("disk") }
func (f *failing) Close() error                { return nil }

func TestAuditStopsAtAFailedSync(t *testing.T) {
	a, _ := openAudit(t, filepath.Join(t.TempDir(), "audit.log"))
	file := &failing{}
	a.file = file
	for range 2 {
		if err := a.Record(&Request{}, AuditEvent{Action: "x", Outcome: "ok"}); err == nil {
			t.Fatal("an action that is not on disk counts as audited")
		}
	}
	if file.wrote != 1 || file.synced != 1 {
		t.Errorf("after the failure: %d writes, %d syncs", file.wrote, file.synced)
	}
}

func TestMetricsAreTheNodesOwn(t *testing.T) {
	a, b := NewMetrics(), NewMetrics()
	a.Counter("oc_x_total", "x").Inc()
	b.Counter("oc_x_total", "x") // would panic in a shared registry
	if got := a.Names(); !slices.Equal(got, []string{"oc_build_info", "oc_x_total"}) {
		t.Errorf("names %v", got)
	}
	families, err := a.Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, f := range families {
		if f.GetName() == "oc_x_total" {
			found = f.GetMetric()[0].GetCounter().GetValue() == 1
		}
	}
	if !found {
		t.Error("oc_x_total is not 1")
	}
}
