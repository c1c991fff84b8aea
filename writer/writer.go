// Package writer is what a node serves: it joins the engine, SQL, tenants and HTTP.
// The Shell is a node of either role to the outside, the Writer the role that
// takes writes. routes.go is the one list of what is served.
//
// A Writer lives in this order: New; its Handlers may be served from then on
// (they answer /health and /ready, and 503 for the rest, until the log is
// replayed); Run; when Run has returned and the listeners have drained, Close.
// A graceful stop drains the listeners first and ends Run's context after, so
// that every request in flight still finds a log that takes its commit.
package writer

import (
	"context"

	"originchain/shared/engine"
)

// Writer is one node in the writer role.
type Writer struct {
	*Shell
}

// New makes a Writer. It starts nothing and touches no file.
func New(cfg Config, deps Deps) (*Writer, error) {
	n, err := NewShell(cfg, deps)
	return &Writer{Shell: n}, err
}

// Run opens the data directory, replays its log and serves until ctx ends: nil
// then. It returns an error when the directory cannot be opened, or when its
// log failed (ErrLogFailed), after FailureGrace in which /health says why. It is
// called once.
func (w *Writer) Run(ctx context.Context) error {
	e, err := engine.Open(ctx, w.cfg.Engine, w.EngineDeps())
	if err != nil {
		return w.OpenFailed(ctx, err)
	}
	w.engine.Store(e)
	s, err := w.Prepare(e)
	if err != nil {
		return err
	}
	w.deps.Log.WithField("epoch", uint64(e.Epoch())).WithField("lsn", uint64(e.Visible().LSN)).Info("writer serves")
	return w.Serve(ctx, s, false, e.Run)
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
