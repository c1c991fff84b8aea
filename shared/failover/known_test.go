package failover

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// secure is a node's server over HTTPS on a listener, which may speak HTTP/2, and the
// authority that it is known by.
func secure(t *testing.T, l net.Listener) (url string, roots *x509.CertPool) {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"mode":"writer"}`) }))
	s.EnableHTTP2, s.Config.ErrorLog = true, log.New(io.Discard, "", 0)
	if l != nil {
		_ = s.Listener.Close()
		s.Listener = l
	}
	s.StartTLS()
	t.Cleanup(s.Close)
	roots = x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return s.URL, roots
}

// TestANodeThatIsNotKnown: it is asked nothing, and who asks is told which authorities do
// not know it, and where they are said.
func TestANodeThatIsNotKnown(t *testing.T) {
	url, roots := secure(t, nil)
	for _, c := range []struct {
		roots *x509.CertPool
		want  string
	}{{roots, ""}, {x509.NewCertPool(), "by the authorities in OC_CA (x509: "}, {nil, "by the system's authorities (x509: "}} {
		at := client{http: NodesClient(c.roots, "OC_CA")}
		h, status, _, err := at.health(t.Context(), Node{OpsURL: url})
		var untrusted *UntrustedError
		switch {
		case c.want == "" && (err != nil || status != http.StatusOK || h.Mode != roleWriter):
			t.Errorf("%+v, %d, %v", h, status, err)
		case c.want != "" && (!errors.As(err, &untrusted) || untrusted.Node != strings.TrimPrefix(url, "https://") || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}

// TestWhyAWriterIsNotReached: the observer says it, and the decision.
func TestWhyAWriterIsNotReached(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		o, sight := w.watching(t)
		defer o.Close()
		w.kill("a", false)
		seen := o.Look(t.Context(), sight("b"))
		if seen.Writer.Silent == 0 || seen.Writer.Error == "" {
			t.Fatalf("%+v", seen.Writer)
		}
		seen.Writer.Silent, seen.RecordUnchanged, seen.Writer.Stopped = BlipFor, 0, false
		if d := Decide(seen, Overrides{}); len(d.Reasons) != 1 || d.Reasons[0].Code != ObserverCut || !strings.HasSuffix(d.Reasons[0].Detail, ": "+seen.Writer.Error) {
			t.Errorf("%+v", d)
		}
	}, "b")
}

// TestAConnectionThatDidNotAnswer is not used again: the machine at its other end may be
// gone, and another one have the address.
func TestAConnectionThatDidNotAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lost := &losing{Listener: l, heard: make(chan struct{}, 1)}
	url, roots := secure(t, lost)
	at := client{http: NodesClient(roots, "OC_CA")}
	t.Cleanup(at.http.CloseIdleConnections)
	ask := func(ctx context.Context) error {
		_, _, _, err := at.health(ctx, Node{OpsURL: url})
		return err
	}
	if err := ask(t.Context()); err != nil {
		t.Fatal(err)
	}
	lost.lose()
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-lost.heard; cancel() }()
	if err := ask(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("a machine that is lost answers: %v", err)
	}
	bounded, end := context.WithTimeout(t.Context(), 10*time.Second)
	defer end()
	if err := ask(bounded); err != nil {
		t.Errorf("the machine that has its address now: %v", err)
	}
}

// losing is a listener of a machine, of which another one has the address when it is lost.
type losing struct {
	net.Listener
	heard chan struct{} // what was sent to the lost one

	mu    sync.Mutex
	conns []*lostConn
}

// lostConn is of the machine before once it is lost: what comes there is not heard.
type lostConn struct {
	net.Conn
	l    *losing
	lost bool
}

func (l *losing) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	out := &lostConn{Conn: c, l: l}
	l.conns = append(l.conns, out)
	return out, nil
}

func (l *losing) lose() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.lost = true
	}
}

func (c *lostConn) Read(b []byte) (n int, err error) {
	for {
		n, err = c.Conn.Read(b)
		c.l.mu.Lock()
		lost := c.lost
		c.l.mu.Unlock()
		if !lost || err != nil {
			return n, err
		}
		select {
		case c.l.heard <- struct{}{}:
		default:
		}
	}
}
