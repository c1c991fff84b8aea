// Package fault is the closed set of error kinds that reach a client, and the
// one table that turns a kind into an HTTP status. Every layer returns these;
// no layer matches on the text of an error.
package fault

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// Code names a kind of failure on the wire.
type Code string

// The codes of the HTTP API. A code that is not in the table below cannot be sent.
const (
	ValidationFailed   Code = "validation_failed"
	InvalidEnvelope    Code = "invalid_envelope" // sent as validation_failed with 422
	InvalidJSON        Code = "invalid_json"
	UnknownTable       Code = "unknown_table"
	UnknownColumn      Code = "unknown_column"
	UnknownField       Code = "unknown_field"
	TypeMismatch       Code = "type_mismatch"
	MissingColumn      Code = "missing_column"
	Unsupported        Code = "unsupported"
	Unauthorized       Code = "unauthorized"
	Forbidden          Code = "forbidden"
	QuotaExceeded      Code = "quota_exceeded"
	NotFound           Code = "not_found"
	MethodNotAllowed   Code = "method_not_allowed"
	Conflict           Code = "conflict"
	AlreadyExists      Code = "already_exists"
	FKViolation        Code = "fk_violation"
	CheckViolation     Code = "check_violation"
	UniqueViolation    Code = "unique_violation"
	VersionMismatch    Code = "version_mismatch"
	BodyTooLarge       Code = "body_too_large"
	RateLimited        Code = "rate_limited"
	Cancelled          Code = "cancelled"
	ServerError        Code = "server_error"
	Fenced             Code = "fenced"
	LeaseLost          Code = "lease_lost"
	NotReady           Code = "not_ready"
	Overloaded         Code = "overloaded"
	ReadOnly           Code = "read_only"
	ReplicationTimeout Code = "replication_timeout"
	LSNNotReached      Code = "lsn_not_reached"
)

// StatusCancelled is the status of a query that was ended on request.
const StatusCancelled = 499

var statuses = map[Code]int{
	ValidationFailed: http.StatusBadRequest, InvalidJSON: http.StatusBadRequest,
	UnknownTable: http.StatusBadRequest, UnknownColumn: http.StatusBadRequest,
	UnknownField: http.StatusBadRequest, TypeMismatch: http.StatusBadRequest,
	MissingColumn: http.StatusBadRequest, Unsupported: http.StatusBadRequest,
	InvalidEnvelope: http.StatusUnprocessableEntity,
	Unauthorized:    http.StatusUnauthorized, Forbidden: http.StatusForbidden,
	QuotaExceeded: http.StatusPaymentRequired,
	NotFound:      http.StatusNotFound, MethodNotAllowed: http.StatusMethodNotAllowed,
	Conflict: http.StatusConflict, AlreadyExists: http.StatusConflict,
	FKViolation: http.StatusConflict, CheckViolation: http.StatusConflict,
	UniqueViolation: http.StatusConflict, VersionMismatch: http.StatusConflict,
	BodyTooLarge: http.StatusRequestEntityTooLarge,
	RateLimited:  http.StatusTooManyRequests, Cancelled: StatusCancelled,
	ServerError: http.StatusInternalServerError,
	Fenced:      http.StatusServiceUnavailable, LeaseLost: http.StatusServiceUnavailable,
	NotReady: http.StatusServiceUnavailable, Overloaded: http.StatusServiceUnavailable,
	ReadOnly: http.StatusServiceUnavailable, ReplicationTimeout: http.StatusServiceUnavailable,
	LSNNotReached: http.StatusServiceUnavailable,
}

// Status returns the HTTP status of a code; an unknown code is 500.
func Status(c Code) int {
	if s, ok := statuses[c]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// Wire returns the code as clients see it: an envelope fault is told apart from
// a row fault by its status alone.
func (c Code) Wire() Code {
	if c == InvalidEnvelope {
		return ValidationFailed
	}
	return c
}

// Error is a failure a client can act on: what happened, to what, what to do now.
type Error struct {
	Code    Code
	Message string
	// Fields are the typed extras of the envelope, such as current_version.
	Fields map[string]any
	// Retry says that the same request may succeed when sent again.
	Retry bool
	// RetryAfter is sent as Retry-After (429 and 503); 0 lets the server choose.
	RetryAfter time.Duration
	// Err is the cause. It is logged, never sent.
	Err error
}

// New makes an Error; the message says what happened and what to do.
func New(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Error implements error.
func (e *Error) Error() string {
	if e.Err != nil {
		return string(e.Code) + ": " + e.Message + ": " + e.Err.Error()
	}
	return string(e.Code) + ": " + e.Message
}

// Unwrap gives the cause to errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Err }

// With returns a copy that carries one more typed field.
func (e *Error) With(key string, value any) *Error {
	c := *e
	c.Fields = make(map[string]any, len(e.Fields)+1)
	for k, v := range e.Fields {
		c.Fields[k] = v
	}
	c.Fields[key] = value
	return &c
}

// WithRetry returns a copy that tells the client to try again.
func (e *Error) WithRetry() *Error {
	c := *e
	c.Retry = true
	return &c
}

// Wrap returns a copy with its cause.
func (e *Error) Wrap(err error) *Error {
	c := *e
	c.Err = err
	return &c
}

// From finds the client's view of any error: an Error in its chain, a
// cancelled context as cancelled, anything else as server_error whose cause
// stays in the log.
func From(err error) *Error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	if errors.Is(err, context.Canceled) {
		return New(Cancelled, "the request was cancelled before it was decided").Wrap(err)
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return New(Cancelled, "the request ran out of time; narrow the query or raise its deadline").Wrap(err)
	}
	return New(ServerError, "internal error; the cause is in the server's log under this request id").Wrap(err)
}

// CodeOf returns the code of From(err), or "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	return From(err).Code
}

// Corruption is data on disk that is not what was written: which file, where,
// what was expected and what stands there. Nothing is repaired in silence.
type Corruption struct {
	File   string
	Offset int64
	What   string
	Want   string
	Got    string
	// Remedy is what the operator does now, as a command where there is one.
	Remedy string
}

// Error implements error.
func (c *Corruption) Error() string {
	s := fmt.Sprintf("corruption in %s at offset %d: %s: want %s, got %s", c.File, c.Offset, c.What, c.Want, c.Got)
	if c.Remedy != "" {
		s += "; " + c.Remedy
	}
	return s
}
