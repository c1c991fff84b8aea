package writer

import (
	"context"
	"errors"

	"originchain/shared/api"
	"originchain/shared/engine"
	"originchain/shared/lsn"
)

// Reader serves a restored copy that nobody has accepted: it answers reads, takes no
// epoch, and follows nobody. /ready says why it is not ready for traffic.
type Reader struct{ *Shell }

// NewReader makes the role. It starts nothing and touches no file.
func NewReader(n *Shell) *Reader { return &Reader{n} }

// Run serves until ctx ends: nil then.
func (r *Reader) Run(ctx context.Context) error {
	r.SetRole(reader{})
	e, err := engine.OpenReader(r.cfg.Engine, r.EngineDeps())
	if err != nil {
		return r.OpenFailed(ctx, err)
	}
	s, err := r.Prepare(e)
	if err != nil {
		return errors.Join(err, e.Close())
	}
	return errors.Join(r.Serve(ctx, s, nil, true, e.RunFollower), e.Close())
}

// reader is what a node says of itself while it serves a restored copy.
type reader struct{}

// Mode implements Role: it reads like a follower.
func (reader) Mode() string { return RoleFollower }

// MayAnswer implements Role: nothing here gets newer.
func (reader) MayAnswer() error { return nil }

// Checks implements Role.
func (reader) Checks(into map[string]api.Check) {
	delete(into, checkLease)
	delete(into, checkPipeline)
	into["restored"] = api.Check{Detail: "this is a restored copy, for reading alone until oc-pitr accept makes it its instance's history"}
}

// Replication implements Role.
func (reader) Replication(*api.Replication) {}

// Topology implements Role: nobody is to come here for the instance.
func (reader) Topology() api.Topology { return api.Topology{} }

// Degraded implements Role.
func (reader) Degraded(lsn.LSN) bool { return false }

// Standing implements Role.
func (reader) Standing() Standing { return Standing{} }

// Leader implements Role.
func (reader) Leader() string { return "" }

func (reader) Promote(context.Context, lsn.Epoch) (bool, error) {
	return false, notGiven("this node serves a restored copy, for reading alone: oc-pitr accept makes it one that may write")
}

// HandOver implements Role.
func (reader) HandOver(context.Context, api.HandoverRequest) (lsn.Pos, error) {
	return lsn.Pos{}, notGiven("this node serves a restored copy, for reading alone: it has no role to hand over")
}
