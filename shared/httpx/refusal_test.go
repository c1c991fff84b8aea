package httpx

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"originchain/shared/api"
	"originchain/shared/telemetry"
)

// transports are the ways to speak HTTP/1 to a Serve.
var transports = []struct {
	name   string
	config func(t *testing.T) (server, client *tls.Config)
}{
	{"plain", func(*testing.T) (server, client *tls.Config) { return nil, nil }},
	{"tls", testTLS},
}

// testTLS makes configurations that trust each other.
func testTLS(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	certs := httptest.NewUnstartedServer(nil)
	certs.StartTLS()
	t.Cleanup(certs.Close)
	client = certs.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	client.ServerName, client.NextProtos = "example.com", nil
	return &tls.Config{Certificates: certs.TLS.Certificates}, client
}

// connect opens a connection, over TLS with a client's configuration.
func (s *served) connect(t *testing.T, client *tls.Config) net.Conn {
	t.Helper()
	if client == nil {
		return s.dial(t)
	}
	return tls.Client(s.dial(t), client)
}

// checkEnvelope requires one whole refusal, and the end of the connection after it.
func checkEnvelope(t *testing.T, in *bufio.Reader, status int, code, says string) (requestID string) {
	t.Helper()
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("the answer is not whole: %v", err)
	}
	var envelope struct {
		Error     string `json:"error"`
		Message   string `json:"message"`
		RequestID string `json:"request_id"`
		Retry     *bool  `json:"retry"`
	}
	if err := json.Unmarshal(body, &envelope); err != nil {
		t.Fatalf("%d %s: no envelope: %q", res.StatusCode, res.Header, body)
	}
	if res.StatusCode != status || res.Header.Get("Content-Type") != api.ContentTypeJSON || !res.Close {
		t.Errorf("got %d, close %t, %v, want %d", res.StatusCode, res.Close, res.Header, status)
	}
	if envelope.Error != code || !strings.Contains(envelope.Message, says) || envelope.Retry == nil || *envelope.Retry {
		t.Errorf("got %s, want %s with %q", body, code, says)
	}
	if id := res.Header.Get(api.HeaderRequestID); len(id) != telemetry.RequestIDLen || id != envelope.RequestID {
		t.Errorf("request id %q in the header, %q in the body", id, envelope.RequestID)
	}
	if rest, err := io.ReadAll(in); len(rest) != 0 {
		t.Errorf("after the answer: %q, %v", rest, err)
	}
	return envelope.RequestID
}

func TestWhatIsNoRequestGetsAnEnvelope(t *testing.T) {
	large := "X: " + strings.Repeat("x", 8<<10)
	cases := []struct {
		name, request string
		status        int
		code, says    string
	}{
		{"header too large", "GET /health HTTP/1.1\r\nHost: x\r\n" + large + "\r\n\r\n", 431, "validation_failed", "fewer or shorter"},
		{"request line too large", "GET /" + large + " HTTP/1.1\r\nHost: x\r\n\r\n", 431, "validation_failed", "fewer or shorter"},
		{"bad request line", "GET\r\n\r\n", 400, "validation_failed", "malformed"},
		{"bad method", "G?T /health HTTP/1.1\r\nHost: x\r\n\r\n", 400, "validation_failed", "malformed"},
		{"no version", "GET /health\r\n\r\n", 400, "validation_failed", "malformed"},
		{"bad path", "GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400, "validation_failed", "malformed"},
		{"bad header", "GET /health HTTP/1.1\r\nHost: x\r\nno colon\r\n\r\n", 400, "validation_failed", "malformed"},
		{"bad header name", "GET /health HTTP/1.1\r\nHost: x\r\nb{}d: 1\r\n\r\n", 400, "validation_failed", "malformed"},
		{"bad header value", "GET /health HTTP/1.1\r\nHost: x\r\nX: a\x01b\r\n\r\n", 400, "validation_failed", "malformed"},
		{"no Host", "GET /health HTTP/1.1\r\n\r\n", 400, "validation_failed", "Host"},
		{"bad Host", "GET /health HTTP/1.1\r\nHost: a b\r\n\r\n", 400, "validation_failed", "Host"},
		{"two lengths", "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400, "validation_failed", "malformed"},
		{"transfer encoding", "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "unsupported", "Content-Length"},
		{"expectation", "POST /echo HTTP/1.1\r\nHost: x\r\nExpect: a miracle\r\nContent-Length: 1\r\n\r\na", 417, "unsupported", "100-continue"},
		{"version", "GET /health HTTP/4.0\r\nHost: x\r\n\r\n", 505, "unsupported", "HTTP/1.1"},
		{"HTTP/1.0 with a bad header", "GET /health HTTP/1.0\r\nno colon\r\n\r\n", 400, "validation_failed", "malformed"},
	}
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			server, client := transport.config(t)
			r := newRig(t, Config{}, newRoute("GET", "/health", Public, ok), newRoute("POST", "/echo", Public, echo))
			s := serve(t, r, r, server, Limits{MaxHeaderBytes: 1024})
			ids := map[string]bool{}
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) {
					conn := s.connect(t, client)
					if _, err := io.WriteString(conn, c.request); err != nil {
						t.Fatal(err)
					}
					ids[checkEnvelope(t, bufio.NewReader(conn), c.status, c.code, c.says)] = true
				})
			}
			if len(ids) != len(cases) {
				t.Errorf("%d request ids for %d requests", len(ids), len(cases))
			}
			s.stop()
			if err := <-s.done; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestARefusalAfterAnswersIsAnEnvelope: what went before on the connection,
// pipelined or not, changes nothing.
func TestARefusalAfterAnswersIsAnEnvelope(t *testing.T) {
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			server, client := transport.config(t)
			r := newRig(t, Config{}, newRoute("POST", "/echo", Public, echo))
			s := serve(t, r, r, server, Limits{})
			conn := s.connect(t, client)
			good := "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi"
			in := bufio.NewReader(conn)
			for _, send := range []string{good, good + good + "GET\r\n\r\n"} {
				if _, err := io.WriteString(conn, send); err != nil {
					t.Fatal(err)
				}
				for range strings.Count(send, "POST") {
					res, err := http.ReadResponse(in, nil)
					if err != nil {
						t.Fatal(err)
					}
					if body, err := io.ReadAll(res.Body); res.StatusCode != 200 || string(body) != "hi" || err != nil {
						t.Fatalf("%d %q %v", res.StatusCode, body, err)
					}
				}
			}
			checkEnvelope(t, in, 400, "validation_failed", "malformed")
		})
	}
}

// TestHandlersMaySayWhatTheyLike: bytes like those of a refusal, sent by a
// handler so that a write begins with them, arrive as they are; so does what
// net/http answers well by itself.
func TestHandlersMaySayWhatTheyLike(t *testing.T) {
	trap := "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n400 Bad Request: " + strings.Repeat("x", 16<<10)
	for _, transport := range transports {
		t.Run(transport.name, func(t *testing.T) {
			server, client := transport.config(t)
			h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/tls" {
					w.WriteHeader(map[bool]int{true: 200, false: 426}[r.TLS != nil])
					return
				}
				w.Header().Set("Content-Type", "text/plain")
				w.WriteHeader(http.StatusBadRequest)
				_ = http.NewResponseController(w).Flush()
				for range 3 {
					_, _ = io.WriteString(w, trap)
				}
			})
			r := newRig(t, Config{})
			s := serve(t, r, h, server, Limits{})
			conn := s.connect(t, client)
			in := bufio.NewReader(conn)
			for _, request := range []string{"GET /trap HTTP/1.1\r\nHost: x\r\n\r\n", "GET /trap HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"} {
				conn, in := conn, in
				if strings.Contains(request, "1.0") {
					conn = s.connect(t, client)
					in = bufio.NewReader(conn)
				}
				if _, err := io.WriteString(conn, request); err != nil {
					t.Fatal(err)
				}
				res, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(res.Body)
				if string(body) != trap+trap+trap || res.Header.Get("Content-Type") != "text/plain" || err != nil {
					t.Errorf("%.20s: %d bytes of %s, %v", request, len(body), res.Header, err)
				}
			}
			for request, want := range map[string]int{
				"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n": 200,
				"GET /tls HTTP/1.1\r\nHost: x\r\n\r\n":  map[bool]int{true: 426, false: 200}[client == nil],
			} {
				if _, err := io.WriteString(conn, request); err != nil {
					t.Fatal(err)
				}
				if res, err := http.ReadResponse(in, nil); err != nil || res.StatusCode != want {
					t.Errorf("%.12s: %v %v", request, res, err)
				}
			}
		})
	}
}

func TestHTTP10NeedsNoHost(t *testing.T) {
	r := newRig(t, Config{}, newRoute("GET", "/health", Public, ok))
	s := serve(t, r, r, nil, Limits{})
	conn := s.dial(t)
	if _, err := io.WriteString(conn, "GET /health HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != 200 || !res.Close {
		t.Errorf("%v %v", res, err)
	}
}

func TestATLSPortTellsWhoSpeaksPlainHTTP(t *testing.T) {
	server, _ := testTLS(t)
	r := newRig(t, Config{}, newRoute("GET", "/health", Public, ok))
	s := serve(t, r, r, server, Limits{})
	conn := s.dial(t)
	if _, err := io.WriteString(conn, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || res.StatusCode != 400 || res.Header.Get("Content-Type") != api.ContentTypeJSON {
		t.Fatalf("%v %v", res, err)
	}
}

// TestAStopEndsHandshakes: a connection that never finishes its handshake does
// not keep Serve.
func TestAStopEndsHandshakes(t *testing.T) {
	server, client := testTLS(t)
	r := newRig(t, Config{}, newRoute("GET", "/health", Public, ok))
	s := serve(t, r, r, server, Limits{})
	silent := s.dial(t)
	conn := s.connect(t, client) // accepted after it
	if _, err := fmt.Fprint(conn, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != 200 {
		t.Fatalf("a silent connection holds up the next one: %v %v", res, err)
	}
	s.stop()
	if err := <-s.done; err != nil {
		t.Error(err)
	}
	if n, err := silent.Read(make([]byte, 1)); err == nil {
		t.Errorf("%d bytes for a connection that said nothing", n)
	}
}
