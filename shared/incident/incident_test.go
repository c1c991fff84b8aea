package incident

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"originchain/shared/alarms"
)

// memory keeps documents, and fails when told to.
type memory struct {
	mu   sync.Mutex
	docs map[string][]byte
	vers map[string]uint64
	// fail is asked before each Save takes effect, and lost after.
	fail, lost func() error
}

func newMemory() *memory { return &memory{docs: map[string][]byte{}, vers: map[string]uint64{}} }

func (m *memory) Load(_ context.Context, key string) ([]byte, uint64, bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.docs[key]
	return slices.Clone(b), m.vers[key], ok, nil
}

func (m *memory) Save(_ context.Context, key string, expect uint64, b []byte) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		if err := m.fail(); err != nil {
			return 0, err
		}
	}
	if m.vers[key] != expect {
		return 0, ErrConflict
	}
	m.docs[key], m.vers[key] = slices.Clone(b), expect+1
	if m.lost != nil {
		if err := m.lost(); err != nil {
			return 0, err
		}
	}
	return expect + 1, nil
}

func (m *memory) Delete(_ context.Context, key string, expect uint64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		if err := m.fail(); err != nil {
			return err
		}
	}
	if m.vers[key] != expect || m.docs[key] == nil {
		return ErrConflict
	}
	delete(m.docs, key)
	delete(m.vers, key)
	return nil
}

func (m *memory) List(_ context.Context, prefix string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Collect(maps.Keys(m.docs)), func(k string) bool { return !strings.HasPrefix(k, prefix) }), nil
}

type clock struct{ now time.Time }

func (c *clock) Now() time.Time { return c.now }

func store(t *testing.T, m *memory, subs ...Subscriber) (*Store, *clock) {
	t.Helper()
	c := &clock{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	r := NewRoster(m)
	s := NewStore(m, r, c.Now, func() float64 { return 0 })
	for _, sub := range subs {
		if err := r.Subscribe(t.Context(), sub); err != nil {
			t.Fatal(err)
		}
	}
	return s, c
}

var down = Opening{ID: "failover-7", Severity: alarms.TenantDown, Title: "A node is silent", Cause: Cause{Alarm: alarms.InstanceSilent, Node: "a"}, Text: "Looking."}

func must[T any](t *testing.T) func(v T, err error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func TestTimeline(t *testing.T) {
	s, c := store(t, newMemory(), Subscriber{ID: "ops", Email: "ops@example.com"}, Subscriber{ID: "all", Email: "all@example.com", UpTo: alarms.Drift})
	ctx, get := t.Context(), must[*Incident](t)
	get(s.Open(ctx, down))
	c.now = c.now.Add(time.Second)
	again := down
	again.Title = "another"
	if i := get(s.Open(ctx, again)); i.Title != down.Title || len(i.Updates) != 1 {
		t.Errorf("opened twice: %+v", i)
	}
	get(s.Add(ctx, down.ID, "step-promote", "b is the writer."))
	get(s.Add(ctx, down.ID, "step-promote", "b is the writer."))
	c.now = c.now.Add(-time.Hour) // the wall clock is set
	get(s.Resolve(ctx, down.ID, "resolved", "Over."))
	i := get(s.Resolve(ctx, down.ID, "resolved", "Over."))
	if len(i.Updates) != 3 || i.Resolved == nil || i.Updates[2].At.Before(i.Updates[1].At) || len(i.Owed) != 6 {
		t.Errorf("%+v", i)
	}
	if _, err := s.Add(ctx, down.ID, "late", "x"); !errors.Is(err, ErrResolved) {
		t.Errorf("an update after the end: %v", err)
	}
	get(s.Open(ctx, Opening{ID: "drift", Severity: alarms.Drift, Title: "x", Text: "x"}))
	if i := get(s.Add(ctx, "drift", "k", "x")); len(i.Owed) != 2 || i.Owed[0].Subscriber != "all" {
		t.Errorf("of severity 3 only who asked is told: %+v", i.Owed)
	}
	if ids := must[[]string](t)(s.Active(ctx)); !slices.Equal(ids, []string{"failover-7", "drift"}) {
		t.Errorf("%q", ids)
	}
	for _, bad := range []Opening{{ID: "../x", Severity: 1, Title: "x", Text: "x"}, {ID: "x", Severity: 4, Title: "x", Text: "x"}, {ID: "x", Severity: 1, Title: "x\r\nBcc: y", Text: "x"}, {ID: "x", Severity: 1, Title: "x"}, {ID: "x", Severity: 1, Title: "x", Text: strings.Repeat("x", MaxTextBytes+1)}} {
		if _, err := s.Open(ctx, bad); err == nil {
			t.Errorf("%+v was opened", bad)
		}
	}
	if _, err := s.Add(ctx, "none", "k", "x"); err == nil {
		t.Error("an update of no incident")
	}
}

func TestLimits(t *testing.T) {
	m := newMemory()
	var subs []Subscriber
	for n := range MaxSubscribers {
		subs = append(subs, Subscriber{ID: fmt.Sprint("s", n), Email: "a@b.c"})
	}
	s, _ := store(t, m, subs...)
	ctx, get := t.Context(), must[*Incident](t)
	if err := NewRoster(m).Subscribe(ctx, Subscriber{ID: "more", Email: "a@b.c"}); err == nil {
		t.Error("one subscriber too many")
	}
	get(s.Open(ctx, down))
	var i *Incident
	for n := 1; n < MaxUpdates; n++ {
		i = get(s.Add(ctx, down.ID, fmt.Sprint(n), strings.Repeat(`"`, MaxTextBytes/2)))
	}
	if len(i.Owed) != MaxOwed || i.Updates[MaxUpdates-1].Missed != MaxSubscribers || len(i.Updates[MaxUpdates-1].GivenUp) != maxNamed {
		t.Errorf("%d owed, %+v", len(i.Owed), i.Updates[MaxUpdates-1])
	}
	if _, err := s.Add(ctx, down.ID, "more", "x"); !errors.Is(err, ErrFull) {
		t.Errorf("%v", err)
	}
	if i := get(s.Resolve(ctx, down.ID, "resolved", "x")); i.Resolved == nil {
		t.Error("a full incident cannot be resolved")
	}
}

// What is said was seen: what comes between the look and the word of it is still to be said.
func TestWhatIsSaidWasSeen(t *testing.T) {
	var subs []Subscriber
	for n := range MaxSubscribers {
		subs = append(subs, Subscriber{ID: fmt.Sprint("s", n), Email: "a@b.c"})
	}
	s, _ := store(t, newMemory(), subs...)
	ctx, get := t.Context(), must[*Incident](t)
	i := get(s.Open(ctx, down))
	for n := 0; i.Updates[len(i.Updates)-1].Unsaid == 0; n++ {
		i = get(s.Add(ctx, down.ID, fmt.Sprint(n), "x"))
	}
	seen := len(i.Updates)
	get(s.Add(ctx, down.ID, "meanwhile", "x"))
	for range 2 {
		if err := s.Said(ctx, down.ID, seen); err != nil {
			t.Fatal(err)
		}
		i, _, err := s.Get(ctx, down.ID)
		if err != nil || i.Updates[seen-1].Unsaid != 0 || i.Updates[seen].Unsaid != MaxSubscribers || i.Updates[seen].Missed != MaxSubscribers {
			t.Errorf("%+v, %v", i.Updates[seen-1:], err)
		}
	}
	if err := s.Said(ctx, down.ID, seen+1); err != nil {
		t.Fatal(err)
	}
	if i, _, err := s.Get(ctx, down.ID); err != nil || i.Updates[seen].Unsaid != 0 {
		t.Errorf("%+v, %v", i.Updates[seen], err)
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	m := newMemory()
	s, _ := store(t, m, Subscriber{ID: "hook", Webhook: "https://h.example/T0KEN", Secret: "sssssssssssssssss"})
	subs := must[[]Subscriber](t)(s.Subscribers(t.Context()))
	b, _ := json.Marshal(subs)
	for _, text := range []string{fmt.Sprintf("%v %+v %#v", subs, subs, subs), string(b)} {
		if strings.Contains(text, "T0KEN") || strings.Contains(text, "sss") {
			t.Errorf("printed: %s", text)
		}
	}
	if string(subs[0].Secret) != "sssssssssssssssss" || string(subs[0].Webhook) != "https://h.example/T0KEN" {
		t.Error("they are not kept either")
	}
	m.docs["subscribers/bad"] = []byte(`{"id":"bad","secret":"sssssssssssssssss",`)
	if _, err := s.Subscribers(t.Context()); err == nil || strings.Contains(err.Error(), "sss") {
		t.Errorf("%v", err)
	}
	well := func(string) error { return nil }
	for _, bad := range []Subscriber{{ID: "x", UpTo: 1}, {ID: "x", Email: "a@b.c", Webhook: "h", Secret: "0123456789abcdef", UpTo: 1}, {ID: "x", Webhook: "h", Secret: "short", UpTo: 1}, {ID: "/", Email: "a@b.c", UpTo: 1}, {ID: "x", Email: "a@b.c", UpTo: 9}} {
		if bad.Check(well, well) == nil {
			t.Errorf("%s was taken", bad.ID)
		}
	}
}

func TestAttemptsAndGivingUp(t *testing.T) {
	s, c := store(t, newMemory(), Subscriber{ID: "ops", Email: "ops@example.com"})
	ctx := t.Context()
	must[*Incident](t)(s.Open(ctx, down))
	begun, attempts, last := c.now, 0, time.Time{}
	var pauses []time.Duration
	for c.now.Sub(begun) < GiveUpAfter+time.Hour {
		_, claimed, settled, err := s.Claim(ctx, down.ID)
		if err != nil || settled {
			t.Fatal(settled, err)
		}
		for _, d := range claimed {
			if d.ID != "failover-7.1.ops" {
				t.Fatalf("delivery %s", d.ID)
			}
			if attempts++; !last.IsZero() {
				pauses = append(pauses, c.now.Sub(last))
			}
			last = c.now
			if _, err := s.Settle(ctx, down.ID, d, errors.New("no\r\nanswer"), false); err != nil {
				t.Fatal(err)
			}
		}
		i, _, err := s.Get(ctx, down.ID)
		if err != nil {
			t.Fatal(err)
		}
		if len(i.Owed) == 0 {
			break
		}
		early := i.Owed[0].Due.Add(-time.Nanosecond)
		if c.now = early; len(claimed) > 0 {
			if _, before, _, _ := s.Claim(ctx, down.ID); len(before) > 0 {
				t.Fatalf("attempted before it is due: %v", before)
			}
		}
		c.now = i.Owed[0].Due
	}
	i, _, err := s.Get(ctx, down.ID)
	if err != nil || len(i.Owed) != 0 || len(i.Updates[0].GivenUp) != 1 || !strings.Contains(i.Updates[0].GivenUp[0].Reason, "given up after 24h0m0s") {
		t.Fatalf("%v %+v", err, i)
	}
	if pauses[0] != firstPause || pauses[1] != 2*firstPause || slices.Max(pauses) != longestPause || attempts > 160 {
		t.Errorf("%d attempts, pauses %v", attempts, pauses[:12])
	}
	if p := pause(3, 0.999); p < 2*firstPause || p > 4*firstPause {
		t.Errorf("with jitter %s", p)
	}
	for n := range 100 {
		if p := pause(n, 0); p <= 0 || p > longestPause {
			t.Errorf("after %d attempts %s", n, p)
		}
	}
}

// A claim keeps others away until it ends; whoever is late counts once.
func TestClaims(t *testing.T) {
	s, c := store(t, newMemory(), Subscriber{ID: "ops", Email: "ops@example.com"})
	ctx := t.Context()
	must[*Incident](t)(s.Open(ctx, down))
	_, first, _, _ := s.Claim(ctx, down.ID)
	if _, more, _, _ := s.Claim(ctx, down.ID); len(first) != 1 || len(more) != 0 {
		t.Fatalf("claimed %v and %v", first, more)
	}
	c.now = c.now.Add(ClaimFor)
	_, second, _, _ := s.Claim(ctx, down.ID)
	if len(second) != 1 || second[0].ID != first[0].ID || second[0].Attempts != 2 {
		t.Fatalf("%v", second)
	}
	if _, err := s.Settle(ctx, down.ID, first[0], errors.New("x"), true); err != nil { // late, and no longer its to fail
		t.Fatal(err)
	}
	for _, d := range [][]Delivery{second, first} {
		if _, err := s.Settle(ctx, down.ID, d[0], nil, false); err != nil {
			t.Fatal(err)
		}
	}
	if i, _, _ := s.Get(ctx, down.ID); i.Updates[0].Delivered != 1 || len(i.Updates[0].GivenUp) != 0 || len(i.Owed) != 0 {
		t.Errorf("%+v", i)
	}
}

// Whatever fails or is lost at whichever write, and whoever interleaves: what an update
// owed is delivered, given up or still owed, and the timeline has each update once.
func TestNothingIsLostBesideOthers(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 11))
		m := newMemory()
		s, c := store(t, m, Subscriber{ID: "a", Email: "a@b.c"}, Subscriber{ID: "b", Email: "b@b.c"})
		faulty := func() error {
			if r.IntN(5) == 0 {
				return errors.New("away")
			}
			return nil
		}
		m.fail, m.lost = faulty, faulty
		ctx, again := t.Context(), func(do func() error) {
			for do() != nil {
			}
		}
		again(func() error { _, err := s.Open(ctx, down); return err })
		other := NewStore(m, NewRoster(m), c.Now, r.Float64)
		var held []Delivery
		for n := range 60 {
			c.now = c.now.Add(time.Duration(r.IntN(40)) * time.Second)
			switch r.IntN(4) {
			case 0:
				again(func() error { _, err := other.Add(ctx, down.ID, fmt.Sprint(n), "x"); return err })
			case 1, 2:
				_, claimed, _, _ := []*Store{s, other}[r.IntN(2)].Claim(ctx, down.ID)
				held = append(held, claimed...)
			case 3:
				if len(held) > 0 {
					d := held[0]
					held = held[1:]
					_, _ = other.Settle(ctx, down.ID, d, []error{nil, errors.New("x")}[r.IntN(2)], r.IntN(4) == 0)
				}
			}
		}
		i, _, err := s.Get(ctx, down.ID)
		if err != nil {
			t.Fatal(err)
		}
		owed := make(map[int]int)
		for _, d := range i.Owed {
			owed[d.Update]++
		}
		keys := make(map[string]bool)
		for n, u := range i.Updates {
			if keys[u.Key] || u.Seq != n+1 || u.Delivered+u.Missed+owed[u.Seq] != 2 {
				t.Fatalf("seed %d: update %+v, %d owed", seed, u, owed[u.Seq])
			}
			keys[u.Key] = true
		}
	}
}
