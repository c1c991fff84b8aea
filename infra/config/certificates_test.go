package config_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

	"originchain/infra/config"
)

func block(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// certificate is one that has signed itself.
func certificate(t *testing.T, key crypto.Signer, authority bool) []byte {
	t.Helper()
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "OriginChain test"}, NotAfter: time.Now().Add(time.Hour), IsCA: authority, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestCertificatesOfAuthorities: what they are kept as, and what is refused, without
// repeating what may be secret.
func TestCertificatesOfAuthorities(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	large, err := rsa.GenerateKey(rand.Reader, 4096)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	ca, leaf, wide := block("CERTIFICATE", certificate(t, key, true)), block("CERTIFICATE", certificate(t, key, false)), block("CERTIFICATE", certificate(t, large, true))
	secret := strings.Split(block("PRIVATE KEY", private), "\n")[1]
	for name, c := range map[string]struct{ given, want, fault string }{
		"one":                    {ca, ca, ""},
		"two, and words between": {"the old one:\n" + ca + "and the new one\n" + ca, ca + ca, ""},
		"none":                   {"", "", ""},
		"a key":                  {ca + block("PRIVATE KEY", private), "", "tenants[0].ca: block 2 is a PRIVATE KEY; only certificates belong here"},
		"a key first":            {block("EC PRIVATE KEY", private) + ca, "", "tenants[0].ca: block 1 is a EC PRIVATE KEY; "},
		"of a node":              {leaf, "", "tenants[0].ca: certificate 1 is not an authority's"},
		"broken":                 {block("CERTIFICATE", []byte("x")), "", "tenants[0].ca: certificate 1 cannot be read"},
		"cut off":                {ca[:len(ca)-30], "", "tenants[0].ca: there is no certificate in PEM in it"},
		"too large":              {wide + wide, "", "tenants[0].ca: "},
	} {
		text2, err := json.Marshal(c.given)
		if err != nil {
			t.Fatal(err)
		}
		in := text("", tenantText("acme", `, "ca": `+string(text2)))
		if c.fault == "" {
			got, err := config.Parse("cdk.json", []byte(in))
			if err != nil || got.Tenants[0].CA != c.want {
				t.Errorf("%s: %v\n%+v", name, err, got)
			}
			continue
		}
		if got := faultsOf(t, in); len(got) != 1 || !strings.HasPrefix(got[0], c.fault) || strings.Contains(got[0], secret) {
			t.Errorf("%s: %q", name, got)
		}
	}
}
