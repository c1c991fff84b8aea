package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

// TestCommittedCodeIsCurrent fails when a proto file was changed and `make proto`
// was not run, when its output was edited, and when a plugin was upgraded alone.
func TestCommittedCodeIsCurrent(t *testing.T) {
	code, err := generate(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	if len(code) == 0 {
		t.Fatal("nothing was generated")
	}
	for name, want := range code {
		got, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Errorf("%v: run make proto and commit the file", err)
		} else if !bytes.Equal(got, want) {
			t.Errorf("%s is not what its proto file makes: run make proto and commit the file", name)
		}
	}
}

// TestGeneratedCodeHasASource fails when a proto file was removed and its code
// was not.
func TestGeneratedCodeHasASource(t *testing.T) {
	code, err := generate(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	err = filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !strings.HasSuffix(path, ".pb.go") {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err == nil && code[filepath.ToSlash(name)] == nil {
			t.Errorf("%s has no proto file", name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAProtoFileWithAFaultIsRefusedWithItsPlace(t *testing.T) {
	dir := t.TempDir()
	text := "syntax = \"proto3\";\npackage p;\noption go_package = \"p\";\nmessage M { Missing m = 1; }\n"
	if err := os.WriteFile(filepath.Join(dir, "m.proto"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	written, err := write(t.Context(), dir)
	if err == nil || !strings.Contains(err.Error(), "m.proto:4:13") || len(written) > 0 {
		t.Fatalf("wrote %v, error %v", written, err)
	}
}

func TestATreeWithoutProtoFilesIsRefused(t *testing.T) {
	if _, err := generate(t.Context(), t.TempDir()); err == nil {
		t.Fatal("no error")
	}
}
