package engine

import (
	"errors"

	"originchain/shared/lsn"
)

// Gate decides when what is durable here may be acknowledged and shown. It knows
// of the other nodes, the engine does not.
type Gate interface {
	// Admit refuses a write before it is decided, when it is known that it could
	// not be acknowledged; nil lets it in.
	Admit() error
	// Await returns nil once every frame up to at may be acknowledged. Its only
	// caller is the publisher, in log order. An *Expired says that whoever waits
	// for frames is to be told its error now, since those behind wait for the same;
	// the frames are asked for again. Any other error ends the engine. When stop is closed it returns at
	// once, with ErrStopped.
	Await(at lsn.LSN, stop <-chan struct{}) error
}

// ErrStopped is what Await returns when the engine stops.
var ErrStopped = errors.New("the engine stops")

// Expired says that frames were not acknowledged in time; the outcome is open.
type Expired struct{ Err error }

// Error implements error.
func (e *Expired) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *Expired) Unwrap() error { return e.Err }

// admitted waits until a durable group may be acknowledged; false: it never is
// by this opening, because the engine has failed.
func (e *Engine) admitted(g group) bool {
	for e.failure.Load() == nil {
		if e.gate == nil {
			return true
		}
		last := g.entries[len(g.entries)-1].LSN
		err := e.gate.Await(last, e.givenUp)
		var expired *Expired
		switch {
		case err == nil:
			return e.failure.Load() == nil
		case errors.As(err, &expired):
			e.answers.expire(expired.Err)
		case errors.Is(err, ErrStopped):
			return false
		default:
			e.fail("wait for the followers", err)
		}
	}
	return false
}

// Lead says who decides when frames may be acknowledged, nil for nobody, and what
// of the log others need, nil for nothing. It is called before Run.
func (e *Engine) Lead(gate Gate, retainFrom func() lsn.LSN) {
	e.gate, e.retainFrom = gate, retainFrom
}
