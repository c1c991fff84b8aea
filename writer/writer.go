// Package writer is the writer role: it joins the engine, SQL, tenants and HTTP
// into one node that takes writes. routes.go is the one list of what it serves.
//
// A Writer lives in this order: New; its Handlers may be served from then on
// (they answer /health and /ready, and 503 for the rest, until the log is
// replayed); Run; when Run has returned and the listeners have drained, Close.
// A graceful stop drains the listeners first and ends Run's context after, so
// that every request in flight still finds a log that takes its commit.
package writer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"originchain/shared/clock"
	"originchain/shared/datadir"
	"originchain/shared/engine"
	"originchain/shared/fault"
	"originchain/shared/httpx"
	"originchain/shared/telemetry"
	"originchain/shared/tenant"
)

// Config is plain data. A zero field takes its default.
type Config struct {
	// Engine names the data directory and sizes log and state. DataDir is required.
	Engine engine.Config
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
}

const (
	defaultTransactionIdle = 60 * time.Second
	defaultMinLSNWait      = 2 * time.Second
	defaultFailureGrace    = 5 * time.Second
	defaultProbeInterval   = time.Second
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

// ErrLogFailed is in the chain of Run's error when the log of a node that had
// opened could no longer be written or read. What was acknowledged is durable;
// the next start decides the rest. Errors of the opening itself are those of
// packages datadir, wal and recover (datadir.ErrLocked, ErrForeign, ErrNewer,
// *fault.Corruption, *recover.MismatchError).
var ErrLogFailed = errors.New("the log failed")

// Writer is one node in the writer role.
type Writer struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	health  *health
	engine  atomic.Pointer[engine.Engine]

	http    *httpx.Metrics
	boot    *httpx.Server // before the log is open
	ops     *httpx.Server
	serving atomic.Pointer[httpx.Server]
	opened  chan struct{}
}

// New makes a Writer. It starts nothing and touches no file.
func New(cfg Config, deps Deps) (*Writer, error) {
	if err := deps.check(); err != nil {
		return nil, err
	}
	if cfg.Engine.DataDir == "" {
		return nil, errors.New("writer: Config.Engine.DataDir is missing")
	}
	w := &Writer{cfg: cfg.withDefaults(), deps: deps, opened: make(chan struct{})}
	w.health = newHealth(time.Now())
	w.metrics = newMetrics(deps.Metrics, w)
	w.http = httpx.NewMetrics(deps.Metrics)
	public := httpx.InScope(routes(w, nil), httpx.Public)
	var err error
	if w.ops, err = httpx.New(cfg.HTTP, w.httpDeps(nil), public); err != nil {
		return nil, err
	}
	boot := cfg.HTTP
	boot.Unrouted = fault.New(fault.NotReady, "the server is reading its log and takes no requests yet; GET /ready says how far it is").WithRetry()
	if cfg.SeparateOps {
		public = nil
	}
	w.boot, err = httpx.New(boot, w.httpDeps(nil), public)
	return w, err
}

func (w *Writer) httpDeps(auth httpx.Authenticator) httpx.Deps {
	return httpx.Deps{Log: w.deps.Log, Metrics: w.http, Auth: auth, Admin: w.deps.Admin, Audit: w.deps.Audit}
}

// Handler serves the API. It may be served before Run and until Close.
func (w *Writer) Handler() http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if s := w.serving.Load(); s != nil {
			s.ServeHTTP(rw, r)
			return
		}
		w.boot.ServeHTTP(rw, r)
	})
}

// OpsHandler serves /health, /ready and /metrics alone.
func (w *Writer) OpsHandler() http.Handler { return w.ops }

// Opened is closed once the log is open and the API is served.
func (w *Writer) Opened() <-chan struct{} { return w.opened }

// Run opens the data directory, replays its log and serves until ctx ends: nil
// then. It returns an error when the directory cannot be opened, or when its
// log failed (ErrLogFailed), after FailureGrace in which /health says why. It is
// called once.
func (w *Writer) Run(ctx context.Context) error {
	e, err := engine.Open(ctx, w.cfg.Engine, engine.Deps{
		FS: w.deps.FS, Log: w.deps.Log, Clock: w.deps.Clock, ObserveSync: w.metrics.observeSync, NoPreallocate: w.deps.NoPreallocate,
	})
	if err != nil {
		err = fmt.Errorf("open %s: %w", w.cfg.Engine.DataDir, err)
		w.health.fail(err)
		if !misdirected(err) {
			wait(ctx, w.cfg.FailureGrace)
		}
		return err
	}
	w.engine.Store(e)
	s, err := newService(w, e)
	if err != nil {
		return err
	}
	scopes := []httpx.Scope{httpx.Tenant, httpx.Admin}
	if !w.cfg.SeparateOps {
		scopes = append(scopes, httpx.Public)
	}
	server, err := httpx.New(w.cfg.HTTP, w.httpDeps(s.auth), httpx.InScope(routes(w, s), scopes...))
	if err != nil {
		return err
	}
	return w.serve(ctx, e, s, server)
}

// serve runs what lives beside the requests, and ends all of it together.
func (w *Writer) serve(ctx context.Context, e *engine.Engine, s *service, server *httpx.Server) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := e.Run(ctx)
		if err == nil {
			return nil
		}
		w.health.fail(err)
		wait(ctx, w.cfg.FailureGrace)
		return fmt.Errorf("%w: %w", ErrLogFailed, err)
	})
	g.Go(func() error { return s.sql.Run(ctx) })
	g.Go(func() error { return w.probeDisk(ctx) })
	w.serving.Store(server)
	close(w.opened)
	w.deps.Log.WithField("epoch", uint64(e.Epoch())).WithField("lsn", uint64(e.Visible().LSN)).Info("writer serves")
	return g.Wait()
}

// misdirected tells a directory that is somebody else's from one that is broken:
// the first is a matter of the command line, and nobody waits to see it.
func misdirected(err error) bool {
	return errors.Is(err, datadir.ErrLocked) || errors.Is(err, datadir.ErrForeign) || errors.Is(err, datadir.ErrNewer)
}

// Close writes the state to disk and releases the data directory. Call it when
// Run has returned and no handler runs any more.
func (w *Writer) Close() error {
	e := w.engine.Load()
	if e == nil {
		return nil
	}
	return e.Close()
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
