package netns

import (
	"fmt"
	"regexp"
	"strconv"
)

// Test is what of a testing.T is needed.
type Test interface {
	Helper()
	Fatal(args ...any)
}

// A Network is a bridge that the namespaces of its hosts hang on. The test itself
// sits at the bridge's own address: it reaches every host whatever the hosts can
// reach, so that clients and faults do not mix. The addresses are those set aside
// for tests of networks (RFC 2544).
type Network struct {
	t      Test
	number int
	hosts  int
}

// NewNetwork makes the network of a number, 1 to 254, that no other has.
func NewNetwork(t Test, number int) *Network {
	t.Helper()
	n := &Network{t: t, number: number}
	n.must("ip", "link", "add", n.bridge(), "type", "bridge")
	n.must("ip", "addr", "add", n.Gateway()+"/24", "dev", n.bridge())
	n.must("ip", "link", "set", n.bridge(), "up")
	return n
}

func (n *Network) must(name string, args ...string) {
	n.t.Helper()
	if err := Run("", name, args...); err != nil {
		n.t.Fatal(err)
	}
}

func (n *Network) bridge() string { return fmt.Sprintf("br%d", n.number) }

// Gateway is the test's own address.
func (n *Network) Gateway() string { return fmt.Sprintf("198.18.%d.1", n.number) }

// Host is a network namespace with one address.
type Host struct {
	Net *Network
	// NS is the name of the namespace, IP the address.
	NS, IP string
}

// NewHost makes one.
func (n *Network) NewHost() *Host {
	n.t.Helper()
	n.hosts++
	h := &Host{Net: n, NS: fmt.Sprintf("h%d-%d", n.number, n.hosts), IP: fmt.Sprintf("198.18.%d.%d", n.number, 10+n.hosts)}
	veth := fmt.Sprintf("v%d-%d", n.number, n.hosts)
	n.must("ip", "netns", "add", h.NS)
	n.must("ip", "link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", h.NS)
	n.must("ip", "link", "set", veth, "master", n.bridge(), "up")
	n.must("ip", "-n", h.NS, "addr", "add", h.IP+"/24", "dev", "eth0")
	n.must("ip", "-n", h.NS, "link", "set", "eth0", "up")
	n.must("ip", "-n", h.NS, "link", "set", "lo", "up")
	return h
}

// Wrap is what a command is run through to be on the host.
func (h *Host) Wrap() []string { return []string{"nsenter", "--net=/run/netns/" + h.NS, "--"} }

// NFT runs nft on the host, with a script on its input unless that is empty.
func (h *Host) NFT(script string, args ...string) (string, error) {
	if script != "" {
		args = append(args, "-f", "-")
	}
	return Output(script, "nsenter", append([]string{"--net=/run/netns/" + h.NS, "--", "nft"}, args...)...)
}

// Hinder drops a share of what arrives on the host from another one: 100 is a
// partition one way.
func (h *Host) Hinder(from *Host, percent int) error {
	which := ""
	if percent < 100 {
		which = fmt.Sprintf("numgen random mod 100 < %d ", percent)
	}
	return h.Drop(Arriving, "ip saddr "+from.IP+" "+which)
}

// Direction is that of packets, seen from the host.
type Direction string

// The directions.
const (
	Arriving Direction = "input"
	Leaving  Direction = "output"
)

// Drop drops, and counts, the packets of one direction that an expression of nft selects,
// until Heal.
func (h *Host) Drop(way Direction, which string) error {
	_, err := h.NFT(fmt.Sprintf(`table inet faults {
	counter dropped { }
	chain passing {
		type filter hook %s priority 0; policy accept;
		%s counter name "dropped" drop
	}
}
`, way, which))
	return err
}

var packetCount = regexp.MustCompile(`packets (\d+)`)

// Dropped is how many packets the fault has dropped.
func (h *Host) Dropped() (packets int, err error) {
	out, err := h.NFT("", "list", "counter", "inet", "faults", "dropped")
	if err != nil {
		return 0, err
	}
	m := packetCount.FindStringSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("no packets in %q", out)
	}
	return strconv.Atoi(m[1])
}

// Heal takes the fault away.
func (h *Host) Heal() error {
	_, err := h.NFT("", "delete", "table", "inet", "faults")
	return err
}
