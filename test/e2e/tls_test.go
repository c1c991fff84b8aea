package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"originchain/scripts/child"
)

// certificate writes a self-signed certificate with a serial number, and
// returns what a client must trust.
func certificate(t *testing.T, dir string, serial int64) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, filepath.Join(dir, "key.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	overwrite(t, filepath.Join(dir, "cert.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	pool := x509.NewCertPool()
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(leaf)
	return pool
}

// served is the serial number of the certificate that a new connection is shown.
func served(t *testing.T, address string) int64 {
	t.Helper()
	// Which certificate it is is the question, so none is refused here.
	conn, err := tls.Dial("tcp", address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	serial := conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	return serial
}

func TestTLSAndItsReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pool := certificate(t, dir, 1)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	address, err := child.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	data := filepath.Join(t.TempDir(), "data")
	s := start(t, child.Options{
		DataDir: data, Listen: address, URL: "https://" + address, Client: client,
		Args: []string{"--tls-cert", filepath.Join(dir, "cert.pem"), "--tls-key", filepath.Join(dir, "key.pem")},
	})
	n := enter(t, s, data, client)
	path := n.notes(t)
	if err := n.client.JSON(t.Context(), http.MethodPost, path, map[string]any{"id": 1}, nil); err != nil {
		t.Fatal(err)
	}
	resp, err := client.Get(s.URL() + "/health")
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil || resp.ProtoMajor != 2 {
		t.Errorf("with ALPN the protocol is HTTP/%d, want 2 (%v)", resp.ProtoMajor, err)
	}
	if resp, err := http.Get("http://" + address + "/health"); err == nil {
		if err := resp.Body.Close(); err != nil || resp.StatusCode < 400 {
			t.Errorf("plain HTTP on the TLS port was served: %d, %v", resp.StatusCode, err)
		}
	}

	// A pair that does not load must not be served, and must not end the service.
	overwrite(t, filepath.Join(dir, "cert.pem"), "not a certificate")
	hangUp(t, s)
	if got := served(t, address); got != 1 {
		t.Errorf("certificate %d is served after a bad reload, want the old one", got)
	}
	certificate(t, dir, 2)
	hangUp(t, s)
	waitForCertificate(t, address, 2)
}

func hangUp(t *testing.T, s *child.Server) {
	t.Helper()
	if err := syscall.Kill(s.PID(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
}

// waitForCertificate asks until the certificate is the one; reading it takes
// the server a moment.
func waitForCertificate(t *testing.T, address string, serial int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), readyWithin)
	defer cancel()
	for ctx.Err() == nil {
		if served(t, address) == serial {
			return
		}
	}
	t.Errorf("certificate %d is still not served", serial)
}

func TestCertificateThatCannotBeReadIsRefused(t *testing.T) {
	t.Parallel()
	cert := filepath.Join(t.TempDir(), "missing.pem")
	s := launch(t, child.Options{DataDir: filepath.Join(t.TempDir(), "data"), Args: []string{"--tls-cert", cert, "--tls-key", cert}})
	<-s.Exited()
	if s.ExitCode() == 0 {
		t.Error("exit code 0")
	}
	says(t, s.Output(), cert)
	if strings.Contains(s.Output(), "panic") {
		t.Error("it panicked")
	}
}
