package plane

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"originchain/scripts/call"
	"originchain/shared/api"
	"originchain/shared/failover"
	"originchain/shared/lsn"
)

const (
	// watchEvery is the pause between two looks at a node, watchTimeout bounds one.
	watchEvery   = 100 * time.Millisecond
	hurryEvery   = 10 * time.Millisecond
	watchTimeout = time.Second
)

// sight is what was last heard of a node.
type sight struct {
	api.Replication
	// heard is when it last answered; zero: never. answers says that it did the last
	// time, ready what /ready said then, failing that /health said that its log takes no
	// writes.
	heard   time.Time
	answers bool
	ready   bool
	failing bool
}

func (s *sight) lsnEpoch() lsn.Epoch { return lsn.Epoch(s.Epoch) }

// watcher looks at every node, for status, endpoint and detectors.
type watcher struct {
	nodes []failover.Node
	token string
	http  *http.Client
	// beat is told of each answer of a node; nil tells nobody.
	beat func(node string, r *api.Replication)

	mu   sync.Mutex
	seen map[string]sight
	// news is closed, and made anew, with each change of what is seen.
	news chan struct{}
}

func newWatcher(nodes []failover.Node, adminToken string, dial dialer) *watcher {
	return &watcher{
		nodes: nodes, token: adminToken, seen: make(map[string]sight), news: make(chan struct{}),
		http: &http.Client{Timeout: watchTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 2, DialContext: dial}},
	}
}

// run looks until ctx ends.
func (w *watcher) run(ctx context.Context) {
	var all sync.WaitGroup
	for _, n := range w.nodes {
		all.Go(func() {
			tick := time.NewTicker(watchEvery)
			defer tick.Stop()
			for {
				w.look(ctx, n)
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	all.Wait()
	w.http.CloseIdleConnections()
}

// look asks one node.
func (w *watcher) look(ctx context.Context, n failover.Node) {
	client := call.Client{URL: n.URL, Token: w.token, HTTP: w.http}
	var r api.Replication
	err := client.Get(ctx, "/v1/admin/replication", &r)
	if err == nil && r.Node != n.ID {
		err = fmt.Errorf("at %s answers %q", n.URL, r.Node) // another node's word is not this one's
	}
	status := func(path string) int {
		if err != nil {
			return 0
		}
		resp, err := client.Do(ctx, call.Request{Method: http.MethodGet, Path: path})
		if err != nil {
			return 0
		}
		return resp.Status
	}
	ready := status("/ready") == http.StatusOK
	health := status("/health")
	if ctx.Err() != nil {
		return
	}
	failing := health >= http.StatusInternalServerError
	// One that says itself that its log takes no writes is as good as silent.
	if health != 0 && !failing && w.beat != nil {
		w.beat(n.ID, &r)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.seen[n.ID]
	s.answers, s.ready, s.failing = err == nil, ready, failing
	if err == nil {
		s.Replication, s.heard = r, time.Now()
	}
	w.seen[n.ID] = s
	close(w.news)
	w.news = make(chan struct{})
}

// hurry looks at one node more often, until ctx ends: it is about to be the writer.
func (w *watcher) hurry(ctx context.Context, n failover.Node) {
	tick := time.NewTicker(hurryEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.look(ctx, n)
		case <-ctx.Done():
			return
		}
	}
}

// all asks every node now.
func (w *watcher) all(ctx context.Context) {
	var all sync.WaitGroup
	for _, n := range w.nodes {
		all.Go(func() { w.look(ctx, n) })
	}
	all.Wait()
}

// of is what was last heard of a node.
func (w *watcher) of(id string) sight {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.seen[id]
}

// changed is closed when something was heard after the call.
func (w *watcher) changed() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.news
}

// writer is the node that says it writes, in the highest epoch of those that do.
func (w *watcher) writer() (n failover.Node, s sight, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, candidate := range w.nodes {
		if seen := w.seen[candidate.ID]; seen.answers && seen.Role == "writer" && (!ok || seen.Epoch > s.Epoch) {
			n, s, ok = candidate, seen, true
		}
	}
	return n, s, ok
}

// until waits until a condition holds of what is seen.
func (w *watcher) until(ctx context.Context, holds func() bool) error {
	for {
		changed := w.changed()
		if holds() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
