package netns

import (
	"io"
	"net"
	"sync"
)

// Relay passes connections at an address on to another one, until the test ends: what
// listens on the loopback alone is reached from hosts that way.
func Relay(t interface {
	Test
	Cleanup(f func())
}, at, to string) {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{to: to, open: map[net.Conn]bool{}}
	r.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.work.Go(func() { r.pass(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		r.close()
		r.work.Wait()
	})
}

type relay struct {
	to   string
	work sync.WaitGroup

	mu     sync.Mutex
	closed bool
	open   map[net.Conn]bool
}

// keep notes a connection, so that the relay's end is its own; false: it has ended.
func (r *relay) keep(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[c] = true
	return !r.closed
}

func (r *relay) drop(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, c)
	_ = c.Close()
}

func (r *relay) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for c := range r.open {
		_ = c.Close()
	}
}

// pass passes on what comes on a connection, and what is answered.
func (r *relay) pass(c net.Conn) {
	defer r.drop(c)
	d, err := net.Dial("tcp", r.to)
	if err != nil {
		return
	}
	defer r.drop(d)
	if !r.keep(c) || !r.keep(d) {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(d, c)
		_ = d.(*net.TCPConn).CloseWrite()
	})
	_, _ = io.Copy(c, d)
	_ = c.Close() // nothing more is answered, and so nothing more is asked
	back.Wait()
}
