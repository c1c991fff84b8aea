package e2e

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"originchain/scripts/call"
	"originchain/scripts/child"
	"originchain/shared/api"
)

// A stop must wait for the request that is under way, and lose none of it.
func TestStopDrainsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	path := n.notes(t)
	body, feed := io.Pipe()
	answered := make(chan error, 1)
	go func() { answered <- n.postStream(path+"/_batch", body) }()
	if _, err := feed.Write([]byte(`{"id":1,"text":"before"}` + "\n")); err != nil {
		t.Fatal(err)
	}
	waitUntilUnderWay(t, n)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		stopInOrder(t, n.Server)
	}()
	waitUntilStopping(t, n)
	if _, err := feed.Write([]byte(`{"id":2,"text":"after"}` + "\n")); err != nil {
		t.Fatal(err)
	}
	if err := feed.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("the batch under way: %v", err)
	}
	<-stopped
	if got := n.restart(t, child.Options{DataDir: n.dir}).count(t); got != 2 {
		t.Errorf("%d rows after the restart, want both of the batch", got)
	}
}

// postStream sends a body of unknown length to _batch; two rows are expected.
func (n *node) postStream(path string, body io.Reader) error {
	req, err := http.NewRequest(http.MethodPost, n.client.URL+path, body)
	if err != nil {
		return err
	}
	req.Header.Set(api.HeaderAuthorization, "Bearer "+n.client.Token)
	req.Header.Set("Content-Type", api.ContentTypeNDJSON)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var got api.Batch
	if err := json.Unmarshal(text, &got); err != nil || resp.StatusCode != http.StatusOK || got.Inserted != 2 {
		return fmt.Errorf("%d %s", resp.StatusCode, text)
	}
	return resp.Body.Close()
}

// waitUntilUnderWay waits until the server has begun a request: what the client
// has written may still be on its way, and a connection on which no request has
// begun may be closed by a stop. Public routes, as the one asked here, do not count.
func waitUntilUnderWay(t *testing.T, n *node) {
	t.Helper()
	for {
		resp, err := n.client.Do(t.Context(), call.Request{Method: http.MethodGet, Path: "/metrics"})
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(resp.Body, []byte("\noc_requests_in_flight 1\n")) {
			return
		}
	}
}

// waitUntilStopping returns when the server takes no more requests: it closed
// its port, or says that it is not ready.
func waitUntilStopping(t *testing.T, n *node) {
	t.Helper()
	fresh := &call.Client{URL: n.client.URL, HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
	for {
		resp, err := fresh.Do(t.Context(), call.Request{Method: http.MethodGet, Path: "/ready"})
		if err != nil && t.Context().Err() == nil || err == nil && resp.Status != http.StatusOK {
			return
		}
		if t.Context().Err() != nil {
			t.Fatal("the server goes on as if it had not been asked to stop")
		}
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	path := n.notes(t)
	var wrote api.WrittenRow
	if err := n.client.JSON(t.Context(), http.MethodPost, path, map[string]any{"id": 7, "text": "kept", "score": 1.5, "stars": uint64(18446744073709551615)}, &wrote); err != nil {
		t.Fatal(err)
	}
	stopInOrder(t, n.Server)
	again := n.restart(t, child.Options{DataDir: n.dir})
	resp, err := again.client.Do(t.Context(), call.Request{Method: http.MethodGet, Path: path + "/7"})
	if err != nil {
		t.Fatal(err)
	}
	want := `{"id":7,"text":"kept","score":1.5,"stars":18446744073709551615}`
	if diff := cmp.Diff(want, strings.TrimSpace(string(resp.Body))); diff != "" {
		t.Error(diff)
	}
	if got := resp.Header.Get(api.HeaderETag); !strings.Contains(got, fmt.Sprint(wrote.Version)) {
		t.Errorf("ETag %q, want the version %d", got, wrote.Version)
	}
}

func TestSecondServerOnADirectoryIsRefused(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	second := launch(t, child.Options{DataDir: n.dir})
	mustRefuse(t, second, exitLocked, n.dir, "--data-dir", "in use")
	if err := n.client.Get(t.Context(), "/v1/tenants/"+n.tenant+"/usage", nil); err != nil {
		t.Errorf("the first server suffered: %v", err)
	}
}

func TestTakenPortIsRefused(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	second := launch(t, child.Options{DataDir: filepath.Join(t.TempDir(), "data"), Listen: strings.TrimPrefix(n.URL(), "http://"), URL: "http://127.0.0.1:1"})
	mustRefuse(t, second, exitFailure, "address already in use", strings.TrimPrefix(n.URL(), "http://"))
}

// A directory that is not what the server was promised must be refused, say
// why, and stay as it is, byte for byte.
func TestRefusedDirectoriesStayAsTheyAre(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name  string
		spoil func(t *testing.T, dir string)
		args  []string
		code  int
		words []string
	}{
		{"another instance", func(*testing.T, string) {}, []string{"--instance-id", "01J0000000000000000000000Z"}, exitRefused, []string{"01J0000000000000000000000Z", "--instance-id"}},
		{"another node", func(*testing.T, string) {}, []string{"--node-id", "somebody-else"}, exitRefused, []string{"somebody-else", "--node-id"}},
		{"newer format", newerFormat, nil, exitRefused, []string{"newer"}},
		{"damaged log", flipAByteOfTheLog, nil, exitRefused, []string{".log", "offset", "restore"}},
		{"damaged identity", func(t *testing.T, dir string) { overwrite(t, filepath.Join(dir, "instance.json"), "{") }, nil, exitFailure, []string{"instance.json", "damaged"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			n := newNode(t)
			path := n.notes(t)
			for i := range 20 {
				if err := n.client.JSON(t.Context(), http.MethodPost, path, map[string]any{"id": i, "text": "x"}, nil); err != nil {
					t.Fatal(err)
				}
			}
			stopInOrder(t, n.Server)
			c.spoil(t, n.dir)
			before := digestTree(t, n.dir)
			mustRefuse(t, launch(t, child.Options{DataDir: n.dir, Args: c.args}), c.code, c.words...)
			if diff := cmp.Diff(before, digestTree(t, n.dir)); diff != "" {
				t.Errorf("the refused directory was changed:\n%s", diff)
			}
		})
	}
}

func TestForeignDirectoryIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	overwrite(t, filepath.Join(dir, "thesis.txt"), "not a data directory")
	mustRefuse(t, launch(t, child.Options{DataDir: dir}), exitRefused, dir, "thesis.txt")
}

func newerFormat(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "instance.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var record map[string]any
	if err := json.Unmarshal(text, &record); err != nil {
		t.Fatal(err)
	}
	record["format"] = 99
	out, err := json.Marshal(record)
	if err != nil {
		t.Fatal(err)
	}
	overwrite(t, path, string(out))
}

// flipAByteOfTheLog damages a frame that was acknowledged.
func flipAByteOfTheLog(t *testing.T, dir string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(dir, "log", "*.log"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("no segments: %v", err)
	}
	f, err := os.OpenFile(segments[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	at := int64(1200) // in the second or third frame
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x40
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func overwrite(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// digestTree is the SHA-256 of each file.
func digestTree(t *testing.T, dir string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		sums[strings.TrimPrefix(path, dir)] = fmt.Sprintf("%x", sha256.Sum256(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}
