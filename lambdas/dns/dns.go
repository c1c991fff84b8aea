// Package dns is the function that points the writer's name at a new writer. It is the step
// "dns" of a failover, in a function of its own: it reaches the zone and the registry, and
// no node.
package dns

import (
	"context"
	"fmt"

	"originchain/lambdas/outcome"
	"originchain/lambdas/promote"
	"originchain/shared/failover"
)

// step is the one that it carries out.
const step = "dns"

// Handler points names.
type Handler struct{ steps *promote.Handler }

// New makes a Handler; zone is the writer's name.
func New(deps failover.Deps, zone string) *Handler {
	return &Handler{promote.Of(deps, zone, step)}
}

// Handle carries the step out. One that is left, which keeps no writer from writing, is an
// error here that is to be retried: the name is what clients wait for. The journal has it
// as left then, and the last step goes on with that.
func (h *Handler) Handle(ctx context.Context, raw []byte) (promote.Answer, error) {
	a, err := h.steps.Handle(ctx, raw)
	if err == nil && a.Outcome == failover.Left {
		err = &outcome.Error{Name: outcome.Unavailable, Err: fmt.Errorf("the name does not follow the writer of failover %s yet: %s", a.Run, a.Detail)}
	}
	return a, err
}
