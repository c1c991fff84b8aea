// Package object is the small part of an object store that an archive needs:
// objects that are created once, read in ranges, listed in order and deleted.
package object

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Store is a flat space of objects that never change. What a key may be, CheckKey
// says; besides, an object stands in for a directory of no other: a store may
// refuse with ErrKey to hold both a and a/b. All methods may be called at the same
// time, and return an *Error.
type Store interface {
	// Put creates an object, durably. ErrExists says that the key is taken, by
	// whatever content, durably too, and that nothing was changed; of several that
	// race, one creates. An object is never visible in part. ErrContent and ErrKey
	// change nothing. After another error the outcome is unknown: the object may be
	// there, whole. A store that tries again by itself may meet what it created
	// before the answer was lost, and that is ErrExists: the caller compares.
	Put(ctx context.Context, key string, body Body) error
	// Get reads n bytes from an offset, or all up to the end where n is negative.
	// A range that leaves the object is ErrRange; one of no bytes that begins where
	// the object ends is in it. The reader fails rather than end early, and must be
	// closed. The context is that of the reading too.
	Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)
	// Stat describes an object, ErrNotFound where there is none.
	Stat(ctx context.Context, key string) (Info, error)
	// List returns up to limit objects whose key begins with prefix and is above
	// after, in the order of the keys' bytes. What was put before the call is in
	// it. Fewer than limit is the end. A limit is 1 to MaxList. Prefix and after may
	// be anything, "" among it. What lies in the store and has no key of an object
	// is not listed.
	List(ctx context.Context, prefix, after string, limit int) ([]Info, error)
	// Delete removes objects, durably; one that is not there is deleted. Where the
	// store keeps versions, they stay readable to whoever may read versions. After an
	// error any of them may be gone; no key is too many.
	Delete(ctx context.Context, keys ...string) error
	// Erase removes objects with every version of them, for good.
	Erase(ctx context.Context, keys ...string) error
	// EraseVersions removes, for good, what was kept below a prefix of objects that are
	// gone or were others: older versions, the marks of deletions, and the parts of puts
	// that came to nothing. Objects stay as they are, but a put that goes on meanwhile
	// may fail. It says how much there was; a store that keeps none of it has nothing to do.
	EraseVersions(ctx context.Context, prefix string) (int, error)
	// Now is what time it is by the store's own clock, which is not this machine's where
	// the store is not on it: what is deleted for its age must not hang on one clock. It
	// may be a second late.
	Now(ctx context.Context) (time.Time, error)
	// String is where the store is, as a URL without credentials.
	String() string
}

// MaxKey bounds a key, in bytes, and MaxPart what is between its slashes; MaxList
// bounds a List.
const (
	MaxKey  = 512
	MaxPart = 255
	MaxList = 1000
)

// CheckKey returns ErrKey for what is not the key of an object: slash-separated
// parts of printable ASCII, at most MaxPart bytes each and MaxKey in all, none of
// which is empty or begins with a dot.
func CheckKey(key string) error {
	if len(key) > MaxKey {
		return fmt.Errorf("%w: it has %d bytes, at most %d", ErrKey, len(key), MaxKey)
	}
	for part := range strings.SplitSeq(key, "/") {
		switch {
		case part == "":
			return fmt.Errorf("%w: %q has an empty part", ErrKey, key)
		case part[0] == '.':
			return fmt.Errorf("%w: %q has a part that begins with a dot", ErrKey, key)
		case len(part) > MaxPart:
			return fmt.Errorf("%w: %q has a part of %d bytes, at most %d", ErrKey, key, len(part), MaxPart)
		}
		for i := range len(part) {
			if part[i] < ' ' || part[i] > '~' {
				return fmt.Errorf("%w: %q has a byte that is not printable ASCII", ErrKey, key)
			}
		}
	}
	return nil
}

// CheckLimit returns an error for what is not the limit of a List.
func CheckLimit(limit int) error {
	if limit < 1 || limit > MaxList {
		return fmt.Errorf("a limit of %d, want 1 to %d", limit, MaxList)
	}
	return nil
}

// Info describes an object.
type Info struct {
	Key  string
	Size int64
}

// The kinds of failure. A kind that is none of these may pass by itself.
var (
	ErrExists   = errors.New("the object exists")
	ErrNotFound = errors.New("there is no such object")
	ErrRange    = errors.New("the range is outside of the object")
	ErrDenied   = errors.New("access was denied")
	ErrNoSpace  = errors.New("there is no space left")
	ErrContent  = errors.New("the content is not what it was said to be")
	ErrKey      = errors.New("the key is not one of an object")
	// ErrNoStore says that what would hold the objects is not there and nothing makes it,
	// such as a bucket; a folder that is not there is an empty store.
	ErrNoStore = errors.New("the store is not there")
)

// Error says what failed on which object of which store.
type Error struct {
	Op    string // put, get, stat, list, delete, erase, now
	Key   string // or the prefix of a list
	Store string
	Err   error // wraps one of the kinds, or the store's own error
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("%s %s in %s: %v", e.Op, e.Key, e.Store, e.Err)
}

// Unwrap gives the cause to errors.Is and errors.As.
func (e *Error) Unwrap() error { return e.Err }
