package awsdrill

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/infra/documents"
	"originchain/scripts/call"
	"originchain/shared/api"
	"originchain/shared/aws/ddblease"
	"originchain/shared/aws/ddblease/ddbtest"
	"originchain/shared/aws/ddbregistry"
	"originchain/shared/aws/s3object/s3test"
	"originchain/shared/aws/session"
	"originchain/shared/aws/settings"
	"originchain/shared/failover"
	"originchain/shared/serverunit"
	"originchain/test/awsfake"
	"originchain/test/netns"
	"originchain/test/settle"
	"originchain/test/systemctl"
)

// Ports of machines, and of what stands for AWS at the network's gateway.
const (
	apiPort         = 7400
	replicationPort = 7401
	awsPort         = 7443
	dynamoPort      = 7444
	s3Port          = 7445
)

// Names of the instance, and where a machine has what.
const (
	instance   = "acme"
	domain     = "db.example.com"
	record     = instance + "." + domain
	adminToken = "oc_admin_0123456789abcdef01234567"
	unitName   = "oc-http.service"
	bin        = "/opt/originchain/bin"
	etc        = "/etc/originchain"
	data       = "/var/lib/originchain/data"
)

var networks atomic.Int32

// region is an instance in a region of AWS: its machines, and the services.
type region struct {
	t        *testing.T
	net      *netns.Network
	fake     *awsfake.Fake
	settings settings.Settings
	deps     failover.Deps
	zone     string
	names    string // host:port of the zone's name server
	nodes    []*node
	http     *http.Client
	tenant   string
	token    string
}

// node is a node on its machine.
type node struct {
	failover.Node
	*netns.Host
	machine *systemctl.Machine
	r       *region
}

func newRegion(t *testing.T) *region {
	t.Helper()
	if errSetup != nil {
		t.Fatal(errSetup)
	}
	r := &region{t: t, net: netns.NewNetwork(t, int(networks.Add(1)))}
	r.services()
	for i := range 2 {
		r.node(i)
	}
	r.deployed()
	t.Cleanup(r.logs)
	for _, n := range r.nodes {
		n.systemctl("start", unitName)
	}
	r.http = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: r.dial, DisableKeepAlives: true}}
	settle.Eventually(t, "the writer has its follower in sync", r.whole)
	r.found()
	return r
}

func (r *region) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

func (r *region) at(port int) string { return net.JoinHostPort(r.net.Gateway(), strconv.Itoa(port)) }

// services are those of AWS, at the gateway.
func (r *region) services() {
	r.t.Helper()
	l, err := net.Listen("tcp", r.at(awsPort))
	r.must(err)
	r.fake = awsfake.StartOn(r.t, l)
	dynamo := ddbtest.Start(r.t)
	ddbtest.Table(r.t, dynamo, "leases", ddblease.KeyAttribute)
	ddbtest.Table(r.t, dynamo, "registry", ddbregistry.RegistryAttribute, ddbregistry.KeyAttribute)
	netns.Relay(r.t, r.at(dynamoPort), strings.TrimPrefix(dynamo, "http://"))
	r.zone = r.fake.Route53.Zone(domain)
	r.names = r.fake.Route53.ServeDNS(r.net.Gateway())
	all, err := documents.All()
	r.must(err)
	for _, d := range all {
		r.fake.SSM.Document(d.Name("OriginChain-"+instance), d.Content)
	}
	table := "?" + url.Values{"region": {awsfake.Region}, "endpoint": {"http://" + r.at(dynamoPort)}}.Encode()
	r.settings = settings.Settings{
		Format: settings.Format, Instance: instance, Region: awsfake.Region, Leases: "dynamodb://leases/" + instance + table, Registry: "dynamodb://registry/" + instance + table,
		Documents: "OriginChain-" + instance, ZoneID: r.zone, Record: record, AdminSecret: r.fake.Secrets.Put("originchain/"+instance+"/admin-token", adminToken),
	}
	text, err := json.Marshal(r.settings)
	r.must(err)
	r.fake.SSM.Parameter(settings.Parameter(instance), string(text))
}

// node makes a node and boots its machine.
func (r *region) node(i int) {
	r.t.Helper()
	host := r.net.NewHost()
	id := instance + "-" + string(rune('a'+i))
	n := &node{r: r, Host: host, Node: failover.Node{
		ID: id, Machine: fmt.Sprintf("i-0123456789abcde%02x", i), Address: host.IP,
		URL: "http://" + net.JoinHostPort(host.IP, strconv.Itoa(apiPort)), ReplicationAddress: net.JoinHostPort(host.IP, strconv.Itoa(replicationPort)),
	}}
	n.OpsURL = n.URL
	n.machine = systemctl.New(r.t, systemctl.Options{Bin: filepath.Join(programs, "systemd"), Wrap: host.Wrap(), Rooted: true})
	for _, dir := range []string{bin, etc, data} {
		r.must(os.MkdirAll(filepath.Join(n.machine.Root, dir), 0o755))
	}
	for _, p := range []string{"oc-server", "oc-node"} {
		r.must(os.Link(filepath.Join(programs, p), filepath.Join(n.machine.Root, bin, p)))
	}
	r.must(os.WriteFile(filepath.Join(n.machine.Root, etc, "admin.token"), []byte(adminToken+"\n"), 0o600))
	r.nodes = append(r.nodes, n)
	r.fake.SSM.Machine(n.Machine, n.agent)
}

// deployed is what a deployment leaves: certificates, units, the nodes in the registry, the
// first writer's address in the zone.
func (r *region) deployed() {
	r.t.Helper()
	certs := filepath.Join(r.t.TempDir(), "certs")
	args := []string{"cert", "dev", "--dir", certs}
	for _, n := range r.nodes {
		args = append(args, "--node", n.ID)
	}
	r.must(netns.Run("", filepath.Join(programs, "oc-server"), args...))
	bucket := s3test.NewBucket(r.t, true)
	netns.Relay(r.t, r.at(s3Port), strings.TrimPrefix(bucket.Endpoint, "http://"))
	bucket.Endpoint = "http://" + r.at(s3Port)
	id := ulid.MustNew(ulid.Now(), rand.Reader).String()
	var err error
	r.deps, err = r.settings.Open(r.t.Context(), session.Config{Endpoint: r.fake.URL, Credentials: awsfake.Credentials()})
	r.must(err)
	for i, n := range r.nodes {
		r.must(netns.Run("", "cp", "-a", filepath.Join(certs, n.ID), filepath.Join(n.machine.Root, etc, "tls")))
		mode := []string{"--mode", "writer"}
		if i > 0 {
			mode = []string{"--mode", "follower", "--leader-addr", r.nodes[0].ReplicationAddress}
		}
		u := serverunit.Unit{Node: n.ID, Instance: id, Directory: data, Binary: bin + "/oc-server", Flags: append(mode,
			"--instance-id", id, "--node-id", n.ID, "--region", awsfake.Region, "--data-dir", data, "--listen", n.Address+":"+strconv.Itoa(apiPort), "--advertise", n.URL,
			"--replication-listen", n.ReplicationAddress, "--replication-tls-dir", etc+"/tls", "--control", r.settings.Leases, "--sync-replicas", "1",
			"--archive", bucket.URL(""), "--tail-ship", "--admin-token-file", etc+"/admin.token")}
		for _, v := range r.environment() {
			u.Settings = append(u.Settings, "Environment="+v)
		}
		text, err := u.Text()
		r.must(err)
		n.machine.WriteUnit(unitName, string(text))
		r.must(failover.SaveNode(r.t.Context(), r.deps.Registry, n.Node))
	}
	r.must(r.deps.DNS.Point(r.t.Context(), record, r.nodes[0].Address, failover.RecordTTL*time.Second))
}

// environment is what an instance profile gives to processes: the archive checks who asks.
func (r *region) environment() []string {
	env := []string{"AWS_REGION=" + awsfake.Region, "AWS_EC2_METADATA_DISABLED=true"}
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		env = append(env, name+"="+os.Getenv(name))
	}
	return env
}

// agent is the machine's agent of Systems Manager.
func (n *node) agent(ctx context.Context, script string) (stdout, stderr string, code int) {
	cmd := n.machine.Command(ctx, "/bin/sh", "-c", script)
	cmd.Env = append(cmd.Env, n.r.environment()...)
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		code = exit.ExitCode()
	case err != nil:
		return "", err.Error(), 1
	}
	return out.String(), said.String(), code
}

func (n *node) systemctl(args ...string) {
	n.r.t.Helper()
	if out, err := n.machine.Systemctl(args...); err != nil {
		n.r.t.Fatalf("systemctl %v on %s: %v\n%s", args, n.ID, err, out)
	}
}

// dial finds a name as clients of the instance do: by asking the zone's name server.
func (r *region) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	host, port, err := net.SplitHostPort(address)
	if err != nil || net.ParseIP(host) != nil {
		return d.DialContext(ctx, network, address)
	}
	resolver := &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return d.DialContext(ctx, network, r.names)
	}}
	found, err := resolver.LookupHost(ctx, host)
	if err != nil {
		return nil, err
	}
	return d.DialContext(ctx, network, net.JoinHostPort(found[0], port))
}

func (r *region) client() *call.Client {
	return &call.Client{URL: "http://" + net.JoinHostPort(record+".", strconv.Itoa(apiPort)), Token: r.token, HTTP: r.http}
}

// stands is what a node says of its place in the log.
func (n *node) stands() (out api.Replication, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err = (&call.Client{URL: n.URL, Token: adminToken, HTTP: n.r.http}).Get(ctx, "/v1/admin/replication", &out)
	return out, err
}

// whole says whether one node writes, and the others are in sync with it.
func (r *region) whole() error {
	rec, _, err := r.deps.Lease.Load(context.Background())
	if err != nil {
		return err
	}
	if !rec.Confirmed() || len(rec.InSync) != len(r.nodes)-1 {
		return fmt.Errorf("the record of epoch %d, held by %s, has %v in sync", rec.Epoch, rec.Holder, rec.InSync)
	}
	return nil
}

// found makes a tenant with a table.
func (r *region) found() {
	r.t.Helper()
	var made api.CreatedTenant
	r.token = adminToken
	r.must(r.client().JSON(r.t.Context(), http.MethodPost, "/v1/admin/tenants", api.CreateTenantRequest{Name: "drill"}, &made))
	r.tenant, r.token = made.Tenant, made.Token
	r.must(r.client().Register(r.t.Context(), r.tenant, []byte("namespace = \"d\"\ntable = \"rows\"\nprimary_key = [\"id\"]\n[[columns]]\nname = \"id\"\nty = \"str\"\nrequired = true\n")))
}

// promote is scripts/promote-follower.sh as an operator runs it.
func (r *region) promote(args ...string) (report failover.Report, steps string, err error) {
	cmd := exec.CommandContext(r.t.Context(), filepath.Join(programs, "promote"), append([]string{"--provider", "aws", "--instance", instance, "--json"}, args...)...)
	cmd.Env = append(os.Environ(), r.fake.Environment()...)
	var out, said strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &said
	err = cmd.Run()
	if uncoded := json.Unmarshal([]byte(out.String()), &report); uncoded != nil && err == nil {
		err = uncoded
	}
	return report, said.String(), err
}

// logs shows what the servers said, where a test has failed.
func (r *region) logs() {
	if !r.t.Failed() {
		return
	}
	for _, n := range r.nodes {
		out, _ := exec.Command("sh", "-c", "ls -la "+n.machine.State+"; tail -c 3000 "+filepath.Join(n.machine.State, "*.log")).CombinedOutput()
		r.t.Logf("%s:\n%s", n.ID, out)
	}
}
