package config

import (
	"crypto/x509"
	"encoding/pem"
	"strings"
)

// certificates is a text of certificates of authorities in PEM, without the words that may
// stand between them; "" if there is none, or after a fault. A part of a block is no word but
// a fault: whoever is left out in silence is an authority whose nodes nobody believes. What a
// fault repeats of it is never more than the name of a block: somebody may have put a key there.
func (f *fields) certificates(key string) string {
	given := f.text(key, "")
	var out strings.Builder
	rest := []byte(given)
	for number := 1; ; number++ {
		block, after := pem.Decode(rest)
		if partOfBlock(between(rest, after, block)) {
			f.fault(key, "what stands before block %d, or after the last, cannot be read: a block is cut off, or a character of it is wrong; give the text of the file whole, with its line ends as \\n", number)
			return ""
		}
		if block == nil {
			break
		}
		rest = after
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

// between is what pem.Decode has gone over to come to the block that it gave, which begins
// where a beginning is for the last time; without one it is the whole text.
func between(text, after []byte, block *pem.Block) string {
	if block == nil {
		return string(text)
	}
	gone := string(text[:len(text)-len(after)])
	return gone[:max(0, strings.LastIndex(gone, "-----BEGIN "))]
}

// partOfBlock says whether a line is one of the ends of a block, or of what is between them.
func partOfBlock(text string) bool {
	const shortest = 24 // no word is so long
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.Contains(line, "---") || len(line) >= shortest && strings.Trim(line, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=") == "" {
			return true
		}
	}
	return false
}
