package process

import (
	"net/http"
	"sync/atomic"
	"time"

	"originchain/shared/api"
	"originchain/shared/fault"
	"originchain/shared/httpx"
	"originchain/shared/telemetry"
)

// boot answers while the node is being opened: alive, not ready. Recovery of a
// long log takes minutes, in which a health check must not kill the process.
type boot struct {
	mode    string
	started time.Time
	// detail is what opening is doing; failed is why it will not end well.
	detail atomic.Pointer[string]
	failed atomic.Pointer[string]
}

func newBoot(mode string, started time.Time) *boot {
	b := &boot{mode: mode, started: started}
	b.progress("opening the data directory")
	return b
}

func (b *boot) progress(detail string) { b.detail.Store(&detail) }

func (b *boot) fail(reason string) { b.failed.Store(&reason) }

// routes are the public ones. They read nothing but two pointers.
func (b *boot) routes(metrics *telemetry.Metrics) []httpx.Route {
	return []httpx.Route{
		{Method: http.MethodGet, Pattern: "/health", Name: "health", Handler: b.health},
		{Method: http.MethodGet, Pattern: "/ready", Name: "ready", Handler: b.ready},
		{Method: http.MethodGet, Pattern: "/metrics", Name: "metrics", Handler: httpx.FromHTTP(metrics.Handler())},
	}
}

func (b *boot) health(c *httpx.Call) error {
	h := api.Health{Status: api.HealthOK, Version: telemetry.Version, Commit: telemetry.Commit, Mode: b.mode,
		UptimeSeconds: int64(time.Since(b.started).Seconds())}
	status := http.StatusOK
	if reason := b.failed.Load(); reason != nil {
		h.Status, h.Reason, status = api.HealthFailed, *reason, http.StatusServiceUnavailable
	}
	return c.JSON(status, h)
}

func (b *boot) ready(c *httpx.Call) error {
	detail := *b.detail.Load()
	if reason := b.failed.Load(); reason != nil {
		detail = *reason
	}
	return c.JSON(http.StatusServiceUnavailable, api.Ready{Checks: map[string]api.Check{"log": {Detail: detail}}})
}

// notReady is the answer of every other path meanwhile.
func notReady() *fault.Error {
	return fault.New(fault.NotReady, "the node is opening its log; /ready says how far it is").WithRetry()
}

// switched is a handler that can be exchanged while it serves.
type switched struct{ current atomic.Pointer[http.Handler] }

func newSwitched(h http.Handler) *switched {
	s := &switched{}
	s.use(h)
	return s
}

func (s *switched) use(h http.Handler) { s.current.Store(&h) }

// ServeHTTP implements http.Handler.
func (s *switched) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	(*s.current.Load()).ServeHTTP(w, r)
}
