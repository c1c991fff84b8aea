package ec2machine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// mock runs the metadata service of github.com/aws/amazon-ec2-metadata-mock.
func mock(t *testing.T, args ...string) (endpoint string) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "ec2-metadata-mock")
	build := exec.Command("go", "build", "-o", program, "github.com/aws/amazon-ec2-metadata-mock/cmd/ec2-metadata-mock")
	build.Dir = filepath.Join("..", "..", "..", "test", "emulators", "imds")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the metadata service: %v\n%s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err = errors.Join(err, l.Close()); err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd := exec.Command(program, append([]string{"--hostname", "127.0.0.1", "--port", port}, args...)...)
	cmd.Env, cmd.Stdout, cmd.Stderr = []string{"HOME=" + t.TempDir()}, &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil {
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			return "http://127.0.0.1:" + port
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("the metadata service does not listen: %v", err)
		}
	}
}

func TestIdentify(t *testing.T) {
	// The mock refuses version 1.
	endpoint := mock(t, "--imdsv2")
	res, err := http.Get(endpoint + "/latest/meta-data/instance-id")
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusUnauthorized {
		t.Fatalf("without a token: %d, %v", res.StatusCode, err)
	}
	m, err := Identify(t.Context(), endpoint)
	if err != nil || !strings.HasPrefix(m.ID, "i-") || net.ParseIP(m.Address) == nil || m.Zone == "" || m.Region == "" {
		t.Fatalf("%+v, %v", m, err)
	}
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint)
	if again, err := Identify(t.Context(), ""); err != nil || again != m {
		t.Errorf("by the environment: %+v, %v", again, err)
	}
}

// TestVersionOneIsNotAsked: where no token is to be had, nothing is asked without.
func TestVersionOneIsNotAsked(t *testing.T) {
	for _, status := range []int{http.StatusNotFound, http.StatusForbidden, http.StatusMethodNotAllowed} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				w.WriteHeader(status)
				return
			}
			t.Errorf("%d for a token, and then %s %s", status, r.Method, r.URL)
		}))
		if m, err := Identify(t.Context(), srv.URL); err == nil {
			t.Errorf("%d for a token: %+v", status, m)
		}
		srv.Close()
	}
}

// TestWhatSaysNothingIsNoMachine.
func TestWhatSaysNothingIsNoMachine(t *testing.T) {
	for _, doc := range []string{"{}", `{"instanceId":"i-1"}`, `{"privateIp":"10.0.0.1"}`, "hello"} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPut {
				w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60")
				_, _ = io.WriteString(w, "token")
				return
			}
			_, _ = fmt.Fprint(w, doc)
		}))
		if m, err := Identify(t.Context(), srv.URL); err == nil {
			t.Errorf("%s: %+v", doc, m)
		}
		srv.Close()
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Identify(ctx, "http://127.0.0.1:1"); err == nil {
		t.Error("nobody there")
	}
}
