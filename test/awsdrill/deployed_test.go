package awsdrill

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/oklog/ulid/v2"

	"originchain/shared/aws/s3object/s3test"
	"originchain/shared/aws/session"
	"originchain/shared/failover"
	"originchain/shared/serverunit"
	"originchain/test/awsfake"
	"originchain/test/awsfake/model"
	"originchain/test/netns"
	"originchain/test/systemctl"
)

// Where a machine has what.
const (
	unitName = "oc-http.service"
	bin      = "/opt/originchain/bin"
	data     = "/var/lib/originchain"
	// secrets is in memory, and the server's alone.
	secrets = "/run/originchain"
)

// nodeID and nodeName are what a deployment calls a node.
func nodeID(i int) string   { return instance + "-" + letter(i) }
func nodeName(i int) string { return letter(i) + "." + record }
func letter(i int) string   { return string(rune('a' + i)) }

// certificates makes an authority, and a certificate by it for each node, as docs/DEPLOY.md
// says. It returns their directory.
func certificates(t *testing.T, nodes ...string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "certs")
	args := []string{"cert", "dev", "--dir", dir, "--host", record, "--host", "*." + record, "--days", "90"}
	for _, n := range nodes {
		args = append(args, "--node", n)
	}
	if err := netns.Run("", filepath.Join(programs, "oc-server"), args...); err != nil {
		t.Fatal(err)
	}
	return dir
}

// authority is the certificate of a directory's authority.
func authority(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// node makes a node and boots its machine.
func (r *region) node(i int) {
	r.t.Helper()
	host := r.net.NewHost()
	n := &node{r: r, Host: host, Node: failover.Node{
		ID: nodeID(i), Machine: fmt.Sprintf("i-0123456789abcde%02x", i), Address: host.IP,
		URL: "https://" + net.JoinHostPort(nodeName(i), strconv.Itoa(apiPort)), ReplicationAddress: net.JoinHostPort(host.IP, strconv.Itoa(replicationPort)),
	}}
	n.OpsURL = n.URL
	n.machine = systemctl.New(r.t, systemctl.Options{Bin: filepath.Join(programs, "systemd"), Wrap: host.Wrap(), Rooted: true})
	for _, dir := range []string{bin, data} {
		r.must(os.MkdirAll(filepath.Join(n.machine.Root, dir), 0o755))
	}
	for _, p := range []string{"oc-server", "oc-node"} {
		r.must(os.Link(filepath.Join(programs, p), filepath.Join(n.machine.Root, bin, p)))
	}
	n.secrets(r.certs)
	r.nodes = append(r.nodes, n)
	r.fake.SSM.Machine(n.Machine, n.agent)
}

// secrets puts the node's where its server reads them: one pair does for both HTTPS and
// replication, in files of their own.
func (n *node) secrets(certs string) {
	n.r.t.Helper()
	n.r.must(os.MkdirAll(filepath.Join(n.machine.Root, secrets), 0o750))
	n.secret("admin.token", []byte(adminToken+"\n"))
	n.identity(certs)
	for name, of := range map[string]string{"server.crt": "node.crt", "server.key": "node.key"} {
		text, err := os.ReadFile(filepath.Join(certs, n.ID, of))
		n.r.must(err)
		n.secret(name, text)
	}
}

// identity puts what the node shows other nodes there, and what it knows them by.
func (n *node) identity(certs string) {
	n.r.t.Helper()
	for _, name := range []string{"ca.crt", "node.crt", "node.key"} {
		text, err := os.ReadFile(filepath.Join(certs, n.ID, name))
		n.r.must(err)
		n.secret(name, text)
	}
}

// secret puts one file there, whole.
func (n *node) secret(name string, text []byte) {
	n.r.t.Helper()
	at := filepath.Join(n.machine.Root, secrets, name)
	n.r.must(errors.Join(os.WriteFile(at+".new", text, 0o400), os.Rename(at+".new", at)))
}

// lost is a machine without power: what was in its memory is gone, and nobody reaches it.
func (n *node) lost() {
	n.r.t.Helper()
	n.machine.PowerOff()
	n.r.fake.SSM.Away(n.Machine)
	n.r.must(os.RemoveAll(filepath.Join(n.machine.Root, secrets)))
}

// boots is the machine with power again.
func (n *node) boots() {
	n.r.t.Helper()
	n.machine.Boot()
	n.r.fake.SSM.Back(n.Machine)
	n.secrets(n.r.certs)
	n.systemctl("start", unitName)
}

// deployed is what a deployment leaves: units, the nodes in the registry, and in the zone the
// names of the nodes, and of the first writer.
func (r *region) deployed() {
	r.t.Helper()
	bucket := s3test.NewBucket(r.t, true)
	netns.Relay(r.t, r.at(s3Port), strings.TrimPrefix(bucket.Endpoint, "http://"))
	bucket.Endpoint = "http://" + r.at(s3Port)
	id := ulid.MustNew(ulid.Now(), rand.Reader).String()
	var err error
	r.deps, err = r.settings.Open(r.t.Context(), session.Config{Endpoint: r.fake.URL, Credentials: awsfake.Credentials()})
	r.must(err)
	for i, n := range r.nodes {
		u := serverunit.Unit{Node: n.ID, Instance: id, Directory: data, Binary: bin + "/oc-server", Flags: r.flags(i, id, bucket.URL(""))}
		for _, v := range r.environment() {
			u.Settings = append(u.Settings, "Environment="+v)
		}
		text, err := u.Text()
		r.must(err)
		n.machine.WriteUnit(unitName, string(text))
		r.must(failover.SaveNode(r.t.Context(), r.deps.Registry, n.Node))
		r.named(nodeName(i), n.Address)
	}
	r.named(record, r.nodes[0].Address)
}

// named has the zone say an address of a name.
func (r *region) named(name, address string) {
	r.fake.Route53.Put(r.zone, model.Struct{"Name": name + ".", "Type": "A", "TTL": int64(failover.RecordTTL), "ResourceRecords": []any{model.Struct{"Value": address}}})
}

// flags are those of a node's server; they are held against those of infra/stack below.
func (r *region) flags(i int, id, archive string) []string {
	n, everywhere := r.nodes[i], func(port int) string { return "0.0.0.0:" + strconv.Itoa(port) }
	mode := []string{"--mode", "writer"}
	if i > 0 {
		mode = []string{"--mode", "follower", "--leader-addr", r.nodes[0].ReplicationAddress}
	}
	return append(mode, "--instance-id", id, "--node-id", n.ID, "--region", awsfake.Region, "--data-dir", data,
		"--listen", everywhere(apiPort), "--advertise", n.URL, "--tls-cert", secrets+"/server.crt", "--tls-key", secrets+"/server.key",
		"--replication-listen", everywhere(replicationPort), "--replication-advertise", n.ReplicationAddress, "--replication-tls-dir", secrets,
		"--control", r.settings.Leases, "--sync-replicas", "1", "--archive", archive, "--retention", "720h", "--tail-ship", "--admin-token-file", secrets+"/admin.token")
}

// environment is what an instance profile gives to processes: the archive checks who asks.
func (r *region) environment() []string {
	env := []string{"AWS_REGION=" + awsfake.Region, "AWS_EC2_METADATA_DISABLED=true"}
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"} {
		env = append(env, name+"="+os.Getenv(name))
	}
	return env
}

// variables are the environments of the functions, as a deployment gives them: those that ask
// nodes reach no Route 53, and the one that does asks none.
func (r *region) variables(ca string) map[string][]string {
	common := []string{"OC_INSTANCE=" + instance, "OC_RECORD=" + record, "OC_LEASES=" + r.settings.Leases, "OC_REGISTRY=" + r.settings.Registry}
	nodes := append(slices.Clone(common), "OC_DOCUMENT_PREFIX="+r.settings.Documents, "OC_ADMIN_TOKEN_SECRET="+r.settings.AdminSecret, "OC_CA="+ca)
	return map[string][]string{
		"silence": nodes, "promote": nodes, "dns": append(slices.Clone(common), "OC_ZONE_ID="+r.zone),
		"notify": {"OC_INSTANCE=" + instance, "OC_INSTANCES=" + instance, "OC_REGISTRY=" + r.settings.Registry, "OC_CONTROL_REGISTRY=" + r.incidentsURL, "OC_MAIL_FROM=" + mailFrom},
	}
}

// agentVariables are the environment of a node's agent, as a deployment gives it.
func (r *region) agentVariables() []string {
	return []string{"AWS_REGION=" + awsfake.Region, "OC_INSTANCE=" + instance, "OC_REGISTRY=" + r.settings.Registry}
}

// agentText is the unit of a node's agent; it is held against that of infra/stack below.
func agentText(node string, variables []string) string {
	var env strings.Builder
	for _, v := range variables {
		fmt.Fprintf(&env, "Environment=%s\n", strings.ReplaceAll(v, "%", "%%"))
	}
	return "[Unit]\nDescription=OriginChain agent of " + node + "\nAfter=network-online.target\nWants=network-online.target\nStartLimitIntervalSec=0\n\n" +
		"[Service]\n" + env.String() + "ExecStart=" + bin + "/oc-node agent\nRestart=always\nRestartSec=5\n\n[Install]\nWantedBy=multi-user.target\n"
}

// strict is a part of the deployment of an instance with an authority of its own.
func strict(t *testing.T, part string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "infra", "stack", "testdata", "options", "strict-"+part+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestAgentsAreRunAsDeployed: by the same unit, to the values of its environment.
func TestAgentsAreRunAsDeployed(t *testing.T) {
	r := &region{t: t}
	units := regexp.MustCompile(`oc-node\.service' <<'END_OF_FILE'\\n(.*?)END_OF_FILE`).FindAllSubmatch(strict(t, "Instance"), -1)
	values := regexp.MustCompile(`(?m)^(Environment=[^=]+=).*$`)
	for i := range 2 {
		deployed := strings.ReplaceAll(string(units[i][1]), `\n`, "\n")
		want := values.ReplaceAllString(strings.ReplaceAll(deployed, "strict-"+letter(i), nodeID(i)), "$1")
		got := values.ReplaceAllString(agentText(nodeID(i), r.agentVariables()), "$1")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the agent of node %d (-deployed +run):\n%s", i, diff)
		}
	}
}

// TestWhatIsRunIsWhatIsDeployed: flags of servers, and variables of functions, are those of
// a deployment, for an instance with an authority of its own.
func TestWhatIsRunIsWhatIsDeployed(t *testing.T) {
	r := &region{t: t}
	servers := regexp.MustCompile(`(?s)ExecStart=`+bin+`/oc-server(.*?)Restart=`).FindAllSubmatch(strict(t, "Instance"), -1)
	for i := range 2 {
		r.nodes = append(r.nodes, &node{Node: failover.Node{ID: nodeID(i)}})
		want := map[string]string{}
		for _, f := range regexp.MustCompile(`--([a-z-]+)(?: ([^\s\\"]+))?`).FindAllStringSubmatch(string(servers[i][1]), -1) {
			want[f[1]] = f[2]
		}
		delete(want, "sync-strict") // of that one alone: what is left of a pair could not write
		got := map[string]string{}
		for _, f := range strings.Split(" "+strings.Join(r.flags(i, "", ""), " "), " --")[1:] {
			name, value, _ := strings.Cut(f, " ")
			got[name] = value
		}
		for _, own := range []string{"instance-id", "node-id", "region", "advertise", "replication-advertise", "leader-addr", "control", "sync-replicas", "archive", "retention"} {
			for _, flags := range []map[string]string{want, got} {
				if _, ok := flags[own]; ok {
					flags[own] = "its own"
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("the server of node %d (-deployed +run):\n%s", i, diff)
		}
	}
	want, got := map[string][]string{}, map[string][]string{}
	for _, part := range []string{"Failover", "Observability"} {
		var stack struct {
			Resources map[string]struct {
				Type       string
				Properties struct {
					FunctionName any
					Environment  struct{ Variables map[string]any }
				}
			}
		}
		if err := json.Unmarshal(strict(t, part), &stack); err != nil {
			t.Fatal(err)
		}
		for id, f := range stack.Resources {
			if f.Type != "AWS::Lambda::Function" {
				continue
			}
			name, ok := f.Properties.FunctionName.(string)
			if !ok {
				t.Errorf("the function %s of %s has no name of its own", id, part)
			}
			want[strings.TrimPrefix(name, "oc-strict-")] = slices.Sorted(maps.Keys(f.Properties.Environment.Variables))
		}
	}
	for name, variables := range r.variables("") {
		for _, v := range variables {
			key, _, _ := strings.Cut(v, "=")
			got[name] = append(got[name], key)
		}
		slices.Sort(got[name])
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the functions (-deployed +run):\n%s", diff)
	}
}
