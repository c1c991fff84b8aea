package writer

import (
	"context"
	"errors"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"originchain/shared/simdisk"
	"originchain/shared/telemetry"
)

// public sends a request without a token.
func (n *node) public(path string) *answer {
	n.t.Helper()
	return n.do(context.Background(), "", "GET", path, nil)
}

func TestHealthAndReady(t *testing.T) {
	n := start(t)
	h := n.public("/health").want(200)
	if h.str("status") != "ok" || h.str("mode") != "writer" || h.str("version") == "" || h.str("commit") == "" || h.field("uptime_seconds") == nil {
		t.Fatalf("health: %s", h.body)
	}
	r := n.public("/ready").want(200)
	for _, check := range []string{"log", "lease", "disk", "pipeline"} {
		if !strings.Contains(r.body, `"`+check+`":{"ok":true`) {
			t.Errorf("ready does not have check %s: %s", check, r.body)
		}
	}
	if m := n.public("/metrics").want(200); !strings.Contains(m.body, "oc_visible_lsn 2") {
		t.Errorf("metrics lack the visible LSN:\n%s", m.body)
	}
}

// TestBeforeTheLogIsOpen: health answers, ready says no, all else is 503.
func TestBeforeTheLogIsOpen(t *testing.T) {
	n := start(t)
	w, err := New(Config{Engine: n.w.cfg.Engine}, Deps{FS: n.fs, Log: n.w.deps.Log, Clock: n.w.deps.Clock, Metrics: telemetry.NewMetrics(), Audit: n.w.deps.Audit, Admin: n.w.deps.Admin})
	if err != nil {
		t.Fatal(err)
	}
	closed := n.sub(t)
	closed.w = w
	closed.public("/health").want(200)
	if r := closed.public("/ready").want(503); !strings.Contains(r.body, `"log":{"ok":false`) {
		t.Fatalf("ready: %s", r.body)
	}
	closed.call("GET", "/schemas", "").refused(503, "not_ready")
	closed.public("/metrics").want(200)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	// Its directory is taken, so it never opens, and nobody waits for that.
	w.cfg.FailureGrace = time.Hour
	if err := w.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "in use by another process") {
		t.Fatalf("two writers on one directory: %v", err)
	}
	closed.public("/health").want(503)
}

// TestLogFailure: after a failed sync health says why, nothing is acknowledged,
// and Run ends with ErrLogFailed.
func TestLogFailure(t *testing.T) {
	disk := simdisk.New()
	// What is read below is read within the grace.
	n := open(t, disk, func(c *Config, _ *Deps) { c.FailureGrace = time.Hour })
	n.tenant, n.token = n.newTenant(`{}`)
	n.register(ordersManifest)
	n.call("POST", "/rows/shop.orders", `{"id":"before"}`).want(200)
	disk.Inject(simdisk.Fault{Ops: simdisk.OpSync, Path: "/data/log/*", Err: syscall.EIO, Forever: true})
	lost := n.call("POST", "/rows/shop.orders", `{"id":"lost"}`, idem, "k").refused(503, "not_ready")
	if lost.str("outcome") != "unknown" {
		t.Fatalf("the outcome of a write whose sync failed: %s", lost.body)
	}
	n.call("POST", "/rows/shop.orders", `{"id":"after"}`).refused(503, "not_ready")
	n.call("GET", "/rows/shop.orders/before", "").want(200)
	n.call("GET", "/rows/shop.orders/lost", "").refused(404, "not_found")
	err := n.stop()
	if !errors.Is(err, ErrLogFailed) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("Run ended with %v", err)
	}
	if h := n.public("/health").want(503); h.str("status") != "failed" || !strings.Contains(h.str("reason"), "input/output error") {
		t.Fatalf("health: %s", h.body)
	}
}

// health waits for what /health comes to answer.
func (n *node) health(status int) *answer {
	n.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; runtime.Gosched() {
		a := n.public("/health")
		if a.status == status {
			return a
		}
		if time.Now().After(deadline) {
			a.want(status)
		}
	}
}

// probed is the file of the probes where every node of these tests has its log's disk.
const probed = "/data/log/" + probeName

// TestProbe: a disk that takes no file is found without a write to the log, and
// one that recovers is well again.
func TestProbe(t *testing.T) {
	disk := simdisk.New()
	fast := func(c *Config, _ *Deps) { c.ProbeInterval, c.FailureGrace = time.Millisecond, time.Hour }
	n := open(t, disk, fast)
	until := n.health
	until(200)
	disk.Inject(simdisk.Fault{Ops: simdisk.OpCreate, Path: probed, Err: syscall.ENOSPC, Forever: true})
	if a := until(503); !strings.Contains(a.str("reason"), "no space left") {
		t.Fatalf("reason: %s", a.body)
	}
	n.public("/ready").want(503)
	disk.Heal()
	until(200)
	// What is wrong with the disk of the state alone is none of its business, and found by
	// the state itself: the log may be on a disk of its own.
	disk.Inject(simdisk.Fault{Ops: simdisk.OpCreate, Path: "/data/" + probeName, Err: syscall.ENOSPC, Forever: true})
	if err := probe(disk, n.w.logDir()); err != nil {
		t.Fatalf("a probe of another directory than the log's: %v", err)
	}
	disk.Heal()
	disk.Inject(simdisk.Fault{Ops: simdisk.OpList, Path: "/data/log", Err: syscall.EIO, Forever: true})
	until(503)
	disk.Heal()
	until(200)
}

// TestProbeEndsTheNode: a disk that stays away ends it.
func TestProbeEndsTheNode(t *testing.T) {
	disk := simdisk.New()
	n := open(t, disk, func(c *Config, _ *Deps) { c.ProbeInterval = time.Millisecond })
	disk.Inject(simdisk.Fault{Ops: simdisk.OpCreate, Path: probed, Err: syscall.EROFS, Forever: true})
	n.health(503)
	if err := n.ended(); !errors.Is(err, ErrLogFailed) || !errors.Is(err, syscall.EROFS) {
		t.Fatalf("Run ended with %v", err)
	}
}

// TestStuckDisk: a probe that does not come back counts as a failure.
func TestStuckDisk(t *testing.T) {
	now := time.Now()
	const stuckAfter = 5 * time.Second
	h := newHealth(now, stuckAfter)
	h.probing.Store(int64(time.Second))
	if r := h.reason(now.Add(time.Second+stuckAfter), stuckAfter); r != "" {
		t.Fatalf("too early: %s", r)
	}
	if r := h.reason(now.Add(time.Second+stuckAfter+1), 0); r == "" {
		t.Fatal("a stuck disk is well")
	}
}

// TestAnFsyncThatHangs: the disk answers every probe, and no commit becomes durable.
func TestAnFsyncThatHangs(t *testing.T) {
	disk := simdisk.New()
	n := open(t, disk, func(c *Config, _ *Deps) { c.StuckAfter = 20 * time.Millisecond })
	n.tenant, n.token = n.newTenant(`{}`)
	n.register(ordersManifest)
	n.call("POST", "/rows/shop.orders", `{"id":"before"}`).want(200)
	n.public("/health").want(200)
	release := disk.HangSyncs("/data/log/*")
	defer release()
	acknowledged := make(chan *answer, 1)
	go func() { acknowledged <- n.call("POST", "/rows/shop.orders", `{"id":"waits"}`) }()
	if h := n.health(503); !strings.Contains(h.str("reason"), "waited for its fsync") {
		t.Errorf("reason: %s", h.body)
	}
	release()
	(<-acknowledged).want(200)
	n.public("/health").want(200)
}

// metricRow is a row of docs/METRICS.md.
var metricRow = regexp.MustCompile("(?m)^\\| `(oc_[a-z_]+)` \\|[^|]*\\|[^|]*\\| (.*)")

// TestMetricsAreDocumented: docs/METRICS.md lists what a node registers. Those of a
// follower alone, of both roles' process, of an archive and of the control plane are held to it where they are registered.
func TestMetricsAreDocumented(t *testing.T) {
	n := start(t)
	doc, err := os.ReadFile("../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	var documented []string
	for _, m := range metricRow.FindAllStringSubmatch(string(doc), -1) {
		if !strings.HasPrefix(m[2], "on a follower:") && !strings.HasPrefix(m[2], "on a node of either role:") && !strings.HasPrefix(m[2], "on the control plane:") {
			documented = append(documented, m[1])
		}
	}
	slices.Sort(documented)
	if registered := n.metrics.Names(); !slices.Equal(documented, registered) {
		t.Errorf("docs/METRICS.md and the node differ:\ndocumented %q\nregistered %q", documented, registered)
	}
}

// TestSeparateOps: with a listener of their own the public routes leave the API's.
func TestSeparateOps(t *testing.T) {
	n := start(t, func(c *Config, _ *Deps) { c.SeparateOps = true })
	closed, err := New(n.w.cfg, Deps{FS: n.fs, Log: n.w.deps.Log, Clock: n.w.deps.Clock, Metrics: telemetry.NewMetrics(), Audit: n.w.deps.Audit, Admin: n.w.deps.Admin})
	if err != nil {
		t.Fatal(err)
	}
	opening := n.sub(t)
	opening.w = closed
	opening.public("/health").refused(503, "not_ready")
	if a := opening.ops("/health"); a.status != 200 {
		t.Errorf("health on the ops listener while the log is read: %d", a.status)
	}
	n.public("/health").refused(404, "not_found")
	n.public("/metrics").refused(404, "not_found")
	n.call("GET", "/schemas", "").want(200).is("[]\n")
	for _, path := range []string{"/health", "/ready", "/metrics"} {
		a := n.ops(path)
		if a.status != 200 {
			t.Errorf("%s on the ops listener: %d %s", path, a.status, a.body)
		}
	}
	if a := n.ops("/v1/admin/tenants"); a.status != 404 {
		t.Errorf("the ops listener serves the API: %d", a.status)
	}
}

func TestDiagnostics(t *testing.T) {
	n := start(t)
	logs := n.captureLogs()
	n.call("POST", "/diagnostics", `{"events":[{"kind":"retry.exhausted","at":"2026-01-02T03:04:05Z","detail":{"attempts":3,"ok":false,"row":"secret value"}},{"kind":"x"}]}`).
		want(202).is(`{"accepted":2}` + "\n")
	text := logs()
	if !strings.Contains(text, "retry.exhausted") || !strings.Contains(text, `"client_attempts":3`) || !strings.Contains(text, n.tenant) {
		t.Fatalf("the events are not in the log: %s", text)
	}
	if strings.Contains(text, "secret value") {
		t.Fatal("text of a detail is in the log")
	}
	many := strings.TrimSuffix(strings.Repeat(`{"kind":"k"},`, 33), ",")
	for _, c := range []struct{ body, field string }{
		{`{"events":[]}`, "events"},
		{`{"events":[` + many + `]}`, "events"},
		{`{"events":[{"kind":"ok"},{"kind":""}]}`, "events[1].kind"},
		{`{"events":[{"kind":"` + strings.Repeat("k", 65) + `"}]}`, "events[0].kind"},
		{`{"events":[{"kind":"a\u0007"}]}`, "events[0].kind"},
		{`{"events":[5]}`, "events[0]"},
		{`{"events":[{"kind":"k","at":"yesterday"}]}`, "events[0]"},
		{`{"events":[{"kind":"k","detail":[]}]}`, "events[0]"},
		{`{"events":[{"kind":"k","extra":1}]}`, "events[0]"},
		{`{"events":[{"kind":"k","detail":{"a":"` + strings.Repeat("x", 5000) + `"}}]}`, "events[0].detail"},
	} {
		if got := n.call("POST", "/diagnostics", c.body).refused(400, "validation_failed").str("field"); got != c.field {
			t.Errorf("%.60s: field %q, want %q", c.body, got, c.field)
		}
	}
	if text := logs(); strings.Contains(text, "client diagnostics") {
		t.Fatalf("a refused batch left a line: %s", text)
	}
	n.call("POST", "/diagnostics", `{"event":[]}`).refused(422, "validation_failed")
}

// TestScopes: who may call what.
func TestScopes(t *testing.T) {
	n := start(t)
	other, token := n.newTenant(`{}`)
	ctx := context.Background()
	n.do(ctx, "", "GET", "/v1/tenants/"+n.tenant+"/schemas", nil).refused(401, "unauthorized")
	n.do(ctx, "oc_live_nonsense", "GET", "/v1/tenants/"+n.tenant+"/schemas", nil).refused(401, "unauthorized")
	n.do(ctx, token, "GET", "/v1/tenants/"+n.tenant+"/schemas", nil).refused(403, "forbidden")
	n.do(ctx, token, "GET", "/v1/tenants/"+strings.ToLower(other)+"/schemas", nil).want(200)
	n.do(ctx, adminText, "GET", "/v1/tenants/"+n.tenant+"/schemas", nil).refused(403, "forbidden")
	n.do(ctx, token, "GET", "/v1/admin/tenants", nil).refused(403, "forbidden")
	n.do(ctx, "", "GET", "/v1/admin/tenants", nil).refused(401, "unauthorized")
	n.do(ctx, token, "POST", "/v1/queries/x/cancel", nil).refused(404, "not_found")
}
