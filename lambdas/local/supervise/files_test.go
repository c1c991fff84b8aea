package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/shared/durable"
)

// failingDisk writes down its calls, and fails at one of them.
type failingDisk struct {
	calls  []string
	failAt int
}

var errDisk = errors.New("the disk is gone")

func (d *failingDisk) call(format string, args ...any) error {
	d.calls = append(d.calls, fmt.Sprintf(format, args...))
	if len(d.calls) == d.failAt {
		return errDisk
	}
	return nil
}

type failingFile struct {
	d *failingDisk
	f durable.File
}

func (f failingFile) Write(p []byte) (int, error) {
	if err := f.d.call("write"); err != nil {
		n, _ := f.f.Write(p[:len(p)/2])
		return n, err
	}
	return f.f.Write(p)
}
func (f failingFile) Sync() error  { return errors.Join(f.d.call("sync"), f.f.Sync()) }
func (f failingFile) Close() error { return errors.Join(f.f.Close(), f.d.call("close")) }

func (d *failingDisk) disk() durable.Disk {
	real := durable.OnOS(0o600)
	return durable.Disk{
		Create: func(path string) (durable.File, error) {
			if err := d.call("create %s", filepath.Base(path)); err != nil {
				return nil, err
			}
			f, err := real.Create(path)
			return failingFile{d, f}, err
		},
		Rename: func(from, to string) error {
			if err := d.call("rename %s %s", filepath.Base(from), filepath.Base(to)); err != nil {
				return err
			}
			return real.Rename(from, to)
		},
		Remove: func(path string) error {
			d.calls = append(d.calls, "remove "+filepath.Base(path))
			return real.Remove(path)
		},
		SyncDir: func(path string) error { return errors.Join(d.call("sync the directory"), real.SyncDir(path)) },
	}
}

// TestRewritingIsOneStep: durable text, then the name, then a durable name; and whatever
// fails, one of the two texts stands whole.
func TestRewritingIsOneStep(t *testing.T) {
	all := []string{"create unit.tmp", "write", "sync", "close", "rename unit.tmp unit", "sync the directory"}
	for failAt := 0; failAt <= len(all); failAt++ {
		dir := t.TempDir()
		path := filepath.Join(dir, "unit")
		if err := os.WriteFile(path, []byte("the old one"), 0o600); err != nil {
			t.Fatal(err)
		}
		d := &failingDisk{failAt: failAt}
		err := replaceFile(d.disk(), path, []byte("the new one"))
		want, text := all, "the new one"
		switch {
		case failAt > 0 && failAt < len(all):
			want, text = append(append([]string{}, all[:failAt]...), "remove unit.tmp"), "the old one"
			if failAt == 2 || failAt == 3 { // what was opened is closed
				want = append(append([]string{}, all[:failAt]...), "close", "remove unit.tmp")
			}
		}
		if (err != nil) != (failAt > 0) || failAt > 0 && !errors.Is(err, errDisk) {
			t.Errorf("failing at %d: %v", failAt, err)
		}
		if diff := cmp.Diff(want, d.calls); diff != "" {
			t.Errorf("failing at %d (-want +got):\n%s", failAt, diff)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("failing at %d: %q, %v", failAt, got, err)
		}
		if names, err := os.ReadDir(dir); err != nil || len(names) != 1 {
			t.Errorf("failing at %d: %v, %v", failAt, names, err)
		}
	}
}

func TestLogsAreBounded(t *testing.T) {
	const most = 10_000
	dir := t.TempDir()
	writeUnit(t, dir, "n1", shell("i=0; while [ $$i -lt 4000 ]; do i=$$((i+1)); echo line $$i; done; echo up now"))
	r := supervise(t, dir, func(c *Config, _ *Deps) { c.MaxLogBytes = most })
	r.must(r.Start(t.Context(), node("n1")))
	r.logged("n1", "up ")
	r.end()
	var kept []byte
	for _, name := range []string{"n1.log.1", "n1.log"} {
		text, err := os.ReadFile(filepath.Join(dir, "logs", name))
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > most+32<<10 || name == "n1.log" && len(text) == 0 {
			t.Errorf("%s has %d bytes", name, len(text))
		}
		kept = append(kept, text...)
	}
	if !bytes.Contains(kept, []byte("line 3999\nline 4000\nup now\n")) {
		t.Error("the end is missing")
	}
	if names, err := os.ReadDir(filepath.Join(dir, "logs")); err != nil || len(names) != 2 {
		t.Errorf("%v, %v", names, err)
	}
}

func TestALogThatCannotBeWrittenSaysHowMuchItLacks(t *testing.T) {
	dir := t.TempDir()
	blocked := filepath.Join(dir, "logs")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l := newLogFile(filepath.Join(blocked, "n1.log"), 1000)
	for _, text := range []string{"lost\n", "too\n"} {
		if n, err := l.Write([]byte(text)); err != nil || n != len(text) {
			t.Errorf("%d, %v: the process would be blocked", n, err)
		}
	}
	if err := l.Close(); err == nil || !strings.Contains(err.Error(), "9 bytes") {
		t.Errorf("%v", err)
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	_, _ = l.Write([]byte("here\n")) // it never fails
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(l.path)
	if err != nil || !strings.HasPrefix(string(text), "supervisor: 9 bytes of output are missing here: ") || !strings.HasSuffix(string(text), "\nhere\n") {
		t.Errorf("%q, %v", text, err)
	}
}
