// Promote is the function that carries out the steps of a failover.
package main

import (
	"context"

	"originchain/lambdas/awsenv"
	"originchain/lambdas/awsenv/nodes"
	"originchain/lambdas/promote"
	"originchain/shared/failover"
)

func main() { awsenv.Main(nodes.Function("promote", answer)) }

func answer(ctx context.Context, e *awsenv.Env, deps failover.Deps, c awsenv.Call) (any, error) {
	return promote.New(deps, e.Get(awsenv.Record)).Handle(ctx, c.Payload)
}
