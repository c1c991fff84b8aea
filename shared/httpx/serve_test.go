package httpx

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"originchain/shared/fault"
)

// served is a running Serve.
type served struct {
	addr string
	stop context.CancelFunc
	done chan error
}

func serve(t *testing.T, r *rig, h http.Handler, tlsConfig *tls.Config, limits Limits) *served {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	s := &served{addr: ln.Addr().String(), stop: stop, done: make(chan error, 1)}
	go func() { s.done <- Serve(ctx, ln, h, tlsConfig, limits, r.deps.Log) }()
	t.Cleanup(stop)
	return s
}

// dial opens a connection and sends a request line for path over it.
func (s *served) dial(t *testing.T) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// get sends one request over c and reads its answer; nil is a closed connection.
func get(t *testing.T, c net.Conn, path string) *http.Response {
	t.Helper()
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", path, tenantToken); err != nil {
		return nil
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil
	}
	_, _ = io.Copy(io.Discard, res.Body)
	return res
}

func TestConnectionLimitLeavesHealthAlone(t *testing.T) {
	r := newRig(t, Config{}, newRoute("GET", "/health", Public, ok), newRoute("GET", "/v1/any", Tenant, ok))
	s := serve(t, r, r, nil, Limits{MaxConnections: 2})
	var held []net.Conn
	for range 2 {
		c := s.dial(t)
		if res := get(t, c, "/v1/any"); res == nil || res.StatusCode != 200 {
			t.Fatalf("within the limit: %v", res)
		}
		held = append(held, c)
	}
	over := s.dial(t)
	if res := get(t, over, "/health"); res == nil || res.StatusCode != 200 {
		t.Errorf("/health over the limit: %v", res)
	}
	if res := get(t, over, "/v1/any"); res == nil || res.StatusCode != 503 || !res.Close {
		t.Errorf("over the limit: %v", res)
	}
	var spare []net.Conn
	for range spareConnections {
		c := s.dial(t)
		if get(t, c, "/health") == nil {
			break
		}
		spare = append(spare, c)
	}
	if get(t, s.dial(t), "/health") != nil {
		t.Error("connections are not bounded")
	}
	for _, c := range append(held, spare...) {
		_ = c.Close()
	}
	// The server sees the closes when it sees them: only the end is asserted.
	for res := get(t, s.dial(t), "/v1/any"); res == nil || res.StatusCode != 200; res = get(t, s.dial(t), "/v1/any") {
	}
	s.stop()
	if err := <-s.done; err != nil {
		t.Error(err)
	}
}

func TestDrainWaitsForRequestsInFlight(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	r := newRig(t, Config{}, newRoute("GET", "/slow", Public, func(c *Call) error {
		close(entered)
		<-leave
		return ok(c)
	}))
	s := serve(t, r, r, nil, Limits{})
	c := s.dial(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		if res := get(t, c, "/slow"); res == nil || res.StatusCode != 200 {
			t.Errorf("a request in flight was cut off: %v", res)
		}
	})
	<-entered
	s.stop()
	for { // until the listener is closed
		probe, err := net.Dial("tcp", s.addr)
		if err != nil {
			break
		}
		_ = probe.Close()
	}
	select {
	case err := <-s.done:
		t.Errorf("stopped with a request in flight: %v", err)
	default:
	}
	close(leave)
	wg.Wait()
	if err := <-s.done; err != nil {
		t.Error(err)
	}
}

func TestDrainCutsOffAtItsEnd(t *testing.T) {
	entered := make(chan struct{})
	ended := false
	r := newRig(t, Config{}, newRoute("GET", "/slow", Public, func(c *Call) error {
		close(entered)
		<-c.Context().Done()
		ended = true
		return c.Context().Err()
	}))
	s := serve(t, r, r, nil, Limits{DrainTimeout: time.Millisecond})
	c := s.dial(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		if res := get(t, c, "/slow"); res == nil || res.StatusCode != 499 {
			t.Errorf("got %v", res)
		}
	})
	<-entered
	s.stop()
	if err := <-s.done; !errors.Is(err, ErrCutOff) || !ended {
		t.Errorf("err %v, handler ended %v", err, ended)
	}
	wg.Wait()
}

func TestServeReportsABrokenListener(t *testing.T) {
	r := newRig(t, Config{})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = ln.Close()
	if err := Serve(context.Background(), ln, r, nil, Limits{}, r.deps.Log); err == nil {
		t.Error("a listener that cannot accept is no error")
	}
}

func TestHTTP2OverTLS(t *testing.T) {
	r := newRig(t, Config{}, newRoute("POST", "/echo", Public, echo))
	certs := httptest.NewUnstartedServer(nil)
	certs.StartTLS()
	defer certs.Close()
	s := serve(t, r, r, &tls.Config{Certificates: certs.TLS.Certificates}, Limits{})
	client := certs.Client()
	transport := client.Transport.(*http.Transport)
	transport.ForceAttemptHTTP2 = true
	body := strings.Repeat("x", 3*deadlineEveryBytes)
	res, err := client.Post("https://"+s.addr+"/echo", "text/plain", io.MultiReader(strings.NewReader(body)))
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(res.Body)
	if res.Proto != "HTTP/2.0" || string(got) != body || err != nil {
		t.Errorf("%s, %d bytes, %v", res.Proto, len(got), err)
	}
	_ = res.Body.Close()
	transport.CloseIdleConnections()
	plain := &http.Client{Transport: &http.Transport{TLSClientConfig: transport.TLSClientConfig.Clone(), TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{}}}
	plain.Transport.(*http.Transport).TLSClientConfig.NextProtos = nil
	defer plain.CloseIdleConnections()
	if res, err = plain.Post("https://"+s.addr+"/echo", "text/plain", strings.NewReader("x")); err != nil || res.Proto != "HTTP/1.1" {
		t.Fatalf("%v %v", res, err)
	}
	_ = res.Body.Close()
	plain.CloseIdleConnections()
	s.stop()
	if err := <-s.done; err != nil {
		t.Error(err)
	}
}

func TestHeaderLimits(t *testing.T) {
	r := newRig(t, Config{}, newRoute("GET", "/health", Public, ok))
	s := serve(t, r, r, nil, Limits{MaxHeaderBytes: 1024, ReadHeaderTimeout: time.Millisecond})
	slow := s.dial(t)
	if _, err := slow.Write([]byte("GET /health HTTP/1.1\r\nHost:")); err != nil {
		t.Fatal(err)
	}
	if answer, err := io.ReadAll(slow); err != nil || strings.Contains(string(answer), "200 OK") {
		t.Errorf("half a header: %q %v", answer, err)
	}
	s.stop()
	if err := <-s.done; err != nil {
		t.Error(err)
	}
	s = serve(t, r, r, nil, Limits{MaxHeaderBytes: 1024})
	large := s.dial(t)
	if _, err := fmt.Fprintf(large, "GET /health HTTP/1.1\r\nHost: x\r\nX: %s\r\n\r\n", strings.Repeat("x", 64<<10)); err != nil {
		t.Fatal(err)
	}
	if res, err := http.ReadResponse(bufio.NewReader(large), nil); err != nil || res.StatusCode != 431 {
		t.Errorf("a large header: %v %v", res, err)
	}
	s.stop()
	if err := <-s.done; err != nil {
		t.Error(err)
	}
}

func TestABodyThatStallsIsGivenUp(t *testing.T) {
	r := newRig(t, Config{BodyTimeout: time.Millisecond}, newRoute("POST", "/echo", Public, echo))
	s := serve(t, r, r, nil, Limits{})
	c := s.dial(t)
	if _, err := c.Write([]byte("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != 400 {
		t.Errorf("%v %v", res, err)
	}
	s.stop()
	if err := <-s.done; err != nil {
		t.Error(err)
	}
}

// A client that holds its stream open holds up nobody who ends the requests: the
// read that waits ends, and so does the next one.
func TestAStreamIsInterrupted(t *testing.T) {
	var r *rig
	reading := make(chan struct{})
	r = newRig(t, Config{BodyTimeout: time.Hour}, streamingRoute("/rest", func(c *Call) error {
		in := make([]byte, 2)
		if _, err := io.ReadFull(c.Stream(), in); err != nil {
			return err
		}
		close(reading)
		_, err := io.ReadFull(c.Stream(), in)
		if _, again := c.Stream().Read(in); again == nil {
			t.Error("the stream goes on")
		}
		return err
	}))
	s := serve(t, r, r, nil, Limits{})
	c := s.dial(t)
	if _, err := c.Write([]byte("POST /rest HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")); err != nil {
		t.Fatal(err)
	}
	<-reading
	r.Interrupt(fault.New(fault.NotReady, "the node follows now"))
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || res.StatusCode != 503 {
		t.Errorf("%v %v", res, err)
	}
	s.stop()
	if err := <-s.done; err != nil {
		t.Error(err)
	}
}

func TestARefusedBodyIsNotWaitedFor(t *testing.T) {
	r := newRig(t, Config{BodyTimeout: time.Millisecond}, newRoute("POST", "/echo", Tenant, echo))
	s := serve(t, r, r, nil, Limits{})
	c := s.dial(t)
	if _, err := c.Write([]byte("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(c)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != 401 {
		t.Fatalf("%v %v", res, err)
	}
	if _, err := io.Copy(io.Discard, in); err != nil { // ends when the server closes
		t.Error(err)
	}
	s.stop()
	if err := <-s.done; err != nil {
		t.Error(err)
	}
}

func TestAClientThatDoesNotReadIsGivenUp(t *testing.T) {
	entered := make(chan error, 1)
	piece := make([]byte, 1<<20)
	r := newRig(t, Config{WriteTimeout: time.Millisecond}, newRoute("GET", "/big", Public, func(c *Call) error {
		for {
			if _, err := c.Writer().Write(piece); err != nil {
				entered <- err
				return err
			}
		}
	}))
	s := serve(t, r, r, nil, Limits{})
	c := s.dial(t)
	if _, err := c.Write([]byte("GET /big HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := <-entered; err == nil {
		t.Error("a write without a reader succeeded for ever")
	}
	s.stop()
	if err := <-s.done; err != nil {
		t.Error(err)
	}
}

func TestDeadlinesDoNotEndAnHTTP2StreamThatRests(t *testing.T) {
	const timeout = 250 * time.Millisecond
	rested := make(chan struct{}, 2)
	r := newRig(t, Config{BodyTimeout: timeout, WriteTimeout: timeout}, streamingRoute("/rest", func(c *Call) error {
		in := make([]byte, 1)
		defer close(rested)
		for range 2 {
			if _, err := io.ReadFull(c.Stream(), in); err != nil {
				return err
			}
			if _, err := c.Writer().Write(in); err != nil {
				return err
			}
			<-time.After(timeout + timeout/5)
			rested <- struct{}{}
		}
		return nil
	}))
	certs := httptest.NewUnstartedServer(nil)
	certs.EnableHTTP2 = true
	certs.StartTLS()
	defer certs.Close()
	s := serve(t, r, r, &tls.Config{Certificates: certs.TLS.Certificates}, Limits{})
	client := certs.Client()
	body, feed := io.Pipe()
	var wg sync.WaitGroup
	wg.Go(func() {
		_, _ = feed.Write([]byte("a"))
		<-rested
		_, _ = feed.Write([]byte("b"))
		_ = feed.Close()
	})
	defer wg.Wait()
	res, err := client.Post("https://"+s.addr+"/rest", "text/plain", body)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(res.Body)
	if res.Proto != "HTTP/2.0" || string(got) != "ab" || err != nil {
		t.Errorf("%s %q %v", res.Proto, got, err)
	}
	_ = res.Body.Close()
	client.CloseIdleConnections()
	s.stop()
	if err := <-s.done; err != nil {
		t.Error(err)
	}
}

// BenchmarkConnection is a small request over a kept-alive loopback connection,
// client included: the difference of its two cases is what this package adds.
func BenchmarkConnection(b *testing.B) {
	answer := []byte(`{"ok":true}`)
	rig := newRig(b, Config{}, newRoute("POST", "/x", Tenant, func(c *Call) error {
		if _, err := c.Body(); err != nil {
			return err
		}
		return c.Send(200, "application/json", answer)
	}))
	bare := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(answer)
	})
	request := []byte("POST /x HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + tenantToken + "\r\nContent-Length: 12\r\n\r\n{\"id\":12345}")
	for _, c := range []struct {
		name string
		h    http.Handler
	}{{"bare", bare}, {"full", rig}} {
		b.Run(c.name, func(b *testing.B) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				b.Fatal(err)
			}
			ctx, stop := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- Serve(ctx, ln, c.h, nil, Limits{}, rig.deps.Log) }()
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			in := bufio.NewReader(conn)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := conn.Write(request); err != nil {
					b.Fatal(err)
				}
				res, err := http.ReadResponse(in, nil)
				if err != nil || res.StatusCode != 200 {
					b.Fatal(res, err)
				}
				_, _ = io.Copy(io.Discard, res.Body)
			}
			_ = conn.Close()
			stop()
			if err := <-done; err != nil {
				b.Error(err)
			}
		})
	}
}

func streamingRoute(path string, h Handler) Route {
	r := newRoute("POST", path, Public, h)
	r.Streaming = true
	return r
}
