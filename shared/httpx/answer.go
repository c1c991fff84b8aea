package httpx

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"time"

	"originchain/shared/api"
	"originchain/shared/fault"
	"originchain/shared/telemetry"
)

// defaultRetryAfter is what a 429 or 503 asks for when its fault names no time.
const defaultRetryAfter = time.Second

// fail sends the envelope of err. It is the one place where an error turns into
// an answer, and where its cause is logged.
func (c *Call) fail(err error) {
	f := fault.From(err)
	// A request that the node ended is not one that its client ended: the context's
	// cause says why, if it says anything.
	var cause *fault.Error
	if f.Code == fault.Cancelled && errors.As(context.Cause(c.Context()), &cause) {
		f = inDoubtAs(cause, f).Wrap(err)
	}
	status := fault.Status(f.Code)
	if status >= http.StatusInternalServerError {
		c.server.logFailure(c, f)
	}
	if c.x.begun() {
		// Half an answer is out. Cutting the connection is the one way left to
		// say that it is not whole.
		panic(http.ErrAbortHandler)
	}
	h := c.x.Header()
	if status == http.StatusUnauthorized {
		h["Www-Authenticate"] = []string{`Bearer realm="originchain"`}
	}
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		h[api.HeaderRetryAfter] = []string{strconv.FormatInt(retryAfterSeconds(f.RetryAfter), 10)}
	}
	c.held = nil
	c.x.routed = true
	c.x.status = 0
	c.send(status, api.ContentTypeJSON, c.envelope(f))
}

// inDoubtAs is f, with the outcome that the fault it replaces has left open: without one
// a 503 says that nothing was written, and whoever reads it may send the request again.
func inDoubtAs(f, replaced *fault.Error) *fault.Error {
	if outcome, ok := replaced.Fields[fieldOutcome]; ok {
		return f.With(fieldOutcome, outcome)
	}
	return f
}

// retryAfterSeconds is d in whole seconds, at least 1: a header of 0 would make
// a client hammer.
func retryAfterSeconds(d time.Duration) int64 {
	if d <= 0 {
		d = defaultRetryAfter
	}
	return max(1, int64(math.Ceil(d.Seconds())))
}

// envelope is the body of an error: four fixed fields, then the typed ones in
// order of their names.
func (c *Call) envelope(f *fault.Error) []byte {
	b := make([]byte, 0, 256)
	b = append(b, `{"error":`...)
	b = appendJSON(b, string(f.Code.Wire()))
	b = append(b, `,"message":`...)
	b = appendJSON(b, telemetry.Redact(f.Message))
	b = append(b, `,"request_id":`...)
	b = appendJSON(b, c.Info.ID)
	b = append(b, `,"retry":`...)
	b = strconv.AppendBool(b, f.Retry || f.Code == fault.RateLimited)
	for _, name := range c.fieldNames(f) {
		b = append(b, ',')
		b = appendJSON(b, name)
		b = append(b, ':')
		b = appendJSON(b, c.fieldValue(f, name))
	}
	return append(b, '}')
}

// fieldNames lists the typed fields of f. The fixed four cannot be replaced.
func (c *Call) fieldNames(f *fault.Error) []string {
	names := make([]string, 0, len(f.Fields)+1)
	for name := range f.Fields {
		if !slices.Contains(fixedFields, name) {
			names = append(names, name)
		}
	}
	switch {
	case f.Code == fault.ServerError && !slices.Contains(names, fieldTraceID):
		names = append(names, fieldTraceID)
	case f.Code == fault.RateLimited && !slices.Contains(names, fieldRetryAfter):
		names = append(names, fieldRetryAfter)
	}
	slices.Sort(names)
	return names
}

const (
	fieldTraceID    = "trace_id"
	fieldOutcome    = "outcome"
	fieldRetryAfter = "retry_after_seconds"
)

var fixedFields = []string{"error", "message", "request_id", "retry"}

// fieldValue is the value of a typed field, those the transport fills in included.
func (c *Call) fieldValue(f *fault.Error, name string) any {
	if v, ok := f.Fields[name]; ok {
		if s, ok := v.(string); ok {
			return telemetry.Redact(s)
		}
		return v
	}
	if name == fieldTraceID {
		return c.Info.Trace.TraceID()
	}
	return retryAfterSeconds(f.RetryAfter)
}

// appendJSON appends v as JSON; a value that cannot be encoded becomes null,
// because an error must reach the client whatever it carries.
func appendJSON(b []byte, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		return append(b, "null"...)
	}
	return append(b, text...)
}
