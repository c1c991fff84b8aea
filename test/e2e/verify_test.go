package e2e

import (
	"encoding/json"
	"net/http"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/scripts/child"
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
	var report verifyReport
	before := digestTree(t, n.dir)
	report.read(t, n.dir, exitIncomplete)
	if report.OK || report.Complete || report.Faults > 0 || report.Log.Frames < 50 || report.State.Behind == 0 {
		t.Errorf("after a kill: %+v", report)
	}
	if out, code = runBinary(t, "verify", "--data-dir", n.dir); code != exitIncomplete {
		t.Errorf("after a kill: exit code %d\n%s", code, out)
	}
	says(t, out, "NOT COMPLETE", "frames behind the log", "start the server, stop it, and verify again")
	if diff := cmp.Diff(before, digestTree(t, n.dir)); diff != "" {
		t.Errorf("the verification changed the directory:\n%s", diff)
	}
	stopInOrder(t, n.restart(t, child.Options{DataDir: n.dir}).Server)
	before = digestTree(t, n.dir)
	report.read(t, n.dir, 0)
	if !report.OK || !report.Complete || report.State.Rows != 50 || report.State.Behind > 0 {
		t.Errorf("after a stop: %+v", report)
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

// verifyReport is what is looked at of the document of verify --json.
type verifyReport struct {
	OK       bool `json:"ok"`
	Complete bool `json:"complete"`
	Faults   int  `json:"faults_found"`
	Log      struct {
		Frames int `json:"frames"`
	} `json:"log"`
	State struct {
		Rows   int `json:"rows"`
		Behind int `json:"behind"`
	} `json:"state"`
}

// read verifies a directory, which must end with code.
func (r *verifyReport) read(t *testing.T, dir string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), server, "verify", "--data-dir", dir, "--json")
	text, err := cmd.Output()
	if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
		t.Fatalf("%v, want code %d\n%s", err, code, text)
	}
	*r = verifyReport{}
	if err := json.Unmarshal(text, r); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}
