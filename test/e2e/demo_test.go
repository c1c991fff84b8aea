package e2e

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
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

// programs is where the programs under test are.
func programs() string { return filepath.Dir(server) }

// The demo must answer its questions and leave nothing behind but its data, and
// its tokens must be where it says and nowhere else.
func TestDemoOnce(t *testing.T) {
	t.Parallel()
	demo, dir := buildDemo(t), filepath.Join(t.TempDir(), "demo")
	out, code := runDemo(t, demo, "--once", "--bin", programs(), "--dir", dir)
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	says(t, out, "3,376 of 3,376 rows durable", "20,000 of 20,000 rows durable", "Dallas-Fort Worth International", "2001/03", "IndexedTableAccess(flights)", "lag 0 frames; in sync: true", "was read from the follower",
		"recoverable until LSN", "tail shipping is active", pitr+" restore --archive", "writer    node-1", "follower  node-2", "stopped; the data stays in "+dir)
	leavesNothing(t, dir)
	path := filepath.Join(dir, "tenant.token")
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the token's file: %v, %v", info, err)
	}
	token, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"env", "endpoints.json", "logs/oc-control.log", "logs/node-1.log", "logs/node-2.log"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || strings.Contains(string(text), strings.TrimSpace(string(token))) {
			t.Errorf("%s shows the token, or cannot be read: %v", name, err)
		}
	}
	if strings.Contains(out, strings.TrimSpace(string(token))) {
		t.Error("the demo prints the token")
	}
}

// While it is up the demo says who becomes the writer. Killed, it leaves its instance up,
// and both oc-control down and the next demo know what to do with that.
func TestDemoIsKilled(t *testing.T) {
	t.Parallel()
	demo := buildDemo(t)
	l := &local{t: t, dir: filepath.Join(t.TempDir(), "demo")}
	args := []string{"--bin", programs(), "--dir", l.dir}

	first := startShown(t, demo, args...)
	first.waitFor(t, demoUp)
	writer := l.standing().Writer
	if err := syscall.Kill(writer.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	first.waitFor(t, "node-2 (pid ")
	first.waitFor(t, "is the writer now, of epoch 2")
	first.killed(t)
	l.must(nil, "down")
	leavesNothing(t, l.dir)

	second := startShown(t, demo, args...)
	second.waitFor(t, demoUp)
	if out, code := runDemo(t, demo, append(args, "--once")...); code != exitFailure || !strings.Contains(out, "a demo runs in "+l.dir+" already") {
		t.Errorf("two demos in one directory: exit code %d\n%s", code, out)
	}
	second.killed(t)
	if s := l.standing(); s.Writer.PID == 0 {
		t.Errorf("the instance of a demo that was killed: %+v", s)
	}
	out, code := runDemo(t, demo, append(args, "--once")...)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	says(t, out, "An instance is up in "+l.dir+", of a demo that was killed", "Going on with the instance", "20,000 rows are there already", "stopped; the data stays in "+l.dir)
	leavesNothing(t, l.dir)
}

// A demo whose instance was taken down by somebody else says so, and ends.
func TestDemoIsTakenDownByAnother(t *testing.T) {
	t.Parallel()
	demo := buildDemo(t)
	l := &local{t: t, dir: filepath.Join(t.TempDir(), "demo")}
	s := startShown(t, demo, "--bin", programs(), "--dir", l.dir)
	s.waitFor(t, demoUp)
	l.must(nil, "down")
	s.waitFor(t, "taken down by somebody else")
	if code := s.ended(t); code != exitFailure {
		t.Errorf("exit code %d", code)
	}
	leavesNothing(t, l.dir)
}

// Each failure must say what to do.
func TestDemoFailuresSayWhatToDo(t *testing.T) {
	t.Parallel()
	demo := buildDemo(t)
	older := t.TempDir()
	overwrite(t, filepath.Join(older, "demo.json"), "{}")
	broken := t.TempDir()
	overwrite(t, filepath.Join(broken, "instance.json"), "{")
	alone := &local{t: t, dir: t.TempDir()}
	alone.must(nil, "up", "--detach", "--followers", "0")
	alone.must(nil, "down")
	cases := []struct {
		name  string
		args  []string
		words []string
	}{
		{"no programs", []string{"--bin", "/nonexistent", "--dir", t.TempDir()}, []string{"make build"}},
		{"an older demo", []string{"--dir", older}, []string{older, "older demo", "remove it"}},
		{"a damaged instance", []string{"--dir", broken}, []string{"instance.json", "damaged"}},
		{"no follower", []string{"--dir", alone.dir}, []string{"no follower", "--dir"}},
		{"nothing up", []string{"load", "--dir", broken}, []string{"no instance is up", "oc-control up --dir"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			args := c.args
			if args[0] != "load" {
				args = append([]string{"--bin", programs(), "--once"}, args...)
			}
			out, code := runDemo(t, demo, args...)
			if code != exitFailure {
				t.Errorf("exit code %d, want %d", code, exitFailure)
			}
			says(t, out, c.words...)
		})
	}
	for _, dir := range []string{older, broken, alone.dir} {
		leavesNothing(t, dir)
	}
}
