package httpx

import (
	"net/http"

	"originchain/shared/api"
)

// Header names as net/http keeps them, so that the fast path writes the header
// map without canonicalising a name per request.
var (
	canonicalRequestID     = http.CanonicalHeaderKey(api.HeaderRequestID)
	canonicalQueryID       = http.CanonicalHeaderKey(api.HeaderQueryID)
	canonicalLSN           = http.CanonicalHeaderKey(api.HeaderLSN)
	canonicalEpoch         = http.CanonicalHeaderKey(api.HeaderEpoch)
	canonicalLogicalID     = http.CanonicalHeaderKey(api.HeaderLogicalRequestID)
	canonicalTraceparent   = http.CanonicalHeaderKey(api.HeaderTraceparent)
	canonicalContentType   = "Content-Type"
	canonicalContentLength = "Content-Length"

	jsonContentType = []string{api.ContentTypeJSON}
)

// contentTypeValue shares one slice for the usual type: net/http only reads it.
func contentTypeValue(contentType string) []string {
	if contentType == api.ContentTypeJSON {
		return jsonContentType
	}
	return []string{contentType}
}

// exchange is the answer as the router and the handlers see it. Until a route
// has taken the request, what the router itself says (404, 405, a redirect to a
// cleaned path) is recorded and not sent: those answers are envelopes too.
type exchange struct {
	http.ResponseWriter
	call *Call
	// routed says that a route has the request.
	routed bool
	// status is what was sent, or what the router wanted to send; 0 is neither.
	status int
	// deadlined says that this answer has a write deadline; sinceDeadline counts bytes under it.
	deadlined     bool
	sinceDeadline int
	// whole says that the answer is one piece.
	whole bool
	// sent counts the bytes of the body.
	sent int64
}

// WriteHeader implements http.ResponseWriter.
func (x *exchange) WriteHeader(status int) {
	if !x.routed {
		x.status = status
		return
	}
	if x.status == 0 || x.status < http.StatusOK {
		x.status = status
		x.ResponseWriter.WriteHeader(status)
	}
}

// Write implements http.ResponseWriter.
func (x *exchange) Write(p []byte) (int, error) {
	if !x.routed {
		return len(p), nil
	}
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	x.extendWrite(len(p))
	n, err := x.ResponseWriter.Write(p)
	x.sent += int64(n)
	x.restWrite()
	return n, err
}

// Unwrap lets http.ResponseController reach the connection.
func (x *exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// begun says that the status line is out and cannot be taken back.
func (x *exchange) begun() bool { return x.routed && x.status >= http.StatusOK }
