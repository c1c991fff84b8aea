package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"testing"

	"originchain/scripts/call"
	"originchain/shared/api"
)

// The exit codes of oc-pitr where there is no room.
const (
	exitNoSpace = 51
	exitScratch = 52
)

// spaceRows of spaceRow bytes that do not compress are in the archive.
const (
	spaceRows = 24
	spaceRow  = 256 << 10
)

// TestRestoreWithoutSpace: a disk that is too small ends a restore and either kind of
// verification with a code of its own; no server would open what there is, and with
// room the same command goes on.
func TestRestoreWithoutSpace(t *testing.T) {
	archive := "file://" + filepath.Join(t.TempDir(), "archive")
	n := newNode(t, "--archive", archive, "--tail-ship")
	n.notes(t)
	for i := range spaceRows {
		r, err := n.client.Do(t.Context(), call.Request{Method: http.MethodPost, Path: n.notesPath(), ContentType: api.ContentTypeJSON,
			Body: fmt.Appendf(nil, `{"id":%d,"text":%q}`, i, noise(i, spaceRow))})
		if err != nil || r.Status != http.StatusOK {
			t.Fatalf("row %d: %+v, %v", i, r, err)
		}
	}
	last := archivedTo(t, n)
	until(t, "the rows in the archive", func() bool { at := archivedTo(t, n); same := at == last && at > spaceRows; last = at; return same })
	stopInOrder(t, n.Server)

	small := newTmpfs(t, "3m")
	run := func(args ...string) (code int, said string) {
		var errs bytes.Buffer
		argv := append(append(small.wrap(), pitr), append(args, "--archive", archive)...)
		cmd := exec.CommandContext(t.Context(), argv[0], argv[1:]...)
		cmd.Stderr = &errs
		var exit *exec.ExitError
		if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), errs.String()
	}
	expect := func(code int, word string, args ...string) {
		t.Helper()
		if got, said := run(args...); got != code {
			t.Errorf("%v: exit code %d, want %d:\n%s", args, got, code, said)
		} else if word != "" {
			says(t, said, word)
		}
	}
	expect(exitNoSpace, "no space left", "restore", "--latest", "--data-dir", small.data())
	refusedThere(t, small, archive)
	expect(exitNoSpace, "no space left", "verify", "--data-dir", filepath.Join(small.dir, "scratch"))
	small.remount(t, "size=128m")
	expect(exitScratch, "--scratch-bytes", "verify", "--mode", "streaming", "--scratch-bytes", "1000000", "--data-dir", filepath.Join(small.dir, "scratch"))
	expect(0, "", "restore", "--latest", "--data-dir", small.data())
	expect(0, "", "verify", "--mode", "streaming", "--data-dir", filepath.Join(small.dir, "scratch"))
}

// refusedThere: neither the data directory nor what was begun beside it is one.
func refusedThere(t *testing.T, f *tmpfs, archive string) {
	t.Helper()
	for _, dir := range []string{f.data(), f.data() + ".restoring", filepath.Join(f.data()+".restoring", "data")} {
		cmd := exec.CommandContext(t.Context(), f.wrap()[0], append(f.wrap()[1:], server, "verify", "--data-dir", dir)...)
		if out, err := cmd.CombinedOutput(); err == nil {
			t.Errorf("%s is taken for a database, of %s:\n%s", dir, archive, out)
		}
	}
}
