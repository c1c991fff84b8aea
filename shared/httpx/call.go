package httpx

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"sync"

	"github.com/oklog/ulid/v2"

	"originchain/shared/api"
	"originchain/shared/fault"
	"originchain/shared/lsn"
	"originchain/shared/telemetry"
	"originchain/shared/tenant"
)

// Call is one request on its way through a handler. It belongs to the goroutine
// that runs the handler and ends with it.
type Call struct {
	Request *http.Request
	// Info names the request to logs and answers.
	Info telemetry.Request
	// Identity is who calls; zero on Public and Admin routes.
	Identity tenant.Identity

	server  *Server
	route   *route
	ctx     context.Context
	query   url.Values
	x       exchange
	idValue [1]string
	// bodyRead says that the body was read to its end.
	bodyRead bool
	// charged is how many bytes of the body budget this call holds.
	charged int64
	// object is what a privileged action was done to, for the audit line.
	object string
	// decided says that the answer stands, whatever happens to the node meanwhile.
	decided bool
	// held is the answer of an audited route, kept until its audit line is durable.
	held *heldAnswer
}

// heldAnswer is an answer that may not be sent yet.
type heldAnswer struct {
	status      int
	contentType string
	body        []byte
}

// Context is done when the client goes away or the server gives up draining.
// It carries Info.
func (c *Call) Context() context.Context {
	if c.ctx == nil {
		c.ctx = telemetry.WithRequest(c.Request.Context(), &c.Info)
	}
	return c.ctx
}

// Path returns a path parameter of the route's pattern, unescaped.
func (c *Call) Path(name string) string { return c.Request.PathValue(name) }

// Query returns the first value of a query parameter, or "".
func (c *Call) Query(name string) string {
	if c.Request.URL.RawQuery == "" {
		return ""
	}
	if c.query == nil {
		c.query = c.Request.URL.Query()
	}
	return c.query.Get(name)
}

// RequestHeader returns the first value of a header of the request, or "".
func (c *Call) RequestHeader(name string) string { return c.Request.Header.Get(name) }

// ResponseHeader is the header of the answer; set before the first byte of it.
func (c *Call) ResponseHeader() http.Header { return c.x.Header() }

// SetPosition names in the answer where in the log it stands.
func (c *Call) SetPosition(p lsn.Pos) {
	h := c.x.Header()
	h[canonicalLSN] = []string{strconv.FormatUint(uint64(p.LSN), 10)}
	h[canonicalEpoch] = []string{strconv.FormatUint(uint64(p.Epoch), 10)}
}

// Decided says that the answer was decided while the node could: it is of a commit
// that was acknowledged.
func (c *Call) Decided() { c.decided = true }

// mayAnswer asks whether what was read may be given out as the newest. Refusals
// are answers too: a 404 and a 409 say what is not there. What a node answers of
// itself (5xx) is not asked about.
func (c *Call) mayAnswer(status int) error {
	may := c.server.deps.MayAnswer
	if may == nil || c.decided || status >= http.StatusInternalServerError || c.route == nil || c.route.Scope != Tenant {
		return nil
	}
	err := may()
	var f *fault.Error
	if errors.As(err, &f) && c.Request.Method != http.MethodGet && status < http.StatusBadRequest {
		return f.With(fieldOutcome, "unknown") // it may have changed something all the same
	}
	return err
}

// SetQueryID names the query in the answer's header, before its body, and in logs.
func (c *Call) SetQueryID(id ulid.ULID) {
	c.Info.QueryID = id.String()
	c.x.Header()[canonicalQueryID] = []string{c.Info.QueryID}
}

// SetObject says what a privileged action is done to, such as "tenant/01J…".
// The audit line of the route carries it. Never a secret.
func (c *Call) SetObject(object string) { c.object = object }

// encoders lends out buffers for answers; a buffer that grew beyond
// maxPooledBytes is left to the collector, so that one large answer does not
// pin its memory for good.
var encoders = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const maxPooledBytes = 64 << 10

// JSON sends v as the whole answer.
func (c *Call) JSON(status int, v any) error {
	buf := encoders.Get().(*bytes.Buffer)
	buf.Reset()
	defer func() {
		if buf.Cap() <= maxPooledBytes {
			encoders.Put(buf)
		}
	}()
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encode the answer of %s: %w", c.route.Name, err)
	}
	return c.Send(status, api.ContentTypeJSON, buf.Bytes())
}

// Send sends body as the whole answer. It does not keep body. A client that
// went away is not an error: there is nobody left to tell.
func (c *Call) Send(status int, contentType string, body []byte) error {
	if c.route != nil && c.route.Audit != "" {
		c.held = &heldAnswer{status: status, contentType: contentType, body: bytes.Clone(body)}
		return nil
	}
	if err := c.mayAnswer(status); err != nil {
		return err
	}
	c.send(status, contentType, body)
	return nil
}

// send writes an answer to the connection.
func (c *Call) send(status int, contentType string, body []byte) {
	h := c.x.Header()
	h[canonicalContentType] = contentTypeValue(contentType)
	h[canonicalContentLength] = []string{strconv.Itoa(len(body))}
	c.x.whole = true
	c.x.WriteHeader(status)
	_, _ = c.x.Write(body) // the client is gone; its handler has nothing left to undo
}

// Writer is the answer as a stream, for what does not fit Send: a long result,
// a handler of another package. Errors after its first byte cut the connection,
// so that a client never takes half an answer for a whole one.
func (c *Call) Writer() http.ResponseWriter { return &c.x }

// Body reads the whole body. The slice is the caller's own: it may outlive the
// call. A body over the route's limit is body_too_large.
func (c *Call) Body() ([]byte, error) { return c.readBody(nil) }

// Stream is the body of a Streaming route. A read waits at most the server's
// body timeout for the next bytes.
func (c *Call) Stream() io.Reader { return &streamBody{call: c} }
