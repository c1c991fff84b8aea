package pitr

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/scripts/oc-pitr/pitr"
	"originchain/shared/datadir"
	"originchain/shared/object"
	"originchain/shared/purge"
	"originchain/shared/restore"
)

// leftovers lists what is in a directory.
func leftovers(t testing.TB, dir string) (out []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

// killedScratch is what a kill leaves of a command's scratch.
func killedScratch(t testing.TB, dir string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Join(dir, "data", "state-1-1"), 0o700))
	for _, name := range []string{"LOCK", filepath.Join("data", "state-1-1", "000004.sst")} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("rows"), 0o600))
	}
}

// TestAPurgeLeavesNoScratch: rows that a killed run has left on the disk are removed by
// the next one, wherever scratch is, and what is in use is not.
func TestAPurgeLeavesNoScratch(t *testing.T) {
	dir := t.TempDir()
	bubble(t, func(t *testing.T) { Subjects(t, object.NewFolder(dir)) })
	c := &cli{t: t}
	args := []string{"purge", "--archive", "file://" + dir, "--tenant", tenant.String(), "--schema", "shop.items", "--pk", "1000", "--dry-run"}
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	killedScratch(t, filepath.Join(tmp, "oc-pitr-scratch-1"))
	killedScratch(t, filepath.Join(tmp, "oc-pitr-scratch-2"))
	must(t, os.Symlink(dir, filepath.Join(tmp, "oc-pitr-scratch-3")))
	inUse, err := vfs.Default.Lock(filepath.Join(tmp, "oc-pitr-scratch-2", "LOCK"))
	must(t, err)
	code, _, errs := c.run(args...)
	if got := leftovers(t, tmp); code != pitr.ExitOK || len(got) != 2 || got[0] != "oc-pitr-scratch-2" || got[1] != "oc-pitr-scratch-3" || !strings.Contains(errs, "oc-pitr-scratch-1") {
		t.Errorf("exit code %d, left are %v: %s", code, got, errs)
	}
	must(t, inUse.Close())
	// In a directory that was named the same command goes on.
	scratch := filepath.Join(t.TempDir(), "scratch")
	killedScratch(t, filepath.Join(scratch, "oc-pitr-scratch"))
	var plan purge.Plan
	c.document(pitr.ExitOK, &plan, append(args, "--data-dir", scratch)...)
	if got := leftovers(t, scratch); plan.Frames == 0 || len(got) != 0 {
		t.Errorf("planned %+v, left are %v", plan, got)
	}
	killedScratch(t, filepath.Join(scratch, "oc-pitr-scratch"))
	if inUse, err = vfs.Default.Lock(filepath.Join(scratch, "oc-pitr-scratch", "LOCK")); err != nil {
		t.Fatal(err)
	}
	c.document(pitr.ExitBusy, &struct{}{}, append(args, "--data-dir", scratch)...)
	must(t, inUse.Close())
}

// TestOnlyOwnScratchIsSwept: where all users may make a directory of that name, a lock
// that is a link to a file would have that file emptied, and another user's directory is
// that user's.
func TestOnlyOwnScratchIsSwept(t *testing.T) {
	_, dir := folder(t, 5)
	tmp, precious := t.TempDir(), filepath.Join(t.TempDir(), "precious")
	t.Setenv("TMPDIR", tmp)
	must(t, os.WriteFile(precious, []byte("precious"), 0o600))
	planted := filepath.Join(tmp, "oc-pitr-scratch-planted")
	must(t, os.Mkdir(planted, 0o700))
	must(t, os.Symlink(precious, filepath.Join(planted, "LOCK")))
	want := []string{"oc-pitr-scratch-planted"}
	if os.Getuid() == 0 { // who else may give a directory away
		theirs := filepath.Join(tmp, "oc-pitr-scratch-theirs")
		killedScratch(t, theirs)
		must(t, os.Chown(theirs, 65534, 65534))
		want = append(want, "oc-pitr-scratch-theirs")
	}
	c := &cli{t: t}
	c.document(pitr.ExitFaults, &struct{}{}, "verify", "--archive", "file://"+dir)
	if b, err := os.ReadFile(precious); err != nil || string(b) != "precious" {
		t.Errorf("the file that the lock leads to has %q, %v", b, err)
	}
	if got := leftovers(t, tmp); !slices.Equal(got, want) {
		t.Errorf("left are %v, want %v", got, want)
	}
}

// TestAVerificationTakesNothingOver: neither goes it on with a restore that was begun for
// the directory, nor does it leave anything beside it when it fails.
func TestAVerificationTakesNothingOver(t *testing.T) {
	w, dir := folder(t, 20)
	root := t.TempDir()
	target := filepath.Join(root, "restored")
	stopped, cancel := context.WithCancel(t.Context())
	_, err := restore.Run(stopped, restore.Options{
		Store: object.NewFolder(dir), Request: restore.Request{LSN: 12, Epoch: 1}, FS: vfs.Default, DataDir: target,
		Begin: func(name, _ string, _ int64) (func(int64), func()) {
			if name == "scan" {
				cancel()
			}
			return func(int64) {}, func() {}
		},
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	point := []string{"--archive", "file://" + dir, "--epoch", "1", "--target-lsn", "12", "--data-dir", target}
	c := &cli{t: t}
	c.document(pitr.ExitFaults, &struct{}{}, append([]string{"verify"}, point...)...)
	if got := leftovers(t, root); len(got) != 1 || got[0] != "restored.restoring" {
		t.Errorf("left are %v", got)
	}
	var got restore.Result
	c.document(pitr.ExitOK, &got, append([]string{"restore"}, point...)...)
	sameState(t, w.Lines[1], 12, &got)
	if got.BytesFetched > 0 {
		t.Errorf("it did not go on: %+v", got)
	}
	root = t.TempDir()
	for _, path := range objectsBelow(t, dir, "objects") {
		change(t, path, flip)
	}
	c.document(pitr.ExitDamaged, &struct{}{}, "verify", "--archive", "file://"+dir, "--data-dir", filepath.Join(root, "scratch"))
	if got := leftovers(t, root); len(got) != 0 {
		t.Errorf("left are %v", got)
	}
}

// TestARestoreIntoTheWorkingDirectory has its unfinished work beside it, as any other.
func TestARestoreIntoTheWorkingDirectory(t *testing.T) {
	w, dir := folder(t, 20)
	c := &cli{t: t}
	for _, name := range []string{".", "sub/.."} {
		target := filepath.Join(t.TempDir(), "restored")
		must(t, os.Mkdir(target, 0o700))
		t.Chdir(target)
		var got restore.Result
		c.document(pitr.ExitOK, &got, "restore", "--archive", "file://"+dir, "--latest", "--data-dir", name)
		sameState(t, w.Lines[3], w.Lines[3].Last(), &got)
		if r, err := datadir.RestoredIn(vfs.Default, target); err != nil || r == nil {
			t.Errorf("restored into %s: %+v, %v", name, r, err)
		}
		if got := leftovers(t, filepath.Dir(target)); len(got) != 1 {
			t.Errorf("left are %v", got)
		}
	}
}

// TestARestoreThroughALink is made where the link leads, as what is unfinished is: the
// disk behind it was chosen for it, and the link stays.
func TestARestoreThroughALink(t *testing.T) {
	w, dir := folder(t, 20)
	c := &cli{t: t}
	root := t.TempDir()
	there, link := filepath.Join(root, "disk", "restored"), filepath.Join(root, "link")
	must(t, os.MkdirAll(there, 0o700))
	must(t, os.Symlink(there, link))
	var got restore.Result
	c.document(pitr.ExitOK, &got, "restore", "--archive", "file://"+dir, "--latest", "--data-dir", link)
	sameState(t, w.Lines[3], w.Lines[3].Last(), &got)
	if to, err := os.Readlink(link); err != nil || to != there {
		t.Errorf("the link leads to %q, %v", to, err)
	}
	if r, err := datadir.RestoredIn(vfs.Default, there); err != nil || r == nil || got.DataDir != there {
		t.Errorf("restored into %s: %+v, %v", got.DataDir, r, err)
	}
	must(t, os.RemoveAll(there))
	code, _, says := c.run("restore", "--archive", "file://"+dir, "--latest", "--data-dir", link+"/")
	if code != pitr.ExitUsage || !strings.Contains(says, link) {
		t.Errorf("a link that leads nowhere: %d, %s", code, says)
	}
	if got := leftovers(t, root); len(got) != 2 {
		t.Errorf("left are %v", got)
	}
}
