// Package node is a node in whatever role it has: it begins in the one that its
// configuration says, and a writer that may not write follows instead, in the
// same process.
package node

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/follower"
	"originchain/shared/aws/s3object"
	"originchain/shared/clock"
	"originchain/shared/engine"
	"originchain/shared/httpx"
	"originchain/shared/lease"
	"originchain/shared/lease/leaseopen"
	"originchain/shared/mtls"
	"originchain/shared/object"
	"originchain/writer"
	"originchain/writer/config"
	"originchain/writer/process"
)

// Node implements process.Node.
type Node struct {
	cfg      config.Config
	deps     process.Deps
	shell    *writer.Shell
	follower *follower.Follower
	// replication is how the node serves followers when it is the writer, and writer
	// what it is then, or was last.
	replication writer.Replication
	writer      atomic.Pointer[writer.Writer]
	// identity is read again while the node runs; nil without certificates.
	identity *mtls.Identity
}

// New makes a node. Only a promotable one can write, or be in sync.
func New(cfg config.Config, deps process.Deps, promotable bool) (*Node, error) {
	n := &Node{cfg: cfg, deps: deps}
	var err error
	wcfg := shellConfig(cfg)
	if wcfg.Archive, err = archiving(cfg); err != nil {
		return nil, err
	}
	if n.shell, err = writer.NewShell(wcfg, shellDeps(deps)); err != nil {
		return nil, err
	}
	if cfg.ReplicationTLSDir != "" {
		if n.identity, err = mtls.Load(cfg.ReplicationTLSDir, deps.Log); err != nil {
			return nil, err
		}
	}
	measureDisks(deps.Metrics, vfs.Default, cfg.DataDir)
	measureCertificates(deps.Metrics, n.certificates()...)
	control, err := leaseopen.Open(context.Background(), vfs.Default, cfg.Control)
	if err != nil {
		return nil, err
	}
	n.replication = writer.Replication{
		Listen: cfg.ReplicationListen, Advertised: cfg.ReplicationAdvertise, TLS: n.identity, Control: control,
		Sync: cfg.SyncReplicas, Timeout: time.Duration(cfg.SyncTimeoutMS) * time.Millisecond, Strict: cfg.SyncStrict,
		RetainBytes: cfg.FollowerRetainBytes,
		Place:       func() (string, error) { return lease.PlaceOf(cfg.DataDir) },
	}
	n.follower = follower.New(n.shell, follower.Config{Leader: cfg.LeaderAddr, Promotable: promotable}, follower.Deps{
		FS: vfs.Default, Log: deps.Log, Metrics: deps.Metrics, Control: control, TLS: n.identity,
	})
	return n, nil
}

// certificates are when each of what the node is known by ends.
func (n *Node) certificates() (ends []func() time.Time) {
	if n.deps.CertificateEnds != nil {
		ends = append(ends, n.deps.CertificateEnds)
	}
	if n.identity != nil {
		ends = append(ends, n.identity.NotAfter)
	}
	return ends
}

func shellConfig(cfg config.Config) writer.Config {
	return writer.Config{
		Engine: engine.Config{
			DataDir:       cfg.DataDir,
			InstanceID:    cfg.InstanceID,
			NodeID:        cfg.NodeID,
			SegmentBytes:  cfg.SegmentBytes,
			SegmentMaxAge: cfg.SegmentMaxAge,
			ApplyDelay:    cfg.ApplyDelay,
			Shared:        cfg.Control != "" || cfg.Archive != "",
		},
		URL:              cfg.Advertise,
		Region:           cfg.Region,
		HTTP:             httpx.Config{MaxInFlight: cfg.MaxInFlight, SlowRequest: cfg.SlowRequest},
		SeparateOps:      cfg.OpsListen != "",
		StatementTimeout: cfg.StatementTimeout,
	}
}

// archiving opens the archive, which is not asked for anything yet.
func archiving(cfg config.Config) (a writer.Archiving, err error) {
	if cfg.Archive == "" {
		return a, nil
	}
	a = writer.Archiving{
		AllowCrossRegion: cfg.AllowCrossRegion, Tail: cfg.TailShip, TailWindow: time.Duration(cfg.TailWindowMS) * time.Millisecond,
		CheckpointEvery: cfg.CheckpointInterval, Retention: cfg.Retention,
	}
	a.Store, err = object.Open(context.Background(), cfg.Archive, map[string]object.Opener{"s3": s3object.Open})
	if err != nil {
		return a, fmt.Errorf("open the archive: %w", err)
	}
	return a, nil
}

func shellDeps(deps process.Deps) writer.Deps {
	return writer.Deps{
		FS:      vfs.Default,
		Log:     deps.Log,
		Clock:   clock.New(clock.Config{OnStep: onStep(deps)}),
		Metrics: deps.Metrics,
		Audit:   deps.Audit,
		Admin:   deps.Admin,
	}
}

// onStep reports a step of the machine's clock: stamps go on by the monotonic
// clock, and a person should know.
func onStep(deps process.Deps) func(distance int64) {
	steps := deps.Metrics.Counter("oc_clock_steps_total", "Steps of the machine's clock of more than 5 s; stamps then run on the monotonic clock.")
	return func(micros int64) {
		steps.Inc()
		deps.Log.WithField("distance_ms", micros/1000).Error("the machine's clock was stepped; stamps go on by the monotonic clock until it has held for 60 s. Check its time service")
	}
}

// Handler implements process.Node.
func (n *Node) Handler() http.Handler { return n.shell.Handler() }

// OpsHandler implements process.Node.
func (n *Node) OpsHandler() http.Handler { return n.shell.OpsHandler() }

// Opened implements process.Node.
func (n *Node) Opened() <-chan struct{} { return n.shell.Opened() }

// Run implements process.Node.
func (n *Node) Run(ctx context.Context) error {
	if n.identity != nil {
		reading, stop := context.WithCancel(ctx)
		done := make(chan struct{})
		go func() { defer close(done); n.identity.Run(reading, nil) }()
		defer func() { stop(); <-done }()
	}
	lead := n.cfg.Mode != config.ModeFollower
	var open *engine.Engine // what it had open as a follower
	for {
		if lead {
			again, err := n.lead(ctx, open)
			if !again {
				return err
			}
		}
		err := n.follower.Run(ctx)
		promoted := new(writer.PromotedError)
		if !errors.As(err, &promoted) {
			return err
		}
		n.deps.Log.WithField("epoch", uint64(promoted.Epoch)).Info("this node is promoted: it goes on as the writer")
		lead, open = true, promoted.Engine
	}
}

// lead runs the node as a writer, over what a follower has open unless that is nil.
// follow says that it is to follow now.
func (n *Node) lead(ctx context.Context, open *engine.Engine) (follow bool, err error) {
	w := writer.NewWriter(n.shell, n.replication)
	w.GoOnWith(open)
	n.writer.Store(w)
	err = w.Run(ctx)
	if errors.As(err, new(*engine.NotAcceptedError)) {
		n.deps.Log.WithError(err).Error("this node serves a restored copy, for reading alone")
		return false, writer.NewReader(n.shell).Run(ctx)
	}
	other := new(writer.MustFollowError)
	if !errors.As(err, &other) {
		return false, err
	}
	log := n.deps.Log.WithError(err)
	if other.Planned {
		log.Info("the writer's role was handed over; this node follows from now on")
		n.follower.GoOnWith(w.HandOn())
		return true, nil
	}
	log.Error("this node is no longer the writer; it follows from now on")
	return true, w.Close()
}

// Close implements process.Node.
func (n *Node) Close() error {
	if w := n.writer.Load(); w != nil {
		return w.Close()
	}
	return nil
}
