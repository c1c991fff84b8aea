package docs

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"originchain/lambdas/local/command"
	"originchain/scripts/oc-pitr/pitr"
	"originchain/scripts/oc-subscribers/subscribers"
	"originchain/shared/alarms"
	"originchain/writer"
	"originchain/writer/config"
)

const repository = "../.."

// pages are the Markdown files of the repository, by path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	out := make(map[string]string)
	tree := os.DirFS(repository)
	err := fs.WalkDir(tree, ".", func(p string, d fs.DirEntry, err error) error {
		switch base := path.Base(p); {
		case err != nil:
			return err
		case d.IsDir() && p != "." && (strings.HasPrefix(base, ".") || slices.Contains([]string{"var", "bin", "node_modules"}, base)):
			return fs.SkipDir
		case path.Ext(p) != ".md":
			return nil
		}
		text, err := fs.ReadFile(tree, p)
		out[p] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 5 {
		t.Fatalf("%d pages found", len(out))
	}
	return out
}

func page(t *testing.T, p string) string {
	t.Helper()
	text, err := os.ReadFile(path.Join(repository, p))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	fence   = regexp.MustCompile("(?ms)^```.*?^```$")
	heading = regexp.MustCompile(`(?m)^#+ (.+)$`)
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	code    = regexp.MustCompile("`([^`\n]+)`")
)

// prose is a page without its fenced blocks.
func prose(text string) string { return fence.ReplaceAllString(text, "") }

// anchors are the fragments of a page's headings, made as forges make them.
func anchors(text string) (out []string) {
	for _, m := range heading.FindAllStringSubmatch(prose(text), -1) {
		slug := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '_' || r == '-' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r > 127:
				return r
			}
			return -1
		}, strings.ToLower(m[1]))
		out = append(out, slug)
	}
	return out
}

func TestLinksLeadSomewhere(t *testing.T) {
	all := pages(t)
	seen := 0
	for p, text := range all {
		for _, m := range link.FindAllStringSubmatch(prose(text), -1) {
			target, fragment, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			seen++
			file := p
			if target != "" {
				file = path.Join(path.Dir(p), target)
			}
			if _, err := os.Stat(path.Join(repository, file)); err != nil {
				t.Errorf("%s links to %s: %v", p, m[1], err)
			} else if fragment != "" && !slices.Contains(anchors(all[file]), fragment) {
				t.Errorf("%s links to %s, and %s has no such heading: %v", p, m[1], file, anchors(all[file]))
			}
		}
	}
	if seen < 10 {
		t.Errorf("%d links found", seen)
	}
}

// TestCommandsExist: a page names only make targets, files and options that are there.
func TestCommandsExist(t *testing.T) {
	makefile := page(t, "Makefile")
	flags := pflag.NewFlagSet("oc-server", pflag.ContinueOnError)
	config.Register(flags)
	target := regexp.MustCompile(`\bmake ([a-z][a-z0-9 -]*)`)
	filename := regexp.MustCompile(`^(bin|scripts|shared|writer|test|docs)/[\w./-]+$`)
	option := regexp.MustCompile(`(?:^|\s)--([a-z-]+)`)
	for p, text := range pages(t) {
		quoted := strings.Join(fence.FindAllString(text, -1), "\n")
		for _, m := range code.FindAllStringSubmatch(prose(text), -1) {
			quoted += "\n" + m[1]
			first, _, _ := strings.Cut(m[1], " ")
			if filename.MatchString(first) && !exists(first) {
				t.Errorf("%s names %s, which is not there", p, first)
			}
			for _, o := range option.FindAllStringSubmatch(m[1], -1) {
				server, restores, controls := flags.Lookup(o[1]) != nil, slices.Contains(pitr.Options(), o[1]), slices.Contains(command.Options(), o[1])
				subscribes := slices.Contains(subscribers.Options(""), o[1])
				switch program := path.Base(first); {
				case o[1] == "help":
				case program == "oc-server" && !server, program == "oc-pitr" && !restores, program == "oc-control" && !controls, program == "oc-subscribers" && !subscribes:
					t.Errorf("%s names --%s, which %s does not have", p, o[1], program)
				case strings.HasPrefix(first, "--") && !server && !restores && !controls && !subscribes:
					t.Errorf("%s names --%s, which none of oc-server, oc-pitr, oc-control and oc-subscribers has", p, o[1])
				}
			}
		}
		for _, m := range target.FindAllStringSubmatch(quoted, -1) {
			words, _, _ := strings.Cut(m[1], "  ") // a comment follows in a block
			for name := range strings.FieldsSeq(words) {
				if !strings.Contains(makefile, "\n"+name+":") {
					t.Errorf("%s names make %s, which is no target", p, name)
				}
			}
		}
	}
}

// exists reports whether a path a page names is in the tree, or is a binary
// that the tree makes.
func exists(p string) bool {
	if name, ok := strings.CutPrefix(p, "bin/"); ok {
		for _, dir := range []string{"writer/cmd", "follower/cmd", "scripts"} {
			if _, err := os.Stat(path.Join(repository, dir, name, "main.go")); err == nil {
				return true
			}
		}
		return false
	}
	_, err := os.Stat(path.Join(repository, p))
	return err == nil
}

// TestReadmeHasItsMarks: test/e2e runs what stands between the first two, and
// test/bench writes what stands between the others.
func TestReadmeHasItsMarks(t *testing.T) {
	readme := page(t, "README.md")
	for _, mark := range []string{"<!-- walkthrough -->\n```sh\n", "<!-- /walkthrough -->\n", "<!-- bench:begin -->\n", "<!-- bench:end -->\n", "\nmake demo ", "\nmake test "} {
		if n := strings.Count(readme, mark); n != 1 {
			t.Errorf("README.md has %q %d times, want once", mark, n)
		}
	}
}

// TestDependenciesAreExplained: the table has the modules of go.mod, no other.
func TestDependenciesAreExplained(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "mod", "edit", "-json")
	cmd.Dir = repository
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go mod edit: %v", err)
	}
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(out, &mod); err != nil {
		t.Fatal(err)
	}
	var required, explained []string
	for _, r := range mod.Require {
		if !r.Indirect {
			required = append(required, r.Path)
		}
	}
	_, section, _ := strings.Cut(page(t, "docs/ARCHITECTURE.md"), "\n## Dependencies\n")
	for _, m := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\| .{10,} \\|$").FindAllStringSubmatch(section, -1) {
		explained = append(explained, m[1])
	}
	slices.Sort(required)
	slices.Sort(explained)
	if diff := cmp.Diff(required, explained); diff != "" {
		t.Errorf("modules (-go.mod +ARCHITECTURE.md):\n%s", diff)
	}
}

// TestRunbookIsAboutWhatExists: a section for a metric or a route is about one
// that the server has, or that an alarm is for.
func TestRunbookIsAboutWhatExists(t *testing.T) {
	served := make([]string, 0, 32)
	for _, r := range writer.Routes() {
		served = append(served, r.Pattern)
	}
	metrics := metricNames(t)
	for _, a := range alarms.Table() { // that of a feature which is not there reads as no data
		metrics = append(metrics, a.Name)
	}
	found := 0
	for _, m := range heading.FindAllStringSubmatch(prose(page(t, "docs/RUNBOOK.md")), -1) {
		name := strings.Trim(m[1], "`")
		if name == m[1] {
			continue
		}
		found++
		if !slices.Contains(served, name) && !slices.Contains(metrics, name) {
			t.Errorf("docs/RUNBOOK.md has a section on %s, which the server does not serve", name)
		}
	}
	for _, m := range code.FindAllStringSubmatch(page(t, "docs/RUNBOOK.md"), -1) {
		if strings.HasPrefix(m[1], "oc_") && !slices.Contains(metrics, m[1]) {
			t.Errorf("docs/RUNBOOK.md names the metric %s, which the server does not have", m[1])
		}
	}
	if found < 4 {
		t.Errorf("%d sections found", found)
	}
}

// metricNames are the metrics that the sources register.
func metricNames(t *testing.T) (names []string) {
	t.Helper()
	register := regexp.MustCompile(`(?:Gauge|Counter|Histogram|GaugeVec|CounterVec|GaugeFunc|gauge)\(\s*"(oc_[a-z_]+)"`)
	named := regexp.MustCompile(`= "(oc_controlplane_[a-z_]+|oc_pitr_[a-z_]+)"`) // as constants of shared/alarms
	tree := os.DirFS(repository)
	for _, dir := range []string{"shared", "writer", "follower", "lambdas"} {
		err := fs.WalkDir(tree, dir, func(p string, _ fs.DirEntry, err error) error {
			if err != nil || path.Ext(p) != ".go" || strings.HasSuffix(p, "_test.go") {
				return err
			}
			text, err := fs.ReadFile(tree, p)
			for _, m := range slices.Concat(register.FindAllSubmatch(text, -1), named.FindAllSubmatch(text, -1)) {
				names = append(names, string(m[1]))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(names) < 10 {
		t.Fatalf("%d metrics found", len(names))
	}
	return names
}
