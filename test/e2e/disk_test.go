package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"originchain/scripts/call"
	"originchain/scripts/child"
	"originchain/shared/api"
)

// A full disk must stop the server with a code and a message of its own, and
// after room was made every acknowledged row must be there.
func TestFullDiskLosesNothing(t *testing.T) {
	t.Parallel()
	disk := newTmpfs(t, "24m")
	o := child.Options{DataDir: disk.data(), Wrap: disk.wrap(), Args: []string{"--segment-bytes", "4194304"}}
	n := enter(t, start(t, o), disk.outside(), nil)
	path := n.notes(t)
	acked, refused := fillDisk(t, n, path)
	if refused != nil && refused.Status != http.StatusServiceUnavailable {
		t.Errorf("the write that found no room: %d %s, want 503", refused.Status, refused.Body)
	}
	<-n.Exited()
	if code := n.ExitCode(); code != exitDisk {
		t.Errorf("exit code %d, want %d", code, exitDisk)
	}
	says(t, n.Output(), "no space left on device")

	disk.remount(t, "size=256m")
	again := n.restart(t, o)
	for _, id := range acked {
		resp, err := again.client.Do(t.Context(), call.Request{Method: http.MethodGet, Path: fmt.Sprintf("%s/%d", path, id)})
		if err != nil || resp.Status != http.StatusOK {
			t.Fatalf("row %d was acknowledged and is not there: %v, %v", id, resp, err)
		}
	}
	if err := again.client.JSON(t.Context(), http.MethodPost, path, map[string]any{"id": 1 << 40}, nil); err != nil {
		t.Errorf("a write after room was made: %v", err)
	}
	stopInOrder(t, again.Server)
}

// fillDisk writes rows until one is not acknowledged. The texts do not compress.
func fillDisk(t *testing.T, n *node, path string) (acked []int, refused *call.Response) {
	t.Helper()
	for id := 0; ; id++ {
		body, err := json.Marshal(map[string]any{"id": id, "text": noise(id, 64<<10)})
		if err != nil {
			t.Fatal(err)
		}
		resp, err := n.client.Do(t.Context(), call.Request{Method: http.MethodPost, Path: path, ContentType: api.ContentTypeJSON, Body: body})
		if err != nil {
			return acked, nil // the server was gone before it could answer
		}
		if resp.Status != http.StatusOK {
			return acked, resp
		}
		acked = append(acked, id)
		if id > 10_000 {
			t.Fatal("the disk does not become full")
		}
	}
}

// noise is a text of n letters that zstd cannot make small.
func noise(seed, n int) string {
	var b strings.Builder
	x := uint64(seed)*2654435761 + 88172645463325252
	for b.Len() < n {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b.WriteByte("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"[x>>58])
	}
	return b.String()
}

func TestReadOnlyDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	disk := newTmpfs(t, "64m")
	o := child.Options{DataDir: disk.data(), Wrap: disk.wrap(), Args: []string{"--segment-bytes", "4194304"}}
	n := enter(t, start(t, o), disk.outside(), nil)
	path := n.notes(t)
	if err := n.client.JSON(t.Context(), http.MethodPost, path, map[string]any{"id": 1}, nil); err != nil {
		t.Fatal(err)
	}
	stopInOrder(t, n.Server)
	disk.remount(t, "ro")
	mustRefuse(t, launch(t, o), exitFailure, disk.data(), "read-only")
	disk.remount(t, "rw")
	if got := n.restart(t, o).count(t); got != 1 {
		t.Errorf("%d rows after the directory could be written again, want 1", got)
	}
}
