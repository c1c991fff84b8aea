package engine

import (
	"context"
	"errors"
	"fmt"
)

// Promote is [Open] for a node that follows: the writer goes on with the directory, log
// and state that prev, whose RunFollower has returned, holds open. Nothing is closed in
// between: what the state does in the background is not waited for, what it has in
// memory not written and replayed, and the directory's lock is never free. Whatever
// comes of it, prev is neither used nor closed by anybody else afterwards.
//
// Invariant: a frame is part of the log that the writer begins on only once it is
// durable here. What prev had copied, and not made durable, is made so first.
//
// A prev that has failed, or is a restored copy, is closed, and its directory opened anew.
func Promote(ctx context.Context, prev *Engine, cfg Config, deps Deps) (_ *Engine, err error) {
	restored, err := prev.dir.Restored()
	if err != nil || restored != nil || prev.Failure() != nil {
		if err = errors.Join(err, prev.Close()); err != nil {
			return nil, err
		}
		return Open(ctx, cfg, deps)
	}
	e := newEngine(cfg, deps)
	defer e.releaseOn(&err)
	e.dir, e.log, e.store, e.owner, e.aside = prev.dir, prev.log, prev.store, prev.owner, prev.aside
	e.owner.Store(e)
	// The state may have failed before it knew of its new owner.
	if err = prev.Failure(); err != nil {
		return nil, err
	}
	if err = e.log.Sync(); err != nil {
		return nil, fmt.Errorf("make the log durable that was followed: %w", err)
	}
	return e, e.begin(ctx)
}
