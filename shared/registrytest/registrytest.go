// Package registrytest is the contract of a registry.Store as tests: every store passes
// Run, whatever it keeps its documents in.
package registrytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"originchain/shared/registry"
)

const (
	racers = 8
	// increments each racer makes; every one costs a durable write.
	increments = 10
)

// Run checks a store. open makes a place without documents and returns what opens
// handles to it; each handle is what another process would have.
func Run(t *testing.T, open func(t *testing.T) (handle func() registry.Store)) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, handle func() registry.Store)
	}{
		{"nothing is there at first", nothingAtFirst},
		{"a document comes back as it was saved", roundTrip},
		{"the version that was expected decides", conflicts},
		{"a list has what begins with its prefix, in order", lists},
		{"a document is removed at its version", removes},
		{"what is out of bounds is refused", bounds},
		{"what was handed over is not shared", unshared},
		{"a context that has ended writes nothing", ended},
		{"one of many wins each version", race},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

func save(t *testing.T, s registry.Store, key string, expect uint64, body string) {
	t.Helper()
	d, err := s.Save(t.Context(), key, expect, []byte(body))
	if err != nil || d.Version != expect+1 || d.Key != key || string(d.Body) != body {
		t.Fatalf("save %s behind version %d: %+v, %v", key, expect, d, err)
	}
}

func has(t *testing.T, s registry.Store, key string, version uint64, body string) {
	t.Helper()
	d, err := s.Load(t.Context(), key)
	if err != nil || d.Version != version || d.Key != key || string(d.Body) != body {
		t.Fatalf("load %s: version %d %q, %v; want version %d %q", key, d.Version, d.Body, err, version, body)
	}
}

func conflict(t *testing.T, s registry.Store, key string, expect, found uint64) {
	t.Helper()
	_, err := s.Save(t.Context(), key, expect, []byte("other"))
	var c *registry.ConflictError
	if !errors.As(err, &c) || c.Expected != expect || c.Found.Version != found || c.Found.Key != key {
		t.Fatalf("save behind version %d: %v, want a conflict with version %d", expect, err, found)
	}
}

func nothingAtFirst(t *testing.T, handle func() registry.Store) {
	s := handle()
	has(t, s, "a", 0, "")
	conflict(t, s, "a", 1, 0)
	has(t, s, "a", 0, "")
	if l, err := s.List(t.Context(), ""); err != nil || len(l) != 0 {
		t.Fatalf("list: %v, %v", l, err)
	}
}

func roundTrip(t *testing.T, handle func() registry.Store) {
	s := handle()
	for i, key := range []string{"a", "nodes/a", "nodes/a:1+%2F", "nodes/" + strings.Repeat("x", 128), "..", "a.tmp"} {
		body := fmt.Sprintf("line %d\n\x00\xff\r\n", i)
		save(t, s, key, 0, body)
		has(t, handle(), key, 1, body)
		save(t, handle(), key, 1, "")
		has(t, s, key, 2, "")
	}
}

func conflicts(t *testing.T, handle func() registry.Store) {
	s, other := handle(), handle()
	save(t, s, "k", 0, "one")
	conflict(t, other, "k", 0, 1)
	conflict(t, other, "k", 2, 1)
	save(t, other, "k", 1, "two")
	conflict(t, s, "k", 1, 2)
	has(t, s, "k", 2, "two")
	has(t, s, "K", 0, "")
}

func lists(t *testing.T, handle func() registry.Store) {
	s := handle()
	for _, key := range []string{"nodes/b", "nodes", "nodes/a", "last", "nodes/B"} {
		save(t, s, key, 0, "of "+key)
	}
	for prefix, want := range map[string]string{"nodes/": "nodes/B nodes/a nodes/b", "": "last nodes nodes/B nodes/a nodes/b", "x": "", "nodes/a": "nodes/a"} {
		l, err := handle().List(t.Context(), prefix)
		var keys []string
		for _, d := range l {
			keys = append(keys, d.Key)
			if d.Version != 1 || string(d.Body) != "of "+d.Key {
				t.Errorf("%+v", d)
			}
		}
		if got := strings.Join(keys, " "); err != nil || got != want {
			t.Errorf("list %q: %q, %v; want %q", prefix, got, err, want)
		}
	}
}

func removes(t *testing.T, handle func() registry.Store) {
	s, other := handle(), handle()
	save(t, s, "k", 0, "one")
	save(t, s, "k", 1, "two")
	save(t, s, "beside", 0, "x")
	for _, expect := range []uint64{0, 1, 3} {
		var c *registry.ConflictError
		if err := other.Delete(t.Context(), "k", expect); !errors.As(err, &c) || c.Expected != expect || c.Found.Version != 2 {
			t.Fatalf("remove version %d: %v", expect, err)
		}
	}
	has(t, s, "k", 2, "two")
	if err := other.Delete(t.Context(), "k", 2); err != nil {
		t.Fatal(err)
	}
	has(t, s, "k", 0, "")
	has(t, handle(), "beside", 1, "x")
	var c *registry.ConflictError
	if err := s.Delete(t.Context(), "k", 0); !errors.As(err, &c) || c.Found.Version != 0 {
		t.Fatalf("remove what is not there: %v", err)
	}
	save(t, s, "k", 0, "two")
	has(t, other, "k", 1, "two")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Delete(ctx, "k", 1); !errors.Is(err, context.Canceled) {
		t.Errorf("remove: %v", err)
	}
	has(t, s, "k", 1, "two")
}

func bounds(t *testing.T, handle func() registry.Store) {
	s := handle()
	for _, key := range []string{"", "a b", "a\n", "é", strings.Repeat("x", registry.MaxKeyBytes+1), strings.Repeat("/", registry.MaxKeyBytes/3+1)} {
		if _, err := s.Save(t.Context(), key, 0, nil); err == nil {
			t.Errorf("the key %.20q is saved", key)
		}
		if _, err := s.Load(t.Context(), key); err == nil {
			t.Errorf("the key %.20q is loaded", key)
		}
	}
	if _, err := s.Save(t.Context(), "nil", 0, nil); err != nil {
		t.Errorf("a document without a body: %v", err)
	}
	has(t, s, "nil", 1, "")
	body := bytes.Repeat([]byte{'x'}, registry.MaxBodyBytes)
	save(t, s, "k", 0, string(body))
	if _, err := s.Save(t.Context(), "k", 1, append(body, 'x')); err == nil {
		t.Error("a body is saved that is too large")
	}
	has(t, handle(), "k", 1, string(body))
}

func unshared(t *testing.T, handle func() registry.Store) {
	s := handle()
	body := []byte("mine")
	d, err := s.Save(t.Context(), "k", 0, body)
	if err != nil {
		t.Fatal(err)
	}
	body[0], d.Body[1] = 'x', 'x'
	has(t, s, "k", 1, "mine")
	if d, err = s.Load(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	d.Body[0] = 'x'
	has(t, s, "k", 1, "mine")
}

func ended(t *testing.T, handle func() registry.Store) {
	s := handle()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Save(ctx, "k", 0, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("save: %v", err)
	}
	if _, err := s.Load(ctx, "k"); !errors.Is(err, context.Canceled) {
		t.Errorf("load: %v", err)
	}
	if _, err := s.List(ctx, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("list: %v", err)
	}
	has(t, s, "k", 0, "")
}

func race(t *testing.T, handle func() registry.Store) {
	var wg sync.WaitGroup
	for range racers {
		s := handle()
		wg.Go(func() {
			for n := 0; n < increments; {
				d, err := s.Load(t.Context(), "count")
				if err == nil {
					_, err = s.Save(t.Context(), "count", d.Version, append(d.Body, 'x'))
				}
				var c *registry.ConflictError
				switch {
				case err == nil:
					n++
				case !errors.As(err, &c):
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	has(t, handle(), "count", racers*increments, strings.Repeat("x", racers*increments))
}
