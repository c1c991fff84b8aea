package cluster

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/shared/mtls"
	"originchain/shared/replica"
	pb "originchain/shared/replica/replicapb"
	"originchain/test/settle"
)

// Only a node whose certificate is of the instance's authority, and names it, gets
// a word of the log.
func TestStrangersAreRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t)
	a := c.node("a", serverBin)
	a.start(a.serving()...)
	c.found(a)
	other := filepath.Join(c.dir, "other")
	c.certs(other, "b")
	c.certs(c.certDir(), "b", "x")
	log := logrus.New()
	log.SetOutput(io.Discard)
	identity := func(dir string) *mtls.Identity {
		id, err := mtls.Load(dir, log)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	hello := &pb.Hello{Node: "b", Promotable: true}
	for _, caller := range []struct {
		name string
		own  *mtls.Identity
		want string
	}{
		{"the right one", identity(filepath.Join(c.certDir(), "b")), ""},
		{"another authority", identity(filepath.Join(other, "b")), "authority"},
		{"another node's certificate", identity(filepath.Join(c.certDir(), "x")), "certificate"},
		{"no certificate and no TLS", nil, "rpc error"},
	} {
		conn, err := replica.Dial(a.replication(), caller.own, nil)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), settle.Within)
		s, err := conn.Open(ctx, hello)
		switch {
		case caller.want == "" && err != nil:
			t.Errorf("%s is refused: %v", caller.name, err)
		case caller.want == "":
			s.Close()
		case err == nil:
			t.Errorf("%s is welcome: %v", caller.name, s.Welcome)
		case !strings.Contains(err.Error(), caller.want):
			t.Errorf("%s is refused with %q, which should say %q", caller.name, err, caller.want)
		}
		cancel()
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	a.refusesAnonymous()
	// A whole node of another authority stays outside, says why, and keeps nothing.
	b := c.node("b", serverBin)
	if err := os.Rename(filepath.Join(c.certDir(), "b"), filepath.Join(c.certDir(), "b.right")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(other, "b"), filepath.Join(c.certDir(), "b")); err != nil {
		t.Fatal(err)
	}
	if err := b.launch(followerArgs...); err != nil {
		t.Fatal(err)
	}
	b.unready("leader")
	a.mustPut("secret")
	for _, f := range a.mustStand().Followers { // b was there once, with the right certificate
		if f.Connected || f.DurableLSN > 0 {
			t.Errorf("the writer has a follower: %+v", f)
		}
	}
	if segments := b.segments(); len(segments) != 0 {
		t.Errorf("the stranger has a log: %v", segments)
	}
	b.kill()
	if err := os.RemoveAll(filepath.Join(c.certDir(), "b")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(c.certDir(), "b.right"), filepath.Join(c.certDir(), "b")); err != nil {
		t.Fatal(err)
	}
	b.start(followerArgs...)
	b.shows("secret")
	c.settle(nil)
}

// refusesAnonymous speaks TLS to the node's replication without a certificate: no
// byte of an answer may come after the handshake.
func (n *node) refusesAnonymous() {
	n.c.t.Helper()
	dialer := tls.Dialer{NetDialer: &net.Dialer{Timeout: settle.Within}, Config: &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{"h2"},
		InsecureSkipVerify: true, // this stranger does not care whom it talks to
	}}
	conn, err := dialer.DialContext(n.c.t.Context(), "tcp", n.replication())
	if err != nil {
		return // refused already
	}
	if err := conn.SetDeadline(time.Now().Add(settle.Within)); err != nil {
		n.c.t.Fatal(err)
	}
	_, writeErr := io.WriteString(conn, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
	got, readErr := io.ReadAll(conn)
	if len(got) > 0 || (writeErr == nil && readErr == nil) {
		n.c.t.Errorf("a caller without a certificate got %d bytes: %v, %v", len(got), writeErr, readErr)
	}
	if err := conn.Close(); err != nil {
		n.c.t.Log(err)
	}
}
