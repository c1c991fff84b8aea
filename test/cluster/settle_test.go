package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"originchain/scripts/call"
	"originchain/shared/api"
)

// settle checks what must hold when the faults are healed and nothing is written
// any more. Every node runs; the writer is who the record names.
func (c *cluster) settle(w *workload) {
	c.t.Helper()
	writer := c.current.Load()
	for _, n := range c.nodes {
		n.ready()
	}
	c.sameDigests(writer)
	for _, n := range c.nodes {
		if n != writer {
			c.sameSegments(writer, n)
		}
	}
	if w != nil {
		w.nothingLost()
		w.ownWritesAreRead()
	}
	for _, n := range c.nodes {
		if n.binary == followerBin && (slices.Contains(c.record().InSync, n.name) || slices.Contains(c.record().Eligible, n.name)) {
			c.t.Errorf("the record names %s, which can never write", n.name)
		}
	}
}

// sameDigests waits until every node shows the writer's last frame, and compares
// the digests there.
func (c *cluster) sameDigests(writer *node) {
	c.t.Helper()
	eventually(c.t, "digests", func() error {
		want, err := writer.standing()
		if err != nil {
			return err
		}
		if want.AppliedLSN != want.LSN || want.Role != "writer" {
			return fmt.Errorf("%s is %s and shows LSN %d of %d", writer.name, want.Role, want.AppliedLSN, want.LSN)
		}
		for _, n := range c.nodes {
			got, err := n.standing()
			if err != nil {
				return err
			}
			if got.AppliedLSN != want.AppliedLSN || got.DurableLSN != want.DurableLSN {
				return fmt.Errorf("%s shows LSN %d and has %d durable, %s %d and %d", n.name, got.AppliedLSN, got.DurableLSN, writer.name, want.AppliedLSN, want.DurableLSN)
			}
			if got.Digest != want.Digest || got.Epoch != want.Epoch {
				c.t.Fatalf("at LSN %d %s has the digest %s in epoch %d, %s has %s in epoch %d", want.AppliedLSN, writer.name, want.Digest, want.Epoch, n.name, got.Digest, got.Epoch)
			}
		}
		return nil
	})
}

// segments are the names of a node's log files, oldest first.
func (n *node) segments() []string {
	n.c.t.Helper()
	paths, err := filepath.Glob(filepath.Join(n.dir, "log", "????????????????.log"))
	if err != nil {
		n.c.t.Fatal(err)
	}
	slices.Sort(paths)
	for i := range paths {
		paths[i] = filepath.Base(paths[i])
	}
	return paths
}

// sameSegments compares every sealed segment that both nodes have. The last one is
// open, and longer on disk than what is written.
func (c *cluster) sameSegments(a, b *node) {
	c.t.Helper()
	sealed := a.segments()
	sealed = sealed[:len(sealed)-1]
	compared := 0
	for _, name := range sealed {
		want, err := os.ReadFile(filepath.Join(a.dir, "log", name))
		if errors.Is(err, os.ErrNotExist) {
			continue // trimmed meanwhile
		} else if err != nil {
			c.t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(b.dir, "log", name))
		if errors.Is(err, os.ErrNotExist) {
			continue // before its bootstrap, or trimmed
		} else if err != nil {
			c.t.Fatal(err)
		}
		if compared++; !bytes.Equal(got, want) {
			c.t.Errorf("the segment %s has %d bytes on %s and %d on %s, and they differ", name, len(want), a.name, len(got), b.name)
		}
	}
	if compared == 0 && len(sealed) > 0 {
		c.t.Errorf("no sealed segment of %s is on %s too: %v and %v", a.name, b.name, sealed, b.segments())
	}
}

// nothingLost holds every acknowledgement against what every node has.
func (w *workload) nothingLost() {
	t := w.c.t
	t.Helper()
	degraded, repeated := 0, 0
	for _, n := range w.c.nodes {
		counters, texts := map[string]int64{}, map[string]string{}
		out, err := n.asTenant().Select(t.Context(), w.c.tenant, "SELECT id, n FROM "+countersID)
		if err != nil {
			t.Fatal(err)
		}
		for _, raw := range out.Rows {
			var row struct {
				ID string
				N  int64
			}
			if err := json.Unmarshal(raw, &row); err != nil {
				t.Fatal(err)
			}
			counters[row.ID] = row.N
		}
		if out, err = n.asTenant().Select(t.Context(), w.c.tenant, "SELECT id, text FROM "+writesID); err != nil {
			t.Fatal(err)
		}
		for _, raw := range out.Rows {
			var row struct{ ID, Text string }
			if err := json.Unmarshal(raw, &row); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(row.ID, "w") { // others are not the workload's
				texts[row.ID] = row.Text
			}
		}
		degraded, repeated = w.compare(n, counters, texts)
	}
	t.Logf("%d writes acknowledged, %d of them degraded, %d after more than one attempt; record: epoch %d of %s",
		len(w.acks), degraded, repeated, w.c.record().Epoch, w.c.record().Holder)
}

// compare holds the acknowledgements against the rows of one node. Every write was
// acknowledged in the end, so both must be the same. A degraded one may be lost
// only with the writer, to a successor that was entitled without it; since only who
// has everything acknowledged may take over, that is none.
func (w *workload) compare(n *node, counters map[string]int64, texts map[string]string) (degraded, repeated int) {
	written := 0
	for _, a := range w.acks {
		if a.degraded {
			degraded++
		}
		if a.attempts > 1 {
			repeated++
		}
		if a.table == countersID {
			continue
		}
		written++
		if texts[a.pk] != a.text {
			w.c.t.Errorf("%s has lost, or changed, %s: %.40q", n.name, a, texts[a.pk])
		}
	}
	for pk, a := range w.last {
		if counters[pk] != a.n {
			w.c.t.Errorf("%s has %d where the last acknowledged was %s", n.name, counters[pk], a)
		}
	}
	if len(w.faults) == 0 && (len(texts) != written || len(counters) != len(w.last)) {
		w.c.t.Errorf("%s has %d rows and %d counters, %d and %d were written", n.name, len(texts), len(counters), written, len(w.last))
	}
	return degraded, repeated
}

// ownWritesAreRead asks every node for the last write of each counter, by where
// its acknowledgement stands.
func (w *workload) ownWritesAreRead() {
	w.c.t.Helper()
	for _, n := range w.c.nodes {
		for pk, a := range w.last {
			resp, err := n.asTenant().Do(w.c.t.Context(), call.Request{Method: http.MethodGet, Path: w.c.rowPath(countersID, pk),
				Header: []string{api.HeaderMinLSN, fmt.Sprint(a.lsn), api.HeaderMinEpoch, fmt.Sprint(a.epoch)}})
			if err != nil {
				w.c.t.Fatal(err)
			}
			if resp.Status != http.StatusOK || !strings.Contains(string(resp.Body), fmt.Sprintf(`"n":%d`, a.n)) {
				w.c.t.Errorf("%s answers %d %s to a read at %s", n.name, resp.Status, resp.Body, a)
			}
		}
	}
}
