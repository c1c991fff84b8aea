package layout

import (
	"net/url"
	"strconv"

	"originchain/shared/serverunit"
)

// Options are what nodes are started with besides what follows from the instance.
type Options struct {
	// Binary is the absolute path of oc-server.
	Binary string
	// SyncReplicas is --sync-replicas.
	SyncReplicas int
	// More flags go to every node, behind the others.
	More []string
}

// LeaseURL is the lease record as programs are told of it.
func (d Dir) LeaseURL(in *Instance) string { return d.leaseAt(in.LeaseAddress()) }

func (d Dir) leaseAt(host string) string {
	u := url.URL{Scheme: "http", Host: host, Path: "/v1/leases/" + LeaseName, RawQuery: url.Values{"token-file": {d.LeaseToken()}}.Encode()}
	return u.String()
}

// UnitText is the unit file of a node: the first one writes, the others follow it.
func (d Dir) UnitText(in *Instance, index int, o Options) ([]byte, error) {
	nodes := in.Registered()
	n := nodes[index]
	mode := []string{"--mode", "writer"}
	if index > 0 {
		mode = []string{"--mode", "follower", "--leader-addr", nodes[0].ReplicationAddress}
	}
	lease, own := d.LeaseURL(in), in.Nodes[index]
	if in.Gated() {
		lease = d.leaseAt(in.LeaseGate(own))
		mode = append(mode, "--replication-advertise", n.ReplicationAddress)
	}
	flags := append(mode,
		"--instance-id", in.ID, "--node-id", n.ID, "--region", Region, "--data-dir", d.Data(n.Machine), "--listen", in.at(n.Address, in.Port), "--advertise", n.URL,
		"--replication-listen", in.ReplicationListen(own), "--control", lease, "--sync-replicas", strconv.Itoa(o.SyncReplicas),
		"--archive", d.ArchiveURL(), "--tail-ship", "--admin-token-file", d.AdminToken())
	u := serverunit.Unit{Node: n.ID, Instance: in.ID, Directory: string(d), Binary: o.Binary, Flags: append(flags, o.More...)}
	return u.Text()
}
