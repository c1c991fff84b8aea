package lease

import (
	"context"
	"fmt"
)

// Store keeps the record of one instance. It is safe for concurrent use, by many
// processes too, and linearizable: an operation takes effect at one moment
// between its call and its return, for all who use the same record.
type Store interface {
	// Load returns the record; ok is false if there is none. What it returns is
	// durable: no crash takes it back. It fails with ErrNewerFormat, and with
	// *fault.Corruption where what is stored is no record.
	Load(ctx context.Context) (r Record, ok bool, err error)
	// CompareAndSet replaces the record if its version is expect, or makes it if
	// expect is 0 and there is none. It returns next as stored, with version
	// expect+1 whatever version next had, and is durable before it returns.
	//
	// It fails with ConflictError if the record is another one by now, and with
	// OutcomeUnknownError if it cannot tell whether the write took effect, or will
	// yet: then the caller loads the record, and does not repeat the call as it
	// was. After any other error nothing was written and nothing will be: a record
	// that is not valid, a context that ended before the write was sent, a store
	// that is away.
	CompareAndSet(ctx context.Context, expect uint64, next Record) (Record, error)
}

// ConflictError says that the record is not of the version that was expected.
type ConflictError struct {
	// Expected is the version asked for, 0 for no record.
	Expected uint64
	// Found is the record that stands there; Exists is false if there is none.
	Found  Record
	Exists bool
}

// Error implements error.
func (e *ConflictError) Error() string {
	if !e.Exists {
		return fmt.Sprintf("the lease record was expected at version %d and does not exist", e.Expected)
	}
	return fmt.Sprintf("the lease record was expected at version %d and has version %d: %s holds epoch %d",
		e.Expected, e.Found.Version, e.Found.Holder, e.Found.Epoch)
}

// OutcomeUnknownError says that the write may have taken effect, or may yet.
type OutcomeUnknownError struct{ Err error }

// Error implements error.
func (e *OutcomeUnknownError) Error() string {
	return "the lease record may or may not have been written; load it before another try: " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *OutcomeUnknownError) Unwrap() error { return e.Err }

// successor checks next as the record that follows current, and gives it its
// version. Without a current one its version is 0, and exists is false.
func successor(current Record, exists bool, expect uint64, next Record) (Record, error) {
	if current.Version != expect {
		return Record{}, &ConflictError{Expected: expect, Found: current.clone(), Exists: exists}
	}
	return Successor(expect, next)
}

// Successor is next as a store keeps it behind the record of version expect, or why
// it may not be kept.
func Successor(expect uint64, next Record) (Record, error) {
	next = next.clone()
	next.Version = expect + 1
	if err := next.Validate(); err != nil {
		return Record{}, fmt.Errorf("the lease record is not valid: %w", err)
	}
	return next, nil
}
