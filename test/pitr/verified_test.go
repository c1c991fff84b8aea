package pitr

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/lambdas/pitrverify"
	"originchain/scripts/oc-pitr/pitr"
	"originchain/shared/object"
	"originchain/shared/registry"
	"originchain/shared/simdisk"
)

// sound is an archive that nothing is wrong with, and whose it is.
func sound(t *testing.T) (dir, instance string) {
	t.Helper()
	dir = t.TempDir()
	bubble(t, func(t *testing.T) {
		w := Begin(t, simdisk.New(), object.NewFolder(dir), "data", 1, nil, Straight)
		w.settle() // or the archive has not been reached yet
		w.Checkpoint()
		w.End()
		instance = w.Engine.Identity().InstanceID.String()
	})
	return dir, instance
}

// recorded is what a registry has of verifications.
func recorded(t *testing.T, dir string) (r pitrverify.Record) {
	t.Helper()
	store, err := registry.OpenFolder(vfs.Default, dir)
	must(t, err)
	doc, err := store.Load(t.Context(), "pitr/verified")
	must(t, err)
	must(t, json.Unmarshal(doc.Body, &r))
	return r
}

// TestAVerificationIsRecorded: green is what was found well in full, however often; what is
// not green leaves the age of what was, and so does what could not be begun.
func TestAVerificationIsRecorded(t *testing.T) {
	dir, instance := sound(t)
	reg := filepath.Join(t.TempDir(), "registry")
	args := func(more ...string) []string {
		return append([]string{"verify", "--archive", "file://" + dir, "--record", "file://" + reg, "--data-dir", filepath.Join(t.TempDir(), "scratch")}, more...)
	}
	c := &cli{t: t}
	for more, want := range map[string]string{"": "--instance-id", "--target-lsn=1": "--latest", "--target=2026-01-01T00:00:00Z": "--latest", "--epoch=1": "--latest", "--checkpoint=0": "--latest", "--record=ftp://x": "file:///absolute"} {
		given := args("--instance-id", instance)
		if given = append(given, more); more == "" {
			given = args()
		}
		if code, _, errs := c.run(given...); code != pitr.ExitUsage || !strings.Contains(errs, want) {
			t.Errorf("%q: exit code %d, %s", more, code, errs)
		}
	}
	if code, _, errs := c.run(args("--instance-id", "01JADE0000000000000000000Z")...); code != pitr.ExitInstance {
		t.Errorf("another instance's archive: exit code %d, %s", code, errs)
	}
	if r := recorded(t, reg); r.Green != nil || r.Last == nil || r.Last.Green {
		t.Errorf("another instance's archive was recorded as %+v", r)
	}
	var green time.Time
	for _, mode := range []string{"full", "streaming", "streaming"} {
		var got struct{ OK bool }
		c.document(pitr.ExitOK, &got, args("--instance-id", instance, "--mode", mode)...)
		r := recorded(t, reg)
		if !got.OK || r.Green == nil || !r.Green.After(green) || !r.Last.Green || !r.Last.Full || !r.Last.OK || r.Last.Epoch != 1 {
			t.Fatalf("%s: %+v, %+v", mode, got, r)
		}
		green = *r.Green
	}
	for _, path := range objectsBelow(t, dir, "objects") {
		change(t, path, flip)
	}
	if code, _, errs := c.run(args("--instance-id", instance)...); code != pitr.ExitDamaged {
		t.Errorf("exit code %d, %s", code, errs)
	}
	if r := recorded(t, reg); !r.Green.Equal(green) || r.Last.Green || r.Last.Error == "" {
		t.Errorf("a damaged archive was recorded as %+v", r)
	}
}

// TestFaultsAreRecordedAsFaults, and a registry that does not answer is known before
// anything is verified.
func TestFaultsAreRecordedAsFaults(t *testing.T) {
	w, dir := folder(t, 25)
	reg, scratch := filepath.Join(t.TempDir(), "registry"), filepath.Join(t.TempDir(), "scratch")
	var id struct {
		Instance string `json:"instance_id"`
	}
	text, err := os.ReadFile(filepath.Join(dir, "instance.json"))
	must(t, err)
	must(t, json.Unmarshal(text, &id))
	c := &cli{t: t}
	args := []string{"verify", "--archive", "file://" + dir, "--instance-id", id.Instance, "--data-dir", scratch, "--record"}
	c.document(pitr.ExitFaults, &struct{}{}, append(args, "file://"+reg)...)
	r := recorded(t, reg)
	if r.Green != nil || r.Last.Green || r.Last.Faults == 0 || !r.Last.Full || r.Last.OK || r.Last.LSN != uint64(w.Lines[3].Last()) {
		t.Errorf("%+v", r)
	}
	for _, path := range objectsBelow(t, reg, "") {
		must(t, os.WriteFile(path, []byte("damaged"), 0o600))
	}
	code, out, errs := c.run(append(args, "file://"+reg)...)
	if code != pitr.ExitFailure || out != "" || !strings.Contains(errs, "nothing was verified") {
		t.Errorf("exit code %d, %s%s", code, out, errs)
	}
	must(t, os.WriteFile(reg+"-file", nil, 0o600))
	code, out, errs = c.run(append(args, "file://"+reg+"-file")...)
	if code != pitr.ExitFailure || out != "" || !strings.Contains(errs, "--record") {
		t.Errorf("exit code %d, %s%s", code, out, errs)
	}
}
