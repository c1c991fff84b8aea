package notice

import (
	"context"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const secret = "0123456789abcdef-hush"

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func hooks(allow []netip.Prefix) *Webhooks {
	return NewWebhooks(WebhookConfig{Allow: allow, Now: time.Now})
}

func TestSignature(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	body := []byte(`{"a":1}`)
	h := http.Header{}
	h.Set(HeaderTimestamp, "1700000000")
	h.Set(HeaderSignature, Signature([]byte(secret), "1700000000", body))
	if err := Verify([]byte(secret), h, body, now); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		secret, stamp string
		body          string
		now           time.Time
		want          error
	}{
		"another secret":  {"0123456789abcdef", "1700000000", `{"a":1}`, now, ErrSignature},
		"no secret":       {"", "1700000000", `{"a":1}`, now, ErrSignature},
		"another body":    {secret, "1700000000", `{"a":2}`, now, ErrSignature},
		"another time":    {secret, "1700000001", `{"a":1}`, now, ErrSignature},
		"an old one":      {secret, "1700000000", `{"a":1}`, now.Add(Tolerance + time.Second), ErrStale},
		"one of tomorrow": {secret, "1700000000", `{"a":1}`, now.Add(-Tolerance - time.Second), ErrStale},
	} {
		got := h.Clone()
		got.Set(HeaderTimestamp, c.stamp)
		if err := Verify([]byte(c.secret), got, []byte(c.body), c.now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestWebhookIsSigned(t *testing.T) {
	var got *http.Request
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer srv.Close()
	if err := hooks(loopback).Send(t.Context(), srv.URL+"/hook", []byte(secret), "i.1.s", []byte(`{}`)); err != nil {
		t.Fatal(err)
	}
	if err := Verify([]byte(secret), got.Header, body, time.Now()); err != nil || got.Header.Get(HeaderDelivery) != "i.1.s" || got.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%v: %v", err, got.Header)
	}
}

func TestAnswersOfAWebhook(t *testing.T) {
	followed := false
	hang := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/500":
			w.WriteHeader(500)
		case "/redirect":
			http.Redirect(w, r, "/target", http.StatusTemporaryRedirect)
		case "/target":
			followed = true
		case "/endless":
			for range 1000 {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
		case "/hang":
			<-hang
		case "/lost":
			c, _, _ := w.(http.Hijacker).Hijack()
			_ = c.Close()
		}
	}))
	defer srv.Close()
	defer close(hang)
	send := func(ctx context.Context, path string) error {
		return hooks(loopback).Send(ctx, srv.URL+path+"?key=q-secret", []byte(secret), "d", []byte(`{}`))
	}
	for path, want := range map[string]string{"/500": "answered 500", "/redirect": "answered 307", "/lost": "not answered", "/endless": ""} {
		err := send(t.Context(), path)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
		discreet(t, err)
	}
	if followed {
		t.Error("a redirect was followed")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- send(ctx, "/hang") }()
	cancel()
	if err := <-ended; err == nil {
		t.Error("no answer is no success")
	} else {
		discreet(t, err)
	}
}

// discreet: an error has nothing of the secret, nor of the URL.
func discreet(t *testing.T, err error) {
	t.Helper()
	for _, s := range []string{secret, "q-secret", "http://", "127.0.0.1"} {
		if err != nil && strings.Contains(err.Error(), s) {
			t.Errorf("the error tells %s: %v", s, err)
		}
	}
}

func TestWebhookURLs(t *testing.T) {
	for raw, ok := range map[string]bool{
		"https://example.com/x": true, "http://127.0.0.1:80/": true, "http://[::1]/": true, "http://localhost/": true,
		"http://example.com/": false, "https://u:p@example.com/": false, "ftp://example.com/": false, "https:///x": false, "": false,
		"http://127.0.0.1.example.com/": false, "https:opaque": false, "https://example.com/#f": false, "http://10.0.0.1/": false, "://": false,
	} {
		if err := CheckURL(raw); (err == nil) != ok || err != nil && !errors.Is(err, ErrRefused) {
			t.Errorf("%q: %v", raw, err)
		}
	}
}

// What is not public is not reached, in whatever way it is written.
func TestAddressesThatAreNotReached(t *testing.T) {
	for _, a := range []string{
		"127.0.0.1:80", "[::1]:80", "10.1.2.3:443", "172.16.0.1:443", "192.168.1.1:443", "169.254.169.254:80", "100.64.0.1:443", "0.0.0.0:80", "255.255.255.255:80",
		"224.0.0.1:80", "[fe80::1]:80", "[fe80::1%25eth0]:80", "[fc00::1]:80", "[fd00:ec2::254]:80", "[::ffff:127.0.0.1]:80", "[::ffff:10.0.0.1]:80", "[::]:80", "[64:ff9b::7f00:1]:80", "[2002:7f00:1::]:80", "[::7f00:1]:80", "[ff02::1]:80", "198.18.0.1:80", "what",
	} {
		if err := reachable(a, nil, false); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %v", a, err)
		}
	}
	for _, a := range []string{"93.184.216.34:443", "[2606:2800:220:1:248:1893:25c8:1946]:443"} {
		if err := reachable(a, nil, false); err != nil {
			t.Errorf("%s: %v", a, err)
		}
		if err := reachable(a, nil, true); !errors.Is(err, ErrRefused) {
			t.Errorf("%s in the clear: %v", a, err)
		}
	}
	if err := reachable("[::ffff:10.0.0.1]:443", []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, false); err != nil {
		t.Errorf("a range that is allowed: %v", err)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was reached") }))
	defer srv.Close()
	if err := hooks(nil).Send(t.Context(), srv.URL, []byte(secret), "d", nil); !errors.Is(err, ErrRefused) {
		t.Errorf("loopback that nobody allowed: %v", err)
	} else {
		discreet(t, err)
	}
	if err := hooks(loopback).Send(t.Context(), srv.URL, []byte("short"), "d", nil); !errors.Is(err, ErrRefused) {
		t.Errorf("a short secret: %v", err)
	}
	if err := hooks(loopback).Send(t.Context(), srv.URL, []byte(secret), "d", make([]byte, MaxMessageBytes+1)); !errors.Is(err, ErrRefused) {
		t.Errorf("a long message: %v", err)
	}
}

// A certificate of another name is no reason to tell either.
func TestACertificateOfAnotherName(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was reached") }))
	defer srv.Close()
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	err = hooks(loopback).Send(t.Context(), "https://localhost:"+port+"/x", []byte(secret), "d", nil)
	if err == nil || strings.Contains(err.Error(), "localhost") || strings.Contains(err.Error(), "example.com") || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("%v", err)
	}
}
