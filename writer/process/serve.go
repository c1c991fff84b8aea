package process

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/shared/httpx"
	"originchain/shared/telemetry"
	"originchain/shared/tenant"
	"originchain/writer/config"
)

// auditName is the audit log's file in the data directory.
const auditName = "audit.log"

// server is the running process between its configuration and its exit.
type server struct {
	cfg     config.Config
	linger  time.Duration
	log     *logrus.Logger
	metrics *telemetry.Metrics
	http    *httpx.Metrics
	boot    *boot
	// api answers at --listen, ops at --ops-listen (nil: all at --listen).
	api, ops *switched
}

// serve runs the node until a signal or a failure. Listeners open first and
// answer for the node while it opens; they close first when it stops.
func (p Process) serve(ctx context.Context, cfg config.Config, open Open) error {
	log, err := telemetry.NewLogger(p.Stderr, cfg.LogLevel)
	if err != nil {
		return withCode(ExitUsage, err)
	}
	s := &server{cfg: cfg, linger: p.Linger, log: log, metrics: telemetry.NewMetrics(), boot: newBoot(cfg.Mode, time.Now())}
	s.http = httpx.NewMetrics(s.metrics)
	s.metrics.GaugeVec("oc_node_info", "Always 1; the labels say what the node was told about itself.", "mode", "region", "advertise").
		WithLabelValues(cfg.Mode, cfg.Region, cfg.Advertise).Set(1)
	if err := s.useBoot(); err != nil {
		return err
	}
	var certs *certificates
	if cfg.TLSCert != "" {
		if certs, err = loadCertificates(tlsFiles{cert: cfg.TLSCert, key: cfg.TLSKey, ca: cfg.TLSCA}, log); err != nil {
			return withCode(ExitUsage, err)
		}
	}
	running, hangup, stopWatching := p.watch(ctx, log)
	defer stopWatching()
	listening, err := s.listen(running, certs, hangup)
	if err != nil {
		return err
	}
	return s.run(running, open, listening)
}

// useBoot lets both listeners answer for a node that is not open yet.
func (s *server) useBoot() error {
	deps := httpx.Deps{Log: s.log, Metrics: s.http}
	all, err := httpx.New(httpx.Config{Unrouted: notReady()}, deps, s.boot.routes(s.metrics))
	if err != nil {
		return err
	}
	s.api = newSwitched(all)
	if s.cfg.OpsListen == "" {
		return nil
	}
	none, err := httpx.New(httpx.Config{Unrouted: notReady()}, deps, nil)
	if err != nil {
		return err
	}
	s.ops, s.api = s.api, newSwitched(none)
	return nil
}

// useNode lets both listeners answer from the node.
func (s *server) useNode(node Node, admin *tenant.AdminToken, audit *telemetry.Audit) error {
	cfg := httpx.Config{MaxInFlight: s.cfg.MaxInFlight, SlowRequest: s.cfg.SlowRequest}
	deps := httpx.Deps{Log: s.log, Metrics: s.http, Auth: node.Authenticator(), Admin: admin, Audit: audit}
	routes := node.Routes()
	if s.ops == nil {
		all, err := httpx.New(cfg, deps, routes)
		if err != nil {
			return err
		}
		s.api.use(all)
		return nil
	}
	api, err := httpx.New(cfg, deps, httpx.InScope(routes, httpx.Tenant, httpx.Admin))
	if err != nil {
		return err
	}
	ops, err := httpx.New(cfg, deps, httpx.InScope(routes, httpx.Public))
	if err != nil {
		return err
	}
	s.api.use(api)
	s.ops.use(ops)
	return nil
}

// listening is the open listeners and who serves them.
type listening struct {
	// failed has the error of a listener that broke down.
	failed chan error
	close  context.CancelFunc
	group  sync.WaitGroup
	mu     sync.Mutex
	err    error
}

// stop drains all listeners; after it no handler runs.
func (l *listening) stop() error {
	l.close()
	l.group.Wait()
	return l.err
}

// listen opens the addresses and serves them until stop. The context of the
// process does not end them: the order of stopping is run's.
func (s *server) listen(ctx context.Context, certs *certificates, hangup <-chan struct{}) (*listening, error) {
	api, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w; free the address or choose another with --listen", s.cfg.Listen, err)
	}
	var ops net.Listener
	if s.ops != nil {
		if ops, err = net.Listen("tcp", s.cfg.OpsListen); err != nil {
			return nil, errors.Join(fmt.Errorf("listen at %s: %w; free the address or choose another with --ops-listen", s.cfg.OpsListen, err), api.Close())
		}
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	l := &listening{failed: make(chan error, 2), close: stop}
	var tlsConfig *tls.Config
	if certs != nil {
		tlsConfig = certs.serverConfig()
		l.group.Go(func() { certs.run(serving, hangup) })
	} else if !loopback(api.Addr()) {
		s.log.WithField("address", api.Addr().String()).Warn("serving plain HTTP beyond this machine; tokens and data cross the network unencrypted unless something in front adds TLS")
	}
	s.start(serving, l, "api", api, s.api, tlsConfig)
	if ops != nil {
		s.start(serving, l, "ops", ops, s.ops, nil)
	}
	return l, nil
}

// start serves one listener.
func (s *server) start(ctx context.Context, l *listening, name string, ln net.Listener, h *switched, tlsConfig *tls.Config) {
	s.log.WithFields(logrus.Fields{"listener": name, "address": ln.Addr().String(), "tls": tlsConfig != nil}).Info("listening")
	limits := httpx.Limits{MaxConnections: s.cfg.MaxConnections, DrainTimeout: s.cfg.DrainTimeout}
	l.group.Go(func() {
		err := httpx.Serve(ctx, ln, h, tlsConfig, limits, s.log)
		if errors.Is(err, httpx.ErrCutOff) {
			s.log.WithFields(logrus.Fields{"listener": name, "drain_timeout": s.cfg.DrainTimeout.String()}).Warn("requests were cut off at the end of the drain time")
			err = nil
		}
		if err != nil {
			l.mu.Lock()
			l.err = errors.Join(l.err, err)
			l.mu.Unlock()
			l.failed <- err
		}
	})
}

// loopback says that only this machine can reach the address.
func loopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}

// run opens the node, serves from it, and stops everything in order: no new
// requests, those in flight drained, the node's work ended, its directory
// closed.
func (s *server) run(ctx context.Context, open Open, l *listening) error {
	node, err := open(ctx, s.cfg, Deps{Log: s.log, Metrics: s.metrics, Progress: s.boot.progress})
	if err != nil {
		return errors.Join(s.openFailed(ctx, err), l.stop())
	}
	audit, err := s.takeUp(node)
	if err != nil {
		return errors.Join(err, l.stop(), node.Close())
	}
	err = s.work(ctx, node, l)
	err = errors.Join(err, node.Close(), audit.Close())
	if err == nil {
		s.log.Info("stopped")
	}
	return err
}

// openFailed shows why the node does not open, to health checks for a while. A
// directory that another process has open shows nothing: that one is healthy.
func (s *server) openFailed(ctx context.Context, err error) error {
	code := exitCode(err)
	if code == ExitOK {
		return nil // a signal came first
	}
	s.boot.fail(telemetry.Redact(err.Error()))
	s.log.WithError(err).Error("the node could not be opened")
	if code != ExitLocked {
		s.wait(ctx)
	}
	return err
}

// takeUp makes what needs the locked data directory and lets requests in.
func (s *server) takeUp(node Node) (*telemetry.Audit, error) {
	admin, err := tenant.LoadOrCreateAdminToken(s.cfg.AdminTokenFile)
	if err != nil {
		return nil, withCode(ExitUsage, err)
	}
	audit, err := telemetry.OpenAudit(filepath.Join(s.cfg.DataDir, auditName), s.log)
	if err != nil {
		return nil, err
	}
	if err := s.useNode(node, admin, audit); err != nil {
		return nil, errors.Join(err, audit.Close())
	}
	s.log.WithFields(logrus.Fields{"mode": s.cfg.Mode, "region": s.cfg.Region, "advertise": s.cfg.Advertise, "data_dir": s.cfg.DataDir,
		"admin_token_file": s.cfg.AdminTokenFile, "version": telemetry.Version, "commit": telemetry.Commit}).Info("serving")
	return audit, nil
}

// work runs the node until a signal, its own failure or a listener's.
func (s *server) work(ctx context.Context, node Node, l *listening) error {
	nodeCtx, stopNode := context.WithCancel(context.WithoutCancel(ctx))
	defer stopNode()
	ended := make(chan error, 1)
	go func() { ended <- node.Run(nodeCtx) }()
	var err error
	select {
	case <-ctx.Done():
	case err = <-l.failed:
		err = nil // stop returns it with the others
	case err = <-ended:
		ended <- nil // taken; the receive below finds the end
		if err == nil {
			err = errors.New("the node ended by itself")
		}
		err = withCode(ExitDisk, fmt.Errorf("the node stopped itself: %w", err))
		s.log.WithError(err).Error("fail-stop")
		s.wait(ctx)
	}
	err = errors.Join(err, l.stop())
	stopNode()
	return errors.Join(err, <-ended)
}

// wait lets a health check see a failed node, unless a signal ends it sooner.
func (s *server) wait(ctx context.Context) {
	timer := time.NewTimer(s.linger)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
