// Package outcome names the ways in which a function can fail, for the state machine that
// retries some and catches others: it knows an error by its name alone.
//
// Unavailable alone is to be retried: every step can be repeated, and what is not known
// to be final may pass. All others would end the same way again.
package outcome

import (
	"errors"

	"originchain/shared/failover"
)

// Name is an error's, as a state machine has it in ErrorEquals.
type Name string

// The names.
const (
	// Unavailable: a store, a node or a service was not reached, or its answer was lost.
	Unavailable Name = "OC.Unavailable"
	// Input: the function was called with what it does not know.
	Input Name = "OC.Input"
	// OutOfTurn: the step is not the next one of the failover that is under way, or that
	// one has failed. Nothing was changed.
	OutOfTurn Name = "OC.OutOfTurn"
	// OtherRun: a failover to another node is under way.
	OtherRun Name = "OC.OtherRun"
	// Moved: the record has gone to another node since.
	Moved Name = "OC.Moved"
	// Refused: a guard stands.
	Refused Name = "OC.Refused"
	// Left: the new writer writes, and something is still to be done.
	Left Name = "OC.Left"
	// Unknown: the registry has no such node.
	Unknown Name = "OC.UnknownNode"
)

// Names are all there are.
func Names() []Name {
	return []Name{Unavailable, Input, OutOfTurn, OtherRun, Moved, Refused, Left, Unknown}
}

// Retryable says whether the same call may succeed.
func (n Name) Retryable() bool { return n == Unavailable }

// Error is an error that has its name already.
type Error struct {
	Name Name
	Err  error
}

// Error implements error.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap returns what it is made of.
func (e *Error) Unwrap() error { return e.Err }

// Of names an error.
func Of(err error) Name {
	var named *Error
	var turn *failover.StepError
	var other *failover.OtherRunError
	var moved *failover.MovedError
	var refused *failover.RefusedError
	var left *failover.LeftError
	var unknown *failover.UnknownNodeError
	switch {
	case errors.As(err, &named):
		return named.Name
	case errors.As(err, &left):
		return Left
	case errors.As(err, &turn):
		return OutOfTurn
	case errors.As(err, &other):
		return OtherRun
	case errors.As(err, &moved):
		return Moved
	case errors.As(err, &refused):
		return Refused
	case errors.As(err, &unknown):
		return Unknown
	}
	return Unavailable
}
