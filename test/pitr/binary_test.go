package pitr

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/scripts/oc-pitr/pitr"
	"originchain/shared/aws/s3object"
	"originchain/shared/aws/s3object/s3test"
	"originchain/shared/datadir"
	"originchain/shared/object"
)

// built builds the program as it is shipped.
func built(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "oc-pitr")
	if out, err := exec.Command("go", "build", "-o", path, "originchain/scripts/oc-pitr").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

// refused runs the program, which must end with a code, say something and make nothing
// that could be taken for a database.
func refused(t *testing.T, binary string, env []string, code int, says, target string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, append(args, "--data-dir", target)...)
	cmd.Env = append(os.Environ(), env...)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code || !strings.Contains(errs.String(), says) {
		t.Errorf("%v: exit code %d, want %d and %q:\n%s", args, got, code, says, &errs)
	}
	for _, dir := range []string{target, target + ".restoring"} {
		if d, err := datadir.OpenExisting(vfs.Default, dir); err == nil {
			t.Errorf("%v: a server would open %s, %v", args, dir, d.Close())
		}
	}
}

// tree is what stands in a directory.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		_, _ = fmt.Fprintf(&b, "%s %x\n", path, content)
		return err
	})
	must(t, err)
	return b.String()
}

// TestTheProgramRefusesBadInput: the real one, by its exit code; the archive stays as it
// is.
func TestTheProgramRefusesBadInput(t *testing.T) {
	binary := built(t)
	_, dir := folder(t, 15)
	_, other := folder(t, 15)
	latest := []string{"--latest", "--epoch", "2"}
	first := []string{"--epoch", "1", "--target-lsn", "12"}
	each := func(prefix string, do func(path string)) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			for _, path := range objectsBelow(t, dir, prefix) {
				do(path)
			}
		}
	}
	for name, x := range map[string]struct {
		code   int
		says   string
		target []string
		spoil  func(t *testing.T, dir string)
	}{
		"future":           {pitr.ExitFuture, "has not come yet", []string{"--target", "2999-01-01T00:00:00Z"}, nil},
		"before":           {pitr.ExitBefore, "--target-lsn 1 ", []string{"--target", "1999-01-01T00:00:00Z"}, nil},
		"gap":              {pitr.ExitGap, "lacks frames", []string{"--epoch", "1", "--target-lsn", "3"}, func(t *testing.T, dir string) { spoilLog(t, dir, os.Remove) }},
		"another instance": {pitr.ExitInstance, "01JADE0000000000000000000Z", append([]string{"--instance-id", "01JADE0000000000000000000Z"}, latest...), nil},
		"truncated log": {pitr.ExitDamaged, "is damaged", first, func(t *testing.T, dir string) {
			spoilLog(t, dir, func(path string) error { change(t, path, cut); return nil })
		}},
		"flipped log": {pitr.ExitDamaged, "is damaged", first, func(t *testing.T, dir string) {
			spoilLog(t, dir, func(path string) error { change(t, path, flip); return nil })
		}},
		"foreign log":    {pitr.ExitForeign, "is of instance", first, func(t *testing.T, dir string) { swapLog(t, dir, other) }},
		"truncated file": {pitr.ExitDamaged, "objects/", latest, each("objects", func(path string) { change(t, path, cut) })},
		"flipped file":   {pitr.ExitDamaged, "objects/", latest, each("objects", func(path string) { change(t, path, flip) })},
		"missing file":   {pitr.ExitMissing, "is not in", latest, each("objects", func(path string) { must(t, os.Remove(path)) })},
	} {
		t.Run(name, func(t *testing.T) {
			copied := filepath.Join(t.TempDir(), "archive")
			must(t, os.CopyFS(copied, os.DirFS(dir)))
			if x.spoil != nil {
				x.spoil(t, copied)
			}
			before := tree(t, copied)
			url := "file://" + copied
			refused(t, binary, nil, x.code, x.says, filepath.Join(t.TempDir(), "restored"), append([]string{"restore", "--archive", url}, x.target...)...)
			refused(t, binary, nil, x.code, x.says, filepath.Join(t.TempDir(), "scratch"), append([]string{"verify", "--mode", "full", "--archive", url}, x.target...)...)
			refused(t, binary, nil, x.code, x.says, filepath.Join(t.TempDir(), "scratch"), append([]string{"verify", "--mode", "streaming", "--archive", url}, x.target...)...)
			if tree(t, copied) != before {
				t.Error("the archive was changed")
			}
		})
	}
	t.Run("not empty", func(t *testing.T) {
		target := t.TempDir()
		must(t, os.WriteFile(filepath.Join(target, "mine"), []byte("mine"), 0o600))
		before := tree(t, target)
		for _, args := range [][]string{{"restore", "--latest"}, {"verify"}, {"verify", "--mode", "streaming"}} {
			refused(t, binary, nil, pitr.ExitNotEmpty, `"mine"`, target, append(args, "--archive", "file://"+dir)...)
		}
		if tree(t, target) != before {
			t.Error("it was changed")
		}
	})
}

// TestTheProgramWithCredentialsThatAreNoneAnyMore, and a bucket that is none, at an S3.
func TestTheProgramWithCredentialsThatAreNoneAnyMore(t *testing.T) {
	binary := built(t)
	_, dir := folder(t, 10)
	url := s3test.NewBucket(t, true).URL("some/prefix")
	s3, err := object.Open(t.Context(), url, map[string]object.Opener{"s3": s3object.Open})
	must(t, err)
	copyObjects(t, s3, object.NewFolder(dir))
	for name, env := range map[string][]string{
		"a key that is gone": {"AWS_ACCESS_KEY_ID=AKIAGONE"},
		"another secret":     {"AWS_SECRET_ACCESS_KEY=another"},
	} {
		for _, args := range [][]string{{"restore", "--latest"}, {"restore", "--latest", "--dry-run"}, {"verify", "--mode", "streaming"}, {"list"}} {
			t.Run(name+" "+strings.Join(args, " "), func(t *testing.T) {
				refused(t, binary, env, pitr.ExitDenied, "denied", filepath.Join(t.TempDir(), "restored"), append(args, "--archive", url)...)
			})
		}
	}
}
