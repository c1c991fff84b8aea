// Package reach asks the server of this machine how it does, as its unit says that it can be
// asked: at the address for operators where it has one, over the loopback where it listens
// on every address, and with TLS by the certificate of its own file.
package reach

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"sync"
	"time"

	"originchain/shared/api"
)

const (
	// ProbeTimeout bounds one probe.
	ProbeTimeout = 2 * time.Second
	// maxProbeBytes is how much of a probe's answer is read.
	maxProbeBytes = 64 << 10
)

// At is what a server's configuration says of how it is reached.
type At struct{ Listen, OpsListen, TLSCert, TLSCA, Advertise string }

// Server is a server that can be asked.
type Server struct {
	at    At // what it was made of
	base  string
	http  *http.Client
	shown *shown // by it, and by the one that it was before its configuration changed
}

// New asks at a URL, by a client.
func New(base string, client *http.Client) *Server { return &Server{base: base, http: client} }

// Of is the server of a configuration: s, if it is that.
func (s *Server) Of(at At) (*Server, error) {
	if s != nil && s.at == at {
		return s, nil
	}
	s.Close()
	address, scheme := at.OpsListen, "http"
	if address == "" {
		if address = at.Listen; at.TLSCert != "" {
			scheme = "https"
		}
	}
	if scheme == "https" && at.TLSCA != "" {
		return nil, errors.New("the server takes requests with a client's certificate alone: give it --ops-listen, so that it can be asked how it is")
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("the server's address: %w", err)
	}
	if Wildcard(address) {
		host = "127.0.0.1"
	}
	name := host
	if u, err := url.Parse(at.Advertise); err == nil && u.Hostname() != "" {
		name = u.Hostname()
	}
	known := &shown{}
	if s != nil && s.shown != nil {
		known = s.shown
	}
	transport := &http.Transport{
		// Each question is asked as a new client asks it: a connection that stands goes on when
		// the certificate has ended, or no other gets in.
		DisableKeepAlives: true,
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return known.dialTLS(ctx, network, addr, at.TLSCert, name)
		},
	}
	return &Server{at: at, base: scheme + "://" + net.JoinHostPort(host, port), shown: known, http: &http.Client{
		Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Close ends its connections.
func (s *Server) Close() {
	if s != nil {
		s.http.CloseIdleConnections()
	}
}

// Wildcard says of a host:port that it is every address of the machine.
func Wildcard(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsUnspecified()
}

// shown is the certificate that a server has shown on its last good connection.
type shown struct {
	mu   sync.Mutex // a dial may go on when nobody waits for it any more
	leaf *x509.Certificate
}

// dialTLS connects to a server that shows the certificate of its own file, or another one
// by whoever has issued that: what is read anew for each connection, as it is renewed. Until
// the server has taken a new file up, and for as long as it refuses it, it goes on with what
// it showed before. That is known as well, as clients get in by it, and they do not once it
// has ended. Who begins to ask meanwhile has not seen it, and gets no answer.
func (s *shown) dialTLS(ctx context.Context, network, address, certFile, name string) (net.Conn, error) {
	roots, unusable := readRoots(certFile)
	s.mu.Lock()
	leaf := s.leaf
	s.mu.Unlock()
	if leaf != nil {
		roots.AddCert(leaf)
	} else if unusable != nil {
		return nil, unusable
	}
	d := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12}}
	conn, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, errors.Join(err, unusable)
	}
	if c, ok := conn.(*tls.Conn); ok {
		s.mu.Lock()
		s.leaf = c.ConnectionState().PeerCertificates[0]
		s.mu.Unlock()
	}
	return conn, nil
}

// readRoots are the certificates of a file; none, where the error says why.
func readRoots(certFile string) (*x509.CertPool, error) {
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(certFile)
	if err == nil && !roots.AppendCertsFromPEM(pem) {
		err = fmt.Errorf("%s has no certificate", certFile)
	}
	return roots, err
}

// modeWriter is api.Health.Mode of a writer.
const modeWriter = "writer"

// Standing is what a server has answered to both probes: each status, 0 without an answer,
// and the role that it says it has.
type Standing struct {
	Health, Ready int
	Mode          string
}

// Writes says that it is a writer, and ready: so it has its lease, and is not fenced.
func (s Standing) Writes() bool {
	return s.Health == http.StatusOK && s.Ready == http.StatusOK && s.Mode == modeWriter
}

// Standing asks for both, one after the other. The error says why there was no answer.
func (s *Server) Standing(ctx context.Context) (out Standing, err error) {
	var health api.Health
	out.Health, err = s.probe(ctx, "/health", func(body []byte) {
		_ = json.Unmarshal(body, &health) // what is no such document says no mode
	})
	out.Mode = health.Mode
	ready, unanswered := s.probe(ctx, "/ready", func([]byte) {})
	out.Ready = ready
	return out, errors.Join(err, unanswered)
}

func (s *Server) probe(ctx context.Context, path string, read func([]byte)) (status int, err error) {
	status, err = s.Get(ctx, path, ProbeTimeout, func(r io.Reader) error {
		body, err := io.ReadAll(io.LimitReader(r, maxProbeBytes))
		read(body)
		return err
	})
	if err != nil {
		return 0, err
	}
	return status, nil
}

// Get asks for a page, whose body read reads.
func (s *Server) Get(ctx context.Context, path string, within time.Duration, read func(io.Reader) error) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.base+path, nil)
	if err != nil {
		return 0, err
	}
	res, err := s.http.Do(req)
	if err != nil {
		return 0, err
	}
	err = read(res.Body)
	return res.StatusCode, errors.Join(err, res.Body.Close())
}
