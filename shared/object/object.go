// Package object is the small part of an object store that an archive needs:
// objects that are created once, read in ranges, listed in order and deleted.
package object

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
)

// Store is a flat space of objects that never change. Keys are slash-separated
// paths of printable ASCII, at most MaxKey bytes, without empty, "." or ".."
// parts. All methods may be called at the same time, and return an *Error.
type Store interface {
	// Put creates an object. ErrExists says that the key is taken, by whatever
	// content, and that nothing was changed; of several that race, one creates. An
	// object is never visible in part. After another error the outcome is unknown,
	// unless the error is ErrDenied, ErrNoSpace or ErrContent: the object may be
	// there, whole.
	Put(ctx context.Context, key string, body Body) error
	// Get reads n bytes from an offset, or all up to the end where n is negative.
	// A range that leaves the object is ErrRange. The reader fails rather than end
	// early.
	Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error)
	// Stat describes an object, ErrNotFound where there is none.
	Stat(ctx context.Context, key string) (Info, error)
	// List returns up to limit objects whose key begins with prefix and is above
	// after, in the order of the keys' bytes. What was put before the call is in
	// it. Fewer than limit is the end. A limit is 1 to MaxList.
	List(ctx context.Context, prefix, after string, limit int) ([]Info, error)
	// Delete removes objects; one that is not there is deleted. Where the store
	// keeps versions, they stay readable to whoever may read versions.
	Delete(ctx context.Context, keys ...string) error
	// Erase removes objects with every version of them, for good.
	Erase(ctx context.Context, keys ...string) error
	// String is where the store is, as a URL without credentials.
	String() string
}

// MaxKey bounds a key, in bytes; MaxList bounds a List.
const (
	MaxKey  = 512
	MaxList = 1000
)

// Info describes an object.
type Info struct {
	Key  string
	Size int64
}

// Body is what to put. It may be read several times, each time the same bytes.
type Body struct {
	Size int64
	// SHA256 of the content; a store refuses other bytes with ErrContent.
	SHA256 [sha256.Size]byte
	Open   func() (io.ReadCloser, error)
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
)

// Error says what failed on which object of which store.
type Error struct {
	Op    string // put, get, stat, list, delete, erase
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
