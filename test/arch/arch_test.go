package arch

import (
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const root = "../.."

func TestTheTreeKeepsTheRules(t *testing.T) {
	tree := readTree(t, os.DirFS(root))
	if len(goFiles(tree)) < 100 {
		t.Fatalf("%d Go files found: the tree was not read", len(goFiles(tree)))
	}
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			for _, b := range r.check(tree) {
				t.Error(b)
			}
		})
	}
}

// TestThePackagesAreThoseGoSees: what the rules read is what is built.
func TestThePackagesAreThoseGoSees(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var listed []string
	for p := range strings.FieldsSeq(string(out)) {
		listed = append(listed, strings.TrimPrefix(p, "originchain/"))
	}
	slices.Sort(listed)
	if diff := cmp.Diff(listed, packages(readTree(t, os.DirFS(root)))); diff != "" {
		t.Errorf("packages (-go +ours):\n%s", diff)
	}
}

// TestTheMapShowsTheRanks: docs/ARCHITECTURE.md lists every package with its rank.
func TestTheMapShowsTheRanks(t *testing.T) {
	text, err := os.ReadFile(root + "/docs/ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| (\\d+) \\| `([a-z0-9/-]+)` \\| .+ \\|$")
	shown := make(map[string]int)
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		if shown[m[2]], err = strconv.Atoi(m[1]); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(ranks, shown); diff != "" {
		t.Errorf("packages and ranks (-ranks_test.go +ARCHITECTURE.md):\n%s", diff)
	}
}
