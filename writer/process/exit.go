package process

import (
	"errors"

	"originchain/shared/archive"
	"originchain/shared/datadir"
	"originchain/shared/fault"
	"originchain/shared/frame"
	"originchain/shared/lease"
	"originchain/shared/recover"
	"originchain/shared/wal"
	"originchain/writer"
)

// The exit codes. A supervisor may restart on ExitFailure and ExitDisk; the
// others need a person, and say so in their message.
const (
	ExitOK      = 0
	ExitFailure = 1
	ExitUsage   = 2
	ExitRefused = 3
	ExitLocked  = 4
	ExitDisk    = 5
	// ExitIncomplete is of verify alone.
	ExitIncomplete = 6
)

// exitCodes is the table as --help prints it.
const exitCodes = `Exit codes:
  0  stopped on request (SIGTERM or SIGINT), everything acknowledged is on disk
  1  failure while running, such as an address that is in use, or a second signal
  2  usage or configuration: every fault is listed
  3  the data directory was refused: corrupt, of another instance, of a newer format,
     or without what the instance's writer must have
  4  another process has the data directory open
  5  the node stopped itself after a failed write or sync of its log`

// coded is an error that chose its exit code.
type coded struct {
	code int
	err  error
}

// Error implements error.
func (c *coded) Error() string { return c.err.Error() }

// Unwrap gives the cause to errors.Is and errors.As.
func (c *coded) Unwrap() error { return c.err }

// withCode marks err with an exit code; nil stays nil.
func withCode(code int, err error) error {
	if err == nil {
		return nil
	}
	return &coded{code: code, err: err}
}

// exitCode is the code of a process that ends with err.
func exitCode(err error) int {
	var chosen *coded
	var corrupt *fault.Corruption
	var mismatch *recover.MismatchError
	var foreign *wal.ForeignError
	var newer *frame.NewerError
	var refused *lease.RefusedError
	var theirs *archive.ForeignError
	var behind *archive.BehindError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &chosen):
		return chosen.code
	case errors.Is(err, datadir.ErrLocked):
		return ExitLocked
	case errors.As(err, &corrupt), errors.As(err, &mismatch),
		errors.Is(err, datadir.ErrForeign), errors.As(err, &foreign), errors.As(err, &refused), errors.As(err, &theirs), errors.As(err, &behind), errors.Is(err, writer.ErrArchived), errors.Is(err, lease.ErrOtherInstance), errors.Is(err, datadir.ErrNewer), errors.As(err, &newer):
		return ExitRefused
	}
	return ExitFailure
}
