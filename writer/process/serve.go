package process

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"

	"originchain/shared/certfile"
	"originchain/shared/datadir"
	"originchain/shared/httpx"
	"originchain/shared/telemetry"
	"originchain/shared/tenant"
	"originchain/writer/config"
)

// auditName is the audit log's file in the data directory.
const auditName = "audit.log"

// server is the running process between its configuration and its exit.
type server struct {
	cfg  config.Config
	log  *logrus.Logger
	node Node
	// token is the admin token's file, watched.
	token *certfile.Watched[*tenant.AdminToken]
}

// watchAdminToken has the file's token taken whenever it changes.
func watchAdminToken(path string, into *tenant.AdminToken, log *logrus.Logger) (*certfile.Watched[*tenant.AdminToken], error) {
	file := tenant.AdminTokenFile(path)
	return certfile.Load(certfile.Source[*tenant.AdminToken]{Name: path, What: "admin token", Read: file.Read,
		Parse: func(contents [][]byte) (*tenant.AdminToken, error) {
			t, err := file.Parse(contents)
			if err == nil {
				into.Take(t)
			}
			return t, err
		}}, log)
}

// serve runs the node until a signal or a failure.
func (p Process) serve(ctx context.Context, cfg config.Config, build New) error {
	log, err := telemetry.NewLogger(p.Stderr, cfg.LogLevel)
	if err != nil {
		return withCode(ExitUsage, err)
	}
	var certs *certificates
	if cfg.TLSCert != "" {
		if certs, err = loadCertificates(tlsFiles{cert: cfg.TLSCert, key: cfg.TLSKey, ca: cfg.TLSCA}, log); err != nil {
			return withCode(ExitUsage, err)
		}
	}
	deps, err := prepare(cfg, log)
	if err != nil {
		return err
	}
	if certs != nil {
		deps.CertificateEnds = certs.notAfter
	}
	node, err := build(cfg, deps)
	if err != nil {
		return errors.Join(err, deps.Audit.Close())
	}
	running, hangup, stopWatching := p.watch(ctx, log)
	defer stopWatching()
	token, err := watchAdminToken(cfg.AdminTokenFile, deps.Admin, log)
	if err != nil {
		return errors.Join(err, deps.Audit.Close())
	}
	s := &server{cfg: cfg, log: log, node: node, token: token}
	l, err := s.listen(running, certs, hangup)
	if err != nil {
		return errors.Join(err, deps.Audit.Close())
	}
	err = s.work(running, l)
	err = errors.Join(err, node.Close(), deps.Audit.Close())
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// prepare makes what a node works with. The admin token and the audit log are
// files in the data directory, so the directory is first proved to be ours and
// free: nothing is left in somebody else's, and a second server on a directory
// ends here, before it answers anything. The node takes the lock again.
func prepare(cfg config.Config, log *logrus.Logger) (Deps, error) {
	// Which instance a new directory is of is for the node to find out.
	dir, err := datadir.Open(datadir.Options{FS: vfs.Default, Path: cfg.DataDir, InstanceID: cfg.InstanceID, NodeID: cfg.NodeID, Follower: true})
	if err != nil {
		return Deps{}, err
	}
	id := dir.Identity()
	if err := dir.Close(); err != nil {
		return Deps{}, fmt.Errorf("release the data directory %s: %w", cfg.DataDir, err)
	}
	admin, err := tenant.LoadOrCreateAdminToken(cfg.AdminTokenFile)
	if err != nil {
		return Deps{}, withCode(ExitUsage, err)
	}
	audit, err := telemetry.OpenAudit(filepath.Join(cfg.DataDir, auditName), log)
	if err != nil {
		return Deps{}, err
	}
	metrics := telemetry.NewMetrics()
	instance := "" // not known yet
	if !id.Unclaimed {
		instance = id.InstanceID.String()
	}
	log.WithFields(logrus.Fields{"version": telemetry.Version, "commit": telemetry.Commit, "mode": cfg.Mode, "instance": instance, "node": id.NodeID,
		"region": cfg.Region, "advertise": cfg.Advertise, "data_dir": cfg.DataDir, "admin_token_file": cfg.AdminTokenFile}).Info("starting")
	return Deps{Log: log, Metrics: metrics, Audit: audit, Admin: admin}, nil
}

// listening is the open listeners and who serves them.
type listening struct {
	// failed has the errors of listeners that broke down; it never fills up.
	failed chan error
	close  context.CancelFunc
	group  sync.WaitGroup
}

// listeners is how many there are at most.
const listeners = 2

// stop drains all listeners and returns what broke them; after it no handler runs.
func (l *listening) stop() error {
	l.close()
	l.group.Wait()
	close(l.failed)
	var err error
	for e := range l.failed {
		err = errors.Join(err, e)
	}
	return err
}

// listen opens the addresses and serves them until stop. The context of the
// process does not end them: the order of stopping is run's.
func (s *server) listen(ctx context.Context, certs *certificates, hangup <-chan struct{}) (*listening, error) {
	api, err := net.Listen("tcp", s.cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen at %s: %w; free the address or choose another with --listen", s.cfg.Listen, err)
	}
	var ops net.Listener
	if s.cfg.OpsListen != "" {
		if ops, err = net.Listen("tcp", s.cfg.OpsListen); err != nil {
			return nil, errors.Join(fmt.Errorf("listen at %s: %w; free the address or choose another with --ops-listen", s.cfg.OpsListen, err), api.Close())
		}
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	l := &listening{failed: make(chan error, listeners), close: stop}
	l.group.Go(func() { s.token.Run(serving, nil) })
	var tlsConfig *tls.Config
	if certs != nil {
		tlsConfig = certs.serverConfig()
		l.group.Go(func() { certs.Run(serving, hangup) })
	} else if !loopback(api.Addr()) {
		s.log.WithField("address", api.Addr().String()).Warn("serving plain HTTP beyond this machine; tokens and data cross the network unencrypted unless something in front adds TLS")
	}
	s.start(serving, l, "api", api, s.node.Handler(), tlsConfig)
	if ops != nil {
		s.start(serving, l, "ops", ops, s.node.OpsHandler(), nil)
	}
	return l, nil
}

// start serves one listener.
func (s *server) start(ctx context.Context, l *listening, name string, ln net.Listener, h http.Handler, tlsConfig *tls.Config) {
	s.log.WithFields(logrus.Fields{"listener": name, "address": ln.Addr().String(), "tls": tlsConfig != nil}).Info("listening")
	limits := httpx.Limits{MaxConnections: s.cfg.MaxConnections, DrainTimeout: s.cfg.DrainTimeout}
	l.group.Go(func() {
		err := httpx.Serve(ctx, ln, h, tlsConfig, limits, s.log)
		if errors.Is(err, httpx.ErrCutOff) {
			s.log.WithFields(logrus.Fields{"listener": name, "drain_timeout": s.cfg.DrainTimeout.String()}).Warn("requests were cut off at the end of the drain time")
			err = nil
		}
		if err != nil {
			l.failed <- err
		}
	})
}

// loopback says that only this machine can reach the address.
func loopback(a net.Addr) bool {
	t, ok := a.(*net.TCPAddr)
	return ok && t.IP.IsLoopback()
}

// work runs the node until a signal, its own end or a listener's, then stops in
// order: no new requests, those in flight drained, the node's work ended.
func (s *server) work(ctx context.Context, l *listening) error {
	nodeCtx, stopNode := context.WithCancel(context.WithoutCancel(ctx))
	defer stopNode()
	ended := make(chan error, 1)
	go func() { ended <- s.node.Run(nodeCtx) }()
	var failure error
	select {
	case <-ctx.Done():
	case err := <-l.failed:
		l.failed <- err // for stop, which returns it with the others
	case failure = <-ended:
		failure = s.ended(failure)
		ended <- nil
	}
	broken := l.stop()
	stopNode()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) { // a node that was still opening says so
		failure = s.ended(err)
	}
	return errors.Join(failure, broken)
}

// ended makes the process's error of the end of the node: that of a node that
// had opened is its log's, unless it says otherwise itself.
func (s *server) ended(err error) error {
	if err == nil {
		return errors.New("the node ended by itself")
	}
	select {
	case <-s.node.Opened():
		err = withCode(ExitDisk, fmt.Errorf("the node stopped itself: %w", err))
	default:
	}
	s.log.WithError(err).Error("the node failed")
	return err
}
