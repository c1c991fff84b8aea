package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"time"

	"originchain/shared/alarms"
	"originchain/shared/aws/ec2machine"
	"originchain/shared/failover"
	"originchain/writer/config"
	"originchain/writer/reach"
)

// pageTimeout bounds the page of metrics: with both probes it ends before the next
// observation begins.
const pageTimeout = 4 * time.Second

// describe is the node as the registry has it: what its unit says, on this machine. The
// address is the one that other nodes reach it by, where the unit says one: a machine may
// have several.
func describe(cfg config.Config, m ec2machine.Machine) (failover.Node, error) {
	if cfg.NodeID == "" || cfg.Advertise == "" {
		return failover.Node{}, errors.New("the server's unit has no --node-id or no --advertise: the node cannot be registered without")
	}
	n := failover.Node{ID: cfg.NodeID, Machine: m.ID, URL: cfg.Advertise, OpsURL: cfg.Advertise, ReplicationAddress: cfg.ReplicationAdvertise, Address: m.Address}
	if n.ReplicationAddress == "" && !reach.Wildcard(cfg.ReplicationListen) {
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
		if reach.Wildcard(cfg.OpsListen) {
			host = n.Address
		}
		n.OpsURL = "http://" + net.JoinHostPort(host, port)
	}
	return n, nil
}

// look probes the server and reads its page, one after the other. A probe that was not
// answered is status 0; a page that was not is nil.
func look(ctx context.Context, server *reach.Server) (page *alarms.Page, standing reach.Standing, err error) {
	standing, err = server.Standing(ctx)
	var read *alarms.Page
	status, e := server.Get(ctx, "/metrics", pageTimeout, func(r io.Reader) (err error) {
		read, err = alarms.Parse(r)
		return err
	})
	if e == nil && status != http.StatusOK {
		e = fmt.Errorf("/metrics is %d", status)
	}
	if e == nil {
		page = read
	}
	return page, standing, errors.Join(err, e)
}
