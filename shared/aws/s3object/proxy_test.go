package s3object

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"originchain/shared/aws/s3object/s3test"
)

// request is what a proxy has seen, named as S3 names it.
type request struct {
	op     string
	header http.Header
}

// proxy stands between a store and the gateway, and does what a network, or S3, may.
type proxy struct {
	*httptest.Server
	mu sync.Mutex
	// answer replaces the gateway's answer to a request, which it does not see, where
	// it returns true.
	answer habit[func(op string, w http.ResponseWriter) bool]
	// alter changes the gateway's answer; an error breaks the connection off instead.
	alter habit[func(op string, answer *http.Response) error]
	// body changes what the gateway gets.
	body habit[func(op string, b []byte) []byte]
	seen []request
	// atOnce is how many requests of an op are on their way, most the most there were.
	atOnce, most map[string]int
}

// habit is what a proxy does; a request that its client has given up may still be under
// way while it changes.
type habit[F any] struct {
	mu sync.Mutex
	f  F
}

func (h *habit[F]) set(f F) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.f = f
}

func (h *habit[F]) get() F {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.f
}

// opOf names a request.
func opOf(r *http.Request) string {
	query := r.URL.Query()
	switch {
	case query.Has("uploads") && r.Method == http.MethodPost:
		return "CreateMultipartUpload"
	case query.Has("uploadId") && r.Method == http.MethodPut:
		return "UploadPart"
	case query.Has("uploadId") && r.Method == http.MethodPost:
		return "CompleteMultipartUpload"
	case query.Has("uploadId") && r.Method == http.MethodDelete:
		return "AbortMultipartUpload"
	case query.Has("delete"):
		return "DeleteObjects"
	case query.Has("versions"):
		return "ListObjectVersions"
	case query.Has("list-type"):
		return "ListObjectsV2"
	case query.Has("location"):
		return "GetBucketLocation"
	}
	what := "Object"
	if !strings.Contains(strings.Trim(r.URL.Path, "/"), "/") {
		what = "Bucket"
	}
	return r.Method[:1] + strings.ToLower(r.Method[1:]) + what
}

func newProxy(t *testing.T, b s3test.Bucket) *proxy {
	t.Helper()
	gateway, err := url.Parse(b.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{atOnce: make(map[string]int), most: make(map[string]int)}
	reverse := &httputil.ReverseProxy{
		// The host stays as it was signed.
		Rewrite: func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = gateway.Scheme, gateway.Host },
		ModifyResponse: func(answer *http.Response) error {
			if alter := p.alter.get(); alter != nil {
				return alter(opOf(answer.Request), answer)
			}
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) },
	}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		op := opOf(r)
		p.enter(op, r)
		defer p.leave(op)
		if answer := p.answer.get(); answer != nil && answer(op, w) {
			return
		}
		if body := p.body.get(); body != nil {
			b, err := io.ReadAll(r.Body)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			r.Body = io.NopCloser(bytes.NewReader(body(op, b)))
		}
		reverse.ServeHTTP(w, r)
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *proxy) enter(op string, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, request{op, r.Header.Clone()})
	p.atOnce[op]++
	p.most[op] = max(p.most[op], p.atOnce[op])
}

func (p *proxy) leave(op string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.atOnce[op]--
}

// requests returns the requests of an op.
func (p *proxy) requests(op string) []request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(p.seen), func(r request) bool { return r.op != op })
}

// through returns a store in a new bucket behind a proxy.
func through(t *testing.T, versioned bool) (*Store, *proxy, s3test.Bucket) {
	t.Helper()
	b := s3test.NewBucket(t, versioned)
	p := newProxy(t, b)
	s, err := New(t.Context(), Config{Bucket: b.Name, Prefix: "p", Region: s3test.Region, Endpoint: p.URL, maxBackoff: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return s, p, b
}

// times returns a function that is true for so many calls about an op.
func times(n int, op string) func(string) bool {
	var mu sync.Mutex
	return func(got string) bool {
		mu.Lock()
		defer mu.Unlock()
		if got != op || n == 0 {
			return false
		}
		n--
		return true
	}
}

// refuse answers as S3 answers with an error.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>as the test wants it</Message></Error>`, code)
}
