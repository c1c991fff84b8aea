package plane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/lambdas/local/gate"
	"originchain/lambdas/local/supervise"
	"originchain/shared/failover"
)

// cutAtMost bounds a partition: whoever made it may have died before healing it.
const cutAtMost = 5 * time.Minute

type dialer = func(ctx context.Context, network, address string) (net.Conn, error)

// ways are between each node and all others: the lease store, the followers, who looks at
// it, the endpoint, and its machine. One gate is for all of a node, so that it is cut off
// at one moment.
//
// Between processes a relay carries what passes, for the lease store and for replication.
// What this process itself asks of a node, and the requests of clients, pass the gate in
// the connection, and have no hop more.
type ways struct {
	log       logrus.FieldLogger
	byMachine map[string]*gate.Gate
	byHost    map[string]*gate.Gate
	nodes     map[string]failover.Node // by host
	// process is the process of a node, if it runs; nil: nobody knows.
	process func(ctx context.Context, n failover.Node) (pid int, runs bool)
	// taken finds out by whom a node's address is; connected is for tests.
	taken     listeners
	connected func()

	mu sync.Mutex
	// late heals what nobody has healed, by machine.
	late   map[string]*time.Timer
	closed bool
}

func newWays(nodes []failover.Node, log logrus.FieldLogger) *ways {
	w := &ways{log: log, byMachine: make(map[string]*gate.Gate), byHost: make(map[string]*gate.Gate), nodes: make(map[string]failover.Node), late: make(map[string]*time.Timer)}
	for _, n := range nodes {
		g := gate.New()
		w.byMachine[n.Machine] = g
		if u, err := url.Parse(n.URL); err == nil {
			w.byHost[u.Host], w.nodes[u.Host] = g, n
		}
	}
	return w
}

// dial connects to a node through its gate, and to anybody else as he is.
//
// What passes carries tokens, in plain HTTP, and nothing that a server says before it has
// seen one proves who it is: whoever listens at a node's address could say the same. But
// the kernel knows who does. So nobody is connected unless the process of the node has the
// socket that listens there, before the connection is made and after it. That an answer
// is of this instance is known by the token, which no other one takes; of this node, by
// its name (watcher.look).
func (w *ways) dial(ctx context.Context, network, address string) (net.Conn, error) {
	g := w.byHost[address]
	if g == nil {
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	if w.process == nil {
		return g.Dial(ctx, network, address)
	}
	// Of a machine that nobody reaches nobody knows anything.
	if err := g.Pass(ctx); err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	n := w.nodes[address]
	by, err := w.listens(ctx, n, address)
	if err != nil {
		return nil, err
	}
	c, err := g.Dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if w.connected != nil {
		w.connected()
	}
	if !by.still() {
		return nil, errors.Join(fmt.Errorf("connect to %s: it has ended meanwhile: %w", n.ID, syscall.ECONNREFUSED), c.Close())
	}
	return c, nil
}

// listens is the socket by which the process of a node listens at its address.
func (w *ways) listens(ctx context.Context, n failover.Node, address string) (listener, error) {
	pid, runs := w.process(ctx, n)
	if !runs {
		return listener{}, fmt.Errorf("connect to %s: its process does not run, and whoever listens at %s is another: %w", n.ID, address, syscall.ECONNREFUSED)
	}
	l, err := w.taken.of(pid, address)
	if err != nil {
		return listener{}, fmt.Errorf("connect to %s: %w: %w", n.ID, err, syscall.ECONNREFUSED)
	}
	return l, nil
}

func (w *ways) isCut(machine string) bool {
	g := w.byMachine[machine]
	return g != nil && g.IsCut()
}

// cut cuts a node off, for cutAtMost.
func (w *ways) cut(n failover.Node) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
		return errors.New("the instance is ending")
	case w.late[n.Machine] != nil:
		return fmt.Errorf("%s is cut off already", n.ID)
	}
	w.late[n.Machine] = time.AfterFunc(cutAtMost, func() {
		w.log.WithField("node", n.ID).Warnf("nobody has healed the partition of %s within %s: it is healed", n.ID, cutAtMost)
		w.heal(n)
	})
	w.byMachine[n.Machine].Cut()
	w.log.WithField("node", n.ID).Warnf("%s is cut off", n.ID)
	return nil
}

// heal ends that; nothing happens if it has ended.
func (w *ways) heal(n failover.Node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if timer := w.late[n.Machine]; timer != nil {
		timer.Stop()
		delete(w.late, n.Machine)
		w.byMachine[n.Machine].Heal()
		w.log.WithField("node", n.ID).Warnf("%s is reached again", n.ID)
	}
}

// close heals everything, and lets nothing be cut any more.
func (w *ways) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	for machine, timer := range w.late {
		timer.Stop()
		w.byMachine[machine].Heal()
	}
	clear(w.late)
}

// partition cuts the writer off from everybody.
func (p *Plane) partition(n failover.Node) error {
	if !p.in.Gated() {
		return fmt.Errorf("the nodes of the instance in %s reach each other without gates, as it was made before there were any: have a new one up, in another directory", string(p.dir))
	}
	return p.ways.cut(n)
}

// relays are before the lease store and before replication, of each node.
func (p *Plane) relays() (all []*served) {
	if !p.in.Gated() {
		return nil
	}
	for i, n := range p.in.Nodes {
		way := p.ways.byMachine[n.Name]
		for _, r := range []struct{ what, at, to string }{
			{"the lease store's gate", p.in.LeaseGate(n), p.in.LeaseAddress()},
			{"the followers' gate", p.nodes[i].ReplicationAddress, p.in.ReplicationListen(n)},
		} {
			all = append(all, &served{what: r.what, address: r.at, relay: func(ctx context.Context, l net.Listener) error {
				return way.Relay(ctx, l, r.to)
			}})
		}
	}
	return all
}

// UnreachableError says that the machine of a node does not answer.
type UnreachableError struct {
	Node string
	Err  error
}

// Error implements error.
func (e *UnreachableError) Error() string {
	return fmt.Sprintf("the machine of %s cannot be reached: %v", e.Node, e.Err)
}

// Unwrap gives the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// reached is the supervisor as others see it: while a machine is cut off they hear nothing
// of it, for as long as they wait.
type reached struct {
	machines supervise.Local
	ways     *ways
}

var _ supervise.Local = reached{}

// there waits until the machine can be reached.
func (r reached) there(ctx context.Context, n failover.Node) error {
	g := r.ways.byMachine[n.Machine]
	if g == nil {
		return nil // the supervisor knows what to say of it
	}
	if err := g.Pass(ctx); err != nil {
		return &UnreachableError{Node: n.ID, Err: err}
	}
	return nil
}

// Process implements failover.Control.
func (r reached) Process(ctx context.Context, n failover.Node) (failover.Process, error) {
	if err := r.there(ctx, n); err != nil {
		return failover.Process{}, err
	}
	return r.machines.Process(ctx, n)
}

// Stop implements failover.Control.
func (r reached) Stop(ctx context.Context, n failover.Node) (failover.Process, error) {
	if err := r.there(ctx, n); err != nil {
		return failover.Process{}, err
	}
	return r.machines.Stop(ctx, n)
}

// Start implements failover.Control.
func (r reached) Start(ctx context.Context, n failover.Node) error {
	if err := r.there(ctx, n); err != nil {
		return err
	}
	return r.machines.Start(ctx, n)
}

// Restart implements failover.Control.
func (r reached) Restart(ctx context.Context, n failover.Node) error {
	if err := r.there(ctx, n); err != nil {
		return err
	}
	return r.machines.Restart(ctx, n)
}

// Unit implements failover.Control.
func (r reached) Unit(ctx context.Context, n failover.Node) (string, []byte, error) {
	if err := r.there(ctx, n); err != nil {
		return "", nil, err
	}
	return r.machines.Unit(ctx, n)
}

// Rewrite implements failover.Control.
func (r reached) Rewrite(ctx context.Context, n failover.Node, text []byte) error {
	if err := r.there(ctx, n); err != nil {
		return err
	}
	return r.machines.Rewrite(ctx, n, text)
}

// Kill implements supervise.Local.
func (r reached) Kill(ctx context.Context, n failover.Node, sig syscall.Signal) error {
	if err := r.there(ctx, n); err != nil {
		return err
	}
	return r.machines.Kill(ctx, n, sig)
}
