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
	"errors"

	"originchain/shared/datadir"
	"originchain/shared/engine"
	"originchain/shared/lease"
	"originchain/shared/lsn"
)

// Writer is one node in the writer role.
type Writer struct {
	*Shell
	replication Replication
	leader      *leader
	own         *engine.Engine // what Close closes
	from        *engine.Engine // what Run goes on with, of a follower
}

// New makes a Writer without followers. It starts nothing and touches no file.
func New(cfg Config, deps Deps) (*Writer, error) {
	n, err := NewShell(cfg, deps)
	if err != nil {
		return nil, err
	}
	return NewWriter(n, Replication{}), nil
}

// NewWriter makes the writer role of a node. It starts nothing and touches no file.
func NewWriter(n *Shell, r Replication) *Writer { return &Writer{Shell: n, replication: r} }

// GoOnWith has Run go on with what a follower has open, instead of opening the data
// directory. From then on e is the Writer's to close.
func (w *Writer) GoOnWith(e *engine.Engine) { w.from = e }

// Run opens the data directory, replays its log and serves until ctx ends: nil
// then. It returns an error when the directory cannot be opened, or when its
// log failed (ErrLogFailed), after FailureGrace in which /health says why; and a
// *MustFollowError when another node is the writer, or an *engine.NotAcceptedError when
// the directory is a restored copy that a Reader is to serve. It is called once.
func (w *Writer) Run(ctx context.Context) (err error) {
	defer func() {
		if w.from != nil {
			err = errors.Join(err, w.from.Close())
		}
	}()
	l, err := newLeader(ctx, w.Shell, w.replication)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	deps := w.EngineDeps()
	switch {
	case l.cfg.Control != nil:
		l.term = lease.NewTerm(l.clock())
		deps.TakeEpoch = l.takeEpoch
	case l.archive.store != nil:
		deps.TakeEpoch = l.archive.takeEpoch
	}
	deps.MayOpen = l.mayOpen
	e, err := w.open(ctx, deps)
	var other *MustFollowError
	if errors.As(err, &other) {
		w.Fence(other.Reason)
		return err
	} else if errors.Is(err, engine.ErrUnusable) {
		return &MustFollowError{Reason: err.Error()}
	} else if errors.As(err, new(*engine.NotAcceptedError)) {
		return err
	} else if err != nil {
		return w.OpenFailed(ctx, err)
	}
	w.engine.Store(e)
	w.leader, w.own = l, e
	if err := l.open(e); err != nil {
		return err
	}
	w.SetRole(l)
	if err := l.confirm(ctx); err != nil {
		return err
	}
	s, err := w.Prepare(e)
	if err != nil {
		return err
	}
	w.deps.Log.WithField("epoch", uint64(e.Epoch())).WithField("lsn", uint64(e.Visible().LSN)).Info("writer serves")
	return w.Serve(ctx, s, nil, false, func(ctx context.Context) error { return l.run(ctx, e.Run) })
}

func (w *Writer) open(ctx context.Context, deps engine.Deps) (*engine.Engine, error) {
	if from := w.from; from != nil {
		w.from = nil
		return engine.Promote(ctx, from, w.cfg.Engine, deps)
	}
	return engine.Open(ctx, w.cfg.Engine, deps)
}

// mayOpen asks whoever knows of other nodes whether this one may be a writer.
func (l *leader) mayOpen(ctx context.Context, who datadir.Identity, last lsn.Pos) error {
	if l.cfg.Control != nil {
		if _, err := l.vacant(ctx, who.NodeID, last); err != nil {
			return err
		}
	}
	return l.archive.mayOpen(ctx, who, last)
}

// HandOn gives what the node has open to whoever follows now, after a Run that ended with
// a planned *MustFollowError: it is the caller's, and nothing is left to close here.
func (w *Writer) HandOn() *engine.Engine {
	e := w.own
	w.own = nil
	w.engine.CompareAndSwap(e, nil)
	return e
}

// Close writes the state to disk, releases the data directory, and says in the
// record that the node has stopped. Call it when Run has returned and no handler
// runs any more.
func (w *Writer) Close() error {
	e := w.own
	if e == nil {
		return nil
	}
	w.own = nil
	w.engine.CompareAndSwap(e, nil)
	failed := e.Failure() != nil
	err := e.Close()
	if !failed && err == nil {
		w.leader.release(context.Background())
	}
	return err
}
