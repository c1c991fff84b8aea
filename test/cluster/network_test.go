package cluster

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"

	"originchain/test/netns"
)

// Ports of every host.
const (
	apiPort         = "7400"
	replicationPort = "7401"
)

var networks atomic.Int32

func newNetwork(t *testing.T) *netns.Network {
	t.Helper()
	return netns.NewNetwork(t, int(networks.Add(1)))
}

// detour is a toxiproxy in the way from one host to the replication of another.
type detour struct {
	from  *netns.Host
	proxy *toxiproxy.Proxy
}

// newDetour sends what from says to the replication of to through a proxy, from
// now on; connections that there are end.
func newDetour(from, to *netns.Host) (*detour, error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	d := &detour{from: from, proxy: toxiproxy.NewProxy(server, to.NS, from.Net.Gateway()+":0", net.JoinHostPort(to.IP, replicationPort))}
	if err := d.proxy.Start(); err != nil {
		return nil, err
	}
	// The address is changed for new connections alone: the packets of older ones
	// still carry it, and are answered with a reset.
	_, err := from.NFT(fmt.Sprintf(`table ip detour {
	chain leaving {
		type nat hook output priority -100;
		ip daddr %s tcp dport %s dnat to %s
	}
	chain older {
		type filter hook output priority 0;
		ip daddr %s tcp dport %s reject with tcp reset
	}
}
`, to.IP, replicationPort, d.proxy.Listen, to.IP, replicationPort))
	return d, err
}

// toxic adds a toxic of toxiproxy, by its kind and attributes.
func (d *detour) toxic(kind, attributes string) error {
	for _, stream := range []string{"upstream", "downstream"} {
		text := fmt.Sprintf(`{"name":"%s-%s","type":"%s","stream":"%s","attributes":%s}`, kind, stream, kind, stream, attributes)
		if _, err := d.proxy.Toxics.AddToxicJson(strings.NewReader(text)); err != nil {
			return err
		}
	}
	return nil
}

// pure takes all toxics away.
func (d *detour) pure(ctx context.Context) { d.proxy.Toxics.ResetToxics(ctx) }

// end gives the direct way back. Connections through the proxy end.
func (d *detour) end() error {
	_, err := d.from.NFT("", "delete", "table", "ip", "detour")
	d.proxy.Stop()
	return err
}
