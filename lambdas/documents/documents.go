// Package documents is the registry as the functions that keep documents there see it:
// incidents and their index, the record of verifications.
package documents

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"originchain/shared/incident"
	"originchain/shared/registry"
)

// In keeps documents in a registry, under the keys they have.
type In struct{ store registry.Store }

// Of makes an In.
func Of(store registry.Store) In { return In{store} }

var _ incident.Documents = In{}

// Load implements incident.Documents.
func (d In) Load(ctx context.Context, key string) (b []byte, version uint64, ok bool, err error) {
	doc, err := d.store.Load(ctx, key)
	return doc.Body, doc.Version, doc.Version > 0, err
}

// Save implements incident.Documents. Of a write whose outcome is unknown the error is
// not ErrConflict: whoever repeats the call finds its own work done.
func (d In) Save(ctx context.Context, key string, expect uint64, b []byte) (uint64, error) {
	doc, err := d.store.Save(ctx, key, expect, b)
	var conflict *registry.ConflictError
	if errors.As(err, &conflict) {
		return 0, fmt.Errorf("%w: %w", incident.ErrConflict, err)
	}
	return doc.Version, err
}

// Delete implements incident.Documents.
func (d In) Delete(ctx context.Context, key string, expect uint64) error {
	err := d.store.Delete(ctx, key, expect)
	var conflict *registry.ConflictError
	if errors.As(err, &conflict) {
		return fmt.Errorf("%w: %w", incident.ErrConflict, err)
	}
	return err
}

// List implements incident.Documents.
func (d In) List(ctx context.Context, prefix string) (keys []string, err error) {
	docs, err := d.store.List(ctx, prefix)
	for _, doc := range docs {
		keys = append(keys, doc.Key)
	}
	return keys, err
}

// Conflict tells the error of a Save or Delete that was too late.
func Conflict(err error) bool { return errors.Is(err, incident.ErrConflict) }

// maxChanges bounds how often a change is made anew because others were faster.
const maxChanges = 32

// Change replaces a JSON document by what change makes of it, again when others were
// faster; change says whether it has changed anything. A document that is not there is the
// zero T. A write of unknown outcome is an error: the caller repeats the call, and change
// finds its work done.
func Change[T any](ctx context.Context, store registry.Store, key string, change func(*T) bool) (T, error) {
	for range maxChanges {
		var now T
		doc, err := store.Load(ctx, key)
		if err != nil {
			return now, fmt.Errorf("read %s in the registry: %w", key, err)
		}
		if doc.Version > 0 {
			if err := json.Unmarshal(doc.Body, &now); err != nil {
				return now, fmt.Errorf("%s in the registry is not what it should be: %w", key, err)
			}
		}
		if !change(&now) {
			return now, nil
		}
		body, err := json.Marshal(now)
		if err != nil {
			return now, err
		}
		_, err = store.Save(ctx, key, doc.Version, body)
		var conflict *registry.ConflictError
		if err == nil || !errors.As(err, &conflict) {
			return now, err
		}
	}
	var zero T
	return zero, fmt.Errorf("%s in the registry was changed by others %d times in a row", key, maxChanges)
}
