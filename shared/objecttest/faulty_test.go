package objecttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/object"
)

// A store that does not go wrong is the store it was made of.
func TestFaultyKeepsTheContract(t *testing.T) {
	Run(t, func(*testing.T) func() object.Store {
		f := NewFaulty(object.NewMemory("test"), 1)
		return func() object.Store { return f }
	})
}

// workload makes some calls at once and returns what became of each.
func workload(t *testing.T, f *Faulty) []string {
	t.Helper()
	outcomes := make([]string, 40)
	var wg sync.WaitGroup
	for i := range outcomes {
		wg.Go(func() {
			key := fmt.Sprintf("k/%d", i)
			for range 3 {
				outcomes[i] += fmt.Sprint(f.Put(t.Context(), key, object.Bytes([]byte(key))), ";")
				if r, err := f.Get(t.Context(), key, 0, -1); err != nil {
					outcomes[i] += err.Error()
				} else {
					b, err := io.ReadAll(r)
					outcomes[i] += fmt.Sprintf("%q %v;", b, errors.Join(err, r.Close()))
				}
				outcomes[i] += fmt.Sprint(f.Delete(t.Context(), key, key+"-2"), ";")
			}
		})
	}
	wg.Wait()
	return outcomes
}

func TestFaultyIsAFunctionOfItsSeed(t *testing.T) {
	rates := map[Fault]float64{Internal: .1, SlowDown: .1, LostAnswer: .1, LostAndTold: .1, HalfDone: .1, WrongByte: .2, Truncated: .2}
	run := func(seed uint64) ([]string, *Faulty) {
		f := NewFaulty(object.NewMemory("test"), seed)
		f.SetRates(rates)
		return workload(t, f), f
	}
	first, f := run(7)
	for fault := range rates {
		if f.Met(fault) == 0 {
			t.Errorf("%s was never met", fault)
		}
	}
	second, _ := run(7)
	if diff := cmp.Diff(first, second); diff != "" {
		t.Error(diff)
	}
	if other, _ := run(8); slices.Equal(first, other) {
		t.Error("another seed fails in the same way")
	}
}

func TestFaults(t *testing.T) {
	b := content(1, 100)
	for fault, check := range map[Fault]func(t *testing.T, m *object.Memory, f *Faulty){
		Internal: func(t *testing.T, m *object.Memory, f *Faulty) {
			want(t, f.Put(t.Context(), "new", object.Bytes(b)), ErrInternal, "new")
			absent(t, m, "new")
		},
		SlowDown: func(t *testing.T, m *object.Memory, f *Faulty) {
			want(t, f.Delete(t.Context(), "a"), ErrSlowDown, "a")
			Read(t, m, "a")
		},
		LostAnswer: func(t *testing.T, m *object.Memory, f *Faulty) {
			want(t, f.Put(t.Context(), "new", object.Bytes(b)), ErrTimeout, "new")
			Read(t, m, "new")
			want(t, f.Put(t.Context(), "new", object.Bytes(b)), object.ErrExists, "new")
			want(t, f.Erase(t.Context(), "a"), ErrTimeout, "a")
			absent(t, m, "a")
		},
		LostAndTold: func(t *testing.T, m *object.Memory, f *Faulty) {
			want(t, f.Put(t.Context(), "new", object.Bytes(b)), object.ErrExists, "new")
			Read(t, m, "new")
		},
		HalfDone: func(t *testing.T, m *object.Memory, f *Faulty) {
			if err := f.Delete(t.Context(), "a", "b"); !errors.Is(err, ErrTimeout) {
				t.Error(err)
			}
			absent(t, m, "a")
			Read(t, m, "b")
		},
		WrongByte: func(t *testing.T, m *object.Memory, f *Faulty) {
			got := Read(t, f, "a")
			wrong := 0
			for i := range got {
				if got[i] != b[i] {
					wrong++
				}
			}
			if len(got) != len(b) || wrong != 1 {
				t.Errorf("%d bytes, %d wrong", len(got), wrong)
			}
			if !bytes.Equal(Read(t, m, "a"), b) {
				t.Error("it is wrong in the store")
			}
		},
		Truncated: func(t *testing.T, _ *object.Memory, f *Faulty) {
			r, err := f.Get(t.Context(), "a", 10, 20)
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if !errors.Is(err, io.ErrUnexpectedEOF) || len(got) >= 20 || !bytes.Equal(got, b[10:10+len(got)]) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
		},
	} {
		t.Run(string(fault), func(t *testing.T) {
			m := object.NewMemory("test")
			Put(t, m, "a", b)
			Put(t, m, "b", b)
			f := NewFaulty(m, 1)
			f.SetRates(map[Fault]float64{fault: 1})
			check(t, m, f)
			if f.Met(fault) == 0 {
				t.Error("it was not met")
			}
			f.SetRates(nil)
			Put(t, f, "healed", b)
			Read(t, f, "healed")
		})
	}
}

func TestFaultyIsAway(t *testing.T) {
	f := NewFaulty(object.NewMemory("test"), 1)
	Put(t, f, "a", []byte("a"))
	f.SetAway(true)
	_, getErr := f.Get(t.Context(), "a", 0, -1)
	_, statErr := f.Stat(t.Context(), "a")
	_, listErr := f.List(t.Context(), "a", "", 1)
	for _, err := range []error{getErr, statErr, listErr, f.Put(t.Context(), "a", object.Bytes(nil)), f.Delete(t.Context(), "a"), f.Erase(t.Context(), "a")} {
		want(t, err, ErrAway, "a")
	}
	f.SetAway(false)
	if got := Read(t, f, "a"); string(got) != "a" {
		t.Errorf("got %q", got)
	}
}

func TestHooks(t *testing.T) {
	m := object.NewMemory("test")
	f := NewFaulty(m, 1)
	mine := errors.New("mine")
	var seen []Call
	f.SetHook(Hook{
		Before: func(_ context.Context, c Call) error {
			if c.Op == "put" && c.Nth == 1 {
				return mine
			}
			return nil
		},
		After: func(_ context.Context, c Call, err error) error {
			seen = append(seen, c)
			if c.Op == "delete" {
				return mine
			}
			return err
		},
	})
	want(t, f.Put(t.Context(), "a", object.Bytes(nil)), mine, "a")
	absent(t, m, "a")
	Put(t, f, "a", nil)
	want(t, f.Put(t.Context(), "a", object.Bytes(nil)), object.ErrExists, "a")
	want(t, f.Delete(t.Context(), "a"), mine, "a")
	absent(t, m, "a")
	f.SetHook(Hook{})
	Put(t, f, "a", nil)
	after := []Call{{"put", []string{"a"}, 2}, {"put", []string{"a"}, 3}, {"delete", []string{"a"}, 1}}
	if diff := cmp.Diff(after, seen); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(append(append([]Call{{"put", []string{"a"}, 1}}, after...), Call{"put", []string{"a"}, 4}), f.Calls()); diff != "" {
		t.Error(diff)
	}
}
