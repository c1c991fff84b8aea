package e2e

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"originchain/scripts/child"
)

// buildDemo builds the demo's program.
func buildDemo(t *testing.T) string {
	t.Helper()
	if errNoServer != nil {
		t.Fatal(errNoServer)
	}
	path := filepath.Join(t.TempDir(), "demo")
	if out, err := exec.Command("go", "build", "-o", path, "originchain/scripts/demo").CombinedOutput(); err != nil {
		t.Fatalf("build the demo: %v\n%s", err, out)
	}
	return path
}

func runDemo(t *testing.T, demo string, args ...string) (out string, code int) {
	t.Helper()
	cmd := exec.Command(demo, args...)
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// The demo must answer its questions and leave nothing behind but its data, and
// its tokens must be where it says and nowhere else.
func TestDemoOnce(t *testing.T) {
	t.Parallel()
	demo, dir := buildDemo(t), filepath.Join(t.TempDir(), "demo")
	address, err := child.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	out, code := runDemo(t, demo, "--once", "--server", server, "--pitr", pitr, "--dir", dir, "--listen", address)
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	says(t, out, "3,376 of 3,376 rows durable", "20,000 of 20,000 rows durable", "Dallas-Fort Worth International", "2001/03", "IndexedTableAccess(flights)", "lag 0 frames; in sync: true", "was read from the follower", "recoverable until LSN", "tail shipping is active", pitr+" restore --archive", "stopped; the data stays in "+dir)
	if conn, err := net.Dial("tcp", address); err == nil {
		t.Errorf("something still listens on %s: %v", address, conn.Close())
	}
	path := filepath.Join(dir, "tenant.token")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the token's file: %v, %v", info, err)
	}
	token, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"env", "demo.json", "server.log", "follower.log"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || strings.Contains(string(text), strings.TrimSpace(string(token))) {
			t.Errorf("%s shows the token, or cannot be read: %v", name, err)
		}
	}
	if strings.Contains(out, strings.TrimSpace(string(token))) {
		t.Error("the demo prints the token")
	}
}

// Each failure must say what to do.
func TestDemoFailuresSayWhatToDo(t *testing.T) {
	t.Parallel()
	demo := buildDemo(t)
	n := newNode(t)
	taken := strings.TrimPrefix(n.URL(), "http://")
	busy := filepath.Join(t.TempDir(), "busy")
	if err := os.MkdirAll(busy, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(n.dir, filepath.Join(busy, "data")); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.MkdirAll(broken, 0o700); err != nil {
		t.Fatal(err)
	}
	overwrite(t, filepath.Join(broken, "demo.json"), "{")
	// An address of its own: where the server ends before it listens, somebody
	// else's demo on the usual one would be taken for it.
	free, err := child.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name  string
		args  []string
		words []string
	}{
		{"no server", []string{"--server", "/nonexistent/oc-server", "--dir", t.TempDir()}, []string{"make build"}},
		{"port taken", []string{"--server", server, "--dir", t.TempDir(), "--listen", taken}, []string{taken, "--listen"}},
		{"another demo runs", []string{"--server", server, "--dir", busy, "--listen", free}, []string{"exit code 4", "in use"}},
		{"damaged record", []string{"--server", server, "--dir", broken}, []string{"demo.json", "remove it"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, code := runDemo(t, demo, append([]string{"--once", "--pitr", pitr}, c.args...)...)
			if code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			says(t, out, c.words...)
		})
	}
}
