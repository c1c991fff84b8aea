package drills

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"

	"originchain/lambdas/local/layout"
	"originchain/lambdas/local/proxy"
	"originchain/scripts/child"
	"originchain/shared/api"
	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/shared/lease/leasehttp"
	"originchain/shared/lsn"
	"originchain/shared/registry"
	"originchain/test/settle"
)

// errUnreached is what it says of every machine.
var errUnreached = errors.New("the machine does not answer")

// unreached is the instance control of a control plane that reaches no machine, as when
// every command of SSM gets lost: nothing can be stopped, and nobody knows what runs. The
// supervisor of oc-control would end a frozen process; here it wakes up.
type unreached struct{}

func (unreached) Process(context.Context, failover.Node) (failover.Process, error) {
	return failover.Process{}, errUnreached
}

func (unreached) Stop(context.Context, failover.Node) (failover.Process, error) {
	return failover.Process{}, errUnreached
}
func (unreached) Start(context.Context, failover.Node) error   { return errUnreached }
func (unreached) Restart(context.Context, failover.Node) error { return errUnreached }
func (unreached) Unit(context.Context, failover.Node) (string, []byte, error) {
	return "", nil, errUnreached
}
func (unreached) Rewrite(context.Context, failover.Node, []byte) error { return errUnreached }

// far is a control plane that reaches nodes and stores, and no machine. It is made of the
// parts that all control planes are made of: the observer, the decision, the steps, the
// lease store and the endpoint.
type far struct {
	i        *instance
	record   lease.Store
	registry registry.Store
	proxy    *proxy.Proxy
	servers  map[string]*child.Server
	client   *http.Client
	archive  string // its URL
	stop     context.CancelFunc
	done     sync.WaitGroup
}

// newFar has a pair of nodes up under a far control plane.
func newFar(t *testing.T) (*instance, *far) {
	t.Helper()
	i := prepare(t, 1)
	return i, i.underFar(i.dir.ArchiveURL())
}

// underFar has the nodes of an instance up under a far control plane, with an archive.
func (i *instance) underFar(archive string) *far {
	t := i.t
	t.Helper()
	f := &far{i: i, archive: archive, registry: registry.NewMemory(), proxy: proxy.New(proxy.Config{}), servers: map[string]*child.Server{}, client: &http.Client{}}
	var err error
	f.record, err = lease.OpenFile(vfs.Default, i.dir.Lease())
	i.must(err)
	ctx, stop := context.WithCancel(context.Background())
	f.stop = stop
	t.Cleanup(f.end)
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	token, err := layout.Secret(i.dir.LeaseToken())
	i.must(err)
	f.serve(ctx, i.in.LeaseAddress(), leasehttp.NewServer(func(string) (lease.Store, error) { return f.record, nil }, token, quiet))
	f.serve(ctx, i.in.EndpointAddress(), f.proxy)
	for n := range i.nodes {
		f.start(n)
		i.must(failover.SaveNode(ctx, f.registry, i.nodes[n].Node))
	}
	i.pid = func(n *node) int { return f.servers[n.ID].PID() }
	f.done.Go(func() { f.watch(ctx) })
	i.whole()
	f.done.Go(func() { f.guard(ctx) })
	f.tenant()
	i.found()
	return f
}

func (f *far) serve(ctx context.Context, address string, h http.Handler) {
	f.i.t.Helper()
	l, err := net.Listen("tcp", address)
	f.i.must(err)
	s := &http.Server{Handler: h, ReadHeaderTimeout: settle.Within, BaseContext: func(net.Listener) context.Context { return ctx }}
	f.done.Go(func() { _ = s.Serve(l) })
	f.done.Go(func() { <-ctx.Done(); _ = s.Close() })
}

// start starts a node with what its unit would say.
func (f *far) start(n int) {
	f.i.t.Helper()
	node, first := f.i.nodes[n], f.i.nodes[0]
	args := []string{
		"--instance-id", f.i.in.ID, "--node-id", node.ID, "--advertise", node.URL, "--replication-listen", node.ReplicationAddress,
		"--replication-tls-dir", filepath.Join(f.i.certs(), node.ID), "--control", f.i.dir.LeaseURL(f.i.in), "--sync-replicas", "1",
		"--archive", f.archive, "--tail-ship", "--admin-token-file", f.i.dir.AdminToken(), "--segment-bytes", smallSegments,
	}
	if n > 0 {
		args = append(args, "--mode", "follower", "--leader-addr", first.ReplicationAddress)
	}
	log, err := os.Create(f.i.dir.NodeLog(node.Machine))
	f.i.must(err)
	f.i.t.Cleanup(func() { _ = log.Close() })
	f.servers[node.ID], err = child.Start(child.Options{
		Binary: serverBin, DataDir: f.i.dir.Data(node.Machine), Listen: net.JoinHostPort(node.IP, strconv.Itoa(apiPort)), Args: args, Wrap: node.Wrap(), Output: log,
	})
	f.i.must(err)
}

func (f *far) tenant() {
	f.i.t.Helper()
	var made api.CreatedTenant
	admin := *f.i.endpoint()
	admin.Token = f.i.admin
	f.i.must(admin.JSON(f.i.t.Context(), http.MethodPost, "/v1/admin/tenants", api.CreateTenantRequest{Name: "drills"}, &made))
	f.i.in.Tenant, f.i.token = made.Tenant, made.Token
}

func (f *far) end() {
	f.stop()
	f.done.Wait()
	f.proxy.Close()
	f.client.CloseIdleConnections()
	for id, s := range f.servers {
		if err := s.Kill(); err != nil {
			f.i.t.Errorf("%s: %v", id, err)
		}
	}
	f.i.showLogs()
}

// watch sends the endpoint to who says that it writes.
func (f *far) watch(ctx context.Context) {
	var each sync.WaitGroup
	for _, n := range f.i.nodes {
		each.Go(func() {
			for ctx.Err() == nil {
				if s, err := n.stands(ctx, time.Second); err == nil && s.Role == "writer" {
					if err := f.proxy.SetWriter(lsn.Epoch(s.Epoch), n.URL); err != nil {
						f.i.t.Error(err)
					}
				}
				settle.Pause(ctx, 5*settle.Every)
			}
		})
	}
	each.Wait()
}

// guard has the other node take the writer's place when package failover says so.
func (f *far) guard(ctx context.Context) {
	o := failover.NewObserver(failover.ObserverDeps{Lease: f.record, Control: unreached{}, HTTP: f.client, AdminToken: f.i.admin})
	defer o.Close()
	var nodes []failover.Node
	for _, n := range f.i.nodes {
		nodes = append(nodes, n.Node)
	}
	for ctx.Err() == nil {
		settle.Pause(ctx, 5*settle.Every)
		rec, _, err := f.record.Load(ctx)
		if err != nil {
			continue
		}
		target := nodes[slices.IndexFunc(nodes, func(n failover.Node) bool { return n.ID != rec.Holder })]
		allow := failover.Overrides{AllowLag: failover.DefaultAllowLag}
		if failover.Decide(o.Look(ctx, failover.Sight{Nodes: nodes, Target: target}), allow).Verdict != failover.Promote {
			continue
		}
		_, err = failover.Execute(ctx, failover.Deps{
			Lease: f.record, Registry: f.registry, Control: unreached{}, HTTP: f.client, AdminToken: f.i.admin, Observer: o,
			Flags: func(string) (bool, bool) { return false, false },
		}, failover.Request{To: target.ID, Allow: allow}, nil)
		var left *failover.LeftError // the unit, which nobody can rewrite
		if err != nil && !errors.As(err, &left) && ctx.Err() == nil {
			f.i.t.Logf("failover to %s: %v", target.ID, err)
			settle.Pause(ctx, time.Second)
		}
	}
}
