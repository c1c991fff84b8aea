package datadir_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"originchain/shared/datadir"
	"originchain/shared/simdisk"
)

const path = "/srv/node/data"

func open(t *testing.T, d *simdisk.Disk) datadir.Identity {
	t.Helper()
	dir, err := datadir.Open(datadir.Options{FS: d, Path: path})
	if err != nil {
		t.Fatal(err)
	}
	id := dir.Identity()
	if err := dir.Close(); err != nil {
		t.Fatal(err)
	}
	return id
}

// TestAStartThatIsCutShortIsTakenUp loses power before every call of the first
// start: the next one must succeed, and stay the same instance.
func TestAStartThatIsCutShortIsTakenUp(t *testing.T) {
	var cuts []*simdisk.Disk
	d := simdisk.New()
	d.OnCall(func(_ int, _ simdisk.Call, freeze func() *simdisk.Disk) { cuts = append(cuts, freeze()) })
	open(t, d)
	d.OnCall(nil)
	if len(cuts) < 8 {
		t.Fatalf("only %d calls", len(cuts))
	}
	for n, cut := range cuts {
		for seed := range uint64(4) {
			after := cut.CrashClone(rand.New(rand.NewPCG(seed, uint64(n))))
			if first, second := open(t, after), open(t, after); first.InstanceID != second.InstanceID {
				t.Fatalf("cut %d, seed %d: instance %s, then %s", n+1, seed, first.InstanceID, second.InstanceID)
			}
		}
	}
}

// TestTheDirectoryItselfSurvives: once open, no crash may take the directory's
// own name or its parents', not even if a start before this one was killed
// between making and syncing them.
func TestTheDirectoryItselfSurvives(t *testing.T) {
	killed := simdisk.New()
	if err := killed.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, d := range map[string]*simdisk.Disk{"fresh": simdisk.New(), "after a kill": killed.KillClone()} {
		want := open(t, d)
		for seed := range uint64(8) {
			after := d.CrashClone(rand.New(rand.NewPCG(seed, 1)), simdisk.AnyNames)
			if got := open(t, after); got.InstanceID != want.InstanceID {
				t.Errorf("%s, seed %d: instance %s came back as %s", name, seed, want.InstanceID, got.InstanceID)
			}
		}
	}
}

func TestAPartWithoutAnIdentityIsNotTakenOver(t *testing.T) {
	d := simdisk.New()
	open(t, d)
	f, err := d.Create(path+"/log/0000000000000001.log", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(path + "/instance.json"); err != nil {
		t.Fatal(err)
	}
	if _, err := datadir.Open(datadir.Options{FS: d, Path: path}); !errors.Is(err, datadir.ErrForeign) {
		t.Fatalf("a log without an identity: got %v", err)
	}
}
