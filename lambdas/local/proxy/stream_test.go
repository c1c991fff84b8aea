package proxy

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// hijack takes over the connection of a request that was read.
func hijack(t *testing.T, w http.ResponseWriter, r *http.Request, text string) {
	_, _ = io.Copy(io.Discard, r.Body)
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		t.Error(err)
		return
	}
	_, _ = io.WriteString(c, text)
	_ = c.Close()
}

// TestAnAnswerThatBreaks: a short one is an answer that did not come; of a long one the
// client sees that it is not whole.
func TestAnAnswerThatBreaks(t *testing.T) {
	const (
		head  = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
		short = head + "half"
	)
	long := "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 100_000)
	chunked := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"
	for _, c := range []struct {
		name, text, method, key string
		again, unknown, broken  bool
	}{
		{"no body", head, "POST", "", false, true, false},
		{"short", short, "POST", "", false, true, false},
		{"short, keyed", short, "POST", "k", true, false, false},
		{"short, read", short, "GET", "", true, false, false},
		{"half a header", "HTTP/1.1 200 OK\r\nContent-", "POST", "k", true, false, false},
		{"long", long, "GET", "", false, false, true},
		{"long, keyed", long, "POST", "k", false, false, true},
		{"chunked", chunked, "GET", "", false, false, true},
		{"nonsense", "nonsense\r\n\r\n", "POST", "", false, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, patient())
			var now atomic.Int64
			first := r.upstream(func(w http.ResponseWriter, req *http.Request) { hijack(t, w, req, c.text) })
			second := r.upstream(counted(&now))
			r.set(1, first.URL)
			var header []string
			if c.key != "" {
				header = []string{key, c.key}
			}
			a := r.async(c.method, rows, "", header...)
			if c.again {
				r.await("it is held", func(m Metrics) bool { return m.Held > 0 })
				r.set(2, second.URL)
			}
			got := <-a
			switch {
			case c.again && (got.status != 200 || got.body != "new "), c.unknown != got.unknown():
				t.Errorf("%v", got)
			case c.broken && (got.status != 200 || !errors.Is(got.err, io.ErrUnexpectedEOF) || r.Metrics().Aborted != 1):
				t.Errorf("%d, %d bytes, %v: %+v", got.status, len(got.body), got.err, r.Metrics())
			}
		})
	}
}

// A switch does not take the answer from who reads a stream of the old writer, but ends it.
func TestAStreamEndsWithItsWriter(t *testing.T) {
	cfg := patient()
	cfg.Grace = time.Millisecond
	r := newRig(t, cfg)
	ended := make(chan struct{})
	up := r.upstream(func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, "data: 1\n\n")
		_ = http.NewResponseController(w).Flush()
		<-req.Context().Done()
		close(ended)
	})
	r.set(1, up.URL)
	res, err := r.client.Do(r.request("GET", "/v1/tenants/T/watch", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	in := bufio.NewReader(res.Body)
	if line, err := in.ReadString('\n'); line != "data: 1\n" || err != nil { // flushed through while the stream is open
		t.Fatalf("%q %v", line, err)
	}
	r.set(2, closedURL(t))
	if _, err := io.ReadAll(in); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the end of a stream that was cut: %v", err)
	}
	<-ended
}

// A batch reaches the writer line by line, and is sent again from its start.
func TestABatchStreamsAndIsRepeated(t *testing.T) {
	r := newRig(t, patient())
	line := make(chan string)
	first := r.upstream(func(w http.ResponseWriter, req *http.Request) {
		in := bufio.NewReader(req.Body)
		for range 2 {
			s, _ := in.ReadString('\n')
			line <- s
		}
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_ = c.Close() // it dies while the client is silent
	})
	var now atomic.Int64
	second := r.upstream(counted(&now))
	r.set(1, first.URL)
	out, in := io.Pipe()
	req := r.request("POST", batch, "", key, "k")
	req.Body, req.ContentLength = out, -1
	answers := make(chan answer, 1)
	go func() { answers <- r.send(req) }()
	for _, s := range []string{"one\n", "two\n"} {
		if _, err := io.WriteString(in, s); err != nil {
			t.Fatal(err)
		}
		if got := <-line; got != s { // before the next is written
			t.Errorf("%q", got)
		}
	}
	r.await("it is held", func(m Metrics) bool { return m.Held > 0 })
	r.set(2, second.URL)
	if _, err := io.WriteString(in, "three\n"); err != nil {
		t.Fatal(err)
	}
	_ = in.Close()
	if got := <-answers; got.status != 200 || got.body != "new one\ntwo\nthree\n" {
		t.Errorf("%v", got)
	}
}

// TestABodyTooLargeToKeep: it goes through, and is not sent again.
func TestABodyTooLargeToKeep(t *testing.T) {
	for _, c := range []struct {
		name  string
		cfg   func(*Config)
		known bool
	}{
		{"one body, announced", func(c *Config) { c.MaxBodyBytes = 100_000 }, true},
		{"one body, not announced", func(c *Config) { c.MaxBodyBytes = 100_000 }, false},
		{"all bodies", func(c *Config) { c.MaxBufferedBytes = 100_000 }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := patient()
			c.cfg(&cfg)
			r := newRig(t, cfg)
			body := strings.Repeat("0123456789", 50_000)
			var n, lost atomic.Int64
			r.set(1, r.upstream(counted(&n)).URL)
			send := func() answer {
				req := r.request("POST", batch, body, key, "k")
				if !c.known {
					req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), -1
				}
				return r.send(req)
			}
			if got := send(); got.status != 200 || got.body != "new "+body {
				t.Errorf("%d, %d bytes", got.status, len(got.body))
			}
			r.set(2, r.upstream(dies(&lost)).URL)
			if got := send(); !got.unknown() || lost.Load() != 1 {
				t.Errorf("%v after %d attempts", got, lost.Load())
			}
			r.await("the memory is given back", func(m Metrics) bool { return m.BufferedBytes == 0 })
		})
	}
}

// A body that was not begun can be sent wherever it is not kept.
func TestABodyNotBegunNeedsNoRecord(t *testing.T) {
	cfg := patient()
	cfg.MaxBodyBytes = 10
	r := newRig(t, cfg)
	var n atomic.Int64
	body := strings.Repeat("x", 100_000)
	r.set(1, closedURL(t))
	a := r.async("POST", batch, body)
	r.awaitHeld(1)
	r.set(2, r.upstream(counted(&n)).URL)
	if got := <-a; got.status != 200 || got.body != "new "+body {
		t.Errorf("%d, %d bytes %v", got.status, len(got.body), got.err)
	}
}

// TestMemoryIsBounded: held bodies take no more together than they may.
func TestMemoryIsBounded(t *testing.T) {
	cfg := patient()
	cfg.MaxBufferedBytes = 1 << 20
	cfg.Grace = time.Millisecond
	r := newRig(t, cfg)
	body := strings.Repeat("x", 200_000)
	begun, ended := make(chan struct{}, 40), make(chan struct{}, 40)
	r.set(1, r.upstream(freezes(begun, ended)).URL)
	var answers []<-chan answer
	for range 40 {
		answers = append(answers, r.async("POST", rows, body, key, "k"))
	}
	for range 40 {
		<-begun // the bodies are at the writer, and those that had room are recorded
	}
	if m := r.Metrics(); m.BufferedBytes > cfg.MaxBufferedBytes || m.BufferedBytes < cfg.MaxBufferedBytes/2 {
		t.Errorf("%d bytes recorded of at most %d", m.BufferedBytes, cfg.MaxBufferedBytes)
	}
	var n atomic.Int64
	r.set(2, r.upstream(counted(&n)).URL)
	done, unknown := 0, 0
	for _, a := range answers {
		switch got := <-a; {
		case got.status == 200:
			done++
		case got.unknown():
			unknown++
		default:
			t.Errorf("%v", got)
		}
	}
	if done == 0 || unknown == 0 || int64(done) != n.Load() {
		t.Errorf("%d done, %d unknown, %d at the writer", done, unknown, n.Load())
	}
	r.await("the memory is given back", func(m Metrics) bool { return m.BufferedBytes == 0 })
}

// TestExpectContinue: a client that asks first is told by the writer.
func TestExpectContinue(t *testing.T) {
	r := newRig(t, patient())
	up := r.upstream(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("X-Refuse") != "" {
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusRequestEntityTooLarge)
			return
		}
		raw, _ := io.ReadAll(req.Body)
		_, _ = w.Write(raw)
	})
	r.set(1, up.URL)
	c, in := r.dial()
	const head = "POST " + rows + " HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n"
	_, _ = io.WriteString(c, head+"\r\n")
	if line, _ := in.ReadString('\n'); !strings.Contains(line, "100 Continue") {
		t.Fatalf("%q", line)
	}
	_, _ = in.ReadString('\n')
	_, _ = io.WriteString(c, "row")
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, _ := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if string(raw) != "row" {
		t.Errorf("%q", raw)
	}
	c, in = r.dial()
	_, _ = io.WriteString(c, head+"X-Refuse: 1\r\n\r\n")
	if line, _ := in.ReadString('\n'); !strings.Contains(line, "413") {
		t.Errorf("a refusal before the body: %q", line)
	}
}

// A body that stops arriving ends its request, and is no fault of the writer.
func TestABodyThatStops(t *testing.T) {
	cfg := patient()
	cfg.BodyTimeout = 20 * time.Millisecond
	r := newRig(t, cfg)
	var n atomic.Int64
	r.set(1, r.upstream(counted(&n)).URL)
	for path, unknown := range map[string]bool{rows: false, batch: true} {
		c, in := r.dial()
		_, _ = io.WriteString(c, "POST "+path+" HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		raw, _ := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if res.StatusCode != 400 || bytes.Contains(raw, []byte(`"outcome":"unknown"`)) != unknown || n.Load() != 0 {
			t.Errorf("%s: %d %s", path, res.StatusCode, raw)
		}
	}
}

// An answer that comes before the body is read does not wait for the rest of it.
func TestAnEarlyAnswer(t *testing.T) {
	r := newRig(t, patient())
	r.set(1, r.upstream(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = io.WriteString(w, "no")
	}).URL)
	c, in := r.dial()
	_, _ = io.WriteString(c, "POST "+rows+" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhalf")
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(res.Body)
	_ = res.Body.Close()
	if res.StatusCode != 401 || string(raw) != "no" || err != nil {
		t.Errorf("%d %q %v", res.StatusCode, raw, err)
	}
}

func TestAnAnswerThatTakesTooLong(t *testing.T) {
	cfg := patient()
	cfg.AnswerTimeout = 20 * time.Millisecond
	r := newRig(t, cfg)
	begun, ended := make(chan struct{}, 1), make(chan struct{}, 1)
	r.set(1, r.upstream(freezes(begun, ended)).URL)
	if got := r.do("POST", rows, "row"); !got.unknown() {
		t.Errorf("%v", got)
	}
	<-ended
}

func TestAWriterOverTLS(t *testing.T) {
	var n atomic.Int64
	up := httptest.NewTLSServer(counted(&n))
	defer up.Close()
	roots := x509.NewCertPool()
	roots.AddCert(up.Certificate())
	cfg := patient()
	cfg.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	r := newRig(t, cfg)
	r.set(1, up.URL)
	if got := r.do("POST", rows, "row"); got.status != 200 {
		t.Errorf("%v", got)
	}
	other := httptest.NewTLSServer(dies(&n))
	defer other.Close()
	roots.AddCert(other.Certificate())
	r.set(2, other.URL)
	if got := r.do("POST", rows, "row"); !got.unknown() {
		t.Errorf("%v", got)
	}
}

// Connections are kept for the next request, and none of a writer of the past is used.
func TestConnectionsAreKeptPerWriter(t *testing.T) {
	r := newRig(t, patient())
	var mu sync.Mutex
	remote := map[string]int{}
	handler := func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		remote[req.RemoteAddr]++
		_, _ = fmt.Fprint(w, "ok")
	}
	up := r.upstream(handler)
	r.set(1, up.URL)
	for range 5 {
		r.do("POST", rows, "row")
	}
	if len(remote) != 1 {
		t.Errorf("%d connections for five requests in turn", len(remote))
	}
	r.set(2, up.URL)
	r.do("POST", rows, "row")
	if len(remote) != 2 {
		t.Errorf("%d connections after a switch", len(remote))
	}
}
