package failover

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"originchain/shared/lease"
	"originchain/shared/registry"
)

var errKilled = errors.New("killed")

// trouble stands between a run and the outside: it ends the run's process at one call,
// before or after that had its effect, or loses calls and answers at random.
type trouble struct {
	mu    sync.Mutex
	calls []string
	// at is the call to be killed at, from 1; 0 for none.
	at    int
	after bool
	dead  bool
	kill  context.CancelFunc
	// random loses calls and answers, one of odds.
	random *rand.Rand
	odds   int
	lost   int
}

// do makes a call. Nothing that is asked of a dead process happens.
func (k *trouble) do(what string, unknown func(error) error, call func() error) error {
	k.mu.Lock()
	if k.dead {
		k.mu.Unlock()
		return errKilled
	}
	k.calls = append(k.calls, what)
	hit := len(k.calls) == k.at
	lose, deny := false, false
	if k.random != nil && k.random.IntN(k.odds) == 0 {
		k.lost++
		lose, deny = k.random.IntN(2) == 0, true
	}
	if hit {
		k.dead = true
		k.kill()
	}
	k.mu.Unlock()
	if hit && !k.after || deny && !lose {
		return errKilled
	}
	err := call()
	if hit || lose {
		if unknown != nil {
			return unknown(errKilled)
		}
		return errKilled
	}
	return err
}

type troubledLease struct {
	*trouble
	lease.Store
}

func (s troubledLease) Load(ctx context.Context) (r lease.Record, ok bool, err error) {
	e := s.do("lease load", nil, func() error { r, ok, err = s.Store.Load(ctx); return err })
	return r, ok, e
}

func (s troubledLease) CompareAndSet(ctx context.Context, v uint64, next lease.Record) (r lease.Record, err error) {
	e := s.do("lease set", func(err error) error { return &lease.OutcomeUnknownError{Err: err} }, func() error { r, err = s.Store.CompareAndSet(ctx, v, next); return err })
	return r, e
}

type troubledRegistry struct {
	*trouble
	registry.Store
}

func (s troubledRegistry) Load(ctx context.Context, key string) (d registry.Document, err error) {
	e := s.do("load "+key, nil, func() error { d, err = s.Store.Load(ctx, key); return err })
	return d, e
}

func (s troubledRegistry) Save(ctx context.Context, key string, v uint64, body []byte) (d registry.Document, err error) {
	e := s.do("save "+key, func(err error) error { return &registry.OutcomeUnknownError{Key: key, Err: err} }, func() error { d, err = s.Store.Save(ctx, key, v, body); return err })
	return d, e
}

type troubledControl struct {
	*trouble
	Control
}

func (s troubledControl) Stop(ctx context.Context, n Node) (p Process, err error) {
	e := s.do("stop", nil, func() error { p, err = s.Control.Stop(ctx, n); return err })
	return p, e
}

func (s troubledControl) Start(ctx context.Context, n Node) error {
	return s.do("start", nil, func() error { return s.Control.Start(ctx, n) })
}

func (s troubledControl) Restart(ctx context.Context, n Node) error {
	return s.do("restart", nil, func() error { return s.Control.Restart(ctx, n) })
}

func (s troubledControl) Unit(ctx context.Context, n Node) (name string, text []byte, err error) {
	e := s.do("unit", nil, func() error { name, text, err = s.Control.Unit(ctx, n); return err })
	return name, text, e
}

func (s troubledControl) Rewrite(ctx context.Context, n Node, text []byte) error {
	return s.do("rewrite", nil, func() error { return s.Control.Rewrite(ctx, n, text) })
}

type troubledDNS struct {
	*trouble
	DNS
}

func (s troubledDNS) Point(ctx context.Context, name, address string, ttl time.Duration) error {
	return s.do("point", nil, func() error { return s.DNS.Point(ctx, name, address, ttl) })
}

type troubledNetwork struct {
	*trouble
	http.RoundTripper
}

func (s troubledNetwork) RoundTrip(req *http.Request) (resp *http.Response, err error) {
	e := s.do(req.Method+" "+req.URL.Path, nil, func() error { resp, err = s.RoundTripper.RoundTrip(req); return err })
	if e != nil {
		return nil, e
	}
	return resp, nil
}

// troubled are a world's ports behind trouble.
func (w *world) troubled(k *trouble) Deps {
	d := w.deps()
	d.Lease, d.Registry = troubledLease{k, d.Lease}, troubledRegistry{k, d.Registry}
	d.Control, d.DNS = troubledControl{k, d.Control}, troubledDNS{k, d.DNS}
	d.HTTP = &http.Client{Transport: troubledNetwork{k, w}}
	return d
}

// execute runs a failover in a process that ends as the trouble wants.
func (w *world) execute(t *testing.T, k *trouble, req Request) (Report, error) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	k.kill = cancel
	return Execute(ctx, w.troubled(k), req, nil)
}

// ways are the ways in which an old writer goes.
func ways() map[string]func(w *world, r *Request) {
	return map[string]func(w *world, r *Request){
		"reaped": func(w *world, _ *Request) { w.kill("a", true) },
		"gone":   func(w *world, _ *Request) { w.stopFails = true; w.kill("a", false) },
		"stopped": func(w *world, r *Request) {
			w.with("a", func(n *fakeNode) { n.slow = 1100 * time.Millisecond })
			r.Allow.AllowSlowWriter = true
		},
		"planned": func(_ *world, r *Request) { r.Planned = true },
		"deaf":    func(w *world, _ *Request) { w.kill("a", true); w.with("b", func(n *fakeNode) { n.deaf = true }) },
	}
}

// cutting runs a failover from a to b in worlds of their own, killed at its first call, at
// its second, and so on, before and after the call had its effect, until it is killed at
// none. It tells how many cuts there were, and at which calls.
func cutting(t *testing.T, run func(t *testing.T, w *world, k *trouble)) (cuts int, seen map[string]bool) {
	t.Helper()
	seen = map[string]bool{}
	for whole := false; !whole; {
		cuts++
		for _, after := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t, "b")
				defer w.stop()
				k := &trouble{at: cuts, after: after}
				run(t, w, k)
				if whole = !k.dead; k.dead {
					seen[k.calls[cuts-1]] = true
				}
				if t.Failed() {
					t.Fatalf("killed at call %d of %v, after: %t", cuts, k.calls, after)
				}
			})
		}
	}
	if cuts < 30 {
		t.Errorf("%d cuts are too few", cuts)
	}
	return cuts, seen
}

// A run that is killed at any call, before or after that had its effect, is finished by
// the next one: one writer, in the one epoch, and a journal that is whole.
func TestKilledAnywhere(t *testing.T) {
	for name, way := range ways() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cuts, seen := cutting(t, func(t *testing.T, w *world, k *trouble) {
				req := w.request("b")
				way(w, &req)
				_, err := w.execute(t, k, req)
				if k.dead {
					req.Planned = true // a writer that is well is no obstacle to the second
					_, err = w.execute(t, &trouble{}, req)
				}
				if err != nil {
					t.Errorf("%v", err)
				}
				w.isDone(t, "b", 2)
			})
			for _, call := range []string{"save failover", "save last_failover", "rewrite", "point", "POST /v1/admin/promote", "unit"} {
				if !seen[call] {
					t.Errorf("%d cuts, and none at %s: %v", cuts, call, seen)
				}
			}
			if (name == "planned") != seen["POST /v1/admin/handover"] || (name == "deaf") != seen["restart"] || (name != "planned") != seen["lease set"] {
				t.Errorf("%v", seen)
			}
		})
	}
}

// Two at once end with one writer, and both say so.
func TestTwoAtOnce(t *testing.T) {
	for name, way := range ways() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bubble(t, func(t *testing.T, w *world) {
				req := w.request("b")
				way(w, &req)
				var both sync.WaitGroup
				reports, errs := make([]Report, 2), make([]error, 2)
				for i := range 2 {
					both.Go(func() { reports[i], errs[i] = Execute(t.Context(), w.deps(), req, nil) })
				}
				both.Wait()
				for i := range 2 {
					if errs[i] != nil || reports[i].Epoch != 2 || reports[i].To != "b" {
						t.Errorf("%d: %+v, %v", i, reports[i], errs[i])
					}
				}
				w.isDone(t, "b", 2)
			}, "b")
		})
	}
}

// Two for different nodes end with one writer: the one that comes second is refused by
// the name of the first, or finds that the record has moved.
func TestTwoTargetsAtOnce(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.kill("a", true)
		var both sync.WaitGroup
		errs := map[string]error{}
		var mu sync.Mutex
		for _, to := range []string{"b", "c"} {
			both.Go(func() {
				_, err := Execute(t.Context(), w.deps(), w.request(to), nil)
				mu.Lock()
				defer mu.Unlock()
				errs[to] = err
			})
		}
		both.Wait()
		winner, loser := "b", "c"
		if errs["b"] != nil {
			winner, loser = "c", "b"
		}
		if errs[winner] != nil || errs[loser] == nil || !strings.Contains(errs[loser].Error(), winner) {
			t.Errorf("%v", errs)
		}
		w.isDone(t, winner, 2)
	}, "b", "c")
}

// Whatever is lost on the way, killed, and tried at the same time: never two that
// acknowledge, and in the end, without faults, one writer.
func TestRandomFaults(t *testing.T) {
	names := []string{"reaped", "gone", "stopped", "planned", "deaf"}
	killed, lost, refusals := 0, 0, 0
	for seed := range uint64(150) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "b", "c")
			defer w.stop()
			r := rand.New(rand.NewPCG(seed, 11))
			req := w.request("b")
			ways()[names[r.IntN(len(names))]](w, &req)
			req.Planned = true
			var runs sync.WaitGroup
			var mu sync.Mutex
			for range 1 + r.IntN(4) {
				k := &trouble{random: rand.New(rand.NewPCG(r.Uint64(), 1)), odds: 4 + r.IntN(30)}
				if r.IntN(2) == 0 {
					k.at, k.after = 1+r.IntN(80), r.IntN(2) == 0
				}
				mine := req
				if r.IntN(4) == 0 {
					mine.To = "c"
				}
				pause := time.Duration(r.IntN(3000)) * time.Millisecond
				runs.Go(func() {
					time.Sleep(pause)
					_, err := w.execute(t, k, mine)
					mu.Lock()
					defer mu.Unlock()
					lost += k.lost
					if k.dead {
						killed++
					} else if err != nil {
						refusals++
					}
				})
			}
			runs.Wait()
			// A node that is down is started by its supervisor, and hears who writes.
			w.mu.Lock()
			for _, n := range w.nodes {
				n.deaf, n.slow = false, 0
			}
			w.stopFails = false
			w.mu.Unlock()
			to := w.record().Holder
			if to == "a" {
				to = "b"
			}
			if j, err := loadJournal(t.Context(), w.reg); err == nil && j.State == running && j.To != to && w.record().Epoch == 1 {
				to = j.To
			}
			final := Request{To: to, Zone: zone, Planned: true, Allow: req.Allow}
			if _, err := Execute(t.Context(), w.deps(), final, nil); err != nil {
				t.Fatalf("seed %d: %v", seed, err)
			}
			rec := w.record()
			w.isWriter(t, to, rec.Epoch)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		})
	}
	if killed < 30 || lost < 500 || refusals < 30 {
		t.Errorf("%d killed, %d lost, %d refused: too few", killed, lost, refusals)
	}
	t.Logf("%d killed, %d lost, %d refused", killed, lost, refusals)
}
