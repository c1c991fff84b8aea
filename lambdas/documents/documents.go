// Package documents is the registry as the functions that keep documents there see it:
// incidents and their index, the record of verifications.
package documents

import (
	"context"
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
