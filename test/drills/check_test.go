package drills

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/anishathalye/porcupine"

	"originchain/scripts/call"
	"originchain/shared/lease"
	"originchain/test/settle"
)

// settle ends the load, when all faults are healed, and checks what must hold then.
func (l *load) settle() {
	t := l.i.t
	t.Helper()
	l.finish()
	l.i.whole()
	writer, others := l.i.copies()
	settle.Same(t, writer, others...) // invariants 7 and 3
	if t.Failed() {
		return
	}
	l.nothingLost()
	l.onTheLine()
	l.eachFrameOnce()
	l.linearizable()
}

// whole waits until every node runs, the writer is ready, and every other node is in sync;
// acknowledgements wait for one, so that with more of them one need be in the set, and the
// rest connected.
func (i *instance) whole() {
	i.t.Helper()
	settle.Eventually(i.t, "all nodes are in sync again", func() error {
		rec := i.record()
		if !rec.Confirmed() || rec.Released {
			return fmt.Errorf("the record is %+v", rec)
		}
		for _, n := range i.nodes {
			resp, err := n.asTenant().Do(i.t.Context(), call.Request{Method: http.MethodGet, Path: "/ready"})
			if err != nil || resp.Status != http.StatusOK {
				return fmt.Errorf("%s is not ready: %v, %w", n.ID, resp, err)
			}
		}
		s, err := i.named(rec.Holder).standing()
		if err != nil {
			return err
		}
		in, connected := 0, 0
		for _, f := range s.Followers {
			if f.Connected {
				connected++
			}
			if f.Sync {
				in++
			}
		}
		if s.Role != "writer" || connected < len(i.nodes)-1 || in == 0 && rec.SyncReplicas > 0 {
			return fmt.Errorf("%s is %s with %+v", rec.Holder, s.Role, s.Followers)
		}
		return i.knownWhole()
	})
}

// knownWhole: oc-control has seen it too.
func (i *instance) knownWhole() error {
	if i.plane == nil {
		return nil
	}
	s, err := i.status()
	if err != nil {
		return err
	}
	in := 0
	for _, f := range s.Followers {
		if f.InSync {
			in++
		}
	}
	if in == 0 && i.record().SyncReplicas > 0 {
		return fmt.Errorf("oc-control knows of no follower in sync: %+v", s)
	}
	return nil
}

// copies are what the nodes have, the writer's first.
func (i *instance) copies() (writer settle.Copy, others []settle.Copy) {
	i.t.Helper()
	w := i.writer()
	for _, n := range i.others(w) {
		others = append(others, n.copy())
	}
	return w.copy(), others
}

func (n *node) copy() settle.Copy {
	return settle.Copy{Node: n.ID, Dir: n.i.dir.Data(n.Machine), Standing: n.standing}
}

// nothingLost: every acknowledged row is on every node, as it was written, and no other is.
func (l *load) nothingLost() {
	t := l.i.t
	t.Helper()
	want := map[string]string{}
	for _, a := range l.acks {
		if a.table == rowsID {
			want[a.pk] = a.text
		}
	}
	if len(want) == 0 {
		t.Fatal("no row was acknowledged")
	}
	for _, n := range l.i.nodes {
		out, err := n.asTenant().Select(t.Context(), l.i.in.Tenant, "SELECT id, text FROM "+rowsID+" WHERE id LIKE 'w%'")
		l.i.must(err)
		have := map[string]string{}
		for _, raw := range out.Rows {
			var row struct{ ID, Text string }
			l.i.must(json.Unmarshal(raw, &row))
			have[row.ID] = row.Text
		}
		for pk, text := range want {
			if have[pk] != text {
				t.Errorf("%s has %q as %s, and %q was acknowledged", n.ID, have[pk], pk, text)
			}
		}
		if len(have) != len(want) {
			t.Errorf("%s has %d rows, %d were written", n.ID, len(have), len(want))
		}
	}
}

// onTheLine: invariant 1, and the half of 3 that says who may acknowledge. The frame of
// each acknowledgement lies on the line of the last writer, in the part of the epoch that
// acknowledged it, or of an earlier one where the write was sent more than once; and the
// row has that very frame as its version.
func (l *load) onTheLine() {
	t := l.i.t
	t.Helper()
	rec := l.i.record()
	for _, a := range l.acks {
		of := epochAt(rec, a.frame)
		if of == 0 || of > a.epoch || of < a.epoch && a.attempts == 1 && !l.i.repeats(a) {
			t.Errorf("%s: on the line, its frame is of epoch %d: %+v", a, of, rec.Line)
		}
	}
	wrong := l.versions()
	for _, err := range wrong[:min(len(wrong), 10)] {
		t.Error(err)
	}
}

// repeats: the endpoint sends a request again by itself, so that a write of one attempt
// may be a repeated one, if another node wrote between its sending and its answer.
func (i *instance) repeats(a ack) bool { return a.at.Sub(a.sent) > settle.Every }

// epochAt is the epoch of an LSN on the line; 0 below what the record remembers.
func epochAt(rec lease.Record, frame uint64) (epoch uint64) {
	for _, o := range rec.Line {
		if uint64(o.FirstLSN) <= frame && o.Epoch <= rec.ConfirmedEpoch {
			epoch = uint64(o.Epoch)
		}
	}
	return epoch
}

// versions compares the version of each row that was written once with the frame of its
// acknowledgement.
func (l *load) versions() (wrong []error) {
	const askers = 4
	writer := l.i.writer().asTenant()
	work := make(chan ack)
	var mu sync.Mutex
	var done sync.WaitGroup
	for range askers {
		done.Go(func() {
			for a := range work {
				if err := l.i.version(writer, a); err != nil {
					mu.Lock()
					wrong = append(wrong, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, a := range l.acks {
		if a.table == rowsID {
			work <- a
		}
	}
	close(work)
	done.Wait()
	return wrong
}

func (i *instance) version(c *call.Client, a ack) error {
	resp, err := c.Do(i.t.Context(), call.Request{Method: http.MethodGet, Path: i.row(a.table, a.pk)})
	if err != nil {
		return err
	}
	version, err := strconv.ParseUint(strings.Trim(resp.Header.Get("ETag"), `"`), 10, 64)
	if err != nil || version != a.frame {
		return fmt.Errorf("%s has the version %q: %d %s", a, resp.Header.Get("ETag"), resp.Status, resp.Body)
	}
	return nil
}

// eachFrameOnce: invariant 3. No two writes were acknowledged with the same frame.
func (l *load) eachFrameOnce() {
	l.i.t.Helper()
	by := map[uint64]ack{}
	for _, a := range l.acks {
		if other, ok := by[a.frame]; ok {
			l.i.t.Errorf("one frame, two writes: %s and %s", a, other)
		}
		by[a.frame] = a
	}
}

// linearizable: what clients saw of the registers has an order.
func (l *load) linearizable() {
	l.i.t.Helper()
	if r := porcupine.CheckOperationsTimeout(registerModel(), l.events, settle.Within); r != porcupine.Ok {
		l.i.t.Errorf("the history of the registers is not linearizable: %s", r)
		for _, part := range registerModel().Partition(l.events) {
			if porcupine.CheckOperationsTimeout(registerModel(), part, settle.Within) == porcupine.Ok {
				continue
			}
			for _, o := range part {
				l.i.t.Logf("%d: %d to %d ms: %+v", o.ClientId, o.Call/1e6, o.Return/1e6, o.Input)
			}
		}
	}
}
