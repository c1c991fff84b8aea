package cluster

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// A network is a bridge that the namespaces of its hosts hang on. The test itself
// sits at the bridge's own address: it reaches every host whatever the hosts can
// reach, so that clients and faults do not mix. The addresses are those set aside
// for tests of networks (RFC 2544).
type network struct {
	t      *testing.T
	number int
	hosts  int
}

// Ports of every host.
const (
	apiPort         = "7400"
	replicationPort = "7401"
)

var networks atomic.Int32

func newNetwork(t *testing.T) *network {
	t.Helper()
	n := &network{t: t, number: int(networks.Add(1))}
	n.must("ip", "link", "add", n.bridge(), "type", "bridge")
	n.must("ip", "addr", "add", n.gateway()+"/24", "dev", n.bridge())
	n.must("ip", "link", "set", n.bridge(), "up")
	return n
}

func (n *network) must(name string, args ...string) {
	n.t.Helper()
	if err := run("", name, args...); err != nil {
		n.t.Fatal(err)
	}
}

func (n *network) bridge() string { return fmt.Sprintf("br%d", n.number) }

// gateway is the test's own address.
func (n *network) gateway() string { return fmt.Sprintf("198.18.%d.1", n.number) }

// host is a network namespace with one address.
type host struct {
	net *network
	ns  string
	ip  string
}

func (n *network) newHost() *host {
	n.t.Helper()
	n.hosts++
	h := &host{net: n, ns: fmt.Sprintf("h%d-%d", n.number, n.hosts), ip: fmt.Sprintf("198.18.%d.%d", n.number, 10+n.hosts)}
	veth := fmt.Sprintf("v%d-%d", n.number, n.hosts)
	n.must("ip", "netns", "add", h.ns)
	n.must("ip", "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", h.ns)
	n.must("ip", "link", "set", veth, "master", n.bridge(), "up")
	n.must("ip", "-n", h.ns, "addr", "add", h.ip+"/24", "dev", "eth0")
	n.must("ip", "-n", h.ns, "link", "set", "eth0", "up")
	n.must("ip", "-n", h.ns, "link", "set", "lo", "up")
	return h
}

// wrap is what a command is run through to be on the host.
func (h *host) wrap() []string { return []string{"nsenter", "--net=/run/netns/" + h.ns, "--"} }

func (h *host) nft(script string, args ...string) (string, error) {
	if script != "" {
		args = append(args, "-f", "-")
	}
	return output(script, "nsenter", append([]string{"--net=/run/netns/" + h.ns, "--", "nft"}, args...)...)
}

// hinder drops a share of what arrives on the host from another one: 100 is a
// partition one way.
func (h *host) hinder(from *host, percent int) error {
	which := ""
	if percent < 100 {
		which = fmt.Sprintf("numgen random mod 100 < %d ", percent)
	}
	_, err := h.nft(fmt.Sprintf(`table inet faults {
	counter dropped { }
	chain arriving {
		type filter hook input priority 0; policy accept;
		ip saddr %s %scounter name "dropped" drop
	}
}
`, from.ip, which))
	return err
}

var packetCount = regexp.MustCompile(`packets (\d+)`)

// dropped is how many packets the fault has dropped.
func (h *host) dropped() (packets int, err error) {
	out, err := h.nft("", "list", "counter", "inet", "faults", "dropped")
	if err != nil {
		return 0, err
	}
	m := packetCount.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("no packets in %q", out)
	}
	return strconv.Atoi(m[1])
}

// heal takes the fault away.
func (h *host) heal() error {
	_, err := h.nft("", "delete", "table", "inet", "faults")
	return err
}

// detour is a toxiproxy in the way from one host to the replication of another.
type detour struct {
	from  *host
	proxy *toxiproxy.Proxy
}

// newDetour sends what from says to the replication of to through a proxy, from
// now on; connections that there are end.
func newDetour(from, to *host) (*detour, error) {
	server := toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), zerolog.Nop())
	d := &detour{from: from, proxy: toxiproxy.NewProxy(server, to.ns, from.net.gateway()+":0", net.JoinHostPort(to.ip, replicationPort))}
	if err := d.proxy.Start(); err != nil {
		return nil, err
	}
	// The address is changed for new connections alone: the packets of older ones
	// still carry it, and are answered with a reset.
	_, err := from.nft(fmt.Sprintf(`table ip detour {
	chain leaving {
		type nat hook output priority -100;
		ip daddr %s tcp dport %s dnat to %s
	}
	chain older {
		type filter hook output priority 0;
		ip daddr %s tcp dport %s reject with tcp reset
	}
}
`, to.ip, replicationPort, d.proxy.Listen, to.ip, replicationPort))
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
	_, err := d.from.nft("", "delete", "table", "ip", "detour")
	d.proxy.Stop()
	return err
}
