package follower

import (
	"context"
	"io"
	"testing"

	"github.com/sirupsen/logrus"

	"originchain/shared/clock"
	"originchain/shared/engine"
	"originchain/shared/simdisk"
	"originchain/shared/telemetry"
	"originchain/writer"
)

// A role that ends before it has opened anything closes what it was to go on with, once:
// the next Run opens the directory, and does not meet an engine that is closed.
func TestWhatARunDidNotComeToIsClosedOnce(t *testing.T) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	e, err := engine.OpenFollower(engine.Config{DataDir: "data", InstanceID: "01JADE00000000000000000001", Follower: true},
		engine.Deps{FS: simdisk.New(), Log: log, Clock: clock.New(clock.Config{}), NoPreallocate: true})
	if err != nil {
		t.Fatal(err)
	}
	f := New(&writer.Shell{}, Config{}, Deps{Metrics: telemetry.NewMetrics(), Log: log})
	f.GoOnWith(e)
	stopped, stop := context.WithCancel(t.Context())
	stop()
	if err := f.Run(stopped); err != nil {
		t.Fatal(err)
	}
	if f.from != nil {
		t.Error("the next Run goes on with what this one has closed")
	}
}
