package writer

import (
	"fmt"

	"originchain/shared/api"
	"originchain/shared/engine"
	"originchain/shared/fault"
	"originchain/shared/httpx"
	"originchain/shared/lsn"
)

// PromotedError ends a follower's run: the record names the node for an epoch that
// it is to open as writer.
type PromotedError struct {
	Epoch lsn.Epoch
	// Engine is what the follower has open, and no longer runs: a Writer that is made to
	// go on with it, or whoever else has the error, has to close it.
	Engine *engine.Engine
}

// Error implements error.
func (e *PromotedError) Error() string {
	return fmt.Sprintf("this node is to be the writer of epoch %d", e.Epoch)
}

// promote makes the node the writer of an epoch that the record has given to it. It
// answers before it is: GET /ready says when.
func (s *service) promote(c *httpx.Call, in api.PromoteRequest) (out api.Promoted, err error) {
	if in.Epoch == 0 {
		return out, fault.New(fault.ValidationFailed, "epoch is a whole number from 1 on, which the record of who writes names for this node")
	}
	c.SetObject(fmt.Sprintf("epoch/%d", in.Epoch))
	reached, err := s.node.now().Promote(c.Context(), lsn.Epoch(in.Epoch))
	return api.Promoted{Epoch: in.Epoch, Writer: reached}, err
}

// notGiven refuses a promotion.
func notGiven(format string, args ...any) error {
	return fault.New(fault.Conflict, format, args...)
}
