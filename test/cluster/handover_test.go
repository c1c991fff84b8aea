package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"originchain/scripts/call"
	"originchain/shared/api"
	"originchain/test/settle"
)

// handOver asks the node to give the writer's role to another one.
func (n *node) handOver(to string, of *node) (out api.Handover, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	in := api.HandoverRequest{Node: to}
	if of != nil {
		in.URL, in.ReplicationAddress = of.url(), of.replication()
	}
	return out, n.asAdmin().JSON(ctx, http.MethodPost, "/v1/admin/handover", in, &out)
}

// switched hands over from one node to the other, and makes that one the writer.
func (c *cluster) switched(from, to *node) uint64 {
	c.t.Helper()
	before := c.record()
	out, err := from.handOver(to.name, to)
	if err != nil {
		c.t.Fatalf("hand over from %s to %s: %v", from.name, to.name, err)
	}
	if out.Epoch != uint64(before.Epoch)+1 || out.LSN == 0 {
		c.t.Errorf("%+v after %+v", out, before)
	}
	if rec := c.record(); rec.Holder != to.name || uint64(rec.Epoch) != out.Epoch || uint64(rec.CommitLSN) != out.LSN {
		c.t.Errorf("the record after %+v: %+v", out, rec)
	}
	if _, err := to.promote(out.Epoch); err != nil {
		c.t.Fatalf("promote %s: %v", to.name, err)
	}
	return out.Epoch
}

// proxied are clients that write without a pause, as a proxy does it: a 503 read_only,
// which says that nothing was written, is sent again; no other failure is.
type proxied struct {
	c     *cluster
	nodes []*node
	stop  chan struct{}
	done  sync.WaitGroup

	mu     sync.Mutex
	acked  map[string]uint64 // by key, the epoch
	times  []acknowledged
	faults []error
}

type acknowledged struct {
	at    time.Time
	epoch uint64
}

func (c *cluster) proxy(clients int, nodes ...*node) *proxied {
	p := &proxied{c: c, nodes: nodes, stop: make(chan struct{}), acked: map[string]uint64{}}
	for i := range clients {
		p.done.Go(func() { p.write(i) })
	}
	return p
}

func (p *proxied) write(client int) {
	at := 0
	for i := 0; ; i++ {
		select {
		case <-p.stop:
			return
		default:
		}
		pk := fmt.Sprintf("p%d-%06d", client, i)
		var err error
		if at, err = p.insist(at, pk); err != nil {
			p.mu.Lock()
			p.faults = append(p.faults, fmt.Errorf("%s: %w", pk, err))
			p.mu.Unlock()
			return
		}
	}
}

func (p *proxied) insist(at int, pk string) (int, error) {
	for deadline := time.Now().Add(settle.Within); time.Now().Before(deadline); {
		resp, err := p.nodes[at].asTenant().Do(p.c.t.Context(), call.Request{
			Method: http.MethodPut, Path: p.c.rowPath(writesID, pk), ContentType: api.ContentTypeJSON, Body: fmt.Appendf(nil, `{"id":%q,"text":"x"}`, pk),
		})
		if err != nil {
			return at, err
		}
		if resp.Status == http.StatusOK {
			_, epoch, err := position(resp)
			p.mu.Lock()
			defer p.mu.Unlock()
			p.acked[pk] = epoch
			p.times = append(p.times, acknowledged{time.Now(), epoch})
			return at, err
		}
		var e struct{ Error, Leader, Outcome string }
		if err := json.Unmarshal(resp.Body, &e); err != nil || resp.Status != http.StatusServiceUnavailable || e.Error != "read_only" || e.Outcome != "" {
			return at, fmt.Errorf("%s answers %d %s", p.nodes[at].name, resp.Status, resp.Body)
		}
		for i, n := range p.nodes {
			if n.url() == e.Leader {
				at = i
			}
		}
		settle.Pause(p.c.t.Context(), 2*time.Millisecond)
	}
	return at, errors.New("not acknowledged")
}

// end stops the clients, and returns for how long no write was acknowledged before the
// first one of each epoch.
func (p *proxied) end() map[uint64]time.Duration {
	p.c.t.Helper()
	close(p.stop)
	p.done.Wait()
	for _, err := range p.faults {
		p.c.t.Error(err)
	}
	gaps := map[uint64]time.Duration{}
	for i := 1; i < len(p.times); i++ {
		if a, b := p.times[i-1], p.times[i]; a.epoch < b.epoch {
			gaps[b.epoch] = b.at.Sub(a.at)
		}
	}
	return gaps
}

// count is how many writes were acknowledged.
func (p *proxied) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.times)
}

func (p *proxied) more(n int) {
	p.c.t.Helper()
	want := p.count() + n
	settle.Eventually(p.c.t, "writes go on", func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		if len(p.faults) > 0 {
			return nil // end tells
		}
		if got := len(p.times); got < want {
			return fmt.Errorf("%d of %d", got, want)
		}
		return nil
	})
}

// Under load the roles are exchanged and exchanged back, in the same processes: no
// acknowledged write is lost, and whoever is refused is told that nothing was written.
func TestHandoverUnderLoad(t *testing.T) {
	t.Parallel()
	c, a, b := newPair(t, 4*time.Second)
	pids := []int{a.server.PID(), b.server.PID()}
	p := c.proxy(8, a, b)
	for range 2 {
		for _, pair := range [][2]*node{{a, b}, {b, a}} {
			p.more(300)
			from, to := pair[0], pair[1]
			epoch := c.switched(from, to)
			to.becomesWriter(epoch)
			from.ready()
			to.ready()
			c.inSync(from.name)
			if s := from.mustStand(); s.Role != "follower" || s.Leader != to.url() {
				t.Errorf("%s should follow: %+v", from.name, s)
			}
		}
	}
	p.more(300)
	for epoch, gap := range p.end() {
		t.Logf("epoch %d: %s between the last acknowledgement before it and its first", epoch, gap)
	}
	if got := []int{a.server.PID(), b.server.PID()}; got[0] != pids[0] || got[1] != pids[1] {
		t.Error("a node was restarted")
	}
	for pk := range p.acked {
		a.shows(pk)
	}
	c.current.Store(a)
	c.settle(nil)
}

// Who cannot take over is told so, and writes go on at the writer as if nothing had
// been asked.
func TestHandoverToNobody(t *testing.T) {
	t.Parallel()
	c, a, b := newPair(t, time.Second)
	before := c.record()
	refused := func(what, to string, status int, says string) {
		t.Helper()
		_, err := a.handOver(to, b)
		if err == nil || !strings.Contains(err.Error(), fmt.Sprint(status)) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", what, err)
		}
		a.mustPut("after " + strings.ReplaceAll(what, " ", "-"))
	}
	refused("itself", "a", http.StatusConflict, "writer already")
	refused("unknown", "c", http.StatusConflict, "no follower c")
	if _, err := b.handOver("a", a); err == nil || !strings.Contains(err.Error(), "read_only") {
		t.Errorf("a follower hands over: %v", err)
	}
	if err := b.freeze(); err != nil {
		t.Fatal(err)
	}
	refused("frozen", "b", http.StatusServiceUnavailable, "nothing was heard of b")
	c.inSync()
	refused("not in sync", "b", http.StatusConflict, "not in sync")
	if err := b.thaw(); err != nil {
		t.Fatal(err)
	}
	c.inSync("b")
	b.kill()
	refused("gone", "b", http.StatusConflict, "not")
	if rec := c.record(); rec.Epoch != before.Epoch || rec.Holder != "a" {
		t.Errorf("the record: %+v", rec)
	}
	b.start(append(writerArgs(1, time.Second, followerArgs...), b.serving()...)...)
	c.inSync("b")
	c.settle(nil)
}

// A node that is given the epoch and dies is the next writer all the same; so is one
// whose giver has died.
func TestHandoverAndDeath(t *testing.T) {
	t.Parallel()
	c, a, b := newPair(t, time.Second)
	asWriter := func(n *node) []string { return append(writerArgs(1, time.Second), n.serving()...) }
	a.mustPut("before")
	if _, err := a.handOver("b", b); err != nil {
		t.Fatal(err)
	}
	b.kill()
	a.mustRefuse("to the old one", "read_only")
	b.start(asWriter(b)...)
	c.current.Store(b)
	b.shows("before")
	b.mustPut("of b")
	a.ready()
	c.inSync("a")

	out, err := b.handOver("a", a)
	if err != nil {
		t.Fatal(err)
	}
	b.kill()
	if _, err := a.promote(out.Epoch); err != nil {
		t.Fatal(err)
	}
	c.current.Store(a)
	a.becomesWriter(out.Epoch)
	a.shows("of b")
	a.mustPut("of a")
	b.start(asWriter(b)...)
	c.inSync("b")

	// The writer dies while it is asked: whatever it has done by then, one of the two
	// writes, and has everything.
	asked := make(chan error, 1)
	go func() {
		_, err := a.handOver("b", b)
		asked <- err
	}()
	a.kill()
	if err := <-asked; err == nil {
		t.Log("it had handed over")
	}
	if rec := c.record(); rec.Holder == "b" {
		if _, err := b.promote(uint64(rec.Epoch)); err != nil {
			t.Fatal(err)
		}
		c.current.Store(b)
		b.becomesWriter(uint64(rec.Epoch))
	}
	a.start(asWriter(a)...)
	c.current.Load().mustPut("after all")
	a.shows("of a")
	b.shows("after all")
	c.settle(nil)
}
