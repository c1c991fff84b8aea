package proxy

import (
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// cluster is a model of an instance: one log, one writer at a time, and writers that fail
// in every way between reading a request and having answered it.
type cluster struct {
	t *testing.T

	mu sync.Mutex
	// rng decides faults; calm ends them.
	rng   *rand.Rand
	calm  bool
	epoch int
	url   string
	// log counts how often each write was appended, keys holds those with an answer.
	log  map[string]int
	keys map[string]bool
	all  []*httptest.Server
	// release lets frozen writers die, at the end.
	release chan struct{}
	// trouble says that a writer is frozen, which nobody but a watcher notices.
	trouble chan struct{}
}

// node is the writer of one epoch, or a follower of later ones.
type node struct {
	c     *cluster
	epoch int
}

// mishap is what goes wrong with one request.
type mishap int

const (
	none mishap = iota
	diesUnread
	diesBeforeAppend
	diesAfterAppend
	freezesBeforeAppend
	freezesAfterAppend
	breaksAnswer
	breaksLongAnswer
	refusesCleanly
	refusesInDoubt
	refusesInDoubtAppended
	overloads
	mishaps
)

// promote makes a new writer.
func (c *cluster) promote() (epoch int, url string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epoch++
	n := &node{c: c, epoch: c.epoch}
	s := httptest.NewServer(n)
	c.all = append(c.all, s)
	c.url = s.URL
	return c.epoch, c.url
}

// append decides a write under the epoch, as the engine does: a writer of the past
// appends nothing. ok is false then.
func (n *node) append(id, key string) (ok bool) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if n.c.epoch != n.epoch {
		return false
	}
	if key == "" || !n.c.keys[key] {
		n.c.log[id]++
	}
	if key != "" {
		n.c.keys[key] = true
	}
	return true
}

func (n *node) mishap() mishap {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	if n.c.calm || n.c.rng.IntN(3) != 0 {
		return none
	}
	return mishap(n.c.rng.IntN(int(mishaps)))
}

// refuse says that nothing was appended; half the time as a follower that names the writer.
func (n *node) refuse(w http.ResponseWriter) {
	n.c.mu.Lock()
	text := fmt.Sprintf(`{"error":"read_only","message":"m","retry":true,"leader":%q}`, n.c.url)
	if n.c.rng.IntN(2) == 0 {
		text = `{"error":"fenced","message":"m","retry":true}`
	}
	n.c.mu.Unlock()
	w.WriteHeader(503)
	_, _ = io.WriteString(w, text)
}

func (n *node) freeze(r *http.Request) {
	select {
	case n.c.trouble <- struct{}{}:
	default:
	}
	select {
	case <-r.Context().Done():
	case <-n.c.release:
	}
	panic(http.ErrAbortHandler)
}

// ServeHTTP implements http.Handler.
func (n *node) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f := n.mishap()
	if f == diesUnread {
		n.die(w, "")
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	id, _, _ := strings.Cut(string(body), " ")
	if r.Method == "GET" {
		id = r.URL.Query().Get("id")
	}
	switch f {
	case diesBeforeAppend:
		n.die(w, "")
		return
	case freezesBeforeAppend:
		n.freeze(r)
	case refusesCleanly:
		w.WriteHeader(503)
		_, _ = io.WriteString(w, `{"error":"not_ready","message":"m","retry":true}`)
		return
	case overloads: // it is passed on, and leaves what is in doubt in doubt
		if r.Header.Get("Idempotency-Key") == "" {
			w.WriteHeader(503)
			_, _ = io.WriteString(w, `{"error":"overloaded","message":"m","retry":true}`)
			return
		}
	}
	w.Header().Set("X-OC-Epoch", strconv.Itoa(n.epoch))
	if r.Method == "GET" {
		n.c.mu.Lock()
		body = []byte(id + " " + strconv.Itoa(n.c.log[id]))
		n.c.mu.Unlock()
	} else if f != refusesInDoubt && !n.append(id, r.Header.Get("Idempotency-Key")) {
		n.refuse(w)
		return
	}
	switch f {
	case diesAfterAppend:
		n.die(w, "")
	case freezesAfterAppend:
		n.freeze(r)
	case breaksAnswer:
		n.die(w, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
	case breaksLongAnswer:
		n.die(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
	case refusesInDoubt, refusesInDoubtAppended:
		w.WriteHeader(503)
		_, _ = io.WriteString(w, `{"error":"fenced","message":"m","retry":true,"outcome":"unknown"}`)
	default:
		_, _ = w.Write(body)
	}
}

// die closes the connection behind text.
func (n *node) die(w http.ResponseWriter, text string) {
	c, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		n.c.t.Error(err)
		return
	}
	_, _ = io.WriteString(c, text)
	if t, ok := c.(*net.TCPConn); ok && text == "" {
		_ = t.SetLinger(0) // a reset, as when a process is killed
	}
	_ = c.Close()
}

// write is one request of the model and its answer.
type write struct {
	id    string
	keyed bool
	get   bool
	got   answer
}

// TestModel: under random faults and switches, what was acknowledged with a key happened
// once, what was sent without a key at most once, what is said not to be done was not, and
// nothing fails that could have been repeated.
func TestModel(t *testing.T) {
	for i := range *modelRuns {
		seed := *modelSeed + uint64(i)
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) { runModel(t, seed) })
	}
}

var (
	modelSeed = flag.Uint64("seed", 1, "the first seed of the model test")
	modelRuns = flag.Int("runs", 3, "how many seeds the model test runs")
)

func runModel(t *testing.T, seed uint64) {
	const clients, each = 8, 40
	cfg := patient()
	cfg.Grace = 5 * time.Millisecond
	cfg.MaxLost = 1 << 20
	r := newRig(t, cfg)
	c := &cluster{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), log: map[string]int{}, keys: map[string]bool{},
		release: make(chan struct{}), trouble: make(chan struct{}, 1),
	}
	r.set(c.promote())
	stop, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for { // the control plane: whatever looks wrong is a failover
			select {
			case <-stop:
				return
			case <-c.trouble:
			case <-r.Hints():
			}
			epoch, url := c.promote()
			if err := r.SetWriter(lsnEpoch(epoch), url); err != nil {
				t.Error(err)
			}
		}
	}()
	done := make([][]write, clients)
	var all sync.WaitGroup
	for i := range clients {
		rng := rand.New(rand.NewPCG(seed, uint64(i)+2))
		all.Go(func() {
			for n := range each {
				w := write{id: fmt.Sprintf("%d-%d", i, n), keyed: rng.IntN(2) == 0, get: rng.IntN(5) == 0}
				pad := strings.Repeat("x", rng.IntN(3)*20_000)
				switch {
				case w.get:
					w.got = r.do("GET", rows+"/1?id="+w.id, "")
				case w.keyed:
					w.got = r.do("POST", rows, w.id+" "+pad, key, w.id)
				default:
					w.got = r.do("POST", rows, w.id+" "+pad)
				}
				done[i] = append(done[i], w)
			}
		})
	}
	all.Wait()
	close(stop)
	<-watched
	close(c.release)
	for _, s := range c.all {
		s.Close()
	}
	c.check(done)
	if m := r.Metrics(); m.HeldNow != 0 || m.BufferedBytes != 0 || m.Repeated == 0 || m.Unknown == 0 || m.Switches < 5 {
		t.Errorf("%+v", m)
	}
}

// check holds every answer to what is in the log.
func (c *cluster) check(done [][]write) {
	acked := 0
	for _, list := range done {
		for _, w := range list {
			n := c.log[w.id]
			overloaded := w.got.status == 503 && w.got.fault.Error == "overloaded"
			broken := w.got.status == 200 && w.got.err != nil // a long answer: its client saw it break
			switch {
			case w.get:
				if w.got.status != 200 && !overloaded {
					c.t.Errorf("read %s failed: %v", w.id, w.got)
				}
				continue
			case n > 1:
				c.t.Errorf("write %s (keyed: %t) is in %d times; answered %v", w.id, w.keyed, n, w.got)
			case w.got.status == 200 && n != 1:
				c.t.Errorf("write %s was acknowledged and is not in", w.id)
			case w.got.status == 503 && w.got.fault.Outcome == "" && n != 0:
				c.t.Errorf("write %s is in, and was refused as if it were not: %v", w.id, w.got)
			case w.keyed && w.got.status != 200:
				c.t.Errorf("write %s has a key and failed: %v", w.id, w.got)
			case w.got.status != 200 && !overloaded && w.got.fault.Outcome != "unknown":
				c.t.Errorf("write %s failed, and could have been sent again: %v", w.id, w.got)
			}
			if w.got.status == 200 && !broken {
				acked++
			}
		}
	}
	if acked == 0 {
		c.t.Error("nothing was acknowledged")
	}
}
