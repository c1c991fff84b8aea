package objecttest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"originchain/shared/object"
)

// fill puts keys, each with a content as long as the key.
func fill(t testing.TB, s object.Store, keys []string) {
	t.Helper()
	var g errgroup.Group
	g.SetLimit(8)
	for _, key := range keys {
		g.Go(func() error { return s.Put(t.Context(), key, object.Bytes([]byte(key))) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// model is what a list of some sorted keys must return.
func model(keys []string, prefix, after string, limit int) (list []object.Info) {
	for _, key := range keys {
		if strings.HasPrefix(key, prefix) && key > after && len(list) < limit {
			list = append(list, object.Info{Key: key, Size: int64(len(key))})
		}
	}
	return list
}

func compare(t testing.TB, s object.Store, keys []string, prefix, after string, limit int) {
	t.Helper()
	got, err := s.List(t.Context(), prefix, after, limit)
	if err != nil {
		t.Fatalf("list %q after %q: %v", prefix, after, err)
	}
	want := model(keys, prefix, after, limit)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("list %q after %q, %d at most: want -, got +\n%s", prefix, after, limit, diff)
	}
	if diff := cmp.Diff(want, firstOf(t, s, prefix, after, limit)); diff != "" {
		t.Fatalf("each of %q after %q, %d at most: want -, got +\n%s", prefix, after, limit, diff)
	}
}

// firstOf visits so many objects.
func firstOf(t testing.TB, s object.Store, prefix, after string, limit int) (got []object.Info) {
	t.Helper()
	enough := errors.New("enough")
	err := object.Each(t.Context(), s, prefix, after, func(info object.Info) error {
		if got = append(got, info); len(got) == limit {
			return enough
		}
		return nil
	})
	if full := len(got) == limit; full != errors.Is(err, enough) || !full && err != nil {
		t.Fatalf("each of %q after %q ends with %v after %d", prefix, after, err, len(got))
	}
	return got
}

func listOrder(t *testing.T, handle func() object.Store) {
	keys := nastyKeys()
	fill(t, handle(), keys)
	s := handle()
	for _, key := range keys {
		if string(Read(t, s, key)) != key {
			t.Fatalf("%q is not what was put", key)
		}
	}
	var points []string
	for _, key := range append(keys, badKeys()...) {
		if len(key) > 40 {
			points = append(points, key, key[:len(key)/2])
			continue
		}
		for i := range len(key) + 1 {
			points = append(points, key[:i])
		}
	}
	slices.Sort(points)
	points = slices.Compact(points)
	for _, p := range points {
		compare(t, s, keys, p, "", object.MaxList)
		compare(t, s, keys, "", p, object.MaxList)
		compare(t, s, keys, "a", p, 3)
		compare(t, s, keys, p, "a-b", 3)
	}
}

func listPages(t *testing.T, handle func() object.Store) {
	keys := nastyKeys()
	s := handle()
	fill(t, s, keys)
	for _, limit := range []int{1, 2, 7, len(keys) - 1, len(keys), len(keys) + 1} {
		for _, prefix := range []string{"", "a", "ab/"} {
			after := ""
			for pages := 0; ; pages++ {
				compare(t, s, keys, prefix, after, limit)
				list := model(keys, prefix, after, limit)
				if len(list) < limit {
					break
				}
				after = list[len(list)-1].Key
			}
		}
	}
}

func listMany(t *testing.T, handle func() object.Store) {
	s := handle()
	var keys []string
	for i := range 1500 {
		keys = append(keys, fmt.Sprintf("log/%03d/%08x.seg", i/500, i))
	}
	keys = append(keys, "log.json", "log/000-x")
	slices.Sort(keys)
	fill(t, s, keys)
	if diff := cmp.Diff(keys, Keys(t, s, "")); diff != "" {
		t.Fatal(diff)
	}
	compare(t, s, keys, "", "", object.MaxList)
	compare(t, s, keys, "", keys[object.MaxList-1], object.MaxList)
	compare(t, s, keys, "log/", keys[700], 5)
	// More than a single request of a store may name.
	if err := s.Delete(t.Context(), keys[:1200]...); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(keys[1200:], Keys(t, s, "")); diff != "" {
		t.Fatal(diff)
	}
	if err := s.Erase(t.Context(), keys...); err != nil {
		t.Fatal(err)
	}
	if got := Keys(t, s, ""); len(got) != 0 {
		t.Fatalf("%d are left", len(got))
	}
}

func listLimit(t *testing.T, handle func() object.Store) {
	for _, limit := range []int{-1, 0, object.MaxList + 1} {
		list, err := handle().List(t.Context(), "", "", limit)
		var e *object.Error
		if !errors.As(err, &e) || list != nil {
			t.Fatalf("limit %d: %v, %v", limit, list, err)
		}
	}
}

func remove(how func(object.Store, context.Context, ...string) error) func(t *testing.T, handle func() object.Store) {
	return func(t *testing.T, handle func() object.Store) {
		keys := []string{"a/1", "a/2", "a/b/3", "c"}
		s := handle()
		fill(t, s, keys)
		for range 2 {
			if err := how(s, t.Context(), "a/1", "never", "never/there", "a/b", "c/below"); err != nil {
				t.Fatal(err)
			}
			absent(t, s, "a/1")
			if diff := cmp.Diff(keys[1:], Keys(t, s, "")); diff != "" {
				t.Fatal(diff)
			}
		}
		if err := how(s, t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := how(s, t.Context(), keys...); err != nil {
			t.Fatal(err)
		}
		if got := Keys(t, s, ""); len(got) != 0 {
			t.Fatalf("left: %q", got)
		}
		// Twice in one call is once.
		Put(t, s, "a/1", []byte("again"))
		if got := Read(t, handle(), "a/1"); string(got) != "again" {
			t.Fatalf("got %q", got)
		}
		if err := how(s, t.Context(), "a/1", "a/1"); err != nil {
			t.Fatal(err)
		}
		absent(t, s, "a/1")
	}
}

// removeRaces deletes the last object of a directory while others put into it.
func removeRaces(t *testing.T, handle func() object.Store) {
	const workers, each = 6, 25
	var wg sync.WaitGroup
	errs := make(chan error, 2*workers*each)
	for w := range workers {
		s := handle()
		wg.Go(func() {
			for i := range each {
				key := fmt.Sprintf("deep/er/%d/%d", i%2, w)
				if err := s.Put(t.Context(), key, object.Bytes([]byte(key))); err != nil {
					errs <- err
				}
				if _, err := s.Stat(t.Context(), key); err != nil {
					errs <- err
				}
				if i < each-2 {
					if err := s.Delete(t.Context(), key); err != nil {
						errs <- err
					}
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	if got := Keys(t, handle(), "deep/"); len(got) != 2*workers {
		t.Fatalf("got %q", got)
	}
}

func versions(t *testing.T, handle func() object.Store) {
	s := handle()
	Put(t, s, "a/b", []byte("there"))
	Put(t, s, "a/gone", []byte("gone"))
	if err := s.Delete(t.Context(), "a/gone"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.EraseVersions(t.Context(), "a/"); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := s.EraseVersions(t.Context(), ""); n != 0 || err != nil {
		t.Errorf("there was something left: %d, %v", n, err)
	}
	if got := Read(t, s, "a/b"); string(got) != "there" {
		t.Errorf("an object has changed: %q", got)
	}
}
