package stack_test

import (
	"debug/buildinfo"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"originchain/infra/config"
	"originchain/infra/stack"
)

// TestWhatIsBuiltIsTaken: `make lambdas`, whoever runs it, builds what Lambda can run, and
// nothing else is taken for a function.
func TestWhatIsBuiltIsTaken(t *testing.T) {
	dir := t.TempDir()
	c := exec.CommandContext(t.Context(), "sh", "-c", `umask 077 && exec make --no-print-directory -C ../.. lambdas LAMBDA_DIR="$0"`, dir)
	c.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS=") })
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	o := stack.Options{Binaries: programs, Functions: dir}
	if err := o.Check(&config.Config{}); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(dir, "*", "bootstrap"))
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range names {
		info, err := buildinfo.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []debug.BuildSetting{{Key: "GOOS", Value: "linux"}, {Key: "GOARCH", Value: "arm64"}, {Key: "CGO_ENABLED", Value: "0"}} {
			if !slices.Contains(info.Settings, want) {
				t.Errorf("%s is not built with %s=%s: %v", name, want.Key, want.Value, info.Settings)
			}
		}
		for _, p := range []string{name, filepath.Dir(name)} {
			if is, err := os.Stat(p); err != nil || is.Mode().Perm() != 0o755 {
				t.Errorf("%s: %v, %v", p, is.Mode(), err)
			}
		}
	}
	for _, f := range unfit(filepath.Join(dir, "dns")) {
		t.Run(f.name, func(t *testing.T) {
			refused(t, o, filepath.Join(dir, "dns", "bootstrap"), f)
		})
	}
	if err := o.Check(&config.Config{}); err != nil {
		t.Errorf("as it was: %v", err)
	}
}

// TestWhatMachinesRunIsForThem: a program for another architecture is none.
func TestWhatMachinesRunIsForThem(t *testing.T) {
	own, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, arch := range []string{"arm64", "amd64"} {
		if err := os.Mkdir(filepath.Join(dir, "linux-"+arch), 0o700); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"oc-server", "oc-node", "oc-pitr", "waldump"} {
			if err := os.Symlink(own, filepath.Join(dir, "linux-"+arch, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	o := stack.Options{Binaries: dir, Functions: programs + "/lambdas"}
	mine, other := config.Architecture(runtime.GOARCH), config.ARM64
	if mine == other {
		other = config.AMD64
	}
	of := func(a config.Architecture) *config.Config {
		return &config.Config{Tenants: []config.Tenant{{Architecture: a}, {Architecture: a}}}
	}
	if err := o.Check(of(mine)); err != nil {
		t.Error(err)
	}
	if err := o.Check(of(other)); err == nil || strings.Count(err.Error(), "is no executable for Linux on "+string(other)) != 4 {
		t.Error(err)
	}
}

// unfitness is what makes a function's file one that Lambda cannot run.
type unfitness struct {
	name, want string
	// at has the byte that is changed, or path the mode.
	at   int64
	is   byte
	path string
	mode fs.FileMode
}

func unfit(function string) []unfitness {
	file := filepath.Join(function, "bootstrap")
	return []unfitness{
		{name: "no ELF", at: 0, is: '#', want: "is no executable for Linux"},
		{name: "of another system", at: 7, is: 9, want: "is no executable for Linux on arm64 (ELFOSABI_FREEBSD, ET_EXEC, EM_AARCH64)"},
		{name: "an object", at: 16, is: 1, want: "(ELFOSABI_NONE, ET_REL, EM_AARCH64)"},
		{name: "of another machine", at: 18, is: 62, want: "(ELFOSABI_NONE, ET_EXEC, EM_X86_64)"},
		{name: "its owner's alone", path: file, mode: 0o700, want: "bootstrap has mode 0700: Lambda could not run it"},
		{name: "not to be run by others", path: file, mode: 0o754, want: "bootstrap has mode 0754"},
		{name: "in its owner's directory", path: function, mode: 0o700, want: "dns has mode 0700"},
	}
}

func refused(t *testing.T, o stack.Options, file string, f unfitness) {
	t.Helper()
	if f.path != "" {
		was, err := os.Stat(f.path)
		if err == nil {
			err = os.Chmod(f.path, f.mode)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			if err := os.Chmod(f.path, was.Mode().Perm()); err != nil {
				t.Error(err)
			}
		}()
	} else {
		defer put(t, file, f.at, put(t, file, f.at, f.is))
	}
	if err := o.Check(&config.Config{}); err == nil || !strings.Contains(err.Error(), f.want) || !strings.Contains(err.Error(), "`make lambdas` builds the functions") {
		t.Errorf("%v, want %q", err, f.want)
	}
}

// put changes a byte of a file, and returns what was there.
func put(t *testing.T, file string, at int64, is byte) byte {
	t.Helper()
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	was := make([]byte, 1)
	_, read := f.ReadAt(was, at)
	_, wrote := f.WriteAt([]byte{is}, at)
	if err := errors.Join(read, wrote, f.Close()); err != nil {
		t.Fatal(err)
	}
	return was[0]
}
