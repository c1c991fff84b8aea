package object

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
)

// Memory is a Store that lives as long as the process, for tests.
type Memory struct {
	name string

	mu sync.RWMutex
	// keys has the keys of objects in order.
	keys    []string
	objects map[string][]byte
}

var _ Store = (*Memory)(nil)

// NewMemory returns an empty store.
func NewMemory(name string) *Memory {
	return &Memory{name: name, objects: make(map[string][]byte)}
}

// Now implements Store.
func (m *Memory) Now(ctx context.Context) (time.Time, error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, m.fail("now", "", err)
	}
	return time.Now(), nil
}

// String implements Store.
func (m *Memory) String() string { return "memory://" + m.name }

func (m *Memory) fail(op, key string, err error) error {
	return &Error{Op: op, Key: key, Store: m.String(), Err: err}
}

// Put implements Store.
func (m *Memory) Put(ctx context.Context, key string, body Body) error {
	if err := m.put(ctx, key, body); err != nil {
		return m.fail("put", key, err)
	}
	return nil
}

func (m *Memory) put(ctx context.Context, key string, body Body) error {
	if err := begin(ctx, key); err != nil {
		return err
	}
	var b bytes.Buffer
	if err := body.CopyTo(ctx, &b); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, taken := m.objects[key]; taken {
		return ErrExists
	}
	// Stricter than a map must be, and as strict as a folder is.
	for i := range len(key) {
		if _, taken := m.objects[key[:i]]; taken && key[i] == '/' {
			return fmt.Errorf("%w: %s is an object", ErrKey, key[:i])
		}
	}
	at, _ := slices.BinarySearch(m.keys, key)
	if below, _ := slices.BinarySearch(m.keys, key+"/"); below < len(m.keys) && strings.HasPrefix(m.keys[below], key+"/") {
		return fmt.Errorf("%w: there are objects below %s", ErrKey, key)
	}
	m.keys = slices.Insert(m.keys, at, key)
	m.objects[key] = b.Bytes()
	return nil
}

// begin checks what every call on an object checks.
func begin(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := CheckKey(key); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func (m *Memory) find(ctx context.Context, key string) ([]byte, error) {
	if err := begin(ctx, key); err != nil {
		return nil, err
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	b, ok := m.objects[key]
	if !ok {
		return nil, ErrNotFound
	}
	return b, nil
}

// Get implements Store.
func (m *Memory) Get(ctx context.Context, key string, off, n int64) (io.ReadCloser, error) {
	b, err := m.find(ctx, key)
	if err == nil {
		n, err = Range(off, n, int64(len(b)))
	}
	if err != nil {
		return nil, m.fail("get", key, err)
	}
	return io.NopCloser(&interruptible{ctx, bytes.NewReader(b[off : off+n])}), nil
}

// Stat implements Store.
func (m *Memory) Stat(ctx context.Context, key string) (Info, error) {
	b, err := m.find(ctx, key)
	if err != nil {
		return Info{}, m.fail("stat", key, err)
	}
	return Info{Key: key, Size: int64(len(b))}, nil
}

// List implements Store.
func (m *Memory) List(ctx context.Context, prefix, after string, limit int) ([]Info, error) {
	err := CheckLimit(limit)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, m.fail("list", prefix, err)
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	var list []Info
	first, _ := slices.BinarySearch(m.keys, max(prefix, after))
	for _, key := range m.keys[first:] {
		if !strings.HasPrefix(key, prefix) || len(list) == limit {
			break
		}
		if key > after {
			list = append(list, Info{Key: key, Size: int64(len(m.objects[key]))})
		}
	}
	return list, nil
}

// Delete implements Store.
func (m *Memory) Delete(ctx context.Context, keys ...string) error {
	return m.remove(ctx, "delete", keys)
}

// Erase implements Store.
func (m *Memory) Erase(ctx context.Context, keys ...string) error {
	return m.remove(ctx, "erase", keys)
}

// EraseVersions implements Store: it keeps none.
func (m *Memory) EraseVersions(ctx context.Context, prefix string) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, m.fail("erase versions of", prefix, err)
	}
	return 0, nil
}

func (m *Memory) remove(ctx context.Context, op string, keys []string) error {
	if err := begin(ctx, keys...); err != nil {
		return m.fail(op, Several(keys), err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, key := range keys {
		if at, found := slices.BinarySearch(m.keys, key); found {
			m.keys = slices.Delete(m.keys, at, at+1)
			delete(m.objects, key)
		}
	}
	return nil
}

// Several names some keys for an error.
func Several(keys []string) string {
	switch len(keys) {
	case 0:
		return "nothing"
	case 1:
		return keys[0]
	default:
		return fmt.Sprintf("%s and %d more", keys[0], len(keys)-1)
	}
}
