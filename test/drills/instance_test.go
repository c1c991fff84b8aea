package drills

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/oklog/ulid/v2"

	"originchain/lambdas/local/control"
	"originchain/lambdas/local/layout"
	"originchain/scripts/call"
	"originchain/shared/api"
	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/test/netns"
	"originchain/test/output"
	"originchain/test/settle"
)

// Ports of the control plane and of every host. Each instance has a network of its own.
const (
	apiPort         = 7400
	replicationPort = 7401
	leasePort       = 7402
	machinesPort    = 7403
	dnsPort         = 7453
)

// smallSegments makes logs that roll all the time.
const smallSegments = "65536"

var networks atomic.Int32

// instance is a control plane with its nodes, each of which is on a host of its own. The
// control plane and the clients sit at the network's gateway.
type instance struct {
	t     *testing.T
	dir   layout.Dir
	in    *layout.Instance
	net   *netns.Network
	nodes []*node
	http  *http.Client
	admin string
	token string // the tenant's
	plane *plane
	ctl   *control.Client
	// server is the program of the nodes; moved, unless empty, the file that moves the wall
	// clock of the first.
	server, moved string
	// pid finds the process of a node; 0 while none runs.
	pid func(n *node) int
}

// node is one of its nodes.
type node struct {
	*netns.Host
	failover.Node
	i *instance
}

// plane is the process of oc-control.
type plane struct {
	cmd   *exec.Cmd
	said  output.Output
	ended chan struct{}
}

// prepare lays out the directory of an instance whose nodes are on hosts.
func prepare(t *testing.T, followers int) *instance {
	t.Helper()
	if errSetup != nil {
		t.Fatal(errSetup)
	}
	dir := filepath.Join(t.TempDir(), "i")
	if *keepDir != "" {
		dir = filepath.Join(*keepDir, strings.ReplaceAll(t.Name(), "/", "-"))
	}
	number := int(networks.Add(1))
	i := &instance{t: t, dir: layout.Dir(dir), net: netns.NewNetwork(t, number), server: serverBin}
	i.http = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	t.Cleanup(i.http.CloseIdleConnections)
	for _, d := range i.dir.Directories() {
		i.must(os.MkdirAll(d, 0o700))
	}
	i.in = &layout.Instance{
		ID: ulid.MustNew(ulid.Now(), rand.Reader).String(), Zone: "db.originchain.test", Name: "writer.local.db.originchain.test", Front: i.net.Gateway(), Inner: fmt.Sprintf("127.77.%d.1", number),
		Port: apiPort, ReplicationPort: replicationPort, LeasePort: leasePort, DNSPort: dnsPort, MachinesPort: machinesPort,
	}
	for n := range followers + 1 {
		host := i.net.NewHost()
		i.nodes = append(i.nodes, &node{Host: host, i: i})
		i.in.Nodes = append(i.in.Nodes, layout.Node{Name: fmt.Sprintf("node-%d", n+1), Address: host.IP})
	}
	args := []string{"cert", "dev", "--dir", i.certs()}
	for n, registered := range i.in.Registered() {
		i.nodes[n].Node = registered
		args = append(args, "--node", registered.ID)
	}
	i.must(netns.Run("", serverBin, args...))
	i.must(i.dir.Save(i.in))
	var err error
	i.admin, err = layout.Secret(i.dir.AdminToken())
	i.must(err)
	_, err = layout.Secret(i.dir.LeaseToken())
	i.must(err)
	i.ctl = control.NewClient(i.dir.Socket())
	return i
}

func (i *instance) must(err error) {
	i.t.Helper()
	if err != nil {
		i.t.Fatal(err)
	}
}

func (i *instance) certs() string { return filepath.Join(string(i.dir), "certs") }

// serverScript is what the units run: the server, on the host of the node that its
// arguments name, unless the node's machine is off. It has one process, the server's.
func (i *instance) serverScript() string {
	var b strings.Builder
	b.WriteString("#!/bin/sh\nfor a; do [ \"$last\" = --node-id ] && node=$a; last=$a; done\n")
	fmt.Fprintf(&b, "[ ! -e '%s'/$node.off ] || exit 1\ncase $node in\n", i.dir)
	for k, n := range i.nodes {
		if i.moved != "" && k == 0 {
			fmt.Fprintf(&b, "%s) %s='%s'; export %s;;\n", n.ID, clockVariable, i.moved, clockVariable)
		}
	}
	b.WriteString("esac\ncase $node in\n")
	for _, n := range i.nodes {
		fmt.Fprintf(&b, "%s) exec %s '%s' \"$@\" --replication-tls-dir '%s/%s';;\n", n.ID, strings.Join(n.Wrap(), " "), i.server, i.certs(), n.ID)
	}
	b.WriteString("esac\nexit 1\n")
	return b.String()
}

// newInstance has an instance up under oc-control; flags go to every node.
func newInstance(t *testing.T, followers int, flags ...string) *instance {
	t.Helper()
	i := prepare(t, followers)
	i.start(flags...)
	return i
}

// start has what was prepared up under oc-control.
func (i *instance) start(flags ...string) {
	i.t.Helper()
	script := filepath.Join(string(i.dir), "oc-server")
	i.must(os.WriteFile(script, []byte(i.serverScript()), 0o700))
	i.pid = i.pidOf
	i.t.Cleanup(i.end)
	i.up(flags...)
	i.found()
}

// up starts oc-control and waits until it says that all is up.
func (i *instance) up(flags ...string) {
	i.t.Helper()
	args := []string{"up", "--dir", string(i.dir), "--server", filepath.Join(string(i.dir), "oc-server")}
	for _, f := range append([]string{"--segment-bytes=" + smallSegments}, flags...) {
		args = append(args, "--node-flag="+f)
	}
	p := &plane{cmd: exec.Command(controlBin, args...), ended: make(chan struct{})}
	log, err := os.OpenFile(i.dir.Log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	i.must(err)
	p.cmd.Stdout, p.cmd.Stderr = io.MultiWriter(log, &p.said), log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	i.must(p.cmd.Start())
	i.plane = p
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // whoever waits reads ProcessState
		_ = log.Close()
	}()
	settle.Eventually(i.t, "oc-control is up", func() error {
		select {
		case <-p.ended:
			i.t.Fatalf("oc-control has ended: %s\n%s", p.cmd.ProcessState, tail(i.dir.Log()))
		default:
		}
		if !strings.Contains(p.said.String(), "up: ") {
			return errors.New("it has not said so: " + tail(i.dir.Log()))
		}
		return nil
	})
	i.in, err = i.dir.Load()
	i.must(err)
	i.token, err = layout.Secret(i.dir.TenantToken())
	i.must(err)
}

func tail(path string) string {
	const most = 6 << 10
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	var kept []byte
	for line := range bytes.Lines(b) {
		if !bytes.Contains(line, []byte(`"msg":"request"`)) {
			kept = append(kept, line...)
		}
	}
	return string(kept[max(0, len(kept)-most):])
}

// end ends the control plane in order, and shows the logs of what went wrong.
func (i *instance) end() {
	if i.plane == nil {
		return
	}
	if err := i.plane.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		i.t.Error(err)
	}
	timer := time.NewTimer(settle.Within)
	defer timer.Stop()
	select {
	case <-i.plane.ended:
	case <-timer.C:
		i.t.Errorf("oc-control has not ended within %s", settle.Within)
		_ = i.plane.cmd.Process.Kill()
		<-i.plane.ended
	}
	i.showLogs()
}

func (i *instance) showLogs() {
	if !i.t.Failed() {
		return
	}
	i.t.Logf("oc-control:\n%s", tail(i.dir.Log()))
	for _, n := range i.nodes {
		i.t.Logf("%s:\n%s", n.ID, tail(i.dir.NodeLog(n.Machine)))
	}
}

func (i *instance) status() (control.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return i.ctl.Status(ctx)
}

func (i *instance) pidOf(n *node) int {
	s, err := i.status()
	i.must(err)
	for _, c := range append([]control.Node{s.Writer}, followersOf(s)...) {
		if c.Node == n.ID {
			return c.PID
		}
	}
	return 0
}

func followersOf(s control.Status) (out []control.Node) {
	for _, f := range s.Followers {
		out = append(out, f.Node)
	}
	return out
}

// signal sends to a node's process.
func (n *node) signal(sig syscall.Signal) {
	n.i.t.Helper()
	pid := n.i.pid(n)
	if pid == 0 {
		n.i.t.Fatalf("no process of %s runs", n.ID)
	}
	n.i.must(syscall.Kill(pid, sig))
}

// off is a file that keeps a node from starting: its machine is gone.
func (n *node) off() string { return filepath.Join(string(n.i.dir), n.ID+".off") }

func (n *node) switchOff() {
	n.i.t.Helper()
	n.i.must(os.WriteFile(n.off(), nil, 0o600))
	n.signal(syscall.SIGKILL)
}

func (n *node) switchOn() {
	n.i.t.Helper()
	n.i.must(os.Remove(n.off()))
}

func (n *node) standing() (api.Replication, error) {
	return n.stands(context.Background(), settle.Within)
}

// stands is what the node says of its place in the log, within a time.
func (n *node) stands(ctx context.Context, bound time.Duration) (r api.Replication, err error) {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	client := call.Client{URL: n.URL, Token: n.i.admin, HTTP: n.i.http}
	err = client.Get(ctx, "/v1/admin/replication", &r)
	return r, err
}

func (n *node) asTenant() *call.Client {
	return &call.Client{URL: n.URL, Token: n.i.token, HTTP: n.i.http}
}

// endpoint is a client of the stable endpoint.
func (i *instance) endpoint() *call.Client {
	return &call.Client{URL: i.in.Endpoint(), Token: i.token, HTTP: i.http}
}

// record is the record of who writes.
func (i *instance) record() lease.Record {
	i.t.Helper()
	s, err := lease.OpenFile(vfs.Default, i.dir.Lease())
	i.must(err)
	r, _, err := s.Load(context.Background())
	i.must(err)
	return r
}

// writer is the node that the record names.
func (i *instance) writer() *node {
	i.t.Helper()
	return i.named(i.record().Holder)
}

func (i *instance) named(id string) *node {
	i.t.Helper()
	for _, n := range i.nodes {
		if n.ID == id {
			return n
		}
	}
	i.t.Fatalf("no node is called %q", id)
	return nil
}

// others are the nodes beside one.
func (i *instance) others(n *node) (out []*node) {
	for _, o := range i.nodes {
		if o != n {
			out = append(out, o)
		}
	}
	return out
}

// The tables. A write is a row that is written once, or one of a few that all clients
// write and read.
const (
	rowsID      = "d.rows"
	registersID = "d.registers"
	manifest    = `namespace = "d"
table = "%s"
primary_key = ["id"]
[[columns]]
name = "id"
ty = "str"
required = true
[[columns]]
name = "text"
ty = "str"
`
)

// found makes the tables.
func (i *instance) found() {
	i.t.Helper()
	for _, table := range []string{"rows", "registers"} {
		i.must(i.endpoint().Register(i.t.Context(), i.in.Tenant, fmt.Appendf(nil, manifest, table)))
	}
}

func (i *instance) row(table, pk string) string {
	return "/v1/tenants/" + i.in.Tenant + "/rows/" + table + "/" + pk
}

// put is one write, of one attempt.
func (i *instance) put(ctx context.Context, c *call.Client, table, pk, text, key string) (*call.Response, error) {
	body, err := json.Marshal(map[string]string{"id": pk, "text": text})
	if err != nil {
		return nil, err
	}
	r := call.Request{Method: http.MethodPut, Path: i.row(table, pk), ContentType: api.ContentTypeJSON, Body: body}
	if key != "" {
		r.Header = []string{api.HeaderIdempotencyKey, key}
	}
	return c.Do(ctx, r)
}
