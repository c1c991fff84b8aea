package datadir_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/oklog/ulid/v2"

	"originchain/shared/datadir"
	"originchain/shared/lsn"
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

// A directory that a follower made belongs to no instance until its leader says
// which; a writer that is started on it makes it one of its own.
func TestAFollowersDirectoryIsClaimed(t *testing.T) {
	for _, role := range []string{"follower", "writer"} {
		d := simdisk.New()
		dir, err := datadir.Open(datadir.Options{FS: d, Path: "/data", Follower: true})
		if err != nil {
			t.Fatal(err)
		}
		if id := dir.Identity(); !id.Unclaimed || !id.InstanceID.IsZero() || id.NodeID == "" {
			t.Fatalf("%+v", id)
		}
		theirs := ulid.MustParse("01J0000000000000000000000Z")
		if role == "follower" {
			if err := errors.Join(dir.Claim(theirs), dir.Claim(theirs)); err != nil {
				t.Fatal(err)
			}
			if err := dir.Claim(ulid.MustParse("01J0000000000000000000000Y")); !errors.Is(err, datadir.ErrForeign) {
				t.Errorf("claimed by another: %v", err)
			}
		}
		if err := dir.Close(); err != nil {
			t.Fatal(err)
		}
		if dir, err = datadir.Open(datadir.Options{FS: d, Path: "/data", Follower: role == "follower"}); err != nil {
			t.Fatal(err)
		}
		if id := dir.Identity(); id.Unclaimed || id.InstanceID.IsZero() || (id.InstanceID == theirs) != (role == "follower") {
			t.Errorf("%s: %+v", role, id)
		}
	}
}

// A leader of a lower epoch than one accepted is stale, also
// after a restart.
func TestAStaleLeaderIsNotAccepted(t *testing.T) {
	d := simdisk.New()
	for _, step := range []struct {
		epoch lsn.Epoch
		stale bool
	}{{5, false}, {5, false}, {4, true}, {7, false}, {6, true}} {
		dir, err := datadir.Open(datadir.Options{FS: d, Path: "/data"})
		if err != nil {
			t.Fatal(err)
		}
		if err := dir.AcceptEpoch(step.epoch); errors.Is(err, datadir.ErrStaleLeader) != step.stale || (err != nil && !step.stale) {
			t.Errorf("epoch %d: %v", step.epoch, err)
		}
		if err := dir.Close(); err != nil {
			t.Fatal(err)
		}
	}
	dir, err := datadir.Open(datadir.Options{FS: d, Path: "/data"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := dir.AllotEpoch(0); err != nil || got != 8 {
		t.Errorf("the next own epoch is %d: %v", got, err)
	}
	// It may have come to nothing: the leader of before is none the worse for it.
	if err := dir.AcceptEpoch(7); err != nil {
		t.Errorf("the leader of before: %v", err)
	}
	// One that was allotted elsewhere is kept if it is above all of them, once.
	for _, step := range []struct {
		epoch lsn.Epoch
		ok    bool
	}{{8, false}, {7, false}, {11, true}, {11, false}} {
		if err := dir.AdoptEpoch(step.epoch); (err == nil) != step.ok {
			t.Errorf("adopt epoch %d: %v", step.epoch, err)
		}
	}
	if got, err := dir.AllotEpoch(0); err != nil || got != 12 {
		t.Errorf("the own epoch behind one that was adopted is %d: %v", got, err)
	}
}
