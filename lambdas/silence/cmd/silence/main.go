// Silence is the function behind the alarm of an instance that is silent.
package main

import (
	"context"
	"fmt"
	"time"

	"github.com/sirupsen/logrus"

	"originchain/lambdas/alarmevent"
	"originchain/lambdas/awsenv"
	"originchain/lambdas/awsenv/nodes"
	"originchain/lambdas/silence"
	"originchain/shared/aws/cwalarms"
	"originchain/shared/aws/session"
)

func main() {
	awsenv.Main(awsenv.Function{Name: "silence", Needs: nodes.Needs(), May: nodes.May(), Open: open})
}

func open(ctx context.Context, e *awsenv.Env, _ *logrus.Logger) (awsenv.Handler, error) {
	instance, err := nodes.Open(ctx, e)
	if err != nil {
		return nil, err
	}
	cfg, err := session.Load(ctx, session.Config{})
	if err != nil {
		return nil, err
	}
	alarms := cwalarms.New(cfg)
	alarm := func(ctx context.Context, name string) (alarmevent.State, time.Time, error) {
		a, err := alarms.One(ctx, name)
		return alarmevent.State(a.State), a.Since, err
	}
	return func(ctx context.Context, c awsenv.Call) (any, error) {
		deps, err := instance.Deps(ctx)
		if err != nil {
			return nil, err
		}
		name := e.Get(awsenv.Instance)
		arn := fmt.Sprintf("arn:%s:cloudwatch:%s:%s:alarm:%s", c.Partition, c.Region, c.Account, silence.AlarmName(name))
		h := silence.NewHandler(silence.Config{Instance: name, Zone: e.Get(awsenv.Record), AlarmARN: arn}, silence.EventDeps{Failover: deps, Alarm: alarm, Log: c.Log, Now: time.Now})
		return h.Handle(ctx, c.Payload)
	}, nil
}
