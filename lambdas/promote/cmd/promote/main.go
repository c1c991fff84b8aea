// Promote is the function that carries out the steps of a failover.
package main

import (
	"context"

	"github.com/sirupsen/logrus"

	"originchain/lambdas/awsenv"
	"originchain/lambdas/awsenv/nodes"
	"originchain/lambdas/promote"
)

func main() {
	awsenv.Main(awsenv.Function{Name: "promote", Needs: nodes.Needs(), May: nodes.May(), Open: open})
}

func open(ctx context.Context, e *awsenv.Env, _ *logrus.Logger) (awsenv.Handler, error) {
	instance, err := nodes.Open(ctx, e)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, c awsenv.Call) (any, error) {
		deps, err := instance.Deps(ctx)
		if err != nil {
			return nil, err
		}
		return promote.New(deps, e.Get(awsenv.Record)).Handle(ctx, c.Payload)
	}, nil
}
