package incident

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"originchain/shared/alarms"
)

// meddled are documents into which somebody else writes, once, between what a caller has
// read and what it writes.
type meddled struct {
	*memory
	meanwhile func()
}

func (m *meddled) Save(ctx context.Context, key string, expect uint64, b []byte) (uint64, error) {
	if do := m.meanwhile; do != nil {
		m.meanwhile = nil
		do()
	}
	return m.memory.Save(ctx, key, expect, b)
}

func mail(id, address string) Subscriber {
	return Subscriber{ID: id, Email: address, UpTo: alarms.TenantDown}
}

func addresses(t *testing.T, r *Roster) (out []string) {
	t.Helper()
	for _, s := range must[[]Subscriber](t)(r.Subscribers(t.Context())) {
		out = append(out, s.ID+"="+s.Email)
	}
	return out
}

func TestASubscriberIsReplacedOnlyByName(t *testing.T) {
	m := newMemory()
	r, ctx := NewRoster(m), t.Context()
	for n, step := range []struct {
		do   func() error
		want error
		has  []string
	}{
		{func() error { return r.Unsubscribe(ctx, "ops") }, ErrNoSubscriber, nil},
		{func() error { return r.Subscribe(ctx, mail("ops", "a@b.c")) }, nil, []string{"ops=a@b.c"}},
		{func() error { return r.Subscribe(ctx, mail("ops", "a@b.c")) }, nil, []string{"ops=a@b.c"}},
		{func() error { return r.Subscribe(ctx, mail("ops", "d@e.f")) }, ErrSubscribed, []string{"ops=a@b.c"}},
		{func() error { return r.Replace(ctx, mail("ops", "d@e.f")) }, nil, []string{"ops=d@e.f"}},
		{func() error { return r.Replace(ctx, mail("two", "a@b.c")) }, nil, []string{"ops=d@e.f", "two=a@b.c"}},
		{func() error { return r.Unsubscribe(ctx, "ops") }, nil, []string{"two=a@b.c"}},
		{func() error { return r.Unsubscribe(ctx, "ops") }, nil, []string{"two=a@b.c"}},
		{func() error { return r.Subscribe(ctx, mail("ops", "g@h.i")) }, nil, []string{"ops=g@h.i", "two=a@b.c"}},
	} {
		if err := step.do(); !errors.Is(err, step.want) || err != nil && step.want == nil {
			t.Errorf("step %d: %v, want %v", n, err, step.want)
		}
		if got := addresses(t, r); !slices.Equal(got, step.has) {
			t.Errorf("step %d: %q, want %q", n, got, step.has)
		}
	}
	if v := m.vers["subscribers/ops"]; v != 4 {
		t.Errorf("version %d: what was there already was written", v)
	}
	// What cannot be read may be a subscriber: it is replaced by name, or removed.
	for _, mend := range []func() error{
		func() error { return r.Replace(ctx, mail("two", "j@k.l")) },
		func() error { return r.Unsubscribe(ctx, "two") },
	} {
		m.docs["subscribers/two"] = []byte(`{"id":"two",`)
		if _, err := r.Subscribers(ctx); err == nil {
			t.Error("a broken document was read")
		}
		if err := r.Subscribe(ctx, mail("two", "j@k.l")); !errors.Is(err, ErrSubscribed) {
			t.Errorf("%v", err)
		}
		if err := r.Subscribe(ctx, mail("three", "j@k.l")); err != nil {
			t.Errorf("nobody else can be added: %v", err)
		}
		if err := mend(); err != nil {
			t.Error(err)
		}
		addresses(t, r)
	}
}

// Of two at once the second one is told so, and has overwritten nothing.
func TestNobodyOverwritesWhatTheyHaveNotSeen(t *testing.T) {
	ctx := t.Context()
	for name, c := range map[string]struct {
		do, meanwhile func(*Roster) error
		has           []string
	}{
		"both add":                  {func(r *Roster) error { return r.Subscribe(ctx, mail("new", "1@b.c")) }, func(r *Roster) error { return r.Subscribe(ctx, mail("new", "2@b.c")) }, []string{"new=2@b.c", "ops=a@b.c"}},
		"both replace":              {func(r *Roster) error { return r.Replace(ctx, mail("ops", "1@b.c")) }, func(r *Roster) error { return r.Replace(ctx, mail("ops", "2@b.c")) }, []string{"ops=2@b.c"}},
		"one removes, one replaces": {func(r *Roster) error { return r.Unsubscribe(ctx, "ops") }, func(r *Roster) error { return r.Replace(ctx, mail("ops", "2@b.c")) }, []string{"ops=2@b.c"}},
		"one replaces, one removes": {func(r *Roster) error { return r.Replace(ctx, mail("ops", "1@b.c")) }, func(r *Roster) error { return r.Unsubscribe(ctx, "ops") }, nil},
		"it is another of the same id": {func(r *Roster) error { return r.Replace(ctx, mail("ops", "1@b.c")) }, func(r *Roster) error {
			return errors.Join(r.Unsubscribe(ctx, "ops"), r.Subscribe(ctx, mail("ops", "2@b.c")))
		}, []string{"ops=2@b.c"}},
	} {
		m := newMemory()
		other := NewRoster(m)
		if err := other.Subscribe(ctx, mail("ops", "a@b.c")); err != nil {
			t.Fatal(err)
		}
		late := NewRoster(&meddled{m, func() {
			if err := c.meanwhile(other); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}})
		if err := c.do(late); !errors.Is(err, ErrConflict) {
			t.Errorf("%s: %v", name, err)
		}
		if got := addresses(t, other); !slices.Equal(got, c.has) {
			t.Errorf("%s: %q, want %q", name, got, c.has)
		}
	}
}

// oneLeft is a roster with room for one more.
func oneLeft(t *testing.T) (m *memory, r *Roster, ctx context.Context) {
	t.Helper()
	m, ctx = newMemory(), t.Context()
	r = NewRoster(m)
	for n := range MaxSubscribers - 1 {
		if err := r.Subscribe(ctx, mail(fmt.Sprint("s", n), "a@b.c")); err != nil {
			t.Fatal(err)
		}
	}
	return m, r, ctx
}

func TestNoMoreThanAreTold(t *testing.T) {
	m, r, ctx := oneLeft(t)
	// The last place is taken while the write of another one is under way.
	late := NewRoster(&meddled{m, func() {
		if err := r.Subscribe(ctx, mail("last", "a@b.c")); err != nil {
			t.Error(err)
		}
	}})
	if err := late.Subscribe(ctx, mail("late", "a@b.c")); !errors.Is(err, ErrMaxSubscribers) {
		t.Errorf("%v", err)
	}
	if err := r.Subscribe(ctx, mail("more", "a@b.c")); !errors.Is(err, ErrMaxSubscribers) || m.vers["subscribers/more"] != 0 {
		t.Errorf("%v; it was written %d times", err, m.vers["subscribers/more"])
	}
	if got := addresses(t, r); len(got) != MaxSubscribers || !slices.Contains(got, "last=a@b.c") || slices.Contains(got, "late=a@b.c") {
		t.Errorf("%d: %q", len(got), got)
	}
	if err := r.Replace(ctx, mail("last", "d@e.f")); err != nil {
		t.Errorf("none can be replaced: %v", err)
	}
	if err := errors.Join(r.Unsubscribe(ctx, "s0"), r.Subscribe(ctx, mail("more", "a@b.c"))); err != nil {
		t.Errorf("a place that is free again: %v", err)
	}
}

// Where the one too many cannot be taken back, that is no refusal: it was added, and the error
// says who is to be removed.
func TestOneTooManyThatStays(t *testing.T) {
	for name, refusal := range map[string]error{"the store is too busy": errors.New("ThrottlingException"), "somebody changes it at once": ErrConflict} {
		m, r, ctx := oneLeft(t)
		late := NewRoster(&meddled{m, func() {
			if err := r.Subscribe(ctx, mail("last", "a@b.c")); err != nil {
				t.Error(err)
			}
			saves := 0
			m.fail = func() error {
				if saves++; saves == 1 { // its own, which is under way
					return nil
				}
				return refusal
			}
		}})
		err := late.Subscribe(ctx, mail("late", "a@b.c"))
		if err == nil || errors.Is(err, ErrMaxSubscribers) || errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "late was added nevertheless, and is to be removed") {
			t.Errorf("%s: %v", name, err)
		}
		if got := addresses(t, r); len(got) != MaxSubscribers+1 {
			t.Errorf("%s: there are %d: this tells nothing", name, len(got))
		}
	}
}

// Ids that were used stay, and are bounded: a notifier lists them all.
func TestIdsAreBounded(t *testing.T) {
	m := newMemory()
	r, ctx := NewRoster(m), t.Context()
	for n := range MaxNames - 1 {
		id := fmt.Sprint("s", n)
		m.docs[subscribers+id], m.vers[subscribers+id] = []byte(`{"id":"`+id+`","up_to":0,"gone":true}`), 2
	}
	if err := errors.Join(r.Subscribe(ctx, mail("last", "a@b.c")), r.Unsubscribe(ctx, "last")); err != nil {
		t.Fatal(err)
	}
	if err := r.Subscribe(ctx, mail("more", "a@b.c")); !errors.Is(err, ErrMaxNames) {
		t.Errorf("%v", err)
	}
	if err := r.Subscribe(ctx, mail("s7", "a@b.c")); err != nil || len(m.docs) != MaxNames {
		t.Errorf("one that is no more cannot come back: %v, %d", err, len(m.docs))
	}
}

// A write of unknown outcome says so, and the same call again ends it.
func TestAChangeOfUnknownOutcomeIsRepeated(t *testing.T) {
	ctx := t.Context()
	for name, change := range map[string]func(*Roster) error{
		"add":     func(r *Roster) error { return r.Subscribe(ctx, mail("new", "1@b.c")) },
		"replace": func(r *Roster) error { return r.Replace(ctx, mail("ops", "1@b.c")) },
		"remove":  func(r *Roster) error { return r.Unsubscribe(ctx, "ops") },
	} {
		for _, written := range []bool{true, false} {
			m := newMemory()
			r := NewRoster(m)
			if err := r.Subscribe(ctx, mail("ops", "a@b.c")); err != nil {
				t.Fatal(err)
			}
			lost := func() error { return errors.New("no answer") }
			if written {
				m.lost = lost
			} else {
				m.fail = lost
			}
			if err := change(r); err == nil || errors.Is(err, ErrConflict) || !strings.Contains(err.Error(), "may or may not") {
				t.Errorf("%s: %v", name, err)
			}
			m.fail, m.lost = nil, nil
			if err := change(r); err != nil {
				t.Errorf("%s, written: %t: %v", name, written, err)
			}
		}
	}
}

// Of many at once with one id one is added; of many with ids of their own, all.
func TestManyAtOnce(t *testing.T) {
	m := newMemory()
	r, ctx := NewRoster(m), t.Context()
	const many = 20
	var one, own [many]error
	var work sync.WaitGroup
	for n := range many {
		work.Go(func() { one[n] = r.Subscribe(ctx, mail("one", fmt.Sprint(n, "@b.c"))) })
		work.Go(func() { own[n] = r.Subscribe(ctx, mail(fmt.Sprint("own-", n), "a@b.c")) })
	}
	work.Wait()
	added := 0
	for n := range many {
		switch {
		case one[n] == nil:
			added++
		case !errors.Is(one[n], ErrSubscribed) && !errors.Is(one[n], ErrConflict):
			t.Error(one[n])
		}
		if own[n] != nil {
			t.Error(own[n])
		}
	}
	if got := addresses(t, r); added != 1 || len(got) != many+1 {
		t.Errorf("%d added under one id: %q", added, got)
	}
}
