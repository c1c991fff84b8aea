package httpx

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"originchain/shared/api"
	"originchain/shared/fault"
	"originchain/shared/telemetry"
)

// What net/http cannot read as a request (a header that is too large or
// malformed, no Host, another version) never reaches a handler: it answers in
// plain text, written straight to the connection, and closes it. Those answers
// have no hook, so they are replaced on their way out, above TLS: a write that
// no handler stands behind and that begins as an error answer is the server's
// own. Nothing a handler sends is looked at.
//
// HTTP/2 has its own framing, which no such replacement could be made in. There
// a header list that is too large is 431 and a malformed field 400 without the
// envelope, and worse requests end the stream or the connection.

// ownConn is an HTTP/1 connection whose refusals are envelopes. Its writer is
// one goroutine at a time, as net/http has it.
type ownConn struct {
	net.Conn
	state *limitedConn
}

// ownTLSConn is an ownConn over TLS. net/http fills in Request.TLS from ConnectionState.
type ownTLSConn struct {
	ownConn
	tls *tls.Conn
}

// ConnectionState tells net/http what the handshake led to.
func (c *ownTLSConn) ConnectionState() tls.ConnectionState { return c.tls.ConnectionState() }

// CloseWrite ends the answer with TLS's close_notify, as net/http asks for
// before it waits for the client to go.
func (c *ownTLSConn) CloseWrite() error { return c.tls.CloseWrite() }

// Write implements net.Conn.
func (c *ownConn) Write(p []byte) (int, error) {
	if c.state.handled.Load() {
		return c.Conn.Write(p)
	}
	answer, ok := refusal(p)
	if !ok {
		return c.Conn.Write(p)
	}
	if _, err := c.Conn.Write(answer); err != nil {
		return 0, err
	}
	return len(p), nil
}

// owning hands out connections whose refusals are envelopes; their listener is a limitListener.
type owning struct{ net.Listener }

// Accept implements net.Listener.
func (l owning) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &ownConn{Conn: c, state: c.(*limitedConn)}, nil
}

// withConnection lets a request see the connection it came over.
func withConnection(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, stateOf(c))
}

// stateOf finds what is known of a connection, whatever it is wrapped in.
func stateOf(c net.Conn) *limitedConn {
	switch c := c.(type) {
	case *ownConn:
		return c.state
	case *ownTLSConn:
		return c.state
	case *tls.Conn: // HTTP/2
		return c.NetConn().(*limitedConn)
	}
	return c.(*limitedConn)
}

// markHandled says that a handler stands behind what is written from now on.
func markHandled(r *http.Request) {
	if c, ok := r.Context().Value(connKey{}).(*limitedConn); ok {
		c.handled.Store(true)
	}
}

// betweenRequests takes the mark away when an answer is out and the next
// request is awaited. It is the server's ConnState hook.
func betweenRequests(c net.Conn, s http.ConnState) {
	if s == http.StateIdle {
		stateOf(c).handled.Store(false)
	}
}

// statusEnd is how much of an answer holds its status: "HTTP/1.1 400".
const statusEnd = 12

// refusal makes the envelope of an error answer of net/http; ok is false for
// anything else. The text that net/http gives is one of its own constants and
// holds nothing of the request.
func refusal(p []byte) (answer []byte, ok bool) {
	if len(p) < statusEnd || !bytes.HasPrefix(p, []byte("HTTP/1.")) {
		return nil, false
	}
	status, err := strconv.Atoi(string(p[statusEnd-3 : statusEnd]))
	if err != nil || status < http.StatusBadRequest {
		return nil, false
	}
	_, text, _ := bytes.Cut(p, []byte("\r\n\r\n"))
	_, detail, _ := strings.Cut(string(text), ": ")
	return refusalAnswer(status, refusalFault(status, detail)), true
}

// refusalFault says what to do about a request that could not be read.
func refusalFault(status int, detail string) *fault.Error {
	switch status {
	case http.StatusRequestHeaderFieldsTooLarge:
		return fault.New(fault.ValidationFailed, "the header of the request is larger than this server takes; send fewer or shorter fields")
	case http.StatusNotImplemented:
		return fault.New(fault.Unsupported, "the transfer encoding of the request is not supported; send the body with Content-Length, or chunked")
	case http.StatusExpectationFailed:
		return fault.New(fault.Unsupported, "the expectation of the request is not supported; send Expect: 100-continue or none")
	case http.StatusHTTPVersionNotSupported:
		return fault.New(fault.Unsupported, "the version of HTTP is not supported; use HTTP/1.1, or HTTP/2 over TLS")
	}
	if detail == "" {
		detail = "its request line or a header field is malformed"
	}
	return fault.New(fault.ValidationFailed, "the request is not valid HTTP: %s; correct it, and check that nothing between client and server changes it", detail)
}

// refusalAnswer is a whole answer, after which the connection is closed.
func refusalAnswer(status int, f *fault.Error) []byte {
	c := &Call{Info: telemetry.Request{ID: telemetry.NewRequestID()}}
	body := c.envelope(f)
	head := fmt.Sprintf("HTTP/1.1 %d %s\r\nConnection: close\r\nContent-Length: %d\r\nContent-Type: %s\r\nDate: %s\r\n%s: %s\r\n\r\n",
		status, http.StatusText(status), len(body), api.ContentTypeJSON, time.Now().UTC().Format(http.TimeFormat), canonicalRequestID, c.Info.ID)
	return append([]byte(head), body...)
}
