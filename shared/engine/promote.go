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
	whole, err := prev.whole()
	if err != nil || !whole || prev.Failure() != nil {
		if err = errors.Join(err, prev.Close()); err != nil {
			return nil, err
		}
		return Open(ctx, cfg, deps)
	}
	e := newEngine(cfg, deps)
	defer e.releaseOn(&err)
	if err = e.takeOver(prev); err != nil {
		return nil, err
	}
	if err = e.log.Sync(); err != nil {
		return nil, fmt.Errorf("make the log durable that was followed: %w", err)
	}
	if err = e.begin(ctx); err != nil {
		return nil, err
	}
	return e, nil
}

// Demote is [OpenFollower] for a writer that was ended by Retire and whose Run has
// returned: the follower goes on with what prev holds open, as a writer does after
// Promote, so that its successor does not wait for it.
//
// Invariant: nothing in the directory claims to be written in an epoch of its own any
// more when the first frame of another writer is copied. What prev had appended is
// durable before, and all of it visible: a role is given away with nothing under way.
//
// A prev that ended in another way, or is a restored copy, is closed, and its directory
// opened anew: what it may have that no other node has is not known.
func Demote(prev *Engine, cfg Config, deps Deps) (_ *Engine, err error) {
	whole, err := prev.whole()
	if err != nil || !whole || !prev.retired() {
		if err = errors.Join(err, prev.Close()); err != nil {
			return nil, err
		}
		return OpenFollower(cfg, deps)
	}
	e := newEngine(cfg, deps)
	defer e.releaseOn(&err)
	if err = e.takeOver(prev); err != nil {
		return nil, err
	}
	if err = e.log.EndEpoch(); err != nil {
		return nil, fmt.Errorf("end the epoch that was written here: %w", err)
	}
	if err = e.beginToRead(); err != nil {
		return nil, err
	}
	return e, nil
}

// whole says that the directory is no restored copy.
func (e *Engine) whole() (bool, error) {
	restored, err := e.dir.Restored()
	return restored == nil, err
}

// retired says that the engine was ended by Retire, before anything failed.
func (e *Engine) retired() bool {
	var f *fenced
	return errors.As(e.Failure(), &f) && f.planned
}

// takeOver goes on with what prev has open, unless its state has failed: prev may have
// been told of that, and heard nothing.
func (e *Engine) takeOver(prev *Engine) error {
	e.dir, e.log, e.store, e.owner, e.aside = prev.dir, prev.log, prev.store, prev.owner, prev.aside
	e.owner.Store(e) // before it is asked: what fails later is told to e
	return e.store.Failure()
}
