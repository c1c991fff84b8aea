package engine

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"originchain/shared/simdisk"
	"originchain/shared/table"
)

// TestACheckpointThatACrashCutShortIsCleared: its hard links would hold tables
// that the state has long compacted away.
func TestACheckpointThatACrashCutShortIsCleared(t *testing.T) {
	disk := simdisk.New()
	n := start(t, disk)
	n.create()
	n.fill(50)
	if err := n.store.Checkpoint(n.deps.FS.PathJoin(n.dir.Checkpoints(), "0000000000000007.tmp")); err != nil {
		t.Fatal(err)
	}
	n.mustClose()
	n = start(t, disk.KillClone())
	defer n.mustClose()
	n.fill(50)
	if err := n.checkpoint(); err != nil {
		t.Fatal(err)
	}
	if names := n.checkpointNames(); len(names) != 1 || strings.HasSuffix(names[0], checkpointTemp) {
		t.Errorf("checkpoints %q", names)
	}
}

// TestACheckpointIsNeverHalfThere: whatever a crash leaves under the name of a
// checkpoint can be opened, also while an older one is taken away.
func TestACheckpointIsNeverHalfThere(t *testing.T) {
	disk := simdisk.New()
	n := start(t, disk)
	defer n.mustClose()
	n.create()
	for range keptCheckpoints {
		n.fill(20)
		if err := n.checkpoint(); err != nil {
			t.Fatal(err)
		}
	}
	n.fill(20)
	var left []*simdisk.Disk
	disk.OnCall(func(_ int, c simdisk.Call, freeze func() *simdisk.Disk) {
		if strings.HasPrefix(c.Path, "/data/checkpoints") {
			left = append(left, freeze())
		}
	})
	if err := n.checkpoint(); err != nil {
		t.Fatal(err)
	}
	disk.OnCall(nil)
	if names := n.checkpointNames(); len(names) != keptCheckpoints {
		t.Errorf("checkpoints %q", names)
	}
	if len(left) < 10 {
		t.Fatalf("%d places to crash in", len(left))
	}
	for i, d := range left {
		for seed := range uint64(4) {
			crash := fmt.Sprintf("crash at %d, seed %d", i, seed)
			openCheckpoints(t, crash, d.CrashClone(rand.New(rand.NewPCG(seed, 3)), simdisk.AnyNames))
		}
	}
}

func openCheckpoints(t *testing.T, crash string, disk *simdisk.Disk) {
	t.Helper()
	const dir = "data/checkpoints"
	names, err := disk.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if strings.HasSuffix(name, checkpointTemp) {
			continue
		}
		s, err := table.Open(table.Options{FS: disk, Dir: disk.PathJoin(dir, name), Log: testDeps(disk).Log, ReadOnly: true})
		if err != nil {
			t.Errorf("%s: checkpoint %s of %d: %v", crash, name, len(names), err)
			continue
		}
		if a, err := s.Applied(); err != nil || fmt.Sprintf("%016x", uint64(a.Pos.LSN)) < name {
			t.Errorf("%s: checkpoint %s stands at %d, %v", crash, name, a.Pos.LSN, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func (n *node) checkpointNames() []string {
	n.t.Helper()
	names, err := n.deps.FS.List(n.dir.Checkpoints())
	if err != nil {
		n.t.Fatal(err)
	}
	return names
}
