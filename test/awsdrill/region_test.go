package awsdrill

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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

	"originchain/infra/documents"
	"originchain/scripts/call"
	"originchain/shared/api"
	"originchain/shared/aws/ddblease"
	"originchain/shared/aws/ddblease/ddbtest"
	"originchain/shared/aws/ddbregistry"
	"originchain/shared/aws/settings"
	"originchain/shared/failover"
	"originchain/test/awsfake"
	"originchain/test/netns"
	"originchain/test/settle"
	"originchain/test/systemctl"
)

// Ports of machines, and of what stands for AWS at the network's gateway.
const (
	apiPort         = 7400
	replicationPort = 7401
	namesPort       = 53
	awsPort         = 7443
	dynamoPort      = 7444
	s3Port          = 7445
)

// Names of the instance.
const (
	instance   = "acme"
	domain     = "db.example.com"
	record     = instance + "." + domain
	adminToken = "oc_admin_0123456789abcdef01234567"
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
	// incidentsURL is the registry of incidents and subscribers.
	incidentsURL string
	certs        string // the directory of the authority
	nodes        []*node
	http         *http.Client
	tenant       string
	token        string
}

// node is a node on its machine.
type node struct {
	failover.Node
	*netns.Host
	machine *systemctl.Machine
	r       *region
}

func newRegion(t *testing.T, with ...func(*region)) *region {
	t.Helper()
	if errSetup != nil {
		t.Fatal(errSetup)
	}
	r := &region{t: t, net: netns.NewNetwork(t, int(networks.Add(1))), certs: certificates(t, nodeID(0), nodeID(1))}
	r.services()
	for i := range 2 {
		r.node(i)
	}
	for _, option := range with {
		option(r)
	}
	r.deployed()
	t.Cleanup(r.logs)
	for _, n := range r.nodes {
		n.systemctl("start", unitName)
	}
	r.http = r.known(r.settings.CA)
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
	r.nameServer()
	all, err := documents.All()
	r.must(err)
	for _, d := range all {
		r.fake.SSM.Document(d.Name("OriginChain-"+instance), d.Content)
	}
	table := "?" + url.Values{"region": {awsfake.Region}, "endpoint": {"http://" + r.at(dynamoPort)}}.Encode()
	r.settings = settings.Settings{
		Format: settings.Format, Instance: instance, Region: awsfake.Region, Leases: "dynamodb://leases/" + instance + table, Registry: "dynamodb://registry/" + instance + table,
		Documents: "OriginChain-" + instance, ZoneID: r.zone, Record: record, AdminSecret: r.fake.Secrets.Put("originchain/"+instance+"/admin-token", adminToken),
		CA: authority(r.t, r.certs),
	}
	r.incidentsURL = "dynamodb://registry/control" + table
	text, err := json.Marshal(r.settings)
	r.must(err)
	r.fake.SSM.Parameter(settings.Parameter(instance), string(text))
}

// nameServer answers for the zone, at the port and for the programs that ask one.
func (r *region) nameServer() {
	r.t.Helper()
	udp, err := net.ListenPacket("udp", r.at(namesPort))
	r.must(err)
	tcp, err := net.Listen("tcp", r.at(namesPort))
	r.must(err)
	r.names = r.fake.Route53.ServeDNSOn(udp, tcp)
	r.must(netns.Names(r.net.Gateway()))
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

// known is a client that knows nodes by their names, and an authority of their certificates;
// it finds a name anew for each request.
func (r *region) known(ca string) *http.Client {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(ca)) {
		r.t.Fatal("the authority is no certificate")
	}
	return &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{DialContext: r.dial, DisableKeepAlives: true, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}}}
}

func (r *region) client() *call.Client {
	return &call.Client{URL: "https://" + net.JoinHostPort(record+".", strconv.Itoa(apiPort)), Token: r.token, HTTP: r.http}
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

// found makes a tenant.
func (r *region) found() {
	r.t.Helper()
	var made api.CreatedTenant
	r.token = adminToken
	r.must(r.client().JSON(r.t.Context(), http.MethodPost, "/v1/admin/tenants", api.CreateTenantRequest{Name: "drill"}, &made))
	r.tenant, r.token = made.Tenant, made.Token
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
