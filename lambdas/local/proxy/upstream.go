package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptrace"
	"sync"
	"time"
)

// Bounds of the connections to one writer.
const (
	dialTimeout            = 2 * time.Second
	tlsTimeout             = 5 * time.Second
	idleUpstreamTimeout    = 90 * time.Second // below a writer's own, so that it is seldom the one to close
	maxIdleUpstream        = 256
	expectContinueTimeout  = time.Second
	maxAnswerHeaderBytes   = 256 << 10
	upstreamKeepAlive      = 15 * time.Second
	upstreamReadBufferSize = 16 << 10
)

// newTransport is the pool of connections to one writer: it ends with that writer's
// epoch, so that no request goes to a writer of the past over an old connection.
func newTransport(cfg Config) *http.Transport {
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, dialTimeout)
			defer cancel()
			c, err := cfg.Dial(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &watchedConn{Conn: c}, nil
		},
		TLSClientConfig: cfg.TLS, TLSHandshakeTimeout: tlsTimeout,
		DisableCompression: true, // bytes go through as they are
		MaxIdleConns:       maxIdleUpstream, MaxIdleConnsPerHost: maxIdleUpstream, IdleConnTimeout: idleUpstreamTimeout,
		ExpectContinueTimeout: expectContinueTimeout, MaxResponseHeaderBytes: maxAnswerHeaderBytes,
		ReadBufferSize: upstreamReadBufferSize,
	}
}

// watchedConn tells whether a request was written to it.
type watchedConn struct {
	net.Conn
	mu     sync.Mutex
	writes uint64
	sealed bool
	// closed is told that the connection has ended; nil between requests.
	closed func()
}

// Close implements net.Conn.
func (c *watchedConn) Close() error {
	err := c.Conn.Close()
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if closed != nil {
		closed()
	}
	return err
}

func (c *watchedConn) tell(closed func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = closed
}

var errSealed = errors.New("the request on this connection was given up before it was sent")

// Write implements net.Conn. A write counts before it is tried: part of it may arrive.
func (c *watchedConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	if c.sealed {
		c.mu.Unlock()
		return 0, errSealed
	}
	c.writes++
	c.mu.Unlock()
	return c.Conn.Write(p)
}

// seal lets nothing more be written, and says whether something was since mark: without
// it "nothing was sent" could be overtaken by a write that is under way.
func (c *watchedConn) seal(mark uint64) (sent bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sealed = true
	return c.writes != mark
}

func (c *watchedConn) mark() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes
}

// sending watches the connections that one attempt gets. The transport may take
// another when an idle one turns out to be closed.
type sending struct {
	// closed is told when the connection that has the request ends: the transport waits
	// for whoever reads the body of a request, and the client may be silent.
	closed func()

	mu    sync.Mutex
	conn  *watchedConn
	mark  uint64
	sent  bool
	other bool // a connection that is not watched: taken for sent
	ended bool
}

func (s *sending) trace() *httptrace.ClientTrace { return &httptrace.ClientTrace{GotConn: s.got} }

func (s *sending) got(info httptrace.GotConnInfo) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.sent = s.conn.seal(s.mark) || s.sent
	}
	c := info.Conn
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	w, ok := c.(*watchedConn)
	if !ok {
		s.other = true
		return
	}
	if s.conn != nil {
		s.conn.tell(nil)
	}
	s.conn, s.mark = w, w.mark()
	if s.ended {
		w.seal(s.mark)
		return
	}
	w.tell(s.closed)
}

// leave lets go of the connection: it may serve other requests.
func (s *sending) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn != nil {
		s.conn.tell(nil)
	}
}

// end says whether anything of a failed attempt was sent; nothing is from then on.
func (s *sending) end() (sent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	if s.conn != nil {
		s.sent = s.conn.seal(s.mark) || s.sent
	}
	return s.sent || s.other
}
