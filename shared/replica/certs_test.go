package replica

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/shared/lsn"
	"originchain/shared/mtls"
	pb "originchain/shared/replica/replicapb"
	"originchain/shared/simdisk"
	"originchain/test/output"
)

// authority signs certificates of nodes.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: t.Name()}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert, a.key = a.sign(template)
	return a
}

// sign makes a key and its certificate; the first one is the authority's own.
func (a *authority) sign(template *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	parent, by := a.cert, a.key
	if parent == nil {
		parent, by = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, by)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func block(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func (a *authority) pem() []byte { return block("CERTIFICATE", a.cert.Raw) }

// certified is a node's directory of certificates, and what is made of it.
type certified struct {
	t   *testing.T
	dir string
	*mtls.Identity
	log    *output.Output
	hangup chan struct{}
}

// put writes the files; cas are the authorities that are trusted.
func (a *authority) put(dir string, who mtls.Peer, cas ...*authority) {
	a.t.Helper()
	cert, key := a.sign(&x509.Certificate{SerialNumber: big.NewInt(2), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, URIs: []*url.URL{who.URI()}})
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for _, f := range []struct {
		name    string
		content []byte
	}{{mtls.KeyFile, block("PRIVATE KEY", der)}, {mtls.CertFile, block("CERTIFICATE", cert.Raw)}, {mtls.CAFile, trust(cas...)}} {
		if err := os.WriteFile(filepath.Join(dir, f.name), f.content, 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
}

func trust(cas ...*authority) (out []byte) {
	for _, ca := range cas {
		out = append(out, ca.pem()...)
	}
	return out
}

// node is an identity that looks for new files when it is told to.
func (a *authority) node(who mtls.Peer) *certified {
	a.t.Helper()
	n := &certified{t: a.t, dir: a.t.TempDir(), log: &output.Output{}, hangup: make(chan struct{})}
	a.put(n.dir, who, a)
	log := logrus.New()
	log.SetOutput(n.log)
	var err error
	if n.Identity, err = mtls.Load(n.dir, log); err != nil {
		a.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); n.Run(ctx, n.hangup) }()
	a.t.Cleanup(func() { cancel(); <-done })
	return n
}

const takenUp = "new TLS certificate in use"

// change replaces files and waits until they are taken up.
func (n *certified) change(what string, do func()) {
	n.t.Helper()
	before := strings.Count(n.log.String(), takenUp)
	do()
	n.hangup <- struct{}{}
	eventually(n.t, what, func() bool { return strings.Count(n.log.String(), takenUp) > before })
}

// hello opens one more stream and closes it.
func (p *pair) hello(own *mtls.Identity, h *pb.Hello) error {
	s, err := p.dial(own).Open(p.t.Context(), h)
	if err == nil {
		s.Close()
	}
	return err
}

// TestCertificatesAreReplacedUnderAStream: an authority is replaced by another,
// step by step on both sides. The stream that runs goes on, and at each step new
// ones are welcome; in the end who has only the old one is not.
func TestCertificatesAreReplacedUnderAStream(t *testing.T) {
	older, newer := newAuthority(t), newAuthority(t)
	l, f := older.node(mtls.Peer{Node: "leader"}), older.node(mtls.Peer{Node: "f"})
	late := older.node(mtls.Peer{Node: "late"})
	p := newPair(t, l.Identity)
	id := p.follower.Identity().InstanceID
	s, err := p.dial(f.Identity).Open(t.Context(), &pb.Hello{Instance: id[:], Node: "f", Promotable: true})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(p.follower) }()
	check := func(step string) {
		t.Helper()
		at := p.write()
		eventually(t, step+": the stream brings what is written", func() bool { return p.follower.Durable() == at })
		if err := p.hello(f.Identity, &pb.Hello{Instance: id[:], Node: "other", Promotable: true}); err == nil || !strings.Contains(err.Error(), `certificate is of node "f"`) {
			t.Errorf("%s: under another node's name: %v", step, err)
		}
	}
	welcome := func(step string) {
		t.Helper()
		check(step)
		if err := p.hello(late.Identity, &pb.Hello{Instance: id[:], Node: "late"}); err != nil {
			t.Errorf("%s: a new stream: %v", step, err)
		}
	}
	welcome("at first")
	for _, n := range []*certified{l, f, late} {
		n.change("two authorities", func() {
			if err := os.WriteFile(filepath.Join(n.dir, mtls.CAFile), trust(older, newer), 0o600); err != nil {
				t.Fatal(err)
			}
		})
	}
	welcome("both authorities")
	l.change("the leader's certificate", func() { newer.put(l.dir, mtls.Peer{Node: "leader"}, older, newer) })
	welcome("the leader's is new")
	f.change("the follower's certificate", func() { newer.put(f.dir, mtls.Peer{Node: "f"}, newer) })
	welcome("the follower's is new")
	l.change("one authority", func() { newer.put(l.dir, mtls.Peer{Node: "leader"}, newer) })
	check("the older authority is gone")
	if err := p.hello(late.Identity, &pb.Hello{Instance: id[:], Node: "late"}); err == nil {
		t.Error("a certificate of the authority that is gone is welcome")
	}
	s.Close()
	<-ended
}

// A certificate speaks for one node of one instance, whichever side shows it.
func TestACertificateOfAnotherIsRefusedAndSaysSo(t *testing.T) {
	const elsewhere = "01JADE0000000000000000000B"
	a := newAuthority(t)
	for _, c := range []struct {
		name     string
		leader   mtls.Peer
		follower mtls.Peer
		want     string // "" is welcome
	}{
		{"of any instance", mtls.Peer{Node: "leader"}, mtls.Peer{Node: "f"}, ""},
		{"of this instance", mtls.Peer{Instance: testInstance, Node: "leader"}, mtls.Peer{Instance: testInstance, Node: "f"}, ""},
		{"a follower of another instance", mtls.Peer{Node: "leader"}, mtls.Peer{Instance: elsewhere, Node: "f"}, elsewhere},
		{"a leader of another instance", mtls.Peer{Instance: elsewhere, Node: "leader"}, mtls.Peer{Node: "f"}, elsewhere},
		{"two instances", mtls.Peer{Instance: testInstance, Node: "leader"}, mtls.Peer{Instance: elsewhere, Node: "f"}, elsewhere},
		{"another follower", mtls.Peer{Node: "leader"}, mtls.Peer{Node: "g"}, `certificate is of node "g"`},
		{"another leader", mtls.Peer{Node: "other"}, mtls.Peer{Node: "f"}, `certificate is of node "other"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPair(t, a.node(c.leader).Identity)
			own := a.node(c.follower).Identity
			id := p.follower.Identity().InstanceID
			for _, instance := range [][]byte{id[:], nil} { // a new node does not know its instance
				err := p.hello(own, &pb.Hello{Instance: instance, Node: "f", Promotable: true})
				if (c.want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), c.want)) {
					t.Errorf("stream, instance %x: %v, want %q in it", instance, err, c.want)
				}
			}
			if f := p.server.deps.Hub.Followers(); c.want != "" && strings.HasPrefix(c.name, "a follower") && len(f) > 0 {
				t.Errorf("whoever was refused is known: %+v", f)
			}
			p.server.deps.Checkpoint = func(context.Context) (*Checkpoint, error) {
				disk := simdisk.New()
				return &Checkpoint{FS: disk, Dir: "/", LSN: lsn.LSN(1), Remove: func() error { return nil }}, nil
			}
			_, err := (&Fetch{Conn: p.dial(own), FS: simdisk.New(), Dir: "/next", Instance: id[:], Node: "f"}).Run(t.Context())
			want := c.want
			if c.name == "another leader" {
				want = "" // a checkpoint is not signed by its sender's name: it was asked of whoever the record names
			}
			if (want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), want)) {
				t.Errorf("checkpoint: %v, want %q in it", err, want)
			}
		})
	}
}
