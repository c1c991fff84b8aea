package archive

import (
	"context"
	"errors"
	"fmt"

	"originchain/shared/lsn"
)

// UnshippedError says which frames are on this node alone when its writer ends.
type UnshippedError struct {
	// From is the first of them, To the last.
	From, To lsn.LSN
	Err      error
}

// Error implements error.
func (e *UnshippedError) Error() string {
	return fmt.Sprintf("LSN %d to %d are not in the archive, and on this node alone as far as it knows: %v", e.From, e.To, e.Err)
}

// Unwrap gives the cause.
func (e *UnshippedError) Unwrap() error { return e.Err }

// ErrTailPaused says that an operator has paused the tail.
var ErrTailPaused = errors.New("shipping the tail is paused")

// Finish ships what is durable and not in the archive yet, without waiting for the tail's
// window, and returns when all of it is there. The log has no more frames to come. An
// *UnshippedError says what is not: ctx has ended, the tail is paused, or Run has ended.
// A shipper without a tail has nothing to finish.
func (s *Shipper) Finish(ctx context.Context) error {
	if !s.cfg.Tail {
		return nil
	}
	for {
		changed := s.progress.awaited()
		_, all := s.progress.reached()
		last := s.deps.Log.Durable()
		var why error
		switch ended := s.ended.Load(); {
		case all.to >= last && s.connected.Load():
			return nil
		case ended != nil:
			why = *ended
		case s.paused.Load():
			why = ErrTailPaused
		case ctx.Err() != nil:
			why = context.Cause(ctx)
			if _, err := s.tail.last(s.deps.Now()); err != nil {
				why = errors.Join(why, err)
			}
		}
		if why != nil {
			return &UnshippedError{From: all.to + 1, To: last, Err: why}
		}
		select {
		case s.hurry <- struct{}{}:
		default:
		}
		select {
		case <-changed:
		case <-ctx.Done():
		}
	}
}
