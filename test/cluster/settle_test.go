package cluster

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"originchain/scripts/call"
	"originchain/shared/api"
	"originchain/test/settle"
)

// settle checks what must hold when the faults are healed and nothing is written
// any more. Every node runs; the writer is who the record names.
func (c *cluster) settle(w *workload) {
	c.t.Helper()
	writer := c.current.Load()
	for _, n := range c.nodes {
		n.ready()
	}
	var others []settle.Copy
	for _, n := range c.nodes {
		if n != writer {
			others = append(others, n.copy())
		}
	}
	settle.Same(c.t, writer.copy(), others...)
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

func (n *node) copy() settle.Copy { return settle.Copy{Node: n.name, Dir: n.dir, Standing: n.standing} }

func (n *node) segments() []string {
	n.c.t.Helper()
	return settle.Segments(n.c.t, n.dir)
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
