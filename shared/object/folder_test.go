package object

import (
	"bytes"
	"errors"
	"io"
	iofs "io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"originchain/shared/simdisk"
)

func put(t *testing.T, s Store, key string) {
	t.Helper()
	if err := s.Put(t.Context(), key, Bytes([]byte(contentOf(key)))); err != nil {
		t.Fatal(err)
	}
}

func keysOf(t *testing.T, s Store) string {
	t.Helper()
	list, err := s.List(t.Context(), "", "", MaxList)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, info := range list {
		keys = append(keys, info.Key)
	}
	return strings.Join(keys, " ")
}

func TestFolderIsPrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	old := unix.Umask(0)
	defer unix.Umask(old)
	put(t, NewFolder(dir), "c/d")
	for name, want := range map[string]os.FileMode{"": 0o700, "c": 0o700, "c/d": 0o600, temporaries: 0o700, "..": 0o700} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != want {
			t.Errorf("%q has mode %v, want %v", name, info.Mode().Perm(), want)
		}
	}
}

func TestFolderReadsWithoutWriting(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "absent")
	f := NewFolder(dir)
	if got := keysOf(t, f); got != "" {
		t.Errorf("got %q", got)
	}
	if _, err := f.Stat(t.Context(), "a"); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if err := f.Delete(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("reading made the directory: %v", err)
	}
}

// Nothing that lies in the directory and is no object is listed or read, and no
// symbolic link leads out of it, or to an object under another key.
func TestFolderHasStrangers(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	f := NewFolder(dir)
	put(t, f, "real/object")
	secret := filepath.Join(outside, "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, target := range map[string]string{"out": outside, "file": secret, "alias": "real", "real/link": "object", "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600), os.WriteFile(filepath.Join(dir, "ümlaut"), nil, 0o600),
		os.WriteFile(filepath.Join(dir, ".hidden"), nil, 0o600), os.Mkdir(filepath.Join(dir, "empty"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if got := keysOf(t, f); got != "real/object" {
		t.Errorf("got %q", got)
	}
	for _, key := range []string{"out/secret", "file", "alias/object", "real/link", "loop", "loop/x", "pipe", "empty"} {
		if r, err := f.Get(t.Context(), key, 0, -1); !errors.Is(err, ErrNotFound) {
			t.Errorf("get %s: %v, %v", key, r, err)
		}
		if _, err := f.Stat(t.Context(), key); !errors.Is(err, ErrNotFound) {
			t.Errorf("stat %s: %v", key, err)
		}
	}
	for _, key := range []string{"out/new", "alias/new", "loop/new"} {
		if err := f.Put(t.Context(), key, Bytes(nil)); !errors.Is(err, ErrKey) {
			t.Errorf("put %s: %v", key, err)
		}
	}
	if err := f.Delete(t.Context(), "out/secret", "alias/object"); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(secret); err != nil || string(b) != "secret" {
		t.Errorf("got %q, %v", b, err)
	}
	if got := keysOf(t, f); got != "real/object" {
		t.Errorf("got %q", got)
	}
}

func TestFolderSweeps(t *testing.T) {
	dir := t.TempDir()
	put(t, NewFolder(dir), "a")
	left := filepath.Join(dir, temporaries, "left")
	if err := os.WriteFile(left, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	// One that another process is writing: its lock is another open file's.
	busy := &osDisk{path: dir}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	busy.root = root
	inUse, err := busy.create(temporaries + "/busy")
	if err != nil {
		t.Fatal(err)
	}
	put(t, NewFolder(dir), "b")
	if _, err := os.Stat(left); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("what a crash left is there: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, temporaries, "busy")); err != nil {
		t.Errorf("what another process writes was removed: %v", err)
	}
	if err := errors.Join(inUse.Close(), root.Close()); err != nil {
		t.Fatal(err)
	}
	put(t, NewFolder(dir), "c")
	if names, err := os.ReadDir(filepath.Join(dir, temporaries)); err != nil || len(names) != 0 {
		t.Errorf("left: %v, %v", names, err)
	}
}

func TestFolderRemovesEmptyDirectories(t *testing.T) {
	dir := t.TempDir()
	f := NewFolder(dir)
	put(t, f, "a/b/c/d")
	put(t, f, "a/e")
	if err := f.Delete(t.Context(), "a/b/c/d"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "a/b")); !errors.Is(err, iofs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if got := keysOf(t, f); got != "a/e" {
		t.Errorf("got %q", got)
	}
}

func TestFolderReaderFailsWhereTheFileEnds(t *testing.T) {
	dir := t.TempDir()
	f := NewFolder(dir)
	put(t, f, "a")
	r, err := f.Get(t.Context(), "a", 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	if err := os.Truncate(filepath.Join(dir, "a"), 10); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(r); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %d bytes, %v", len(b), err)
	}
}

func TestFolderKinds(t *testing.T) {
	for _, c := range []struct {
		errno error
		ops   simdisk.Op
		want  error
	}{
		{syscall.ENOSPC, simdisk.OpWrite, ErrNoSpace},
		{syscall.ENOSPC, simdisk.OpCreate, ErrNoSpace},
		{syscall.ENOSPC, simdisk.OpSync, ErrNoSpace},
		{syscall.ENOSPC, simdisk.OpMkdir, ErrNoSpace},
		{syscall.ENOSPC, simdisk.OpLink, ErrNoSpace},
		{syscall.EDQUOT, simdisk.OpWrite, ErrNoSpace},
		{syscall.EACCES, simdisk.OpCreate, ErrDenied},
		{syscall.EROFS, simdisk.OpCreate, ErrDenied},
		{syscall.EACCES, simdisk.OpLink, ErrDenied},
		{syscall.EIO, simdisk.OpSyncDir, ErrFailed},
		{syscall.ENOSPC, simdisk.OpSyncDir, ErrFailed}, // the name is there already
	} {
		t.Run(c.ops.String()+" "+c.errno.Error(), func(t *testing.T) {
			d := simdisk.New()
			f := onSim(d)
			put(t, f, "before")
			d.Inject(simdisk.Fault{Ops: c.ops, Err: c.errno})
			err := f.Put(t.Context(), "a/b", Bytes([]byte("x")))
			var e *Error
			if !errors.Is(err, c.want) || !errors.Is(err, c.errno) || !errors.As(err, &e) || e.Key != "a/b" || e.Op != "put" {
				t.Fatalf("got %v", err)
			}
			unknown := errors.Is(err, ErrFailed)
			if unknown == (errors.Is(err, ErrNoSpace) || errors.Is(err, ErrDenied)) {
				t.Errorf("%v says two things", err)
			}
			again := f.Put(t.Context(), "a/b", Bytes([]byte("x")))
			if unknown != (again != nil) || errors.Is(again, ErrFailed) != unknown {
				t.Errorf("the next put: %v", again)
			}
			if unknown && !errors.Is(f.Delete(t.Context(), "before"), ErrFailed) {
				t.Error("a folder that has failed deletes")
			}
			if _, err := f.Stat(t.Context(), "before"); err != nil {
				t.Errorf("reading: %v", err)
			}
		})
	}
}

func TestFolderOfAnotherUser(t *testing.T) {
	// The root user may do all, so a file where a directory is needed stands for it.
	dir := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f := NewFolder(filepath.Join(dir, "archive"))
	if err := f.Put(t.Context(), "a", Bytes(nil)); err == nil {
		t.Error("a put into a file")
	}
}

func TestOpen(t *testing.T) {
	for url, want := range map[string]string{
		"file:///a/b":           "file:///a/b",
		"file:///a/b/":          "file:///a/b",
		"file://localhost/a":    "file:///a",
		"file:///with%20space":  "file:///with%20space",
		"file:///a/../b":        "file:///b",
		"file:///question%3F":   "file:///question%3F",
		"file:a":                "",
		"file://":               "",
		"file://host/a":         "",
		"file:///a?x=1":         "",
		"file:///a#x":           "",
		"file:///a%00b":         "",
		"/a/b":                  "",
		"":                      "",
		"s3://bucket":           "",
		"file://me:secret@/a":   "",
		"s3://id:secret@bucket": "",
		"://secret":             "",
	} {
		s, err := Open(t.Context(), url, nil)
		switch {
		case want == "" && !errors.Is(err, ErrURL):
			t.Errorf("%s: %v, %v", url, s, err)
		case want == "" && strings.Contains(err.Error(), "secret"):
			t.Errorf("%s: repeats the secret: %v", url, err)
		case want != "" && (err != nil || s.String() != want):
			t.Errorf("%s: got %v, %v", url, s, err)
		}
	}
}

func TestExactly(t *testing.T) {
	sum := Bytes([]byte("hello")).SHA256
	for _, c := range []struct {
		stored string
		n      int64
		want   error
	}{{"hello", 5, nil}, {"hellO", 5, ErrContent}, {"hell", 5, io.ErrUnexpectedEOF}, {"hello!", 5, nil}, {"", 5, io.ErrUnexpectedEOF}} {
		b, err := io.ReadAll(Exactly(io.NopCloser(strings.NewReader(c.stored)), c.n, &sum))
		if !errors.Is(err, c.want) || (err == nil && string(b) != "hello") {
			t.Errorf("%q: got %q, %v", c.stored, b, err)
		}
		// Who reads no more than he needs learns of it as well.
		p := make([]byte, 5)
		if _, err := io.ReadFull(Exactly(io.NopCloser(strings.NewReader(c.stored)), c.n, &sum), p); (err == nil) != (c.want == nil) {
			t.Errorf("%q, read in full: %v", c.stored, err)
		}
	}
	if _, err := Range(1, -1, 0); !errors.Is(err, ErrRange) {
		t.Error(err)
	}
	var b bytes.Buffer
	if err := (Body{Size: -5, Open: Bytes(nil).Open}).CopyTo(t.Context(), &b); !errors.Is(err, ErrContent) {
		t.Error(err)
	}
}
