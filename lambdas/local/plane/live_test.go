package plane

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/lambdas/local/control"
	"originchain/lambdas/local/layout"
	"originchain/shared/api"
	"originchain/shared/datadir"
	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/shared/lsn"
	"originchain/test/output"
)

// liveWithin bounds the wait for something in a test; nothing is judged by it.
const liveWithin = 30 * time.Second

// program stands for oc-server: a process that runs, unless its node is to be dead.
const program = "#!/bin/sh\ncase \"$*\" in *\"--node-id $DEAD \"*) exit 1;; esac\nexec sleep 600\n"

// fake answers as a node that obeys the record.
type fake struct {
	p    *Plane
	node failover.Node

	mu    sync.Mutex
	says  string // another node's name, if it is to answer as that
	hangs bool   // it says that its log takes no writes
	epoch lsn.Epoch
	wrote bool
	asked []string
	aside []api.SetAside
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	role := "follower"
	if f.wrote {
		role = "writer"
	}
	name := f.node.ID
	if f.says != "" {
		name = f.says
	}
	var out any
	switch r.Method + " " + r.URL.Path {
	case "GET /health":
		out = api.Health{Status: api.HealthOK, Mode: role}
		if f.hangs {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	case "GET /ready":
		out = api.Ready{Ready: true}
	case "GET /v1/admin/replication":
		out = api.Replication{Role: role, Node: name, Epoch: max(1, uint64(f.epoch)), DurableLSN: 10, DurableEpoch: max(1, uint64(f.epoch)), AppliedLSN: 10, Promotable: !f.wrote, SetAside: f.aside}
	case "POST /v1/admin/promote":
		f.asked = append(f.asked, r.URL.Path)
		var in api.PromoteRequest
		_ = json.NewDecoder(r.Body).Decode(&in)
		rec, _, err := f.p.record.Load(r.Context())
		if err == nil && !rec.Confirmed() {
			rec, err = f.open(r.Context(), rec)
		}
		if err != nil || rec.Holder != f.node.ID {
			w.WriteHeader(http.StatusConflict)
			out = api.Error{Error: "conflict", Message: fmt.Sprint(err)}
			break
		}
		f.epoch, f.wrote = rec.Epoch, true
		out = api.Promoted{Epoch: uint64(rec.Epoch), Writer: true}
	default:
		w.WriteHeader(http.StatusNotFound)
	}
	_ = json.NewEncoder(w).Encode(out)
}

// open confirms the epoch that the record gives.
func (f *fake) open(ctx context.Context, rec lease.Record) (lease.Record, error) {
	last := lsn.Pos{Epoch: 1, LSN: 10}
	next, err := rec.Adopt(lease.Candidate{Instance: rec.Instance, Node: f.node.ID, URL: f.node.URL, Place: "of-" + f.node.ID, Last: last})
	if err == nil {
		rec, err = f.p.record.CompareAndSet(ctx, rec.Version, next)
	}
	if err == nil {
		next, err = rec.Confirm(lease.Claim{Node: f.node.ID, Epoch: rec.Epoch}, last, nil, 0)
	}
	if err == nil {
		rec, err = f.p.record.CompareAndSet(ctx, rec.Version, next)
	}
	return rec, err
}

// stage is a plane whose nodes are processes that do nothing, beside servers that answer
// for those which are to live.
type stage struct {
	*Plane
	t     *testing.T
	fakes map[string]*fake
	out   output.Output
	said  output.Output
	ended chan error
	ready chan struct{}
	short error // what ready was told
}

// newStage has the nodes of an instance that was ended in order: node-1 has written
// epoch 1 and released it.
func newStage(t *testing.T, followers int, dead string) *stage {
	t.Helper()
	server := filepath.Join(t.TempDir(), "server")
	if err := os.WriteFile(server, []byte(strings.ReplaceAll(program, "$DEAD", dead)), 0o700); err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, fakes: make(map[string]*fake), ended: make(chan error, 1), ready: make(chan struct{})}
	dir := layout.Dir(t.TempDir())
	for _, path := range dir.Directories() {
		if err := os.MkdirAll(path, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s.Plane = newPlane(Options{Dir: dir, Followers: followers, Given: true, Server: server, Out: &s.out, Log: &s.said})
	if err := s.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.ways.process = func(ctx context.Context, n failover.Node) (int, bool) {
		process, err := s.machines.Process(ctx, n)
		return os.Getpid(), err == nil && process.Running // the fakes are of this process
	}
	by := lease.Claim{Node: "node-1", Epoch: 1}
	var set []string
	for _, n := range s.nodes[1:] {
		set = append(set, n.ID)
	}
	s.write(
		func(r lease.Record) (lease.Record, error) {
			return r.Take(lease.Candidate{Instance: s.in.ID, Node: "node-1", URL: s.nodes[0].URL, Place: "p"})
		},
		func(r lease.Record) (lease.Record, error) { return r.Confirm(by, lsn.Pos{}, set, min(1, len(set))) },
		func(r lease.Record) (lease.Record, error) { return r.Release(by, 10) },
	)
	return s
}

// write changes the record.
func (s *stage) write(rules ...func(lease.Record) (lease.Record, error)) {
	s.t.Helper()
	for _, rule := range rules {
		rec, _, err := s.record.Load(s.t.Context())
		if err == nil {
			rec, err = rule(rec)
		}
		if err == nil {
			_, err = s.record.CompareAndSet(s.t.Context(), rec.Version, rec)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// answers has a node answer at its address.
func (s *stage) answers(id string) *fake {
	s.t.Helper()
	n, ok := s.node(id)
	if !ok {
		s.t.Fatalf("no node %s", id)
	}
	u, err := url.Parse(n.URL)
	if err != nil {
		s.t.Fatal(err)
	}
	l, err := net.Listen("tcp", u.Host)
	if err != nil {
		s.t.Fatal(err)
	}
	f := &fake{p: s.Plane, node: n}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: f, ReadHeaderTimeout: time.Minute}}
	server.Start()
	s.t.Cleanup(server.Close)
	s.fakes[id] = f
	return f
}

// up runs the plane until the test ends.
func (s *stage) up() {
	go func() {
		s.ended <- s.run(context.Background(), func(short error) error { s.short = short; close(s.ready); return nil })
	}()
	s.t.Cleanup(func() {
		s.Down()
		if err := <-s.ended; err != nil {
			s.t.Error(err)
		}
		if s.t.Failed() {
			s.t.Log(s.said.String())
		}
	})
}

// until waits for something.
func (s *stage) until(what string, holds func() bool) {
	s.t.Helper()
	late := time.NewTimer(liveWithin)
	defer late.Stop()
	for !holds() {
		select {
		case <-late.C:
			s.t.Fatalf("never: %s\n%s", what, s.said.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (s *stage) now() lease.Record {
	rec, _, err := s.record.Load(context.Background())
	if err != nil {
		s.t.Error(err)
	}
	return rec
}

// An instance that comes up with a writer that does not start again is guarded: a follower
// takes its place, long before anybody gives up the wait for all to be in sync. Nobody says
// meanwhile that all is ready.
func TestTheGuardRunsWhileTheInstanceComesUp(t *testing.T) {
	s := newStage(t, 1, "node-1")
	s.answers("node-2")
	s.up()
	// Who asks for a promotion meanwhile is answered.
	if b, err := s.Promote(t.Context(), control.Promotion{Target: "node-2", DryRun: true}, func(string) {}); len(b) == 0 {
		t.Error(err)
	}
	s.until("node-2 writes", func() bool { rec := s.now(); return rec.Holder == "node-2" && rec.Confirmed() })
	select {
	case <-s.ready:
		t.Error("it is said to be ready, and node-1 does not run")
	default:
	}
}

// An epoch that was given, by a process that was killed then, is opened: by the guard, of
// a plane that knows nothing of it.
func TestAnEpochThatWasGivenIsOpened(t *testing.T) {
	s := newStage(t, 2, "")
	b, c := s.answers("node-2"), s.answers("node-3")
	s.write(func(r lease.Record) (lease.Record, error) {
		return r.Take(lease.Candidate{Instance: s.in.ID, Node: "node-2", URL: s.nodes[1].URL, Last: lsn.Pos{Epoch: 1, LSN: 10}})
	})
	if rec := s.now(); !rec.Given("node-2") {
		t.Fatalf("%+v", rec)
	}
	s.up()
	s.until("node-2 writes", func() bool { rec := s.now(); return rec.Holder == "node-2" && rec.Confirmed() })
	for _, f := range []*fake{b, c} {
		f.mu.Lock()
		if (len(f.asked) > 0) != (f == b) {
			t.Errorf("%s was asked %d times", f.node.ID, len(f.asked))
		}
		f.mu.Unlock()
	}
	if rec := s.now(); rec.Epoch != 2 {
		t.Errorf("epoch %d", rec.Epoch)
	}
}

// An epoch that was given to a node whose disk hangs is not waited for: another one opens the next.
func TestAnEpochThatWasGivenToANodeWhoseDiskHangs(t *testing.T) {
	s := newStage(t, 2, "")
	s.answers("node-2").hangs = true
	s.answers("node-3")
	s.write(func(r lease.Record) (lease.Record, error) {
		return r.Take(lease.Candidate{Instance: s.in.ID, Node: "node-2", URL: s.nodes[1].URL, Last: lsn.Pos{Epoch: 1, LSN: 10}})
	})
	s.up()
	s.until("node-3 writes", func() bool { rec := s.now(); return rec.Holder == "node-3" && rec.Confirmed() })
	if rec := s.now(); rec.Epoch != 3 {
		t.Errorf("epoch %d", rec.Epoch)
	}
}

// Where nobody else has all of it, it is waited for all the same: nobody is to give up what it has.
func TestAnEpochThatWasGivenToANodeWhoseDiskHangsIsNobodyElses(t *testing.T) {
	s := newStage(t, 2, "")
	s.write(func(r lease.Record) (lease.Record, error) {
		return r.Take(lease.Candidate{Instance: s.in.ID, Node: "node-2", URL: s.nodes[1].URL, Last: lsn.Pos{Epoch: 1, LSN: 10}})
	})
	sees := func(node string, durable uint64, failing bool) {
		s.watch.seen[node] = sight{Replication: api.Replication{Role: "follower", Node: node, Epoch: 1, DurableLSN: durable, DurableEpoch: 1}, answers: true, failing: failing}
	}
	for lacks, want := range map[uint64]string{5: "", 0: "node-3"} {
		sees("node-2", 10, true)
		sees("node-3", 10-lacks, false)
		d, target, err := s.decide(t.Context())
		if err != nil || target != want || want == "" && (d.Verdict != failover.Page || d.Reasons[0].Code != failover.TargetFailing) {
			t.Errorf("node-3 lacks %d: %+v to %q, %v", lacks, d, target, err)
		}
	}
}

// A writer that dies is not held for a follower that could not take its place: its disk hangs.
func TestAWriterIsNotHeldForAFollowerWhoseDiskHangs(t *testing.T) {
	for _, hangs := range []bool{false, true} {
		s := newStage(t, 1, "")
		s.watch.seen["node-2"] = sight{Replication: api.Replication{Role: "follower", Node: "node-2", Epoch: 1, DurableLSN: 10, DurableEpoch: 1}, answers: true, failing: hangs}
		if _, _, err := s.decide(t.Context()); err != nil {
			t.Fatal(err)
		}
		if s.holds.another == hangs {
			t.Errorf("hangs: %t: the writer is held: %t", hangs, s.holds.another)
		}
	}
}

// A run for another node than the guard would choose is finished by it, for that node.
func TestTheGuardFinishesTheRunOfAnother(t *testing.T) {
	s := newStage(t, 2, "node-1")
	s.answers("node-2")
	s.answers("node-3")
	body, err := json.Marshal(map[string]any{"run": "R", "state": "running", "from": "node-1", "to": "node-3", "from_epoch": 1, "step": "fence", "runners": 1, "steps": []any{}})
	if err == nil {
		_, err = s.registry.Save(t.Context(), "failover", 0, body)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.up()
	s.until("node-3 writes", func() bool { rec := s.now(); return rec.Holder == "node-3" && rec.Confirmed() })
	if rec := s.now(); rec.Epoch != 2 {
		t.Errorf("epoch %d", rec.Epoch)
	}
}

// A node that says it is another one is not believed, whatever it says.
func TestAnotherNodesWordIsNotBelieved(t *testing.T) {
	s := newStage(t, 2, "node-1")
	s.answers("node-2").says = "node-3"
	s.answers("node-3")
	s.up()
	s.until("node-3 writes", func() bool { rec := s.now(); return rec.Holder == "node-3" && rec.Confirmed() })
	if s.watch.of("node-2").answers || !s.watch.of("node-3").answers {
		t.Error("another node's word is believed")
	}
}

// Of two that could, one whose log takes no writes is passed over.
func TestAFollowerWhoseDiskHangsIsPassedOver(t *testing.T) {
	s := newStage(t, 2, "node-1")
	s.answers("node-2").hangs = true
	s.answers("node-3")
	s.up()
	s.until("node-3 writes", func() bool { rec := s.now(); return rec.Holder == "node-3" && rec.Confirmed() })
}

// A writer that comes up has the time to open what it had, and nobody else's is spent on
// one whose process has ended or that has opened.
func TestAWriterHasTheTimeToOpen(t *testing.T) {
	var at time.Time
	b := begun{epoch: 3, at: at}
	for _, c := range []struct {
		epoch lsn.Epoch
		after time.Duration
		want  bool
	}{{3, 0, true}, {3, openWithin - 1, true}, {3, openWithin, false}, {4, 0, false}} {
		if got := b.opens(lease.Record{Epoch: c.epoch}, at.Add(c.after)); got != c.want {
			t.Errorf("%+v: %t", c, got)
		}
	}
}

// What cannot be written when the writer changes is written later, in the same epoch.
func TestEndpointsAreTriedAgain(t *testing.T) {
	s := newStage(t, 1, "")
	s.in.Tenant = "01HZX3V9J8Q2W4E6R8T0Y2M4K6"
	inTheWay := filepath.Join(s.dir.Endpoints(), "x")
	if err := os.MkdirAll(inTheWay, 0o700); err != nil {
		t.Fatal(err)
	}
	s.watch.seen["node-2"] = sight{Replication: api.Replication{Role: "writer", Node: "node-2", Epoch: 2}, answers: true, ready: true}
	ctx, cancel := context.WithCancel(t.Context())
	var following sync.WaitGroup
	following.Go(func() { s.follow(ctx) })
	defer func() { cancel(); following.Wait() }()
	s.until("it is said that it failed", func() bool { return strings.Contains(s.said.String(), "not all sent") })
	if err := os.RemoveAll(s.dir.Endpoints()); err != nil {
		t.Fatal(err)
	}
	s.until("the endpoints are there", func() bool {
		e, err := s.dir.ReadEndpoints()
		return err == nil && e.Writer == s.nodes[1].URL
	})
}

// Once the old writer is back the report has the LSNs that it has set aside, and says that
// they are exact.
func TestTheLossIsLearntFromTheOldWriter(t *testing.T) {
	s := newStage(t, 1, "")
	last := lsn.Pos{Epoch: 1, LSN: 10}
	s.write(
		func(r lease.Record) (lease.Record, error) {
			return r.Take(lease.Candidate{Instance: s.in.ID, Node: "node-2", URL: s.nodes[1].URL, Place: "q", Last: last})
		},
		func(r lease.Record) (lease.Record, error) {
			return r.Confirm(lease.Claim{Node: "node-2", Epoch: 2}, last, nil, 0)
		},
	)
	d, err := datadir.Open(datadir.Options{FS: vfs.Default, Path: s.dir.Data("node-1")})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(failover.Report{Run: "R", From: "node-1", To: "node-2", Epoch: 2, LostFrom: 11, LostTo: 12, StartedAt: time.Now().Add(time.Hour)})
	if err == nil {
		_, err = s.registry.Save(t.Context(), "last_failover", 0, body)
	}
	if err != nil {
		t.Fatal(err)
	}
	old, now := s.answers("node-1"), s.answers("node-2")
	old.epoch, old.aside = 2, []api.SetAside{{File: "f", Epoch: 1, FirstLSN: 11, LastLSN: 17}}
	now.epoch, now.wrote = 2, true
	s.up()
	s.until("the report is exact", func() bool {
		st, err := s.Status(t.Context())
		var r failover.Report
		return err == nil && json.Unmarshal(st.LastFailover, &r) == nil && r.LostExact && r.LostFrom == 11 && r.LostTo == 17
	})
}

// The lag that is allowed is the one that was asked for, none too.
func TestNoLagIsNotTheDefault(t *testing.T) {
	none, some := uint64(0), uint64(7)
	for _, c := range []struct {
		asked *uint64
		want  uint64
	}{{nil, failover.DefaultAllowLag}, {&none, 0}, {&some, 7}} {
		if got := overrides(control.Promotion{AllowLag: c.asked}); got.AllowLag != c.want {
			t.Errorf("%d, want %d", got.AllowLag, c.want)
		}
	}
}

// A follower that does not come up is not the end of a writer that is well: the instance goes
// on, and says what is missing. A new instance does not.
func TestABrokenFollowerDoesNotEndTheWriter(t *testing.T) {
	for _, old := range []bool{true, false} {
		s := newStage(t, 1, "node-2")
		s.patience = 2 * time.Second
		if old {
			if err := layout.WriteFile(s.dir.TenantToken(), []byte("t\n")); err != nil {
				t.Fatal(err)
			}
			s.in.Tenant = "01HZX3V9J8Q2W4E6R8T0Y2M4K6"
		}
		f := s.answers("node-1")
		f.epoch, f.wrote = 1, true
		ended := make(chan error, 1)
		go func() {
			ended <- s.run(context.Background(), func(short error) error { s.short = short; close(s.ready); return nil })
		}()
		select {
		case <-s.ready:
			if !old || s.short == nil || !strings.Contains(s.short.Error(), "node-1 writes") {
				t.Errorf("before: %t, ready: %v", old, s.short)
			}
			s.Down()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		case err := <-ended:
			if old || err == nil {
				t.Errorf("it has ended: %v", err)
			}
		case <-time.After(liveWithin):
			t.Fatal("nothing comes of it")
		}
	}
}
