package mtls

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"originchain/shared/certfile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestNewFilesAreTakenUpByConfigurationsInUse: both sides keep the configuration
// that they were given first.
func TestNewFilesAreTakenUpByConfigurationsInUse(t *testing.T) {
	first, second := newAuthority(t, nil), newAuthority(t, nil)
	pairs := map[string]tls.Certificate{"old": first.issue(t, "n", nil), "new": second.issue(t, "n", nil)}
	leader, leaderDir, leaderLog := identity(t, first, pairs["old"])
	follower, followerDir, _ := identity(t, first, pairs["old"])
	server, client := leader.ServerTLS(), follower.ClientTLS("n")
	check := func(what string, serverShows, clientShows string) {
		t.Helper()
		m := meet(t, server, client)
		if m.serverErr != nil || m.clientErr != nil {
			t.Fatalf("%s: server: %v, client: %v", what, m.serverErr, m.clientErr)
		}
		if !m.client.PeerCertificates[0].Equal(pairs[serverShows].Leaf) || !m.server.PeerCertificates[0].Equal(pairs[clientShows].Leaf) {
			t.Errorf("%s: the server does not show its %s certificate, or the client not its %s one", what, serverShows, clientShows)
		}
	}
	check("at first", "old", "old")
	both := encode(first.cert.Raw, second.cert.Raw)
	for _, side := range []struct {
		dir string
		id  *Identity
	}{{leaderDir, leader}, {followerDir, follower}} {
		write(t, filepath.Join(side.dir, CAFile), both, 0o644)
		if !side.id.watched.Look() {
			t.Fatal("two authorities are not taken up")
		}
	}
	check("both authorities", "old", "old")
	put(t, leaderDir, second, pairs["new"])
	write(t, filepath.Join(leaderDir, CAFile), both, 0o644)
	leader.watched.Look()
	check("the server's is new", "new", "old")
	put(t, followerDir, second, pairs["new"])
	follower.watched.Look()
	check("the client's is new", "new", "new")
	put(t, leaderDir, second, pairs["new"])
	leader.watched.Look()
	check("the old authority is gone", "new", "new")
	if got := strings.Count(leaderLog.String(), "new TLS certificate in use"); got != 3 {
		t.Errorf("%d lines say that files were taken up:\n%s", got, leaderLog)
	}

	put(t, followerDir, first, pairs["old"])
	follower.watched.Look()
	if m := meet(t, server, client); m.serverErr == nil || m.clientErr == nil {
		t.Error("the authority that is gone is still trusted")
	}
}

func TestABrokenSetLeavesTheOldOneInUse(t *testing.T) {
	a := newAuthority(t, nil)
	pair := a.issue(t, "n", nil)
	id, dir, log := identity(t, a, pair)
	expired := a.issue(t, "n", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
	for name, do := range map[string]func(){
		"half written":   func() { write(t, filepath.Join(dir, CertFile), encode(pair.Certificate...)[:100], 0o644) },
		"only the key":   func() { write(t, filepath.Join(dir, KeyFile), encodeKey(t, newKey(t)), 0o600) },
		"expired":        func() { put(t, dir, a, expired) },
		"gone":           func() { _ = os.Remove(filepath.Join(dir, CertFile)) },
		"key for others": func() { _ = os.Chmod(filepath.Join(dir, KeyFile), 0o644) },
	} {
		log.Reset()
		do()
		id.watched.Look()
		id.watched.Look()
		if got := strings.Count(log.String(), "the old one stays in use"); got != 1 || !strings.Contains(log.String(), dir) {
			t.Errorf("%s: logged %q", name, log)
		}
		if m := meet(t, id.ServerTLS(), id.ClientTLS()); m.clientErr != nil || !m.client.PeerCertificates[0].Equal(pair.Leaf) {
			t.Errorf("%s: %v", name, m.clientErr)
		}
		put(t, dir, a, pair)
		id.watched.Look()
	}
	repaired := a.issue(t, "n", nil)
	put(t, dir, a, repaired)
	id.watched.Look()
	if m := meet(t, id.ServerTLS(), id.ClientTLS()); m.clientErr != nil || !m.client.PeerCertificates[0].Equal(repaired.Leaf) {
		t.Errorf("after the repair: %v", m.clientErr)
	}
}

func TestRunTakesUpNewFilesAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, nil)
		id, dir, log := identity(t, a, a.issue(t, "n", nil))
		ctx, cancel := context.WithTimeout(t.Context(), 5*certfile.Poll/2)
		defer cancel()
		renewed := a.issue(t, "m", nil)
		put(t, dir, a, renewed)
		id.Run(ctx, nil)
		if id.Self().Node != "m" || strings.Contains(log.String(), "ends soon") {
			t.Errorf("%s\n%s", id.Self(), log)
		}
	})
}

func TestTheEndOfACertificateIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(t, nil)
		start := time.Now()
		id, _, log := identity(t, a, a.issue(t, "n", func(c *x509.Certificate) { c.NotBefore, c.NotAfter = start, start.Add(1000*time.Hour) }))
		run := func(from, during time.Duration) string {
			log.Reset()
			time.Sleep(time.Until(start.Add(from)))
			ctx, cancel := context.WithTimeout(t.Context(), during)
			defer cancel()
			id.Run(ctx, nil)
			return log.String()
		}
		if got := run(899*time.Hour, time.Minute); got != "" {
			t.Errorf("too early: %s", got)
		}
		got := run(901*time.Hour, expiryCheck+time.Minute)
		if n := strings.Count(got, "ends soon"); n != 2 || !strings.Contains(got, CertFile) {
			t.Errorf("%d lines: %s", n, got)
		}
	})
}
