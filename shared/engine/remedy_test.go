package engine

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	recovery "originchain/shared/recover"
	"originchain/shared/rows"
	"originchain/shared/simdisk"
)

// TestAStateIsRebuiltFromALocalCheckpoint does what the error of a lost state
// says, after the log has been trimmed.
func TestAStateIsRebuiltFromALocalCheckpoint(t *testing.T) {
	disk := simdisk.New()
	n := start(t, disk)
	n.create()
	const count = 600
	for i := range int64(count) {
		if _, err := n.put(i, fmt.Sprint("item ", i, " with some text to fill segments"), rows.Any()); err != nil {
			t.Fatal(err)
		}
	}
	n.mustClose()
	if n.Log().FirstLSN() == 1 {
		t.Fatal("the log was not trimmed; the test proves nothing")
	}
	if err := disk.RemoveAll("data/state"); err != nil {
		t.Fatal(err)
	}
	_, err := Open(context.Background(), testConfig(), testDeps(disk))
	var mismatch *recovery.MismatchError
	if !errors.As(err, &mismatch) {
		t.Fatalf("a lost state: %v", err)
	}
	copies, err := disk.List("data/checkpoints")
	if err != nil || len(copies) != keptCheckpoints {
		t.Fatalf("checkpoints %v, %v", copies, err)
	}
	newest := max(copies[0], copies[1])
	if err := disk.RemoveAll("data/state"); err != nil {
		t.Fatal(err)
	}
	if ok, err := vfs.Clone(disk, disk, "data/checkpoints/"+newest, "data/state"); !ok || err != nil {
		t.Fatal(ok, err)
	}
	n = start(t, disk)
	defer n.mustClose()
	for i := range int64(count) {
		if _, ok := n.name(i); !ok {
			t.Fatalf("row %d is lost", i)
		}
	}
	n.verify()
}
