package datadir_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/datadir"
	"originchain/shared/durable"
	"originchain/shared/simdisk"
)

// toReplace is a disk with a data directory whose log, state and checkpoints say
// "old", and a next state that says "new".
func toReplace(t *testing.T) *simdisk.Disk {
	t.Helper()
	d := simdisk.New()
	dir, err := datadir.Open(datadir.Options{FS: d, Path: "/data"})
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []struct{ path, text string }{
		{dir.State(), "old"}, {dir.Log(), "old"}, {dir.Checkpoints(), "old"}, {dir.NextState(), "new"},
	} {
		err := errors.Join(d.MkdirAll(at.path, 0o700), write(d, at.path+"/file", at.text), durable.SyncDir(d, at.path))
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(durable.SyncDir(d, "/data"), dir.Close()); err != nil {
		t.Fatal(err)
	}
	return d
}

func write(d *simdisk.Disk, path, text string) error {
	f, err := d.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	_, err = f.Write([]byte(text))
	return errors.Join(err, f.Sync(), f.Close())
}

// mounted makes the log's directory a mount point, as it is on EC2: a disk of its own.
func mounted(d *simdisk.Disk) *simdisk.Disk {
	d.Inject(simdisk.Fault{Ops: simdisk.OpRename | simdisk.OpRemove, Path: "/data/log", Forever: true, Err: syscall.EBUSY})
	return d
}

// replace opens the directory and puts the next state in its place.
func replace(d *simdisk.Disk, dropLog bool) (*datadir.Dir, error) {
	dir, err := datadir.Open(datadir.Options{FS: d, Path: "/data"})
	if err != nil {
		return nil, err
	}
	return dir, dir.Replace(dropLog)
}

// holds is what the parts of a directory say, "" for one that is empty.
func holds(t *testing.T, d *simdisk.Disk, dir *datadir.Dir) [3]string {
	t.Helper()
	var out [3]string
	for i, path := range []string{dir.State(), dir.Log(), dir.Checkpoints()} {
		names, err := d.List(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(names) == 0 {
			continue
		}
		b, err := d.ReadFile(path + "/file")
		if err != nil {
			t.Fatal(err)
		}
		out[i] = string(b)
	}
	return out
}

// A replacement that a crash cuts short anywhere has happened whole, or not at
// all, once the directory is open again; one that was reported has happened.
func TestAReplacementIsWholeOrNothing(t *testing.T) {
	for dropLog, want := range map[bool][3]string{false: {"new", "old", "old"}, true: {"new", "", ""}} {
		base := toReplace(t)
		points := 0
		for n, finished := 0, false; !finished; n++ {
			for seed := range uint64(8) {
				finished = crashInReplacement(t, base, dropLog, n, seed, want)
				points++
			}
		}
		if points < 100 {
			t.Errorf("only %d crash points", points)
		}
	}
}

// crashInReplacement reports whether the replacement got by without the crash.
func crashInReplacement(t *testing.T, base *simdisk.Disk, dropLog bool, n int, seed uint64, want [3]string) (finished bool) {
	t.Helper()
	d := mounted(base.KillClone())
	d.CrashAfter(n)
	_, err := replace(d, dropLog)
	finished = err == nil && !d.Crashed()
	after := mounted(d.CrashClone(rand.New(rand.NewPCG(seed, uint64(n))), simdisk.AnyNames))
	dir, err := datadir.Open(datadir.Options{FS: after, Path: "/data"})
	if err != nil {
		t.Fatalf("drop log %t, crash after %d: %v", dropLog, n, err)
	}
	got := holds(t, after, dir)
	if got != want && (got != [3]string{"old", "old", "old"} || finished) {
		t.Fatalf("drop log %t, crash after %d, seed %d: %q (finished: %t)", dropLog, n, seed, got, finished)
	}
	leftovers(t, after, got == want)
	return finished
}

func leftovers(t *testing.T, d *simdisk.Disk, replaced bool) {
	t.Helper()
	names, err := d.List("/data")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"state.old", "log.old", "replace.json"} {
		if slices.Contains(names, n) {
			t.Fatalf("%s is left over: %q", n, names)
		}
	}
	if slices.Contains(names, "state.next") == replaced {
		t.Fatalf("replaced: %t, and there are %q", replaced, names)
	}
}

// A state can be replaced again: nothing of the first time is taken for the second's.
func TestAStateIsReplacedTwice(t *testing.T) {
	d := toReplace(t)
	dir, err := replace(d, true)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir.NextState(), dir.Log()} {
		if err := errors.Join(d.MkdirAll(path, 0o700), write(d, path+"/file", "newer")); err != nil {
			t.Fatal(err)
		}
	}
	if err := dir.Replace(false); err != nil {
		t.Fatal(err)
	}
	if got, want := holds(t, d, dir), [3]string{"newer", "newer", ""}; got != want {
		t.Errorf("%q", got)
	}
}
