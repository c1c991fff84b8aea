// Silence is the function behind the alarm of an instance that is silent.
package main

import (
	"context"
	"fmt"
	"time"

	"originchain/lambdas/alarmevent"
	"originchain/lambdas/awsenv"
	"originchain/lambdas/awsenv/nodes"
	"originchain/lambdas/silence"
	"originchain/shared/aws/cwalarms"
	"originchain/shared/aws/session"
	"originchain/shared/failover"
)

func main() { awsenv.Main(nodes.Function("silence", answer)) }

func answer(ctx context.Context, e *awsenv.Env, deps failover.Deps, c awsenv.Call) (any, error) {
	cfg, err := session.Load(ctx, session.Config{})
	if err != nil {
		return nil, err
	}
	alarm := func(ctx context.Context, name string) (alarmevent.State, time.Time, error) {
		a, err := cwalarms.New(cfg).One(ctx, name)
		return alarmevent.State(a.State), a.Since, err
	}
	name := e.Get(awsenv.Instance)
	arn := fmt.Sprintf("arn:%s:cloudwatch:%s:%s:alarm:%s", c.Partition, c.Region, c.Account, silence.AlarmName(name))
	h := silence.NewHandler(silence.Config{Instance: name, Zone: e.Get(awsenv.Record), AlarmARN: arn}, silence.EventDeps{Failover: deps, Alarm: alarm, Log: c.Log, Now: time.Now})
	return h.Handle(ctx, c.Payload)
}
