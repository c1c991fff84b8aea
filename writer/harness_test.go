package writer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"

	"originchain/shared/api"
	"originchain/shared/clock"
	"originchain/shared/engine"
	"originchain/shared/simdisk"
	"originchain/shared/telemetry"
	"originchain/shared/tenant"
	"originchain/test/output"
)

const adminText = "oc_admin_0123456789ABCDEFGHJKMNPQRSTV"

// node is a writer under test, on a disk in memory.
type node struct {
	t       testing.TB
	fs      vfs.FS
	dir     string
	w       *Writer
	audit   string
	tenant  string
	token   string
	metrics *telemetry.Metrics
	stop    func() error
	ended   func() error // waits until Run ends by itself
	opened  func() error // waits until the node serves, or tells why Run has ended
}

// option changes how a node under test is made.
type option func(*Config, *Deps)

// start opens a node and makes a tenant on it. The test ends it.
func start(t testing.TB, opts ...option) *node {
	t.Helper()
	n := open(t, simdisk.New(), opts...)
	n.tenant, n.token = n.newTenant(`{}`)
	return n
}

// open opens a node on a disk and waits until it serves.
func open(t testing.TB, fs vfs.FS, opts ...option) *node {
	t.Helper()
	return openWith(t, fs, Replication{}, opts...)
}

// openWith is open for a writer that others follow.
func openWith(t testing.TB, fs vfs.FS, replication Replication, opts ...option) *node {
	t.Helper()
	n := launch(t, fs, replication, opts...)
	if err := n.opened(); err != nil {
		t.Fatalf("the node did not open: %v", err)
	}
	return n
}

// launch is openWith that does not wait.
func launch(t testing.TB, fs vfs.FS, replication Replication, opts ...option) *node {
	t.Helper()
	n := &node{t: t, fs: fs, dir: "/data", audit: filepath.Join(t.TempDir(), "audit.log"), metrics: telemetry.NewMetrics()}
	log := logrus.New()
	log.SetOutput(io.Discard)
	audit, err := telemetry.OpenAudit(n.audit, log)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := tenant.NewAdminToken(adminText)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Engine: engine.Config{DataDir: n.dir, NodeID: "node-1"}, FailureGrace: time.Millisecond, MinLSNWait: 20 * time.Millisecond}
	deps := Deps{FS: fs, Log: log, Clock: clock.New(clock.Config{}), Metrics: n.metrics, Audit: audit, Admin: admin, NoPreallocate: true}
	for _, o := range opts {
		o(&cfg, &deps)
	}
	shell, err := NewShell(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	n.w = NewWriter(shell, replication)
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- n.w.Run(ctx) }()
	stopped := false
	n.stop = func() error {
		if stopped {
			return nil
		}
		stopped = true
		cancel()
		err := <-ran
		if cerr := n.w.Close(); err == nil {
			err = cerr
		}
		if cerr := audit.Close(); err == nil {
			err = cerr
		}
		return err
	}
	t.Cleanup(func() {
		if err := n.stop(); err != nil && !t.Failed() {
			t.Errorf("the node ended with %v", err)
		}
	})
	n.ended = func() error {
		err := <-ran
		ran <- nil
		return err
	}
	n.opened = func() error {
		select {
		case <-n.w.Opened():
			return nil
		case err := <-ran:
			ran <- nil
			return err
		}
	}
	return n
}

// answer is a response with its body read.
type answer struct {
	t      testing.TB
	what   string
	status int
	header http.Header
	body   string
}

// do sends one request. Headers are name, value pairs.
func (n *node) do(ctx context.Context, token, method, path string, body io.Reader, headers ...string) *answer {
	n.t.Helper()
	r := httptest.NewRequestWithContext(ctx, method, path, body)
	if token != "" {
		r.Header.Set(api.HeaderAuthorization, "Bearer "+token)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	n.w.Handler().ServeHTTP(rec, r)
	return &answer{t: n.t, what: method + " " + path, status: rec.Code, header: rec.Header(), body: rec.Body.String()}
}

// call sends a request of the node's tenant; path is what follows /v1/tenants/:t.
func (n *node) call(method, path, body string, headers ...string) *answer {
	n.t.Helper()
	return n.do(context.Background(), n.token, method, "/v1/tenants/"+n.tenant+path, strings.NewReader(body), headers...)
}

// admin sends a request with the admin token.
func (n *node) admin(method, path, body string, headers ...string) *answer {
	n.t.Helper()
	return n.do(context.Background(), adminText, method, "/v1/admin"+path, strings.NewReader(body), headers...)
}

// newTenant makes a tenant and returns its id and token.
func (n *node) newTenant(body string) (id, token string) {
	n.t.Helper()
	a := n.admin("POST", "/tenants", body).want(201)
	return a.str("tenant"), a.str("token")
}

// register registers a manifest.
func (n *node) register(manifest string) {
	n.t.Helper()
	n.call("POST", "/schemas", manifest).want(201)
}

// sql runs a statement.
func (n *node) sql(statement string, headers ...string) *answer {
	n.t.Helper()
	body, err := json.Marshal(map[string]string{"sql": statement})
	if err != nil {
		n.t.Fatal(err)
	}
	return n.call("POST", "/sql", string(body), headers...)
}

// want requires a status.
func (a *answer) want(status int) *answer {
	a.t.Helper()
	if a.status != status {
		a.t.Fatalf("%s: status %d, want %d: %s", a.what, a.status, status, a.body)
	}
	return a
}

// refused requires an error envelope with a status and code.
func (a *answer) refused(status int, code string) *answer {
	a.t.Helper()
	a.want(status)
	if got := a.str("error"); got != code {
		a.t.Fatalf("%s: error %q, want %q: %s", a.what, got, code, a.body)
	}
	if a.str("message") == "" || a.header.Get(api.HeaderRequestID) != a.str("request_id") {
		a.t.Fatalf("%s: not a whole envelope: %s", a.what, a.body)
	}
	return a
}

// field is a member of the answer's object; numbers are json.Number.
func (a *answer) field(name string) any {
	a.t.Helper()
	dec := json.NewDecoder(strings.NewReader(a.body))
	dec.UseNumber()
	var m map[string]any
	if err := dec.Decode(&m); err != nil {
		a.t.Fatalf("%s: %v: %s", a.what, err, a.body)
	}
	return m[name]
}

// str is a text or number of the answer, as text.
func (a *answer) str(name string) string {
	a.t.Helper()
	if v := a.field(name); v != nil {
		return fmt.Sprint(v)
	}
	return ""
}

// is requires the whole body.
func (a *answer) is(body string) *answer {
	a.t.Helper()
	if a.body != body {
		a.t.Fatalf("%s:\ngot  %s\nwant %s", a.what, a.body, body)
	}
	return a
}

const ordersManifest = `
namespace = "shop"
table = "orders"
primary_key = ["id"]
version = 1

[[columns]]
name = "id"
ty = "str"
required = true

[[columns]]
name = "total"
ty = "i64"

[[columns]]
name = "email"
ty = "str"

[[indexes]]
name = "by_total"
columns = ["total"]

[[indexes]]
name = "one_email"
columns = ["email"]
unique = true

[[check_constraints]]
name = "not_negative"
expr = "total >= 0"
`

// sub is the node inside a subtest.
func (n *node) sub(t *testing.T) *node {
	m := *n
	m.t = t
	return &m
}

// restart stops the node in peace and opens its disk again.
func (n *node) restart() *node {
	n.t.Helper()
	if err := n.stop(); err != nil {
		n.t.Fatalf("stop: %v", err)
	}
	m := open(n.t, n.fs)
	m.tenant, m.token = n.tenant, n.token
	return m
}

// sqlRefused requires that a statement is refused.
func (n *node) sqlRefused(statement string, status int, code string, headers ...string) *answer {
	n.t.Helper()
	return n.sql(statement, headers...).refused(status, code)
}

// ops sends a request to the listener of operations.
func (n *node) ops(path string) *answer {
	rec := httptest.NewRecorder()
	n.w.OpsHandler().ServeHTTP(rec, httptest.NewRequest("GET", path, nil))
	return &answer{t: n.t, what: path, status: rec.Code, header: rec.Header(), body: rec.Body.String()}
}

// captureLogs begins to keep the node's log lines; the func returns those since
// it was called last.
func (n *node) captureLogs() func() string {
	var lines output.Output
	n.w.deps.Log.SetOutput(&lines)
	n.w.deps.Log.SetFormatter(&logrus.JSONFormatter{})
	return lines.Take
}
