package devca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"originchain/shared/mtls"
)

// authority signs. key is nil when its file is not there: what needs no
// signature can still be looked after.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

// authority loads or makes the authority. The key is written first: a
// certificate that is missing is made of it again.
func (w *work) authority() (*authority, error) {
	certPath, keyPath := filepath.Join(w.Dir, mtls.CAFile), filepath.Join(w.Dir, CAKeyFile)
	cert, err := readCertificate(certPath)
	if err != nil {
		return nil, err
	}
	key, err := readKey(keyPath)
	if err != nil {
		return nil, err
	}
	switch {
	case cert != nil && !cert.IsCA:
		return nil, foreign(certPath, "it is not a certificate of an authority")
	case cert != nil && key != nil && !belongs(cert, key):
		return nil, foreign(keyPath, "it is not the private key of %s", certPath)
	case cert == nil && key == nil:
		if key, err = w.newKey(keyPath, "the authority's private key: whoever has it can make nodes"); err != nil {
			return nil, err
		}
	case key == nil && near(cert, w.Now):
		return nil, fmt.Errorf("%s ends on %s and %s is missing, so it cannot be renewed; put the key back, or move %s away for a new authority", certPath, date(cert.NotAfter), keyPath, w.Dir)
	case key == nil:
		w.did(keyPath, "kept", "missing; nothing can be signed without it")
	default:
		if err := w.keepKey(keyPath, "the authority's private key: whoever has it can make nodes"); err != nil {
			return nil, err
		}
	}
	if cert != nil && !near(cert, w.Now) {
		w.did(certPath, "kept", "the authority, until %s", date(cert.NotAfter))
		return &authority{cert: cert, key: key, pem: encode(cert.Raw)}, nil
	}
	return w.sign(certPath, cert, key)
}

// sign makes the authority's certificate, of the name of the one it renews.
func (w *work) sign(path string, old *x509.Certificate, key crypto.Signer) (*authority, error) {
	did, why := "made", ""
	template := w.template(caDays)
	if old != nil {
		did, why = "renewed", fmt.Sprintf(", it was to end on %s", date(old.NotAfter))
	}
	// The name goes by the key: certificates name their authority, and those
	// under the one before must verify with this one.
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	template.Subject = pkix.Name{CommonName: fmt.Sprintf("OriginChain development authority %x", sha256.Sum256(public))[:42]}
	template.IsCA, template.BasicConstraintsValid, template.MaxPathLenZero = true, true, true
	template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	cert, err := create(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	if err := put(path, encode(cert.Raw), certMode); err != nil {
		return nil, err
	}
	w.did(path, did, "the authority, until %s%s", date(cert.NotAfter), why)
	return &authority{cert: cert, key: key, pem: encode(cert.Raw)}, nil
}

// copyAuthority puts the authority beside a node's certificate.
func (w *work) copyAuthority(ca *authority, path string) error {
	have, err := os.ReadFile(path)
	did := "made"
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case bytes.Contains(have, bytes.TrimSpace(ca.pem)):
		w.did(path, "kept", "the authority")
		return nil
	default:
		old, err := readCertificate(path)
		if err != nil {
			return err
		}
		if !bytes.Equal(old.RawSubjectPublicKeyInfo, ca.cert.RawSubjectPublicKeyInfo) {
			return foreign(filepath.Dir(path), "its %s is another authority's", mtls.CAFile)
		}
		did = "replaced"
	}
	if err := put(path, ca.pem, certMode); err != nil {
		return err
	}
	w.did(path, did, "the authority")
	return nil
}

// identity looks after a node's certificate and key.
func (w *work) identity(ca *authority, dir string, self mtls.Peer) error {
	certPath, keyPath := filepath.Join(dir, mtls.CertFile), filepath.Join(dir, mtls.KeyFile)
	cert, err := readCertificate(certPath)
	if err != nil {
		return err
	}
	key, err := readKey(keyPath)
	if err != nil {
		return err
	}
	if cert != nil {
		if peer, err := mtls.Named(cert); err != nil || peer != self {
			return foreign(certPath, "it does not name the node %s", self)
		}
		if cert.CheckSignatureFrom(ca.cert) != nil || !bytes.Equal(cert.RawIssuer, ca.cert.RawSubject) {
			return foreign(certPath, "the authority here did not sign it")
		}
		if key != nil && !belongs(cert, key) {
			return foreign(keyPath, "it is not the private key of %s", certPath)
		}
	}
	keyNote := "private key of " + self.String()
	why := w.reason(cert, key)
	if why == "" {
		if err := w.keepKey(keyPath, keyNote); err != nil {
			return err
		}
		w.did(certPath, "kept", "%s, for %s, until %s", self, strings.Join(hosts(cert), ", "), date(cert.NotAfter))
		return nil
	}
	if ca.key == nil {
		return fmt.Errorf("%s: %s, and %s is missing, so nothing can be signed; put it back", certPath, why, filepath.Join(w.Dir, CAKeyFile))
	}
	switch {
	case key != nil:
		err = w.keepKey(keyPath, keyNote)
	case cert != nil: // worth nothing without its key, and beside another it would be a fault
		if err = errors.Join(os.Remove(certPath), syncDir(dir)); err == nil {
			key, err = w.newKey(keyPath, keyNote)
		}
	default:
		key, err = w.newKey(keyPath, keyNote)
	}
	if err != nil {
		return err
	}
	return w.issue(ca, certPath, cert, key.Public(), self, why)
}

// reason is why a certificate has to be made; "" if the one there will do.
func (w *work) reason(cert *x509.Certificate, key crypto.Signer) string {
	switch {
	case cert == nil:
		return "there was none"
	case key == nil:
		return "its private key was missing"
	case near(cert, w.Now):
		return "it was to end on " + date(cert.NotAfter)
	}
	have := hosts(cert)
	for _, host := range w.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			host = ip.String()
		}
		if !slices.Contains(have, host) {
			return "it was not for " + host
		}
	}
	return ""
}

// issue makes a node's certificate. It keeps the hosts of the one before, so
// that asking for one more takes none away.
func (w *work) issue(ca *authority, path string, old *x509.Certificate, public crypto.PublicKey, self mtls.Peer, why string) error {
	template := w.template(w.Days)
	if template.NotAfter.After(ca.cert.NotAfter) {
		template.NotAfter = ca.cert.NotAfter
	}
	template.Subject = pkix.Name{CommonName: self.Node}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	template.URIs = []*url.URL{self.URI()}
	did, names := "made", w.Hosts
	if old != nil {
		did, names = "renewed", slices.Concat(hosts(old), w.Hosts)
	} else if names == nil {
		names = DefaultHosts()
	}
	for i, host := range names {
		switch ip := net.ParseIP(host); {
		case slices.Contains(names[:i], host):
		case ip != nil:
			template.IPAddresses = append(template.IPAddresses, ip)
		default:
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	cert, err := create(template, ca.cert, public, ca.key)
	if err != nil {
		return err
	}
	if err := put(path, encode(cert.Raw), certMode); err != nil {
		return err
	}
	w.did(path, did, "%s, for %s, until %s: %s", self, strings.Join(hosts(cert), ", "), date(cert.NotAfter), why)
	return nil
}

// template is what all certificates share.
func (w *work) template(days int) *x509.Certificate {
	return &x509.Certificate{SerialNumber: serial(), NotBefore: w.Now.Add(-backdated), NotAfter: w.Now.Add(time.Duration(days) * day)}
}

// serial is a new serial number: 127 random bits, positive.
func serial() *big.Int {
	raw := make([]byte, 16)
	_, _ = rand.Read(raw) // it never fails
	raw[0] = raw[0]&0x7f | 0x40
	return new(big.Int).SetBytes(raw)
}

func create(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func (w *work) newKey(path, note string) (crypto.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	if err := put(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), keyMode); err != nil {
		return nil, err
	}
	w.did(path, "made", "%s", note)
	return key, nil
}

// keepKey leaves a key as it is, but for a mode that lets others read it.
func (w *work) keepKey(path, note string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	mode := info.Mode().Perm()
	if mode&^keyMode == 0 {
		w.did(path, "kept", "%s", note)
		return nil
	}
	if err := os.Chmod(path, keyMode); err != nil {
		return err
	}
	w.did(path, "closed", "%s; its mode was %04o, which let others read it: remove it if somebody did, and run this again", note, mode)
	return nil
}

// readCertificate reads a file with one certificate; nil: it is not there.
func readCertificate(path string) (*x509.Certificate, error) {
	block, err := readBlock(path)
	if block == nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || block.Type != "CERTIFICATE" {
		return nil, foreign(path, "there is no certificate in it")
	}
	return cert, nil
}

// readKey reads a file with one private key; nil: it is not there.
func readKey(path string) (crypto.Signer, error) {
	block, err := readBlock(path)
	if block == nil {
		return nil, err
	}
	key, err := mtls.ParseKey(block)
	if err != nil {
		return nil, foreign(path, "there is no private key in it")
	}
	return key, nil
}

func readBlock(path string) (*pem.Block, error) {
	content, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, foreign(path, "there is no PEM block in it")
	}
	return block, nil
}

func encode(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func belongs(cert *x509.Certificate, key crypto.Signer) bool {
	public, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(key.Public())
}

// near reports whether the end of a certificate is near.
func near(cert *x509.Certificate, now time.Time) bool {
	return cert.NotAfter.Sub(now) < cert.NotAfter.Sub(cert.NotBefore)/nearEnd
}

// hosts are the hosts that a certificate names.
func hosts(cert *x509.Certificate) (names []string) {
	names = slices.Clone(cert.DNSNames)
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

func date(t time.Time) string { return t.UTC().Format(time.DateOnly) }
