package fault

import (
	"context"
	"errors"
	"fmt"
	"testing"
)

func TestFromFindsTheClientsView(t *testing.T) {
	cause := errors.New("disk")
	for _, c := range []struct {
		name string
		err  error
		want Code
		http int
	}{
		{"wrapped fault", fmt.Errorf("while: %w", New(UniqueViolation, "x")), UniqueViolation, 409},
		{"cancelled", fmt.Errorf("scan: %w", context.Canceled), Cancelled, 499},
		{"anything else", cause, ServerError, 500},
		{"envelope", New(InvalidEnvelope, "x"), InvalidEnvelope, 422},
	} {
		got := From(c.err)
		if got.Code != c.want || Status(got.Code) != c.http {
			t.Errorf("%s: got %s %d, want %s %d", c.name, got.Code, Status(got.Code), c.want, c.http)
		}
	}
	if got := From(cause); !errors.Is(got, cause) {
		t.Error("the cause is lost to the log")
	}
}

func TestWithDoesNotShareFields(t *testing.T) {
	base := New(VersionMismatch, "x").With("current_version", 1)
	other := base.With("current_version", 2)
	if base.Fields["current_version"] != 1 || other.Fields["current_version"] != 2 {
		t.Fatalf("fields shared: %v %v", base.Fields, other.Fields)
	}
}

func TestEnvelopeFaultIsValidationFailedOnTheWire(t *testing.T) {
	if InvalidEnvelope.Wire() != ValidationFailed || Conflict.Wire() != Conflict {
		t.Fatal("wire codes differ from the contract")
	}
}
