package writer

import (
	"context"
	"time"

	"originchain/shared/api"
	"originchain/shared/lsn"
)

// The roles, as /health and /v1/admin/replication call them.
const (
	RoleWriter   = "writer"
	RoleFollower = "follower"
)

// Role is what differs between a writer and a follower in what a node says of
// itself.
type Role interface {
	// Mode is RoleWriter or RoleFollower.
	Mode() string
	// Checks adds to the checks of /ready.
	Checks(into map[string]api.Check)
	// Replication completes what the engine knows of itself.
	Replication(into *api.Replication)
	// Topology is where clients find the nodes.
	Topology() api.Topology
	// Degraded says whether the write at an LSN was acknowledged by fewer followers
	// than asked for.
	Degraded(at lsn.LSN) bool
	// MayAnswer is asked when an answer to a read is about to be given: an error says
	// why what was read may not be the newest any more.
	MayAnswer() error
	// Standing is how the nodes stand to each other, for the metrics.
	Standing() Standing
	// Leader is where clients reach the writer; "" on the writer itself, and where
	// nobody knows.
	Leader() string
	// Promote makes the node the writer of an epoch that the record gives to it; reached
	// says that it is already, of that epoch or a later one. It does not wait.
	Promote(ctx context.Context, epoch lsn.Epoch) (reached bool, err error)
	// HandOver gives the writer's role to a named follower, and returns the epoch that it
	// was given and the last frame before it.
	HandOver(ctx context.Context, to api.HandoverRequest) (lsn.Pos, error)
}

// Standing is how the nodes of an instance stand to each other.
type Standing struct {
	// AppliedLag is by how many frames the slowest connected follower, or this one,
	// shows less than the writer.
	AppliedLag uint64
	// Connected and InSync count followers, as a writer knows; Degraded counts
	// frames that fewer than asked for had when they were acknowledged.
	Connected, InSync int
	Degraded          uint64
	// LeaseRemaining is how long a writer may go on without another renewal.
	LeaseRemaining time.Duration
}

// alone is a writer without followers.
type alone struct{ url string }

func (alone) Mode() string                 { return RoleWriter }
func (alone) Checks(map[string]api.Check)  {}
func (alone) Replication(*api.Replication) {}
func (a alone) Topology() api.Topology     { return api.Topology{Writer: a.url} }
func (alone) Degraded(lsn.LSN) bool        { return false }
func (alone) MayAnswer() error             { return nil }
func (alone) Standing() Standing           { return Standing{} }
func (alone) Leader() string               { return "" }
func (alone) Promote(context.Context, lsn.Epoch) (bool, error) {
	return false, notGiven("this node writes without a record of who does; there is nothing to promote")
}
func (alone) HandOver(context.Context, api.HandoverRequest) (lsn.Pos, error) {
	return lsn.Pos{}, notGiven("this node writes without a record of who does; start it with --control to hand it over")
}
