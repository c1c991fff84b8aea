package mtls

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/shared/telemetry"
)

const (
	instanceA = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
	instanceB = "01BX5ZZKBKACTAV9WEVGEMMVRZ"
)

// authority signs what a test wants, sound or not.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t *testing.T, template, parent *x509.Certificate, public any, key *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func newAuthority(t *testing.T, change func(*x509.Certificate)) *authority {
	t.Helper()
	key := newKey(t)
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	if change != nil {
		change(template)
	}
	return &authority{cert: sign(t, template, template, &key.PublicKey, key), key: key}
}

// intermediate is an authority that a signed.
func (a *authority) intermediate(t *testing.T, notAfter time.Time, usages ...x509.ExtKeyUsage) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "between"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: notAfter,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: usages}
	return &authority{cert: sign(t, template, a.cert, &key.PublicKey, a.key), key: key}
}

// uri reads the subject alternative name of a node.
func uri(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// issue makes a certificate of a node of any instance, as change wants it.
func (a *authority) issue(t *testing.T, node string, change func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key := newKey(t)
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(100 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		URIs: []*url.URL{Peer{Node: node}.URI()}}
	if change != nil {
		change(template)
	}
	leaf := sign(t, template, a.cert, &key.PublicKey, a.key)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// below is a certificate that comes with the link to its authority.
func (a *authority) below(t *testing.T, node string) tls.Certificate {
	t.Helper()
	pair := a.issue(t, node, nil)
	pair.Certificate = append(pair.Certificate, a.cert.Raw)
	return pair
}

func encode(certs ...[]byte) []byte {
	var out []byte
	for _, der := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}

func encodeKey(t *testing.T, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func write(t *testing.T, path string, content []byte, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, content, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// put writes the three files.
func put(t *testing.T, dir string, a *authority, pair tls.Certificate) {
	t.Helper()
	write(t, filepath.Join(dir, CAFile), encode(a.cert.Raw), 0o644)
	write(t, filepath.Join(dir, CertFile), encode(pair.Certificate...), 0o644)
	write(t, filepath.Join(dir, KeyFile), encodeKey(t, pair.PrivateKey), 0o600)
}

func logger(t *testing.T, out io.Writer) *logrus.Logger {
	t.Helper()
	log, err := telemetry.NewLogger(out, "info")
	if err != nil {
		t.Fatal(err)
	}
	return log
}

// identity loads the directory that put makes.
func identity(t *testing.T, a *authority, pair tls.Certificate) (id *Identity, dir string, log *bytes.Buffer) {
	t.Helper()
	dir, log = t.TempDir(), &bytes.Buffer{}
	put(t, dir, a, pair)
	id, err := Load(dir, logger(t, log))
	if err != nil {
		t.Fatal(err)
	}
	return id, dir, log
}

// met is what each side knows after a handshake and one byte.
type met struct {
	server, client       tls.ConnectionState
	serverErr, clientErr error
}

// meet connects two configurations.
func meet(t *testing.T, server, client *tls.Config) (m met) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		raw, err := ln.Accept()
		if err != nil {
			m.serverErr = err
			return
		}
		conn := tls.Server(raw, server)
		defer func() { _ = conn.Close() }()
		if m.serverErr = conn.Handshake(); m.serverErr == nil {
			m.server = conn.ConnectionState()
			_, m.serverErr = conn.Write([]byte{1})
		}
	}()
	raw, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	conn := tls.Client(raw, client)
	if m.clientErr = conn.Handshake(); m.clientErr == nil {
		m.client = conn.ConnectionState()
		// Only what the server sends shows that it accepted the client.
		_, m.clientErr = io.ReadFull(conn, make([]byte, 1))
	}
	m.clientErr = errors.Join(m.clientErr, raw.Close())
	<-ended
	return m
}

// keyOf is the key of a certificate that issue made.
func keyOf(t *testing.T, pair tls.Certificate) *ecdsa.PrivateKey {
	t.Helper()
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		t.Fatalf("%T", pair.PrivateKey)
	}
	return key
}
