package lease

import (
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"originchain/shared/lsn"
)

var (
	modelSeed = flag.Uint64("model.seed", 1, "first seed of the model test")
	modelRuns = flag.Int("model.n", 3000, "how many seeds the model test runs")
)

const modelSteps = 600

// modelNode is a node as the model sees it: a durable log, and a role.
type modelNode struct {
	id string
	// log has the epoch of each frame; frame n is at index n-1. All is durable.
	log []lsn.Epoch
	// accepted is the highest leader epoch it has followed; it refuses lower ones.
	accepted lsn.Epoch
	// writing: it runs as writer, with rec as the record it last wrote.
	writing bool
	rec     Record
	// first is where its epoch begins.
	first lsn.LSN
	// expired: its lease has run out by its own clock. It still appends and streams.
	expired bool
	// damaged: its disk has lost frames, and the epoch it accepted, and the holder
	// has not met it since. That a stale leader meets it first is not modelled:
	// the rules have no answer to it.
	damaged bool
	// acked is how far it has acknowledged, or may have before it opened.
	acked lsn.LSN
}

func (n *modelNode) last() lsn.Pos {
	if len(n.log) == 0 {
		return lsn.Pos{}
	}
	return lsn.Pos{Epoch: n.log[len(n.log)-1], LSN: lsn.LSN(len(n.log))}
}

// shared is how many frames two logs have in common.
func (n *modelNode) shared(o *modelNode) lsn.LSN {
	i := 0
	for i < len(n.log) && i < len(o.log) && n.log[i] == o.log[i] {
		i++
	}
	return lsn.LSN(i)
}

func (n *modelNode) claim() Claim { return Claim{n.id, n.rec.Epoch} }

// model is an instance of a few nodes and one record, and what clients were told.
type model struct {
	*rand.Rand
	nodes  []*modelNode
	record Record
	// acked has the epoch of every frame that was acknowledged.
	acked []lsn.Epoch
	// ackedBy is the epoch of the last writer that acknowledged.
	ackedBy lsn.Epoch
	seen    map[string]int
}

func newModel(seed uint64, seen map[string]int) *model {
	m := &model{Rand: rand.New(rand.NewPCG(seed, 7)), seen: seen}
	for _, id := range []string{"a", "b", "c", "d"} {
		m.nodes = append(m.nodes, &modelNode{id: id})
	}
	return m
}

func (m *model) pick() *modelNode { return m.nodes[m.IntN(len(m.nodes))] }

func (m *model) node(id string) *modelNode {
	return m.nodes[slices.IndexFunc(m.nodes, func(n *modelNode) bool { return n.id == id })]
}

// write is the compare-and-set by a writer that knows only the record it wrote
// last. One that fails ends its role.
func (m *model) write(n *modelNode, next Record, err error) (bool, error) {
	var fenced *FencedError
	switch {
	case errors.As(err, &fenced):
		return false, fmt.Errorf("%s is fenced by its own record: %w", n.id, err)
	case err != nil:
		return false, err
	case n.rec.Version != m.record.Version:
		n.expired = true
		m.seen["lost"]++
		return false, nil
	}
	next.Version = m.record.Version + 1
	if err := next.Validate(); err != nil {
		return false, err
	}
	m.record, n.rec = next, next
	return true, nil
}

// open: a node starts, and takes the record once the holder's lease is out.
func (m *model) open(n *modelNode) error {
	n.writing, n.expired = false, false
	v := m.record.MayOpen(n.id, n.last())
	m.seen[string(v.Decision)+" "+string(v.Reason)]++
	lose := v.Decision != Open && len(n.log) > 0 && m.IntN(20) == 0
	if (v.Decision != Open && !lose) || (m.record.Epoch == 0 && n.id != "a") {
		return nil
	}
	if lose {
		if err := m.acceptLoss(n); err != nil {
			return err
		}
	}
	if err := m.holdsAcked(n, "may open"); err != nil {
		return err
	}
	// Before another node takes the record, the holder's lease has to be out.
	for _, o := range m.nodes {
		o.expired = o.expired || o.writing
	}
	known := m.record
	next, err := known.Take(Candidate{Instance: instance, Node: n.id, URL: "http://" + n.id, ReplicationAddress: n.id + ":1", Last: n.last(), AcceptLoss: lose})
	if err != nil {
		return err
	}
	if !known.Confirmed() && known.Epoch != 0 && known.Holder != n.id {
		m.seen["instead of an unconfirmed one"]++
	}
	n.rec = known
	if ok, err := m.write(n, next, nil); !ok {
		return err
	}
	if m.IntN(8) == 0 {
		m.seen["killed before the first frame"]++
		return nil
	}
	n.writing, n.first, n.acked = true, n.last().LSN+1, n.last().LSN
	n.accepted = max(n.accepted, next.Epoch)
	n.log = append(n.log, next.Epoch)
	return nil
}

// acceptLoss: the operator opens a node that may not. What clients were told is
// then as far as its log goes, and AtRisk has said so.
func (m *model) acceptLoss(n *modelNode) error {
	kept := 0
	for kept < min(len(m.acked), len(n.log)) && m.acked[kept] == n.log[kept] {
		kept++
	}
	if first, _ := m.record.AtRisk(n.last()); int(first) > kept+1 && kept < len(m.acked) {
		return fmt.Errorf("%s at %s: %d is at risk first, but what it has of the acknowledged ends at %d\nrecord %+v", n.id, n.last(), first, kept, m.record)
	}
	if kept < len(m.acked) {
		m.seen["loss accepted"]++
	}
	m.acked = m.acked[:kept]
	return nil
}

// holdsAcked is invariant 1: what was acknowledged is in the log.
func (m *model) holdsAcked(n *modelNode, what string) error {
	for i, e := range m.acked {
		if i >= len(n.log) || n.log[i] != e {
			return fmt.Errorf("%s %s, and its log lacks %d@%d: it ends at %s\nrecord %+v", n.id, what, i+1, e, n.last(), m.record)
		}
	}
	return nil
}

func (m *model) confirm(n *modelNode) error {
	if n.rec.Confirmed() {
		return nil
	}
	var inSync []string
	for _, o := range m.nodes {
		if slices.Contains(n.rec.Eligible, o.id) && o.accepted == n.rec.Epoch && o.shared(n) >= n.first-1 && m.IntN(4) != 0 {
			inSync = append(inSync, o.id)
		}
	}
	inSync = slices.DeleteFunc(inSync, func(id string) bool { return id == n.id })
	before := lsn.Pos{LSN: n.first - 1}
	if n.first > 1 {
		before.Epoch = n.log[n.first-2]
	}
	next, err := n.rec.Confirm(n.claim(), before, inSync, 1)
	if ok, err := m.write(n, next, err); !ok {
		return err
	}
	m.seen["confirmed"]++
	return m.holdsAcked(n, "is confirmed")
}

// stream: o follows n for a while. Even a fenced writer streams.
func (m *model) stream(n, o *modelNode) error {
	if o == n || o.writing || n.rec.Epoch < o.accepted {
		return nil
	}
	if o.damaged && n.rec.Version != m.record.Version {
		return nil
	}
	// A member that could not open now has lost frames: it is out of the sets first,
	// because it may soon have enough to pass for one that did not.
	inSets := slices.Contains(n.rec.InSync, o.id) || slices.Contains(n.rec.Eligible, o.id)
	if inSets && n.rec.MayOpen(o.id, o.last()).Decision != Open {
		m.seen["shut out"]++
		next, err := n.rec.Leave(n.claim(), o.id)
		if ok, err := m.write(n, next, err); !ok {
			return err
		}
	}
	o.accepted, o.damaged = n.rec.Epoch, false
	fork := int(o.shared(n))
	if fork < len(o.log) {
		m.seen["rewound"]++
	}
	o.log = append(o.log[:fork:fork], n.log[fork:fork+m.IntN(len(n.log)-fork+1)]...)
	return nil
}

// ack: as far as every member has the log durable, and only while the lease lasts.
func (m *model) ack(n *modelNode) error {
	if !n.rec.Confirmed() || n.expired {
		return nil
	}
	upTo := n.last().LSN
	for _, id := range n.rec.InSync {
		o := m.node(id)
		if o.accepted != n.rec.Epoch {
			return nil // it is not connected, so its last word stands
		}
		upTo = min(upTo, o.shared(n))
	}
	if upTo <= n.acked {
		return nil
	}
	if n.rec.Epoch < m.ackedBy {
		return fmt.Errorf("%s acknowledges in epoch %d after epoch %d did", n.id, n.rec.Epoch, m.ackedBy)
	}
	m.ackedBy, n.acked = n.rec.Epoch, upTo
	if err := m.holdsAcked(n, "acknowledges"); err != nil {
		return err
	}
	m.acked = slices.Clone(n.log[:upTo])
	m.seen["acked"]++
	m.seen[fmt.Sprintf("acked by %d", 1+len(n.rec.InSync))]++
	return nil
}

func (m *model) enter(n, o *modelNode) error {
	if !n.rec.Confirmed() || o == n || o.accepted != n.rec.Epoch || o.shared(n) < n.acked {
		return nil
	}
	next, err := n.rec.Enter(n.claim(), o.id)
	_, err = m.write(n, next, err)
	return err
}

func (m *model) leave(n, o *modelNode) error {
	if !slices.Contains(n.rec.InSync, o.id) {
		return nil
	}
	next, err := n.rec.Leave(n.claim(), o.id)
	_, err = m.write(n, next, err)
	return err
}

// handOver: a writer that has acknowledged all it has gives the record to a follower that
// has all of it too, which opens without waiting for a lease, unless it dies first.
func (m *model) handOver(n, o *modelNode) error {
	alone := len(n.rec.InSync) == 0
	if !n.rec.Confirmed() || n.expired || o == n || o.writing || n.acked != n.last().LSN || o.accepted != n.rec.Epoch || o.last() != n.last() || o.shared(n) != n.acked {
		return nil
	}
	if !alone && !slices.Contains(n.rec.InSync, o.id) {
		return nil
	}
	next, err := n.rec.HandOver(n.claim(), Candidate{Instance: instance, Node: o.id, URL: "http://" + o.id, Last: o.last()}, n.acked, alone)
	if ok, err := m.write(n, next, err); !ok {
		return err
	}
	n.writing = false
	m.seen["handed over"]++
	if m.IntN(4) == 0 {
		return nil
	}
	known := m.record
	next, err = known.Adopt(Candidate{Instance: instance, Node: o.id, URL: "http://" + o.id, Place: "p", Last: o.last()})
	o.rec = known
	if ok, err := m.write(o, next, err); !ok {
		return err
	}
	m.seen["adopted"]++
	o.writing, o.expired, o.first, o.acked, o.accepted = true, false, o.last().LSN+1, o.last().LSN, next.Epoch
	o.log = append(o.log, next.Epoch)
	return m.holdsAcked(o, "was handed over to")
}

func (m *model) renew(n *modelNode) error {
	commit := n.rec.CommitLSN
	if n.rec.Confirmed() && !n.expired {
		commit = max(commit, min(n.acked, lsn.LSN(len(m.acked))))
	}
	next, err := n.rec.Renew(n.claim(), commit)
	ok, err := m.write(n, next, err)
	n.expired = n.expired && !ok // what stalled and still holds the record goes on
	return err
}

// step is one event: to any node now and then, else to one that runs as writer.
func (m *model) step() error {
	n, o := m.pick(), m.pick()
	writers := slices.DeleteFunc(slices.Clone(m.nodes), func(n *modelNode) bool { return !n.writing })
	if len(writers) == 0 || m.IntN(20) == 0 {
		return m.toAny(n)
	}
	n = writers[m.IntN(len(writers))]
	switch event := m.IntN(100); {
	case event < 1:
		n.writing = false // killed
	case event < 3:
		n.expired = true
	case event < 15:
		n.log = append(n.log, slices.Repeat([]lsn.Epoch{n.rec.Epoch}, 1+m.IntN(3))...)
	case event < 60:
		return m.stream(n, o)
	case event < 75:
		return m.ack(n)
	case event < 83:
		return m.confirm(n)
	case event < 91:
		return m.enter(n, o)
	case event < 94:
		return m.leave(n, o)
	case event < 96:
		return m.handOver(n, o)
	default:
		return m.renew(n)
	}
	return nil
}

func (m *model) toAny(n *modelNode) error {
	switch {
	case m.IntN(8) != 0:
		return m.open(n)
	case n.writing:
	case m.IntN(2) == 0: // its disk is lost
		n.log, n.accepted, n.damaged = nil, 0, true
		m.seen["wiped"]++
	case lsn.LSN(len(n.log)) >= m.record.CommitLSN && m.record.CommitLSN > 1: // or an old copy of it put back
		n.log, n.accepted, n.damaged = n.log[:1+m.IntN(int(m.record.CommitLSN)-1)], 0, true
		m.seen["rolled back"]++
	}
	return nil
}

// TestModel runs random histories of nodes that open, append, stream, acknowledge,
// stall and lose their disk, under the rules. DESIGN's invariants: what was
// acknowledged is in the log of every later writer (1), and once an epoch has
// acknowledged no lower one does (3).
func TestModel(t *testing.T) {
	seen := make(map[string]int)
	for i := range uint64(*modelRuns) {
		seed := *modelSeed + i
		m := newModel(seed, seen)
		for step := range modelSteps {
			if err := m.step(); err != nil {
				t.Fatalf("-model.seed=%d, step %d: %v", seed, step, err)
			}
		}
	}
	t.Log(seen)
	for _, want := range []string{"open ", "follow behind", "follow diverged", "follow not_entitled", "refuse behind", "loss accepted", "rolled back", "follow no_history", "refuse no_history",
		"instead of an unconfirmed one", "killed before the first frame", "confirmed", "rewound", "handed over", "adopted", "lost", "shut out", "wiped",
		"acked by 1", "acked by 2", "acked by 3"} {
		if seen[want] < *modelRuns/100 {
			t.Errorf("%q happened %d times: the model does not reach what it is to test", want, seen[want])
		}
	}
}
