package nodes

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"originchain/lambdas/awsenv"
	"originchain/shared/failover"
	"originchain/test/awsfake"
)

// another is the certificate of an authority that has signed nothing.
func another(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func inPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// TestNodesAreKnownByTheAuthorityThatIsNamed: and by no other, nor by none.
func TestNodesAreKnownByTheAuthorityThatIsNamed(t *testing.T) {
	node := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }))
	t.Cleanup(node.Close)
	t.Setenv("AWS_REGION", awsfake.Region)
	for name, c := range map[string]struct {
		ca    string
		known bool
	}{
		"its own":          {inPEM(node.Certificate().Raw), true},
		"its own of two":   {inPEM(another(t)) + inPEM(node.Certificate().Raw), true},
		"another":          {inPEM(another(t)), false},
		"the system's own": {"", false},
	} {
		env := map[string]string{awsenv.Instance: "acme", awsenv.Leases: "file://" + t.TempDir() + "/lease", awsenv.Registry: "file://" + t.TempDir(), awsenv.DocumentPrefix: "OriginChain-acme",
			awsenv.AdminTokenSecret: "arn:aws:secretsmanager:eu-central-1:123456789012:secret:originchain/acme/admin-token", awsenv.CA: c.ca}
		e, err := awsenv.Read(func(name string) string { return env[name] }, Needs(), May())
		if err != nil {
			t.Fatal(err)
		}
		i, err := Open(t.Context(), e)
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, node.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := i.deps.HTTP.Do(r)
		if err == nil {
			err = answer.Body.Close()
		}
		var untrusted *failover.UntrustedError
		if known := !errors.As(err, &untrusted); known != c.known || known && err != nil || !known && (untrusted.Known != "") != (c.ca != "") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestFaultsOfTheEnvironment: what is said of a certificate that is none.
func TestFaultsOfTheEnvironment(t *testing.T) {
	_, err := awsenv.Read(func(name string) string { return map[string]string{awsenv.CA: "-----BEGIN CERTIFICATE-----\nx"}[name] }, nil, May())
	if err == nil || !strings.Contains(err.Error(), "OC_CA: it has no certificate in PEM") {
		t.Error(err)
	}
}
