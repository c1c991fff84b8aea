// Package instancetest has an instance for the tests of the functions: nodes that answer
// over HTTP on loopback and obey the lease record as real ones do, and the instance control
// and DNS that reach them. What it keeps of lease and registry is the test's.
package instancetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"originchain/shared/api"
	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/shared/lsn"
	"originchain/shared/registry"
)

const (
	// ID is the instance's.
	ID = "01HZX3V9J8Q2W4E6R8T0Y2M4K6"
	// Zone is its writer's name.
	Zone = "writer.acme.eu.db.example"
	// Token is its admin token.
	Token = "oc_admin_instancetest" //nolint:gosec // G101: of tests
	// Last is where the log of each node ends.
	Last = 5010
)

// Instance is a writer and its followers. Faults are set by its methods.
type Instance struct {
	t        testing.TB
	Lease    lease.Store
	Registry registry.Store

	mu    sync.Mutex
	nodes []*node
	names map[string]string
	// failing is how often instance control and DNS fail from now on.
	failing map[string]int
	calls   []string
}

type node struct {
	failover.Node
	server *httptest.Server
	unit   string
	up     bool
	hangs  bool
	held   bool
	role   string
	epoch  lsn.Epoch
	last   lsn.Pos
}

// New has an instance up whose node a writes epoch 1, with so many followers, all in the
// set. It ends with the test.
func New(t testing.TB, l lease.Store, reg registry.Store, followers int) *Instance {
	t.Helper()
	i := &Instance{t: t, Lease: l, Registry: reg, names: map[string]string{}, failing: map[string]int{}}
	var set []string
	for n := range 1 + followers {
		id := "acme-" + string(rune('a'+n))
		it := &node{up: true, role: "follower", last: lsn.Pos{Epoch: 1, LSN: Last}}
		it.server = httptest.NewServer(i.serve(it))
		t.Cleanup(it.server.Close)
		it.Node = failover.Node{ID: id, Machine: "i-0000000000000000" + string(rune('a'+n)), URL: it.server.URL, OpsURL: it.server.URL,
			ReplicationAddress: id + ":7001", Address: fmt.Sprintf("10.0.0.%d", n+1)}
		it.unit = unitOf(id, "--mode follower --leader-addr acme-a:7001 --sync-replicas 1")
		if n == 0 {
			it.unit, it.role, it.epoch = unitOf(id, "--sync-replicas 1"), "writer", 1
		} else {
			set = append(set, id)
		}
		if err := failover.SaveNode(t.Context(), reg, it.Node); err != nil {
			t.Fatal(err)
		}
		i.nodes = append(i.nodes, it)
	}
	a := i.nodes[0]
	i.names[Zone] = a.Address
	i.change(func(r lease.Record) (lease.Record, error) {
		return r.Take(lease.Candidate{Instance: ID, Node: a.ID, URL: a.URL, ReplicationAddress: a.ReplicationAddress, Place: place(a)})
	})
	i.change(func(r lease.Record) (lease.Record, error) {
		return r.Confirm(lease.Claim{Node: a.ID, Epoch: 1}, lsn.Pos{}, nil, min(1, followers))
	})
	for _, id := range set {
		i.change(func(r lease.Record) (lease.Record, error) { return r.Enter(lease.Claim{Node: a.ID, Epoch: 1}, id) })
	}
	i.change(func(r lease.Record) (lease.Record, error) {
		return r.Renew(lease.Claim{Node: a.ID, Epoch: 1}, Last)
	})
	return i
}

func place(n *node) string { return "place-of-" + n.ID }

func unitOf(id, flags string) string {
	return fmt.Sprintf("[Service]\nExecStart=/opt/originchain/bin/oc-server --node-id %s --data-dir /var/lib/originchain/data %s\nRestart=always\n", id, flags)
}

// change changes the record by a rule, as often as somebody else was first.
func (i *Instance) change(rule func(lease.Record) (lease.Record, error)) {
	i.t.Helper()
	if err := i.try(rule); err != nil {
		i.t.Fatal(err)
	}
}

func (i *Instance) try(rule func(lease.Record) (lease.Record, error)) error {
	for {
		now, _, err := i.Lease.Load(context.Background())
		if err != nil {
			return err
		}
		next, err := rule(now)
		if err != nil {
			return err
		}
		_, err = i.Lease.CompareAndSet(context.Background(), now.Version, next)
		var conflict *lease.ConflictError
		if !errors.As(err, &conflict) {
			return err
		}
	}
}

// Record is the lease record.
func (i *Instance) Record() lease.Record {
	i.t.Helper()
	r, _, err := i.Lease.Load(i.t.Context())
	if err != nil {
		i.t.Fatal(err)
	}
	return r
}

func (i *Instance) of(id string) *node {
	at := slices.IndexFunc(i.nodes, func(n *node) bool { return n.ID == id || n.Machine == id })
	if at < 0 {
		i.t.Errorf("there is no node %s", id)
		return i.nodes[0]
	}
	return i.nodes[at]
}

// Kill ends a node's process. Nothing starts it again.
func (i *Instance) Kill(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	n := i.of(id)
	n.up, n.held = false, true
}

// Hang has a node answer that its log takes no writes.
func (i *Instance) Hang(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.of(id).hangs = true
}

// Well ends Hang.
func (i *Instance) Well(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.of(id).hangs = false
}

// Behind has a node's log end so many LSNs before that of the others.
func (i *Instance) Behind(id string, by uint64) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.of(id).last.LSN = lsn.LSN(Last - by)
}

// Alone takes a node out of the set.
func (i *Instance) Alone(id string) {
	i.change(func(r lease.Record) (lease.Record, error) {
		return r.Leave(lease.Claim{Node: r.Holder, Epoch: r.Epoch}, id)
	})
}

// Fail has the next n calls of a kind fail: "stop", "rewrite", "take" (of
// the record), "dns", "promote" and so on.
func (i *Instance) Fail(what string, n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.failing[what] = n
}

// fails counts a call, and says whether it is to fail; with mu.
func (i *Instance) fails(what string) bool {
	i.calls = append(i.calls, what)
	if i.failing[what] == 0 {
		return false
	}
	i.failing[what]--
	return true
}

// Calls are what instance control, DNS and the nodes were asked, but for reads.
func (i *Instance) Calls() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.calls)
}

// Address is what the zone has for the writer's name.
func (i *Instance) Address() string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.names[Zone]
}

// Unit is a node's unit file.
func (i *Instance) Unit(id string) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.of(id).unit
}

// Node is a node as it is registered.
func (i *Instance) Node(id string) failover.Node {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.of(id).Node
}

// IsWriter checks that a node writes, that the record says so, and DNS.
func (i *Instance) IsWriter(id string, epoch lsn.Epoch) {
	i.t.Helper()
	r := i.Record()
	i.mu.Lock()
	defer i.mu.Unlock()
	n := i.of(id)
	if r.Holder != id || r.Epoch != epoch || !r.Confirmed() || n.role != "writer" || n.epoch != epoch {
		i.t.Errorf("the record names %s for epoch %d, and %s is a %s of %d; want it to write epoch %d", r.Holder, r.Epoch, id, n.role, n.epoch, epoch)
	}
	if i.names[Zone] != n.Address {
		i.t.Errorf("%s is %s, want %s", Zone, i.names[Zone], n.Address)
	}
	if strings.Contains(n.unit, "--mode") {
		i.t.Errorf("the next boot of the writer does not agree: %s", n.unit)
	}
}

// Deps are what a failover of the instance works with.
func (i *Instance) Deps() failover.Deps {
	return failover.Deps{Lease: taking{i.Lease, i}, Registry: i.Registry, Control: control{i}, DNS: names{i}, HTTP: http.DefaultClient, AdminToken: Token, Flags: Flags}
}

// Flags knows the flags of the units.
func Flags(name string) (takesValue, known bool) {
	return true, slices.Contains([]string{"mode", "leader-addr", "node-id", "data-dir", "sync-replicas", "sync-strict"}, name)
}

func (i *Instance) serve(n *node) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		if !n.up {
			panic(http.ErrAbortHandler) // nobody answers
		}
		if strings.HasPrefix(req.URL.Path, "/v1/") && req.Header.Get("Authorization") != "Bearer "+Token {
			answer(rw, http.StatusUnauthorized, api.Error{Error: "unauthorized", Message: "who are you"})
			return
		}
		switch req.Method + " " + req.URL.Path {
		case "GET /health":
			if n.hangs {
				answer(rw, http.StatusServiceUnavailable, api.Health{Status: api.HealthFailed, Mode: n.role})
				return
			}
			answer(rw, http.StatusOK, api.Health{Status: api.HealthOK, Mode: n.role})
		case "GET /ready":
			answer(rw, http.StatusOK, api.Ready{Ready: true})
		case "GET /v1/admin/replication":
			out := api.Replication{Role: n.role, Node: n.ID, Epoch: uint64(n.last.Epoch), LSN: uint64(n.last.LSN), DurableLSN: uint64(n.last.LSN), DurableEpoch: uint64(n.last.Epoch),
				AppliedLSN: uint64(n.last.LSN), Promotable: n.role == "follower"}
			if n.role == "writer" {
				out.Epoch = uint64(n.epoch)
			}
			answer(rw, http.StatusOK, out)
		case "POST /v1/admin/promote":
			i.promote(rw, req, n)
		default:
			answer(rw, http.StatusNotFound, api.Error{Error: "not_found", Message: req.URL.Path})
		}
	})
}

func answer(rw http.ResponseWriter, status int, v any) {
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(v) // whoever asked is gone
}

// promote opens the epoch that the record gives a node; with mu.
func (i *Instance) promote(rw http.ResponseWriter, req *http.Request, n *node) {
	var in api.PromoteRequest
	if err := json.NewDecoder(req.Body).Decode(&in); err != nil || i.fails("promote") {
		answer(rw, http.StatusServiceUnavailable, api.Error{Error: "not_ready", Message: "not now", Retry: true})
		return
	}
	if n.role != "writer" {
		err := i.open(n, lsn.Epoch(in.Epoch))
		if err != nil {
			answer(rw, http.StatusConflict, api.Error{Error: "conflict", Message: err.Error()})
			return
		}
	}
	answer(rw, http.StatusAccepted, api.Promoted{Epoch: uint64(n.epoch), Writer: true})
}

func (i *Instance) open(n *node, epoch lsn.Epoch) error {
	err := i.try(func(r lease.Record) (lease.Record, error) {
		if r.Epoch != epoch || r.Holder != n.ID {
			return r, fmt.Errorf("the record names %s for epoch %d", r.Holder, r.Epoch)
		}
		return r.Adopt(lease.Candidate{Instance: ID, Node: n.ID, URL: n.URL, ReplicationAddress: n.ReplicationAddress, Last: n.last, Place: place(n)})
	})
	if err == nil {
		err = i.try(func(r lease.Record) (lease.Record, error) {
			return r.Confirm(lease.Claim{Node: n.ID, Epoch: epoch}, n.last, nil, 0)
		})
	}
	if err == nil {
		n.role, n.epoch = "writer", epoch
		n.last = lsn.Pos{Epoch: epoch, LSN: n.last.LSN + 1}
	}
	return err
}

// ErrAway is what a call fails with that was told to.
var ErrAway = errors.New("it cannot be reached")

// control implements failover.Control.
type control struct{ *Instance }

func (c control) process(n *node) failover.Process {
	p := failover.Process{Running: n.up, Reaped: !n.up && n.held}
	if p.Reaped {
		p.Place = place(n)
	}
	return p
}

// Process implements failover.Control.
func (c control) Process(_ context.Context, n failover.Node) (failover.Process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fails("process") {
		return failover.Process{}, ErrAway
	}
	return c.process(c.of(n.ID)), nil
}

// Stop implements failover.Control.
func (c control) Stop(_ context.Context, n failover.Node) (failover.Process, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fails("stop") {
		return failover.Process{}, ErrAway
	}
	it := c.of(n.ID)
	it.up, it.held = false, true
	return c.process(it), nil
}

// Start implements failover.Control.
func (c control) Start(_ context.Context, n failover.Node) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fails("start") {
		return ErrAway
	}
	it := c.of(n.ID)
	it.up, it.held, it.role = true, false, "follower"
	return nil
}

// Restart implements failover.Control.
func (c control) Restart(ctx context.Context, n failover.Node) error {
	if err := c.Start(ctx, n); err != nil {
		return err
	}
	r, _, err := c.Lease.Load(ctx)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open(c.of(n.ID), r.Epoch)
}

// Unit implements failover.Control.
func (c control) Unit(_ context.Context, n failover.Node) (name string, text []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failing["unit"] > 0 {
		c.failing["unit"]--
		return "", nil, ErrAway
	}
	return "oc-http.service", []byte(c.of(n.ID).unit), nil
}

// Rewrite implements failover.Control.
func (c control) Rewrite(_ context.Context, n failover.Node, text []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fails("rewrite") {
		return ErrAway
	}
	c.of(n.ID).unit = string(text)
	return nil
}

// taking is the lease record of a failover, which cannot take it while "take" is to fail.
type taking struct {
	lease.Store
	*Instance
}

// CompareAndSet implements lease.Store.
func (s taking) CompareAndSet(ctx context.Context, expect uint64, next lease.Record) (lease.Record, error) {
	if !next.Given(next.Holder) {
		return s.Store.CompareAndSet(ctx, expect, next)
	}
	s.mu.Lock()
	fails := s.fails("take")
	s.mu.Unlock()
	if fails {
		return lease.Record{}, ErrAway
	}
	return s.Store.CompareAndSet(ctx, expect, next)
}

// names implements failover.DNS.
type names struct{ *Instance }

// Point implements failover.DNS.
func (z names) Point(_ context.Context, name, address string, _ time.Duration) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	if z.fails("dns") {
		return ErrAway
	}
	z.Instance.names[name] = address
	return nil
}
