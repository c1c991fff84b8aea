// Silence is the function behind the alarm of an instance that is silent.
package main

import (
	"context"
	"fmt"
	"time"

	"originchain/lambdas/awsenv"
	"originchain/lambdas/awsenv/nodes"
	"originchain/lambdas/silence"
	"originchain/shared/failover"
)

func main() { awsenv.Main(nodes.Function("silence", open)) }

func open(_ context.Context, e *awsenv.Env) (nodes.Answer, error) {
	return func(ctx context.Context, d failover.Deps, c awsenv.Call) (any, error) {
		name := e.Get(awsenv.Instance)
		arn := fmt.Sprintf("arn:%s:cloudwatch:%s:%s:alarm:%s", c.Partition, c.Region, c.Account, silence.AlarmName(name))
		h := silence.NewHandler(silence.Config{Instance: name, Zone: e.Get(awsenv.Record), AlarmARN: arn}, silence.EventDeps{Failover: d, Log: c.Log, Now: time.Now})
		return h.Handle(ctx, c.Payload)
	}, nil
}
