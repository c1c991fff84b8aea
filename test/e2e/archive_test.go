package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"originchain/scripts/call"
	"originchain/scripts/child"
	"originchain/shared/api"
	"originchain/test/settle"
)

const (
	// archiveWithin bounds what is waited for.
	archiveWithin = 90 * time.Second
	// archiveClients write at once.
	archiveClients = 8
	// exitLive is oc-pitr's code where the epoch that ends must be named.
	exitLive = 70
)

// runPITR runs oc-pitr, whose one document goes into out, and returns its exit code.
func runPITR(t *testing.T, out any, args ...string) int {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), archiveWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, pitr, append(args, "--json")...)
	var document, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &document, &said
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	if err := json.Unmarshal(document.Bytes(), out); err != nil {
		t.Fatalf("oc-pitr %v: %v: %q\n%s", args, err, document.Bytes(), said.Bytes())
	}
	return cmd.ProcessState.ExitCode()
}

// ledger is what clients of one line of history know.
type ledger struct {
	mu sync.Mutex
	// acked holds the LSN of every acknowledged row, by its id.
	acked map[int]uint64
	next  int
}

// load writes rows until it is stopped, or the server is killed.
func (l *ledger) load(ctx context.Context, n *node) (wait func()) {
	var clients sync.WaitGroup
	for range archiveClients {
		clients.Go(func() {
			for ctx.Err() == nil {
				l.mu.Lock()
				id := l.next
				l.next++
				l.mu.Unlock()
				r, err := n.client.Do(ctx, call.Request{Method: http.MethodPost, Path: n.notesPath(), ContentType: api.ContentTypeJSON,
					Body: fmt.Appendf(nil, `{"id":%d,"text":"row %d"}`, id, id)})
				if err != nil || r.Status != http.StatusOK {
					return // the server was killed; what it did is not known
				}
				at, err := strconv.ParseUint(r.Header.Get(api.HeaderLSN), 10, 64)
				if err != nil {
					return
				}
				l.mu.Lock()
				l.acked[id] = at
				l.mu.Unlock()
			}
		})
	}
	return clients.Wait
}

// newest is the highest acknowledged LSN, and of how many rows.
func (l *ledger) newest() (at uint64, rows int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, lsn := range l.acked {
		at = max(at, lsn)
	}
	return at, len(l.acked)
}

// recoverableLSN finds the metric.
var recoverableLSN = regexp.MustCompile(`(?m)^oc_recoverable_lsn (\S+)$`)

// archivedTo is how far the writer says its archive reaches, without a hole: parts of
// the tail arrive in any order, so the list of objects would say too much.
func archivedTo(t *testing.T, n *node) uint64 {
	t.Helper()
	r, err := n.admin.Do(t.Context(), call.Request{Method: http.MethodGet, Path: "/metrics"})
	if err != nil {
		t.Fatal(err)
	}
	m := recoverableLSN.FindSubmatch(r.Body)
	if m == nil {
		t.Fatalf("no oc_recoverable_lsn in %.300q", r.Body)
	}
	at, err := strconv.ParseFloat(string(m[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return uint64(at)
}

// until asks again until something is so.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	settle.Eventually(t, what, func() error {
		if !so() {
			return errors.New("it is not so")
		}
		return nil
	})
}

// loseUnderLoad writes to a node, waits until its archive has rows that were written
// before, kills it in the middle of more, and removes its directory. It returns how far
// the archive was known to be.
func (l *ledger) loseUnderLoad(t *testing.T, n *node) (archived uint64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	wait := l.load(ctx, n)
	defer wait()
	defer cancel()
	_, had := l.newest()
	until(t, "rows are acknowledged", func() bool { _, rows := l.newest(); return rows >= had+300 })
	older, _ := l.newest()
	until(t, "the archive has what is older than its window", func() bool { archived = archivedTo(t, n); return archived >= older })
	_, had = l.newest()
	until(t, "more rows are acknowledged", func() bool { _, rows := l.newest(); return rows >= had+100 })
	if err := n.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(n.dir); err != nil {
		t.Fatal(err)
	}
	return archived
}

// restoredCopy is what oc-pitr says of one.
type restoredCopy struct {
	LSN      uint64 `json:"lsn"`
	Epoch    uint64 `json:"epoch"`
	Verified bool   `json:"verified"`
}

// restoreLatest restores all that the archive has into the node's directory.
func restoreLatest(t *testing.T, archive, dir string, archived uint64) restoredCopy {
	t.Helper()
	var got restoredCopy
	if code := runPITR(t, &got, "restore", "--archive", archive, "--data-dir", dir, "--latest"); code != 0 {
		t.Fatalf("restore ends with %d", code)
	}
	if !got.Verified || got.LSN < archived {
		t.Fatalf("%+v, want it verified and at LSN %d or above", got, archived)
	}
	return got
}

// settle holds the rows of a restored node against what was acknowledged: all up to the
// restored frame are there, and of those after it none; nothing else but rows that were
// sent. What was lost is forgotten, so that the ledger is that of the new line.
func (l *ledger) settle(t *testing.T, n *node, restored uint64) (lost int) {
	t.Helper()
	out, err := n.client.Select(t.Context(), n.tenant, "SELECT id, text FROM "+notesID)
	if err != nil {
		t.Fatal(err)
	}
	there := make(map[int]bool, len(out.Rows))
	for _, raw := range out.Rows {
		var row struct {
			ID   int    `json:"id"`
			Text string `json:"text"`
		}
		if err := json.Unmarshal(raw, &row); err != nil {
			t.Fatal(err)
		}
		if row.ID >= l.next || row.Text != fmt.Sprintf("row %d", row.ID) {
			t.Errorf("a row that nobody has written: %s", raw)
		}
		there[row.ID] = true
	}
	for id, at := range l.acked {
		if there[id] != (at <= restored) {
			t.Errorf("row %d, acknowledged at LSN %d, is there: %t; LSN %d was restored", id, at, there[id], restored)
		}
		if !there[id] {
			lost++
			delete(l.acked, id)
		}
	}
	return lost
}

// A machine that is lost with its disk: all that the archive was seen to have is
// there again, to the frame. The copy becomes the instance's history, goes on in the
// same archive with a higher epoch, and can be lost and restored again.
func TestLostMachineIsRestoredFromItsArchive(t *testing.T) {
	t.Parallel()
	archive := "file://" + filepath.Join(t.TempDir(), "archive")
	args := []string{"--archive", archive, "--tail-ship"}
	n := newNode(t, args...)
	n.notes(t)
	l := &ledger{acked: make(map[int]uint64)}
	for round, epoch := 1, uint64(1); round <= 2; round++ {
		archived := l.loseUnderLoad(t, n)
		acked, rows := l.newest()

		// An empty directory must not become a writer in this archive.
		mustRefuse(t, launch(t, child.Options{DataDir: filepath.Join(t.TempDir(), "empty"), Args: args}), exitRefused, "oc-pitr restore")

		dir := filepath.Join(t.TempDir(), "restored")
		got := restoreLatest(t, archive, dir, archived)
		if got.Epoch != epoch {
			t.Errorf("round %d: epoch %d was restored, want %d", round, got.Epoch, epoch)
		}
		epoch = acceptCopy(t, archive, dir, epoch)

		n.dir = dir
		n = n.restart(t, child.Options{DataDir: dir, Args: args})
		token, err := os.ReadFile(filepath.Join(dir, "admin.token"))
		if err != nil {
			t.Fatal(err)
		}
		n.admin = &call.Client{URL: n.URL(), Token: string(bytes.TrimSpace(token))}
		var at api.Replication
		if err := n.admin.Get(t.Context(), "/v1/admin/replication", &at); err != nil {
			t.Fatal(err)
		}
		if at.Role != "writer" || at.Epoch < epoch {
			t.Errorf("round %d: after the acceptance of epoch %d it is %s of epoch %d", round, epoch, at.Role, at.Epoch)
		}
		epoch = at.Epoch
		lost := l.settle(t, n, got.LSN)
		t.Logf("round %d: %d rows up to LSN %d acknowledged, restored to LSN %d, %d lost; goes on with epoch %d", round, rows, acked, got.LSN, lost, epoch)
	}
	stopInOrder(t, n.Server)
	var verified struct {
		OK bool `json:"ok"`
	}
	if code := runPITR(t, &verified, "verify", "--archive", archive, "--latest"); code != 0 || !verified.OK {
		t.Errorf("the archive of three epochs: exit code %d, %+v", code, verified)
	}
}

// acceptCopy makes a copy its instance's history. Without the epoch that it ends it is
// refused, with the epoch named.
func acceptCopy(t *testing.T, archive, dir string, ends uint64) (epoch uint64) {
	t.Helper()
	args := []string{"accept", "--archive", archive, "--data-dir", dir}
	var refused struct {
		Error string `json:"error"`
	}
	if code := runPITR(t, &refused, args...); code != exitLive {
		t.Fatalf("accept without --ends-epoch: exit code %d, want %d: %s", code, exitLive, refused.Error)
	}
	says(t, refused.Error, fmt.Sprintf("--ends-epoch %d", ends))
	var done struct {
		Ends  uint64 `json:"ends_epoch"`
		Epoch uint64 `json:"epoch"`
	}
	if code := runPITR(t, &done, append(args, "--ends-epoch", strconv.FormatUint(ends, 10))...); code != 0 {
		t.Fatalf("accept: exit code %d", code)
	}
	if done.Ends != ends || done.Epoch <= ends {
		t.Fatalf("accept of epoch %d: %+v", ends, done)
	}
	return done.Epoch
}
