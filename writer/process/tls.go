package process

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/shared/certfile"
)

// tlsFiles are the paths of a TLS configuration; ca "" asks clients for nothing.
type tlsFiles struct{ cert, key, ca string }

// certificates is the configuration made of the newest good certificate.
type certificates struct{ *certfile.Watched[*tls.Config] }

// loadCertificates reads the files for the first time; here a fault is an error.
func loadCertificates(files tlsFiles, log *logrus.Logger) (*certificates, error) {
	watched, err := certfile.Load(certfile.Source[*tls.Config]{Name: files.cert, What: "TLS certificate", Read: files.read, Parse: files.parse}, log)
	if err != nil {
		return nil, err
	}
	return &certificates{watched}, nil
}

// serverConfig is what a listener is given: it asks for the current
// configuration at each handshake.
func (c *certificates) serverConfig() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         alpn(),
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.Current(), nil },
		// Not used for a handshake, but net/http wants to see a certificate here.
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &c.Current().Certificates[0], nil },
	}
}

// alpn offers HTTP/2 before HTTP/1.1.
func alpn() []string { return []string{"h2", "http/1.1"} }

// notAfter is when the first of the certificates ends that are shown.
func (c *certificates) notAfter() time.Time {
	shown := c.Current().Certificates[0]
	first := shown.Leaf.NotAfter
	for _, der := range shown.Certificate[1:] {
		// One that cannot be read ends nothing here: clients do not use it.
		if cert, err := x509.ParseCertificate(der); err == nil && cert.NotAfter.Before(first) {
			first = cert.NotAfter
		}
	}
	return first
}

// read returns the contents of the files.
func (f tlsFiles) read() ([][]byte, error) {
	contents := make([][]byte, 3)
	for i, path := range []string{f.cert, f.key, f.ca} {
		if path == "" {
			continue
		}
		var err error
		if contents[i], err = os.ReadFile(path); err != nil {
			return nil, fmt.Errorf("read TLS file: %w", err)
		}
	}
	return contents, nil
}

// parse makes a TLS configuration of the files' contents.
func (f tlsFiles) parse(contents [][]byte) (*tls.Config, error) {
	pair, err := tls.X509KeyPair(contents[0], contents[1])
	if err != nil {
		return nil, fmt.Errorf("certificate %s with key %s: %w", f.cert, f.key, err)
	}
	if now := time.Now(); now.After(pair.Leaf.NotAfter) {
		return nil, fmt.Errorf("certificate %s expired on %s; renew it", f.cert, pair.Leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: alpn(), Certificates: []tls.Certificate{pair}}
	if f.ca != "" {
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(contents[2]) {
			return nil, errors.New("authorities " + f.ca + ": no PEM certificate in it")
		}
		config.ClientCAs, config.ClientAuth = pool, tls.RequireAndVerifyClientCert
	}
	return config, nil
}
