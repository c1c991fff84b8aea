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

func main() { awsenv.Main(nodes.Function("silence", open)) }

func open(ctx context.Context, e *awsenv.Env) (nodes.Answer, error) {
	cfg, err := session.Load(ctx, session.Config{})
	if err != nil {
		return nil, err
	}
	alarms := cwalarms.New(cfg)
	alarm := func(ctx context.Context, name string) (alarmevent.State, time.Time, error) {
		a, err := alarms.One(ctx, name)
		return alarmevent.State(a.State), a.Since, err
	}
	return func(ctx context.Context, d failover.Deps, c awsenv.Call) (any, error) {
		name := e.Get(awsenv.Instance)
		arn := fmt.Sprintf("arn:%s:cloudwatch:%s:%s:alarm:%s", c.Partition, c.Region, c.Account, silence.AlarmName(name))
		h := silence.NewHandler(silence.Config{Instance: name, Zone: e.Get(awsenv.Record), AlarmARN: arn}, silence.EventDeps{Failover: d, Alarm: alarm, Log: c.Log, Now: time.Now})
		return h.Handle(ctx, c.Payload)
	}, nil
}
