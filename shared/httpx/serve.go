package httpx

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/time/rate"
)

// Limits bound the connections of a listener. The zero value of a field takes its default.
type Limits struct {
	// MaxConnections is how many connections are served. A few more (spareConnections)
	// are taken in and get answers from Public routes only; beyond those a
	// connection is closed at once. Accepting is never put off: a health check
	// must not wait in the backlog behind a flood.
	MaxConnections int
	// ReadHeaderTimeout is the longest wait for a whole request header.
	ReadHeaderTimeout time.Duration
	// IdleTimeout is how long a connection may stay without a request.
	IdleTimeout time.Duration
	// MaxHeaderBytes bounds a request header.
	MaxHeaderBytes int
	// DrainTimeout is how long requests in flight may go on after the context ends.
	DrainTimeout time.Duration
}

// spareConnections is how many connections over MaxConnections still reach the Public routes.
const spareConnections = 64

func (l Limits) withDefaults() Limits {
	if l.MaxConnections == 0 {
		l.MaxConnections = 16384
	}
	if l.ReadHeaderTimeout == 0 {
		l.ReadHeaderTimeout = 10 * time.Second
	}
	if l.IdleTimeout == 0 {
		l.IdleTimeout = 2 * time.Minute
	}
	if l.MaxHeaderBytes == 0 {
		l.MaxHeaderBytes = 64 << 10
	}
	if l.DrainTimeout == 0 {
		l.DrainTimeout = 20 * time.Second
	}
	return l
}

// ErrCutOff says that requests were still in flight at the end of the drain
// time and were cut off.
var ErrCutOff = errors.New("requests were still in flight at the end of the drain time and were cut off")

// cutOffGrace is how long handlers whose context has ended get to answer so.
const cutOffGrace = 2 * time.Second

// Serve answers the connections of ln with h until ctx ends, then stops
// accepting and waits DrainTimeout for the requests in flight. Those still
// there have their context ended, then their connection closed: ErrCutOff.
// tlsConfig nil means plain HTTP/1.1; with it HTTP/2 is offered by ALPN. Serve
// closes ln, and returns when no handler runs any more, so that what handlers
// use may be closed after it.
func Serve(ctx context.Context, ln net.Listener, h http.Handler, tlsConfig *tls.Config, limits Limits, logger *logrus.Logger) error {
	limits = limits.withDefaults()
	counted := &limitListener{Listener: ln, soft: int64(limits.MaxConnections), hard: int64(limits.MaxConnections) + spareConnections}
	base, cutOff := context.WithCancel(context.WithoutCancel(ctx))
	defer cutOff()
	handlers := &gate{next: h}
	errorLog := log.New(&serverLog{log: logger, bucket: rate.NewLimiter(5, 20)}, "", 0)
	var accepting net.Listener = owning{counted}
	if tlsConfig != nil {
		tlsConfig = offerHTTP2(tlsConfig)
		accepting = secure(counted, tlsConfig, limits.ReadHeaderTimeout, errorLog)
		tlsConfig = tlsConfig.Clone() // net/http completes its own
	}
	srv := &http.Server{
		Handler:           handlers,
		TLSConfig:         tlsConfig,
		ReadHeaderTimeout: limits.ReadHeaderTimeout,
		IdleTimeout:       limits.IdleTimeout,
		MaxHeaderBytes:    limits.MaxHeaderBytes,
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnContext:       withConnection,
		ConnState:         betweenRequests,
		ErrorLog:          errorLog,
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(accepting) }()
	select {
	case err := <-served:
		cutOff()
		err = errors.Join(fmt.Errorf("serve %s: %w", ln.Addr(), err), srv.Close())
		handlers.close()
		return err
	case <-ctx.Done():
	}
	err := drain(srv, limits.DrainTimeout, cutOff)
	handlers.close()
	if stop := <-served; !errors.Is(stop, http.ErrServerClosed) {
		err = errors.Join(err, stop)
	}
	return err
}

// drain stops a server: in peace within timeout, else by force.
func drain(srv *http.Server, timeout time.Duration, cutOff context.CancelFunc) error {
	if shutdown(srv, timeout) == nil {
		return nil
	}
	cutOff()
	if shutdown(srv, cutOffGrace) == nil {
		return ErrCutOff
	}
	return errors.Join(ErrCutOff, srv.Close())
}

func shutdown(srv *http.Server, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return srv.Shutdown(ctx)
}

// gate lets Serve wait for handlers: closing connections ends them, net/http
// does not wait for them to have ended. A sync.WaitGroup would not do, since
// requests may still come while it is waited for.
type gate struct {
	next    http.Handler
	running sync.RWMutex
}

// ServeHTTP implements http.Handler.
func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !g.running.TryRLock() { // being closed
		panic(http.ErrAbortHandler)
	}
	defer g.running.RUnlock()
	markHandled(r)
	g.next.ServeHTTP(w, r)
}

// close waits for the handlers that run and lets no other start, for good.
func (g *gate) close() { g.running.Lock() }

// connKey is the context key of a request's *limitedConn.
type connKey struct{}

// limitListener counts the connections that are open.
type limitListener struct {
	net.Listener
	soft, hard int64
	open       atomic.Int64
}

// limitedConn is a counted connection.
type limitedConn struct {
	net.Conn
	listener *limitListener
	// over says that it is one of the spare ones.
	over   bool
	closed atomic.Bool
	// handled says that a handler stands behind what is written.
	handled atomic.Bool
}

// Accept implements net.Listener.
func (l *limitListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		n := l.open.Add(1)
		if n > l.hard {
			l.open.Add(-1)
			_ = c.Close() // nothing was promised to it
			continue
		}
		return &limitedConn{Conn: c, listener: l, over: n > l.soft}, nil
	}
}

// Close implements net.Conn.
func (c *limitedConn) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		c.listener.open.Add(-1)
	}
	return c.Conn.Close()
}

// serverLog takes what net/http has to say (failed handshakes, accept errors)
// into the log, at a bounded rate: strangers cause most of it.
type serverLog struct {
	log    *logrus.Logger
	bucket *rate.Limiter
}

// Write implements io.Writer; net/http writes one message per call.
func (w *serverLog) Write(p []byte) (int, error) {
	if w.bucket.Allow() {
		w.log.WithField("detail", string(bytes.TrimSpace(p))).Warn("http server")
	}
	return len(p), nil
}
