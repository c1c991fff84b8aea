package layout

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/unitfile"
)

// loopback gives addresses in order.
func loopback(_ string, n int) (out []string, err error) {
	for i := range n {
		out = append(out, fmt.Sprintf("127.0.0.%d", i+1))
	}
	return out, nil
}

func made(t *testing.T, followers int) (Dir, *Instance) {
	t.Helper()
	d, err := Open(filepath.Join(t.TempDir(), `a "dir" 100% $HOME`))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range d.Directories() {
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	in, err := New(followers, loopback)
	if err != nil {
		t.Fatal(err)
	}
	return d, in
}

// The unit of a node runs what was meant, whatever the directory is called.
func TestUnitsSayWhatIsRun(t *testing.T) {
	d, in := made(t, 1)
	for i, want := range [][]string{{"--mode", "writer"}, {"--mode", "follower", "--leader-addr", in.Registered()[0].ReplicationAddress}} {
		text, err := d.UnitText(in, i, Options{Binary: string(d) + "/bin/oc-server", SyncReplicas: 1, More: []string{"--log-level", "debug"}})
		if err != nil {
			t.Fatal(err)
		}
		f, err := unitfile.Parse("x", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		c, err := f.Command()
		if err != nil {
			t.Fatal(err)
		}
		path, args, err := c.Argv(map[string]string{"HOME": "wrong"}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if path != string(d)+"/bin/oc-server" {
			t.Errorf("it runs %q", path)
		}
		if got := args[1 : 1+len(want)]; !slices.Equal(got, want) {
			t.Errorf("flags %q, want %q first", args, want)
		}
		for _, pair := range [][2]string{
			{"--data-dir", d.Data(in.Nodes[i].Name)}, {"--node-id", in.Nodes[i].Name}, {"--archive", d.ArchiveURL()}, {"--sync-replicas", "1"}, {"--log-level", "debug"},
			{"--instance-id", in.ID}, {"--admin-token-file", d.AdminToken()},
		} {
			if at := slices.Index(args, pair[0]); at < 0 || args[at+1] != pair[1] {
				t.Errorf("%s is not %q in %q", pair[0], pair[1], args)
			}
		}
		if got := f.Value("Service", "WorkingDirectory"); !strings.HasSuffix(got, "100%% $HOME") {
			t.Errorf("working directory %q", got)
		}
	}
	if _, err := d.UnitText(in, 0, Options{Binary: "a\nb"}); err == nil {
		t.Error("a unit says a line feed")
	}
}

func TestAnInstanceIsReadAsItWasWritten(t *testing.T) {
	d, in := made(t, 2)
	if got, err := d.Load(); got != nil || err != nil {
		t.Fatalf("before it is written: %v, %v", got, err)
	}
	if err := d.Save(in); err != nil {
		t.Fatal(err)
	}
	got, err := d.Load()
	if diff := cmp.Diff(in, got); err != nil || diff != "" {
		t.Errorf("%v %s", err, diff)
	}
	if err := os.WriteFile(d.Instance(), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Load(); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("an instance of nothing: %v", err)
	}
	ports := []int{in.Port, in.ReplicationPort, in.LeasePort, in.DNSPort, in.MachinesPort, in.GatePort}
	if slices.Sort(ports); len(slices.Compact(ports)) != 6 || ports[0] == 0 {
		t.Errorf("ports %v", ports)
	}
	if _, err := New(MaxFollowers+1, loopback); err == nil {
		t.Error("any number of followers")
	}
}

// A node reaches the lease store, and is reached by its followers, through gates; in an
// instance that was made before there were any it is as it was.
func TestUnitsGoThroughGates(t *testing.T) {
	d, in := made(t, 1)
	in.Port, in.ReplicationPort, in.LeasePort, in.GatePort = 1000, 1001, 1002, 1003
	flags := func() string {
		t.Helper()
		text, err := d.UnitText(in, 1, Options{Binary: "/b"})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	has := func(text string, yes bool, words ...string) {
		t.Helper()
		for _, w := range words {
			if strings.Contains(text, w) != yes {
				t.Errorf("%q is there: %t\n%s", w, !yes, text)
			}
		}
	}
	has(flags(), true, "--leader-addr 127.0.0.2:1003", "--replication-advertise 127.0.0.3:1003", "--replication-listen 127.0.0.3:1001", "--control http://127.0.0.3:1002/")
	if r := in.Registered()[1].ReplicationAddress; !in.Gated() || r != "127.0.0.3:1003" {
		t.Errorf("followers are told %s", r)
	}
	in.GatePort = 0
	has(flags(), true, "--leader-addr 127.0.0.2:1001", "--replication-listen 127.0.0.3:1001", "--control http://127.0.0.1:1002/")
	has(flags(), false, "--replication-advertise")
	if r := in.Registered()[1].ReplicationAddress; in.Gated() || r != "127.0.0.3:1001" {
		t.Errorf("followers are told %s", r)
	}
}

// endpoints.json has exactly the fields that its readers know.
func TestEndpoints(t *testing.T) {
	d, in := made(t, 1)
	in.Tenant = "01HZX3V9J8Q2W4E6R8T0Y2M4K6"
	if err := d.SaveEndpoints(in, "node-2"); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(d.Endpoints())
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	nodes := in.Registered()
	want := map[string]any{
		"endpoint": in.Endpoint(), "writer": nodes[1].URL, "followers": []any{nodes[0].URL}, "dns": in.DNSAddress(), "tenant": in.Tenant,
		"token_file": d.TenantToken(), "admin_token_file": d.AdminToken(), "archive": d.ArchiveURL(),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	e, err := d.ReadEndpoints()
	if err != nil || e.Writer != nodes[1].URL {
		t.Errorf("%+v, %v", e, err)
	}
}

func TestASecretIsMadeOnceAndForItsOwnerAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	a, err := Secret(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := Secret(path)
	if err != nil || a != b || len(a) != 2*secretBytes {
		t.Errorf("%d and %d characters, the same: %t, %v", len(a), len(b), a == b, err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Secret(path); err == nil {
		t.Error("an empty secret is one")
	}
}

// Where the nodes are not on loopback, what answers this machine alone still is.
func TestInnerAddresses(t *testing.T) {
	in := Instance{Front: "198.18.1.1", Port: 1, LeasePort: 2, DNSPort: 3, MachinesPort: 4}
	for inner, want := range map[string]string{"": "198.18.1.1", "127.7.7.7": "127.7.7.7"} {
		in.Inner = inner
		if in.DNSAddress() != want+":3" || in.MachinesAddress() != want+":4" || in.EndpointAddress() != "198.18.1.1:1" || in.LeaseAddress() != "198.18.1.1:2" {
			t.Errorf("inner %q: %s, %s, %s, %s", inner, in.DNSAddress(), in.MachinesAddress(), in.EndpointAddress(), in.LeaseAddress())
		}
	}
}
