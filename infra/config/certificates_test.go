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
	"fmt"
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

// unread is the beginning of the fault of a text with a part of a block.
func unread(number int) string {
	return fmt.Sprintf("tenants[0].ca: what stands before block %d, or after the last, cannot be read", number)
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
		"a name of a file":       {"certs/ca.crt", "", "tenants[0].ca: there is no certificate in PEM in it"},
		"words after":            {ca + "# of all nodes\n", ca, ""},
		"cut off":                {ca[:len(ca)-30], "", unread(1)},
		"the second cut off":     {ca + ca[:len(ca)-30], "", unread(2)},
		"the first cut off":      {ca[:len(ca)-30] + ca, "", unread(1)},
		"the second mistyped":    {ca + strings.Replace(ca, "\nMII", "\nM!I", 1), "", unread(2)},
		"a mistyped beginning":   {ca + strings.Replace(ca, "-----BEGIN", "---BEGIN", 1), "", unread(2)},
		"a mistyped end":         {ca + strings.Replace(ca, "-----END", "---END", 1) + ca, "", unread(2)},
		"without a beginning":    {ca + ca[40:], "", unread(2)},
		"without both ends":      {ca + ca[40:120] + "\n" + ca, "", unread(2)},
		"moved in":               {ca + "  " + ca, "", unread(2)},
		"a key cut off":          {ca + block("PRIVATE KEY", private)[:100], "", unread(2)},
		"a beginning alone":      {ca + "-----BEGIN CERTIFICATE-----\n", "", unread(2)},
		"an end too many":        {ca + "-----END CERTIFICATE-----\n" + ca, "", unread(2)},
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
