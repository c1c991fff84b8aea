package writer

import (
	"context"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/shared/api"
	"originchain/shared/clock"
	"originchain/shared/engine"
	"originchain/shared/lsn"
	"originchain/shared/simdisk"
	"originchain/shared/telemetry"
	"originchain/shared/tenant"
)

// following is the role of a node that shows what it is told is committed.
type following struct{ alone }

func (following) Mode() string { return RoleFollower }

// follow stops a node and serves its directory as a follower does, which shows the
// frames up to commit.
func (n *node) follow(commit lsn.LSN, opts ...option) *node {
	n.t.Helper()
	if err := n.stop(); err != nil {
		n.t.Fatal(err)
	}
	log := logrus.New()
	log.SetOutput(io.Discard)
	audit, err := telemetry.OpenAudit(filepath.Join(n.t.TempDir(), "audit.log"), log)
	if err != nil {
		n.t.Fatal(err)
	}
	admin, err := tenant.NewAdminToken(adminText)
	if err != nil {
		n.t.Fatal(err)
	}
	cfg := Config{Engine: engine.Config{DataDir: n.dir, NodeID: "node-1", Follower: true}, MinLSNWait: 20 * time.Millisecond}
	deps := Deps{FS: n.fs, Log: log, Clock: clock.New(clock.Config{}), Metrics: telemetry.NewMetrics(), Audit: audit, Admin: admin, NoPreallocate: true}
	for _, o := range opts {
		o(&cfg, &deps)
	}
	shell, err := NewShell(cfg, deps)
	if err != nil {
		n.t.Fatal(err)
	}
	shell.SetRole(following{})
	e, err := engine.OpenFollower(shell.Config().Engine, shell.EngineDeps())
	if err != nil {
		n.t.Fatal(err)
	}
	s, err := shell.Prepare(e)
	if err != nil {
		n.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	e.Advance(commit, 1)
	go func() { ran <- shell.Serve(ctx, s, e.CaughtUp(), true, e.RunFollower) }()
	n.t.Cleanup(func() {
		cancel()
		for _, err := range []error{<-ran, e.Close(), audit.Close()} {
			if err != nil {
				n.t.Error(err)
			}
		}
	})
	<-shell.Opened()
	return &node{t: n.t, w: &Writer{Shell: shell}, tenant: n.tenant, token: n.token}
}

// TestAFollowerWaitsForAnEpochThatItHasNotSeen: a place of an epoch that began
// since is not another history's. The node is behind, whatever LSN it shows, and a
// client that is told to do without the place would read backwards.
func TestAFollowerWaitsForAnEpochThatItHasNotSeen(t *testing.T) {
	n := start(t)
	n.register(ordersManifest)
	at := n.call("POST", "/rows/shop.orders", `{"id":"a"}`).want(200).header.Get(api.HeaderLSN)
	last, err := strconv.ParseUint(at, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	f := n.follow(lsn.LSN(last))
	read := func(row, lsn, epoch string) *answer {
		return f.call("GET", "/rows/shop.orders/"+row, "", api.HeaderMinLSN, lsn, api.HeaderMinEpoch, epoch)
	}
	read("a", at, "1").want(200)
	late := read("a", at, "2").refused(503, "lsn_not_reached")
	if late.str("retry") != "true" || late.str("applied_lsn") != at || !strings.Contains(late.str("message"), "epoch 2") {
		t.Errorf("%s", late.body)
	}
	read("a", "2", "3").refused(503, "lsn_not_reached")
	f.call("GET", "/usage", "", "Authorization", "Bearer "+unknownToken(f.token), api.HeaderMinLSN, "2", api.HeaderMinEpoch, "2").refused(503, "lsn_not_reached")
	// What it can tell, it tells.
	read("a", "9999", "1").refused(503, "lsn_not_reached")
}

// TestAFollowerWhoseFsyncHangs: the disk answers every probe, and what the leader sends does
// not become durable: the node says so, in all three places, as a writer does.
func TestAFollowerWhoseFsyncHangs(t *testing.T) {
	const row = "/rows/shop.orders"
	leader := start(t)
	leader.register(ordersManifest)
	leader.call("POST", row, `{"id":"before"}`).want(200)
	last := leader.w.Visible().LSN
	if err := leader.stop(); err != nil {
		t.Fatal(err)
	}
	disk := leader.fs.(*simdisk.Disk).KillClone()
	f := (&node{t: t, fs: disk, dir: leader.dir, tenant: leader.tenant, token: leader.token, stop: leader.stop}).
		follow(last, func(c *Config, _ *Deps) { c.ProbeInterval, c.StuckAfter = time.Hour, 20*time.Millisecond })
	says := func(status int, healthy, disk, detail string) {
		t.Helper()
		f.health(status)
		if m := f.public("/metrics").want(200); !strings.Contains(m.body, "\noc_healthy "+healthy+"\n") {
			t.Errorf("oc_healthy is not %s", healthy)
		}
		if ready := f.public("/ready"); !strings.Contains(ready.body, `"disk":{"ok":`+disk) || !strings.Contains(ready.body, detail) {
			t.Errorf("/ready does not say %s, %s: %s", disk, detail, ready.body)
		}
	}
	says(200, "1", "true", "can be read and written")

	leader = open(t, leader.fs)
	leader.tenant, leader.token = f.tenant, f.token
	leader.call("POST", row, `{"id":"after"}`).want(200)
	e := f.w.engine.Load()
	r, err := leader.w.engine.Load().Log().NewChunkReader(e.Durable() + 1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}()
	for {
		c, ok, err := r.Next(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		if err := e.Copy(c); err != nil {
			t.Fatal(err)
		}
	}
	release := disk.HangSyncs("/data/log/*")
	defer release()
	synced := make(chan error, 1)
	go func() { synced <- e.SyncLog() }()
	says(503, "0", "false", "waited for its fsync")
	release()
	if err := <-synced; err != nil {
		t.Fatal(err)
	}
	says(200, "1", "true", "can be read and written")
}

// TestAReadIsPlacedInTheEpochOfWhatItFound: the state has a row an instant before its
// frame counts as visible, and an epoch may begin between the two.
func TestAReadIsPlacedInTheEpochOfWhatItFound(t *testing.T) {
	state := func() (lsn.Pos, error) { return lsn.Pos{Epoch: 2, LSN: 6}, nil }
	for _, c := range []struct {
		version lsn.LSN
		want    lsn.Pos
	}{
		{version: 0, want: lsn.Pos{Epoch: 2, LSN: 6}},
		{version: 3, want: lsn.Pos{Epoch: 1, LSN: 4}},
		{version: 4, want: lsn.Pos{Epoch: 1, LSN: 4}},
		{version: 5, want: lsn.Pos{Epoch: 2, LSN: 6}},
	} {
		if got, err := placeOf(c.version, lsn.Pos{Epoch: 1, LSN: 4}, state); err != nil || got != c.want {
			t.Errorf("a row of LSN %d: %s, want %s (%v)", c.version, got, c.want, err)
		}
	}
}
