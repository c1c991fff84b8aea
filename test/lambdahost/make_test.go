package lambdahost_test

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
)

var root = filepath.Join("..", "..")

// build has `make lambdas` of a tree build functions, for this machine.
func build(t *testing.T, tree, dir string, env []string, names ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), "make", "--no-print-directory", "-C", tree, "lambdas", "LAMBDAS="+strings.Join(names, " "), "LAMBDA_GOARCH="+runtime.GOARCH, "LAMBDA_DIR="+dir)
	c.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS=") })
	c.Env = append(c.Env, env...)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return dir
}

// same: of the same sources in another directory, for another user whose environment asks for
// all that the command rules out, the same is built, byte for byte. Nothing of where it was
// made is in it.
func same(t *testing.T, one string) {
	tree, home := filepath.Join(t.TempDir(), "another place"), t.TempDir()
	sources(t, tree)
	// Where a working copy has a version, it could be in the program.
	run(t, tree, "git", "init", "-q")
	run(t, tree, "git", "add", "go.mod")
	run(t, tree, "git", "-c", "user.name=nobody", "-c", "user.email=nobody@example.com", "commit", "-q", "-m", "another")
	env := []string{"HOME=" + home, "GOENV=off", "GOFLAGS=-buildvcs=true -trimpath=false '-ldflags=-X main.of=another'", "CGO_ENABLED=1", "TMPDIR=" + t.TempDir(), "LANG=C", "TZ=Asia/Tokyo"}
	for _, warm := range []string{"GOCACHE", "GOMODCACHE", "GOPROXY"} { // what is built is judged, not how it came there
		env = append(env, warm+"="+run(t, root, "go", "env", warm))
	}
	a, err := os.ReadFile(filepath.Join(one, "dns", "bootstrap"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(build(t, tree, t.TempDir(), env, "dns"), "dns", "bootstrap"))
	if err != nil || !bytes.Equal(a, b) {
		t.Errorf("the builds differ (%d and %d bytes), %v", len(a), len(b), err)
	}
	for of, program := range map[string][]byte{root: a, tree: b} {
		bare(t, of, program)
	}
}

// bare: a program has neither the path of its sources, nor their version, nor a build id, nor
// symbols.
func bare(t *testing.T, tree string, program []byte) {
	t.Helper()
	at, err := filepath.Abs(tree)
	if err != nil || bytes.Contains(program, []byte(at)) {
		t.Errorf("the path %s is in it, %v", at, err)
	}
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
		if strings.HasPrefix(s.Key, "vcs") {
			t.Errorf("%s=%s is in it", s.Key, s.Value)
		}
	}
	if settings["-trimpath"] != "true" || settings["CGO_ENABLED"] != "0" || settings["-tags"] != "lambda.norpc" {
		t.Errorf("it is built with %v", settings)
	}
	file, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{".note.go.buildid", ".symtab", ".debug_info", ".zdebug_info"} {
		if file.Section(s) != nil {
			t.Errorf("%s is in it", s)
		}
	}
}

// sources copies what the functions are built of.
func sources(t *testing.T, to string) {
	t.Helper()
	for _, top := range []string{"Makefile", "go.mod", "go.sum", "lambdas", "scripts", "shared"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() && !d.IsDir() {
				return err
			}
			name, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			if d.IsDir() {
				if d.Name() == "node_modules" || d.Name() == "testdata" {
					return fs.SkipDir
				}
				return nil
			}
			return copied(path, filepath.Join(to, name))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func copied(from, to string) error {
	is, err := os.Stat(from)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	return os.WriteFile(to, text, is.Mode().Perm())
}

func run(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), name, args...)
	c.Dir = dir
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return strings.TrimSpace(string(out))
}
