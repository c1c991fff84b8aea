package lease

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func successorOf(node string) Candidate {
	return Candidate{Instance: instance, Node: node, ReplicationAddress: node + ":7000", URL: "http://" + node, Last: at(120, 2), AtLeast: 2}
}

func TestHandOver(t *testing.T) {
	by := Claim{"a", 2}
	want := with(confirmed(), func(r *Record) {
		r.Epoch, r.Holder, r.ReplicationAddress, r.URL, r.CommitLSN = 3, "b", "b:7000", "http://b", 120
		r.InSync, r.Eligible = nil, []string{"a", "b", "c"}
		r.Line = append(r.Line, Opening{3, 121, 2})
	})
	placed := with(confirmed(), func(r *Record) { r.Place = "here" })
	for _, r := range []Record{confirmed(), placed} {
		got, err := r.HandOver(by, successorOf("b"), 120, false)
		if err != nil || !got.Given("b") {
			t.Errorf("%+v, %v", got, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	// Without anybody whom acknowledgements wait for, the holder's word is enough.
	nobody := with(confirmed(), func(r *Record) { r.InSync = nil })
	if got, err := nobody.HandOver(by, successorOf("d"), 120, true); err != nil || !got.Given("d") || len(got.Eligible) != 2 {
		t.Errorf("alone: %+v, %v", got, err)
	}
	var refused *RefusedError
	if _, err := confirmed().HandOver(by, successorOf("d"), 120, false); !errors.As(err, &refused) || refused.Verdict.Reason != NotEntitled {
		t.Errorf("to a node that is not in sync: %v", err)
	}
	short := successorOf("b")
	short.Last = at(119, 2)
	if _, err := confirmed().HandOver(by, short, 120, false); !errors.As(err, &refused) || refused.Verdict.Reason != Behind {
		t.Errorf("to a node that lacks a frame: %v", err)
	}
	lossy := successorOf("d")
	lossy.AcceptLoss = true
	if _, err := confirmed().HandOver(by, lossy, 120, false); !errors.As(err, &refused) {
		t.Errorf("with a loss: %v", err)
	}
	if _, err := confirmed().HandOver(by, successorOf("a"), 120, false); !errors.Is(err, ErrNotMember) {
		t.Errorf("to itself: %v", err)
	}
	if _, err := taken().HandOver(Claim{"b", 3}, successorOf("c"), 110, false); !errors.Is(err, ErrUnconfirmed) {
		t.Errorf("before the epoch is confirmed: %v", err)
	}
	var fenced *FencedError
	if _, err := confirmed().HandOver(Claim{"a", 1}, successorOf("b"), 120, false); !errors.As(err, &fenced) {
		t.Errorf("in an epoch that is over: %v", err)
	}
}

// given runs Give against a store that fails once with hooks, and keeps record as it was.
func given(t *testing.T, hooks Hooks, life context.Context) (*Memory, *Holder, Record, error) {
	t.Helper()
	store := NewMemory(hooks)
	rec := confirmed()
	store.record, store.exists = rec, true
	h := NewHolder(store, rec)
	got, err := h.Give(t.Context(), life, successorOf("b"), 120, false)
	return store, h, got, err
}

// failing is a hook that fails a number of times, from the first on.
func failing(times int, err error) func(context.Context, Record) error {
	return func(context.Context, Record) error {
		if times--; times >= 0 {
			return err
		}
		return nil
	}
}

func TestGive(t *testing.T) {
	away := errors.New("away")
	still := func(t *testing.T, store *Memory, h *Holder, err error) {
		t.Helper()
		var not *NotGivenError
		if !errors.As(err, &not) || store.record.Holder != "a" || h.Record().Epoch != 2 {
			t.Errorf("%v; the record: %+v", err, store.record)
		}
		if err := h.Renew(t.Context(), 130); err != nil {
			t.Errorf("the holder goes on: %v", err)
		}
	}
	gone := func(t *testing.T, store *Memory, h *Holder, got Record, err error) {
		t.Helper()
		if err != nil || !store.record.Given("b") || got.Version != store.record.Version || h.Record().Holder != "b" {
			t.Errorf("%+v, %v; the record: %+v", got, err, store.record)
		}
		var fenced *FencedError
		if err := h.Renew(t.Context(), 130); !errors.As(err, &fenced) {
			t.Errorf("the holder renews: %v", err)
		}
	}
	for name, c := range map[string]struct {
		hooks Hooks
		given bool
	}{
		"stored":                        {Hooks{}, true},
		"refused":                       {Hooks{Before: failing(1, away)}, false},
		"stored, and the answer lost":   {Hooks{After: failing(1, away)}, true},
		"lost on the way":               {Hooks{Before: failing(1, &OutcomeUnknownError{away})}, false},
		"lost, and the renewal as well": {Hooks{Before: failing(3, &OutcomeUnknownError{away})}, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, h, got, err := given(t, c.hooks, t.Context())
				if c.given {
					gone(t, store, h, got, err)
				} else {
					still(t, store, h, err)
				}
			})
		})
	}
}

// A write that nobody could tell of, and that takes effect later, must not: the renewal
// is at its version.
func TestAGiftThatComesLateIsNone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var late Record
		sent := false
		store, _, _, err := given(t, Hooks{Before: func(_ context.Context, next Record) error {
			if sent {
				return nil
			}
			sent, late = true, next
			return &OutcomeUnknownError{errors.New("no answer")}
		}}, t.Context())
		var not *NotGivenError
		if !errors.As(err, &not) {
			t.Fatal(err)
		}
		var conflict *ConflictError
		if _, err := store.CompareAndSet(t.Context(), late.Version-1, late); !errors.As(err, &conflict) {
			t.Errorf("the late write: %v", err)
		}
	})
}

// While the store is away nobody knows; it ends when the store is back, or with life.
func TestNobodyKnowsWhileTheStoreIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		gone := errors.New("away")
		hooks := Hooks{
			After: failing(1, gone),
			Load: func(context.Context) error {
				if time.Since(began) < time.Minute {
					return gone
				}
				return nil
			},
		}
		_, _, got, err := given(t, hooks, t.Context())
		if err != nil || got.Holder != "b" || time.Since(began) < time.Minute {
			t.Errorf("after %s: %+v, %v", time.Since(began), got, err)
		}
		began = time.Now()
		life, end := context.WithTimeout(t.Context(), time.Second)
		defer end()
		hooks.After = failing(1, gone)
		store, _, _, err := given(t, hooks, life)
		var not *NotGivenError
		var fenced *FencedError
		if err == nil || errors.As(err, &not) || errors.As(err, &fenced) || store.record.Holder != "b" {
			t.Errorf("life ended: %v", err)
		}
	})
}

// A record that somebody else has changed is not given away.
func TestAChangedRecordIsNotGiven(t *testing.T) {
	store := NewMemory(Hooks{})
	rec := confirmed()
	h := NewHolder(store, rec)
	store.record, store.exists = with(rec, func(r *Record) { r.Version++ }), true
	var not *NotGivenError
	if _, err := h.Give(t.Context(), t.Context(), successorOf("b"), 120, false); !errors.As(err, &not) {
		t.Errorf("changed: %v", err)
	}
	if _, err := h.Give(t.Context(), t.Context(), successorOf("b"), 120, false); err != nil {
		t.Errorf("asked again: %v", err)
	}
	h = NewHolder(store, rec)
	var fenced *FencedError
	if _, err := h.Give(t.Context(), t.Context(), successorOf("c"), 120, false); !errors.As(err, &fenced) || fenced.Holder != "b" {
		t.Errorf("of another: %v", err)
	}
}
