package process

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/shared/telemetry"
)

// authority signs certificates for the tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key, pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue makes a certificate for 127.0.0.1 with its serial number, and its key, as PEM.
func (a *authority) issue(t *testing.T, serial int64, notAfter time.Time) (cert, key []byte) {
	t.Helper()
	private := newKey(t)
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: notAfter.Add(-48 * time.Hour), NotAfter: notAfter, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})
}

func (a *authority) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// rotation is a certificate on disk that a test changes.
type rotation struct {
	authority *authority
	files     tlsFiles
	certs     *certificates
	logger    *logrus.Logger
	log       bytes.Buffer
}

func newRotation(t *testing.T) *rotation {
	t.Helper()
	dir := t.TempDir()
	r := &rotation{authority: newAuthority(t), files: tlsFiles{cert: filepath.Join(dir, "cert.pem"), key: filepath.Join(dir, "key.pem")}}
	r.put(t, 1)
	log, err := telemetry.NewLogger(&r.log, "info")
	if err != nil {
		t.Fatal(err)
	}
	r.logger = log
	if r.certs, err = loadCertificates(r.files, log); err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rotation) put(t *testing.T, serial int64) {
	t.Helper()
	cert, key := r.authority.issue(t, serial, time.Now().Add(time.Hour))
	write(t, r.files.cert, cert)
	write(t, r.files.key, key)
}

// serial is the serial number of the certificate being served.
func (r *rotation) serial() int64 {
	return r.certs.Current().Certificates[0].Leaf.SerialNumber.Int64()
}

func TestCertificateReload(t *testing.T) {
	r := newRotation(t)
	first := r.certs.Current()
	r.certs.Look()
	if r.certs.Current() != first {
		t.Error("unchanged files make a new configuration, which would end TLS sessions")
	}
	r.put(t, 2)
	r.certs.Look()
	if r.serial() != 2 {
		t.Fatalf("serial %d after a good change", r.serial())
	}
	expired, key := r.authority.issue(t, 3, time.Now().Add(-time.Minute))
	for name, change := range map[string]func(){
		"not PEM":      func() { write(t, r.files.cert, []byte("nonsense")) },
		"other key":    func() { cert, _ := r.authority.issue(t, 4, time.Now().Add(time.Hour)); write(t, r.files.cert, cert) },
		"expired":      func() { write(t, r.files.cert, expired); write(t, r.files.key, key) },
		"file is gone": func() { _ = os.Remove(r.files.cert) },
	} {
		r.log.Reset()
		change()
		r.certs.Look()
		r.certs.Look()
		if got := strings.Count(r.log.String(), "old one stays in use"); r.serial() != 2 || got != 1 {
			t.Errorf("%s: serial %d is served, %d lines are logged", name, r.serial(), got)
		}
	}
	r.put(t, 5)
	r.certs.Look()
	if r.serial() != 5 {
		t.Errorf("serial %d after the repair", r.serial())
	}
}

func TestAuthoritiesThatAreNone(t *testing.T) {
	r := newRotation(t)
	files := r.files
	files.ca = filepath.Join(t.TempDir(), "ca.pem")
	write(t, files.ca, []byte("nonsense"))
	if _, err := loadCertificates(files, r.logger); err == nil || !strings.Contains(err.Error(), files.ca) {
		t.Errorf("err %v", err)
	}
}

// ask makes one HTTPS request and returns the server's serial number and protocol.
func ask(url string, config *tls.Config) (serial int64, proto string, err error) {
	transport := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true, DisableKeepAlives: true}
	res, err := (&http.Client{Transport: transport}).Get(url)
	if err != nil {
		return 0, "", err
	}
	_, _ = io.Copy(io.Discard, res.Body)
	return res.TLS.PeerCertificates[0].SerialNumber.Int64(), res.Proto, res.Body.Close()
}

func TestServingTLS(t *testing.T) {
	r := newRotation(t)
	node := newFake()
	p := start(t, t.TempDir(), node.build, "--tls-cert", r.files.cert, "--tls-key", r.files.key)
	url := strings.Replace(p.url("api"), "http://", "https://", 1) + "/health"
	p.line("serving")
	if ends := node.deps.CertificateEnds; ends == nil || !ends().After(time.Now()) {
		t.Error("the node is not told when its certificate ends")
	}
	client := &tls.Config{RootCAs: r.authority.pool()}
	if serial, proto, err := ask(url, client); serial != 1 || proto != "HTTP/2.0" || err != nil {
		t.Fatalf("serial %d, %s, %v", serial, proto, err)
	}
	old := &tls.Config{RootCAs: r.authority.pool(), MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}
	if _, _, err := ask(url, old); err == nil {
		t.Error("TLS 1.1 is served")
	}
	r.put(t, 2)
	p.signals <- syscall.SIGHUP
	p.line("new TLS certificate in use")
	if serial, _, err := ask(url, client); serial != 2 || err != nil {
		t.Errorf("serial %d, %v", serial, err)
	}
	p.signals <- syscall.SIGTERM
	if code := <-p.code; code != ExitOK {
		t.Errorf("exit code %d", code)
	}
}

func TestClientsMustShowACertificate(t *testing.T) {
	r := newRotation(t)
	clients := newAuthority(t)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	write(t, ca, clients.pem)
	p := start(t, t.TempDir(), newFake().build, "--tls-cert", r.files.cert, "--tls-key", r.files.key, "--tls-ca", ca)
	url := strings.Replace(p.url("api"), "http://", "https://", 1) + "/health"
	p.line("serving")
	pair := func(a *authority) []tls.Certificate {
		cert, key := a.issue(t, 9, time.Now().Add(time.Hour))
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			t.Fatal(err)
		}
		return []tls.Certificate{pair}
	}
	if _, _, err := ask(url, &tls.Config{RootCAs: r.authority.pool()}); err == nil {
		t.Error("a client without a certificate is served")
	}
	if _, _, err := ask(url, &tls.Config{RootCAs: r.authority.pool(), Certificates: pair(r.authority)}); err == nil {
		t.Error("a client with another authority's certificate is served")
	}
	if _, _, err := ask(url, &tls.Config{RootCAs: r.authority.pool(), Certificates: pair(clients)}); err != nil {
		t.Error(err)
	}
	p.signals <- syscall.SIGTERM
	if code := <-p.code; code != ExitOK {
		t.Errorf("exit code %d", code)
	}
}

func TestCertificatesAreJoined(t *testing.T) {
	r := newRotation(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	hangup := make(chan struct{})
	go func() { r.certs.Run(ctx, hangup); close(ended) }()
	hangup <- struct{}{}
	cancel()
	<-ended
}

// TestTheEndIsThatOfTheFirst of all that is shown, and of what is shown now.
func TestTheEndIsThatOfTheFirst(t *testing.T) {
	r := newRotation(t)
	check := func(what string, within time.Duration) {
		t.Helper()
		if off := time.Until(r.certs.notAfter()) - within; off.Abs() > within/4 {
			t.Errorf("%s: it ends %s from what it should", what, off)
		}
	}
	check("one certificate", time.Hour)
	renewed, key := r.authority.issue(t, 2, time.Now().Add(40*time.Hour))
	link, _ := r.authority.issue(t, 3, time.Now().Add(20*time.Hour))
	write(t, r.files.key, key)
	write(t, r.files.cert, renewed)
	r.certs.Look()
	check("a renewed one", 40*time.Hour)
	write(t, r.files.cert, append(renewed, link...))
	r.certs.Look()
	check("one with a link that ends before", 20*time.Hour)
}
