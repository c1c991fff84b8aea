package engine

import (
	"context"
	"errors"
	"testing"

	"github.com/oklog/ulid/v2"

	"originchain/shared/datadir"
	"originchain/shared/lsn"
	"originchain/shared/simdisk"
)

// A directory that was made for a new instance, of which there is one already, can
// become a follower of that one. One with a frame in it stays what it is.
func TestADirectoryWithoutHistoryIsNobodysWhenItIsRefused(t *testing.T) {
	refused := errors.New("another node is the writer")
	disk := simdisk.New()
	cfg := followerConfig()
	cfg.Follower, cfg.InstanceID = false, ""
	deps := testDeps(disk)
	deps.MayOpen = func(_ context.Context, who datadir.Identity, last lsn.Pos) error {
		if who.InstanceID.IsZero() || last.LSN != 0 {
			t.Errorf("asked for %+v at %s", who, last)
		}
		return refused
	}
	if _, err := Open(t.Context(), cfg, deps); !errors.Is(err, refused) {
		t.Fatal(err)
	}
	follow := cfg
	follow.Follower = true
	if _, err := OpenFollower(follow, testDeps(disk)); !errors.Is(err, ErrUnclaimed) {
		t.Fatalf("after the refusal: %v", err)
	}
	id := ulid.MustParse("01JADE00000000000000000042")
	dir, err := datadir.Open(datadir.Options{FS: disk, Path: cfg.DataDir, NodeID: cfg.NodeID, Follower: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(dir.Claim(id), dir.Close()); err != nil {
		t.Fatal(err)
	}
	e, err := OpenFollower(follow, testDeps(disk))
	if err != nil || e.Identity().InstanceID != id {
		t.Fatalf("%v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}

	disk = simdisk.New()
	deps = testDeps(disk)
	e, err = Open(t.Context(), cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	own := e.Identity().InstanceID
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	deps.MayOpen = func(context.Context, datadir.Identity, lsn.Pos) error { return refused }
	if _, err := Open(t.Context(), cfg, deps); !errors.Is(err, refused) {
		t.Fatal(err)
	}
	if e, err = OpenFollower(follow, testDeps(disk)); err != nil || e.Identity().InstanceID != own {
		t.Fatalf("a directory with a frame in it: %v", err)
	}
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}
