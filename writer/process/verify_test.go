package process

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/datadir"
	"originchain/shared/verification"
)

// newDirectory is a data directory that no server has written to yet.
func newDirectory(t *testing.T) (*datadir.Dir, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "data")
	d, err := datadir.Open(datadir.Options{FS: vfs.Default, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	return d, path
}

// document reads the one JSON document that text must be.
func document(t *testing.T, text string) (v verified) {
	t.Helper()
	dec := json.NewDecoder(strings.NewReader(text))
	if err := dec.Decode(&v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	if dec.More() {
		t.Fatalf("more than one document: %s", text)
	}
	return v
}

func TestVerifyEndsWithTheCodeOfWhatItFound(t *testing.T) {
	d, open := newDirectory(t)
	defer func() { _ = d.Close() }()
	free, sound := newDirectory(t)
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	damaged := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(damaged, os.DirFS(sound)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(damaged, "log", "0000000000000001.log"), []byte("no segment"), 0o600); err != nil {
		t.Fatal(err)
	}
	nothing := filepath.Join(t.TempDir(), "nothing")
	for _, c := range []struct {
		name, dir string
		code      int
		fails     string
	}{
		{"sound", sound, ExitOK, ""},
		{"damaged", damaged, ExitRefused, "1 faults in " + damaged},
		{"in use", open, ExitLocked, "in use"},
		{"nothing there", nothing, ExitRefused, "name the directory"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := run(t, "verify", "--data-dir", c.dir, "--json")
			v := document(t, out)
			if code != c.code || v.OK != (code == ExitOK) || v.DataDir != c.dir {
				t.Errorf("code %d, want %d; %s", code, c.code, out)
			}
			if !strings.Contains(errs, c.fails) || strings.ContainsAny(errs, "\x1b\r") {
				t.Errorf("standard error: %q", errs)
			}
			if c.name == "in use" && !strings.Contains(v.Error, c.fails) {
				t.Errorf("the document does not say why: %s", out)
			}
			code, text, _ := run(t, "verify", "--data-dir", c.dir)
			if code != c.code || (code == ExitOK) != strings.Contains(text, "OK: no fault found") {
				t.Errorf("as text: code %d, %q", code, text)
			}
			if c.name == "damaged" && (!strings.Contains(text, "FAULT log") || !strings.Contains(text, "0000000000000001.log") || !strings.Contains(text, "do: ")) {
				t.Errorf("as text: %q", text)
			}
		})
	}
	if _, err := os.Stat(nothing); err == nil {
		t.Error("the verification made a directory")
	}
}

func TestVerifyUsage(t *testing.T) {
	for _, args := range [][]string{{"verify"}, {"verify", "x"}, {"verify", "--listen", ":1"}} {
		if code, out, errs := run(t, args...); code != ExitUsage || out != "" || !strings.Contains(errs, "--help") {
			t.Errorf("%v: %d %q %q", args, code, out, errs)
		}
	}
	code, out, _ := run(t, "verify", "--help")
	for _, want := range []string{"Exit codes:", "--json", "[OC_DATA_DIR]"} {
		if code != ExitOK || !strings.Contains(out, want) {
			t.Errorf("--help lacks %q: %d %s", want, code, out)
		}
	}
}

func TestVerifyTakesItsDirectoryFromTheEnvironment(t *testing.T) {
	d, dir := newDirectory(t)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	p := Process{Name: "oc-server", Args: []string{"verify"}, Stdout: &out, Stderr: &errs,
		LookupEnv: func(name string) (string, bool) { return dir, name == dataDirEnv }}
	if code := p.Main(nil); code != ExitOK || !strings.Contains(out.String(), dir) {
		t.Errorf("%d %s %s", code, &out, &errs)
	}
}

// TestAFaultIsNamedWhole: the line of a fault has every name that leads to it.
func TestAFaultIsNamedWhole(t *testing.T) {
	v := verified{Report: &verification.Report{Instance: "I", FoundFaults: 3, Faults: []verification.Fault{
		{Check: "indexes", Tenant: "T", Table: "shop.items", Index: "by_name", Key: "01ff", Problem: "a row has no entry", Do: "that"},
	}}}
	for _, want := range []string{"FAULT indexes, tenant T, table shop.items, index by_name, key 01ff\n  a row has no entry\n  do: that\n", "and 2 faults more"} {
		if !strings.Contains(v.text(), want) {
			t.Errorf("nothing about %q in:\n%s", want, v.text())
		}
	}
}
