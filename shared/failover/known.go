package failover

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

const (
	// dialTimeout bounds the way to a node, and its handshake; each request has a bound of its
	// own.
	dialTimeout = 2 * time.Second
	// idlePerNode is how many connections to a node are kept, idleTimeout for how long.
	idlePerNode = 4
	idleTimeout = 90 * time.Second
)

// UntrustedError says that what answers at a node's address is not known to be one: nothing
// was asked there.
type UntrustedError struct {
	// Node is the host and port of its URL.
	Node string
	// Known is where those authorities are named that nodes are known by; "" for the system's.
	Known string
	Err   error
}

// Error implements error.
func (e *UntrustedError) Error() string {
	known := "the system's authorities"
	if e.Known != "" {
		known = "the authorities in " + e.Known
	}
	return fmt.Sprintf("%s is not known to be a node by %s (%v): put the authority of the nodes' certificates into the tenant's ca in cdk.json and deploy, or give the node a certificate of it", e.Node, known, e.Err)
}

// Unwrap is what was wrong with its certificate.
func (e *UntrustedError) Unwrap() error { return e.Err }

// NodesClient asks nodes. Over HTTPS they are known by certificates of roots, which known
// says the place of; nil for those of the system.
//
// It speaks HTTP/1.1, whose connection ends with a question that was not answered. One of
// HTTP/2 would serve the next question too: a node that is back at its address, on another
// machine than the one that was lost, would be silent for whoever has asked that one.
func NodesClient(roots *x509.CertPool, known string) *http.Client {
	if roots == nil {
		known = ""
	}
	return &http.Client{Transport: &trusting{known: known, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		DialContext:     (&net.Dialer{Timeout: dialTimeout}).DialContext, TLSHandshakeTimeout: dialTimeout,
		MaxIdleConnsPerHost: idlePerNode, IdleConnTimeout: idleTimeout,
	}}}
}

// trusting says of a certificate that is not trusted whom it should be trusted by.
type trusting struct {
	*http.Transport
	known string
}

// RoundTrip implements http.RoundTripper.
func (t *trusting) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.Transport.RoundTrip(r)
	var untrusted *tls.CertificateVerificationError
	if errors.As(err, &untrusted) {
		return nil, &UntrustedError{Node: r.URL.Host, Known: t.known, Err: untrusted.Err}
	}
	return resp, err
}
