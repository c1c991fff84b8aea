package mtls

import (
	"crypto/tls"
	"crypto/x509"
	"strings"
	"testing"
	"time"
)

func TestBothSidesLearnWhoTheOtherIs(t *testing.T) {
	a := newAuthority(t, nil)
	leader, _, _ := identity(t, a, a.issue(t, "leader", nil))
	follower, _, _ := identity(t, a, a.issue(t, "follower", func(c *x509.Certificate) { c.URIs[0] = uri(t, "originchain://"+instanceA+"/follower") }))
	for _, client := range []*tls.Config{follower.ClientTLS(), follower.ClientTLS("leader"), follower.ClientTLS("x", "leader")} {
		m := meet(t, leader.ServerTLS(), client)
		if m.serverErr != nil || m.clientErr != nil {
			t.Fatalf("server: %v, client: %v", m.serverErr, m.clientErr)
		}
		server, err := PeerOf(m.client)
		if err != nil || server != (Peer{Node: "leader"}) {
			t.Errorf("the client met %+v, %v", server, err)
		}
		peer, err := PeerOf(m.server)
		if err != nil || peer != (Peer{Instance: instanceA, Node: "follower"}) {
			t.Errorf("the server met %+v, %v", peer, err)
		}
		if m.client.Version != tls.VersionTLS13 || m.client.DidResume || m.client.NegotiatedProtocol != "h2" {
			t.Errorf("%x, resumed %v, %q", m.client.Version, m.client.DidResume, m.client.NegotiatedProtocol)
		}
	}
}

func TestAConnectionWithoutAHandshakeHasNoPeer(t *testing.T) {
	a := newAuthority(t, nil)
	certs := []*x509.Certificate{a.issue(t, "n", nil).Leaf}
	for _, state := range []tls.ConnectionState{{}, {HandshakeComplete: true}, {PeerCertificates: certs}} {
		if p, err := PeerOf(state); err == nil {
			t.Errorf("%+v", p)
		}
	}
}

// flaws are certificates that neither side may accept from the other.
func flaws(t *testing.T, a *authority) map[string]tls.Certificate {
	other := newAuthority(t, nil)
	issue := func(change func(*x509.Certificate)) tls.Certificate { return a.issue(t, "peer", change) }
	return map[string]tls.Certificate{
		"another authority's":   other.issue(t, "peer", nil),
		"its own authority":     {Certificate: [][]byte{other.cert.Raw}, PrivateKey: other.key},
		"a link is missing":     a.intermediate(t, time.Now().Add(time.Hour)).issue(t, "peer", nil),
		"a link for other uses": a.intermediate(t, time.Now().Add(time.Hour), x509.ExtKeyUsageCodeSigning).below(t, "peer"),
		"expired":               issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }),
		"not valid yet":         issue(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Hour) }),
		"no usage":              issue(func(c *x509.Certificate) { c.ExtKeyUsage = nil }),
		"another usage":         issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }),
		"no node":               issue(func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"localhost"} }),
		"two nodes":             issue(func(c *x509.Certificate) { c.URIs = append(c.URIs, Peer{Node: "b"}.URI()) }),
		"no node of this shape": issue(func(c *x509.Certificate) { c.URIs[0] = uri(t, "originchain://any/a/b") }),
		"another instance's":    issue(func(c *x509.Certificate) { c.URIs[0] = uri(t, "originchain://"+instanceB+"/peer") }),
	}
}

// ofA is a certificate of instanceA.
func ofA(t *testing.T, a *authority, node string) tls.Certificate {
	return a.issue(t, node, func(c *x509.Certificate) { c.URIs[0] = uri(t, "originchain://"+instanceA+"/"+node) })
}

func TestTheServerRefusesClients(t *testing.T) {
	a := newAuthority(t, nil)
	server, _, _ := identity(t, a, ofA(t, a, "leader"))
	client := func(pair ...tls.Certificate) *tls.Config {
		// The client accepts any server: only the server decides.
		return &tls.Config{InsecureSkipVerify: true, Certificates: pair, NextProtos: alpn()}
	}
	if m := meet(t, server.ServerTLS(), client(a.issue(t, "peer", nil))); m.serverErr != nil || m.clientErr != nil {
		t.Fatalf("a sound one is refused: %v, %v", m.serverErr, m.clientErr)
	}
	onlyServer := a.issue(t, "peer", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] })
	old := client(a.issue(t, "peer", nil))
	old.MaxVersion = tls.VersionTLS12
	cases := map[string]*tls.Config{"no certificate": client(), "a server's": client(onlyServer), "TLS 1.2": old}
	for name, pair := range flaws(t, a) {
		cases[name] = client(pair)
	}
	for name, config := range cases {
		if m := meet(t, server.ServerTLS(), config); m.serverErr == nil || m.clientErr == nil {
			t.Errorf("%s: server: %v, client: %v", name, m.serverErr, m.clientErr)
		}
	}
}

func TestTheClientRefusesServers(t *testing.T) {
	a := newAuthority(t, nil)
	client, _, _ := identity(t, a, ofA(t, a, "follower"))
	server := func(pair tls.Certificate) *tls.Config {
		// The server accepts any client: only the client decides.
		return &tls.Config{Certificates: []tls.Certificate{pair}, NextProtos: alpn()}
	}
	if m := meet(t, server(a.issue(t, "peer", nil)), client.ClientTLS("peer")); m.serverErr != nil || m.clientErr != nil {
		t.Fatalf("a sound one is refused: %v, %v", m.serverErr, m.clientErr)
	}
	onlyClient := a.issue(t, "peer", func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] })
	old := server(a.issue(t, "peer", nil))
	old.MaxVersion = tls.VersionTLS12
	cases := map[string]*tls.Config{"another node": server(a.issue(t, "other", nil)), "a client's": server(onlyClient), "TLS 1.2": old}
	for name, pair := range flaws(t, a) {
		cases[name] = server(pair)
	}
	for name, config := range cases {
		if m := meet(t, config, client.ClientTLS("peer")); m.clientErr == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	m := meet(t, server(a.issue(t, "other", nil)), client.ClientTLS("peer", "third"))
	if m.clientErr == nil || !strings.Contains(m.clientErr.Error(), `node "other", and was to be peer or third`) {
		t.Errorf("%v", m.clientErr)
	}
}

// TestNodesNamedAreThoseOfTheCall: a slice that the caller goes on using changes
// nothing.
func TestNodesNamedAreThoseOfTheCall(t *testing.T) {
	a := newAuthority(t, nil)
	id, _, _ := identity(t, a, a.issue(t, "n", nil))
	nodes := []string{"n"}
	client := id.ClientTLS(nodes...)
	nodes[0] = "m"
	if m := meet(t, id.ServerTLS(), client); m.clientErr != nil {
		t.Error(m.clientErr)
	}
}

// TestAServerConfigurationThatLostItsFunctionRefusesEverybody: libraries copy
// configurations.
func TestAServerConfigurationThatLostItsFunctionRefusesEverybody(t *testing.T) {
	a := newAuthority(t, nil)
	pair := a.issue(t, "n", nil)
	id, _, _ := identity(t, a, pair)
	lost := id.ServerTLS()
	lost.GetConfigForClient = nil
	lost.Certificates = []tls.Certificate{pair}
	if m := meet(t, lost, id.ClientTLS()); m.serverErr == nil {
		t.Error("a client is accepted")
	}
}

// TestSessionsAreNotResumed: a resumed session would skip what may have changed
// since.
func TestSessionsAreNotResumed(t *testing.T) {
	a := newAuthority(t, nil)
	id, _, _ := identity(t, a, a.issue(t, "n", nil))
	client := id.ClientTLS()
	client.ServerName = "n" // by which sessions are kept
	client.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	server := id.ServerTLS() // which has the keys of sessions
	for range 3 {
		m := meet(t, server, client)
		if m.serverErr != nil || m.clientErr != nil || m.server.DidResume {
			t.Errorf("server: %v, client: %v, resumed: %v", m.serverErr, m.clientErr, m.server.DidResume)
		}
	}
}
