package replsim

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/follower"
	"originchain/shared/clock"
	"originchain/shared/engine"
	"originchain/shared/lease"
	"originchain/shared/simdisk"
	"originchain/shared/telemetry"
	"originchain/shared/tenant"
	"originchain/writer"
)

const (
	adminText = "oc_admin_0123456789ABCDEFGHJKMNPQRSTV"
	dataDir   = "/data"
)

// process is one run of a node: every node has a writer's unit, and who may open
// decides what it is.
type process struct {
	s      *sim
	name   string
	disk   *simdisk.Disk
	shell  *writer.Shell
	writer *writer.Writer
	follow *follower.Follower
	cancel context.CancelFunc
	done   chan struct{}
	err    error // of the run, when done is closed
	// dead: it was killed, and nothing of it reaches anybody any more.
	dead atomic.Bool
	// held: as under SIGSTOP, as far as one process can stop another in itself:
	// its network and the store hang, and no client hears of it.
	held atomic.Bool
}

func engineConfig(name string) engine.Config {
	return engine.Config{
		DataDir: dataDir, NodeID: name,
		SegmentBytes: 24 << 10, MemtableBytes: 32 << 10, CacheBytes: 256 << 10,
	}
}

// fakeClock runs with the simulation: a machine that is never suspended.
type fakeClock struct{}

func (fakeClock) Now() time.Time           { return time.Now() }
func (fakeClock) SinceBoot() time.Duration { return time.Duration(time.Now().UnixNano()) }

// start begins a run of a node on its disk.
func (s *sim) start(name string) *process {
	p := &process{s: s, name: name, disk: s.disks[name], done: make(chan struct{})}
	log := logrus.New()
	log.SetOutput(io.Discard)
	if *verbose {
		log.SetOutput(&lines{s: s, who: name})
	}
	admin, err := tenant.NewAdminToken(adminText)
	if err != nil {
		s.t.Fatal(err)
	}
	metrics := telemetry.NewMetrics()
	p.shell, err = writer.NewShell(writer.Config{
		Engine: engineConfig(name), URL: "http://" + name, FailureGrace: time.Millisecond, MinLSNWait: 200 * time.Millisecond,
	}, writer.Deps{
		FS: p.disk, Log: log, Clock: clock.New(clock.Config{}), Metrics: metrics, Audit: s.audit, Admin: admin, NoPreallocate: true,
	})
	if err != nil {
		s.t.Fatal(err)
	}
	control := &control{p: p}
	p.writer = writer.NewWriter(p.shell, writer.Replication{
		Listen: name + ":1", Control: control, Sync: s.sync, Timeout: time.Second, Strict: s.strict, RetainBytes: s.retain,
		Clock: fakeClock{}, Place: func() (string, error) { return name, nil },
		Net: func(context.Context, string) (net.Listener, error) { return s.net.listen(name), nil },
	})
	p.follow = follower.New(p.shell, follower.Config{Promotable: true}, follower.Deps{
		FS: p.disk, Log: log, Metrics: metrics, Control: control,
		Dial: func(ctx context.Context, address string) (net.Conn, error) {
			if p.dead.Load() {
				return nil, errRefused
			}
			c, err := s.net.dial(ctx, name, strings.TrimSuffix(address, ":1"))
			if err == nil && p.dead.Load() {
				return nil, errors.Join(errRefused, c.Close())
			}
			return c, err
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	go func() {
		defer close(p.done)
		p.err = p.run(ctx)
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.procs[name] = p
	return p
}

// run is what package node does.
func (p *process) run(ctx context.Context) error {
	err := p.writer.Run(ctx)
	var other *writer.MustFollowError
	if errors.As(err, &other) {
		if err = p.writer.Close(); err == nil {
			err = p.follow.Run(ctx)
		}
		return err
	}
	return errors.Join(err, p.writer.Close())
}

// kill ends a run at once: with the power, or the process alone. What is left of it
// goes on for a moment on a disk that nobody looks at, and reaches nobody.
func (s *sim) kill(name string, power bool, rng *rand.Rand) {
	p := s.procs[name]
	p.dead.Store(true)
	if power {
		s.disks[name] = p.disk.CrashClone(rng)
	} else {
		s.disks[name] = p.disk.KillClone()
	}
	s.net.drop(name)
	p.cancel()
	s.remember(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.graves = append(s.graves, p)
	delete(s.procs, name)
}

// hold stops and continues a node.
func (s *sim) hold(name string, held bool) {
	if p := s.procs[name]; p != nil {
		p.held.Store(held)
	}
	for _, other := range s.names {
		if other != name {
			s.net.set(name, other, held)
			s.net.set(other, name, held)
		}
	}
}

// answer is what a client got; nil if nothing came.
type answer struct {
	status int
	code   string
	body   string
	header func(string) string
}

// do sends one request to a node's current run.
func (s *sim) do(name, token, method, path, body string, headers ...string) (*process, *answer) {
	s.mu.Lock()
	p := s.procs[name]
	s.mu.Unlock()
	if p == nil || p.held.Load() {
		return p, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Second)
	defer cancel()
	r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	p.shell.Handler().ServeHTTP(w, r)
	if p.dead.Load() || p.held.Load() {
		return p, nil
	}
	return p, &answer{status: w.Code, body: w.Body.String(), code: field(w.Body.String(), "error"), header: w.Header().Get}
}

// control is the lease store as one process reaches it.
type control struct{ p *process }

var _ lease.Store = (*control)(nil)

var errStoreAway = errors.New("the store is away")

// reach waits as the network does, and says whether the store is there.
func (c *control) reach(ctx context.Context) error {
	s := c.p.s
	s.pause(ctx, s.draw(3))
	for c.p.held.Load() && !c.p.dead.Load() && ctx.Err() == nil {
		s.pause(ctx, 10*time.Millisecond)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if c.p.dead.Load() || s.storeAway.Load() {
		return errStoreAway
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.storeCut[c.p.name] {
		return errStoreAway
	}
	return nil
}

// Load implements lease.Store.
func (c *control) Load(ctx context.Context) (lease.Record, bool, error) {
	if err := c.reach(ctx); err != nil {
		return lease.Record{}, false, err
	}
	return c.p.s.store.Load(ctx)
}

// CompareAndSet implements lease.Store.
func (c *control) CompareAndSet(ctx context.Context, expect uint64, next lease.Record) (lease.Record, error) {
	if err := c.reach(ctx); err != nil {
		return lease.Record{}, err
	}
	s := c.p.s
	lost := s.storeUnsure.Load() && s.chance(3)
	if lost && s.chance(2) {
		return lease.Record{}, &lease.OutcomeUnknownError{Err: errStoreAway}
	}
	r, err := s.store.CompareAndSet(ctx, expect, next)
	if c.p.dead.Load() || (lost && err == nil) {
		return lease.Record{}, &lease.OutcomeUnknownError{Err: errStoreAway}
	}
	return r, err
}
