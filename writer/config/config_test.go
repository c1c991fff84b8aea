package config

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// resolve runs a command line and an environment through the table.
func resolve(t *testing.T, env map[string]string, args ...string) (Config, []string) {
	t.Helper()
	set := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f := Register(set)
	if err := set.Parse(args); err != nil {
		t.Fatal(err)
	}
	return f.Resolve(func(name string) (string, bool) { v, ok := env[name]; return v, ok })
}

func TestDefaults(t *testing.T) {
	got, faults := resolve(t, nil, "--data-dir", "/d")
	want := Config{Mode: "writer", DataDir: "/d", Listen: "127.0.0.1:7400", Region: "local", SyncTimeoutMS: 1000, FollowerRetainBytes: 4 << 30,
		TailWindowMS: 500, CheckpointInterval: time.Hour, Retention: 720 * time.Hour, SegmentBytes: 64 << 20, SegmentMaxAge: time.Minute,
		AdminTokenFile: "/d/admin.token", LogLevel: "info", DrainTimeout: 20 * time.Second, SlowRequest: time.Second, StatementTimeout: 5 * time.Minute, MaxConnections: 16384, MaxInFlight: 4096}
	if diff := cmp.Diff(want, got); diff != "" || len(faults) != 0 {
		t.Errorf("faults %q, (-want +got)\n%s", faults, diff)
	}
}

func TestFlagBeatsEnvironmentBeatsDefault(t *testing.T) {
	env := map[string]string{"OC_DATA_DIR": "/env", "OC_SEGMENT_MAX_AGE": "5s", "OC_MAX_IN_FLIGHT": "", "OC_SEGMENT_BYTES": "bad", "OC_UNKNOWN": "x"}
	got, faults := resolve(t, env, "--segment-max-age=7s", "--segment-bytes=1048576")
	if len(faults) != 0 {
		t.Fatal(faults)
	}
	if got.DataDir != "/env" || got.SegmentMaxAge != 7*time.Second || got.MaxInFlight != 4096 || got.SegmentBytes != 1<<20 {
		t.Errorf("%+v", got)
	}
}

func TestEveryOptionHasItsPlace(t *testing.T) {
	// A value per option that differs from its default and from every other's.
	values := map[string]string{"mode": "m", "data-dir": "/d", "listen": "a:1", "ops-listen": "a:2", "instance-id": "i", "node-id": "n", "region": "r",
		"advertise": "https://a", "replication-listen": "b:1", "replication-advertise": "b:3", "replication-tls-dir": "t", "leader-addr": "b:2", "control": "file:///c", "sync-replicas": "3",
		"sync-timeout-ms": "8", "sync-strict": "true", "follower-retain-bytes": "9", "apply-delay": "9s", "archive": "file:///a", "allow-cross-region": "true", "tail-ship": "true", "tail-window-ms": "77",
		"checkpoint-interval": "2h0m0s", "retention": "48h0m0s", "segment-bytes": "65537", "segment-max-age": "2s", "tls-cert": "c", "tls-key": "k", "tls-ca": "ca",
		"admin-token-file": "f", "log-level": "debug", "drain-timeout": "3s", "slow-request": "4s", "statement-timeout": "7s", "max-connections": "5", "max-in-flight": "6"}
	var args []string
	for _, o := range options() {
		v, ok := values[o.name]
		if !ok {
			t.Fatalf("the test has no value for --%s", o.name)
		}
		args = append(args, "--"+o.name+"="+v)
	}
	c, _ := resolve(t, nil, args...)
	text, err := c.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]string
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if diff := cmp.Diff(values, got); diff != "" {
		t.Errorf("--print-config shows (-want +got)\n%s", diff)
	}
}

func TestEveryFaultInOnePass(t *testing.T) {
	_, faults := resolve(t, map[string]string{"OC_MAX_IN_FLIGHT": "many"}, "--mode", "leader", "--replication-listen", "0.0.0.0:1", "--replication-advertise", "y", "--leader-addr", "x", "--control", "s3://b",
		"--sync-replicas", "17", "--sync-timeout-ms", "0", "--follower-retain-bytes", "-1", "--apply-delay", "-1s", "--listen", "nowhere", "--ops-listen", "x:99999",
		"--archive", "ftp://x", "--tail-window-ms", "1", "--checkpoint-interval", "1s", "--retention", "1s",
		"--instance-id", "short", "--node-id", "a b", "--region", "ä", "--advertise", "ftp://x", "--segment-bytes", "1MB", "--segment-max-age", "1ms",
		"--tls-cert", "c", "--log-level", "loud", "--drain-timeout", "0s", "--slow-request", "-1s", "--statement-timeout", "-2s", "--max-connections", "0")
	for _, want := range []string{"OC_MAX_IN_FLIGHT \"many\"", "--mode \"leader\"", "--replication-listen 0.0.0.0:1", "--replication-advertise \"y\"", "--leader-addr \"x\"", `--control: the scheme "s3"`,
		"--sync-replicas 17", "--sync-timeout-ms 0", "--follower-retain-bytes -1", "--apply-delay -1s", "--archive: ", "--tail-window-ms 1", "--checkpoint-interval 1s", "--retention 1s", "--data-dir:", "--listen", "--ops-listen", "--instance-id", "--node-id", "--region",
		"--advertise", "--segment-bytes \"1MB\"", "--segment-max-age", "--tls-cert", "--log-level", "--drain-timeout", "--slow-request", "--statement-timeout", "--max-connections"} {
		n := 0
		for _, f := range faults {
			if strings.HasPrefix(f, want) {
				n++
			}
		}
		if n != 1 {
			t.Errorf("%s is named %d times in %q", want, n, faults)
		}
	}
	if len(faults) != 30 {
		t.Errorf("%d faults: %s", len(faults), strings.Join(faults, "\n"))
	}
}

func TestValidateAtTheBoundary(t *testing.T) {
	good, _ := resolve(t, nil, "--data-dir", "/d")
	for name, c := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"good":                  {func(*Config) {}, ""},
		"least segment":         {func(c *Config) { c.SegmentBytes = MinSegmentBytes }, ""},
		"segment too small":     {func(c *Config) { c.SegmentBytes = MinSegmentBytes - 1 }, "--segment-bytes"},
		"largest segment":       {func(c *Config) { c.SegmentBytes = MaxSegmentBytes }, ""},
		"segment too large":     {func(c *Config) { c.SegmentBytes = MaxSegmentBytes + 1 }, "--segment-bytes"},
		"least age":             {func(c *Config) { c.SegmentMaxAge = minSegmentAge }, ""},
		"same addresses":        {func(c *Config) { c.OpsListen = c.Listen }, "--ops-listen"},
		"two free ports":        {func(c *Config) { c.Listen, c.OpsListen = "127.0.0.1:0", "127.0.0.1:0" }, ""},
		"no listen":             {func(c *Config) { c.Listen = "" }, "--listen"},
		"all interfaces":        {func(c *Config) { c.Listen = ":7400" }, ""},
		"named port":            {func(c *Config) { c.Listen = ":http" }, "--listen"},
		"a bucket":              {func(c *Config) { c.Archive, c.TailShip = "s3://b/p", true }, ""},
		"no bucket":             {func(c *Config) { c.Archive = "s3:///p" }, "--archive"},
		"tail without archive":  {func(c *Config) { c.TailShip = true }, "--tail-ship"},
		"region, no archive":    {func(c *Config) { c.AllowCrossRegion = true }, "--allow-cross-region"},
		"a follower":            {func(c *Config) { c.Mode, c.LeaderAddr = ModeFollower, "127.0.0.1:1" }, ""},
		"a follower of nobody":  {func(c *Config) { c.Mode = ModeFollower }, "--mode follower"},
		"a delayed writer":      {func(c *Config) { c.ApplyDelay = time.Second }, "--apply-delay"},
		"plain beyond loopback": {func(c *Config) { c.ReplicationListen = "10.0.0.1:1" }, "--replication-listen 10.0.0.1:1"},
		"with certificates":     {func(c *Config) { c.ReplicationListen, c.ReplicationTLSDir = "10.0.0.1:1", "/t" }, ""},
		"sync without a record": {func(c *Config) { c.ReplicationListen, c.SyncReplicas = "127.0.0.1:1", 1 }, "--sync-replicas 1 needs --control"},
		"sync without listener": {func(c *Config) { c.Control, c.SyncReplicas, c.Advertise = "file:///c", 1, "http://a" }, "--sync-replicas 1 needs --replication-listen"},
		"sync": {func(c *Config) {
			c.Control, c.SyncReplicas, c.ReplicationListen, c.Advertise = "file:///c", 1, "[::1]:1", "http://a"
		}, ""},
		"control, no URL": {func(c *Config) { c.Control = "file:///c" }, "--control needs --advertise"},
		"control, any address": {func(c *Config) {
			c.Control, c.Advertise, c.ReplicationListen, c.ReplicationTLSDir = "file:///c", "http://a", "0.0.0.0:1", "/t"
		}, "--replication-listen 0.0.0.0:1: with --control"},
		"advertised": {func(c *Config) {
			c.Control, c.Advertise, c.ReplicationListen, c.ReplicationTLSDir, c.ReplicationAdvertise = "file:///c", "http://a", "0.0.0.0:1", "/t", "db-a.example.com:7401"
		}, ""},
		"advertised, no control": {func(c *Config) { c.ReplicationListen, c.ReplicationAdvertise = "127.0.0.1:1", "127.0.0.1:2" }, "--replication-advertise 127.0.0.1:2 goes into"},
		"advertised, no listener": {func(c *Config) {
			c.Control, c.Advertise, c.ReplicationAdvertise = "file:///c", "http://a", "127.0.0.1:2"
		}, "--replication-advertise 127.0.0.1:2 goes into"},
		"advertised, plain beyond loopback": {func(c *Config) {
			c.Control, c.Advertise, c.ReplicationListen, c.ReplicationAdvertise = "file:///c", "http://a", "127.0.0.1:1", "10.0.0.1:1"
		}, "--replication-advertise 10.0.0.1:1 is not on"},
		"advertised, any address": {func(c *Config) {
			c.Control, c.Advertise, c.ReplicationListen, c.ReplicationTLSDir, c.ReplicationAdvertise = "file:///c", "http://a", "10.0.0.1:1", "/t", ":7401"
		}, "--replication-advertise :7401: it names one host"},
		"advertised, any port": {func(c *Config) {
			c.Control, c.Advertise, c.ReplicationListen, c.ReplicationAdvertise = "file:///c", "http://a", "127.0.0.1:1", "127.0.0.1:0"
		}, "--replication-advertise 127.0.0.1:0: it names one host"},
		"advertised, no port":   {func(c *Config) { c.ReplicationAdvertise = "db" }, "--replication-advertise \"db\""},
		"strict about nobody":   {func(c *Config) { c.SyncStrict = true }, "--sync-strict"},
		"relative control":      {func(c *Config) { c.Control, c.Advertise = "file://c/d", "http://a" }, "--control"},
		"another mode":          {func(c *Config) { c.Mode = "both" }, "--mode \"both\""},
		"lower-case ULID":       {func(c *Config) { c.InstanceID = "01j8zq4t6w8y0a2c4e6g8j0m2p" }, ""},
		"longest node id":       {func(c *Config) { c.NodeID = strings.Repeat("n", maxIDBytes) }, ""},
		"node id too long":      {func(c *Config) { c.NodeID = strings.Repeat("n", maxIDBytes+1) }, "--node-id"},
		"no region":             {func(c *Config) { c.Region = "" }, "--region"},
		"URL":                   {func(c *Config) { c.Advertise = "https://db.example.com:7400/" }, ""},
		"URL with a path":       {func(c *Config) { c.Advertise = "https://db.example.com/x" }, "--advertise"},
		"URL with a password":   {func(c *Config) { c.Advertise = "https://a:b@db.example.com" }, "--advertise"},
		"URL without a host":    {func(c *Config) { c.Advertise = "https://:1" }, "--advertise"},
		"key without cert":      {func(c *Config) { c.TLSKey = "k" }, "--tls-cert"},
		"cert and key":          {func(c *Config) { c.TLSCert, c.TLSKey = "c", "k" }, ""},
		"authorities, no cert":  {func(c *Config) { c.TLSCA = "ca" }, "--tls-ca"},
		"one request":           {func(c *Config) { c.MaxInFlight = 1 }, ""},
		"no request":            {func(c *Config) { c.MaxInFlight = 0 }, "--max-in-flight"},
		"no statement limit":    {func(c *Config) { c.StatementTimeout = 0 }, ""},
		"negative limit":        {func(c *Config) { c.StatementTimeout = -1 }, "--statement-timeout"},
		"negative drain":        {func(c *Config) { c.DrainTimeout = -1 }, "--drain-timeout"},
		"control in the region": {func(c *Config) { c.Region = "a\n" }, "--region"},
	} {
		cfg := good
		c.change(&cfg)
		faults := cfg.Validate()
		switch {
		case c.want == "" && len(faults) != 0:
			t.Errorf("%s: %q", name, faults)
		case c.want != "" && (len(faults) != 1 || !strings.HasPrefix(faults[0], c.want)):
			t.Errorf("%s: %q, want %s", name, faults, c.want)
		}
	}
}

// What a failover is told of the flags in a unit.
func TestKnown(t *testing.T) {
	flags := Known()
	for name, want := range map[string][2]bool{"sync-replicas": {true, true}, "sync-strict": {false, true}, "leader-addr": {true, true}, "what": {false, false}} {
		if takes, known := flags(name); takes != want[0] || known != want[1] {
			t.Errorf("--%s: %t, %t", name, takes, known)
		}
	}
}
