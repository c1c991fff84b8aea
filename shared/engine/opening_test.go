package engine

import (
	"context"
	"testing"

	"originchain/shared/simdisk"
)

// twoStates has a directory whose state is another history's: log and state do not join.
func twoStates(t *testing.T) *simdisk.Disk {
	t.Helper()
	disk := simdisk.New()
	for _, dir := range []string{"data", "other"} {
		cfg := followerConfig()
		cfg.DataDir, cfg.Follower = dir, false
		e, err := Open(context.Background(), cfg, testDeps(disk))
		if err != nil {
			t.Fatal(err)
		}
		n := run(t, e, e.Run)
		n.create()
		n.work(0, 20)
		n.mustClose()
	}
	if err := disk.RemoveAll("data/state"); err != nil {
		t.Fatal(err)
	}
	if err := disk.Rename("other/state", "data/state"); err != nil {
		t.Fatal(err)
	}
	return disk
}

// An opening that fails after the files are open gives everything back, and gives out
// no engine that somebody could go on to use or to close once more.
func TestAnOpeningThatFailsGivesOutNothing(t *testing.T) {
	for name, open := range map[string]func(Config, Deps) (*Engine, error){
		"writer":   func(cfg Config, deps Deps) (*Engine, error) { return Open(context.Background(), cfg, deps) },
		"follower": OpenFollower,
	} {
		t.Run(name, func(t *testing.T) {
			deps := testDeps(twoStates(t))
			cfg := followerConfig()
			cfg.Follower = name == "follower"
			for range 2 { // the second meets no lock of the first
				if e, err := open(cfg, deps); e != nil || err == nil {
					t.Fatalf("an engine: %v, and the error %v", e != nil, err)
				}
			}
		})
	}
}
