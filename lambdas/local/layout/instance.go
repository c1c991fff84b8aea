package layout

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/oklog/ulid/v2"

	"originchain/shared/failover"
)

const (
	// MaxFollowers bounds --followers: each is a process with its own copy.
	MaxFollowers = 7
	// Region is what nodes of one machine say of where they are.
	Region = "local"
	// LeaseName is the name of the lease record in the store.
	LeaseName = "main"
	// zoneName is the zone that the DNS server answers for.
	zoneName = "db.originchain.test"
)

// Instance is what an instance is called and where it is reached, chosen once.
type Instance struct {
	ID string `json:"instance_id"`
	// Zone is the DNS zone, Name the record of the writer in it.
	Zone string `json:"zone"`
	Name string `json:"name"`
	// Front is the address of the control plane's own servers: the endpoint for clients
	// (Port), the lease store, the DNS server. It is chosen on loopback; a file that was
	// written by hand may have another, where nodes are in network namespaces.
	Front     string `json:"front"`
	LeasePort int    `json:"lease_port"`
	DNSPort   int    `json:"dns_port"`
	// MachinesPort is where other processes of this machine reach the supervisor.
	MachinesPort int `json:"machines_port"`
	// Inner is the loopback address of what answers this machine alone, the DNS server and
	// the supervisor, where Front is none; "" is Front.
	Inner string `json:"inner,omitempty"`
	// Port is the same at every address, so that a name is enough to find the writer.
	Port            int `json:"port"`
	ReplicationPort int `json:"replication_port"`
	// GatePort is where the followers of a node stream from, at its address, through a
	// gate before ReplicationPort; nodes have the lease store through one at LeasePort of
	// their own addresses. 0: the instance was made before there were gates.
	GatePort int `json:"gate_port,omitempty"`
	// Nodes[0] is the first writer.
	Nodes []Node `json:"nodes"`
	// Tenant was made with the instance; "" until then.
	Tenant string `json:"tenant,omitempty"`
}

// Node is a node's name and its loopback address.
type Node struct {
	Name    string `json:"node"`
	Address string `json:"address"`
}

// New chooses names and addresses: addresses gives n that can be bound.
func New(followers int, addresses func(seed string, n int) ([]string, error)) (*Instance, error) {
	if followers < 0 || followers > MaxFollowers {
		return nil, fmt.Errorf("--followers %d: an instance has 0 to %d", followers, MaxFollowers)
	}
	id := ulid.MustNew(ulid.Timestamp(time.Now()), rand.Reader)
	in := &Instance{ID: id.String(), Zone: zoneName, Name: "writer." + Region + "." + zoneName}
	all, err := addresses(in.ID, followers+2)
	if err != nil {
		return nil, err
	}
	in.Front = all[0]
	for i, address := range all[1:] {
		in.Nodes = append(in.Nodes, Node{Name: "node-" + strconv.Itoa(i+1), Address: address})
	}
	for _, port := range []*int{&in.Port, &in.ReplicationPort, &in.LeasePort, &in.DNSPort, &in.MachinesPort, &in.GatePort} {
		if *port, err = in.freePort(); err != nil {
			return nil, err
		}
	}
	return in, nil
}

// portTries bounds the search for a port.
const portTries = 100

// freePort finds a port that is free at every address, and not chosen yet.
func (in *Instance) freePort() (int, error) {
	addresses := []string{in.Front}
	for _, n := range in.Nodes {
		addresses = append(addresses, n.Address)
	}
	for range portTries {
		port, err := freeAt(in.Front, 0)
		if err != nil {
			return 0, err
		}
		taken := port == in.Port || port == in.ReplicationPort || port == in.LeasePort || port == in.DNSPort || port == in.MachinesPort
		for _, a := range addresses {
			if _, err := freeAt(a, port); err != nil {
				taken = true
			}
		}
		if !taken {
			return port, nil
		}
	}
	return 0, fmt.Errorf("no port is free at all of %v", addresses)
}

// freeAt reports the port that could be listened on, for TCP and UDP.
func freeAt(address string, port int) (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort(address, strconv.Itoa(port)))
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	port = l.Addr().(*net.TCPAddr).Port
	u, err := net.ListenPacket("udp", net.JoinHostPort(address, strconv.Itoa(port)))
	if err == nil {
		err = u.Close()
	}
	return port, errors.Join(err, l.Close())
}

// Load reads the instance of a directory; nil where there is none yet.
func (d Dir) Load() (*Instance, error) {
	b, err := os.ReadFile(d.Instance())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("read the instance: %w", err)
	}
	in := new(Instance)
	if err := json.Unmarshal(b, in); err != nil {
		return nil, fmt.Errorf("%s is damaged: %w; name another directory with --dir, or restore this file", d.Instance(), err)
	}
	if _, err := ulid.ParseStrict(in.ID); err != nil || len(in.Nodes) == 0 || in.Port == 0 {
		return nil, fmt.Errorf("%s is damaged: it names no instance, nodes or port; name another directory with --dir, or restore this file", d.Instance())
	}
	return in, nil
}

// Save writes it, as one step.
func (d Dir) Save(in *Instance) error { return writeJSON(d.Instance(), in) }

// Endpoint is the URL that follows the writer.
func (in *Instance) Endpoint() string { return "http://" + in.EndpointAddress() }

// EndpointAddress is where it listens.
func (in *Instance) EndpointAddress() string { return in.at(in.Front, in.Port) }

// MachinesAddress is where the supervisor is reached.
func (in *Instance) MachinesAddress() string {
	return in.at(cmp.Or(in.Inner, in.Front), in.MachinesPort)
}

// LeaseAddress is where the lease store listens, DNSAddress the DNS server.
func (in *Instance) LeaseAddress() string { return in.at(in.Front, in.LeasePort) }

// DNSAddress is where the DNS server listens, by UDP and TCP.
func (in *Instance) DNSAddress() string { return in.at(cmp.Or(in.Inner, in.Front), in.DNSPort) }

// Gated says whether the ways of the nodes to each other go through gates.
func (in *Instance) Gated() bool { return in.GatePort != 0 }

// LeaseGate is where a node reaches the lease store, ReplicationListen where it listens
// for followers.
func (in *Instance) LeaseGate(n Node) string { return in.at(n.Address, in.LeasePort) }

// ReplicationListen is where a node listens for followers; they stream from the
// ReplicationAddress that is registered.
func (in *Instance) ReplicationListen(n Node) string { return in.at(n.Address, in.ReplicationPort) }

func (in *Instance) at(address string, port int) string {
	return net.JoinHostPort(address, strconv.Itoa(port))
}

// Registered are the nodes as the registry and the failover know them.
func (in *Instance) Registered() []failover.Node {
	out := make([]failover.Node, 0, len(in.Nodes))
	stream := in.ReplicationPort
	if in.Gated() {
		stream = in.GatePort
	}
	for _, n := range in.Nodes {
		url := "http://" + in.at(n.Address, in.Port)
		out = append(out, failover.Node{
			ID: n.Name, Machine: n.Name, URL: url, OpsURL: url, Address: n.Address, ReplicationAddress: in.at(n.Address, stream),
		})
	}
	return out
}
