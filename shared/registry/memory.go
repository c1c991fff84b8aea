package registry

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Memory is a Store that lasts as long as the process.
type Memory struct {
	mu        sync.Mutex
	documents map[string]Document
}

var _ Store = (*Memory)(nil)

// NewMemory returns a store without documents.
func NewMemory() *Memory { return &Memory{documents: map[string]Document{}} }

// Load implements Store.
func (m *Memory) Load(ctx context.Context, key string) (Document, error) {
	if err := before(ctx, key); err != nil {
		return Document{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.load(key).clone(), nil
}

func (m *Memory) load(key string) Document {
	d := m.documents[key]
	d.Key = key
	return d
}

// Save implements Store.
func (m *Memory) Save(ctx context.Context, key string, expect uint64, body []byte) (Document, error) {
	if err := before(ctx, key); err != nil {
		return Document{}, err
	}
	if err := CheckBody(key, body); err != nil {
		return Document{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next, err := saved(m.load(key), expect, body)
	if err != nil {
		return Document{}, err
	}
	m.documents[key] = next
	return next.clone(), nil
}

// Delete implements Store.
func (m *Memory) Delete(ctx context.Context, key string, expect uint64) error {
	if err := before(ctx, key); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := m.load(key); d.Version == 0 || d.Version != expect {
		return &ConflictError{Expected: expect, Found: d.clone()}
	}
	delete(m.documents, key)
	return nil
}

// List implements Store.
func (m *Memory) List(ctx context.Context, prefix string) (out []Document, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(m.documents)) {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		if len(out) == MaxListed {
			return nil, tooMany(prefix)
		}
		out = append(out, m.documents[key].clone())
	}
	return out, nil
}

// before is what every use of a document by its key begins with.
func before(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return CheckKey(key)
}
