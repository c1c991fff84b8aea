package e2e

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// story is the script, with the programs under test.
func story(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	if errNoServer != nil {
		t.Fatal(errNoServer)
	}
	ctx, cancel := context.WithTimeout(t.Context(), shownWithin)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, filepath.Join(repositoryRoot(t), "scripts", "story"), append([]string{"--bin", programs()}, args...)...)
	cmd.Env = plainEnvironment()
	return cmd
}

// variable is what differs from run to run of the story, and what the runbook has for it.
type variable struct{ pattern, name string }

func variables(dir string) []variable {
	return []variable{
		{regexp.QuoteMeta(dir), "<dir>"},
		// An alarm may ring while one node is alone, and is an incident; it is told for a
		// minute.
		{`(?m)^(ALARM|INCIDENT) .*\n.*\n`, ""},
		{`\d{4}-\d\d-\d\dT[\d:.]+Z`, "<time>"},
		{`http://127\.[\d.]+:\d+`, "<address>"},
		{`pid \d+`, "pid <pid>"},
		{`kill -9 \d+`, "kill -9 <pid>"},
		{`[0-9A-HJKMNP-TV-Z]{26}|node-[0-9A-Z]{10}`, "<id>"},
		{`[0-9a-f]{32}`, "<digest>"},
		{`LSN \d+( to \d+)?`, "LSN <lsn>"},
		{`after [\d.]+m?s(, about \d+s left)?`, "after <seconds>"},
		{`[\d.]+ s\b`, "<seconds>"},
		{`[\d,]+ bytes fetched`, "<bytes> fetched"},
	}
}

// words are the words of each line, with what differs from run to run named.
func words(text, dir string) string {
	for _, v := range variables(dir) {
		text = regexp.MustCompile(v.pattern).ReplaceAllString(text, v.name)
	}
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString(strings.Join(strings.Fields(line), " ") + "\n")
	}
	return strings.TrimSpace(b.String())
}

// told is the story as the runbook tells it.
func told(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(repositoryRoot(t), "docs", "RUNBOOK.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## The whole story\n")
	section, _, _ = strings.Cut(section, "\n## ")
	blocks := fence.FindAllStringSubmatch(section, -1)
	if !found || len(blocks) != 1 {
		t.Fatalf("docs/RUNBOOK.md has a section \"The whole story\": %t, with %d blocks, not one", found, len(blocks))
	}
	return blocks[0][2]
}

// What the runbook tells is what happens, word by word.
func TestTheWholeStory(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "story")
	cmd := story(t, "--dir", dir)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), said.String())
	}
	if diff := cmp.Diff(words(told(t), "<dir>"), words(out.String(), dir)); diff != "" {
		t.Errorf("the story (-docs/RUNBOOK.md +scripts/story):\n%s\nit printed:\n%s", diff, out.String())
	}
	leavesNothing(t, dir)
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("its directory is left: %v", err)
	}
}

// A Ctrl-C in the middle leaves nothing up, and says where its files are.
func TestTheStoryIsInterrupted(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "story")
	for _, mark := range []string{"$ kill -9", "== The copy, as"} {
		s := show(t, story(t, "--dir", dir))
		s.waitFor(t, mark)
		s.signal(t, syscall.SIGINT)
		if code := s.ended(t); code != exitInterrupted {
			t.Errorf("after %q: exit code %d, want %d\n%s", mark, code, exitInterrupted, s.text())
		}
		says(t, s.text(), "what there is stays in "+dir)
		leavesNothing(t, dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTheStoryDoesNotBegin(t *testing.T) {
	t.Parallel()
	there := t.TempDir()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--dir", there}, exitFailure, "oc-control down --dir " + there},
		{[]string{"--dir", filepath.Join(there, "new"), "--bin", there}, exitFailure, "make build"},
		{[]string{"--loud"}, exitUsage, "Usage"},
		{[]string{"--dir"}, exitUsage, "Usage"},
	} {
		out, err := story(t, c.args...).CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != c.code || !strings.Contains(string(out), c.want) {
			t.Errorf("%q: %v, want code %d and %q\n%s", c.args, err, c.code, c.want, out)
		}
	}
	if left, err := os.ReadDir(there); err != nil || len(left) > 0 {
		t.Errorf("it has left %v, %v", left, err)
	}
}
