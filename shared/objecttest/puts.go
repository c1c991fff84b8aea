package objecttest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"originchain/shared/object"
)

const (
	// racers put the same key at the same time, in each of rounds.
	racers = 16
	rounds = 10
)

func race(t *testing.T, handle func() object.Store) {
	for round := range rounds {
		contest(t, handle, "race/"+string(rune('a'+round)), racers, 100)
	}
}

func raceBig(t *testing.T, handle func() object.Store) { contest(t, handle, "race/big", 3, BigBytes) }

// contest lets several put a key, each with content of its own, and reads it back.
func contest(t *testing.T, handle func() object.Store, key string, racers, size int) {
	t.Helper()
	errs := make([]error, racers)
	contents := make([][]byte, racers)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range racers {
		contents[i] = content(uint64(100+i), size)
		s := handle()
		wg.Go(func() {
			<-start
			errs[i] = s.Put(t.Context(), key, object.Bytes(contents[i]))
		})
	}
	close(start)
	wg.Wait()
	winner := -1
	for i, err := range errs {
		switch {
		case err == nil && winner < 0:
			winner = i
		case err == nil:
			t.Fatalf("%d and %d both created %s", winner, i, key)
		default:
			want(t, err, object.ErrExists, key)
		}
	}
	if winner < 0 {
		t.Fatalf("nobody created %s", key)
	}
	if !bytes.Equal(Read(t, handle(), key), contents[winner]) {
		t.Fatalf("%s is not what its creator %d put", key, winner)
	}
}

// pausing gives out half of the content, then waits until it may go on.
type pausing struct {
	io.Reader
	half    int
	reached func()
	goOn    <-chan struct{}
}

func (p *pausing) Close() error { return nil }

func (p *pausing) Read(b []byte) (int, error) {
	if p.half == 0 {
		p.reached()
		<-p.goOn
	}
	if p.half > 0 {
		b = b[:min(len(b), p.half)]
	}
	n, err := p.Reader.Read(b)
	p.half -= n
	return n, err
}

// paused returns a body that stops in the middle until goOn is closed, and what is
// closed when it has come there.
func paused(b []byte, goOn <-chan struct{}) (body object.Body, reached <-chan struct{}) {
	there := make(chan struct{})
	once := sync.OnceFunc(func() { close(there) })
	body = object.Bytes(b)
	body.Open = func() (io.ReadCloser, error) {
		return &pausing{bytes.NewReader(b), len(b) / 2, once, goOn}, nil
	}
	return body, there
}

func slowBody(t *testing.T, handle func() object.Store) {
	for key, size := range map[string]int{"slow/small": 1000, "slow/big": BigBytes} {
		b := content(4, size)
		goOn := make(chan struct{})
		body, reached := paused(b, goOn)
		done := make(chan error, 1)
		s := handle()
		go func() { done <- s.Put(t.Context(), key, body) }()
		<-reached
		absent(t, handle(), key)
		close(goOn)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(Read(t, handle(), key), b) {
			t.Fatalf("%s came back as other bytes", key)
		}
	}
}

// stopped cancels a put in the middle of its body.
func stopped(t *testing.T, handle func() object.Store) {
	for key, size := range map[string]int{"stopped/small": 1000, "stopped/big": BigBytes} {
		ctx, cancel := context.WithCancel(t.Context())
		goOn := make(chan struct{})
		body, reached := paused(content(5, size), goOn)
		done := make(chan error, 1)
		s := handle()
		go func() { done <- s.Put(ctx, key, body) }()
		<-reached
		cancel()
		close(goOn)
		want(t, <-done, context.Canceled, key)
		absent(t, s, key)
		Put(t, s, key, []byte("now"))
	}
}

// errBody is what a failing body fails with.
var errBody = errors.New("the disk that the body is on has a bad block")

func failingBody(t *testing.T, handle func() object.Store) {
	s := handle()
	for key, size := range map[string]int{"fails/small": 1000, "fails/big": BigBytes} {
		b := content(6, size)
		body := object.Bytes(b)
		body.Open = func() (io.ReadCloser, error) { return nil, errBody }
		want(t, s.Put(t.Context(), key, body), errBody, key)
		absent(t, s, key)
		body.Open = func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(b[:size-1]), failing{})), nil
		}
		want(t, s.Put(t.Context(), key, body), errBody, key)
		absent(t, s, key)
		Put(t, s, key, b)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errBody }

func wrongBody(t *testing.T, handle func() object.Store) {
	s := handle()
	for key, size := range map[string]int{"wrong/small": 1000, "wrong/big": BigBytes} {
		b := content(7, size)
		flipped := slices.Clone(b)
		flipped[size-1] ^= 1
		for what, other := range map[string][]byte{"another byte": flipped, "shorter": b[:size-1], "longer": append(slices.Clone(b), 0), "nothing": nil} {
			body := object.Bytes(b)
			body.Open = object.Bytes(other).Open
			err := s.Put(t.Context(), key, body)
			if !errors.Is(err, object.ErrContent) {
				t.Fatalf("%s: %v", what, err)
			}
			want(t, err, object.ErrContent, key)
			absent(t, s, key)
		}
		Put(t, s, key, b)
	}
	lied := object.Bytes([]byte("some"))
	lied.Size = -1
	want(t, s.Put(t.Context(), "wrong/size", lied), object.ErrContent, "wrong/size")
	absent(t, s, "wrong/size")
}

// badKeys are no keys.
func badKeys() []string {
	return []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/../b", "./a", "a/.", "a/.hidden/b", ".tmp/x",
		"a\x00b", "a\nb", "a\x7f", "ä", "a/\xff", strings.Repeat("a", object.MaxPart+1), strings.Repeat("ab/", 171) + "x",
	}
}

// nastyKeys are keys, in order.
func nastyKeys() []string {
	keys := []string{
		"!", "#", "%2e%2e/x", "&", "'", "+", "a", "a b", "a b/c", "a!", "a%2Fb", "a-", "a-/x", "a-b", "a.b", "a.b.c/d", "a.b.c/e", "A", "B/a",
		"a0", "aa", "aa/a", "ab/a/b/c/d", "ab/a/b/c/e", "ab/a0", "b c+d=e&f?g#h", "back\\slash", "x;y", "~", "{}", "<>\"|*:",
		"0000000000000001-000000000000000a.seg.zst", strings.Repeat("n", object.MaxPart), "d/" + strings.Repeat("n/", 40) + "n",
		strings.Repeat("m", object.MaxPart) + "/" + strings.Repeat("m", object.MaxPart),
	}
	slices.Sort(keys)
	return slices.DeleteFunc(keys, func(key string) bool {
		return slices.ContainsFunc(keys, func(other string) bool { return strings.HasPrefix(other, key+"/") })
	})
}

func keys(t *testing.T, handle func() object.Store) {
	s := handle()
	Put(t, s, "a", []byte("x"))
	for _, key := range badKeys() {
		want(t, s.Put(t.Context(), key, object.Bytes(nil)), object.ErrKey, key)
		_, err := s.Get(t.Context(), key, 0, -1)
		want(t, err, object.ErrKey, key)
		_, err = s.Stat(t.Context(), key)
		want(t, err, object.ErrKey, key)
		want(t, s.Delete(t.Context(), key), object.ErrKey, key)
		want(t, s.Erase(t.Context(), key), object.ErrKey, key)
		if err := s.Delete(t.Context(), "a", key); !errors.Is(err, object.ErrKey) {
			t.Fatalf("delete of a and %q: %v", key, err)
		}
	}
	if got := Keys(t, s, ""); !slices.Equal(got, []string{"a"}) {
		t.Fatalf("got %q", got)
	}
}

// inTheWay puts an object where another one is a directory, and the reverse.
func inTheWay(t *testing.T, handle func() object.Store) {
	s := handle()
	Put(t, s, "dir/object", []byte("1"))
	Put(t, s, "object", []byte("2"))
	for _, key := range []string{"dir", "object/below", "object/below/it"} {
		if err := s.Put(t.Context(), key, object.Bytes([]byte("3"))); err != nil {
			want(t, err, object.ErrKey, key)
			absentAt(t, s, key)
		} else if string(Read(t, s, key)) != "3" {
			t.Fatalf("%s is not what was put", key)
		}
	}
	if string(Read(t, s, "dir/object")) != "1" || string(Read(t, s, "object")) != "2" {
		t.Fatal("an object has changed")
	}
	// Once nothing is in the way any more, it is free for the other.
	if err := s.Delete(t.Context(), "dir/object", "object", "dir", "object/below", "object/below/it"); err != nil {
		t.Fatal(err)
	}
	Put(t, s, "dir", []byte("4"))
	Put(t, s, "object/below/it", []byte("5"))
}

// absentAt is absent for a key that others may begin with.
func absentAt(t testing.TB, s object.Store, key string) {
	t.Helper()
	_, err := s.Stat(t.Context(), key)
	want(t, err, object.ErrNotFound, key)
}
