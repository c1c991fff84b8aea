package plane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"originchain/lambdas/local/control"
	"originchain/lambdas/local/drill"
	"originchain/lambdas/local/layout"
	"originchain/scripts/call"
	"originchain/shared/alarms"
	"originchain/shared/api"
	"originchain/shared/failover"
	"originchain/shared/incident"
)

// unlessOff becomes the server, unless the machine of node-1 is off.
const unlessOff = "#!/bin/sh\ncase \"$*\" in *\"--node-id node-1 \"*) [ ! -e '%s' ] || exit 1;; esac\nexec '%s' \"$@\"\n"

// unguarded is an instance of real servers whose guard is busy elsewhere until it is let.
type unguarded struct {
	*stage
	off string // while this file is there, the machine of node-1 is off
	let func()
}

func newUnguarded(t *testing.T, server string) *unguarded {
	t.Helper()
	u := &unguarded{stage: &stage{t: t, ended: make(chan error, 1), ready: make(chan struct{})}, off: filepath.Join(t.TempDir(), "off")}
	script := filepath.Join(t.TempDir(), "oc-server")
	if err := os.WriteFile(script, fmt.Appendf(nil, unlessOff, u.off, server), 0o700); err != nil {
		t.Fatal(err)
	}
	dir := layout.Dir(t.TempDir())
	for _, path := range dir.Directories() {
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	u.Plane = newPlane(Options{Dir: dir, Followers: 1, Given: true, Server: script, Verify: Verification{Every: time.Hour}, Out: &u.out, Log: &u.said})
	if err := u.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := make(chan struct{})
	u.let = sync.OnceFunc(func() { close(back) })
	u.guarding = func(ctx context.Context) {
		select {
		case <-back:
			u.guard(ctx)
		case <-ctx.Done():
		}
	}
	u.up()
	select {
	case <-u.ready:
	case err := <-u.ended:
		u.ended <- err
		t.Fatalf("it has ended before it was up: %v", err)
	}
	return u
}

// The second detector alone has another node write: whatever becomes of the writer, it is
// missed, confirmed dead, and replaced, and nothing that was acknowledged is lost. The
// guard comes back when that is over, and has the old writer follow.
func TestSilenceAloneReplacesTheWriter(t *testing.T) {
	t.Parallel()
	server := filepath.Join(t.TempDir(), "oc-server")
	if out, err := exec.Command("go", "build", "-o", server, "originchain/writer/cmd/oc-server").CombinedOutput(); err != nil {
		t.Fatalf("build the server: %v\n%s", err, out)
	}
	for name, fault := range map[string]string{"its machine is gone": control.FaultKill, "it hangs": control.FaultStop, "nobody reaches it": control.FaultPartition} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newUnguarded(t, server)
			r := u.drill(fault)
			if r.Verdict != drill.Passed || r.Acked == 0 || r.EpochAfter != r.EpochBefore+1 {
				t.Errorf("%+v", r)
			}
			if rec := u.now(); rec.Holder != "node-2" || !rec.Confirmed() {
				t.Errorf("%+v", rec)
			}
			u.told()
		})
	}
}

// drill loads the instance, makes a fault, and has the guard back when another node writes.
func (u *unguarded) drill(fault string) drill.Report {
	u.t.Helper()
	e, err := u.dir.ReadEndpoints()
	if err != nil {
		u.t.Fatal(err)
	}
	token, err := layout.Secret(e.TokenFile)
	if err != nil {
		u.t.Fatal(err)
	}
	load := drill.Load{Client: &call.Client{URL: e.Endpoint, Token: token}, Tenant: e.Tenant, Name: "silent", Writers: 4}
	if fault == control.FaultPartition {
		load.Beside = &call.Client{URL: u.nodes[0].URL, Token: token}
	}
	var made control.Fault
	r, err := drill.Run(u.t.Context(), drill.Plan{
		Load: load, Fault: fault, Epoch: uint64(u.now().Epoch),
		Do: func(ctx context.Context) (at time.Time, epoch uint64, err error) {
			if fault == control.FaultKill {
				err = os.WriteFile(u.off, nil, 0o600)
			}
			if err == nil {
				made, err = u.Fault(ctx, fault, fault)
			}
			return made.At, made.Epoch, err
		},
		Undo: func(ctx context.Context) error { return u.Undo(ctx, made) },
		Rejoined: func(ctx context.Context) error {
			if err := os.Remove(u.off); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
			u.let()
			return u.watch.until(ctx, func() bool { return u.complete(ctx) })
		},
		Say: u.t.Logf,
	})
	if err != nil {
		u.t.Fatal(err)
	}
	if made.Node != "node-1" {
		u.t.Errorf("the fault was made of %s, which did not write", made.Node)
	}
	return r
}

// told: one incident names the detector and the writer that it has missed, and one the
// failover; others are of what comes with it, as frames that no follower has. The log says
// who has carried it out.
func (u *unguarded) told() {
	u.t.Helper()
	var silent, failovers []string
	u.until("the failover and what it was begun for are incidents", func() bool {
		silent, failovers = nil, nil
		for _, i := range u.allIncidents() {
			if i.Cause.Alarm == alarms.InstanceSilent && strings.Contains(i.Title, alarms.InstanceSilent) {
				silent = append(silent, i.Cause.Node)
			}
			if i.Cause.Failover != "" {
				failovers = append(failovers, i.Title)
			}
		}
		return len(silent) > 0 && len(failovers) > 0
	})
	if len(silent) != 1 || silent[0] != "node-1" || len(failovers) != 1 || failovers[0] != "node-2 takes the place of the writer node-1" {
		u.t.Errorf("incidents of the silence of %q, and of the failovers %q", silent, failovers)
	}
	if said := u.said.String(); strings.Count(said, "the writer was silent: another node writes") != 1 {
		u.t.Error("it was not the silence that had another node write, or it had more than once")
	}
}

func (u *unguarded) allIncidents() (all []*incident.Incident) {
	u.t.Helper()
	active, err := u.incidents.Active(u.t.Context())
	past, pastErr := u.incidents.Past(u.t.Context())
	if err := errors.Join(err, pastErr); err != nil {
		u.t.Fatal(err)
	}
	for _, id := range append(past, active...) {
		i, ok, err := u.incidents.Get(u.t.Context(), id)
		if err != nil {
			u.t.Fatal(err)
		}
		if ok {
			all = append(all, i)
		}
	}
	return all
}

// A node that says itself that its log takes no writes is as good as silent.
func TestANodeWhoseLogTakesNoWritesSendsNoHeartbeat(t *testing.T) {
	var health atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/health":
			w.WriteHeader(int(health.Load()))
		case "/v1/admin/replication":
			_, _ = io.WriteString(w, `{"role":"writer","node":"n","epoch":1}`)
		}
	}))
	t.Cleanup(server.Close)
	n := failover.Node{ID: "n", URL: server.URL, OpsURL: server.URL}
	w := newWatcher([]failover.Node{n}, "x", nil)
	beats := 0
	w.beat = func(string, *api.Replication) { beats++ }
	for status, want := range map[int]int{http.StatusOK: 1, http.StatusServiceUnavailable: 0, http.StatusInternalServerError: 0} {
		health.Store(int64(status))
		beats = 0
		if w.look(t.Context(), n); beats != want {
			t.Errorf("with /health %d it has sent %d heartbeats, want %d", status, beats, want)
		}
		if s := w.seen[n.ID]; !s.answers || s.Epoch != 1 || s.failing != (want == 0) {
			t.Errorf("what it says of itself with /health %d is not kept: %+v", status, s)
		}
	}
}
