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
	"originchain/shared/telemetry"
	"originchain/shared/tenant"
)

// following is the role of a node that shows what it is told is committed.
type following struct{ alone }

func (following) Mode() string { return RoleFollower }

// follow stops a node and serves its directory as a follower does, which shows the
// frames up to commit.
func (n *node) follow(commit lsn.LSN) *node {
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
	shell, err := NewShell(
		Config{Engine: engine.Config{DataDir: n.dir, NodeID: "node-1", Follower: true}, MinLSNWait: 20 * time.Millisecond},
		Deps{FS: n.fs, Log: log, Clock: clock.New(clock.Config{}), Metrics: telemetry.NewMetrics(), Audit: audit, Admin: admin, NoPreallocate: true},
	)
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
