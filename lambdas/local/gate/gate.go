// Package gate is the way to a node of this machine, which can be cut as a network is cut
// between two machines, without root and without namespaces.
//
// A way that is cut is a black hole and refuses nothing: what was sent does not arrive,
// connections stay as they are, and a new one is never answered. When it is healed, what
// was under way arrives, late, as it does where TCP repeats it.
//
// One Gate is for everything between a node and the others, so that one call cuts all of
// it. Bytes pass it in two ways: through a connection of this process (Dial), where it
// costs no hop, and through a relay (Relay) between two other processes.
package gate

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

// Gate is open when it is made.
type Gate struct {
	mu sync.Mutex
	// open is closed while the gate is.
	open chan struct{}
}

// New returns a gate that is open.
func New() *Gate {
	g := &Gate{open: make(chan struct{})}
	close(g.open)
	return g
}

// Cut lets nothing pass from now on, in either direction.
func (g *Gate) Cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if isOpen(g.open) {
		g.open = make(chan struct{})
	}
}

// Heal lets everything pass, what has waited first.
func (g *Gate) Heal() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !isOpen(g.open) {
		close(g.open)
	}
}

// IsCut says whether nothing passes.
func (g *Gate) IsCut() bool { return !isOpen(g.way()) }

func (g *Gate) way() chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open
}

func isOpen(way chan struct{}) bool {
	select {
	case <-way:
		return true
	default:
		return false
	}
}

// Pass waits until the gate is open. Its error is the cause of ctx.
func (g *Gate) Pass(ctx context.Context) error {
	way := g.way()
	if isOpen(way) {
		return nil // also of a context that has ended: then the gate is not why
	}
	select {
	case <-way:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// dialTimeout bounds a connection to this machine, once the gate is open.
const dialTimeout = 5 * time.Second

// Dial connects through the gate, and waits for as long as that is cut, up to the end of
// ctx. The connection has no deadlines: one would not hold at the gate.
func (g *Gate) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := g.Pass(ctx); err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	c, err := (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: c, gate: g, ended: make(chan struct{})}, nil
}

// conn is a connection whose bytes pass a gate.
type conn struct {
	net.Conn
	gate  *Gate
	once  sync.Once
	ended chan struct{} // closed by Close
}

// pass waits until the gate is open or the connection has ended.
func (c *conn) pass() error {
	select {
	case <-c.gate.way():
		return nil
	case <-c.ended:
		return net.ErrClosed
	}
}

// Read implements net.Conn. What came while the way was cut, the end of the connection
// too, is told when it is healed.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if cut := c.pass(); cut != nil {
		return 0, cut
	}
	return n, err
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	if err := c.pass(); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// CloseWrite says that nothing more is sent.
func (c *conn) CloseWrite() error {
	if err := c.pass(); err != nil {
		return err
	}
	return c.Conn.(*net.TCPConn).CloseWrite()
}

// Close implements net.Conn. It waits for nothing; the other side hears of it at once,
// which is what an end of this process would tell it.
func (c *conn) Close() error {
	c.once.Do(func() { close(c.ended) })
	return c.Conn.Close()
}

var errDeadline = errors.New("a connection through a gate has no deadlines")

// SetDeadline implements net.Conn: it is refused.
func (c *conn) SetDeadline(time.Time) error { return errDeadline }

// SetReadDeadline implements net.Conn: it is refused.
func (c *conn) SetReadDeadline(time.Time) error { return errDeadline }

// SetWriteDeadline implements net.Conn: it is refused.
func (c *conn) SetWriteDeadline(time.Time) error { return errDeadline }
