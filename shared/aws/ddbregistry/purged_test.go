package ddbregistry_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"originchain/shared/aws/ddblease/ddbtest"
	"originchain/shared/aws/ddbregistry"
)

// Between two calls of a function its connections are cut without a word.
func TestAPurgedConnection(t *testing.T) {
	var cut atomic.Bool
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if cut.CompareAndSwap(true, false) { // the first request on the old connection
			c, _, _ := w.(http.Hijacker).Hijack()
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close() // RST
			return
		}
		w.Header().Set("Content-Type", "application/x-amz-json-1.0")
		_, _ = io.WriteString(w, `{}`)
	}))
	srv.Start()
	defer srv.Close()
	s, err := ddbregistry.New(context.Background(), ddbregistry.Config{Table: "registry", Key: "control", Region: ddbtest.Region, Endpoint: srv.URL, Credentials: ddbtest.Credentials()})
	if err != nil {
		t.Fatal(err)
	}
	load := func() error { _, err := s.Load(t.Context(), "k"); return err }
	list := func() error { _, err := s.List(t.Context(), "subscribers/"); return err }
	for name, read := range map[string]func() error{"load": load, "list": list} {
		if err := read(); err != nil {
			t.Fatal(err)
		}
		cut.Store(true)
		if err := read(); err != nil || cut.Load() {
			t.Errorf("%s: %v; a request was cut: %v", name, err, !cut.Load())
		}
	}
}
