package pitr

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"originchain/scripts/oc-pitr/pitr"
	"originchain/shared/object"
	"originchain/shared/purge"
	"originchain/shared/restore"
)

// TestPurgeOnTheCommandLine: a dry run, its confirmation, and what is refused.
func TestPurgeOnTheCommandLine(t *testing.T) {
	dir := t.TempDir()
	var w *Workload
	bubble(t, func(t *testing.T) { w = Subjects(t, object.NewFolder(dir)) })
	audit := filepath.Join(t.TempDir(), "audit.log")
	c := &cli{t: t}
	args := []string{"purge", "--archive", "file://" + dir, "--tenant", tenant.String(), "--schema", "shop.items"}
	confirm := func(pk, id string) []string {
		return append(slices.Clone(args), "--pk", pk, "--confirm", id, "--actor", "jane", "--audit-log", audit, "--reason", "asked for")
	}
	for _, x := range []struct {
		code int
		says string
		more []string
	}{
		{pitr.ExitUsage, "one of --pk and --where", []string{"--dry-run"}},
		{pitr.ExitUsage, "--dry-run", []string{"--pk", "1000"}},
		{pitr.ExitUsage, "--audit-log", []string{"--pk", "1000", "--confirm", "x"}},
		{pitr.ExitUsage, "is not a key", []string{"--pk", "jane", "--dry-run"}},
		{pitr.ExitUsage, "no index", []string{"--where", "id=1000", "--dry-run"}},
		{pitr.ExitPlan, "was confirmed", confirm("1000", "0123")[7:]},
	} {
		if code, out, errs := c.run(append(slices.Clone(args), x.more...)...); code != x.code || !strings.Contains(errs, x.says) {
			t.Errorf("%v: exit code %d, want %d and %q:\n%s%s", x.more, code, x.code, x.says, out, errs)
		}
	}
	var plan purge.Plan
	// Who still has a row in the newest state is not purged.
	c.document(pitr.ExitOK, &plan, append(slices.Clone(args), "--pk", "3000", "--dry-run")...)
	if !plan.Live || plan.LiveRows != 1 {
		t.Errorf("planned %+v", plan)
	}
	var refused struct{ Error string }
	c.document(pitr.ExitStillLive, &refused, confirm("3000", plan.ID)...)
	// By a value that only the subject ever had, the plan is of the same frames.
	var byValue purge.Plan
	c.document(pitr.ExitOK, &byValue, append(slices.Clone(args), "--where", "name=subject-first", "--dry-run")...)
	c.document(pitr.ExitOK, &plan, append(slices.Clone(args), "--pk", "1000", "--dry-run")...)
	if byValue.ID != plan.ID || plan.Live {
		t.Errorf("by value %+v, by key %+v", byValue, plan)
	}
	findOnTheCommandLine(t, c, w, append(slices.Clone(args), "--pk", "1000"))
	var done, again purge.Result
	c.document(pitr.ExitOK, &done, confirm("1000", plan.ID)...)
	c.document(pitr.ExitOK, &again, confirm("1000", plan.ID)...)
	if done.Frames != plan.Frames || done.Resumed || !again.Resumed || again.ID != done.ID {
		t.Errorf("purged %+v, again %+v", done, again)
	}
	b, err := os.ReadFile(audit)
	must(t, err)
	if n := strings.Count(string(b), "\n"); n != 8 || !strings.Contains(string(b), `"action":"archive.purge","object":"purge/`+plan.ID) || strings.Contains(string(b), "1000") && strings.Contains(string(b), `"pk"`) {
		t.Errorf("%d lines of audit:\n%s", n, b)
	}
	var got restore.Result
	target := filepath.Join(t.TempDir(), "latest")
	c.document(pitr.ExitOK, &got, "restore", "--archive", "file://"+dir, "--data-dir", target, "--latest")
	sameState(t, w.Lines[2], w.Lines[2].Last(), &got)
	target = filepath.Join(t.TempDir(), "then")
	c.document(pitr.ExitOK, &got, "restore", "--archive", "file://"+dir, "--data-dir", target, "--epoch", "1", "--latest")
	if !got.Purged || !got.Verified {
		t.Errorf("restored %+v", got)
	}
	c.document(pitr.ExitPurged, &refused, "accept", "--archive", "file://"+dir, "--data-dir", target, "--ends-epoch", "2")
	c.document(pitr.ExitOK, &struct{}{}, "accept", "--data-dir", target, "--new-instance")
}

// findOnTheCommandLine looks for the rows in a directory that has them, and in one that
// has not.
func findOnTheCommandLine(t *testing.T, c *cli, w *Workload, args []string) {
	t.Helper()
	node := filepath.Join(t.TempDir(), "node")
	must(t, os.MkdirAll(filepath.Join(node, "log"), 0o700))
	segments := w.Segments(t)
	for name, b := range segments {
		must(t, os.WriteFile(filepath.Join(node, "log", name), b, 0o600))
	}
	var found purge.Found
	c.document(pitr.ExitFound, &found, append(slices.Clone(args), "--find", node)...)
	if !found.Any() || len(found.Files) != len(segments) {
		t.Errorf("found %+v", found)
	}
	if code, out, errs := c.run(append(slices.Clone(args), "--find", node)...); code != pitr.ExitFound || !strings.Contains(out, "frames tell of the rows: LSN") || !strings.Contains(errs, "destroy its directory") {
		t.Errorf("exit code %d: %s%s", code, out, errs)
	}
	for _, x := range found.Files {
		if x.Count > 0 {
			must(t, os.Remove(x.Path))
		}
	}
	c.document(pitr.ExitOK, &found, append(slices.Clone(args), "--find", node)...)
	if found.Any() || len(found.Files) == 0 {
		t.Errorf("found %+v", found)
	}
	c.document(pitr.ExitUsage, &struct{}{}, append(slices.Clone(args), "--find", node, "--dry-run")...)
}
