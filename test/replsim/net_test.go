package replsim

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// network joins the processes of a simulation. A direction between two nodes can
// be cut: what is sent meanwhile arrives when it is healed, as TCP would do it,
// unless the connection is reset.
type network struct {
	mu        sync.Mutex
	change    *sync.Cond
	rng       *rand.Rand
	listeners map[string]*listener // by node
	cut       map[[2]string]bool
	conns     map[*conn]bool
	latency   time.Duration
}

func newNetwork(rng *rand.Rand) *network {
	n := &network{rng: rng, listeners: map[string]*listener{}, cut: map[[2]string]bool{}, conns: map[*conn]bool{}}
	n.change = sync.NewCond(&n.mu)
	n.latency = time.Duration(1+rng.IntN(5000)) * time.Microsecond
	return n
}

type addr string

func (addr) Network() string  { return "sim" }
func (a addr) String() string { return string(a) }

// listener is where a node takes connections; its address is the node's name.
type listener struct {
	n      *network
	node   string
	queue  []*conn
	closed bool
}

func (n *network) listen(node string) net.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	l := &listener{n: n, node: node}
	n.listeners[node] = l
	return l
}

func (l *listener) Accept() (net.Conn, error) {
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	for len(l.queue) == 0 && !l.closed {
		l.n.change.Wait()
	}
	if l.closed {
		return nil, net.ErrClosed
	}
	c := l.queue[0]
	l.queue = l.queue[1:]
	return c, nil
}

func (l *listener) Close() error {
	l.n.mu.Lock()
	defer l.n.mu.Unlock()
	l.closed = true
	if l.n.listeners[l.node] == l {
		delete(l.n.listeners, l.node)
	}
	l.n.change.Broadcast()
	return nil
}

func (l *listener) Addr() net.Addr { return addr(l.node + ":1") }

var errRefused = errors.New("connection refused")

// dial connects a node to another one. Behind a cut it waits, as for a SYN that is
// sent again and again.
func (n *network) dial(ctx context.Context, from, to string) (net.Conn, error) {
	defer context.AfterFunc(ctx, func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.change.Broadcast()
	})()
	n.mu.Lock()
	defer n.mu.Unlock()
	for n.cut[[2]string{from, to}] || n.cut[[2]string{to, from}] {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		n.change.Wait()
	}
	l := n.listeners[to]
	if l == nil {
		return nil, errRefused
	}
	a, b := &conn{n: n, from: from, to: to}, &conn{n: n, from: to, to: from}
	a.peer, b.peer = b, a
	n.conns[a], n.conns[b] = true, true
	l.queue = append(l.queue, b)
	n.change.Broadcast()
	return a, nil
}

// packet is what one Write sent.
type packet struct {
	at time.Time
	b  []byte
}

// conn is one end of a connection.
type conn struct {
	n        *network
	from, to string
	peer     *conn
	in       []packet
	closed   bool // at this end
	gone     bool // the peer's end, once that has arrived
	reset    bool
}

func (c *conn) Read(b []byte) (int, error) {
	n := c.n
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		switch {
		case c.closed:
			return 0, net.ErrClosed
		case c.reset:
			return 0, io.ErrUnexpectedEOF
		}
		if !n.cut[[2]string{c.to, c.from}] {
			if len(c.in) > 0 && !c.in[0].at.After(time.Now()) {
				k := copy(b, c.in[0].b)
				if c.in[0].b = c.in[0].b[k:]; len(c.in[0].b) == 0 {
					c.in = c.in[1:]
				}
				return k, nil
			}
			if len(c.in) == 0 && c.gone {
				return 0, io.EOF
			}
		}
		n.change.Wait()
	}
}

// maxInFlight bounds what is under way, as a socket's buffers do.
const maxInFlight = 256

func (c *conn) Write(b []byte) (int, error) {
	n := c.n
	n.mu.Lock()
	defer n.mu.Unlock()
	for len(c.peer.in) >= maxInFlight && !c.closed && !c.reset && !c.gone {
		n.change.Wait()
	}
	if c.closed || c.reset || c.gone {
		return 0, io.ErrClosedPipe
	}
	at := time.Now().Add(n.latency/2 + time.Duration(n.rng.Int64N(int64(n.latency))))
	if k := len(c.peer.in); k > 0 && c.peer.in[k-1].at.After(at) {
		at = c.peer.in[k-1].at
	}
	c.peer.in = append(c.peer.in, packet{at, append([]byte(nil), b...)})
	n.wakeAt(at)
	return len(b), nil
}

func (n *network) wakeAt(at time.Time) {
	time.AfterFunc(time.Until(at), func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.change.Broadcast()
	})
}

func (c *conn) Close() error {
	c.n.mu.Lock()
	defer c.n.mu.Unlock()
	if !c.closed {
		c.closed, c.peer.gone = true, true
		delete(c.n.conns, c)
		c.n.change.Broadcast()
	}
	return nil
}

func (c *conn) LocalAddr() net.Addr              { return addr(c.from) }
func (c *conn) RemoteAddr() net.Addr             { return addr(c.to) }
func (c *conn) SetDeadline(time.Time) error      { return nil }
func (c *conn) SetReadDeadline(time.Time) error  { return nil }
func (c *conn) SetWriteDeadline(time.Time) error { return nil }

// set cuts or heals one direction.
func (n *network) set(from, to string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[[2]string{from, to}] = cut
	n.change.Broadcast()
}

// heal ends all cuts; with reset what was held up is lost with its connection.
func (n *network) heal(reset bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		if reset && (n.cut[[2]string{c.to, c.from}] || n.cut[[2]string{c.from, c.to}]) {
			c.reset, c.peer.reset = true, true
		}
	}
	clear(n.cut)
	n.change.Broadcast()
}

// drop resets all connections of a node; "" means of all nodes.
func (n *network) drop(node string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		if node == "" || c.from == node || c.to == node {
			c.reset, c.peer.reset = true, true
		}
	}
	if l := n.listeners[node]; l != nil {
		for _, c := range l.queue {
			c.reset, c.peer.reset = true, true
		}
		delete(n.listeners, node) // only a process that has ended is dropped by name
	}
	n.change.Broadcast()
}
