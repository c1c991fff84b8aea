package arch

import (
	"go/ast"
	"go/build/constraint"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// source is one file of the tree.
type source struct {
	// path is relative to the root of the repository.
	path string
	text string
	// syntax is nil for what is not Go.
	syntax *ast.File
	pos    *token.FileSet
}

func (s *source) dir() string     { return path.Dir(s.path) }
func (s *source) test() bool      { return strings.HasSuffix(s.path, "_test.go") }
func (s *source) generated() bool { return s.syntax != nil && ast.IsGenerated(s.syntax) }

func (s *source) line(p token.Pos) int { return s.pos.Position(p).Line }

// imports lists the paths the file imports.
func (s *source) imports() (paths []string) {
	for _, spec := range s.syntax.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			paths = append(paths, p)
		}
	}
	return paths
}

// textual are the files that people write, by extension or by name.
var textual = []string{".go", ".md", ".yml", ".yaml", ".toml", ".sh", ".mod", ".txtar", ".json5", ""}

// readTree reads every file that is written by hand: no dot directories but
// .ci, nothing that is built, no test data.
func readTree(t *testing.T, root fs.FS) (tree []*source) {
	t.Helper()
	err := fs.WalkDir(root, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := path.Base(p)
		hidden := strings.HasPrefix(base, ".") && p != "." && base != ".ci" && base != ".golangci.yml" && base != ".gitignore"
		switch {
		case d.IsDir() && (hidden || slices.Contains([]string{"bin", "var", "testdata", "node_modules", "cdk.out"}, base)):
			return fs.SkipDir
		case d.IsDir() && p != "." && exists(root, path.Join(p, "go.mod")):
			return fs.SkipDir // another module, as for Go
		case d.IsDir(), hidden, base == "LICENSE":
			return nil
		case base != ".gitignore" && !slices.Contains(textual, path.Ext(p)):
			return nil
		}
		text, err := fs.ReadFile(root, p)
		if err != nil {
			return err
		}
		s := &source{path: p, text: string(text)}
		if path.Ext(p) == ".go" {
			s.pos = token.NewFileSet()
			if s.syntax, err = parser.ParseFile(s.pos, p, text, parser.ParseComments); err != nil {
				return err
			}
			if !built(s.text) {
				return nil
			}
		}
		tree = append(tree, s)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// built is false for a file that no build takes in, such as one that only
// pins requirements.
func built(text string) bool {
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "package ") {
			return true
		}
		if !constraint.IsGoBuild(line) {
			continue
		}
		expr, err := constraint.Parse(strings.TrimSpace(line))
		return err != nil || expr.Eval(func(tag string) bool { return tag != "deps" })
	}
	return true
}

// treeOf is a tree of the files given, for the tests of the rules.
func treeOf(t *testing.T, files map[string]string) []*source {
	t.Helper()
	m := fstest.MapFS{}
	for p, text := range files {
		m[p] = &fstest.MapFile{Data: []byte(text)}
	}
	return readTree(t, m)
}

// goFiles are the Go files of the tree.
func goFiles(tree []*source) []*source {
	return slices.DeleteFunc(slices.Clone(tree), func(s *source) bool { return s.syntax == nil })
}

// packages are the directories with Go files, sorted.
func packages(tree []*source) (dirs []string) {
	for _, s := range goFiles(tree) {
		dirs = append(dirs, s.dir())
	}
	slices.Sort(dirs)
	return slices.Compact(dirs)
}

func exists(root fs.FS, p string) bool {
	_, err := fs.Stat(root, p)
	return err == nil
}
