package process

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"
)

// certificatePoll is how often the files of a certificate are looked at.
const certificatePoll = time.Second

// tlsFiles are the paths of a TLS configuration; ca "" asks clients for nothing.
type tlsFiles struct{ cert, key, ca string }

// certificates serves the newest good certificate of its files. A new one that
// does not load is logged once, and the old one goes on being served.
type certificates struct {
	files   tlsFiles
	log     *logrus.Logger
	current atomic.Pointer[tls.Config]
	// read is what the files held when they were last looked at, good or bad.
	read [3][]byte
	// unreadable says that the last look could not read them, which was logged.
	unreadable bool
}

// loadCertificates reads the files for the first time; here a fault is an error.
func loadCertificates(files tlsFiles, log *logrus.Logger) (*certificates, error) {
	c := &certificates{files: files, log: log}
	contents, err := files.read()
	if err != nil {
		return nil, err
	}
	config, err := files.parse(contents)
	if err != nil {
		return nil, err
	}
	c.read = contents
	c.current.Store(config)
	return c, nil
}

// serverConfig is what a listener is given: it asks for the current
// configuration at each handshake.
func (c *certificates) serverConfig() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS12,
		NextProtos:         alpn(),
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) { return c.current.Load(), nil },
		// Not used for a handshake, but net/http wants to see a certificate here.
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &c.current.Load().Certificates[0], nil },
	}
}

// alpn offers HTTP/2 before HTTP/1.1.
func alpn() []string { return []string{"h2", "http/1.1"} }

// run looks for changes every certificatePoll and whenever hangup says so,
// until ctx ends. It compares contents: a time stamp can stay the same over a
// quick second write, and the files are small.
func (c *certificates) run(ctx context.Context, hangup <-chan struct{}) {
	ticker := time.NewTicker(certificatePoll)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-hangup:
		}
		c.reload()
	}
}

// reload takes up the files if they have changed and are good.
func (c *certificates) reload() {
	contents, err := c.files.read()
	seen := err == nil && same(contents, c.read)
	if seen || err != nil && c.unreadable {
		c.unreadable = err != nil
		return
	}
	c.unreadable = err != nil
	if err == nil {
		c.read = contents
	}
	var config *tls.Config
	if err == nil {
		config, err = c.files.parse(contents)
	}
	if err != nil {
		c.log.WithError(err).Error("the new TLS certificate is not usable, the old one is still served")
		return
	}
	c.current.Store(config)
	c.log.WithField("file", c.files.cert).Info("new TLS certificate in use")
}

func same(a, b [3][]byte) bool {
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// read returns the contents of the files.
func (f tlsFiles) read() (contents [3][]byte, err error) {
	for i, path := range []string{f.cert, f.key, f.ca} {
		if path == "" {
			continue
		}
		if contents[i], err = os.ReadFile(path); err != nil {
			return [3][]byte{}, fmt.Errorf("read TLS file: %w", err)
		}
	}
	return contents, nil
}

// parse makes a TLS configuration of the files' contents.
func (f tlsFiles) parse(contents [3][]byte) (*tls.Config, error) {
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
