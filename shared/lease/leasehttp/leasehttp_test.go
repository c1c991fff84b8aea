package leasehttp_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"

	"originchain/shared/lease"
	"originchain/shared/lease/leasehttp"
	"originchain/shared/leasetest"
)

const token = "b1946ac92492d2347c6235b4d2611184"

// serve serves leases kept in files of a directory, through wrap.
func serve(t *testing.T, wrap func(http.Handler) http.Handler) (config leasehttp.Config) {
	t.Helper()
	dir := t.TempDir()
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	open := func(name string) (lease.Store, error) {
		return lease.OpenFile(vfs.Default, filepath.Join(dir, name))
	}
	var h http.Handler = leasehttp.NewServer(open, token, quiet)
	if wrap != nil {
		h = wrap(h)
	}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	file := filepath.Join(dir, "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return leasehttp.Config{Base: server.URL, Name: "orders", TokenFile: file}
}

func TestContract(t *testing.T) {
	leasetest.Run(t, func(t *testing.T) func() lease.Store {
		config := serve(t, nil)
		return func() lease.Store { return leasehttp.New(config, nil) }
	})
}

func TestALostAnswerIsUnknown(t *testing.T) {
	var spoil func(w http.ResponseWriter, r *http.Request, h http.Handler)
	config := serve(t, func(h http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut && spoil != nil {
				spoil(w, r, h)
				return
			}
			h.ServeHTTP(w, r)
		})
	})
	s := leasehttp.New(config, nil)
	record, err := s.CompareAndSet(context.Background(), 0, leasetest.First(t))
	if err != nil {
		t.Fatal(err)
	}
	next, err := record.Renew(lease.Claim{Node: record.Holder, Epoch: record.Epoch}, 7)
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name             string
		spoil            func(w http.ResponseWriter, r *http.Request, h http.Handler)
		unknown, written bool
	}{
		{"cut before", func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }, true, false},
		{"cut after", func(_ http.ResponseWriter, r *http.Request, h http.Handler) {
			h.ServeHTTP(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		}, true, true},
		{"an answer that is none", func(w http.ResponseWriter, r *http.Request, h http.Handler) {
			h.ServeHTTP(httptest.NewRecorder(), r)
			_, _ = io.WriteString(w, "{")
		}, true, true},
		{"a gateway's 502", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(502) }, true, false},
		{"refused", func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { w.WriteHeader(401) }, false, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			before, _, err := s.Load(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			sent := 0
			spoil = func(w http.ResponseWriter, r *http.Request, h http.Handler) { sent++; c.spoil(w, r, h) }
			_, err = s.CompareAndSet(context.Background(), before.Version, next)
			spoil = nil
			var unknown *lease.OutcomeUnknownError
			if err == nil || errors.As(err, &unknown) != c.unknown {
				t.Errorf("%v; unknown should be %t", err, c.unknown)
			}
			after, _, err := s.Load(context.Background())
			if err != nil || sent != 1 || (after.Version != before.Version) != c.written {
				t.Errorf("sent %d times; version %d, then %d; %v", sent, before.Version, after.Version, err)
			}
		})
	}
}

func TestWhoMayAskAndForWhat(t *testing.T) {
	config := serve(t, nil)
	call := func(method, path, auth, condition, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, config.Base+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", auth)
		if condition != "" {
			req.Header.Set("If-Match", condition)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		if err := errors.Join(err, res.Body.Close()); err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, string(text)
	}
	for _, c := range []struct {
		method, path, auth, condition, body string
		want                                int
	}{
		{"GET", "/v1/leases/orders", "", "", "", 401},
		{"GET", "/v1/leases/orders", "Bearer x", "", "", 401},
		{"PUT", "/v1/leases/orders", "Basic " + token, `"1"`, "{}", 401},
		{"GET", "/v1/leases/orders", "Bearer " + token, "", "", 404},
		{"GET", "/v1/leases/..%2Fx", "Bearer " + token, "", "", 400},
		{"PUT", "/v1/leases/orders", "Bearer " + token, "", "{}", 400},
		{"PUT", "/v1/leases/orders", "Bearer " + token, `"0"`, "{}", 400},
		{"PUT", "/v1/leases/orders", "Bearer " + token, `"1"`, "{}", 400},
		{"PUT", "/v1/leases/orders", "Bearer " + token, `"1"`, strings.Repeat("x", lease.MaxRecordBytes+1), 400},
		{"DELETE", "/v1/leases/orders", "Bearer " + token, "", "", 405},
	} {
		if got, text := call(c.method, c.path, c.auth, c.condition, c.body); got != c.want || strings.Contains(text, token) {
			t.Errorf("%s %s %q: %d %s, want %d", c.method, c.path, c.condition, got, text, c.want)
		}
	}
	missing := config
	missing.TokenFile += "-not-there"
	var unknown *lease.OutcomeUnknownError
	if _, err := leasehttp.New(missing, nil).CompareAndSet(context.Background(), 0, leasetest.First(t)); !errors.Is(err, os.ErrNotExist) || errors.As(err, &unknown) {
		t.Errorf("without a token file: %v", err)
	}
}

func TestURLs(t *testing.T) {
	u, _ := url.Parse("http://127.0.0.1:9/v1/leases/orders?token-file=/var/lib/t")
	want := leasehttp.Config{Base: "http://127.0.0.1:9", Name: "orders", TokenFile: "/var/lib/t"}
	if c, err := leasehttp.Parse(u); c != want || err != nil {
		t.Errorf("%+v %v", c, err)
	}
	for _, bad := range []string{
		"http://h/v1/leases/x", "http://h/v1/leases/?token-file=/t", "http://h/other/x?token-file=/t", "http://u:secret@h/v1/leases/x?token-file=/t",
		"http://h/v1/leases/x?token-file=t", "ftp://h/v1/leases/x?token-file=/t", "http://h/v1/leases/x/y?token-file=/t", "http://h/v1/leases/x?token-file=/t&a=b",
	} {
		u, err := url.Parse(bad)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := leasehttp.Parse(u); !errors.Is(err, leasehttp.ErrURL) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// Whoever sends a request on elsewhere gets no token for it, and what is read there is not
// taken for what was written.
func TestNothingIsSentElsewhere(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("%s arrives with %q", r.Method, r.Header.Get("Authorization"))
	}))
	t.Cleanup(elsewhere.Close)
	config := serve(t, func(http.Handler) http.Handler {
		return http.RedirectHandler(elsewhere.URL+"/v1/leases/orders", http.StatusSeeOther)
	})
	s := leasehttp.New(config, nil)
	if _, _, err := s.Load(t.Context()); err == nil {
		t.Error("a record is read")
	}
	next, err := lease.Record{}.Take(lease.Candidate{Instance: "01HZX3V9J8Q2W4E6R8T0Y2M4K6", Node: "a", URL: "http://a"})
	if err != nil {
		t.Fatal(err)
	}
	var unknown *lease.OutcomeUnknownError
	if _, err := s.CompareAndSet(t.Context(), 0, next); !errors.As(err, &unknown) {
		t.Errorf("%v", err)
	}
}
