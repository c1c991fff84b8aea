package config

import (
	"crypto/x509"
	"encoding/pem"
	"strings"
)

// certificates is a text of certificates of authorities in PEM, without what may stand
// between them; "" if there is none, or after a fault. What a fault repeats of it is never
// more than the name of a block: somebody may have put a key there.
func (f *fields) certificates(key string) string {
	given := f.text(key, "")
	var out strings.Builder
	rest := []byte(given)
	for number := 1; ; number++ {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			f.fault(key, "block %d is a %s; only certificates belong here, as templates are read by many: if it is a key, make another one", number, block.Type)
			return ""
		}
		c, err := x509.ParseCertificate(block.Bytes)
		switch {
		case err != nil:
			f.fault(key, "certificate %d cannot be read: %v", number, err)
			return ""
		case !c.IsCA:
			f.fault(key, "certificate %d is not an authority's, and can vouch for none; give that of who signs the nodes' certificates", number)
			return ""
		}
		out.Write(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes}))
	}
	switch {
	case given != "" && out.Len() == 0:
		f.fault(key, "there is no certificate in PEM in it; give the text of the file, with its line ends as \\n")
	case out.Len() > MaxCABytes:
		f.fault(key, "%d bytes; at most %d, as functions are told no more: give the one authority that signs the nodes' certificates, best with a key of an elliptic curve", out.Len(), MaxCABytes)
		return ""
	}
	return out.String()
}
