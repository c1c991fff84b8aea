package httpx

import (
	"context"
	"crypto/tls"
	"errors"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"originchain/shared/fault"
)

// alpn is what is offered where the configuration says nothing: HTTP/2 first.
var alpn = []string{"h2", "http/1.1"}

// secured is a listener that takes connections through their TLS handshake, each
// in a goroutine of its own, before it hands them out. net/http would do it by
// itself, but then what is written above TLS could not be seen.
type secured struct {
	net.Listener // a limitListener
	config       *tls.Config
	// timeout bounds a handshake.
	timeout time.Duration
	log     *log.Logger
	accepts chan accepted
	// ctx ends with the listener, and the handshakes with it.
	ctx   context.Context
	end   context.CancelFunc
	group sync.WaitGroup
}

// accepted is what Accept returns.
type accepted struct {
	conn net.Conn
	err  error
}

// secure starts the handshakes of a listener; Close ends and joins them.
func secure(ln net.Listener, config *tls.Config, timeout time.Duration, log *log.Logger) *secured {
	l := &secured{Listener: ln, config: config, timeout: timeout, log: log, accepts: make(chan accepted)}
	l.ctx, l.end = context.WithCancel(context.Background())
	l.group.Go(l.run)
	return l
}

// offerHTTP2 returns a copy of a configuration that names the protocols.
func offerHTTP2(config *tls.Config) *tls.Config {
	config = config.Clone()
	for _, proto := range alpn {
		if !slices.Contains(config.NextProtos, proto) {
			config.NextProtos = append(config.NextProtos, proto)
		}
	}
	return config
}

// run accepts connections until the listener is closed. An error waits for
// Accept like a connection does, so that net/http decides how long to rest.
func (l *secured) run() {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			if !l.deliver(accepted{err: err}) {
				return
			}
			continue
		}
		l.group.Go(func() { l.handshake(c) })
	}
}

// deliver hands something to Accept; false means that nobody will take it.
func (l *secured) deliver(a accepted) bool {
	select {
	case l.accepts <- a:
		return true
	case <-l.ctx.Done():
		return false
	}
}

// handshake makes a connection ready for net/http: HTTP/2 as it asks for it, a
// *tls.Conn, HTTP/1 in a wrapper above TLS.
func (l *secured) handshake(c net.Conn) {
	ctx, cancel := context.WithTimeout(l.ctx, l.timeout)
	defer cancel()
	t := tls.Server(c, l.config)
	if err := t.HandshakeContext(ctx); err != nil {
		l.refuse(c, err)
		_ = c.Close() // nothing was promised to it
		return
	}
	ready := net.Conn(t)
	if t.ConnectionState().NegotiatedProtocol != alpn[0] {
		ready = &ownTLSConn{ownConn: ownConn{Conn: t, state: c.(*limitedConn)}, tls: t}
	}
	if !l.deliver(accepted{conn: ready}) {
		_ = c.Close() // the listener is closed
	}
}

// refuse logs a handshake that failed. Somebody who does not speak TLS is told so.
func (l *secured) refuse(c net.Conn, err error) {
	if l.ctx.Err() != nil {
		return
	}
	reason := err.Error()
	var record tls.RecordHeaderError
	if errors.As(err, &record) && record.Conn != nil && looksLikeHTTP(record.RecordHeader) {
		reason = "the client sent an HTTP request to a TLS port"
		_ = c.SetWriteDeadline(time.Now().Add(l.timeout)) // where it cannot be set, the write fails or ends by itself
		_, _ = c.Write(refusalAnswer(http.StatusBadRequest, fault.New(fault.ValidationFailed, "this port speaks TLS and the request came in plain HTTP; use https://")))
	}
	l.log.Printf("TLS handshake with %s failed: %s", c.RemoteAddr(), reason)
}

// looksLikeHTTP knows the first bytes of a request in plain text.
func looksLikeHTTP(header [5]byte) bool {
	return slices.Contains([]string{"GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "PATCH", "DELET"}, string(header[:]))
}

// Accept implements net.Listener.
func (l *secured) Accept() (net.Conn, error) {
	select {
	case a := <-l.accepts:
		return a.conn, a.err
	case <-l.ctx.Done():
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener; it waits for the handshakes, which it ends.
func (l *secured) Close() error {
	l.end()
	err := l.Listener.Close()
	l.group.Wait()
	return err
}
