package ddblease_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"originchain/shared/aws/ddblease"
	"originchain/shared/aws/ddblease/ddbtest"
	"originchain/shared/lease"
	"originchain/shared/leasetest"
)

func open(t *testing.T, endpoint, table string) *ddblease.Store {
	t.Helper()
	s, err := ddblease.New(context.Background(), ddblease.Config{Table: table, Key: "orders", Region: ddbtest.Region, Endpoint: endpoint, Credentials: ddbtest.Credentials()})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestContract(t *testing.T) {
	endpoint := ddbtest.Start(t)
	tables := 0
	leasetest.Run(t, func(t *testing.T) func() lease.Store {
		tables++
		table := fmt.Sprintf("leases-%d", tables)
		ddbtest.Table(t, endpoint, table, ddblease.KeyAttribute)
		return func() lease.Store { return open(t, endpoint, table) }
	})
}

// proxy is between the store and the emulator, and spoils what it is told to.
type proxy struct {
	*httptest.Server
	// before answers in place of the emulator, after in place of its answer; nil: no.
	before, after atomic.Pointer[http.HandlerFunc]
}

func newProxy(t *testing.T, endpoint string) *proxy {
	t.Helper()
	to, err := url.Parse(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	through := httputil.NewSingleHostReverseProxy(to)
	p := &proxy{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".UpdateItem") {
			through.ServeHTTP(w, r)
			return
		}
		if h := p.before.Load(); h != nil {
			(*h)(w, r)
			return
		}
		if h := p.after.Load(); h != nil {
			through.ServeHTTP(httptest.NewRecorder(), r)
			(*h)(w, r)
			return
		}
		through.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func cut(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func answer(status int, kind string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, `{"__type":"com.amazonaws.dynamodb.v20120810#`+kind+`","message":"x"}`)
	}
}

// A write whose answer is lost is unknown, and sent once: the record says whether it
// took effect. One that was refused was not made.
func TestOutcomes(t *testing.T) {
	endpoint := ddbtest.Start(t)
	ddbtest.Table(t, endpoint, "leases", ddblease.KeyAttribute)
	p := newProxy(t, endpoint)
	s := open(t, p.URL, "leases")
	ctx := context.Background()
	first, err := s.CompareAndSet(ctx, 0, leasetest.First(t))
	if err != nil {
		t.Fatal(err)
	}
	next, err := first.Renew(lease.Claim{Node: first.Holder, Epoch: first.Epoch}, 7)
	if err != nil {
		t.Fatal(err)
	}
	version := func() uint64 {
		r, _, err := s.Load(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return r.Version
	}
	cases := []struct {
		name    string
		where   *atomic.Pointer[http.HandlerFunc]
		do      http.HandlerFunc
		unknown bool
		written bool
	}{
		{"cut before it arrives", &p.before, cut, true, false},
		{"an error of the server before", &p.before, answer(500, "InternalServerError"), true, false},
		{"throttled", &p.before, answer(400, "ProvisionedThroughputExceededException"), false, false},
		{"not allowed", &p.before, answer(400, "AccessDeniedException"), false, false},
		{"no such table", &p.before, answer(400, "ResourceNotFoundException"), false, false},
		{"cut after it took effect", &p.after, cut, true, true},
		{"an error of the server after", &p.after, answer(503, "ServiceUnavailable"), true, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			was, sent := version(), 0
			do := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { sent++; c.do(w, r) })
			c.where.Store(&do)
			_, err := s.CompareAndSet(ctx, was, next)
			c.where.Store(nil)
			var unknown *lease.OutcomeUnknownError
			if err == nil || errors.As(err, &unknown) != c.unknown {
				t.Errorf("%v; unknown should be %t", err, c.unknown)
			}
			if sent != 1 {
				t.Errorf("it was sent %d times", sent)
			}
			if got := version() != was; got != c.written {
				t.Errorf("written is %t", got)
			}
		})
	}
}

func TestURLs(t *testing.T) {
	u, _ := url.Parse("dynamodb://leases/orders?region=eu-central-1&endpoint=http://127.0.0.1:1")
	c, err := ddblease.Parse(u)
	want := ddblease.Config{Table: "leases", Key: "orders", Region: "eu-central-1", Endpoint: "http://127.0.0.1:1"}
	if c != want || err != nil {
		t.Errorf("%+v %v", c, err)
	}
	if again, _ := url.Parse(c.String()); again == nil {
		t.Error("it does not print itself")
	} else if c, err := ddblease.Parse(again); c != want || err != nil {
		t.Errorf("printed and read: %+v %v", c, err)
	}
	for _, bad := range []string{
		"dynamodb://leases", "dynamodb:///x", "dynamodb://a/x", "dynamodb://leases/a/b", "dynamodb://u:secret@leases/x", "dynamodb://leases/x?key=secret",
		"dynamodb://leases/x?region=a&region=b", "dynamodb://leases/x?endpoint=ftp://h", "http://leases/x", "dynamodb://leases/x#f",
	} {
		u, err := url.Parse(bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ddblease.Parse(u); !errors.Is(err, ddblease.ErrURL) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// A renewal that is not answered leaves time for the reading after it, and for another one
// that counts, before the holder fences itself.
func TestARenewalThatHangsIsSurvived(t *testing.T) {
	if worst := lease.RenewEvery + 3*ddblease.AnswerTimeout; worst >= lease.SelfFence {
		t.Errorf("the second renewal ends %s after the last good one, and the holder fences itself after %s", worst, lease.SelfFence)
	}
	endpoint := ddbtest.Start(t)
	ddbtest.Table(t, endpoint, "leases-hang", ddblease.KeyAttribute)
	p := newProxy(t, endpoint)
	s := open(t, p.URL, "leases-hang")
	end := make(chan struct{})
	hang := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-end:
		}
	})
	p.before.Store(&hang)
	defer close(end)
	var unknown *lease.OutcomeUnknownError
	if _, err := s.CompareAndSet(t.Context(), 0, leasetest.First(t)); !errors.As(err, &unknown) {
		t.Errorf("a request that hangs: %v", err)
	}
	p.before.Store(nil)
	if _, err := s.CompareAndSet(t.Context(), 0, leasetest.First(t)); err != nil {
		t.Errorf("the next one: %v", err)
	}
}
