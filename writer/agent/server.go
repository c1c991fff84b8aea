package agent

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"time"

	"originchain/shared/alarms"
	"originchain/shared/aws/ec2machine"
	"originchain/shared/failover"
	"originchain/writer/config"
)

const (
	// probeTimeout bounds one probe, pageTimeout the page of metrics: both together end
	// before the next observation begins.
	probeTimeout = 2 * time.Second
	pageTimeout  = 4 * time.Second
	// maxProbeBytes is how much of a probe's answer is read, so that its connection serves
	// the next one.
	maxProbeBytes = 64 << 10
)

// describe is the node as the registry has it: what its unit says, on this machine. The
// address is the one that other nodes reach it by, where the unit says one: a machine may
// have several.
func describe(cfg config.Config, m ec2machine.Machine) (failover.Node, error) {
	if cfg.NodeID == "" || cfg.Advertise == "" {
		return failover.Node{}, errors.New("the server's unit has no --node-id or no --advertise: the node cannot be registered without")
	}
	n := failover.Node{ID: cfg.NodeID, Machine: m.ID, URL: cfg.Advertise, OpsURL: cfg.Advertise, ReplicationAddress: cfg.ReplicationAdvertise, Address: m.Address}
	if n.ReplicationAddress == "" && !wildcard(cfg.ReplicationListen) {
		n.ReplicationAddress = cfg.ReplicationListen
	}
	if host, _, err := net.SplitHostPort(n.ReplicationAddress); err == nil {
		if ip, err := netip.ParseAddr(host); err == nil && !ip.IsUnspecified() {
			n.Address = ip.String()
		}
	}
	if cfg.OpsListen != "" {
		host, port, err := net.SplitHostPort(cfg.OpsListen)
		if err != nil {
			return failover.Node{}, fmt.Errorf("--ops-listen: %w", err)
		}
		if wildcard(cfg.OpsListen) {
			host = n.Address
		}
		n.OpsURL = "http://" + net.JoinHostPort(host, port)
	}
	return n, nil
}

// wildcard says of a host:port that it is every address of the machine.
func wildcard(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil || host == "" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsUnspecified()
}

// client asks one server, over the loopback where it listens there.
type client struct {
	key  [5]string // what it was made of
	base string
	http *http.Client
}

// of is the client of a server: c, if it is that.
func (c *client) of(cfg config.Config) (*client, error) {
	key := [5]string{cfg.Listen, cfg.OpsListen, cfg.TLSCert, cfg.TLSCA, cfg.Advertise}
	if c != nil && c.key == key {
		return c, nil
	}
	if c != nil {
		c.http.CloseIdleConnections()
	}
	address, scheme := cfg.OpsListen, "http"
	if address == "" {
		if address = cfg.Listen; cfg.TLSCert != "" {
			scheme = "https"
		}
	}
	if scheme == "https" && cfg.TLSCA != "" {
		return nil, errors.New("the server takes requests with a client's certificate alone: give it --ops-listen, so that it can be asked how it is")
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("the server's address: %w", err)
	}
	if wildcard(address) {
		host = "127.0.0.1"
	}
	name := host
	if u, err := url.Parse(cfg.Advertise); err == nil && u.Hostname() != "" {
		name = u.Hostname()
	}
	transport := &http.Transport{
		MaxIdleConnsPerHost: 1, IdleConnTimeout: 2 * Interval,
		DialTLSContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return dialTLS(ctx, network, addr, cfg.TLSCert, name)
		},
	}
	return &client{key: key, base: scheme + "://" + net.JoinHostPort(host, port), http: &http.Client{
		Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// dialTLS connects to a server that shows the certificate of its own file, or another one
// by whoever has issued that: what is read anew for each connection, as it is renewed.
func dialTLS(ctx context.Context, network, address, certFile, name string) (net.Conn, error) {
	pem, err := os.ReadFile(certFile)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate", certFile)
	}
	d := tls.Dialer{Config: &tls.Config{RootCAs: roots, ServerName: name, MinVersion: tls.VersionTLS12}}
	return d.DialContext(ctx, network, address)
}

// look probes the server and reads its page, one after the other. A probe that was not
// answered is status 0; a page that was not is nil.
func (c *client) look(ctx context.Context) (page *alarms.Page, probes map[string]alarms.Probe, err error) {
	probes = map[string]alarms.Probe{}
	for _, path := range []string{"/health", "/ready"} {
		status, e := c.get(ctx, path, probeTimeout, func(r io.Reader) error {
			_, err := io.Copy(io.Discard, io.LimitReader(r, maxProbeBytes))
			return err
		})
		if e != nil {
			status = 0
		}
		probes[path] = alarms.Probe{Status: status}
		err = errors.Join(err, e)
	}
	var read *alarms.Page
	status, e := c.get(ctx, "/metrics", pageTimeout, func(r io.Reader) (err error) {
		read, err = alarms.Parse(r)
		return err
	})
	if e == nil && status != http.StatusOK {
		e = fmt.Errorf("/metrics is %d", status)
	}
	if e == nil {
		page = read
	}
	return page, probes, errors.Join(err, e)
}

func (c *client) get(ctx context.Context, path string, within time.Duration, read func(io.Reader) error) (status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+path, nil)
	if err != nil {
		return 0, err
	}
	res, err := c.http.Do(req)
	if err != nil {
		return 0, err
	}
	err = read(res.Body)
	return res.StatusCode, errors.Join(err, res.Body.Close())
}
