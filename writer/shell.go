package writer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"originchain/shared/archive"
	"originchain/shared/clock"
	"originchain/shared/datadir"
	"originchain/shared/engine"
	"originchain/shared/fault"
	"originchain/shared/httpx"
	"originchain/shared/lsn"
	"originchain/shared/telemetry"
	"originchain/shared/tenant"
)

// Config is plain data. A zero field takes its default.
type Config struct {
	// Engine names the data directory and sizes log and state. DataDir is required.
	Engine engine.Config
	// URL is where clients reach this node; "" where it was not told.
	URL string
	// Region is where the node runs, for oc_node_info.
	Region string
	// Archive says where the node archives what it writes.
	Archive Archiving
	// HTTP bounds what requests may hold.
	HTTP httpx.Config
	// SeparateOps takes the public routes (/health, /ready, /metrics) off
	// Handler: they are OpsHandler's, on a listener of its own.
	SeparateOps bool
	// TransactionIdle ends a transaction that got no call for so long; default 60 s.
	TransactionIdle time.Duration
	// StatementTimeout ends an SQL statement that runs for so long; 0 is no limit.
	StatementTimeout time.Duration
	// MinLSNWait is how long a read with X-OC-Min-LSN waits for its frame; default 2 s.
	MinLSNWait time.Duration
	// FailureGrace is how long /health answers 503 after a failure of the log,
	// before Run returns, so that a check sees it; default 5 s.
	FailureGrace time.Duration
	// ProbeInterval is how often the log's disk is tried out; default 1 s.
	ProbeInterval time.Duration
	// StuckAfter is how long a probe may take, and a commit wait for its fsync, before the
	// disk counts as gone: one that hangs reports no error; default 5 s.
	StuckAfter time.Duration
}

const (
	defaultTransactionIdle = 60 * time.Second
	defaultMinLSNWait      = 2 * time.Second
	defaultFailureGrace    = 5 * time.Second
	defaultProbeInterval   = time.Second
	defaultStuckAfter      = 5 * time.Second
)

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.TransactionIdle, defaultTransactionIdle},
		{&c.MinLSNWait, defaultMinLSNWait},
		{&c.FailureGrace, defaultFailureGrace},
		{&c.ProbeInterval, defaultProbeInterval},
		{&c.StuckAfter, defaultStuckAfter},
	} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	return c
}

// Deps are the edges of the process. All but NoPreallocate are required.
type Deps struct {
	FS      vfs.FS
	Log     *logrus.Logger
	Clock   *clock.Clock
	Metrics *telemetry.Metrics
	Audit   *telemetry.Audit
	Admin   *tenant.AdminToken
	// NoPreallocate is for simulated disks; see package wal.
	NoPreallocate bool
}

func (d *Deps) check() error {
	var errs []error
	for _, need := range []struct {
		name string
		ok   bool
	}{
		{"FS", d.FS != nil}, {"Log", d.Log != nil}, {"Clock", d.Clock != nil}, {"Metrics", d.Metrics != nil},
		{"Audit", d.Audit != nil}, {"Admin", d.Admin != nil},
	} {
		if !need.ok {
			errs = append(errs, fmt.Errorf("writer: Deps.%s is missing", need.name))
		}
	}
	return errors.Join(errs...)
}

// ErrLogFailed is in the chain of an error of Run when the log of a node that
// had opened could no longer be written or read. What was acknowledged is durable;
// the next start decides the rest. Errors of the opening itself are those of
// packages datadir, wal and recover (datadir.ErrLocked, ErrForeign, ErrNewer,
// *fault.Corruption, *recover.MismatchError).
var ErrLogFailed = errors.New("the log failed")

// Shell is what a node of either role is to the outside: its handlers, health,
// metrics. Whoever has an open engine serves it through Serve; before and between
// that /health and /ready answer, and 503 the rest.
type Shell struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	health  *health
	engine  atomic.Pointer[engine.Engine]
	role    atomic.Pointer[Role]
	// archiver ships to the archive; nil while the node is not the writer, or has none.
	archiver atomic.Pointer[archiver]
	// fenced is who has superseded this node, while it does not know where that one is.
	fenced atomic.Pointer[string]
	// listing is the archive as it is shown; nil without one.
	listing *archive.Archive
	// tokens is what every engine's tokens are checked with: a change of roles does not
	// pay for their slow hashes again.
	tokens *tenant.Authenticator
	// waits is what an opening waits for beside its own disk.
	waits atomic.Pointer[waiting]

	http *httpx.Metrics
	boot *httpx.Server // while no engine is served
	past *httpx.Server // the same while the node is fenced
	// redirected answers in their place between two roles, until an engine is served;
	// nil: they do.
	redirected atomic.Pointer[redirection]
	ops        *httpx.Server

	mu      sync.RWMutex
	serving *serving // nil while no engine is served
	opened  chan struct{}
	once    sync.Once // closes opened
}

// serving is one engine being served.
type serving struct {
	server   *httpx.Server
	requests sync.WaitGroup
	// ended ends the requests of an engine that is about to be closed under them;
	// nil where the listeners drain first.
	ended context.Context
}

// NewShell makes a Shell. It starts nothing and touches no file.
func NewShell(cfg Config, deps Deps) (*Shell, error) {
	if err := deps.check(); err != nil {
		return nil, err
	}
	if cfg.Engine.DataDir == "" {
		return nil, errors.New("writer: Config.Engine.DataDir is missing")
	}
	n := &Shell{cfg: cfg.withDefaults(), deps: deps, opened: make(chan struct{}), tokens: tenant.NewAuthenticator(nil, time.Now)}
	if cfg.Archive.Store != nil {
		n.listing = archive.Remembering(cfg.Archive.Store)
	}
	n.SetRole(alone{url: cfg.URL})
	n.health = newHealth(time.Now(), n.cfg.StuckAfter)
	n.metrics = newMetrics(deps.Metrics, n)
	n.http = httpx.NewMetrics(deps.Metrics)
	public := httpx.InScope(routes(n, nil), httpx.Public)
	var err error
	if n.ops, err = httpx.New(cfg.HTTP, n.httpDeps(nil), public); err != nil {
		return nil, err
	}
	boot := cfg.HTTP
	boot.Unrouted = fault.New(fault.NotReady, "the server is reading its log and takes no requests yet; GET /ready says how far it is").WithRetry()
	if cfg.SeparateOps {
		public = nil
	}
	if n.boot, err = httpx.New(boot, n.httpDeps(nil), public); err != nil {
		return nil, err
	}
	boot.Unrouted = fault.New(fault.Fenced, "another node is the writer now, and this one does not know where; nothing was written, send the request to the writer. GET /ready says what is known").WithRetry()
	n.past, err = httpx.New(boot, n.httpDeps(nil), public)
	return n, err
}

func (n *Shell) httpDeps(auth httpx.Authenticator) httpx.Deps {
	return httpx.Deps{Log: n.deps.Log, Metrics: n.http, Auth: auth, Admin: n.deps.Admin, Audit: n.deps.Audit}
}

// Handler serves the API, at any time.
func (n *Shell) Handler() http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		s := n.enter()
		if s == nil {
			n.unserved().ServeHTTP(rw, r)
			return
		}
		defer s.requests.Done()
		if s.ended != nil {
			ctx, cancel := context.WithCancelCause(r.Context())
			defer cancel(nil)
			defer context.AfterFunc(s.ended, func() { cancel(n.interruption()) })()
			r = r.WithContext(ctx)
		}
		s.server.ServeHTTP(rw, r)
	})
}

// unserved answers while no engine is served.
func (n *Shell) unserved() *httpx.Server {
	if r := n.redirected.Load(); r != nil {
		return r.server
	}
	if n.fenced.Load() != nil {
		return n.past
	}
	return n.boot
}

// Fence says that another node is the writer: requests are answered so until LeaderFound.
func (n *Shell) Fence(reason string) {
	if n.fenced.Swap(&reason) == nil {
		n.redirected.Store(nil) // it was for another end than this
	}
}

// Redirect answers requests with f from now on until an engine is served, or Fence
// knows better. A planned change of roles tells clients so what to do.
func (n *Shell) Redirect(f *fault.Error) {
	cfg := n.cfg.HTTP
	cfg.Unrouted = f
	var public []httpx.Route
	if !n.cfg.SeparateOps {
		public = httpx.InScope(routes(n, nil), httpx.Public)
	}
	s, err := httpx.New(cfg, n.httpDeps(nil), public)
	if err != nil { // NewShell has made two of these
		n.deps.Log.WithError(err).Error("clients are not told where the writer is going")
		return
	}
	n.redirected.Store(&redirection{s, f})
}

// redirection is what is answered between two roles.
type redirection struct {
	server *httpx.Server
	fault  *fault.Error
}

// interruption is why requests are ended that their clients did not end.
func (n *Shell) interruption() error {
	if r := n.redirected.Load(); r != nil {
		return r.fault
	}
	return errInterrupted
}

// LeaderFound says that the node knows whom it follows.
func (n *Shell) LeaderFound() { n.fenced.Store(nil) }

// errInterrupted is why a request was ended that its client did not end.
var errInterrupted = fault.New(fault.NotReady, "the node is being stopped, or prepares its data to follow again; retry, here when GET /ready says that it is ready, or elsewhere").WithRetry()

// enter counts a request of the engine that is served.
func (n *Shell) enter() *serving {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if n.serving != nil {
		n.serving.requests.Add(1)
	}
	return n.serving
}

// swap serves s from now on, and returns what was served before.
func (n *Shell) swap(s *serving) (before *serving) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s != nil {
		n.redirected.Store(nil)
	}
	before, n.serving = n.serving, s
	return before
}

// OpsHandler serves /health, /ready and /metrics alone.
func (n *Shell) OpsHandler() http.Handler { return n.ops }

// Opened is closed once an engine has been served.
func (n *Shell) Opened() <-chan struct{} { return n.opened }

// SetRole says what the node is from now on.
func (n *Shell) SetRole(r Role) { n.role.Store(&r) }

func (n *Shell) now() Role { return *n.role.Load() }

// EngineDeps are what an engine of this node works with.
func (n *Shell) EngineDeps() engine.Deps {
	return engine.Deps{
		FS: n.deps.FS, Log: n.deps.Log, Clock: n.deps.Clock, ObserveSync: n.metrics.observeSync, NoPreallocate: n.deps.NoPreallocate,
	}
}

// Visible is the last frame that reads of this node see.
func (n *Shell) Visible() (p lsn.Pos) {
	if e := n.engine.Load(); e != nil {
		p = e.Visible()
	}
	return p
}

// Failure is why the engine that is served has failed; nil while it has not.
func (n *Shell) Failure() error {
	if e := n.engine.Load(); e != nil {
		return e.Failure()
	}
	return nil
}

// Config is the configuration, with its defaults.
func (n *Shell) Config() Config { return n.cfg }

// Failed takes note of why the node is of no more use, for /health, and gives
// checks the time to see it.
func (n *Shell) Failed(ctx context.Context, err error) {
	n.health.fail(err)
	wait(ctx, n.cfg.FailureGrace)
}

// OpenFailed is Failed for an engine that could not be opened.
func (n *Shell) OpenFailed(ctx context.Context, err error) error {
	err = fmt.Errorf("open %s: %w", n.cfg.Engine.DataDir, err)
	n.health.fail(err)
	if !misdirected(err) {
		wait(ctx, n.cfg.FailureGrace)
	}
	return err
}

// Served is an engine with what answers requests over it.
type Served struct {
	engine  *engine.Engine
	service *service
	server  *httpx.Server
}

// Prepare makes what answers requests over an engine.
func (n *Shell) Prepare(e *engine.Engine) (*Served, error) {
	s, err := newService(n, e)
	if err != nil {
		return nil, err
	}
	scopes := []httpx.Scope{httpx.Tenant, httpx.Admin}
	if !n.cfg.SeparateOps {
		scopes = append(scopes, httpx.Public)
	}
	deps := n.httpDeps(s.auth)
	deps.Unknown = s.behind
	deps.MayAnswer = func() error { return n.now().MayAnswer() }
	server, err := httpx.New(n.cfg.HTTP, deps, httpx.InScope(routes(n, s), scopes...))
	return &Served{engine: e, service: s, server: server}, err
}

// RecordsChanged is to be called when tenants or tokens have changed other than by
// a request to this node.
func (s *Served) RecordsChanged() { s.service.cache.forget() }

// Serve answers requests over an engine that run keeps going, from when ready is
// closed (nil: at once) until ctx ends or run does. An error of run is the log's: /health says so before Serve returns.
// With interrupt, requests in flight are ended at the end; without, the listeners
// have drained by then.
func (n *Shell) Serve(ctx context.Context, s *Served, ready <-chan struct{}, interrupt bool, run func(context.Context) error) error {
	n.engine.Store(s.engine)
	n.metrics.identify(s.engine.Identity(), n.now().Mode(), n.cfg)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := run(ctx)
		var other *Ended
		if err == nil || errors.As(err, &other) {
			return err
		}
		n.Failed(ctx, err)
		return fmt.Errorf("%w: %w", ErrLogFailed, err)
	})
	g.Go(func() error { return s.service.sql.Run(ctx) })
	g.Go(func() error { return n.probeDisk(ctx) })
	requests := &serving{server: s.server}
	if interrupt {
		requests.ended = ctx
	}
	serve := func() {
		n.swap(requests)
		n.once.Do(func() { close(n.opened) })
	}
	if ready == nil {
		serve()
	} else {
		g.Go(func() error {
			select {
			case <-ready:
				serve()
			case <-ctx.Done():
			}
			return nil
		})
	}
	err := g.Wait()
	n.swap(nil)
	var ended *Ended
	if interrupt || errors.As(err, &ended) {
		// The engine is closed next, and nobody may read it then.
		s.service.queries.cancelAll()
		s.server.Interrupt(n.interruption())
		if !requests.over(requestGrace) {
			// No Ended: the data cannot be opened again in this process.
			return fmt.Errorf("%s; and requests were still under way after %s: start the node again", err.Error(), requestGrace)
		}
		n.engine.Store(nil)
	}
	return err
}

// requestGrace is how long requests of an engine may take to end when it has.
const requestGrace = 15 * time.Second

// over waits for the requests to end, and reports whether they have in time.
func (s *serving) over(grace time.Duration) bool {
	done := make(chan struct{})
	go func() {
		s.requests.Wait()
		close(done)
	}()
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-done:
		return true
	case <-t.C:
		return false
	}
}

// Ended is an error of a run that is no failure: the role ends, the process goes on.
type Ended struct{ Err error }

// Error implements error.
func (e *Ended) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *Ended) Unwrap() error { return e.Err }

// misdirected tells a directory that is somebody else's from one that is broken:
// the first is a matter of the command line, and nobody waits to see it.
func misdirected(err error) bool {
	return errors.Is(err, datadir.ErrLocked) || errors.Is(err, datadir.ErrForeign) || errors.Is(err, datadir.ErrNewer)
}

// wait lets d pass, or ctx end.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
