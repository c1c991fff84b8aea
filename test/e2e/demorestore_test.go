package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"originchain/scripts/child"
)

// exitInterrupted is the code of a `make demo-restore` that Ctrl-C has ended.
const exitInterrupted = 130

// restoreWithin bounds one run of it.
const restoreWithin = 3 * time.Minute

// screen is what a program shows; seen is closed when it has shown a text.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
	mark string
	seen chan struct{}
	once sync.Once
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text.Write(p)
	if s.mark != "" && bytes.Contains(s.text.Bytes(), []byte(s.mark)) {
		s.once.Do(func() { close(s.seen) })
	}
	return len(p), nil
}

// demoRestore runs the demo's restore, with a Ctrl-C as soon as it has shown mark,
// unless that is empty.
func demoRestore(t *testing.T, demo, mark string, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), restoreWithin, fmt.Errorf("not within %s", restoreWithin))
	defer cancel()
	out := &screen{mark: mark, seen: make(chan struct{})}
	cmd := exec.CommandContext(ctx, demo, append([]string{"restore", "--server", server, "--pitr", pitr}, args...)...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	var err error
	select {
	case err = <-ended:
	case <-out.seen:
		if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGINT); err != nil {
			t.Error(err)
		}
		err = <-ended
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("%v, %v:\n%s", err, context.Cause(ctx), out.text.String())
	}
	return out.text.String(), cmd.ProcessState.ExitCode()
}

// leavesNothing checks that no process works in a directory any more.
func leavesNothing(t *testing.T, dir string) {
	t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(list) == 0 {
		t.Fatalf("the processes cannot be listed: %d, %v", len(list), err)
	}
	for _, path := range list {
		line, err := os.ReadFile(path)
		if err == nil && bytes.Contains(line, []byte(dir)) { // an error: it has ended
			t.Errorf("left running: %s: %q", path, line)
		}
	}
}

// The rows must be there again; and a Ctrl-C in each of its parts must leave nothing
// running and no half of a copy, and the next run must be as good as the first.
func TestDemoRestore(t *testing.T) {
	t.Parallel()
	demo, dir := buildDemo(t), filepath.Join(t.TempDir(), "demo")
	address, err := child.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"--dir", dir, "--listen", address}
	restored := filepath.Join(dir, "restored")
	for _, mark := range []string{"Starting a follower", "10,000 of 20,000 rows durable", "It is gone", "to replay", "verify --data-dir", "Opening the copy"} {
		out, code := demoRestore(t, demo, mark, args...)
		if code != exitInterrupted {
			t.Fatalf("interrupted after %q: exit code %d, want %d:\n%s", mark, code, exitInterrupted, out)
		}
		says(t, out, mark, "stopped before it was done")
		leavesNothing(t, dir)
		for _, path := range []string{restored, restored + ".restoring"} {
			if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("interrupted after %q: %s is left: %v", mark, path, err)
			}
		}
	}
	out, code := demoRestore(t, demo, "", args...)
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	says(t, out, "has 20,000 rows", "It is gone, at LSN", "unknown_table", "verified: true", "OK: no fault found",
		"20,000 of 20,000 rows of demo.flights are there again", "Dallas-Fort Worth International", "The copy stays in "+restored, "stopped; the data stays in "+dir)
	leavesNothing(t, dir)
	if _, err := os.Stat(filepath.Join(restored, "restored.json")); err != nil {
		t.Error(err)
	}
}

func TestDemoRestoreFailuresSayWhatToDo(t *testing.T) {
	t.Parallel()
	demo := buildDemo(t)
	n := newNode(t)
	busy := filepath.Join(t.TempDir(), "busy")
	if err := os.MkdirAll(busy, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(n.dir, filepath.Join(busy, "data")); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(busy, "restored")
	if err := os.MkdirAll(kept, 0o700); err != nil {
		t.Fatal(err)
	}
	// A restore that fails; everything else is real.
	failing := filepath.Join(t.TempDir(), "oc-pitr")
	script := "#!/bin/sh\necho the archive is not there >&2\nmkdir -p \"$5.restoring\"\nexit 31\n"
	if err := os.WriteFile(failing, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	failed := filepath.Join(t.TempDir(), "failed")
	cases := []struct {
		name  string
		args  []string
		words []string
	}{
		{"no oc-pitr", []string{"--pitr", "/nonexistent/oc-pitr", "--dir", t.TempDir()}, []string{"make build"}},
		{"a demo runs", []string{"--dir", busy}, []string{"a demo runs in " + busy, "Ctrl-C", "--dir"}},
		{"the restore fails", []string{"--pitr", failing, "--dir", failed}, []string{"oc-pitr restore: exit status 31", "--help", "the archive is not there"}},
		{"unknown option", []string{"--once", "--dir", t.TempDir()}, []string{"unknown flag: --once"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			address, err := child.FreeAddress()
			if err != nil {
				t.Fatal(err)
			}
			out, code := demoRestore(t, demo, "", append(c.args, "--listen", address)...)
			if code != exitFailure {
				t.Errorf("exit code %d, want %d", code, exitFailure)
			}
			says(t, out, c.words...)
		})
	}
	t.Cleanup(func() {
		if _, err := os.Stat(kept); err != nil {
			t.Errorf("the copy of the demo that runs: %v", err)
		}
		for _, name := range []string{"restored", "restored.restoring"} {
			if _, err := os.Stat(filepath.Join(failed, name)); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is left of the restore that failed: %v", name, err)
			}
		}
	})
}
