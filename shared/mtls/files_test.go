package mtls

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestEveryFaultIsNamed breaks a sound directory in one way at a time: the error
// is one line, names the file, and says what is wrong and what to do.
func TestEveryFaultIsNamed(t *testing.T) {
	sound, other := newAuthority(t, nil), newAuthority(t, nil)
	ended := newAuthority(t, func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = c.NotBefore.Add(-time.Hour), time.Now().Add(-time.Minute)
	})
	between := sound.intermediate(t, time.Now().Add(-time.Minute))
	issue := func(change func(*x509.Certificate)) func(*testing.T, string) {
		return func(t *testing.T, dir string) { put(t, dir, sound, sound.issue(t, "n", change)) }
	}
	replace := func(file string, content []byte) func(*testing.T, string) {
		return func(t *testing.T, dir string) { write(t, filepath.Join(dir, file), content, 0o600) }
	}
	remove := func(file string) func(*testing.T, string) {
		return func(_ *testing.T, dir string) { _ = os.Remove(filepath.Join(dir, file)) }
	}
	mode := func(bits os.FileMode) func(*testing.T, string) {
		return func(t *testing.T, dir string) {
			if err := os.Chmod(filepath.Join(dir, KeyFile), bits); err != nil {
				t.Fatal(err)
			}
		}
	}
	uris := func(list ...string) func(*testing.T, string) {
		return issue(func(c *x509.Certificate) {
			c.URIs = nil
			for _, u := range list {
				c.URIs = append(c.URIs, uri(t, u))
			}
		})
	}
	for name, c := range map[string]struct {
		do         func(t *testing.T, dir string)
		file, want string
	}{
		"no ca.crt":                 {remove(CAFile), CAFile, "is missing; put it there"},
		"no node.crt":               {remove(CertFile), CertFile, "is missing; put it there"},
		"no node.key":               {remove(KeyFile), KeyFile, "is missing; put it there"},
		"key for the group":         {mode(0o640), KeyFile, "mode 0640"},
		"key for all":               {mode(0o604), KeyFile, "chmod 600"},
		"key to write":              {mode(0o620), KeyFile, "chmod 600"},
		"ca.crt holds nothing":      {replace(CAFile, nil), CAFile, "no PEM certificate"},
		"node.crt holds nothing":    {replace(CertFile, []byte("x")), CertFile, "no PEM certificate"},
		"node.key holds nothing":    {replace(KeyFile, []byte("x")), KeyFile, "no PEM private key"},
		"node.key is encrypted":     {replace(KeyFile, pem.EncodeToMemory(&pem.Block{Type: "ENCRYPTED PRIVATE KEY", Bytes: []byte{1}})), KeyFile, "not be encrypted"},
		"ca.crt is damaged":         {replace(CAFile, encode([]byte{1})), CAFile, "cannot be read"},
		"node.crt is damaged":       {replace(CertFile, encode([]byte{1})), CertFile, "cannot be read"},
		"ca.crt is large":           {replace(CAFile, make([]byte, maxFileBytes+1)), CAFile, "more than"},
		"ca.crt with a key":         {replace(CAFile, append(encode(sound.cert.Raw), encodeKey(t, sound.key)...)), CAFile, "private key"},
		"ca.crt is no authority":    {replace(CAFile, append(encode(sound.cert.Raw), encode(sound.issue(t, "n", nil).Certificate...)...)), CAFile, "not a certificate of an authority"},
		"another authority":         {replace(CAFile, encode(other.cert.Raw)), CertFile, "is not signed by an authority in ca.crt"},
		"another key":               {replace(KeyFile, encodeKey(t, newKey(t))), KeyFile, "is not the private key of node.crt"},
		"expired":                   {issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), CertFile, "expired on"},
		"from tomorrow":             {issue(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(24 * time.Hour) }), CertFile, "not valid before"},
		"the authority has expired": {func(t *testing.T, dir string) { put(t, dir, ended, ended.issue(t, "n", nil)) }, CAFile, `"CN=test authority" was not valid`},
		"a link has expired": {func(t *testing.T, dir string) {
			put(t, dir, sound, between.below(t, "n"))
		}, CertFile, `"CN=between" was not valid`},
		"a link for clients alone": {func(t *testing.T, dir string) {
			put(t, dir, sound, sound.intermediate(t, time.Now().Add(time.Hour), x509.ExtKeyUsageClientAuth).below(t, "n"))
		}, CertFile, "do not allow serverAuth"},
		"a link is missing": {func(t *testing.T, dir string) { put(t, dir, sound, between.issue(t, "n", nil)) }, CertFile, "not signed by"},
		"an authority's": {func(t *testing.T, dir string) {
			put(t, dir, sound, sound.issue(t, "n", func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }))
		}, CertFile, "of an authority"},
		"no server":             {issue(func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[1:] }), CertFile, "serverAuth"},
		"no client":             {issue(func(c *x509.Certificate) { c.ExtKeyUsage = c.ExtKeyUsage[:1] }), CertFile, "clientAuth"},
		"no name":               {uris(), CertFile, "no subject alternative name"},
		"only a host":           {issue(func(c *x509.Certificate) { c.URIs, c.DNSNames = nil, []string{"h"} }), CertFile, "not that of a node"},
		"another URI":           {uris("https://any/n"), CertFile, "not that of a node"},
		"two nodes":             {uris("originchain://any/a", "originchain://any/b"), CertFile, "names 2 nodes"},
		"no node":               {uris("originchain://any/"), CertFile, "is not originchain://INSTANCE/NODE"},
		"no path":               {uris("originchain://any"), CertFile, "is not originchain://INSTANCE/NODE"},
		"a longer path":         {uris("originchain://any/a/b"), CertFile, "is not originchain://INSTANCE/NODE"},
		"a query":               {uris("originchain://any/a?b"), CertFile, "is not originchain://INSTANCE/NODE"},
		"a user":                {uris("originchain://u@any/a"), CertFile, "is not originchain://INSTANCE/NODE"},
		"no such instance":      {uris("originchain://some/a"), CertFile, "names no instance"},
		"an instance no longer": {uris("originchain://" + instanceA[1:] + "/a"), CertFile, "names no instance"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir, sound, sound.issue(t, "n", nil))
			c.do(t, dir)
			_, err := Load(dir, nil)
			if err == nil {
				t.Fatal("no error")
			}
			text := err.Error()
			if strings.Contains(text, "\n") || !strings.Contains(text, filepath.Join(dir, c.file)) || !strings.Contains(text, c.want) || !strings.Contains(text, ";") && c.file == CertFile && !strings.Contains(text, "issue it anew") {
				t.Errorf("want one line about %s and %q, got:\n%s", c.file, c.want, text)
			}
		})
	}
}

func TestADirectoryThatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "f")
	write(t, file, nil, 0o600)
	for _, path := range []string{filepath.Join(dir, "none"), file} {
		if _, err := Load(path, nil); err == nil || strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "cert dev") {
			t.Errorf("%v", err)
		}
	}
}

func TestAllFaultsAreListedTogether(t *testing.T) {
	sound, other := newAuthority(t, nil), newAuthority(t, nil)
	dir := t.TempDir()
	pair := other.issue(t, "n", func(c *x509.Certificate) {
		c.NotAfter, c.ExtKeyUsage, c.URIs = time.Now().Add(-time.Minute), nil, nil
	})
	pair.PrivateKey = newKey(t)
	put(t, dir, sound, pair)
	_, err := Load(dir, nil)
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"expired", "serverAuth", "clientAuth", "alternative name", "not signed", "private key"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("nothing about %q in:\n%v", want, err)
		}
	}
	for _, file := range []string{CAFile, CertFile} {
		if err := os.Remove(filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err = Load(dir, nil); err == nil || strings.Count(err.Error(), "is missing") != 2 {
		t.Errorf("two files are missing: %v", err)
	}
}

func TestSoundDirectories(t *testing.T) {
	sound, other := newAuthority(t, nil), newAuthority(t, nil)
	between := sound.intermediate(t, time.Now().Add(time.Hour))
	for name, do := range map[string]func(t *testing.T, dir string){
		"as made":         func(*testing.T, string) {},
		"key for reading": func(t *testing.T, dir string) { _ = os.Chmod(filepath.Join(dir, KeyFile), 0o400) },
		"two authorities": func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, CAFile), encode(other.cert.Raw, sound.cert.Raw), 0o644)
		},
		"with a link between": func(t *testing.T, dir string) {
			put(t, dir, sound, between.below(t, "n"))
		},
		"EC key": func(t *testing.T, dir string) {
			pair := sound.issue(t, "n", nil)
			put(t, dir, sound, pair)
			der, err := x509.MarshalECPrivateKey(keyOf(t, pair))
			if err != nil {
				t.Fatal(err)
			}
			parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{1}})
			write(t, filepath.Join(dir, KeyFile), append(parameters, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der})...), 0o600)
		},
		"Ed25519": func(t *testing.T, dir string) {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			pair := sound.issue(t, "n", nil)
			cert := sign(t, pair.Leaf, sound.cert, key.Public(), sound.key)
			put(t, dir, sound, tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key})
		},
		"RSA": func(t *testing.T, dir string) {
			key, err := rsa.GenerateKey(rand.Reader, 2048)
			if err != nil {
				t.Fatal(err)
			}
			pair := sound.issue(t, "n", nil)
			cert := sign(t, pair.Leaf, sound.cert, key.Public(), sound.key)
			put(t, dir, sound, tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key})
			write(t, filepath.Join(dir, KeyFile), pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}), 0o600)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir, sound, sound.issue(t, "n", nil))
			do(t, dir)
			id, err := Load(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := id.Self(); got != (Peer{Node: "n"}) || !id.NotAfter().After(time.Now()) {
				t.Errorf("%+v until %s", got, id.NotAfter())
			}
			// What is accepted here must do in a handshake, too.
			if m := meet(t, id.ServerTLS(), id.ClientTLS("n")); m.serverErr != nil || m.clientErr != nil {
				t.Errorf("server: %v, client: %v", m.serverErr, m.clientErr)
			}
		})
	}
}

func TestPeers(t *testing.T) {
	for _, p := range []Peer{{Node: "writer"}, {Instance: instanceA, Node: "node-1_x.y"}, {Node: "ü %?#"}} {
		got, err := Named(&x509.Certificate{URIs: []*url.URL{uri(t, p.String())}})
		if err != nil || got != p {
			t.Errorf("%s is read as %+v, %v", p, got, err)
		}
	}
	lower, err := Named(&x509.Certificate{URIs: []*url.URL{uri(t, "originchain://"+strings.ToLower(instanceA)+"/n")}})
	if err != nil || lower.Instance != instanceA {
		t.Errorf("%+v %v", lower, err)
	}
	for _, c := range []struct {
		peer           Peer
		instance, node string
		want           bool
	}{
		{Peer{Node: "n"}, instanceA, "n", true},
		{Peer{Node: "n"}, instanceA, "m", false},
		{Peer{Instance: instanceA, Node: "n"}, instanceA, "n", true},
		{Peer{Instance: instanceA, Node: "n"}, strings.ToLower(instanceA), "n", true},
		{Peer{Instance: instanceA, Node: "n"}, "", "n", true},
		{Peer{Instance: instanceA, Node: "n"}, instanceB, "n", false},
		{Peer{Instance: instanceA, Node: "n"}, instanceA, "N", false},
	} {
		if got := c.peer.Is(c.instance, c.node); got != c.want {
			t.Errorf("%s is %q %q: %v", c.peer, c.instance, c.node, got)
		}
	}
}

// TestTheEndIsThatOfAllThatIsNeeded: of the node's certificate, the link to its authority,
// or the authority, whichever is first; and of no authority that is not its own.
func TestTheEndIsThatOfAllThatIsNeeded(t *testing.T) {
	until := func(hours int) time.Time {
		return time.Now().Add(time.Duration(hours) * time.Hour).Truncate(time.Second)
	}
	ending := func(hours int) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotAfter = until(hours) }
	}
	long, short := newAuthority(t, ending(500)), newAuthority(t, ending(50))
	other := newAuthority(t, ending(2))
	for name, c := range map[string]struct {
		pair        tls.Certificate
		authorities []*authority
		hours       int
	}{
		"the node's own":         {long.issue(t, "n", ending(100)), []*authority{long}, 100},
		"its authority":          {short.issue(t, "n", ending(100)), []*authority{short}, 50},
		"the link between":       {long.intermediate(t, until(30)).below(t, "n"), []*authority{long}, 30},
		"beside another's":       {long.issue(t, "n", ending(100)), []*authority{other, long}, 100},
		"the authority, beside":  {short.issue(t, "n", ending(100)), []*authority{long, short, other}, 50},
		"a certificate of hours": {long.issue(t, "n", ending(1)), []*authority{long}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			put(t, dir, c.authorities[0], c.pair)
			var roots [][]byte
			for _, a := range c.authorities {
				roots = append(roots, a.cert.Raw)
			}
			write(t, filepath.Join(dir, CAFile), encode(roots...), 0o600)
			id, err := Load(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			if off := id.NotAfter().Sub(until(c.hours)).Abs(); off > time.Hour/2 {
				t.Errorf("it ends on %s, %s from what it should", id.NotAfter(), off)
			}
		})
	}
}

// A certificate that two authorities have signed is good for as long as the better one of the
// two ways is, and each way as long as all that is on it.
func TestTheEndIsThatOfTheBetterWay(t *testing.T) {
	at := func(day int) *x509.Certificate {
		return &x509.Certificate{NotAfter: time.Date(2026, 1, day, 0, 0, 0, 0, time.UTC)}
	}
	for want, ways := range map[int][][]*x509.Certificate{
		7: {{at(20), at(3)}, {at(20), at(7), at(30)}, {at(5), at(9)}},
		2: {{at(2), at(9)}},
	} {
		if got := end(ways); !got.Equal(at(want).NotAfter) {
			t.Errorf("it ends on %s, want the %d", got, want)
		}
	}
	if got := end(nil); !got.IsZero() {
		t.Errorf("of no way it is %s", got)
	}
}
