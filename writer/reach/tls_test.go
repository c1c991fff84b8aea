package reach

import (
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestTheServerIsTheOneOfItsCertificate: over TLS a server is asked that shows what its unit
// names, by the name that clients know it by, and no other.
func TestTheServerIsTheOneOfItsCertificate(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") }))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.StartTLS()
	defer srv.Close()
	file := filepath.Join(t.TempDir(), "server.crt")
	write := func(c tls.Certificate) {
		t.Helper()
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg := At{Listen: strings.TrimPrefix(srv.URL, "https://"), TLSCert: file, Advertise: "https://example.com:7400"}
	status := func(cfg At) int {
		t.Helper()
		c, err := (*Server)(nil).Of(cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		standing, _ := c.Standing(t.Context()) // it says it all
		return standing.Health
	}
	write(srv.TLS.Certificates[0])
	if got := status(cfg); got != http.StatusOK {
		t.Errorf("the server itself: %d", got)
	}
	other := cfg
	other.Advertise = "https://other.test:7400"
	if got := status(other); got != 0 {
		t.Errorf("a server of another name: %d", got)
	}
	write(tls.Certificate{Certificate: [][]byte{[]byte("nothing")}})
	if got := status(cfg); got != 0 {
		t.Errorf("a file that is no certificate: %d", got)
	}
	cfg.TLSCA = "ca.crt"
	if _, err := (*Server)(nil).Of(cfg); err == nil || !strings.Contains(err.Error(), "--ops-listen") {
		t.Errorf("a server that wants a certificate: %v", err)
	}
	cfg.OpsListen = "0.0.0.0:7402"
	if c, err := (*Server)(nil).Of(cfg); err != nil || c.base != "http://127.0.0.1:7402" {
		t.Errorf("%+v, %v", c, err)
	}
}
