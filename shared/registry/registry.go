// Package registry keeps the small documents of the control plane: the nodes of an
// instance, the failover under way, the report of the last one. Each document has a
// version, and is replaced only by who knows the version that stands there.
//
// What must never be decided twice stands in the lease record and not here: a registry
// that went back in time shows an old story, and makes nobody a second writer.
package registry

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// Limits of a registry.
const (
	// MaxKeyBytes bounds a key as it is written in a name: each byte that is no letter,
	// digit, dash, underscore or dot counts three.
	MaxKeyBytes = 200
	// MaxBodyBytes bounds a document, below what an item of DynamoDB holds.
	MaxBodyBytes = 256 << 10
	// MaxListed is how many documents List returns; more under one prefix is an error.
	MaxListed = 1000
)

// Document is a body under its key. Version counts its writes from 1; 0 says that there
// is none.
type Document struct {
	Key     string
	Version uint64
	Body    []byte
}

// Store keeps documents. Its methods may be called by several goroutines. Each use of
// it is bounded by its context.
type Store interface {
	// Load returns the document of a key, with version 0 and without a body if there is
	// none. What it returns is durable. An error is never "there is none".
	Load(ctx context.Context, key string) (Document, error)
	// Save replaces the document if its version is expect, or makes it if expect is 0
	// and there is none. It is durable when Save returns, with version expect+1.
	//
	// It fails with ConflictError if another version stands there, and with
	// OutcomeUnknownError if it cannot tell whether the write took effect or will yet:
	// then the caller loads the document. After any other error nothing was written.
	Save(ctx context.Context, key string, expect uint64, body []byte) (Document, error)
	// Delete removes the document if its version is expect. Where it does not return nil the
	// document may be there still, or again after a crash. It fails as Save does. Another one
	// of its key begins at version 1 again: a key that is deleted is not to be used again by
	// who may meet somebody with the version of before.
	Delete(ctx context.Context, key string, expect uint64) error
	// List returns the documents whose keys begin with prefix, by key.
	List(ctx context.Context, prefix string) ([]Document, error)
}

// ConflictError says that the document is not of the version that was expected.
type ConflictError struct {
	Expected uint64
	// Found is what stands there.
	Found Document
}

// Error implements error.
func (e *ConflictError) Error() string {
	return fmt.Sprintf("the document %s was expected at version %d and has version %d: somebody else wrote it", e.Found.Key, e.Expected, e.Found.Version)
}

// OutcomeUnknownError says that the write may have taken effect, or may yet.
type OutcomeUnknownError struct {
	Key string
	Err error
}

// Error implements error.
func (e *OutcomeUnknownError) Error() string {
	return fmt.Sprintf("the document %s may or may not have been written; load it before another try: %v", e.Key, e.Err)
}

// Unwrap gives the cause.
func (e *OutcomeUnknownError) Unwrap() error { return e.Err }

// CheckKey says what is wrong with a key.
func CheckKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("the key of a document is empty")
	case strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' }):
		return fmt.Errorf("the key %q is not printable without spaces", key)
	case len(escape(key)) > MaxKeyBytes:
		return fmt.Errorf("the key %q takes %d bytes, at most %d; give shorter names", key, len(escape(key)), MaxKeyBytes)
	}
	return nil
}

// CheckBody says what is wrong with a body.
func CheckBody(key string, body []byte) error {
	if len(body) > MaxBodyBytes {
		return fmt.Errorf("the document %s has %d bytes, at most %d", key, len(body), MaxBodyBytes)
	}
	return nil
}

// escape writes a key so that it is one name of a file, and one key one name.
func escape(key string) string { return url.QueryEscape(key) }

// tooMany refuses a list that would be longer than MaxListed.
func tooMany(prefix string) error {
	return fmt.Errorf("more than %d documents begin with %q; ask for fewer", MaxListed, prefix)
}

// saved is what a write makes of the document that stands there, or why it does not.
func saved(current Document, expect uint64, body []byte) (Document, error) {
	if current.Version != expect {
		return Document{}, &ConflictError{Expected: expect, Found: current.clone()}
	}
	return Document{Key: current.Key, Version: expect + 1, Body: slices.Clone(body)}, nil
}

func (d Document) clone() Document {
	d.Body = slices.Clone(d.Body)
	return d
}
