package cluster

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/scripts/call"
	"originchain/scripts/child"
	"originchain/shared/api"
	"originchain/shared/lease"
	"originchain/test/netns"
	"originchain/test/settle"
)

// cluster is one instance: hosts, nodes, the record of who writes, certificates
// and one tenant.
type cluster struct {
	t       *testing.T
	dir     string
	net     *netns.Network
	http    *http.Client
	admin   string // the admin token of every node
	nodes   []*node
	tenant  string
	token   string
	current atomic.Pointer[node] // who is asked to write
}

// node is a unit that is started and ended again and again.
type node struct {
	*netns.Host
	c      *cluster
	name   string
	dir    string
	binary string
	args   []string // beside those that every node has
	server *child.Server
	log    *os.File
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	if errSetup != nil {
		t.Fatal(errSetup)
	}
	c := &cluster{t: t, dir: t.TempDir(), net: newNetwork(t), http: newTransport(), admin: strings.Repeat("cluster-test-", 4)}
	if *keepDir != "" {
		c.dir = filepath.Join(*keepDir, strings.ReplaceAll(t.Name(), "/", "-"))
		if err := os.MkdirAll(c.dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(c.http.CloseIdleConnections)
	if err := os.WriteFile(filepath.Join(c.dir, "admin.token"), []byte(c.admin), 0o600); err != nil {
		t.Fatal(err)
	}
	return c
}

// certs makes certificates for nodes of an authority in a directory.
func (c *cluster) certs(dir string, nodes ...string) {
	c.t.Helper()
	args := []string{"cert", "dev", "--dir", dir}
	for _, n := range nodes {
		args = append(args, "--node", n)
	}
	if err := netns.Run("", serverBin, args...); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) certDir() string    { return filepath.Join(c.dir, "certs") }
func (c *cluster) controlDir() string { return filepath.Join(c.dir, "control") }

// smallSegments makes logs that roll all the time.
const smallSegments = "65536"

// node makes a node on a host of its own; args are what is special about it.
func (c *cluster) node(name, binary string, args ...string) *node {
	c.t.Helper()
	c.certs(c.certDir(), name)
	n := &node{Host: c.net.NewHost(), c: c, name: name, dir: filepath.Join(c.dir, name), binary: binary, args: args}
	var err error
	if n.log, err = os.Create(filepath.Join(c.dir, name+".out")); err != nil {
		c.t.Fatal(err)
	}
	c.nodes = append(c.nodes, n)
	c.t.Cleanup(func() {
		if err := n.end(); err != nil {
			c.t.Error(err)
		}
		if err := n.log.Close(); err != nil {
			c.t.Error(err)
		}
		if c.t.Failed() && n.server != nil {
			c.t.Logf("last output of %s:\n%s", n.name, n.server.Output())
		}
	})
	return n
}

// launch starts the node and does not wait. More arguments come last, and win.
func (n *node) launch(more ...string) error {
	args := []string{
		"--node-id", n.name, "--admin-token-file", filepath.Join(n.c.dir, "admin.token"),
		"--replication-tls-dir", filepath.Join(n.c.certDir(), n.name),
		"--control", "file://" + n.c.controlDir(), "--advertise", n.url(), "--segment-bytes", smallSegments,
	}
	args = append(append(args, n.args...), more...)
	var err error
	n.server, err = child.Start(child.Options{Binary: n.binary, DataDir: n.dir, Listen: n.IP + ":" + apiPort, Args: args, Wrap: n.Wrap(), Output: n.log, Client: n.c.http})
	return err
}

// start starts the node and waits until it is ready.
func (n *node) start(more ...string) {
	n.c.t.Helper()
	if err := n.launch(more...); err != nil {
		n.c.t.Fatal(err)
	}
	n.ready()
}

func (n *node) ready() {
	n.c.t.Helper()
	if err := n.awaitReady(n.c.t.Context()); err != nil {
		n.c.t.Fatal(err)
	}
}

func (n *node) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, settle.Within)
	defer cancel()
	if err := n.server.WaitReady(ctx); err != nil {
		return fmt.Errorf("%s: %w", n.name, err)
	}
	return nil
}

// end kills the node if it runs, stopped or not.
func (n *node) end() error {
	if n.server == nil {
		return nil
	}
	return n.server.Kill()
}

// kill is end for a test.
func (n *node) kill() {
	n.c.t.Helper()
	if err := n.end(); err != nil {
		n.c.t.Fatal(err)
	}
}

// freeze and thaw stop the process where it is and let it go on.
func (n *node) freeze() error { return n.server.Freeze() }
func (n *node) thaw() error   { return n.server.Thaw() }

func (n *node) url() string         { return "http://" + n.IP + ":" + apiPort }
func (n *node) replication() string { return n.IP + ":" + replicationPort }

// asAdmin and asTenant are clients of the node.
func (n *node) asAdmin() *call.Client {
	return &call.Client{URL: n.url(), Token: n.c.admin, HTTP: n.c.http}
}

func (n *node) asTenant() *call.Client {
	return &call.Client{URL: n.url(), Token: n.c.token, HTTP: n.c.http}
}

// standing is what the node says of its place in the log.
func (n *node) standing() (api.Replication, error) {
	var r api.Replication
	err := n.asAdmin().Get(context.Background(), "/v1/admin/replication", &r)
	return r, err
}

func (n *node) mustStand() api.Replication {
	n.c.t.Helper()
	r, err := n.standing()
	if err != nil {
		n.c.t.Fatal(err)
	}
	return r
}

// readiness is the status of /ready and its body.
func (n *node) readiness() (int, string, error) {
	resp, err := n.asTenant().Do(context.Background(), call.Request{Method: http.MethodGet, Path: "/ready"})
	if err != nil {
		return 0, "", err
	}
	return resp.Status, string(resp.Body), nil
}

// metric is the value of a metric without labels.
func (n *node) metric(name string) (value float64, err error) {
	resp, err := n.asTenant().Do(context.Background(), call.Request{Method: http.MethodGet, Path: "/metrics"})
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(resp.Body)) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			_, err = fmt.Sscan(rest, &value)
			return value, err
		}
	}
	return 0, fmt.Errorf("%s has no metric %s", n.name, name)
}

// record is the record of who writes.
func (c *cluster) record() lease.Record {
	c.t.Helper()
	s, err := lease.OpenFile(vfs.Default, c.controlDir())
	if err != nil {
		c.t.Fatal(err)
	}
	r, _, err := s.Load(c.t.Context())
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

// The tables. A write is either a row that is written once, or a step of a counter.
const (
	writesID   = "c.writes"
	countersID = "c.counters"

	writesManifest = `namespace = "c"
table = "writes"
primary_key = ["id"]
[[columns]]
name = "id"
ty = "str"
required = true
[[columns]]
name = "text"
ty = "str"
`
	countersManifest = `namespace = "c"
table = "counters"
primary_key = ["id"]
[[columns]]
name = "id"
ty = "str"
required = true
[[columns]]
name = "n"
ty = "i64"
`
)

// found makes the tenant and its tables, on the writer.
func (c *cluster) found(writer *node) {
	c.t.Helper()
	c.current.Store(writer)
	var made api.CreatedTenant
	if err := writer.asAdmin().JSON(c.t.Context(), http.MethodPost, "/v1/admin/tenants", api.CreateTenantRequest{Name: "cluster"}, &made); err != nil {
		c.t.Fatal(err)
	}
	c.tenant, c.token = made.Tenant, made.Token
	for _, m := range []string{writesManifest, countersManifest} {
		if err := writer.asTenant().Register(c.t.Context(), c.tenant, []byte(m)); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *cluster) rowPath(table, pk string) string {
	return "/v1/tenants/" + c.tenant + "/rows/" + table + "/" + pk
}

// writerArgs and followerArgs are what makes a unit of a role. The address is the
// host's, which a node keeps in every role.
func writerArgs(sync int, timeout time.Duration, more ...string) []string {
	return append([]string{"--sync-replicas", fmt.Sprint(sync), "--sync-timeout-ms", fmt.Sprint(timeout.Milliseconds())}, more...)
}

var followerArgs = []string{"--mode", "follower"}

// serving is the argument that lets others stream from the node.
func (n *node) serving() []string { return []string{"--replication-listen", n.replication()} }

// inSync waits until the record names nodes as the in-sync set.
func (c *cluster) inSync(names ...string) {
	c.t.Helper()
	want := strings.Join(names, ",")
	settle.Eventually(c.t, "in-sync set", func() error {
		if got := strings.Join(c.record().InSync, ","); got != want {
			return fmt.Errorf("the record names %q, want %q", got, want)
		}
		return nil
	})
}
