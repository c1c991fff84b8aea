// Package plane has an instance up on one machine: it starts what the instance is made
// of, looks after it, and is what the commands of oc-control reach.
//
//   - The supervisor is the parent of the nodes. A writer that dies while a follower can
//     take its place is held, and its lease given up at once.
//   - The guard asks package failover what to do, of what one observer has seen, and runs
//     its steps. Nothing here decides by itself who writes.
//   - The endpoint follows the node that says it writes, in the highest epoch.
//
// What the plane knows is lost with it, and found again: the lease record says who may
// write, the registry what was begun.
package plane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"originchain/lambdas/local/control"
	"originchain/lambdas/local/layout"
	"originchain/lambdas/local/proxy"
	"originchain/lambdas/local/supervise"
	"originchain/lambdas/local/zone"
	"originchain/scripts/call"
	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/shared/lease/leasehttp"
	"originchain/shared/registry"
)

// upWithin bounds the wait for an instance that comes up: a log of many GiB, after a
// crash, is replayed in this time.
const upWithin = 5 * time.Minute

// Options are what an instance is started with.
type Options struct {
	Dir layout.Dir
	// Followers is how many a new instance has; Given says that somebody asked for that
	// many, so that another number of an old one is refused.
	Followers int
	Given     bool
	// Server is the program of the nodes, More are flags for each of a new instance.
	Server string
	More   []string
	Verify Verification
	// Out is for what a person is told, Log for what is logged.
	Out, Log io.Writer
}

// Plane is an instance that is up, or comes up, or ends.
type Plane struct {
	o     Options
	dir   layout.Dir
	in    *layout.Instance
	log   *logrus.Logger
	nodes []failover.Node
	token string // the admin token

	record   lease.Store
	registry registry.Store
	machines *supervise.Supervisor
	// ways are between the nodes and all others; reached is machines through them.
	ways    *ways
	reached reached
	going   *going
	zone    *zone.Server
	proxy   *proxy.Proxy
	watch   *watcher
	bells   *bells
	duties
	observer *failover.Observer
	http     *http.Client
	// guarding is guard, which a test keeps busy elsewhere.
	guarding func(context.Context)

	// holds is what the supervisor is to do of a writer that dies: see afterDeath.
	holds  holding
	held   held
	orphan orphan
	losses losses
	begun  begun
	// tenant guards the instance's tenant, which is made while the endpoint follows.
	tenant sync.Mutex
	// patience bounds the wait until all is as it should be.
	patience time.Duration
	// died gets a value, of cap 1, when there is reason to look at once.
	died chan struct{}
	// failing is held by who makes another node the writer.
	failing *turn
	down    chan struct{}
	ending  sync.Once
}

var _ control.Plane = (*Plane)(nil)

// Up has the instance up until ctx ends or somebody says down; ready is called once, when
// the writer is ready and all followers are in sync. Where that does not come to be, and the
// writer of an instance that was up before is ready, it goes on, and short says why: a
// follower that is broken must not be the end of a writer that is well.
func Up(ctx context.Context, o Options, ready func(short error) error) (err error) {
	for _, path := range o.Dir.Directories() {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return fmt.Errorf("create the instance's directory: %w; choose another with --dir", err)
		}
	}
	lock, err := lockFile(o.Dir.Lock())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	p := newPlane(o)
	if err := p.open(ctx); err != nil {
		return err
	}
	return p.run(ctx, ready)
}

func newPlane(o Options) *Plane {
	p := &Plane{o: o, dir: o.Dir, log: logrus.New(), patience: upWithin, died: make(chan struct{}, 1), failing: newTurn(), down: make(chan struct{})}
	p.guarding = p.guard
	p.log.SetOutput(o.Log)
	p.log.SetFormatter(&logrus.JSONFormatter{})
	return p
}

// lockFile takes the lock of a directory, which ends with the process at the latest.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		if errors.Is(err, unix.EWOULDBLOCK) {
			err = errors.New("the instance is up already: oc-control status tells of it, oc-control down ends it")
		}
		return nil, errors.Join(fmt.Errorf("take %s: %w", path, err), f.Close())
	}
	return f, nil
}

// open makes or reads what is in the directory; nothing runs yet.
func (p *Plane) open(ctx context.Context) (err error) {
	if err := p.instance(); err != nil {
		return err
	}
	p.nodes = p.in.Registered()
	p.ways, p.going = newWays(p.nodes, p.log), newGoing(p.log)
	if p.token, err = layout.Secret(p.dir.AdminToken()); err != nil {
		return err
	}
	if p.record, err = lease.OpenFile(vfs.Default, p.dir.Lease()); err != nil {
		return err
	}
	if p.registry, err = registry.OpenFolder(vfs.Default, p.dir.Registry()); err != nil {
		return err
	}
	for _, n := range p.nodes {
		if err := failover.SaveNode(ctx, p.registry, n); err != nil {
			return err
		}
	}
	front, err := netip.ParseAddr(p.in.Front)
	if err != nil {
		return err
	}
	if p.zone, err = zone.Open(zone.Config{Zone: p.in.Zone, Address: front, Dir: string(p.dir), File: layout.ZoneName, FS: vfs.Default}); err != nil {
		return err
	}
	p.machines, err = supervise.New(supervise.Config{Dir: string(p.dir)}, supervise.Deps{
		Log: p.log, Decide: p.afterDeath, Event: p.happened, Releaser: &supervise.Releaser{Store: p.record},
	})
	p.ways.process = func(ctx context.Context, n failover.Node) (pid int, runs bool) {
		process, err := p.machines.Process(ctx, n)
		return process.PID, err == nil && process.Running
	}
	p.reached = reached{p.machines, p.ways}
	p.proxy, p.watch = proxy.New(proxy.Config{Dial: p.ways.dial}), newWatcher(p.nodes, p.token, p.ways.dial)
	p.http = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2, DialContext: p.ways.dial}}
	// Before anybody can ask for a promotion.
	p.observer = failover.NewObserver(failover.ObserverDeps{Lease: p.record, Control: p.reached, HTTP: p.http, AdminToken: p.token})
	p.bells = newBells(p.watch, p.log)
	if err != nil {
		return err
	}
	return p.openDuties(ctx)
}

// instance reads who the instance is, or makes a new one with its unit files.
func (p *Plane) instance() (err error) {
	if p.in, err = p.dir.Load(); err != nil {
		return err
	}
	if p.in != nil {
		if have := len(p.in.Nodes) - 1; p.o.Given && have != p.o.Followers {
			return fmt.Errorf("the instance in %s has %d followers, not %d: leave --followers out, or name another directory", string(p.dir), have, p.o.Followers)
		}
		return p.units(false)
	}
	if p.in, err = layout.New(p.o.Followers, addresses); err != nil {
		return err
	}
	if _, err := layout.Secret(p.dir.LeaseToken()); err != nil {
		return err
	}
	// The units first: what Load finds is complete.
	if err := p.units(true); err != nil {
		return err
	}
	return p.dir.Save(p.in)
}

// addresses are loopback addresses of an instance's own.
func addresses(seed string, n int) (out []string, err error) {
	all, err := zone.Loopback(seed, n)
	for _, a := range all {
		out = append(out, a.String())
	}
	return out, err
}

// units writes the unit files: all of a new instance, else those that are not there.
func (p *Plane) units(fresh bool) error {
	for i, n := range p.in.Nodes {
		path := p.dir.Unit(n.Name)
		if _, err := os.Stat(path); err == nil && !fresh {
			continue
		}
		text, err := p.dir.UnitText(p.in, i, layout.Options{Binary: p.o.Server, SyncReplicas: min(1, len(p.in.Nodes)-1), More: p.o.More})
		if err != nil {
			return err
		}
		if err := os.MkdirAll(p.dir.UnitDir(n.Name), 0o700); err != nil {
			return err
		}
		if err := layout.WriteFile(path, text); err != nil {
			return err
		}
	}
	return nil
}

// Down implements control.Plane.
func (p *Plane) Down() { p.ending.Do(func() { close(p.down) }) }

// run has everything running until ctx ends or somebody says down.
func (p *Plane) run(ctx context.Context, ready func(short error) error) error {
	servers, err := p.servers()
	if err != nil {
		return err
	}
	// The servers outlive the nodes: a node that ends gives up its lease.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, running := errgroup.WithContext(running)
	for _, s := range servers {
		g.Go(func() error { return s.run(running, p.log) })
	}
	names, err := zone.Listen(p.in.DNSAddress())
	if err != nil {
		stop()
		return errors.Join(fmt.Errorf("listen for DNS: %w", err), g.Wait())
	}
	g.Go(func() error { return p.zone.Serve(running, names) })
	g.Go(func() error { p.watch.run(running); return nil })
	g.Go(func() error { p.follow(running); return nil })
	g.Go(func() error { return p.machines.Run(running) })
	g.Go(func() error { return p.tell(running) })
	g.Go(func() error {
		defer stop()
		return p.live(ctx, running, ready)
	})
	err = g.Wait()
	// Whoever promotes a node has heard that it ends, and looks no more once it has.
	if p.failing.take(context.WithoutCancel(ctx), "") == nil {
		p.observer.Close()
	}
	p.proxy.Close()
	p.http.CloseIdleConnections()
	return err
}

// servers are those with an address, which they have when they are returned.
func (p *Plane) servers() (all []*served, err error) {
	token, err := layout.Secret(p.dir.LeaseToken())
	if err != nil {
		return nil, err
	}
	leases := leasehttp.NewServer(func(name string) (lease.Store, error) {
		if name != layout.LeaseName {
			return nil, fmt.Errorf("there is no lease %q, only %q", name, layout.LeaseName)
		}
		return p.record, nil
	}, token, p.log)
	p.proxy.Measure(p.metrics)
	socket, err := control.Listen(p.dir.Socket())
	if err != nil {
		return nil, err
	}
	all = []*served{
		{what: "commands", listener: socket, handler: control.NewServer(p, p.log)},
		{what: "the lease store", address: p.in.LeaseAddress(), handler: leases},
		{what: "machines", address: p.in.MachinesAddress(), handler: measured(p.metrics, supervise.NewServer(p.reached, p.dir.AdminToken(), p.log))},
		{what: "the endpoint", address: p.in.EndpointAddress(), handler: p.proxy},
	}
	all = append(all, p.relays()...)
	for _, s := range all {
		if err := s.listen(); err != nil {
			for _, open := range all {
				if open.listener != nil {
					err = errors.Join(err, open.listener.Close())
				}
			}
			return nil, err
		}
	}
	return all, nil
}

// live starts the nodes, waits until all is as it should be, and guards it; then it ends
// the nodes, the writer first, so that the followers have its last frames.
func (p *Plane) live(ctx, running context.Context, ready func(short error) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-p.down:
		case <-running.Done(): // something has failed
		case <-ctx.Done():
		}
		p.Down() // for who promotes a node
		cancel()
	}()
	err := p.start(ctx)
	if err == nil {
		// The guard does not wait until all is well: it may be what makes it so.
		var beside sync.WaitGroup
		beside.Go(func() { p.guarding(ctx) })
		if err = p.settle(ctx, ready); err != nil && ctx.Err() == nil {
			err = p.short(err, ready)
		}
		if err == nil {
			beside.Go(func() { p.attend(ctx) })
			<-ctx.Done()
		}
		if err != nil && ctx.Err() != nil && running.Err() == nil {
			err = nil // somebody has ended it before it was up
		}
		cancel()
		beside.Wait()
	} else if ctx.Err() != nil && running.Err() == nil {
		err = nil
	}
	return errors.Join(err, p.stop(running))
}

// start starts all nodes.
func (p *Plane) start(ctx context.Context) error {
	rec, _, err := p.record.Load(ctx)
	if err != nil {
		return fmt.Errorf("read who may write: %w", err)
	}
	p.begun = begun{epoch: rec.Epoch, at: time.Now()}
	for _, n := range p.nodes {
		if err := p.machines.Start(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

// settle waits until the nodes are as they should be, and says so.
func (p *Plane) settle(ctx context.Context, ready func(short error) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, p.patience, fmt.Errorf("not within %s; what a node waits for is in its log, in %s", p.patience, p.dir.Logs()))
	defer cancel()
	for {
		if err := p.watch.until(ctx, func() bool { return p.complete(ctx) }); err != nil {
			return fmt.Errorf("wait for the writer and %d followers in sync: %w", len(p.nodes)-1, err)
		}
		writer, _, ok := p.watch.writer()
		if !ok {
			continue // it has ended since
		}
		if err := p.ensureTenant(ctx, &call.Client{URL: writer.URL, Token: p.token, HTTP: p.http}); err != nil {
			if now, _, ok := p.watch.writer(); ok && now.ID == writer.ID {
				return err
			}
			continue // another one writes by now
		}
		if err := p.saveEndpoints(writer.ID); err != nil {
			return err
		}
		p.told("up: %s follows the writer, %s; everything else is in %s", p.in.Endpoint(), writer.ID, p.dir.Endpoints())
		return ready(nil)
	}
}

// short has an instance go on that is not as it should be, if its writer is ready and it was
// up before; else it returns why it is not.
func (p *Plane) short(why error, ready func(short error) error) error {
	writer, s, ok := p.watch.writer()
	if _, err := os.Stat(p.dir.TenantToken()); !ok || !s.ready || err != nil {
		return why
	}
	if err := p.saveEndpoints(writer.ID); err != nil {
		return errors.Join(why, err)
	}
	why = fmt.Errorf("%s writes, and not all followers are as they should be: %w. It goes on without them; oc-control status says how they are, oc-control down ends all", writer.ID, why)
	p.log.WithError(why).Error("the instance is up, and not whole")
	p.told("up, and not whole: %s", why)
	return ready(why)
}

// complete says whether the writer is ready and every other node in sync, or, where
// acknowledgements wait for nobody, connected.
func (p *Plane) complete(ctx context.Context) bool {
	_, s, ok := p.watch.writer()
	if !ok || !s.ready {
		return false
	}
	synced := 0
	for _, f := range s.Followers {
		if f.Sync {
			synced++
		}
	}
	if synced >= len(p.nodes)-1 {
		return true
	}
	rec, ok, err := p.record.Load(ctx)
	return err == nil && ok && synced >= min(1, rec.SyncReplicas) && p.allConnected(s)
}

// allConnected says whether every follower streams: acknowledgements wait for one of
// them, so that no more than one need be in the set.
func (p *Plane) allConnected(writer sight) bool {
	n := 0
	for _, f := range writer.Followers {
		if f.Connected {
			n++
		}
	}
	return n >= len(p.nodes)-1
}

// stop ends the nodes in order.
func (p *Plane) stop(ctx context.Context) error {
	p.going.close()
	p.ways.close() // a node that is cut off could not end in order
	var first string
	if writer, _, ok := p.watch.writer(); ok {
		first = writer.ID
		if _, err := p.machines.Stop(ctx, writer); err != nil && ctx.Err() == nil {
			return err
		}
	}
	var errs []error
	for _, n := range p.nodes {
		if n.ID == first {
			continue
		}
		if _, err := p.machines.Stop(ctx, n); err != nil && ctx.Err() == nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// told tells a person.
func (p *Plane) told(format string, args ...any) {
	_, _ = fmt.Fprintf(p.o.Out, format+"\n", args...) // a terminal that is gone hears nothing
}
