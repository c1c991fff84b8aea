package e2e

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestVerifyAfterAKill: a directory is verified as a kill leaves it, as a stop
// leaves it and when it was damaged, and is not changed by it.
func TestVerifyAfterAKill(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	path := n.notes(t)
	for i := range 50 {
		if err := n.client.JSON(t.Context(), http.MethodPost, path, map[string]any{"id": i, "text": "x"}, nil); err != nil {
			t.Fatal(err)
		}
	}
	out, code := runBinary(t, "verify", "--data-dir", n.dir)
	if code != exitLocked {
		t.Errorf("while the server runs: exit code %d\n%s", code, out)
	}
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	before := digestTree(t, n.dir)
	text, err := exec.Command(server, "verify", "--data-dir", n.dir, "--json").Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var report struct {
		OK  bool `json:"ok"`
		Log struct {
			Frames int `json:"frames"`
		} `json:"log"`
	}
	if err := json.Unmarshal(text, &report); err != nil || !report.OK || report.Log.Frames < 50 {
		t.Errorf("%v\n%s", err, text)
	}
	if out, code = runBinary(t, "verify", "--data-dir", n.dir); code != 0 {
		t.Errorf("exit code %d\n%s", code, out)
	}
	says(t, out, "OK: no fault found", n.dir, "log", "state")
	if diff := cmp.Diff(before, digestTree(t, n.dir)); diff != "" {
		t.Errorf("the verification changed the directory:\n%s", diff)
	}
	flipAByteOfTheLog(t, n.dir)
	if out, code = runBinary(t, "verify", "--data-dir", n.dir); code != exitRefused {
		t.Errorf("a damaged log: exit code %d", code)
	}
	says(t, out, "FAULT log", ".log", "offset", "do: ")
}
