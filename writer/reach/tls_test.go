package reach

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestTheServerIsTheOneOfItsCertificate: over TLS a server is asked that shows what its unit
// names, by the name that clients know it by, and no other.
func TestTheServerIsTheOneOfItsCertificate(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") }))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "server.crt")
	write := func(c tls.Certificate) {
		t.Helper()
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg := At{Listen: strings.TrimPrefix(srv.URL, "https://"), TLSCert: file, Advertise: "https://example.com:7400"}
	status := func(cfg At) int {
		t.Helper()
		c, err := (*Server)(nil).Of(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		standing, _ := c.Standing(t.Context()) // it says it all
		return standing.Health
	}
	write(srv.TLS.Certificates[0])
	if got := status(cfg); got != http.StatusOK {
		t.Errorf("the server itself: %d", got)
	}
	other := cfg
	other.Advertise = "https://other.test:7400"
	if got := status(other); got != 0 {
		t.Errorf("a server of another name: %d", got)
	}
	write(tls.Certificate{Certificate: [][]byte{[]byte("nothing")}})
	if got := status(cfg); got != 0 {
		t.Errorf("a file that is no certificate: %d", got)
	}
	cfg.TLSCA = "ca.crt"
	if _, err := (*Server)(nil).Of(cfg); err == nil || !strings.Contains(err.Error(), "--ops-listen") {
		t.Errorf("a server that wants a certificate: %v", err)
	}
	cfg.OpsListen = "0.0.0.0:7402"
	if c, err := (*Server)(nil).Of(cfg); err != nil || c.base != "http://127.0.0.1:7402" {
		t.Errorf("%+v, %v", c, err)
	}
}

// certificate is a certificate of example.com that nobody else has issued, and ends so long
// from now; as its file and its key.
func certificate(t *testing.T, ends time.Duration) (pair tls.Certificate, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(ends), DNSNames: []string{"example.com"}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "server.crt")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, file
}

// shows is a server that shows what it is told to, and what asks it by the certificate of a
// file.
type shows struct {
	t    *testing.T
	pair atomic.Pointer[tls.Certificate]
	at   At
	*Server
}

func newShows(t *testing.T, pair tls.Certificate, file string) *shows {
	t.Helper()
	s := &shows{t: t}
	s.pair.Store(&pair)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return &tls.Config{Certificates: []tls.Certificate{*s.pair.Load()}}, nil
	}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	s.at = At{Listen: strings.TrimPrefix(srv.URL, "https://"), TLSCert: file, Advertise: "https://example.com:7400"}
	s.of(s.at)
	t.Cleanup(func() { s.Close() })
	return s
}

// of has the server's configuration read again.
func (s *shows) of(at At) {
	s.t.Helper()
	next, err := s.Of(at)
	if err != nil {
		s.t.Fatal(err)
	}
	s.Server = next
}

// answers checks that the server is known, or that it is not, and why.
func (s *shows) answers(when, refused string) {
	s.t.Helper()
	standing, err := s.Standing(s.t.Context())
	if refused == "" && (err != nil || standing.Health != http.StatusOK || standing.Ready != http.StatusOK) {
		s.t.Errorf("%s: %+v, %v", when, standing, err)
	}
	if refused != "" && (standing != Standing{} || err == nil || !strings.Contains(err.Error(), refused)) {
		s.t.Errorf("%s: %+v, %v; want no answer: %s", when, standing, err, refused)
	}
}

// TestARenewalIsNoSilence: the file has a new certificate, or none, and the server goes on
// with what it showed before.
func TestARenewalIsNoSilence(t *testing.T) {
	first, file := certificate(t, time.Hour)
	second, renewed := certificate(t, time.Hour)
	third, again := certificate(t, time.Hour)
	stranger, _ := certificate(t, time.Hour)
	s := newShows(t, first, file)
	const unknown = "unknown authority"
	s.answers("at first", "")
	if err := os.Rename(renewed, file); err != nil {
		t.Fatal(err)
	}
	s.answers("the server has not taken it up", "")
	s.answers("nor later", "")
	s.pair.Store(&stranger)
	s.answers("a stranger is there", unknown)
	s.pair.Store(&second)
	s.answers("the server has taken it up", "")
	s.pair.Store(&first)
	s.answers("what it showed before that", unknown)
	s.pair.Store(&second)
	s.at.TLSCert = again
	s.of(s.at)
	s.answers("its unit names another file", "")
	s.pair.Store(&third)
	s.answers("the server was started again, with that", "")
	if err := os.WriteFile(again, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.answers("a file that the server refuses", "")
	s.pair.Store(&stranger)
	s.answers("a stranger, and a file without a certificate", again+" has no certificate")
}

// TestWhatWasShownEnds: by then no client gets in.
func TestWhatWasShownEnds(t *testing.T) {
	ended, _ := certificate(t, -time.Minute)
	good, file := certificate(t, time.Hour)
	s := newShows(t, good, file)
	s.answers("at first", "")
	s.shown.leaf = ended.Leaf // shown while it was good
	s.pair.Store(&ended)
	s.answers("it has ended", "expired")
	s.pair.Store(&good)
	s.answers("the server has taken the renewed one up", "")
}

// TestEachQuestionIsANewClients: a server that answers over the connections that stand, and
// lets no new client in, does not answer.
func TestEachQuestionIsANewClients(t *testing.T) {
	pair, file := certificate(t, time.Hour)
	var closed atomic.Bool
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		if closed.Load() {
			return nil, errors.New("the certificate has ended")
		}
		return nil, nil //nolint:nilnil // as it was
	}}
	srv.StartTLS()
	defer srv.Close()
	c, err := (*Server)(nil).Of(At{Listen: strings.TrimPrefix(srv.URL, "https://"), TLSCert: file, Advertise: "https://example.com:7400"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if standing, err := c.Standing(t.Context()); err != nil || standing.Health != http.StatusOK || standing.Ready != http.StatusOK {
		t.Fatalf("%+v, %v", standing, err)
	}
	closed.Store(true)
	if standing, err := c.Standing(t.Context()); err == nil || standing.Health != 0 || standing.Ready != 0 {
		t.Errorf("no new client gets in, and it is told %+v", standing)
	}
}
