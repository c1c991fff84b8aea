package arch

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
)

const (
	maxFileLines = 500
	maxFuncLines = 70
	maxMainLines = 40
)

// rule is one thing that must hold; check lists what breaks it.
type rule struct {
	name  string
	check func(tree []*source) []string
}

func rules() []rule {
	return []rule{
		{"every package has a rank and every rank a package", func(tree []*source) []string { return checkRanked(tree, ranks) }},
		{"imports go to lower ranks", func(tree []*source) []string { return checkImports(tree, ranks) }},
		{"modules stay where they belong", checkReserved},
		{"infra deploys and runs nothing", checkInfra},
		{"no file is too long", checkFileLength},
		{"no function is too long", checkFuncLength},
		{"packages do not initialise themselves", checkInit},
		{"packages are named for their domain", checkNames},
		{"tests do not sleep", checkSleep},
		{"tests do not skip", checkSkip},
		{"replayed code reads neither clock nor randomness", checkReplayed},
		{"every package says what it is", checkDoc},
		{"no file holds what only an editor's desk should", checkWords},
	}
}

func checkRanked(tree []*source, ranks map[string]int) (broken []string) {
	dirs := packages(tree)
	for _, dir := range dirs {
		if _, ok := ranks[dir]; !ok {
			broken = append(broken, dir+" has no rank: give it a row in test/arch/ranks_test.go and in docs/ARCHITECTURE.md")
		}
	}
	for dir := range ranks {
		if !slices.Contains(dirs, dir) {
			broken = append(broken, dir+" has a rank and no Go file: remove the row")
		}
	}
	return broken
}

func checkImports(tree []*source, ranks map[string]int) (broken []string) {
	for _, s := range goFiles(tree) {
		if _, ok := ranks[s.dir()]; !ok {
			continue // the rule before objects
		}
		for _, p := range s.imports() {
			target, ours := strings.CutPrefix(p, "originchain/")
			if !ours || (s.test() && target == s.dir()) {
				continue
			}
			if ranks[target] >= ranks[s.dir()] {
				broken = append(broken, fmt.Sprintf("%s (rank %d) imports %s (rank %d)", s.path, ranks[s.dir()], target, ranks[target]))
			}
		}
	}
	return broken
}

func checkReserved(tree []*source) (broken []string) {
	for _, s := range goFiles(tree) {
		for _, p := range s.imports() {
			best := -1
			for i, r := range reserved {
				if below(p, r.module) && (best < 0 || len(r.module) > len(reserved[best].module)) {
					best = i
				}
			}
			if best < 0 {
				continue
			}
			r := reserved[best]
			allowed := r.code
			if s.test() {
				allowed = slices.Concat(r.code, r.tests)
			}
			if !slices.ContainsFunc(allowed, func(dir string) bool { return below(s.dir(), dir) }) {
				broken = append(broken, fmt.Sprintf("%s imports %s: %s", s.path, p, r.why))
			}
		}
	}
	return broken
}

func checkInfra(tree []*source) (broken []string) {
	for _, s := range goFiles(tree) {
		// Tests may ask the code whether it takes what is said of it.
		if !below(s.dir(), "infra") || s.test() {
			continue
		}
		for _, p := range s.imports() {
			target, ours := strings.CutPrefix(p, "originchain/")
			if ours && !below(target, "infra") && !slices.Contains(described, target) {
				broken = append(broken, fmt.Sprintf("%s imports %s: infra describes what is deployed and has none of its code", s.path, p))
			}
		}
	}
	return broken
}

// below reports whether p is dir or in it.
func below(p, dir string) bool {
	dir = strings.TrimSuffix(dir, "/")
	return p == dir || strings.HasPrefix(p, dir+"/")
}

func checkFileLength(tree []*source) (broken []string) {
	for _, s := range goFiles(tree) {
		if n := strings.Count(s.text, "\n"); n > maxFileLines && !s.test() && !s.generated() {
			broken = append(broken, fmt.Sprintf("%s has %d lines, at most %d", s.path, n, maxFileLines))
		}
	}
	return broken
}

func checkFuncLength(tree []*source) (broken []string) {
	for _, s := range goFiles(tree) {
		if s.test() || s.generated() {
			continue
		}
		for _, d := range s.syntax.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok || f.Body == nil {
				continue
			}
			most := maxFuncLines
			if s.syntax.Name.Name == "main" && f.Name.Name == "main" {
				most = maxMainLines
			}
			if n := s.line(f.End()) - s.line(f.Pos()) + 1; n > most {
				broken = append(broken, fmt.Sprintf("%s:%d: %s has %d lines, at most %d", s.path, s.line(f.Pos()), f.Name.Name, n, most))
			}
		}
	}
	return broken
}

func checkInit(tree []*source) (broken []string) {
	for _, s := range goFiles(tree) {
		if s.generated() {
			continue // generated messages register their types
		}
		for _, d := range s.syntax.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				broken = append(broken, fmt.Sprintf("%s:%d: init runs without being asked: make it a function that New calls", s.path, s.line(f.Pos())))
			}
		}
	}
	return broken
}

// nameless are package names that say nothing of the domain.
var nameless = []string{"util", "utils", "common", "helper", "helpers", "manager", "managers", "misc", "base", "types", "lib"}

func checkNames(tree []*source) (broken []string) {
	for _, dir := range packages(tree) {
		if slices.Contains(nameless, path.Base(dir)) {
			broken = append(broken, dir+": name a package for what it is in the domain")
		}
	}
	return broken
}

// calls returns the positions at which the file calls one of the functions of
// the package imported by the path.
func calls(s *source, importPath string, names ...string) (at []token.Pos) {
	local := ""
	for _, spec := range s.syntax.Imports {
		if spec.Path.Value == `"`+importPath+`"` {
			if local = path.Base(importPath); spec.Name != nil {
				local = spec.Name.Name
			}
		}
	}
	if local == "" {
		return nil
	}
	ast.Inspect(s.syntax, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok && slices.Contains(names, sel.Sel.Name) {
			if id, ok := sel.X.(*ast.Ident); ok && id.Name == local {
				at = append(at, n.Pos())
			}
		}
		return true
	})
	return at
}

func checkSleep(tree []*source) (broken []string) {
	for _, s := range goFiles(tree) {
		// A synctest bubble sleeps without waiting.
		if !s.test() || slices.Contains(s.imports(), "testing/synctest") {
			continue
		}
		for _, p := range calls(s, "time", "Sleep") {
			broken = append(broken, fmt.Sprintf("%s:%d: wait for a condition, or use testing/synctest", s.path, s.line(p)))
		}
	}
	return broken
}

func checkSkip(tree []*source) (broken []string) {
	for _, s := range goFiles(tree) {
		if !s.test() {
			continue
		}
		ast.Inspect(s.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if id, isName := receiver(sel, ok); isName && slices.Contains([]string{"t", "b", "tb"}, id) && strings.HasPrefix(sel.Sel.Name, "Skip") {
				broken = append(broken, fmt.Sprintf("%s:%d: a test that is skipped has not passed", s.path, s.line(n.Pos())))
			}
			return true
		})
	}
	return broken
}

func receiver(sel *ast.SelectorExpr, ok bool) (string, bool) {
	if !ok {
		return "", false
	}
	id, ok := sel.X.(*ast.Ident)
	if !ok {
		return "", false
	}
	return id.Name, true
}

func checkReplayed(tree []*source) (broken []string) {
	for _, s := range goFiles(tree) {
		if s.test() || !slices.Contains(replayed, s.dir()) {
			continue
		}
		for _, p := range s.imports() {
			if p == "math/rand" || p == "math/rand/v2" || p == "crypto/rand" {
				broken = append(broken, fmt.Sprintf("%s imports %s: what replay computes must come from the log", s.path, p))
			}
		}
		for _, p := range calls(s, "time", "Now", "Since", "Until", "After", "Tick", "NewTimer", "NewTicker") {
			broken = append(broken, fmt.Sprintf("%s:%d: what replay computes must come from the log", s.path, s.line(p)))
		}
	}
	return broken
}

func checkDoc(tree []*source) (broken []string) {
	documented := make(map[string]bool)
	for _, s := range goFiles(tree) {
		documented[s.dir()] = documented[s.dir()] || s.syntax.Doc != nil
	}
	for dir, ok := range documented {
		if !ok {
			broken = append(broken, dir+": no file has a package comment")
		}
	}
	return broken
}

// words are what is left over from the desk. They are written here in halves,
// so that this file does not hold them.
var words = regexp.MustCompile(`\b(` + "TO" + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b|/wo` + `rk/|/ro` + `ot/`)

func checkWords(tree []*source) (broken []string) {
	for _, s := range tree {
		for i, line := range strings.Split(s.text, "\n") {
			if w := words.FindString(line); w != "" {
				broken = append(broken, fmt.Sprintf("%s:%d holds %q", s.path, i+1, w))
			}
		}
	}
	return broken
}
