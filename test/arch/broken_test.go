package arch

import (
	"maps"
	"strings"
	"testing"
)

// sound is a tree that keeps every rule.
func sound() map[string]string {
	return map[string]string{
		"deps.go":                    "//go:build deps\n\npackage deps\n\nimport _ \"github.com/dolthub/x\"\n",
		"shared/lsn/lsn.go":          "// Package lsn is.\npackage lsn\n\nfunc F() {}\n",
		"shared/wal/wal.go":          "// Package wal is.\npackage wal\n\nimport (\n\t\"github.com/cockroachdb/pebble/v2/vfs\"\n\n\t\"originchain/shared/lsn\"\n)\n",
		"shared/wal/wal_test.go":     "package wal_test\n\nimport (\n\t\"testing\"\n\n\t\"originchain/shared/simdisk\"\n\t\"originchain/shared/wal\"\n)\n",
		"shared/simdisk/disk.go":     "// Package simdisk is.\npackage simdisk\n",
		"shared/wal/bubble_test.go":  "package wal\n\nimport (\n\t\"testing/synctest\"\n\t\"time\"\n)\n\nfunc f() { time.Sleep(1) }\n",
		"shared/frame/frame.go":      "// Package frame is.\npackage frame\n\nimport \"time\"\n\nfunc f() { time.UnixMicro(1) }\n",
		"README.md":                  "A sound tree.\n",
		"shared/frame/testdata/x.go": "this is no Go\n",
	}
}

// soundRanks are the ranks of that tree.
var soundRanks = map[string]int{"shared/lsn": 0, "shared/frame": 1, "shared/simdisk": 1, "shared/wal": 2}

// rulesOf are the rules, over the small tree's ranks.
func rulesOf() []rule {
	out := rules()
	out[0].check = func(tree []*source) []string { return checkRanked(tree, soundRanks) }
	out[1].check = func(tree []*source) []string { return checkImports(tree, soundRanks) }
	return out
}

func TestASoundTreeBreaksNothing(t *testing.T) {
	tree := treeOf(t, sound())
	for _, r := range rulesOf() {
		for _, b := range r.check(tree) {
			t.Errorf("%s: %s", r.name, b)
		}
	}
}

// TestEveryRuleCanBreak adds or removes one file of the sound tree at a time:
// the rule named, and no other, must object.
func TestEveryRuleCanBreak(t *testing.T) {
	long := func(n int) string { return strings.Repeat("\n", n) }
	cases := []struct{ rule, path, text string }{
		{"every package has a rank and every rank a package", "shared/stray/a.go", "// Package stray is.\npackage stray\n"},
		{"every package has a rank and every rank a package", "shared/simdisk/disk.go", ""},
		{"imports go to lower ranks", "shared/lsn/b.go", "package lsn\n\nimport \"originchain/shared/frame\"\n"},
		{"imports go to lower ranks", "shared/simdisk/b.go", "package simdisk\n\nimport \"originchain/shared/frame\"\n"},
		{"imports go to lower ranks", "shared/lsn/b_test.go", "package lsn\n\nimport \"originchain/shared/frame\"\n"},
		{"modules stay where they belong", "shared/wal/b.go", "package wal\n\nimport \"originchain/shared/simdisk\"\n"},
		{"modules stay where they belong", "shared/wal/b.go", "package wal\n\nimport \"github.com/cockroachdb/pebble/v2\"\n"},
		{"modules stay where they belong", "shared/wal/b.go", "package wal\n\nimport \"github.com/cockroachdb/pebble/v2/sstable\"\n"},
		{"modules stay where they belong", "shared/wal/b_test.go", "package wal\n\nimport \"github.com/dolthub/go-mysql-server/sql\"\n"},
		{"modules stay where they belong", "shared/wal/b_test.go", "package wal\n\nimport \"github.com/aws/aws-sdk-go-v2/aws\"\n"},
		{"modules stay where they belong", "shared/wal/b.go", "package wal\n\nimport \"testing\"\n"},
		{"modules stay where they belong", "shared/wal/b.go", "package wal\n\nimport \"modernc.org/sqlite\"\n"},
		{"no file is too long", "shared/wal/b.go", "package wal\n" + long(maxFileLines)},
		{"no function is too long", "shared/wal/b.go", "package wal\n\nfunc f() {" + long(maxFuncLines) + "}\n"},
		{"no function is too long", "shared/wal/b.go", "package main\n\nfunc main() {" + long(maxMainLines) + "}\n"},
		{"packages do not initialise themselves", "shared/wal/b.go", "package wal\n\nfunc init() {}\n"},
		{"packages are named for their domain", "shared/lsn/util/a.go", "// Package util is.\npackage util\n"},
		{"tests do not sleep", "shared/wal/b_test.go", "package wal\n\nimport \"time\"\n\nfunc f() { time.Sleep(1) }\n"},
		{"tests do not sleep", "shared/wal/b_test.go", "package wal\n\nimport zz \"time\"\n\nvar f = zz.Sleep\n"},
		{"tests do not skip", "shared/wal/b_test.go", "package wal\n\nfunc f(t T) { t.Skipf(\"later\") }\n"},
		{"replayed code reads neither clock nor randomness", "shared/frame/b.go", "package frame\n\nimport \"time\"\n\nvar now = time.Now\n"},
		{"replayed code reads neither clock nor randomness", "shared/frame/b.go", "package frame\n\nimport \"math/rand/v2\"\n"},
		{"every package says what it is", "shared/lsn/lsn.go", "package lsn\n"},
		{"no file holds what only an editor's desk should", "README.md", "later: TO" + "DO\n"},
		{"no file holds what only an editor's desk should", "docs/x.md", "see /wo" + "rk/main\n"},
		{"no file holds what only an editor's desk should", "Makefile", "# HA" + "CK\n"},
		{"no file holds what only an editor's desk should", ".ci/run", "# FIX" + "ME\n"},
	}
	broken := make(map[string]bool)
	for i, c := range cases {
		files := maps.Clone(sound())
		if files[c.path] = c.text; c.text == "" {
			delete(files, c.path)
		}
		tree := treeOf(t, files)
		for _, r := range rulesOf() {
			found := r.check(tree)
			if r.name == c.rule && len(found) == 0 {
				t.Errorf("case %d: %q does not see %s:\n%s", i, r.name, c.path, c.text)
			}
			// A stray package is without a rank as well.
			if r.name != c.rule && len(found) > 0 && !strings.Contains(found[0], "has no rank") {
				t.Errorf("case %d is for %q, and %q objects too: %s", i, c.rule, r.name, found)
			}
		}
		broken[c.rule] = true
	}
	for _, r := range rules() {
		if !broken[r.name] {
			t.Errorf("no case breaks %q", r.name)
		}
	}
}
