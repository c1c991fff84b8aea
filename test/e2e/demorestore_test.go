package e2e

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// exitInterrupted is the code of a `make demo-restore` that Ctrl-C has ended.
const exitInterrupted = 130

// demoRestore runs the demo's restore, with a Ctrl-C as soon as it has shown mark,
// unless that is empty.
func demoRestore(t *testing.T, demo, mark string, args ...string) (string, int) {
	t.Helper()
	s := startShown(t, demo, append([]string{"restore"}, args...)...)
	if mark != "" {
		s.waitFor(t, mark)
		s.signal(t, syscall.SIGINT)
	}
	code := s.ended(t)
	return s.text(), code
}

// leavesNothing checks that no process works in a directory any more. A control plane
// lets go of its lock, which is what oc-control down waits for, some instants before its
// process has ended.
func leavesNothing(t *testing.T, dir string) {
	t.Helper()
	timer := time.NewTimer(stopWithin)
	defer timer.Stop()
	for left := working(t, dir); len(left) > 0; left = working(t, dir) {
		if slices.ContainsFunc(left, func(line string) bool { return !strings.Contains(line, "oc-control\x00up\x00") }) {
			t.Errorf("left running: %q", left)
			return
		}
		select {
		case <-timer.C:
			t.Errorf("left running: %q", left)
			return
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// working are the command lines of the processes that name a directory.
func working(t *testing.T, dir string) (left []string) {
	t.Helper()
	list, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(list) == 0 {
		t.Fatalf("the processes cannot be listed: %d, %v", len(list), err)
	}
	for _, path := range list {
		line, err := os.ReadFile(path)
		if err == nil && bytes.Contains(line, []byte(dir)) { // an error: it has ended
			left = append(left, path+": "+string(line))
		}
	}
	return left
}

// The rows must be there again; and a Ctrl-C in each of its parts must leave nothing
// running and no half of a copy, and the next run must be as good as the first.
func TestDemoRestore(t *testing.T) {
	t.Parallel()
	demo, dir := buildDemo(t), filepath.Join(t.TempDir(), "demo")
	args := []string{"--bin", programs(), "--dir", dir}
	restored := filepath.Join(dir, "restored")
	for _, mark := range []string{"Starting a writer", "10,000 of 20,000 rows durable", "It is gone", "to replay", "verify --data-dir", "Opening the copy"} {
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
	busy := t.TempDir()
	kept := filepath.Join(busy, "restored")
	if err := os.MkdirAll(kept, 0o700); err != nil {
		t.Fatal(err)
	}
	held(t, filepath.Join(busy, "demo.lock"))
	// A restore that fails; everything else is real.
	failing := t.TempDir()
	for _, program := range []string{server, control} {
		if err := os.Symlink(program, filepath.Join(failing, filepath.Base(program))); err != nil {
			t.Fatal(err)
		}
	}
	script := "#!/bin/sh\necho the archive is not there >&2\nmkdir -p \"$5.restoring\"\nexit 31\n"
	if err := os.WriteFile(filepath.Join(failing, "oc-pitr"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	failed := filepath.Join(t.TempDir(), "failed")
	cases := []struct {
		name  string
		args  []string
		words []string
	}{
		{"no programs", []string{"--bin", "/nonexistent", "--dir", t.TempDir()}, []string{"make build"}},
		{"a demo runs", []string{"--bin", programs(), "--dir", busy}, []string{"a demo runs in " + busy, "Ctrl-C", "--dir"}},
		{"the restore fails", []string{"--bin", failing, "--dir", failed}, []string{"oc-pitr restore: exit status 31", "--help", "the archive is not there"}},
		{"unknown option", []string{"--once", "--dir", t.TempDir()}, []string{"unknown flag: --once"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			out, code := demoRestore(t, demo, "", c.args...)
			if code != exitFailure {
				t.Errorf("exit code %d, want %d", code, exitFailure)
			}
			says(t, out, c.words...)
		})
	}
	if _, err := os.Stat(kept); err != nil {
		t.Errorf("the copy of the demo that runs: %v", err)
	}
	for _, name := range []string{"restored", "restored.restoring"} {
		if _, err := os.Stat(filepath.Join(failed, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left of the restore that failed: %v", name, err)
		}
	}
	leavesNothing(t, failed)
}

// held holds a lock until the test ends.
func held(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err == nil {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
}
