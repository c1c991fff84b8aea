package lease

import (
	"context"
	"errors"
	"sync"
)

// Hooks let a test make a Memory fail. Each may be nil. They run with the store
// locked: to reach the store from within is a deadlock.
type Hooks struct {
	// Load runs before a record is read; its error is returned.
	Load func(ctx context.Context) error
	// Before runs before a write that would succeed; its error is returned, and
	// nothing is written.
	Before func(ctx context.Context, next Record) error
	// After runs when the write has taken effect; its error is returned as an
	// OutcomeUnknownError, like a time-out of the answer.
	After func(ctx context.Context, next Record) error
}

// Memory is a Store that lasts as long as the process.
type Memory struct {
	hooks  Hooks
	mu     sync.Mutex
	record Record
	exists bool
}

var _ Store = (*Memory)(nil)

// NewMemory returns a store without a record.
func NewMemory(hooks Hooks) *Memory { return &Memory{hooks: hooks} }

// Load implements Store.
func (m *Memory) Load(ctx context.Context) (Record, bool, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.hooks.Load != nil {
		if err := m.hooks.Load(ctx); err != nil {
			return Record{}, false, err
		}
	}
	return m.record.clone(), m.exists, nil
}

// CompareAndSet implements Store.
func (m *Memory) CompareAndSet(ctx context.Context, expect uint64, next Record) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next, err := successor(m.record, m.exists, expect, next)
	if err != nil {
		return Record{}, err
	}
	if m.hooks.Before != nil {
		if err := m.hooks.Before(ctx, next.clone()); err != nil {
			return Record{}, err
		}
	}
	m.record, m.exists = next, true
	if m.hooks.After != nil {
		if err := m.hooks.After(ctx, next.clone()); err != nil {
			var unknown *OutcomeUnknownError
			if errors.As(err, &unknown) {
				return Record{}, err
			}
			return Record{}, &OutcomeUnknownError{err}
		}
	}
	return next.clone(), nil
}
