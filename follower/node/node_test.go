package node

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"

	"originchain/shared/api"
	"originchain/shared/lease"
	"originchain/shared/object"
	"originchain/shared/restore"
	"originchain/shared/telemetry"
	"originchain/shared/tenant"
	"originchain/writer/config"
	"originchain/writer/process"
)

const adminText = "oc_admin_0123456789ABCDEFGHJKMNPQRSTV"

// running is a node that a test runs.
type running struct {
	t    *testing.T
	n    *Node
	stop func()
}

func start(t *testing.T, cfg config.Config) *running {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	audit, err := telemetry.OpenAudit(filepath.Join(t.TempDir(), "audit.log"), log)
	if err != nil {
		t.Fatal(err)
	}
	admin, err := tenant.NewAdminToken(adminText)
	if err != nil {
		t.Fatal(err)
	}
	n, err := New(cfg, process.Deps{Log: log, Metrics: telemetry.NewMetrics(), Audit: audit, Admin: admin}, true)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- n.Run(ctx) }()
	stopped := false
	r := &running{t: t, n: n}
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		for _, err := range []error{<-ran, n.Close(), audit.Close()} {
			if err != nil {
				t.Errorf("the node ended with %v", err)
			}
		}
	}
	t.Cleanup(r.stop)
	return r
}

func (r *running) admin(method, path, body string) (status int, answer string) {
	req := httptest.NewRequestWithContext(r.t.Context(), method, path, strings.NewReader(body))
	req.Header.Set(api.HeaderAuthorization, "Bearer "+adminText)
	rec := httptest.NewRecorder()
	r.n.Handler().ServeHTTP(rec, req)
	return rec.Code, rec.Body.String()
}

func (r *running) opened() {
	r.t.Helper()
	r.becomes("it serves", func() bool {
		select {
		case <-r.n.Opened():
			return true
		default:
			return false
		}
	})
}

// becomes waits for what a node does by itself.
func (r *running) becomes(what string, done func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); <-time.After(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			_, ready := r.admin("GET", "/ready", "")
			r.t.Fatalf("not within 30 s: %s: %s", what, ready)
		}
	}
}

// refusal is the code of a write's answer, and its field leader.
func (r *running) refusal() (status int, code, leader string) {
	r.t.Helper()
	status, body := r.admin("POST", "/v1/admin/tenants", `{}`)
	var envelope struct{ Error, Leader string }
	if err := json.Unmarshal([]byte(body), &envelope); err != nil {
		r.t.Fatalf("%d %s", status, body)
	}
	return status, envelope.Error, envelope.Leader
}

// address is one that is free now.
func address(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}()
	return l.Addr().String()
}

// A writer that the archive has fenced answers so until it knows the leader: then it
// follows in the same process, and is a node for reading alone.
func TestAFencedWriterSaysSoUntilItKnowsTheLeader(t *testing.T) {
	dir := t.TempDir()
	store := object.NewFolder(filepath.Join(dir, "archive"))
	cfg := func(node string) config.Config {
		return config.Config{
			Mode: config.ModeWriter, DataDir: filepath.Join(dir, node), NodeID: node, Region: "here", Archive: "file://" + filepath.Join(dir, "archive"),
			TailShip: true, TailWindowMS: 10, CheckpointInterval: time.Hour, Retention: time.Hour, FollowerRetainBytes: 1 << 30,
		}
	}
	old := start(t, cfg("node-1"))
	old.opened()
	if status, body := old.admin("POST", "/v1/admin/tenants", `{}`); status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	old.becomes("all is in the archive", func() bool {
		_, body := old.admin("GET", "/v1/admin/archive", "")
		return strings.Contains(body, `"rpo_seconds":0}`)
	})
	old.stop()

	target := filepath.Join(dir, "node-2")
	if _, err := restore.Run(t.Context(), restore.Options{Store: store, Request: restore.Request{Latest: true}, FS: vfs.Default, DataDir: target, NodeID: "node-2"}); err != nil {
		t.Fatal(err)
	}
	if _, err := restore.Accept(t.Context(), restore.Acceptance{FS: vfs.Default, DataDir: target, Archive: store, Region: "here", Ends: 1}); err != nil {
		t.Fatal(err)
	}

	// Nobody says where the other is.
	lost := start(t, cfg("node-1"))
	says := func(r *running, want string) {
		t.Helper()
		r.becomes("it answers "+want, func() bool {
			status, code, _ := r.refusal()
			if code != "not_ready" && code != want {
				t.Fatalf("%d %s", status, code)
			}
			return status == 503 && code == want
		})
	}
	says(lost, "fenced")
	if status, body := lost.admin("GET", "/ready", ""); status != 503 || !strings.Contains(body, `"fenced":{"ok":false`) || !strings.Contains(body, "epoch 2 of node node-2") {
		t.Errorf("%d %s", status, body)
	}
	lost.stop()

	// It is told where the other will be.
	follows, leads := cfg("node-1"), cfg("node-2")
	leads.ReplicationListen, leads.Advertise = address(t), "http://node-2.example"
	follows.LeaderAddr = leads.ReplicationListen
	again := start(t, follows)
	says(again, "fenced")
	leader := start(t, leads)
	leader.opened()
	again.becomes("it follows", func() bool {
		status, code, url := again.refusal()
		return status == 503 && code == "read_only" && url == "http://node-2.example"
	})
	if _, body := again.admin("GET", "/ready", ""); strings.Contains(body, `"fenced"`) {
		t.Errorf("%s", body)
	}
	again.stop()
	leader.stop()
}

// The record tells followers what --replication-advertise says, and they stream from there.
func TestTheRecordNamesWhatIsAdvertised(t *testing.T) {
	dir := t.TempDir()
	cfg := config.Config{
		Mode: config.ModeWriter, DataDir: filepath.Join(dir, "a"), NodeID: "a", Region: "here", Advertise: "http://a.example", Control: "file://" + filepath.Join(dir, "control"),
		ReplicationListen: address(t), ReplicationAdvertise: "127.0.0.1:7", SegmentBytes: 1 << 20, SegmentMaxAge: time.Minute,
		MaxInFlight: 16, SlowRequest: time.Second, SyncTimeoutMS: 1000,
	}
	n := start(t, cfg)
	n.opened()
	store, err := lease.OpenFile(vfs.Default, filepath.Join(dir, "control"))
	if err != nil {
		t.Fatal(err)
	}
	rec, ok, err := store.Load(t.Context())
	if err != nil || !ok || rec.Holder != "a" || rec.ReplicationAddress != cfg.ReplicationAdvertise {
		t.Errorf("%+v, %t, %v", rec, ok, err)
	}
}
