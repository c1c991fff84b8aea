package main

import (
	"github.com/cockroachdb/pebble/v2/vfs"

	"originchain/shared/clock"
	"originchain/shared/engine"
	"originchain/shared/httpx"
	"originchain/writer"
	"originchain/writer/config"
	"originchain/writer/process"
)

// newNode makes the node that the configuration asks for, on the machine's own
// disk and clock.
func newNode(cfg config.Config, deps process.Deps) (process.Node, error) {
	return writer.New(writer.Config{
		Engine: engine.Config{
			DataDir:       cfg.DataDir,
			InstanceID:    cfg.InstanceID,
			NodeID:        cfg.NodeID,
			SegmentBytes:  cfg.SegmentBytes,
			SegmentMaxAge: cfg.SegmentMaxAge,
		},
		HTTP:             httpx.Config{MaxInFlight: cfg.MaxInFlight, SlowRequest: cfg.SlowRequest},
		SeparateOps:      cfg.OpsListen != "",
		StatementTimeout: cfg.StatementTimeout,
	}, writer.Deps{
		FS:      vfs.Default,
		Log:     deps.Log,
		Clock:   clock.New(clock.Config{OnStep: onStep(deps)}),
		Metrics: deps.Metrics,
		Audit:   deps.Audit,
		Admin:   deps.Admin,
	})
}

// onStep reports a step of the machine's clock: stamps go on by the monotonic
// clock, and a person should know.
func onStep(deps process.Deps) func(distance int64) {
	steps := deps.Metrics.Counter("oc_clock_steps_total", "Steps of the machine's clock of more than 5 s; stamps then run on the monotonic clock.")
	return func(micros int64) {
		steps.Inc()
		deps.Log.WithField("distance_ms", micros/1000).Error("the machine's clock was stepped; stamps go on by the monotonic clock until it has held for 60 s. Check its time service")
	}
}
