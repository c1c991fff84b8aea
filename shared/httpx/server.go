package httpx

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/time/rate"

	"originchain/shared/fault"
	"originchain/shared/telemetry"
	"originchain/shared/tenant"
)

// Config bounds what requests may hold. The zero value of a field takes its default.
type Config struct {
	// MaxInFlight is how many requests may be between header and end of answer; Public ones are not counted.
	MaxInFlight int
	// BodyMemoryBytes is what all bodies in memory may hold together.
	BodyMemoryBytes int64
	// BodyTimeout is the longest wait for the next bytes of a body.
	BodyTimeout time.Duration
	// WriteTimeout is the longest wait for the client to take the next piece of an answer.
	WriteTimeout time.Duration
	// SlowRequest is the time from which a request is logged at info.
	SlowRequest time.Duration
	// Unrouted is what a request that no route takes gets instead of not_found
	// and method_not_allowed: a node that is still opening its log knows no paths yet.
	Unrouted *fault.Error
}

// withDefaults fills in the fields that are zero.
func (c Config) withDefaults() Config {
	if c.MaxInFlight == 0 {
		c.MaxInFlight = 4096
	}
	if c.BodyMemoryBytes == 0 {
		c.BodyMemoryBytes = 256 << 20
	}
	if c.BodyTimeout == 0 {
		c.BodyTimeout = 30 * time.Second
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = 30 * time.Second
	}
	if c.SlowRequest == 0 {
		c.SlowRequest = time.Second
	}
	return c
}

// Authenticator turns a tenant's token into whom it stands for. A token that is
// not valid is fault.Unauthorized. It must not keep or log the token.
type Authenticator interface {
	Authenticate(ctx context.Context, token string) (tenant.Identity, error)
}

// Deps are what a Server works with. Auth may be nil where no route has scope
// Tenant or Admin, Admin too, Audit where none is audited.
type Deps struct {
	Log     *logrus.Logger
	Metrics *Metrics
	Auth    Authenticator
	// Unknown is asked when a tenant's token is not valid: an error says why the
	// node cannot know yet, and is answered in its place. May be nil.
	Unknown func(*Call) error
	// MayAnswer is asked before a tenant is answered with success, unless the call
	// was Decided: an error is answered in its place. May be nil.
	MayAnswer func() error
	Admin     *tenant.AdminToken
	Audit     *telemetry.Audit
}

// Server serves a list of routes. It is an http.Handler; connections are Serve's.
type Server struct {
	cfg       Config
	deps      Deps
	mux       *http.ServeMux
	unmatched series
	limits    *limiter
	denials   denialLimit
	bodyBytes atomic.Int64
	// interrupted ends, with its cause, the reads of bodies that are streamed.
	interrupted context.Context
	interrupt   context.CancelCauseFunc
}

// Interrupt ends every wait for more of a streamed body, now and later, with err: a
// client that holds one open would hold up whoever wants to end the requests.
func (s *Server) Interrupt(err error) { s.interrupt(err) }

// route is a Route with its series.
type route struct {
	Route
	series series
}

// New makes the server of a list of routes. A list that cannot be served (two
// rows that match the same requests, a row without handler or name) is an error.
func New(cfg Config, deps Deps, routes []Route) (*Server, error) {
	s := &Server{cfg: cfg.withDefaults(), deps: deps, mux: http.NewServeMux(), limits: newLimiter()}
	s.interrupted, s.interrupt = context.WithCancelCause(context.Background())
	s.denials.bucket = rate.NewLimiter(auditedDenialsPerSecond, auditedDenialsBurst)
	s.unmatched = series{metrics: deps.Metrics, route: "unmatched", method: "any"}
	names := make(map[string]bool, len(routes))
	for _, r := range routes {
		if r.Name == "" || r.Method == "" || r.Handler == nil || names[r.Name] {
			return nil, fmt.Errorf("route %q %s %s: needs a method, a handler and a name of its own", r.Name, r.Method, r.Pattern)
		}
		names[r.Name] = true
		if err := deps.check(&r); err != nil {
			return nil, err
		}
		if err := s.register(r); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// check says whether there is what the route needs.
func (d *Deps) check(r *Route) error {
	switch {
	case r.Scope != Public && d.Auth == nil, r.Scope == Admin && d.Admin == nil, r.Audit != "" && d.Audit == nil:
		return fmt.Errorf("route %q of scope %s: no authenticator, admin token or audit log to serve it with", r.Name, r.Scope)
	case r.Scope == Tenant && d.Admin == nil:
		return fmt.Errorf("route %q of scope %s: no admin token to tell from a tenant's", r.Name, r.Scope)
	case r.Scope == Admin && r.Method != http.MethodGet && r.Audit == "":
		return fmt.Errorf("route %q changes something in scope admin and names no action for the audit log", r.Name)
	}
	return nil
}

// register adds one route. ServeMux reports a conflict by panic.
func (s *Server) register(r Route) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("route %q: %v", r.Name, p)
		}
	}()
	rt := &route{Route: r, series: series{metrics: s.deps.Metrics, route: r.Name, method: r.Method}}
	s.mux.HandleFunc(r.Method+" "+r.Pattern, func(w http.ResponseWriter, _ *http.Request) {
		x := w.(*exchange) // ServeHTTP is the only caller of mux
		x.routed = true
		x.call.route = rt
		s.serve(x.call)
	})
	return nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	c := &Call{Request: r, server: s}
	c.x = exchange{ResponseWriter: w, call: c}
	c.begin()
	defer s.end(c, start)
	s.mux.ServeHTTP(&c.x, r)
	if !c.x.routed {
		c.failUnrouted()
	}
}

// begin names the request.
func (c *Call) begin() {
	c.Info.ID = telemetry.NewRequestID()
	h := c.Request.Header
	if v := h[canonicalTraceparent]; len(v) == 1 {
		c.Info.Trace, _ = telemetry.ParseTrace(v[0])
	}
	if !c.Info.Trace.Valid() {
		c.Info.Trace = telemetry.NewTrace()
	}
	if v := h[canonicalLogicalID]; len(v) == 1 && validLogicalID(v[0]) {
		c.Info.LogicalID = v[0]
	}
	c.idValue[0] = c.Info.ID
	c.x.ResponseWriter.Header()[canonicalRequestID] = c.idValue[:]
}

// maxLogicalIDBytes bounds a caller's id of an operation.
const maxLogicalIDBytes = 128

// validLogicalID accepts what is safe to keep as a key and to log.
func validLogicalID(s string) bool {
	if s == "" || len(s) > maxLogicalIDBytes {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// failUnrouted answers what no route took: the router's own verdict is 405 where
// the path exists under another method. Everything else, a path that is not in
// its clean form included, is not there.
func (c *Call) failUnrouted() {
	if c.server.cfg.Unrouted != nil {
		c.fail(c.server.cfg.Unrouted)
		return
	}
	if c.x.status == http.StatusMethodNotAllowed {
		c.fail(fault.New(fault.MethodNotAllowed, "%s is not a method of this path; it has %s", c.Request.Method, c.x.Header().Get("Allow")))
		return
	}
	h := c.x.Header()
	h.Del("Location")
	h.Del("X-Content-Type-Options")
	c.fail(fault.New(fault.NotFound, "there is no such path in this API; see docs/openapi.yaml for those there are"))
}

// serve takes a routed request through its checks to its handler.
func (s *Server) serve(c *Call) {
	if c.route.Scope != Public {
		if s.deps.Metrics.inFlight.Add(1) > int64(s.cfg.MaxInFlight) || overLimitConnection(c.Request) {
			s.deps.Metrics.overloaded.Inc()
			c.x.Header()["Connection"] = []string{"close"}
			c.fail(fault.New(fault.Overloaded, "this node has as many requests or connections as it takes; retry in a moment").WithRetry())
			return
		}
	}
	err := s.admit(c)
	if err == nil {
		err = c.checkLength()
	}
	if err == nil {
		if err = c.route.Handler(c); err != nil {
			failed := fault.From(err)
			if lost := c.mayAnswer(fault.Status(failed.Code)); lost != nil {
				err = inDoubtAs(fault.From(lost), failed)
			}
		}
	}
	if c.route.Audit != "" {
		err = s.audit(c, err)
	}
	switch {
	case err != nil:
		c.fail(err)
	case c.held != nil:
		c.send(c.held.status, c.held.contentType, c.held.body)
	}
}

// end closes a request, however it went: a panic becomes an answer, what the
// call holds is given back, and it is counted and logged.
func (s *Server) end(c *Call, start time.Time) {
	panicked := recover()
	if err, ok := panicked.(error); panicked != nil && (!ok || !errors.Is(err, http.ErrAbortHandler)) {
		panicked = s.answerPanic(c, panicked)
	}
	c.abandonBody()
	c.x.endWrite()
	if c.charged > 0 {
		s.bodyBytes.Add(-c.charged)
	}
	took := time.Since(start)
	obs := &s.unmatched
	if c.route != nil {
		obs = &c.route.series
		if c.route.Scope != Public {
			s.deps.Metrics.inFlight.Add(-1)
		}
	}
	status := c.x.status
	if status == 0 {
		status = http.StatusOK // the handler wrote nothing; net/http sends this
	}
	obs.observe(status, took)
	s.logAccess(c, obs.route, status, took)
	if panicked != nil {
		panic(panicked)
	}
}

// answerPanic logs a handler's panic and answers 500. Where half an answer is
// out it returns what to panic with, so that net/http cuts the connection.
func (s *Server) answerPanic(c *Call, panicked any) (again any) {
	s.deps.Metrics.panics.Inc()
	s.entry(c).WithFields(logrus.Fields{"panic": fmt.Sprint(panicked), "stack": string(debug.Stack())}).Error("handler panicked")
	if c.x.begun() {
		return http.ErrAbortHandler
	}
	c.fail(fault.New(fault.ServerError, "internal error; the cause is in the server's log under this request id"))
	return nil
}

// entry is a log entry that names the request.
func (s *Server) entry(c *Call) *logrus.Entry { return telemetry.Entry(s.deps.Log, &c.Info) }

// logFailure logs the cause of a 5xx, which the client does not see.
func (s *Server) logFailure(c *Call, f *fault.Error) {
	if f.Err == nil {
		return
	}
	s.entry(c).WithFields(logrus.Fields{"code": string(f.Code), "error": f.Err.Error()}).Error("request failed")
}

// logAccess writes the line of one request: at info what failed on our side or
// was slow, at debug the rest. Refused requests (4xx) are counted by status in
// oc_requests_seconds and not logged at info: a stranger could fill the disk.
// Nor is a 503 of a Public route: a check that is polled says so on purpose.
func (s *Server) logAccess(c *Call, name string, status int, took time.Duration) {
	level := logrus.DebugLevel
	failed := status >= http.StatusInternalServerError && (status != http.StatusServiceUnavailable || c.route == nil || c.route.Scope != Public)
	if failed || took >= s.cfg.SlowRequest {
		level = logrus.InfoLevel
	}
	if !s.deps.Log.IsLevelEnabled(level) {
		return
	}
	s.entry(c).WithFields(logrus.Fields{
		"route": name, "method": c.Request.Method, "status": status,
		"duration_ms": float64(took.Microseconds()) / 1000, "bytes_sent": c.x.sent, "remote": c.Request.RemoteAddr,
	}).Log(level, "request")
}

// bearer returns the token of an Authorization header.
func bearer(header string) (string, bool) {
	const scheme = "bearer "
	if len(header) <= len(scheme) || len(header) > len(scheme)+maxTokenBytes || !strings.EqualFold(header[:len(scheme)], scheme) {
		return "", false
	}
	return strings.TrimSpace(header[len(scheme):]), true
}

// maxTokenBytes bounds a bearer token before anything looks at it.
const maxTokenBytes = 512
