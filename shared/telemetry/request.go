package telemetry

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"
)

// RequestIDLen is the length of a request id: 28 lower-case hex digits.
const RequestIDLen = 28

// Request is what a log line, an audit line and an error answer say about the
// call they belong to. The transport makes one per call and owns it: fields are
// set before the handler starts work in other goroutines, and only read after.
type Request struct {
	// ID is 28 lower-case hex digits, made by this server.
	ID string
	// Trace is the caller's traceparent, or one begun here.
	Trace Trace
	// Tenant is the ULID text of the tenant, "" before authentication and on
	// routes without one.
	Tenant string
	// Actor names who calls, by token id; never the token.
	Actor string
	// QueryID is the ULID text under which a query can be cancelled, or "".
	QueryID string
	// LogicalID is the caller's own id of the operation over all its attempts, or "".
	LogicalID string
}

// requestKey is the context key of a *Request.
type requestKey struct{}

// WithRequest returns a context that carries r.
func WithRequest(ctx context.Context, r *Request) context.Context {
	return context.WithValue(ctx, requestKey{}, r)
}

// RequestFrom returns the request ctx works for. Work without a request (a
// background job) gets an empty one, so that callers need no nil check.
func RequestFrom(ctx context.Context) *Request {
	if r, ok := ctx.Value(requestKey{}).(*Request); ok {
		return r
	}
	return &Request{}
}

// NewRequestID makes a request id. It names a call and guards nothing, so it
// comes from the runtime's generator: crypto/rand would buy nothing here.
func NewRequestID() string {
	var raw [16]byte
	binary.BigEndian.PutUint64(raw[:8], rand.Uint64())
	binary.BigEndian.PutUint64(raw[8:], rand.Uint64())
	var text [RequestIDLen]byte
	hex.Encode(text[:], raw[:RequestIDLen/2])
	return string(text[:])
}
