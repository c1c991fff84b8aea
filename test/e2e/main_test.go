// Package e2e tests oc-server as its users meet it: the real binary, over real
// sockets and files, with nothing of its insides in the test.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"originchain/scripts/call"
	"originchain/scripts/child"
	"originchain/shared/api"
)

// The exit codes as --help documents them.
const (
	exitFailure    = 1
	exitUsage      = 2
	exitRefused    = 3
	exitLocked     = 4
	exitIncomplete = 6
	exitDisk       = 5
)

const (
	readyWithin = time.Minute
	stopWithin  = time.Minute
)

// server, pitr, control and promote are the binaries under test, which TestMain builds; or why
// they could not be.
var (
	server      string
	pitr        string
	control     string
	promote     string
	errNoServer error
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "oc-e2e-")
	if err != nil {
		errNoServer = err
		m.Run()
		return
	}
	defer func() { _ = os.RemoveAll(dir) }() // no test can speak up any more
	server, pitr, control = filepath.Join(dir, "oc-server"), filepath.Join(dir, "oc-pitr"), filepath.Join(dir, "oc-control")
	promote = filepath.Join(dir, "promote")
	if out, err := exec.Command("go", "build", "-o", dir+"/", "originchain/writer/cmd/oc-server", "originchain/scripts/oc-pitr", "originchain/lambdas/local/cmd/oc-control", "originchain/scripts/promote").CombinedOutput(); err != nil {
		errNoServer = fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	m.Run()
}

// node is a running server with one tenant.
type node struct {
	*child.Server
	dir    string
	admin  *call.Client
	client *call.Client
	tenant string
}

// launch starts a server and does not wait. It is killed at the end of the test.
func launch(t *testing.T, o child.Options) *child.Server {
	t.Helper()
	if errNoServer != nil {
		t.Fatal(errNoServer)
	}
	o.Binary = server
	if o.Listen == "" {
		var err error
		if o.Listen, err = child.FreeAddress(); err != nil {
			t.Fatal(err)
		}
	}
	s, err := child.Start(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Kill(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the server's last output:\n%s", s.Output())
		}
	})
	return s
}

// start starts a server and waits until it is ready.
func start(t *testing.T, o child.Options) *child.Server {
	t.Helper()
	s := launch(t, o)
	ctx, cancel := context.WithTimeoutCause(t.Context(), readyWithin, fmt.Errorf("not within %s", readyWithin))
	defer cancel()
	if err := s.WaitReady(ctx); err != nil {
		t.Fatal(err)
	}
	return s
}

// newNode starts a server on an empty directory and makes a tenant.
func newNode(t *testing.T, args ...string) *node {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "data")
	s := start(t, child.Options{DataDir: dir, Args: args})
	return enter(t, s, dir, nil)
}

// enter makes a tenant on a server. Its directory is read for the admin token.
func enter(t *testing.T, s *child.Server, dir string, transport *http.Client) *node {
	t.Helper()
	token, err := os.ReadFile(filepath.Join(dir, "admin.token"))
	if err != nil {
		t.Fatal(err)
	}
	n := &node{Server: s, dir: dir, admin: &call.Client{URL: s.URL(), Token: strings.TrimSpace(string(token)), HTTP: transport}}
	var made api.CreatedTenant
	if err := n.admin.JSON(t.Context(), http.MethodPost, "/v1/admin/tenants", api.CreateTenantRequest{Name: "e2e"}, &made); err != nil {
		t.Fatal(err)
	}
	n.tenant = made.Tenant
	n.client = &call.Client{URL: s.URL(), Token: made.Token, HTTP: transport}
	return n
}

// restart starts another server on the node's directory; the tenant is the same.
func (n *node) restart(t *testing.T, o child.Options) *node {
	t.Helper()
	s := start(t, o)
	again := *n
	again.Server = s
	again.client = &call.Client{URL: s.URL(), Token: n.client.Token}
	return &again
}

// stopInOrder stops a server, which must end with 0.
func stopInOrder(t *testing.T, s *child.Server) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.Background(), stopWithin, fmt.Errorf("not within %s", stopWithin))
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Fatal(err)
	}
}

// mustRefuse waits for a server that must end by itself, and checks its exit
// code and that its output says each of words.
func mustRefuse(t *testing.T, s *child.Server, code int, words ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), readyWithin, fmt.Errorf("not within %s", readyWithin))
	defer cancel()
	err := s.WaitReady(ctx)
	var ended *child.ExitError
	if !errors.As(err, &ended) {
		t.Fatalf("the server should have ended with code %d: %v", code, err)
	}
	if ended.Code != code {
		t.Errorf("exit code %d, want %d; output:\n%s", ended.Code, code, ended.Output)
	}
	says(t, ended.Output, words...)
}

// says checks that a text has each of words; it is how a message is checked for
// naming the thing and the way out.
func says(t *testing.T, text string, words ...string) {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			t.Errorf("nothing about %q in:\n%s", w, text)
		}
	}
}

const notesManifest = `namespace = "e2e"
table = "notes"
primary_key = ["id"]

[[columns]]
name = "id"
ty = "i64"
required = true

[[columns]]
name = "text"
ty = "str"

[[columns]]
name = "score"
ty = "f64"

[[columns]]
name = "stars"
ty = "u64"
`

const notesID = "e2e.notes"

// notes registers the table that most tests write to, and returns its path.
func (n *node) notes(t *testing.T) string {
	t.Helper()
	if err := n.client.Register(t.Context(), n.tenant, []byte(notesManifest)); err != nil {
		t.Fatal(err)
	}
	return n.notesPath()
}

func (n *node) notesPath() string { return "/v1/tenants/" + n.tenant + "/rows/" + notesID }

// count is how many notes a scan finds.
func (n *node) count(t *testing.T) int {
	t.Helper()
	out, err := n.client.Select(t.Context(), n.tenant, "SELECT id FROM "+notesID)
	if err != nil {
		t.Fatal(err)
	}
	return len(out.Rows)
}
