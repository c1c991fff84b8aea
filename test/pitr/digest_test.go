package pitr

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/scripts/oc-pitr/pitr"
	"originchain/shared/datadir"
	"originchain/shared/object"
	"originchain/shared/restore"
	"originchain/shared/simdisk"
)

// TestAWrongStateIsNeverVerified: a checkpoint whose files are as its manifest says, and
// whose state is not what the log makes, is refused; an operator may take it as it is,
// and that is told and recorded.
func TestAWrongStateIsNeverVerified(t *testing.T) {
	dir := t.TempDir()
	var h History
	bubble(t, func(t *testing.T) {
		disk := simdisk.New()
		n := Begin(t, disk, object.NewFolder(dir), "data", 1, nil, Straight)
		n.Create()
		n.Write(10)
		n.checkpoint(func(copied string) { stray(t, disk, copied) })
		n.Write(10)
		n.End()
		h = n.Lived
	})
	c := &cli{t: t}
	target := filepath.Join(t.TempDir(), "restored")
	args := []string{"restore", "--archive", "file://" + dir, "--data-dir", target, "--latest"}
	var refused struct{ Error string }
	c.document(pitr.ExitDigest, &refused, args...)
	if _, err := os.Stat(target); err == nil || !strings.Contains(refused.Error, "--accept-digest-mismatch") {
		t.Errorf("it says %q, %v", refused.Error, err)
	}
	var verified struct{ OK bool }
	c.document(pitr.ExitDigest, &verified, "verify", "--archive", "file://"+dir)
	var got restore.Result
	c.document(pitr.ExitOK, &got, append(args, "--accept-digest-mismatch")...)
	if got.Verified || got.Mismatch == nil || got.Mismatch.Want != h.At(h.Last()).Digest.String() || got.LSN != h.Last() {
		t.Errorf("restored %+v", got)
	}
	d, err := datadir.OpenExisting(vfs.Default, target)
	must(t, err)
	r, err := d.Restored()
	must(t, err)
	if r.Mismatch == nil || *r.Mismatch != *got.Mismatch {
		t.Errorf("the directory says %+v", r)
	}
	must(t, d.Close())
	// Before the checkpoint all is well.
	c.document(pitr.ExitOK, &got, "restore", "--archive", "file://"+dir, "--data-dir", target+"-before", "--target-lsn", "8")
	sameState(t, h, 8, &got)
}
