package mtls

import (
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

const (
	// maxFileBytes is what a file may hold; a chain has a few KiB.
	maxFileBytes = 1 << 20
	// foreign are the bits of a mode that let others than the owner at a file.
	foreign fs.FileMode = 0o077

	hint = "oc-server cert dev makes one for development"
)

// read returns the contents of ca.crt, node.crt and node.key.
func read(dir string) ([][]byte, error) {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		if err == nil {
			err = errors.New("not a directory")
		}
		return nil, fmt.Errorf("%s: %w; name a directory with %s, %s and %s (%s)", dir, err, CAFile, CertFile, KeyFile, hint)
	}
	contents := make([][]byte, 3)
	var faults []error
	for i, name := range []string{CAFile, CertFile, KeyFile} {
		var err error
		if contents[i], err = readFile(filepath.Join(dir, name), name == KeyFile); err != nil {
			faults = append(faults, err)
		}
	}
	return contents, errors.Join(faults...)
}

func readFile(path string, private bool) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s is missing; put it there (%s)", path, hint)
	}
	if err != nil {
		return nil, fmt.Errorf("%w; let this process's user read it", err)
	}
	defer func() { _ = f.Close() }() // only read
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); private && mode&foreign != 0 {
		return nil, fmt.Errorf("%s has mode %04o, which is not its owner's alone; chmod 600 it, and replace the key if others may have read it", path, mode)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(content) > maxFileBytes {
		err = fmt.Errorf("%s holds more than %d bytes; it is no file of certificates", path, maxFileBytes)
	}
	return content, err
}

// faults collects what is wrong with a set, each with its file.
type faults struct {
	dir  string
	list []error
}

func (f *faults) add(file, format string, args ...any) {
	f.list = append(f.list, fmt.Errorf("%s: "+format, append([]any{filepath.Join(f.dir, file)}, args...)...))
}

// parseSet makes a set of the contents of the files, in the order of read.
func parseSet(dir string, contents [][]byte, now time.Time) (*set, error) {
	f := &faults{dir: dir}
	s := &set{roots: x509.NewCertPool()}
	authorities := f.certificates(CAFile, contents[0])
	for _, ca := range authorities {
		if !ca.IsCA {
			f.add(CAFile, "%q is not a certificate of an authority; put the one there that signed %s", ca.Subject, CertFile)
		}
		s.roots.AddCert(ca)
	}
	chain := f.certificates(CertFile, contents[1])
	key := f.key(contents[2])
	if len(chain) > 0 {
		s.self = f.leaf(chain[0], now)
		if len(authorities) > 0 {
			s.ends = f.chain(s.roots, chain, now)
		}
		if public, ok := chain[0].PublicKey.(interface{ Equal(crypto.PublicKey) bool }); key != nil && (!ok || !public.Equal(key.Public())) {
			f.add(KeyFile, "is not the private key of %s; put the two there that were made together", CertFile)
		}
		s.pair = tls.Certificate{PrivateKey: key, Leaf: chain[0]}
		for _, cert := range chain {
			s.pair.Certificate = append(s.pair.Certificate, cert.Raw)
		}
	}
	if len(f.list) > 0 {
		return nil, errors.Join(f.list...)
	}
	s.serve()
	return s, nil
}

// certificates reads the certificates of a file.
func (f *faults) certificates(file string, content []byte) (certs []*x509.Certificate) {
	before := len(f.list)
	for rest := content; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		switch {
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			f.add(file, "holds a private key; remove it from there, and replace it if others may have read it")
		case block.Type == "CERTIFICATE":
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				f.add(file, "a certificate in it cannot be read: %w; put a sound one there", err)
				continue
			}
			certs = append(certs, cert)
		}
	}
	if len(certs) == 0 && len(f.list) == before {
		f.add(file, "no PEM certificate in it; put one there (%s)", hint)
	}
	return certs
}

// key reads the private key.
func (f *faults) key(content []byte) crypto.Signer {
	for rest := content; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			f.add(KeyFile, "no PEM private key in it; put the one of %s there", CertFile)
			return nil
		}
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		key, err := ParseKey(block)
		if err != nil {
			f.add(KeyFile, "the private key cannot be read: %w; it must be ECDSA, Ed25519 or RSA, and not be encrypted", err)
		}
		return key
	}
}

// ParseKey reads the private key of a PEM block.
func ParseKey(block *pem.Block) (crypto.Signer, error) {
	var key any
	var err error
	switch block.Type {
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		key, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	default:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	}
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a %T does not sign", key)
	}
	return signer, nil
}

// leaf checks what the node's certificate says by itself.
func (f *faults) leaf(leaf *x509.Certificate, now time.Time) Peer {
	if leaf.IsCA {
		f.add(CertFile, "is a certificate of an authority; put the node's own there, first in the file")
	}
	if now.After(leaf.NotAfter) {
		f.add(CertFile, "expired on %s; renew it (for development: oc-server cert dev)", stamp(leaf.NotAfter))
	}
	if now.Before(leaf.NotBefore) {
		f.add(CertFile, "is not valid before %s, and the clock of this machine says %s; set the clock, or wait", stamp(leaf.NotBefore), stamp(now))
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if !slices.Contains(leaf.ExtKeyUsage, usage) {
			f.add(CertFile, "lacks the extended key usage %s; a node is server and client, issue it for both", usages[usage])
		}
	}
	peer, err := Named(leaf)
	if err != nil {
		f.add(CertFile, "%w; issue it anew", err)
	}
	return peer
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// chain checks that an authority signed the node's certificate, at a time when
// that one is valid: its own validity is leaf's to judge. It says when that ends.
func (f *faults) chain(roots *x509.CertPool, chain []*x509.Certificate, now time.Time) (ends time.Time) {
	leaf := chain[0]
	if now.After(leaf.NotAfter) {
		now = leaf.NotAfter
	} else if now.Before(leaf.NotBefore) {
		now = leaf.NotBefore
	}
	verified, err := leaf.Verify(options(roots, chain, x509.ExtKeyUsageAny, now))
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case err == nil:
		f.usages(roots, chain, now)
	case errors.As(err, &unknown):
		f.add(CertFile, "is not signed by an authority in %s; put the authority's certificate there, or issue %s by one that is", CAFile, CertFile)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		file := CAFile
		if slices.ContainsFunc(chain, invalid.Cert.Equal) {
			file = CertFile
		}
		f.add(file, "the authority %q was not valid at %s, only from %s to %s; renew it", invalid.Cert.Subject, stamp(now), stamp(invalid.Cert.NotBefore), stamp(invalid.Cert.NotAfter))
	default:
		f.add(CertFile, "does not verify with %s: %w; issue it anew", CAFile, err)
	}
	return end(verified)
}

// end is when the last of the ways to verify a certificate ends: each when the first of
// its certificates does, the authority's included.
func end(ways [][]*x509.Certificate) (last time.Time) {
	for _, way := range ways {
		first := way[0].NotAfter
		for _, cert := range way[1:] {
			if cert.NotAfter.Before(first) {
				first = cert.NotAfter
			}
		}
		if first.After(last) {
			last = first
		}
	}
	return last
}

// usages checks that the authorities allow what the node's certificate says that
// it is for; what it does not say is leaf's to report.
func (f *faults) usages(roots *x509.CertPool, chain []*x509.Certificate, now time.Time) {
	for usage, name := range usages {
		if !slices.Contains(chain[0].ExtKeyUsage, usage) {
			continue
		}
		if _, err := chain[0].Verify(options(roots, chain, usage, now)); err != nil {
			f.add(CertFile, "the authorities that signed it do not allow %s: %w; issue it by others", name, err)
		}
	}
}
