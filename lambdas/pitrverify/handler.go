package pitrverify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"originchain/lambdas/outcome"
	"originchain/lambdas/scheduled"
	"originchain/shared/restore"
)

// HandOverError says that a verification is too large for where it ran. Nothing is known
// of the recovery point by it, and nothing is recorded: another place is to verify it.
type HandOverError struct{ Reason string }

// Error implements error.
func (e *HandOverError) Error() string {
	return "nothing was verified here, and it is handed over: " + e.Reason
}

// endMargin is what a function keeps of its time for recording and answering.
const endMargin = 30 * time.Second

// Within verifies within the limits of a function: its scratch space, and its time, which
// ctx has. Beyond them the error is a HandOverError, and never a result.
func Within(verify Verify) Verify {
	return func(ctx context.Context) (Result, error) {
		errTime := errors.New("time")
		short := ctx
		if end, ok := ctx.Deadline(); ok {
			if time.Until(end) <= endMargin {
				return Result{}, &HandOverError{Reason: fmt.Sprintf("less than %s of the function's time are left", endMargin)}
			}
			var cancel context.CancelFunc
			short, cancel = context.WithDeadlineCause(ctx, end.Add(-endMargin), errTime)
			defer cancel()
		}
		result, err := verify(short)
		var scratch *restore.ScratchError
		switch {
		case errors.As(err, &scratch):
			return Result{}, &HandOverError{Reason: fmt.Sprintf("the log behind the checkpoint changes more than %d bytes, which is the scratch there is", scratch.Limit)}
		case err != nil && ctx.Err() == nil && errors.Is(context.Cause(short), errTime):
			return Result{}, &HandOverError{Reason: "the function's time is over before the end was reached"}
		}
		return result, err
	}
}

// Handler is the function on AWS.
type Handler struct {
	verifier *Verifier
	// publish makes the age a metric.
	publish func(age float64)
}

// NewHandler makes a Handler; publish is called with the age after each call that knows it.
func NewHandler(v *Verifier, publish func(age float64)) *Handler { return &Handler{v, publish} }

// Answer is what the function answers. Its JSON is stable.
type Answer struct {
	// HandedOver: nothing was verified, and another place is to: Reason says why.
	HandedOver bool   `json:"handed_over"`
	Reason     string `json:"reason"`
	// Run is how the verification ended; absent where there was none.
	Run *Run `json:"run,omitempty"`
	// AgeSeconds is how long ago one was green.
	AgeSeconds float64 `json:"age_seconds"`
}

const maxCallBytes = 256 << 10

// Handle verifies once, when a schedule or a state machine calls; called with
// {"age": true} it says how long ago that was, and does not verify. A verification that is
// not green is an error, but for one that is handed over.
func (h *Handler) Handle(ctx context.Context, raw []byte) (Answer, error) {
	var in struct {
		Age    bool `json:"age"`
		Verify bool `json:"verify"`
		scheduled.Event
	}
	if len(raw) > maxCallBytes || json.Unmarshal(raw, &in) != nil || !in.Age && !in.Verify && !in.Scheduled() {
		return Answer{}, &outcome.Error{Name: outcome.Input, Err: errors.New(`it is called by a schedule, or with {"verify": true} or {"age": true}`)}
	}
	if in.Age {
		if _, err := h.verifier.Load(ctx); err != nil {
			return Answer{}, err
		}
		return h.told(Answer{}), nil
	}
	run, err := h.verifier.Handle(ctx)
	var over *HandOverError
	if errors.As(err, &over) {
		_, err = h.verifier.Load(ctx)
		return h.told(Answer{HandedOver: true, Reason: over.Reason}), err
	}
	return h.told(Answer{Run: &run}), err
}

// told publishes the age, and has it in the answer.
func (h *Handler) told(a Answer) Answer {
	if age, ok := h.verifier.Age(); ok {
		a.AgeSeconds = age.Seconds()
		h.publish(a.AgeSeconds)
	}
	return a
}
