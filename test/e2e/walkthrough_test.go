package e2e

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	walkBegin = "<!-- walkthrough -->"
	walkEnd   = "<!-- /walkthrough -->"
	// demoCommand is the README's first command; it stays up in a terminal of its own.
	demoCommand = "make demo"
	// demoUp is what the demo prints when it waits for Ctrl-C.
	demoUp = "Press Ctrl-C to stop"
	// stepWithin bounds everything that is done against the running demo.
	stepWithin = 2 * time.Minute
)

// step is one fenced block of commands, with the output that the README shows
// below it, if any.
type step struct {
	commands string
	output   string
	checked  bool
}

// fence finds fenced blocks.
var fence = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// twoCommands is the README's first block: all the set-up there is.
var twoCommands = regexp.MustCompile("(?s)\\A[^`]*```[a-z]*\nmake demo( +#[^\n]*)?\nmake test( +#[^\n]*)?\n```\n")

// parseWalkthrough reads the steps between the marks. A block of another kind
// than sh right after one of sh is its output.
func parseWalkthrough(readme string) ([]step, error) {
	var steps []step
	for rest := readme; ; {
		_, after, ok := strings.Cut(rest, walkBegin)
		if !ok {
			break
		}
		part, after, ok := strings.Cut(after, walkEnd)
		if !ok {
			return nil, fmt.Errorf("%s without %s", walkBegin, walkEnd)
		}
		for _, m := range fence.FindAllStringSubmatch(part, -1) {
			switch {
			case m[1] == "sh":
				steps = append(steps, step{commands: m[2]})
			case len(steps) > 0 && !steps[len(steps)-1].checked:
				steps[len(steps)-1].output, steps[len(steps)-1].checked = m[2], true
			default:
				return nil, fmt.Errorf("output without a command before it: %q", m[2])
			}
		}
		rest = after
	}
	if len(steps) == 0 {
		return nil, fmt.Errorf("no commands between %s and %s", walkBegin, walkEnd)
	}
	return steps, nil
}

// matches compares what a block printed with what the README shows. White space
// does not count, so that the README may break lines; "…" stands for anything.
func matches(shown, printed string) bool {
	compact := func(s string) string { return strings.Join(strings.Fields(s), "") }
	parts := strings.Split(compact(shown), "…")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile("(?s)^" + strings.Join(parts, ".*") + "$").MatchString(compact(printed))
}

// A first-time user's walk: a fresh copy of the repository, the README's first
// command, then every line of its walkthrough in another shell. The README's
// second command is the one that runs this test.
func TestReadmeWalkthrough(t *testing.T) {
	t.Parallel()
	root := repositoryRoot(t)
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !twoCommands.Match(readme) {
		t.Errorf("the README's first block must hold two commands, %q and %q", demoCommand, "make test")
	}
	steps, err := parseWalkthrough(string(readme))
	if err != nil {
		t.Fatalf("README.md: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "originchain")
	copyTree(t, root, dir)

	first := startDemo(t, dir)
	runSteps(t, dir, steps)
	first.signal(t, syscall.SIGINT)
	first.ended(t) // what make ends with after a Ctrl-C is make's own
	says(t, first.text(), "stopped; the data stays in var/demo")
	leavesNothing(t, dir)

	second := startDemo(t, dir)
	second.signal(t, syscall.SIGINT)
	second.ended(t)
	says(t, second.text(), "Going on with the instance", "3,376 rows are there already", "20,000 rows are there already")
}

// repositoryRoot is where go.mod is.
func repositoryRoot(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(strings.TrimSpace(string(out)))
}

// copyTree copies what a clone would have; what is built and kept is left out.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if slices.Contains([]string{".git", "bin", "var", "node_modules", "cdk.out"}, rel) {
			if e.IsDir() {
				return filepath.SkipDir
			}
			return nil // in a worktree .git is a file, and SkipDir would skip its neighbours
		}
		if e.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		return copyFile(path, filepath.Join(to, rel))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// copyFile copies a file with its mode: scripts stay executable.
func copyFile(from, to string) error {
	info, err := os.Stat(from)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another test's temporary file
	}
	if err != nil {
		return err
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, info.Mode().Perm())
}

// startDemo runs the README's first command and waits until the demo is up.
func startDemo(t *testing.T, dir string) *shown {
	t.Helper()
	cmd := exec.Command("make", "demo")
	cmd.Dir, cmd.Env = dir, plainEnvironment()
	s := show(t, cmd)
	s.waitFor(t, demoUp)
	return s
}

// plainEnvironment is ours without what a make around this test left in it.
func plainEnvironment() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		return strings.HasPrefix(kv, "MAKE") || strings.HasPrefix(kv, "MFLAGS") || strings.HasPrefix(kv, "OC_") || strings.HasPrefix(kv, "ARGS=") || strings.HasPrefix(kv, "PKG=")
	})
}

// runSteps runs every block in one shell, as a user would type them, and
// compares what each prints with what the README shows.
func runSteps(t *testing.T, dir string, steps []step) {
	t.Helper()
	outputs := t.TempDir()
	var script strings.Builder
	for i, s := range steps {
		fmt.Fprintf(&script, "{\n%s\n} > %s/%d.out 2> %s/%d.err\necho $? > %s/%d.status\n", s.commands, outputs, i, outputs, i, outputs, i)
	}
	ctx, cancel := context.WithTimeout(t.Context(), stepWithin)
	defer cancel()
	shell := exec.CommandContext(ctx, "bash", "-o", "pipefail", "-c", script.String())
	shell.Dir, shell.Env = dir, plainEnvironment()
	if out, err := shell.CombinedOutput(); err != nil {
		t.Errorf("the walkthrough's shell: %v: %s", err, out)
	}
	for i, s := range steps {
		part := func(name string) string {
			text, err := os.ReadFile(fmt.Sprintf("%s/%d.%s", outputs, i, name))
			if err != nil {
				t.Errorf("step %d was not run: %v", i+1, err)
			}
			return string(text)
		}
		printed, status, problems := part("out"), strings.TrimSpace(part("status")), part("err")
		switch {
		case status != "0":
			t.Errorf("step %d ends with status %s:\n%s\nprinted:\n%s%s", i+1, status, s.commands, printed, problems)
		case s.checked && !matches(s.output, printed):
			t.Errorf("step %d:\n%s\nthe README shows:\n%s\nit printed:\n%s%s", i+1, s.commands, s.output, printed, problems)
		case !s.checked && strings.Contains(printed, `"error":`):
			t.Errorf("step %d was refused, which the README does not say:\n%s\n%s", i+1, s.commands, printed)
		}
	}
}

func TestWalkthroughParser(t *testing.T) {
	t.Parallel()
	readme := "x\n" + walkBegin + "\ntext\n```sh\ncurl a\n```\n```json\n{\"a\": …}\n```\n```sh\ncurl b\n```\n" + walkEnd + "\n```sh\nnot this\n```\n"
	steps, err := parseWalkthrough(readme)
	if err != nil {
		t.Fatal(err)
	}
	if want := []step{{"curl a\n", "{\"a\": …}\n", true}, {commands: "curl b\n"}}; !slices.Equal(steps, want) {
		t.Errorf("%+v", steps)
	}
	if !matches(steps[0].output, `{"a":17}`) || matches(steps[0].output, `{"b":17}`) {
		t.Error("the wildcard stands for too much or too little")
	}
	if _, err := parseWalkthrough(walkBegin + walkEnd); err == nil {
		t.Error("an empty walkthrough was taken")
	}
}
