package lease

import (
	"context"
	"errors"
	"testing"
)

// TestHooksFailBeforeAndAfterTheEffect: which of the two it was shows in the
// record alone.
func TestHooksFailBeforeAndAfterTheEffect(t *testing.T) {
	cause := errors.New("cut off")
	fail := func(context.Context, Record) error { return cause }
	for _, c := range []struct {
		name    string
		hooks   Hooks
		unknown bool
		written bool
	}{
		{"before", Hooks{Before: fail}, false, false},
		{"after", Hooks{After: fail}, true, true},
		{"before, a time-out", Hooks{Before: func(context.Context, Record) error { return &OutcomeUnknownError{cause} }}, true, false},
		{"after, a time-out", Hooks{After: func(context.Context, Record) error { return &OutcomeUnknownError{cause} }}, true, true},
	} {
		m := NewMemory(c.hooks)
		_, err := m.CompareAndSet(t.Context(), 0, first())
		var unknown *OutcomeUnknownError
		if !errors.Is(err, cause) || errors.As(err, &unknown) != c.unknown {
			t.Errorf("%s: got %v", c.name, err)
		}
		if _, ok, err := m.Load(t.Context()); ok != c.written || err != nil {
			t.Errorf("%s: there is a record: %t, %v", c.name, ok, err)
		}
	}
	m := NewMemory(Hooks{Load: func(context.Context) error { return cause }})
	if _, _, err := m.Load(t.Context()); !errors.Is(err, cause) {
		t.Errorf("load: got %v", err)
	}
}
