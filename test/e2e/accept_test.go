package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"originchain/scripts/call"
	"originchain/shared/api"
)

// write writes a row, which must be acknowledged.
func (n *node) write(t *testing.T, id int) (at uint64) {
	t.Helper()
	r, err := n.client.Do(t.Context(), call.Request{Method: http.MethodPost, Path: n.notesPath(), ContentType: api.ContentTypeJSON,
		Body: fmt.Appendf(nil, `{"id":%d,"text":"row %d"}`, id, id)})
	if err != nil || r.Status != http.StatusOK {
		t.Fatalf("row %d: %v, %+v", id, err, r)
	}
	if err := json.Unmarshal([]byte(r.Header.Get(api.HeaderLSN)), &at); err != nil {
		t.Fatal(err)
	}
	return at
}

// refusesTo restores and accepts, which must be refused at once, with nothing left.
func refusesTo(t *testing.T, args []string, dir string, words ...string) {
	t.Helper()
	var refused struct {
		Error string `json:"error"`
	}
	if code := runPITR(t, &refused, args...); code != exitLive {
		t.Fatalf("%v: exit code %d, want %d: %s", args, code, exitLive, refused.Error)
	}
	says(t, refused.Error, words...)
	if left, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(left) > 0 {
		t.Errorf("it left %v, %v", left, err)
	}
}

// A writer that runs and has nothing to do looks in its archive like one that is dead. It
// is not fenced unless it is named, or its record says that it has stopped, and
// acknowledges meanwhile as ever.
func TestAnIdleWriterIsNotFencedUnnamed(t *testing.T) {
	t.Parallel()
	for name, recorded := range map[string]bool{"an archive alone": false, "a record of who writes": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			archive, control := "file://"+filepath.Join(t.TempDir(), "archive"), "file://"+filepath.Join(t.TempDir(), "control")
			dir := filepath.Join(t.TempDir(), "restored")
			serve := []string{"--archive", archive, "--tail-ship"}
			args := []string{"restore", "--archive", archive, "--data-dir", dir, "--latest", "--accept"}
			if recorded {
				serve = append(serve, "--control", control, "--advertise", "http://127.0.0.1:7400")
				args = append(args, "--control", control, "--advertise", "http://127.0.0.1:7401")
			}
			n := newNode(t, serve...)
			n.notes(t)
			at := n.write(t, 1)
			until(t, "the row is in the archive", func() bool { return archivedTo(t, n) >= at })
			if recorded {
				refusesTo(t, args, dir, "epoch 1 of node", "renewed while it was watched", "--ends-epoch 1")
			} else {
				refusesTo(t, args, dir, "epoch 1 of node", "only the archive was looked at", "--ends-epoch 1")
			}
			refusesTo(t, append(args, "--ends-epoch", "2"), dir, "epoch 2 was named", "--ends-epoch 1")
			at = n.write(t, 2)
			until(t, "a row of afterwards is in the archive", func() bool { return archivedTo(t, n) >= at })
			stopInOrder(t, n.Server)
			if recorded {
				// It has released the record, which says enough.
				acceptsAll(t, args, at)
			} else {
				refusesTo(t, args, dir, "--ends-epoch 1")
				acceptsAll(t, append(args, "--ends-epoch", "1"), at)
			}
		})
	}
}

// acceptsAll restores and accepts, with all that was acknowledged.
func acceptsAll(t *testing.T, args []string, at uint64) {
	t.Helper()
	var got struct {
		restoredCopy
		Accepted uint64 `json:"accepted_epoch"`
		Error    string `json:"error"`
	}
	if code := runPITR(t, &got, args...); code != 0 || !got.Verified || got.LSN < at || got.Accepted != 2 {
		t.Errorf("%v: exit code %d, %+v; want LSN %d or above", args, code, got, at)
	}
}
