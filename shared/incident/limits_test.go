package incident

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"originchain/shared/alarms"
)

// The longest document of an incident there can be fits into a store of documents: names,
// texts and failures as long as they may be, all of it in characters that JSON escapes.
func TestTheLongestIncidentFits(t *testing.T) {
	m := newMemory()
	var subs []Subscriber
	for n := range MaxSubscribers {
		subs = append(subs, Subscriber{ID: fmt.Sprintf("%064d", n), Email: "a@b.c"})
	}
	s, c := store(t, m, subs...)
	ctx, get := t.Context(), must[*Incident](t)
	long := Opening{ID: strings.Repeat("i", 64), Severity: alarms.TenantDown, Title: strings.Repeat(`"`, MaxTitleBytes), Text: strings.Repeat(`<`, MaxTextBytes), Cause: Cause{Alarm: strings.Repeat("a", 64), Node: strings.Repeat("n", 64)}}
	get(s.Open(ctx, long))
	largest := 0
	for n := 1; n < MaxUpdates; n++ {
		c.now = c.now.Add(2 * time.Hour)
		get(s.Add(ctx, long.ID, fmt.Sprintf("%064d", n), Clip(strings.Repeat("\x01", MaxTextBytes))))
		_, claimed, _, err := s.Claim(ctx, long.ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range claimed[:min(len(claimed), 20)] {
			if _, err := s.Settle(ctx, long.ID, d, errors.New(strings.Repeat(`"`, 1000)), n%2 == 0); err != nil {
				t.Fatal(err)
			}
		}
		largest = max(largest, len(m.docs["incidents/"+long.ID]))
	}
	if i := get(s.Resolve(ctx, long.ID, strings.Repeat("r", 64), strings.Repeat(`"`, MaxTextBytes/2))); i.Resolved == nil || len(i.Owed) < MaxOwed/2 {
		t.Errorf("%d are owed: this tells little", len(i.Owed))
	}
	if largest = max(largest, len(m.docs["incidents/"+long.ID])); largest > MaxBytes || largest < MaxBytes/3 {
		t.Errorf("the document has had %d bytes, of %d", largest, MaxBytes)
	}
	if _, err := s.Open(ctx, Opening{ID: "x", Severity: alarms.TenantDown, Title: "x", Text: strings.Repeat("\x01", MaxTextBytes/2)}); err == nil {
		t.Error("a text was taken that JSON makes three times as long")
	}
}

func TestClip(t *testing.T) {
	for _, text := range []string{"short", strings.Repeat("ö", MaxTextBytes), strings.Repeat("\x01", MaxTextBytes), strings.Repeat("x", MaxTextBytes), strings.Repeat("x", MaxTextBytes+1)} {
		short := Clip(text)
		if n := encodedBytes(short); n > MaxTextBytes || encodedBytes(text) > MaxTextBytes && n < MaxTextBytes-maxRuneBytes-4 || encodedBytes(text) <= MaxTextBytes && short != text {
			t.Errorf("%d bytes of %d", n, encodedBytes(text))
		}
	}
}

// Only what somebody has still to do with is active, however many incidents there were;
// what was announced and never opened is dropped after a while.
func TestTheIndexIsBounded(t *testing.T) {
	m := newMemory()
	s, c := store(t, m)
	ctx, get := t.Context(), must[*Incident](t)
	o := down
	for n := range MaxPast + 10 {
		o.ID = fmt.Sprint("i-", n)
		get(s.Open(ctx, o))
		if err := s.Retire(ctx, o.ID); err != nil {
			t.Fatal(err)
		}
		if ids := must[[]string](t)(s.Active(ctx)); len(ids) != 1 {
			t.Fatalf("one that is open is not active: %q", ids)
		}
		get(s.Resolve(ctx, o.ID, "over", "Over."))
		if err := s.Retire(ctx, o.ID); err != nil {
			t.Fatal(err)
		}
	}
	if past := must[[]string](t)(s.Past(ctx)); len(past) != MaxPast || past[MaxPast-1] != o.ID || past[0] != "i-10" {
		t.Errorf("%d are past", len(past))
	}
	if docs := must[[]string](t)(m.List(ctx, incidents)); len(docs) != MaxPast || slices.Contains(docs, incidents+"i-9") {
		t.Errorf("%d documents are kept", len(docs))
	}
	get(s.Open(ctx, o))
	if ids := must[[]string](t)(s.Active(ctx)); len(ids) != 0 {
		t.Errorf("one that is over was opened again: %q", ids)
	}
	if _, err := s.announce(ctx, Opening{ID: "killed"}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{1, 0} {
		if err := s.Retire(ctx, "killed"); err != nil {
			t.Fatal(err)
		}
		if ids := must[[]string](t)(s.Active(ctx)); len(ids) != want {
			t.Errorf("active: %q, want %d", ids, want)
		}
		c.now = c.now.Add(orphanAfter)
	}
	for n := range MaxActive {
		if _, err := s.announce(ctx, Opening{ID: fmt.Sprint("many-", n)}); err != nil {
			t.Fatal(err)
		}
	}
	o.ID = "one-more"
	if _, err := s.Open(ctx, o); !errors.Is(err, ErrTooMany) {
		t.Errorf("%v", err)
	}
}

// Who knows that no other notifier lives need not wait for its claims to end.
func TestTakeOver(t *testing.T) {
	s, _ := store(t, newMemory(), Subscriber{ID: "ops", Email: "ops@example.com"})
	ctx := t.Context()
	must[*Incident](t)(s.Open(ctx, down))
	_, first, _, _ := s.Claim(ctx, down.ID)
	if err := s.TakeOver(ctx, down.ID); err != nil {
		t.Fatal(err)
	}
	if _, second, _, err := s.Claim(ctx, down.ID); err != nil || len(second) != 1 || second[0].ID != first[0].ID {
		t.Errorf("%v, %v, %v", first, second, err)
	}
}

// One that is open is never dropped, however old it is; one that cannot be dropped stays,
// and is in nobody's way; a kill between the two writes leaves nothing for ever.
func TestWhatIsDropped(t *testing.T) {
	m := newMemory()
	s, _ := store(t, m)
	ctx, get := t.Context(), must[*Incident](t)
	settle := func(id string) error {
		o := down
		o.ID = id
		get(s.Open(ctx, o))
		get(s.Resolve(ctx, id, "over", "Over."))
		return s.Retire(ctx, id)
	}
	o := down
	o.ID, o.Cause.Node = "open", "another" // of the same one there would be one incident
	get(s.Open(ctx, o))
	for n := range MaxPast {
		if err := settle(fmt.Sprint("i-", n)); err != nil {
			t.Fatal(err)
		}
	}
	m.docs[incidents+"i-0"] = []byte("{")
	if err := settle("a"); err == nil || !strings.Contains(err.Error(), "i-0") {
		t.Errorf("%v", err)
	}
	delete(m.docs, incidents+"i-2") // a kill, before the index was written
	delete(m.vers, incidents+"i-2")
	if err := settle("b"); err == nil {
		t.Error("the one that cannot be dropped is not told of")
	}
	past := must[[]string](t)(s.Past(ctx))
	if want := []string{"i-0", "i-3"}; len(past) != MaxPast || !slices.Equal(past[:2], want) {
		t.Errorf("%d are past: %q", len(past), past[:2])
	}
	if docs := must[[]string](t)(m.List(ctx, incidents)); len(docs) != MaxPast+1 || !slices.Contains(docs, incidents+"open") {
		t.Errorf("%d documents are kept", len(docs))
	}
}
