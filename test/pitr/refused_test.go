package pitr

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"originchain/scripts/oc-pitr/pitr"
	"originchain/shared/object"
	"originchain/shared/objecttest"
)

// cli runs oc-pitr.
type cli struct {
	t       testing.TB
	openers map[string]object.Opener
	ctx     context.Context //nolint:containedctx // of the test
}

func (c *cli) run(args ...string) (code int, stdout, stderr string) {
	c.t.Helper()
	var out, errs bytes.Buffer
	ctx := c.ctx
	if ctx == nil {
		ctx = c.t.Context()
	}
	code = pitr.Main(ctx, pitr.Program{Version: "test", Args: args, LookupEnv: func(string) (string, bool) { return "", false }, Stdout: &out, Stderr: &errs, Openers: c.openers})
	return code, out.String(), errs.String()
}

// document runs oc-pitr with --json and reads the one document.
func (c *cli) document(want int, into any, args ...string) {
	c.t.Helper()
	code, out, errs := c.run(append(args, "--json")...)
	if code != want {
		c.t.Fatalf("oc-pitr %v: exit code %d, want %d\n%s%s", args, code, want, out, errs)
	}
	dec := json.NewDecoder(strings.NewReader(out))
	if err := dec.Decode(into); err != nil {
		c.t.Fatalf("oc-pitr %v: %v\n%s", args, err, out)
	}
	if dec.More() {
		c.t.Fatalf("oc-pitr %v: more than one document\n%s", args, out)
	}
}

// folder records a workload in a directory.
func folder(t *testing.T, frames int) (w *Workload, dir string) {
	t.Helper()
	dir = t.TempDir()
	bubble(t, func(t *testing.T) { w = Record(t, object.NewFolder(dir), frames) })
	return w, dir
}

// objectsBelow lists the files of objects below a prefix.
func objectsBelow(t testing.TB, dir, prefix string) (out []string) {
	t.Helper()
	must(t, filepath.WalkDir(filepath.Join(dir, prefix), func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !strings.HasPrefix(d.Name(), ".") {
			out = append(out, path)
		}
		return err
	}))
	if len(out) == 0 {
		t.Fatalf("there is nothing below %s", prefix)
	}
	slices.Sort(out)
	return out
}

// change rewrites a file of the archive.
func change(t testing.TB, path string, f func([]byte) []byte) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	must(t, os.Chmod(path, 0o600))
	must(t, os.WriteFile(path, f(b), 0o600))
}

func flip(b []byte) []byte {
	if len(b) == 0 {
		return []byte{4}
	}
	b[len(b)/2] ^= 4
	return b
}

func cut(b []byte) []byte { return b[:len(b)-len(b)/3] }

// TestWhatCannotBeRestoredIsNamed: each bad input has an exit code of its own, and
// leaves nothing that could be taken for a database.
func TestWhatCannotBeRestoredIsNamed(t *testing.T) {
	w, dir := folder(t, 25)
	_, other := folder(t, 25)
	latest := []string{"--latest", "--epoch", "1"}
	first := w.Lines[1].At(1).Stamp
	for name, x := range map[string]struct {
		code   int
		spoil  func(t *testing.T, dir string)
		target []string
		more   []string
		says   string
	}{
		"future":      {code: pitr.ExitFuture, target: []string{"--target", "2999-01-01T00:00:00Z"}, says: "has not come yet"},
		"before":      {code: pitr.ExitBefore, target: []string{"--target", time.UnixMicro(first - 1).UTC().Format(time.RFC3339Nano)}, says: "recoverable from LSN 1"},
		"after":       {code: pitr.ExitAfter, target: []string{"--target", "2010-01-01T00:00:00Z"}, says: "nearest: --target-lsn"},
		"after, LSN":  {code: pitr.ExitAfter, target: []string{"--target-lsn", "100000"}, says: "after everything"},
		"no line":     {code: pitr.ExitNoLine, target: []string{"--latest", "--epoch", "9"}, says: "[1 2 3]"},
		"instance":    {code: pitr.ExitInstance, target: latest, more: []string{"--instance-id", "01JADE0000000000000000000Z"}, says: "01JADE0000000000000000000Z"},
		"region":      {code: pitr.ExitRegion, target: latest, more: []string{"--region", "mars"}, says: "--allow-cross-region"},
		"no zone":     {code: pitr.ExitUsage, target: []string{"--target", "2010-01-01T00:00:00"}, says: "zone"},
		"no target":   {code: pitr.ExitUsage, says: "--target-lsn"},
		"two targets": {code: pitr.ExitUsage, target: []string{"--latest", "--target-lsn", "4"}, says: "one of"},
		"no archive": {code: pitr.ExitNoArchive, target: latest, says: "instance.json", spoil: func(t *testing.T, dir string) {
			must(t, os.RemoveAll(dir))
			must(t, os.Mkdir(dir, 0o700))
		}},
		"gap": {code: pitr.ExitGap, target: []string{"--epoch", "1", "--target-lsn", "3"}, says: "lacks frames", spoil: func(t *testing.T, dir string) {
			spoilLog(t, dir, os.Remove)
		}},
		"flipped": {code: pitr.ExitDamaged, target: []string{"--epoch", "1", "--target-lsn", "12"}, says: "is damaged", spoil: func(t *testing.T, dir string) {
			spoilLog(t, dir, func(path string) error { change(t, path, flip); return nil })
		}},
		"truncated": {code: pitr.ExitDamaged, target: []string{"--epoch", "1", "--target-lsn", "12"}, says: "is damaged", spoil: func(t *testing.T, dir string) {
			spoilLog(t, dir, func(path string) error { change(t, path, cut); return nil })
		}},
		"foreign object": {code: pitr.ExitForeign, target: []string{"--epoch", "1", "--target-lsn", "12"}, says: "is of instance", spoil: func(t *testing.T, dir string) {
			swapLog(t, dir, other)
		}},
		"missing file": {code: pitr.ExitMissing, target: latest, says: "is not in", spoil: func(t *testing.T, dir string) {
			for _, path := range objectsBelow(t, dir, "objects") {
				must(t, os.Remove(path))
			}
		}},
		"flipped file": {code: pitr.ExitDamaged, target: latest, says: "objects/", spoil: func(t *testing.T, dir string) {
			for _, path := range objectsBelow(t, dir, "objects") {
				change(t, path, flip)
			}
		}},
		"newest epoch unreadable": {code: pitr.ExitDamaged, target: []string{"--latest"}, says: "--epoch", spoil: func(t *testing.T, dir string) {
			change(t, objectsBelow(t, dir, "epochs")[2], flip)
		}},
		"newest epoch missing": {code: pitr.ExitMissing, target: []string{"--latest"}, says: "--epoch", spoil: func(t *testing.T, dir string) {
			must(t, os.Remove(objectsBelow(t, dir, "epochs")[2]))
		}},
		"newer": {code: pitr.ExitNewer, target: latest, says: "format 9", spoil: func(t *testing.T, dir string) {
			for _, path := range objectsBelow(t, dir, "instance.json") {
				change(t, path, func([]byte) []byte {
					sum := sha256.Sum256([]byte(`{"format":9,"check":""}`))
					return fmt.Appendf(nil, `{"format":9,"check":"%x"}`, sum[:8])
				})
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			copied := filepath.Join(t.TempDir(), "archive")
			must(t, os.CopyFS(copied, os.DirFS(dir)))
			if x.spoil != nil {
				x.spoil(t, copied)
			}
			target := filepath.Join(t.TempDir(), "restored")
			args := append([]string{"restore", "--archive", "file://" + copied, "--data-dir", target}, x.target...)
			var doc struct {
				Error string `json:"error"`
				Exit  int    `json:"exit_code"`
			}
			(&cli{t: t}).document(x.code, &doc, append(args, x.more...)...)
			if !strings.Contains(doc.Error, x.says) || doc.Exit != x.code {
				t.Errorf("it says %+v, want %q", doc, x.says)
			}
			if _, err := os.Stat(target); err == nil {
				t.Error("a directory is there")
			}
		})
	}
}

// spoilLog does something to the objects that hold LSN 10 of epoch 1, without which
// the line is reached from its first checkpoint on.
func spoilLog(t testing.TB, dir string, do func(path string) error) {
	t.Helper()
	for _, prefix := range []string{"log/0000000000000001", "tail/0000000000000001"} {
		for _, path := range objectsBelow(t, dir, prefix) {
			if name := filepath.Base(path); name[:16] <= "000000000000000a" && name[17:33] >= "0000000000000003" {
				must(t, do(path))
			}
		}
	}
}

// swapLog puts objects of another archive under this one's names.
func swapLog(t testing.TB, dir, other string) {
	t.Helper()
	theirs, err := os.ReadFile(objectsBelow(t, other, "log/0000000000000001")[0])
	must(t, err)
	spoilLog(t, dir, func(path string) error {
		change(t, path, func([]byte) []byte { return theirs })
		return nil
	})
}

// TestADirectoryThatHoldsSomething is refused, and left alone.
func TestADirectoryThatHoldsSomething(t *testing.T) {
	_, dir := folder(t, 10)
	target := t.TempDir()
	must(t, os.WriteFile(filepath.Join(target, "mine"), []byte("mine"), 0o600))
	code, _, errs := (&cli{t: t}).run("restore", "--archive", "file://"+dir, "--data-dir", target, "--latest")
	if code != pitr.ExitNotEmpty || !strings.Contains(errs, `"mine"`) {
		t.Errorf("exit code %d, %s", code, errs)
	}
	if b, err := os.ReadFile(filepath.Join(target, "mine")); err != nil || string(b) != "mine" {
		t.Errorf("it holds %q, %v", b, err)
	}
	if _, err := os.Stat(target + ".restoring"); err == nil {
		t.Error("something was begun beside it")
	}
}

// TestExpiredCredentials end a restore at once, with their own code.
func TestExpiredCredentials(t *testing.T) {
	_, dir := folder(t, 10)
	denied := objecttest.NewFaulty(object.NewFolder(dir), 1)
	var calls atomic.Int64
	denied.SetHook(objecttest.Hook{Before: func(context.Context, objecttest.Call) error {
		if calls.Add(1) > 20 {
			return object.ErrDenied
		}
		return nil
	}})
	c := &cli{t: t, openers: map[string]object.Opener{"test": func(context.Context, *url.URL) (object.Store, error) { return denied, nil }}}
	target := filepath.Join(t.TempDir(), "restored")
	if code, _, errs := c.run("restore", "--archive", "test://a", "--data-dir", target, "--latest"); code != pitr.ExitDenied || calls.Load() <= 20 {
		t.Errorf("exit code %d after %d calls: %s", code, calls.Load(), errs)
	}
	denied.SetHook(objecttest.Hook{})
	var got struct {
		Verified bool `json:"verified"`
	}
	c.document(pitr.ExitOK, &got, "restore", "--archive", "test://a", "--data-dir", target, "--latest")
	if !got.Verified {
		t.Error("with new credentials it did not go on")
	}
}
