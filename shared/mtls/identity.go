// Package mtls is who a node is to the other nodes, and how it tells who they
// are: the certificates in the directory of --replication-tls-dir.
//
//	ca.crt    the authorities, PEM; more than one while they are replaced
//	node.crt  the node's certificate, PEM, intermediates after it
//	node.key  its private key, PEM, mode 0600
//
// A node is not its address: it moves, and a follower must know its leader
// again wherever it stands. So what counts is the URI originchain://INSTANCE/NODE
// among the certificate's alternative names, and host names and addresses beside
// it are for other tools. Checking the address was refused: it would tie every
// certificate to where a node happens to run, and an address proves nothing that
// the authority's signature under the node's name does not.
//
// Both sides speak TLS 1.3 and nothing older, show a certificate, and verify the
// other's in full at every handshake (sessions are not resumed): the chain to an
// authority in ca.crt, the validity of each link, the extended key usage of the
// side it is on (a node is server and client, so its certificate has both), the
// URI, and that both certificates can be of one instance. A connection that
// stands is not verified again; there is no revocation but another authority.
package mtls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/shared/certfile"
)

// The files of a directory.
const (
	CAFile   = "ca.crt"
	CertFile = "node.crt"
	KeyFile  = "node.key"
)

const (
	// expiryWarning is the share of a certificate's life at whose beginning its
	// end is near: one in that many.
	expiryWarning = 10
	// expiryCheck is how often that is looked at.
	expiryCheck = 12 * time.Hour
)

// Identity is what a directory holds: the newest good set of its files.
type Identity struct {
	dir     string
	log     *logrus.Logger
	watched *certfile.Watched[*set]
}

// set is one good set of files.
type set struct {
	self  Peer
	pair  tls.Certificate
	roots *x509.CertPool
	// ends is when the pair no longer verifies with the roots.
	ends time.Time
	// server is the server's configuration with these files.
	server *tls.Config
}

// Load reads the directory. Its error has one line for each fault, which names
// the file and says what to do. It starts nothing: Run looks for changes, and
// logs what becomes of them to log.
func Load(dir string, log *logrus.Logger) (*Identity, error) {
	source := certfile.Source[*set]{
		Name: filepath.Join(dir, CertFile), What: "TLS certificate",
		Read:  func() ([][]byte, error) { return read(dir) },
		Parse: func(contents [][]byte) (*set, error) { return parseSet(dir, contents, time.Now()) },
	}
	watched, err := certfile.Load(source, log)
	if err != nil {
		return nil, err
	}
	return &Identity{dir: dir, log: log, watched: watched}, nil
}

// Run takes up new files until ctx ends, and says when the end of a certificate
// is near. hangup, which may be nil, makes it look at once.
func (i *Identity) Run(ctx context.Context, hangup <-chan struct{}) {
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { i.watched.Run(ctx, hangup) })
	ticker := time.NewTicker(expiryCheck)
	defer ticker.Stop()
	for {
		i.warn(time.Now())
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (i *Identity) warn(now time.Time) {
	leaf := i.watched.Current().pair.Leaf
	if left := leaf.NotAfter.Sub(now); left < leaf.NotAfter.Sub(leaf.NotBefore)/expiryWarning {
		i.log.WithFields(logrus.Fields{"file": filepath.Join(i.dir, CertFile), "not_after": leaf.NotAfter.UTC().Format(time.RFC3339)}).
			Warn("the replication certificate ends soon; put a new one into its file, and it is taken up at once")
	}
}

// Self is whom this node's certificate names.
func (i *Identity) Self() Peer { return i.watched.Current().self }

// NotAfter is when nobody takes this node's certificate any more: it ends then, or what it
// rests on in its own file and in ca.crt does. An authority that is there and has issued
// none of it does not count: it is on its way in or out.
func (i *Identity) NotAfter() time.Time { return i.watched.Current().ends }

// ServerTLS is for a listener. Each handshake is done with the files of its
// moment.
func (i *Identity) ServerTLS() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: alpn(),
		// Whatever might lose the function below on its way would refuse everybody.
		ClientAuth:         tls.RequireAndVerifyClientCert,
		ClientCAs:          x509.NewCertPool(),
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return i.watched.Current().server, nil },
	}
}

// ClientTLS is for connections to one of the nodes named, or to any node when
// none is. Each handshake is done with the files of its moment.
func (i *Identity) ClientTLS(nodes ...string) *tls.Config {
	nodes = slices.Clone(nodes)
	return &tls.Config{
		MinVersion: tls.VersionTLS13,
		NextProtos: alpn(),
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return &i.watched.Current().pair, nil
		},
		// What it skips is done below: a client's configuration holds one set of
		// authorities for ever, and compares the address, which is not who a node is.
		InsecureSkipVerify: true, //nolint:gosec // VerifyConnection verifies in full
		VerifyConnection: func(state tls.ConnectionState) error {
			peer, err := i.watched.Current().verify(state.PeerCertificates, x509.ExtKeyUsageServerAuth, time.Now())
			if err == nil && len(nodes) > 0 && !slices.Contains(nodes, peer.Node) {
				err = fmt.Errorf("the other end is node %q, and was to be %s", peer.Node, strings.Join(nodes, " or "))
			}
			return err
		},
	}
}

// alpn is what gRPC speaks.
func alpn() []string { return []string{"h2"} }

// serve makes the server's configuration of the set.
func (s *set) serve() {
	s.server = &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   alpn(),
		Certificates: []tls.Certificate{s.pair},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    s.roots,
		// A resumed session would be one whose certificate is not looked at.
		SessionTicketsDisabled: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			_, err := s.verify(state.PeerCertificates, x509.ExtKeyUsageClientAuth, time.Now())
			return err
		},
	}
}

// verify says who the other end is, or why it is nobody: chain[0] is its
// certificate, the rest what it sent to reach an authority.
func (s *set) verify(chain []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) (Peer, error) {
	if len(chain) == 0 {
		return Peer{}, errors.New("the other end has shown no certificate")
	}
	if !slices.Contains(chain[0].ExtKeyUsage, usage) { // Verify takes none for all
		return Peer{}, errors.New("the certificate of the other end lacks the extended key usage " + usages[usage])
	}
	if _, err := chain[0].Verify(options(s.roots, chain, usage, now)); err != nil {
		return Peer{}, fmt.Errorf("the certificate of the other end: %w", err)
	}
	peer, err := Named(chain[0])
	if err != nil {
		return Peer{}, fmt.Errorf("the other end: %w", err)
	}
	if !peer.of(s.self.Instance) {
		return Peer{}, fmt.Errorf("the other end is of instance %s, this node of %s", peer.Instance, s.self.Instance)
	}
	return peer, nil
}

// usages are the extended key usages of a node.
var usages = map[x509.ExtKeyUsage]string{
	x509.ExtKeyUsageServerAuth: "serverAuth",
	x509.ExtKeyUsageClientAuth: "clientAuth",
}

func options(roots *x509.CertPool, chain []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) x509.VerifyOptions {
	intermediates := x509.NewCertPool()
	for _, cert := range chain[1:] {
		intermediates.AddCert(cert)
	}
	return x509.VerifyOptions{Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{usage}, CurrentTime: now}
}
