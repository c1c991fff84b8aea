package failover

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/api"
	"originchain/shared/lease"
	"originchain/shared/lsn"
	"originchain/shared/registry"
)

const (
	zone  = "t.eu.db.example"
	token = "admin-token"
	// opening is how long a node takes to open as the writer.
	opening = 30 * time.Millisecond
)

func unitOf(node, flags string) string {
	return fmt.Sprintf("[Service]\nExecStart=/usr/bin/oc-server --node-id %s --data-dir /data/%s %s\nRestart=always\n", node, node, flags)
}

// world is an instance: nodes that obey the record as the real ones do, and all that a
// run reaches them by. It runs in a bubble of synctest.
type world struct {
	t     *testing.T
	lease *lease.Memory
	reg   *registry.Memory

	running sync.WaitGroup

	mu       sync.Mutex
	cut      string // the node whose machine nobody reaches
	nodes    map[string]*fakeNode
	names    map[string]string
	controls []string // what was asked of instance control, but for reads
	// stopFails, controlAway: instance control does not reach machines. dnsFails: nor the zone.
	stopFails, controlAway, dnsFails bool
	noHandover                       bool
	// onStop and onRewrite happen while instance control is asked, with mu.
	onStop, onRewrite func()
	// onHandover answers a handover instead of the node, with mu; onPromote happens before
	// a promotion is answered.
	onHandover func() (status int, answer any)
	onPromote  func(*fakeNode)
	violations []string
	// flags are those that the unit of a new writer is to have of the old one's.
	flags string
}

type fakeNode struct {
	w    *world
	node Node
	unit string
	// up: the process runs. hung: it does, and answers nothing. held: its unit is.
	up, hung, held bool
	// unwell: it answers that its log takes no writes, and renews nothing.
	unwell    bool
	opening   bool // it opens, and says nothing of where it stands
	role      string
	epoch     lsn.Epoch
	last      lsn.Pos
	applied   lsn.LSN
	streams   bool
	heard     lsn.LSN
	renewed   time.Time // when the last renewal that succeeded was sent
	hangs     string    // "silent" or "answering": it never opens in its process
	deaf      bool      // it refuses to be promoted in its process
	between   int       // so many calls to promote it find it between two roles
	restarts  int
	life      int // counts its processes
	slow      time.Duration
	more      lsn.LSN // frames that arrive between its last answer and its opening
	cut       bool    // it does not reach the lease store
	elsewhere bool    // the process that instance control knows is of another directory
	strict    bool    // as a writer it is not ready without a follower
}

// newWorld: a writes epoch 1, b and c follow, b is in sync.
func newWorld(t *testing.T, set ...string) *world {
	w := &world{t: t, lease: lease.NewMemory(lease.Hooks{}), reg: registry.NewMemory(), nodes: map[string]*fakeNode{}, names: map[string]string{zone: "10.0.0.1"}, flags: "--sync-replicas=1"}
	for i, id := range []string{"a", "b", "c"} {
		n := Node{ID: id, Machine: "i-" + id, URL: "http://" + id, OpsURL: "http://" + id, ReplicationAddress: id + ":7001", Address: fmt.Sprintf("10.0.0.%d", i+1)}
		if err := SaveNode(t.Context(), w.reg, n); err != nil {
			t.Fatal(err)
		}
		w.nodes[id] = &fakeNode{w: w, node: n, up: true, role: roleFollower, last: lsn.Pos{Epoch: 1, LSN: 5010}, applied: 5010, streams: true, heard: 5010,
			unit: unitOf(id, "--mode follower --leader-addr a:7001")}
	}
	a := w.nodes["a"]
	a.unit = unitOf("a", "--sync-replicas 1")
	a.role, a.epoch, a.streams, a.renewed = roleWriter, 1, false, time.Now()
	if _, err := w.lease.CompareAndSet(t.Context(), 0, recordOf(t, set...)); err != nil {
		t.Fatal(err)
	}
	w.running.Go(func() { w.renew(a, 0) })
	return w
}

func (w *world) record() lease.Record {
	r, _, err := w.lease.Load(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	return r
}

// change changes the record by a rule, as often as somebody else was first.
func (w *world) change(rule func(lease.Record) (lease.Record, error)) (lease.Record, error) {
	for {
		now := w.record()
		next, err := rule(now)
		if err != nil {
			return now, err
		}
		stored, err := w.lease.CompareAndSet(context.Background(), now.Version, next)
		var conflict *lease.ConflictError
		if !errors.As(err, &conflict) {
			return stored, err
		}
	}
}

// give has the record name a node in the next epoch, as a run of somebody else would.
func (w *world) give(node string) {
	if _, err := w.change(func(r lease.Record) (lease.Record, error) {
		return r.Take(lease.Candidate{Instance: r.Instance, Node: node, URL: "http://" + node, Last: lsn.Pos{Epoch: 1, LSN: 5010}})
	}); err != nil {
		w.t.Errorf("give the epoch to %s: %v", node, err)
	}
}

// begun has the journal say that somebody else fails over from a to a node.
func (w *world) begun(run, to string) {
	if err := rewrite(context.Background(), w.reg, journalKey, func(j *journal) bool {
		*j = journal{Run: run, State: running, From: "a", To: to, FromEpoch: 1, Step: stepFence, Steps: []Step{}, Runners: 1}
		return true
	}); err != nil {
		w.t.Errorf("begin a run to %s: %v", to, err)
	}
}

// renew is the heartbeat of one process of a node.
func (w *world) renew(n *fakeNode, life int) {
	for {
		time.Sleep(lease.RenewEvery)
		w.mu.Lock()
		writes, hung, by := n.up && n.life == life && n.role == roleWriter, n.hung || n.cut || n.unwell, lease.Claim{Node: n.node.ID, Epoch: n.epoch}
		w.mu.Unlock()
		if !writes {
			return
		}
		if hung {
			continue
		}
		sent := time.Now()
		_, err := w.change(func(r lease.Record) (lease.Record, error) { return r.Renew(by, r.CommitLSN) })
		w.mu.Lock()
		if err == nil {
			n.renewed = sent
		} else if n.life == life && n.epoch == by.Epoch {
			n.role = roleFollower
		}
		w.mu.Unlock()
	}
}

// mayAck says whether a node may still acknowledge, or could when it goes on: with mu.
func (n *fakeNode) mayAck() bool {
	return n.up && n.role == roleWriter && time.Since(n.renewed) < lease.SelfFence
}

// end ends a node's process, with mu.
func (n *fakeNode) end() {
	n.up, n.hung, n.streams = false, false, false
	n.life++
	for _, other := range n.w.nodes {
		if n.role == roleWriter {
			other.streams = false
		}
	}
}

// open makes a node the writer of the epoch that it was given, once it has opened.
func (w *world) open(n *fakeNode, epoch lsn.Epoch, life int) {
	time.Sleep(opening)
	w.mu.Lock()
	if !n.up || n.life != life || n.role == roleWriter {
		w.mu.Unlock()
		return
	}
	last := n.last
	w.mu.Unlock()
	by := lease.Claim{Node: n.node.ID, Epoch: epoch}
	place := fmt.Sprintf("place-%s", n.node.ID)
	_, err := w.change(func(r lease.Record) (lease.Record, error) {
		if r.Epoch == epoch && r.Holder == n.node.ID && r.Place == place {
			return r, nil // a process before
		}
		return r.Adopt(lease.Candidate{Instance: r.Instance, Node: n.node.ID, URL: n.node.URL, ReplicationAddress: n.node.ReplicationAddress, Last: last, Place: place})
	})
	sent := time.Now()
	if err == nil {
		_, err = w.change(func(r lease.Record) (lease.Record, error) {
			if r.Confirmed() && r.Epoch == epoch && r.Holder == n.node.ID {
				return r, nil
			}
			return r.Confirm(by, last, nil, 0)
		})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil || !n.up || n.life != life {
		return
	}
	for id, other := range w.nodes {
		if other != n && other.mayAck() {
			w.violations = append(w.violations, fmt.Sprintf("%s begins to acknowledge in epoch %d, and %s may still in %d", n.node.ID, epoch, id, other.epoch))
		}
	}
	n.role, n.epoch, n.renewed = roleWriter, epoch, sent
	n.last = lsn.Pos{Epoch: epoch, LSN: last.LSN + 1}
	n.applied, n.streams = n.last.LSN, false
	w.running.Go(func() { w.renew(n, life) })
}

// start starts a node by its unit, with mu: a writer's opens what the record gives it.
func (n *fakeNode) start() {
	if n.up || n.held {
		return
	}
	n.up, n.role = true, roleFollower
	n.life++
	rec := n.w.record()
	if !strings.Contains(n.unit, "--mode follower") && rec.Holder == n.node.ID && !rec.Released {
		life := n.life
		n.w.running.Go(func() { n.w.open(n, rec.Epoch, life) })
	}
}

// RoundTrip is the network: in process, and nothing comes from who is not up.
func (w *world) RoundTrip(req *http.Request) (*http.Response, error) {
	w.mu.Lock()
	n := w.nodes[req.URL.Host]
	if n == nil {
		w.mu.Unlock()
		return nil, errors.New("no such host")
	}
	up, hung, slow := n.up, n.hung, n.slow
	w.mu.Unlock()
	if !up {
		return nil, errors.New("connection refused")
	}
	if hung {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
	if slow > 0 {
		time.Sleep(slow)
	}
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	rec := httptest.NewRecorder()
	n.serve(rec, req)
	return rec.Result(), nil
}

func (n *fakeNode) serve(rw http.ResponseWriter, req *http.Request) {
	w := n.w
	if strings.HasPrefix(req.URL.Path, "/v1/") && req.Header.Get("Authorization") != "Bearer "+token {
		answer(rw, http.StatusUnauthorized, api.Error{Error: "unauthorized", Message: "who are you"})
		return
	}
	if !strings.HasPrefix(req.URL.Path, "/v1/") && req.Header.Get("Authorization") != "" {
		answer(rw, http.StatusBadRequest, api.Error{Error: "validation_failed", Message: "what needs no token is shown none"})
		return
	}
	body, _ := io.ReadAll(req.Body)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch req.Method + " " + req.URL.Path {
	case "GET /health":
		if n.unwell {
			answer(rw, http.StatusServiceUnavailable, api.Health{Status: api.HealthFailed, Mode: n.role})
			return
		}
		answer(rw, http.StatusOK, api.Health{Status: api.HealthOK, Mode: n.role})
	case "GET /ready":
		if n.strict && n.role == roleWriter && !w.followed(n) {
			answer(rw, http.StatusServiceUnavailable, api.Ready{})
			return
		}
		answer(rw, http.StatusOK, api.Ready{Ready: true})
	case "GET /v1/admin/replication":
		if n.opening {
			answer(rw, http.StatusServiceUnavailable, api.Error{Error: "not_ready", Message: "it opens", Retry: true})
			return
		}
		out := api.Replication{Role: n.role, Node: n.node.ID, Epoch: uint64(n.last.Epoch), LSN: uint64(n.last.LSN), DurableLSN: uint64(n.last.LSN), DurableEpoch: uint64(n.last.Epoch),
			AppliedLSN: uint64(n.applied), Connected: n.streams, LeaderDurableLSN: uint64(n.heard), Promotable: n.role == roleFollower}
		if n.role == roleWriter {
			out.Epoch, out.LeaderDurableLSN = uint64(n.epoch), 0
		}
		answer(rw, http.StatusOK, out)
	case "POST /v1/admin/promote":
		var in api.PromoteRequest
		_ = json.Unmarshal(body, &in)
		n.promote(rw, lsn.Epoch(in.Epoch))
	case "POST /v1/admin/handover":
		var in api.HandoverRequest
		_ = json.Unmarshal(body, &in)
		n.handover(rw, in)
	default:
		answer(rw, http.StatusNotFound, api.Error{Error: "not_found", Message: req.URL.Path})
	}
}

// followed says whether another node runs, with mu.
func (w *world) followed(n *fakeNode) bool {
	for _, f := range w.nodes {
		if f != n && f.up {
			return true
		}
	}
	return false
}

func answer(rw http.ResponseWriter, status int, v any) {
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(v)
}

func (n *fakeNode) promote(rw http.ResponseWriter, epoch lsn.Epoch) {
	if n.w.onPromote != nil {
		n.w.onPromote(n)
	}
	if n.role == roleWriter {
		if n.epoch >= epoch {
			answer(rw, http.StatusAccepted, api.Promoted{Epoch: uint64(epoch), Writer: true})
			return
		}
		answer(rw, http.StatusConflict, api.Error{Error: "conflict", Message: "the writer of another epoch"})
		return
	}
	if n.between > 0 {
		n.between--
		answer(rw, http.StatusServiceUnavailable, api.Error{Error: "read_only", Message: "about to be the writer", Retry: true})
		return
	}
	rec := n.w.record()
	if n.deaf || rec.Holder != n.node.ID || rec.Epoch != epoch || rec.Released {
		answer(rw, http.StatusConflict, api.Error{Error: "conflict", Message: fmt.Sprintf("the record names %s for epoch %d", rec.Holder, rec.Epoch)})
		return
	}
	n.last.LSN += n.more
	n.more = 0
	if n.hangs != "" {
		n.hung = n.hangs == "silent"
		answer(rw, http.StatusAccepted, api.Promoted{Epoch: uint64(epoch)})
		return
	}
	life := n.life
	n.w.running.Go(func() { n.w.open(n, epoch, life) })
	answer(rw, http.StatusAccepted, api.Promoted{Epoch: uint64(epoch)})
}

func (n *fakeNode) handover(rw http.ResponseWriter, in api.HandoverRequest) {
	w := n.w
	to := w.nodes[in.Node]
	if w.onHandover != nil {
		if status, said := w.onHandover(); status != 0 {
			answer(rw, status, said)
			return
		}
	}
	if w.noHandover || n.role != roleWriter || to == nil || !to.up || to.last.LSN < n.last.LSN {
		answer(rw, http.StatusConflict, api.Error{Error: "conflict", Message: "not now"})
		return
	}
	last := to.last
	n.role = roleFollower // it has drained
	stored, err := w.change(func(r lease.Record) (lease.Record, error) {
		if r.Holder != n.node.ID || r.Epoch != n.epoch {
			return r, &lease.FencedError{}
		}
		return r.Take(lease.Candidate{Instance: r.Instance, Node: in.Node, URL: in.URL, ReplicationAddress: in.ReplicationAddress, Last: last})
	})
	if err != nil {
		answer(rw, http.StatusConflict, api.Error{Error: "conflict", Message: err.Error()})
		return
	}
	answer(rw, http.StatusOK, api.Handover{Epoch: uint64(stored.Epoch), LSN: uint64(last.LSN)})
}

// with changes a node.
func (w *world) with(id string, change func(*fakeNode)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change(w.nodes[id])
}

// kill ends a's process; its supervisor has seen it if reaped.
func (w *world) kill(id string, reaped bool) {
	w.with(id, func(n *fakeNode) { n.end(); n.held = reaped })
}

// takesValue is a part of the server's flags.
func takesValue(name string) (bool, bool) {
	switch name {
	case "sync-strict", "tail-ship":
		return false, true
	case "mode", "leader-addr", "node-id", "data-dir", "listen", "sync-replicas", "sync-timeout-ms", "tls-cert", "tls-key", "llm-url", "llm-model", "archive", "control":
		return true, true
	}
	return false, false
}

func (w *world) deps() Deps {
	return Deps{Lease: w.lease, Registry: w.reg, Control: w, DNS: w, HTTP: &http.Client{Transport: w}, AdminToken: token, Flags: takesValue}
}

func (w *world) request(to string) Request {
	return Request{From: "a", To: to, Zone: zone, Allow: Overrides{AllowLag: DefaultAllowLag}}
}

// stop ends all processes, so that the bubble can end.
func (w *world) stop() {
	w.mu.Lock()
	for _, n := range w.nodes {
		n.end()
	}
	w.mu.Unlock()
	w.running.Wait()
}

// isWriter checks that one node alone writes, in an epoch, and that all agree.
func (w *world) isWriter(t *testing.T, id string, epoch lsn.Epoch) {
	t.Helper()
	rec := w.record()
	w.mu.Lock()
	defer w.mu.Unlock()
	if rec.Holder != id || rec.Epoch != epoch || !rec.Confirmed() {
		t.Errorf("the record names %s for epoch %d (confirmed %t), want %s for %d", rec.Holder, rec.Epoch, rec.Confirmed(), id, epoch)
	}
	for name, n := range w.nodes {
		if writes := n.mayAck(); writes != (name == id) || writes && n.epoch != epoch {
			t.Errorf("%s may acknowledge in epoch %d: %t", name, n.epoch, writes)
		}
	}
	for _, v := range w.violations {
		t.Error(v)
	}
}

// isDone checks what a run leaves behind that has come to its end.
func (w *world) isDone(t *testing.T, id string, epoch lsn.Epoch) {
	t.Helper()
	w.isWriter(t, id, epoch)
	j, err := loadJournal(t.Context(), w.reg)
	if err != nil || j.State != done || j.To != id || j.Epoch != 0 && j.Epoch != uint64(epoch) {
		t.Errorf("the journal: %+v, %v", j, err)
	}
	names := map[string]bool{}
	for _, s := range j.Steps {
		names[s.Name] = s.Outcome == OK
	}
	for _, name := range stepNames() {
		if !names[name] {
			t.Errorf("the journal has no end of %s: %+v", name, j.Steps)
		}
	}
	if r, ok, err := LastFailover(t.Context(), w.reg); !ok || err != nil || r.To != id || r.Epoch != uint64(epoch) || r.From != j.From || r.Run != j.Run || r.Error != "" {
		t.Errorf("the report: %+v, %t, %v", r, ok, err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if got, want := w.names[zone], w.nodes[id].node.Address; got != want {
		t.Errorf("%s is %s, want %s", zone, got, want)
	}
	if want := strings.ReplaceAll(unitOf(id, w.flags), " \n", "\n"); w.nodes[id].unit != want {
		t.Errorf("the unit of %s:\n%swant\n%s", id, w.nodes[id].unit, want)
	}
}

// bubble runs a test on a world of its own, on a clock of its own.
func bubble(t *testing.T, test func(t *testing.T, w *world), set ...string) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, set...)
		defer w.stop()
		test(t, w)
	})
}

// pass lets time of the bubble pass.
func pass(d time.Duration) { time.Sleep(d) }
