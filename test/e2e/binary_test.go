package e2e

import (
	"errors"
	"os/exec"
	"path/filepath"
	"testing"
)

// runBinary runs the server's command line to its end.
func runBinary(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	text, err := exec.Command(server, args...).CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if exit != nil {
		code = exit.ExitCode()
	}
	return string(text), code
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	cases := []struct {
		name  string
		args  []string
		code  int
		words []string
	}{
		{"help", []string{"--help"}, 0, []string{"--data-dir", "--listen", "--tls-cert", "OC_DATA_DIR", "Exit codes"}},
		{"version", []string{"--version"}, 0, []string{"oc-server"}},
		{"completion", []string{"completion", "bash"}, 0, []string{"oc-server", "complete"}},
		{"configuration", []string{"--print-config", "--data-dir", dir}, 0, []string{dir, `"listen"`}},
		{"unknown flag", []string{"--data-dirr", dir}, exitUsage, []string{"--data-dirr"}},
		{"no directory", nil, exitUsage, []string{"--data-dir"}},
		{
			"every fault at once", []string{"--data-dir", dir, "--listen", "nowhere", "--segment-bytes", "3", "--tls-cert", "x"}, exitUsage,
			[]string{"--listen", "--segment-bytes", "--tls-key"},
		},
		{"follower is not there yet", []string{"--data-dir", dir, "--mode", "follower"}, exitUsage, []string{"--mode"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, code := runBinary(t, c.args...)
			if code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			says(t, out, c.words...)
		})
	}
}
