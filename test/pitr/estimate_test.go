package pitr

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/scripts/oc-pitr/pitr"
	"originchain/shared/lsn"
	"originchain/shared/object"
	"originchain/shared/restore"
)

// estimated is an estimate of a restore to a point.
func estimated(t *testing.T, dir, to string, req restore.Request) *restore.Estimate {
	t.Helper()
	store := object.NewFolder(dir)
	p, err := restore.MakePlan(t.Context(), store, req)
	must(t, err)
	e, err := restore.Probe(t.Context(), store, p, restore.ProbeOptions{FS: vfs.Default, DataDir: to})
	must(t, err)
	return e
}

// TestAnEstimateCountsEachPhase of a restore: with a checkpoint and log, with a
// checkpoint alone, with log alone. Nothing is left behind.
func TestAnEstimateCountsEachPhase(t *testing.T) {
	w, dir := folder(t, 25)
	at := w.Checkpoints[2][0]
	for name, x := range map[string]struct {
		lsn             lsn.LSN
		checkpoint, log bool
	}{"both": {at + 3, true, true}, "checkpoint": {at, true, false}, "log": {w.Checkpoints[1][0] - 1, false, true}} {
		t.Run(name, func(t *testing.T) {
			above := t.TempDir()
			e := estimated(t, dir, filepath.Join(above, "not", "there", "yet"), restore.Request{Epoch: 2, LSN: x.lsn})
			ph := &e.Phases
			if (ph.Checkpoint > 0) != x.checkpoint || (ph.Replay > 0) != x.log || (ph.Flush > 0) != x.log || ph.Scan <= 0 || ph.Finish <= 0 {
				t.Errorf("the phases are %+v", ph)
			}
			if sum := ph.Plan + ph.Checkpoint + ph.Replay + ph.Flush + ph.Scan + ph.Finish; math.Abs(sum-e.Seconds) > 1e-9 || e.ProbeBytes == 0 || e.FetchBytesPerSecond <= 0 || e.NoDisk != "" {
				t.Errorf("the phases add up to %v: %+v", sum, e)
			}
			if names, err := os.ReadDir(above); err != nil || len(names) != 0 {
				t.Errorf("it has left %v, %v", names, err)
			}
		})
	}
}

// TestAnEstimateWithoutADiskSaysSo.
func TestAnEstimateWithoutADiskSaysSo(t *testing.T) {
	_, dir := folder(t, 10)
	if e := estimated(t, dir, "", restore.Request{Latest: true}); e.NoDisk == "" || e.Seconds <= 0 {
		t.Errorf("estimated %+v", e)
	}
	c := &cli{t: t}
	var doc struct {
		Estimate restore.Estimate `json:"estimate"`
	}
	args := []string{"restore", "--archive", "file://" + dir, "--latest", "--dry-run"}
	c.document(pitr.ExitOK, &doc, args...)
	if doc.Estimate.NoDisk == "" {
		t.Errorf("estimated %+v", doc.Estimate)
	}
	if c.document(pitr.ExitOK, &doc, append(slices.Clone(args), "--data-dir", filepath.Join(t.TempDir(), "d"))...); doc.Estimate.Phases.Scan <= 0 {
		t.Errorf("estimated %+v", doc.Estimate)
	}
}
