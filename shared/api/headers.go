// Package api is the wire: header names and the JSON shapes of every request
// and answer. Clients depend on each name here; none is ours to change.
//
// Numbers: u64 and i64 values, LSNs, epochs, versions, counts and sizes are
// JSON numbers with all their digits, never strings, also above 2^53: a client
// that reads them into a double loses digits, one that reads integers does not.
//
// Request types: a field without omitempty must be there; a field that no type
// names is refused.
package api

// Header names.
const (
	HeaderAuthorization  = "Authorization"
	HeaderIdempotencyKey = "Idempotency-Key"
	HeaderIfMatch        = "If-Match"
	HeaderETag           = "ETag"
	HeaderRetryAfter     = "Retry-After"
	HeaderTraceparent    = "traceparent"

	// HeaderMinLSN and HeaderMinEpoch ask a node to wait until it has that point of the log.
	HeaderMinLSN   = "X-OC-Min-LSN"
	HeaderMinEpoch = "X-OC-Min-Epoch"
	// HeaderTx is the transaction a call belongs to.
	HeaderTx = "X-OC-Tx"
	// HeaderLogicalRequestID is the caller's id of an operation over all its attempts.
	HeaderLogicalRequestID = "X-OC-Logical-Request-Id"
	// HeaderAttempt counts the attempts of a logical request, from 1.
	HeaderAttempt = "X-OC-Attempt"

	// HeaderRequestID is on every answer: 28 lower-case hex digits.
	HeaderRequestID = "X-OC-Request-Id"
	// HeaderQueryID is the ULID that cancels the query; it is sent before the body.
	HeaderQueryID = "X-OC-Query-Id"
	// HeaderLSN and HeaderEpoch say where in the log an answer stands.
	HeaderLSN   = "X-OC-LSN"
	HeaderEpoch = "X-OC-Epoch"
	// HeaderReplication is "degraded" on a write that fewer followers hold than asked for.
	HeaderReplication = "X-OC-Replication"
)

// ReplicationDegraded is the one value of HeaderReplication.
const ReplicationDegraded = "degraded"

// Content types.
const (
	ContentTypeJSON   = "application/json"
	ContentTypeNDJSON = "application/x-ndjson"
	ContentTypeText   = "text/plain; charset=utf-8"
)
