// Package objecttest is the contract of an object.Store as tests: every store passes
// Run, wherever it keeps its objects. Faulty is a store that goes wrong on purpose,
// for the tests of what uses one.
package objecttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"originchain/shared/object"
)

// BigBytes is the size of an object that stores are to split, if they split any.
const BigBytes = 20 << 20

// Run checks a store. open makes an empty place and returns what opens handles to
// it; each handle is what another process would have.
func Run(t *testing.T, open func(t *testing.T) (handle func() object.Store)) {
	for _, c := range []struct {
		name string
		test func(t *testing.T, handle func() object.Store)
	}{
		{"what is put is read, whole and in ranges", roundTrip},
		{"what is not there is not found", notThere},
		{"a key that is taken stays as it is", taken},
		{"of several that race one creates", race},
		{"a big object is as a small one", big},
		{"one of several big ones that race creates", raceBig},
		{"nothing is visible before it is whole", slowBody},
		{"a body that fails leaves nothing", failingBody},
		{"a body that is not what it says leaves nothing", wrongBody},
		{"a list is in the order of bytes", listOrder},
		{"a list goes on where the last one ended", listPages},
		{"a list of more than one answer may hold", listMany},
		{"a limit is 1 to MaxList", listLimit},
		{"deleted is deleted, twice too", remove(object.Store.Delete)},
		{"erased is erased, twice too", remove(object.Store.Erase)},
		{"erasing versions leaves objects", versions},
		{"a context that has ended changes nothing", ended},
		{"a context that ends stops a put", stopped},
		{"keys are checked", keys},
		{"an object is in the way of those below it, or is not", inTheWay},
		{"the store has a clock", clock},
		{"the store has a name", named},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(t, open(t)) })
	}
}

// RunDirectories checks what only a store can get wrong whose keys lead through
// directories that it makes and removes.
func RunDirectories(t *testing.T, open func(t *testing.T) (handle func() object.Store)) {
	t.Run("deletions do not race puts", func(t *testing.T) { removeRaces(t, open(t)) })
}

// Read returns an object, and fails the test if it cannot.
func Read(t testing.TB, s object.Store, key string) []byte {
	t.Helper()
	return readRange(t, s, key, 0, -1)
}

func readRange(t testing.TB, s object.Store, key string, off, n int64) []byte {
	t.Helper()
	r, err := s.Get(t.Context(), key, off, n)
	if err != nil {
		t.Fatalf("get %s, %d bytes from %d: %v", key, n, off, err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("read %s, %d bytes from %d: %v", key, n, off, err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

// Put creates an object, and fails the test if it cannot.
func Put(t testing.TB, s object.Store, key string, content []byte) {
	t.Helper()
	if err := s.Put(t.Context(), key, object.Bytes(content)); err != nil {
		t.Fatal(err)
	}
}

// Keys returns the keys of all objects with a prefix.
func Keys(t testing.TB, s object.Store, prefix string) (keys []string) {
	t.Helper()
	for after := ""; ; {
		list, err := s.List(t.Context(), prefix, after, object.MaxList)
		if err != nil {
			t.Fatal(err)
		}
		for _, info := range list {
			keys = append(keys, info.Key)
		}
		if len(list) < object.MaxList {
			return keys
		}
		after = keys[len(keys)-1]
	}
}

// want fails the test unless err is an *object.Error of a kind, about a key.
func want(t testing.TB, err, kind error, key string) {
	t.Helper()
	var e *object.Error
	if !errors.Is(err, kind) || !errors.As(err, &e) {
		t.Fatalf("got %v, want an *object.Error that is %q", err, kind)
	}
	if e.Key != key || e.Op == "" || e.Store == "" {
		t.Fatalf("got op %q, key %q, store %q, want key %q", e.Op, e.Key, e.Store, key)
	}
}

// absent fails the test unless a key is nowhere to be seen.
func absent(t testing.TB, s object.Store, key string) {
	t.Helper()
	_, err := s.Stat(t.Context(), key)
	want(t, err, object.ErrNotFound, key)
	_, err = s.Get(t.Context(), key, 0, -1)
	want(t, err, object.ErrNotFound, key)
	if keys := Keys(t, s, key); len(keys) != 0 {
		t.Fatalf("listed: %q", keys)
	}
}

func content(seed uint64, n int) []byte {
	b := make([]byte, n)
	var s [32]byte
	s[0] = byte(seed)
	_, _ = rand.NewChaCha8(s).Read(b)
	return b
}

func roundTrip(t *testing.T, handle func() object.Store) {
	small := content(1, 1000)
	Put(t, handle(), "log/0001/a.seg", small)
	Put(t, handle(), "empty", nil)
	s := handle()
	if got := Read(t, s, "log/0001/a.seg"); !bytes.Equal(got, small) {
		t.Fatalf("got %d other bytes", len(got))
	}
	if got := Read(t, s, "empty"); len(got) != 0 {
		t.Fatalf("got %d bytes of nothing", len(got))
	}
	for key, size := range map[string]int64{"log/0001/a.seg": 1000, "empty": 0} {
		if info, err := s.Stat(t.Context(), key); err != nil || info != (object.Info{Key: key, Size: size}) {
			t.Fatalf("got %+v, %v", info, err)
		}
	}
	checkRanges(t, s, "log/0001/a.seg", small)
	checkRanges(t, s, "empty", nil)
}

// checkRanges reads ranges at every edge of an object.
func checkRanges(t *testing.T, s object.Store, key string, whole []byte) {
	t.Helper()
	size := int64(len(whole))
	for _, off := range []int64{0, 1, size / 2, size - 1, size} {
		for _, n := range []int64{0, 1, size / 2, size - off, -1} {
			if off < 0 || off > size || n < -1 || off+n > size {
				continue
			}
			end := off + n
			if n < 0 {
				end = size
			}
			if got := readRange(t, s, key, off, n); !bytes.Equal(got, whole[off:end]) {
				t.Fatalf("%d bytes from %d are %d other bytes", n, off, len(got))
			}
		}
	}
	for _, r := range [][2]int64{{0, size + 1}, {size, 1}, {size + 1, 0}, {size + 1, -1}, {-1, 1}, {-1, -1}, {1 << 62, 1 << 62}, {1, 1<<63 - 1}} {
		got, err := s.Get(t.Context(), key, r[0], r[1])
		if err == nil {
			_ = got.Close()
		}
		want(t, err, object.ErrRange, key)
	}
}

func notThere(t *testing.T, handle func() object.Store) {
	s := handle()
	absent(t, s, "a")
	absent(t, s, "a/b/c")
	if keys := Keys(t, s, ""); len(keys) != 0 {
		t.Fatalf("an empty store lists %q", keys)
	}
	Put(t, s, "a/b/c/d", []byte("x"))
	for _, key := range []string{"a", "a/b", "a/b/c"} {
		_, err := s.Stat(t.Context(), key)
		want(t, err, object.ErrNotFound, key)
		_, err = s.Get(t.Context(), key, 0, -1)
		want(t, err, object.ErrNotFound, key)
		_, err = s.Get(t.Context(), key, 0, 0)
		want(t, err, object.ErrNotFound, key)
	}
	for _, key := range []string{"a/b/c/d/e", "a/b/c/d/e/f"} {
		absent(t, s, key)
	}
}

func taken(t *testing.T, handle func() object.Store) {
	first := []byte("the first")
	Put(t, handle(), "k/taken", first)
	for _, body := range []object.Body{object.Bytes([]byte("another")), object.Bytes(first), object.Bytes(nil)} {
		want(t, handle().Put(t.Context(), "k/taken", body), object.ErrExists, "k/taken")
	}
	if got := Read(t, handle(), "k/taken"); !bytes.Equal(got, first) {
		t.Fatalf("got %q", got)
	}
}

func big(t *testing.T, handle func() object.Store) {
	b := content(2, BigBytes)
	s := handle()
	Put(t, s, "objects/big", b)
	if !bytes.Equal(Read(t, s, "objects/big"), b) {
		t.Fatal("it came back as other bytes")
	}
	checkRanges(t, s, "objects/big", b)
	other := content(3, BigBytes)
	want(t, handle().Put(t.Context(), "objects/big", object.Bytes(other)), object.ErrExists, "objects/big")
	Put(t, s, "objects/small", []byte("s"))
	want(t, handle().Put(t.Context(), "objects/small", object.Bytes(other)), object.ErrExists, "objects/small")
	if !bytes.Equal(Read(t, s, "objects/big"), b) || string(Read(t, s, "objects/small")) != "s" {
		t.Fatal("a put that was refused changed the object")
	}
}

func ended(t *testing.T, handle func() object.Store) {
	s := handle()
	Put(t, s, "there", []byte("x"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, getErr := s.Get(ctx, "there", 0, -1)
	_, statErr := s.Stat(ctx, "there")
	_, listErr := s.List(ctx, "th", "", 1)
	for key, err := range map[string]error{
		"new":   s.Put(ctx, "new", object.Bytes(nil)),
		"there": getErr,
		"th":    listErr,
	} {
		want(t, err, context.Canceled, key)
	}
	want(t, statErr, context.Canceled, "there")
	want(t, s.Delete(ctx, "there"), context.Canceled, "there")
	want(t, s.Erase(ctx, "there"), context.Canceled, "there")
	absent(t, s, "new")
	if got := Read(t, s, "there"); string(got) != "x" {
		t.Fatalf("got %q", got)
	}
}

func named(t *testing.T, handle func() object.Store) {
	if a, b := handle().String(), handle().String(); a == "" || a != b {
		t.Fatalf("got %q and %q", a, b)
	}
}

// clock asks what time it is, of a store on this machine: a telling that no year and
// no zone is confused is enough. It leaves nothing behind.
func clock(t *testing.T, handle func() object.Store) {
	s := handle()
	before := time.Now()
	now, err := s.Now(t.Context())
	if err != nil || now.Before(before.Add(-time.Hour)) || now.After(time.Now().Add(time.Hour)) {
		t.Errorf("it is %s by the store's clock, and %s by ours: %v", now, before, err)
	}
	if left := Keys(t, s, ""); len(left) > 0 {
		t.Errorf("it left %q", left)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = s.Now(ctx)
	want(t, err, context.Canceled, "")
}
