package failover

import (
	"context"
	"time"

	"originchain/shared/lease"
)

// RecordTTL is the TTL of the record that names the writer's address, in seconds.
const RecordTTL = 60

// Node is a machine of the instance, as the registry has it. Its JSON is stable.
type Node struct {
	// ID is the server's --node-id, which the lease record and the topology know it by.
	ID string `json:"node"`
	// Machine is what instance control knows it by: an EC2 instance id, or the name of a
	// supervised node.
	Machine string `json:"machine"`
	// URL is where clients reach it; OpsURL has /health and /ready.
	URL    string `json:"url"`
	OpsURL string `json:"ops_url"`
	// ReplicationAddress is the host:port that followers stream from.
	ReplicationAddress string `json:"replication_address"`
	// Address is the IP that DNS names when the node is the writer.
	Address string `json:"address"`
}

// Process is what instance control knows of a node's server.
type Process struct {
	// Running: there is a process, of PID; 0 if that is not known.
	Running bool
	PID     int
	// Reaped: the process that ran last has ended for certain, by its pid and start
	// time, and the unit is held: nothing starts another. Only a supervisor that is the
	// process's parent can know.
	Reaped bool
	// Place is where the data directory of a reaped process is (lease.PlaceOf), and
	// nothing has it open now; "" if that is not known. A record of the same node at
	// another place is another process's.
	Place string
}

// was says whether the holder that a record names is the process that was reaped, or
// none that has opened the epoch yet.
func (p Process) was(holder lease.Record) bool {
	return p.Reaped && (holder.Given(holder.Holder) || p.Place != "" && p.Place == holder.Place)
}

// Control reaches the machines of nodes: SSM run-command, or the supervisor of this
// one. Each call can be repeated, and is bounded by its context. An error says that the
// outcome is not known, or why nothing was done.
type Control interface {
	// Process tells what is known of a node's server.
	Process(ctx context.Context, n Node) (Process, error)
	// Stop ends the server (SIGTERM, then SIGKILL) and holds its unit against restart
	// until Start.
	Stop(ctx context.Context, n Node) (Process, error)
	// Start lets the unit run again; nothing happens if it does.
	Start(ctx context.Context, n Node) error
	// Restart ends the server and starts it by its unit as that reads now.
	Restart(ctx context.Context, n Node) error
	// Unit reads the node's unit file; name is for messages.
	Unit(ctx context.Context, n Node) (name string, text []byte, err error)
	// Rewrite replaces the unit file as one step (temporary file, fsync, rename, fsync of
	// the directory) for the next start; a running server is left alone.
	Rewrite(ctx context.Context, n Node, text []byte) error
}

// Paced is a Control that says how long the way of a call takes, there and back, beside what
// the machine does. The bounds of calls are that much longer; of a Control that does not say
// so it is nothing.
type Paced interface {
	Pace() time.Duration
}

func pace(c Control) time.Duration {
	if p, ok := c.(Paced); ok {
		return p.Pace()
	}
	return 0
}

// Dated is a Control whose commands may be delivered after their caller has gone, and that
// changes nothing unless it is told of which record its caller acts.
type Dated interface {
	// AsOf is the Control of whoever acts by the record of an epoch. What it sends is refused
	// where the record has another one by then, also if that was so before it was sent.
	AsOf(epoch uint64) Control
}

// asOf is the Control by the record of an epoch: never by the one that is there when a
// command is sent, which may be a newer writer's.
func asOf(c Control, epoch uint64) Control {
	if d, ok := c.(Dated); ok {
		return d.AsOf(epoch)
	}
	return c
}

// DNS names the writer's address to clients.
type DNS interface {
	// Point makes name an A record of address with a TTL of ttl, and returns once every
	// server of the zone answers so. Nothing happens if they do.
	Point(ctx context.Context, name, address string, ttl time.Duration) error
}
