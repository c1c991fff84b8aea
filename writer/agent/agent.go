package agent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"originchain/shared/alarms"
	"originchain/shared/aws/cwmetrics"
	"originchain/shared/aws/ec2machine"
	"originchain/shared/failover"
	"originchain/shared/lease"
	"originchain/shared/registry"
	"originchain/writer/config"
	"originchain/writer/reach"
)

const (
	// Interval is how often the server is looked at: the period of the fastest alarms.
	Interval = 10 * time.Second
	// registerEvery is how often the registration is looked at once it is made, registerAgain
	// how soon it is tried again.
	registerEvery = time.Minute
	registerAgain = 5 * time.Second
	// maxStale is how long what the record last said holds while it cannot be read: longer
	// than a store is away for a moment, and short enough that a writer which was followed
	// meanwhile does not hide its successor's silence.
	maxStale = time.Minute
	// storeTimeout bounds one try to register, and one reading of the record.
	storeTimeout = 5 * time.Second
	// putTimeout bounds one publication; firstPause and maxPause are between two tries.
	putTimeout = 30 * time.Second
	firstPause = time.Second
	maxPause   = 30 * time.Second
	// MaxQueued is how many data wait at most: about half an hour's.
	MaxQueued = 10_000
	// takeAtOnce is how many of them one publication has.
	takeAtOnce = cwmetrics.MaxMetrics
)

// The dimensions of what is published: each metric with the instance alone, which the
// instance's alarms read, and with the node.
const (
	InstanceDimension = "Instance"
	NodeDimension     = "Node"
)

// NodeWrites is 1 while the node's own server says that it is the writer and is ready, and
// else 0: of the node alone, and at the resolution that health checks of DNS can read.
const NodeWrites = "oc_node_writes"

// Publisher takes metrics: see cwmetrics.Metrics.Put.
type Publisher interface {
	Put(ctx context.Context, data []cwmetrics.Datum) (done int, err error)
}

// Deps are the outside of an agent.
type Deps struct {
	Log      logrus.FieldLogger
	Registry registry.Store
	// Lease opens the record that a server's --control names; it is called when that changes.
	Lease     func(ctx context.Context, control string) (lease.Store, error)
	Publisher Publisher
	// Machine is the machine's identity.
	Machine func(context.Context) (ec2machine.Machine, error)
	// Server is the configuration that the node's unit says.
	Server func() (config.Config, error)
}

// Agent is an agent of one node.
type Agent struct {
	instance string
	deps     Deps
	queue    *queue
	said     *said
	sampler  *alarms.Sampler
	began    time.Time

	// The rest is of the observing goroutine.
	cfg      config.Config // as last read
	answered time.Time     // when the server last did
	server   *reach.Server
	record   lease.Store
	control  string
	holder   string    // as last read
	read     time.Time // when that was
}

// New makes the agent of a node of an instance, which it starts nothing of before Run.
func New(instance string, deps Deps) (*Agent, error) {
	if instance == "" {
		return nil, errors.New("the agent has no instance: its metrics would be nobody's")
	}
	return &Agent{instance: instance, deps: deps, queue: newQueue(MaxQueued), said: newSaid(deps.Log), sampler: alarms.NewSampler(alarms.Table())}, nil
}

// Run works until the context ends.
func (a *Agent) Run(ctx context.Context) error {
	a.began = time.Now()
	var g errgroup.Group
	g.Go(func() error { a.register(ctx); return nil })
	g.Go(func() error { a.observe(ctx); return nil })
	g.Go(func() error { a.publish(ctx); return nil })
	return g.Wait()
}

// wait waits, and says whether the context goes on.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// register keeps the node in the registry as it is.
func (a *Agent) register(ctx context.Context) {
	for {
		err := a.registerOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		a.said.say("register", err, "the node is not registered", "the node is registered")
		pause := registerEvery
		if err != nil {
			pause = registerAgain
		}
		if !wait(ctx, pause) {
			return
		}
	}
}

func (a *Agent) registerOnce(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	cfg, err := a.deps.Server()
	if err != nil {
		return err
	}
	m, err := a.deps.Machine(ctx)
	if err != nil {
		return err
	}
	n, err := describe(cfg, m)
	if err != nil {
		return err
	}
	return failover.SaveNode(ctx, a.deps.Registry, n)
}

// publish puts what is queued, until the context ends. What is not put waits; what can
// never be put is dropped, and said.
func (a *Agent) publish(ctx context.Context) {
	pause := firstPause
	for {
		data, lost, ok := a.queue.wait(ctx)
		if !ok {
			return
		}
		if lost > 0 {
			a.deps.Log.WithField("lost", lost).Error("metrics were dropped: too many wait for CloudWatch")
		}
		short, cancel := context.WithTimeout(ctx, putTimeout)
		done, err := a.deps.Publisher.Put(short, data)
		cancel()
		a.queue.done(done)
		if ctx.Err() != nil {
			return
		}
		var refused *cwmetrics.RefusedError
		if errors.As(err, &refused) {
			a.said.say("refused", refused, "metrics were dropped: they can never be put", "")
		} else {
			a.said.say("refused", nil, "", "")
		}
		if done == len(data) {
			err = nil
		}
		a.said.say("publish", err, "metrics cannot be put; they wait", "metrics are put")
		if err == nil {
			pause = firstPause
			continue
		}
		if !wait(ctx, pause) {
			return
		}
		pause = min(2*pause, maxPause)
	}
}

// observe looks at the server every Interval.
func (a *Agent) observe(ctx context.Context) {
	tick := time.NewTicker(Interval)
	defer tick.Stop()
	for {
		a.observeOnce(ctx)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (a *Agent) observeOnce(ctx context.Context) {
	cfg, err := a.deps.Server()
	a.said.say("unit", err, "the server's unit cannot be read; what it last said holds", "the server's unit is read")
	if err != nil {
		cfg = a.cfg
	} else {
		a.cfg = cfg
		a.server, err = a.server.Of(cfg.Reach())
		a.said.say("reach", err, "the server cannot be asked", "the server is asked")
	}
	o := alarms.Observation{Node: cfg.NodeID, At: time.Since(a.began)}
	var standing reach.Standing
	if a.server != nil {
		var errs error
		o.Page, standing, errs = look(ctx, a.server)
		o.Probes = map[string]alarms.Probe{"/health": {Status: standing.Health}, "/ready": {Status: standing.Ready}}
		a.said.say("look", errs, "the server does not answer as it should", "the server answers")
	}
	if ctx.Err() != nil {
		return
	}
	now := time.Now()
	// One that says itself that its log takes no writes is as good as silent: a failover is to
	// find out what becomes of it.
	if standing.Health != 0 && standing.Health < http.StatusInternalServerError {
		a.answered = now
	}
	// A server that has not answered yet has no heartbeat, of whatever age: this agent may be
	// seconds old, and the server dead for long. That nothing comes is silence enough.
	if !a.answered.IsZero() {
		o.Values = map[string]float64{alarms.HeartbeatAge: now.Sub(a.answered).Seconds()}
	}
	data := a.data(a.sampler.Take(o, now), cfg.NodeID, now, a.writes(ctx, cfg, standing.Writes()))
	a.queue.put(append(data, a.nodeWrites(cfg.NodeID, now, standing.Writes())...))
}

// nodeWrites is the metric of that name, where the node has one.
func (a *Agent) nodeWrites(node string, at time.Time, writes bool) []cwmetrics.Datum {
	if node == "" {
		return nil
	}
	value := 0.0
	if writes {
		value = 1
	}
	return []cwmetrics.Datum{{Metric: NodeWrites, At: at, Values: []float64{value}, Standard: true,
		Dimensions: map[string]string{InstanceDimension: a.instance, NodeDimension: node}}}
}

// data are readings as they are published. The heartbeat is the instance's only where this
// node is its writer.
func (a *Agent) data(readings []alarms.Reading, node string, at time.Time, writes bool) (out []cwmetrics.Datum) {
	for _, r := range readings {
		d := cwmetrics.Datum{Metric: r.Metric, At: at, Values: r.Values, Counts: r.Counts}
		if r.Metric != alarms.HeartbeatAge || writes {
			d.Dimensions = map[string]string{InstanceDimension: a.instance}
			out = append(out, d)
		}
		if node != "" {
			d.Dimensions = map[string]string{InstanceDimension: a.instance, NodeDimension: node}
			out = append(out, d)
		}
	}
	return out
}

// writes says whether the record names this node as the instance's writer. While it cannot
// be read, what it last said holds for maxStale: a record that is away is no reason to call
// the writer silent, nor to let another speak for it. After that, and where it was never
// read, the instance's word is that of a server which itself says that it writes, as it can
// only for as long as it reaches the record.
func (a *Agent) writes(ctx context.Context, cfg config.Config, serves bool) bool {
	if cfg.Control == "" {
		return cfg.Mode == config.ModeWriter
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	holder, err := a.readHolder(ctx, cfg.Control)
	a.said.say("record", err, "the record of who writes cannot be read; what it last said holds for "+maxStale.String(), "the record of who writes is read")
	now := time.Now()
	if err == nil {
		a.holder, a.read = holder, now
	}
	if a.read.IsZero() || now.Sub(a.read) >= maxStale {
		return serves
	}
	return a.holder != "" && a.holder == cfg.NodeID
}

func (a *Agent) readHolder(ctx context.Context, control string) (string, error) {
	if a.record == nil || a.control != control {
		store, err := a.deps.Lease(ctx, control)
		if err != nil {
			return "", err
		}
		a.record, a.control = store, control
	}
	rec, ok, err := a.record.Load(ctx)
	if err == nil && !ok {
		err = errors.New("there is none")
	}
	if err != nil {
		return "", fmt.Errorf("read the record of who writes: %w", err)
	}
	return rec.Holder, nil
}
