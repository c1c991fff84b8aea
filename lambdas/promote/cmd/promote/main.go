// Promote is the function that carries out the steps of a failover.
package main

import (
	"context"

	"originchain/lambdas/awsenv"
	"originchain/lambdas/awsenv/nodes"
	"originchain/lambdas/promote"
	"originchain/shared/failover"
)

func main() { awsenv.Main(nodes.Function("promote", open)) }

func open(_ context.Context, e *awsenv.Env) (nodes.Answer, error) {
	return func(ctx context.Context, d failover.Deps, c awsenv.Call) (any, error) {
		return promote.New(d, e.Get(awsenv.Record)).Handle(ctx, c.Payload)
	}, nil
}
