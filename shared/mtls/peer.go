package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/oklog/ulid/v2"
)

const (
	scheme = "originchain"
	// anyInstance stands in a certificate that is good for every instance.
	anyInstance = "any"
)

// Peer is whom a certificate names.
type Peer struct {
	// Instance is the database's id, a ULID; "" for a certificate that is good
	// for every instance.
	Instance string
	// Node is the node's id.
	Node string
}

// URI is the subject alternative name that makes a certificate that of a node:
// originchain://INSTANCE/NODE, with "any" for every instance.
func (p Peer) URI() *url.URL {
	host := anyInstance
	if p.Instance != "" {
		host = p.Instance
	}
	return &url.URL{Scheme: scheme, Host: host, Path: "/" + p.Node}
}

// String is the URI.
func (p Peer) String() string { return p.URI().String() }

// Is reports whether the certificate speaks for the node of the instance.
// instance "" is an instance that is not known yet.
func (p Peer) Is(instance, node string) bool {
	return p.Node == node && p.of(instance)
}

// of reports whether the peer may be of an instance; either may be unknown.
func (p Peer) of(instance string) bool {
	return p.Instance == "" || instance == "" || strings.EqualFold(p.Instance, instance)
}

// PeerOf is the node at the other end of a connection whose handshake one of
// this package's configurations has done. It verifies nothing: they have.
func PeerOf(state tls.ConnectionState) (Peer, error) {
	if !state.HandshakeComplete || len(state.PeerCertificates) == 0 {
		return Peer{}, errors.New("the other end has shown no certificate")
	}
	return Named(state.PeerCertificates[0])
}

// Named is the node that a certificate names, by exactly one URI.
func Named(cert *x509.Certificate) (peer Peer, err error) {
	found := 0
	for _, uri := range cert.URIs {
		if uri.Scheme != scheme {
			continue
		}
		found++
		if peer, err = parse(uri); err != nil {
			return Peer{}, err
		}
	}
	switch {
	case found == 0 && len(cert.URIs)+len(cert.DNSNames)+len(cert.IPAddresses)+len(cert.EmailAddresses) == 0:
		return Peer{}, errors.New("the certificate has no subject alternative name; that of a node has the URI originchain://INSTANCE/NODE, with any for INSTANCE where it is not known")
	case found == 0:
		return Peer{}, errors.New("the certificate is not that of a node: none of its subject alternative names is a URI originchain://INSTANCE/NODE")
	case found > 1:
		return Peer{}, fmt.Errorf("the certificate names %d nodes; give each node its own", found)
	}
	return peer, nil
}

func parse(uri *url.URL) (Peer, error) {
	node, rooted := strings.CutPrefix(uri.Path, "/")
	if !rooted || node == "" || strings.Contains(node, "/") || uri.User != nil || uri.RawQuery != "" || uri.Fragment != "" {
		return Peer{}, fmt.Errorf("the certificate's URI %q is not originchain://INSTANCE/NODE", uri)
	}
	if uri.Host == anyInstance {
		return Peer{Node: node}, nil
	}
	instance := strings.ToUpper(uri.Host)
	if _, err := ulid.ParseStrict(instance); err != nil {
		return Peer{}, fmt.Errorf("the certificate's URI %q names no instance: %q is neither %q nor a ULID (26 characters)", uri, uri.Host, anyInstance)
	}
	return Peer{Instance: instance, Node: node}, nil
}
