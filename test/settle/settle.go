// Package settle is for tests of real processes, which nobody tells when something has come
// about: it waits, and compares what all nodes must have in the end.
package settle

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Within is the bound of everything that is waited for. It is generous: it is there to end
// a test that would hang, and nothing is judged by it.
const Within = 2 * time.Minute

// Every is the pause between two looks.
const Every = 20 * time.Millisecond

// Test is what of a testing.T is needed.
type Test interface {
	Helper()
	Context() context.Context
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Pause lets d pass, or ctx end.
func Pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// Eventually waits until check finds nothing wrong.
func Eventually(t Test, what string, check func() error) {
	t.Helper()
	if err := Becomes(t.Context(), check); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// Becomes is Eventually for goroutines that may not end the test.
func Becomes(ctx context.Context, check func() error) error {
	deadline := time.Now().Add(Within)
	for {
		err := check()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return errors.Join(ctx.Err(), err)
		case time.Now().After(deadline):
			return fmt.Errorf("not within %s: %w", Within, err)
		}
		Pause(ctx, Every)
	}
}
