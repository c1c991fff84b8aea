package follower

import (
	"errors"
	"io"
	"testing"

	"github.com/sirupsen/logrus"

	"originchain/shared/clock"
	"originchain/shared/datadir"
	"originchain/shared/engine"
	"originchain/shared/lsn"
	pb "originchain/shared/replica/replicapb"
	"originchain/shared/simdisk"
	"originchain/shared/telemetry"
	"originchain/writer"
)

// A node that took an epoch as a writer and did not come to write in it follows the
// leader of before all the same, and does not tell it that it is stale. A leader
// that it has accepted is remembered, across restarts.
func TestAnEpochThatCameToNothingFencesNobody(t *testing.T) {
	log := logrus.New()
	log.SetOutput(io.Discard)
	disk := simdisk.New()
	f := New(&writer.Shell{}, Config{}, Deps{Metrics: telemetry.NewMetrics(), Log: log})
	open := func() *engine.Engine {
		t.Helper()
		e, err := engine.OpenFollower(engine.Config{DataDir: "data", InstanceID: "01JADE00000000000000000001", Follower: true},
			engine.Deps{FS: disk, Log: log, Clock: clock.New(clock.Config{}), NoPreallocate: true})
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	says := func(e *engine.Engine, want uint64) {
		t.Helper()
		h, err := f.helloOf(e)
		if err != nil {
			t.Fatal(err)
		}
		if h.GetAcceptedEpoch() != want {
			t.Errorf("its Hello says that it has accepted epoch %d, want %d", h.GetAcceptedEpoch(), want)
		}
	}
	e := open()
	if got, err := e.Dir().AllotEpoch(lsn.Epoch(6)); err != nil || got != 7 {
		t.Fatalf("allotted %d: %v", got, err)
	}
	says(e, 0)
	instance := e.Identity().InstanceID
	welcome := func(epoch uint64) *pb.Welcome {
		return &pb.Welcome{Instance: instance[:], Node: "leader", Epoch: epoch}
	}
	if err := f.accept(e, welcome(5)); err != nil {
		t.Errorf("the leader of epoch 5, with an own epoch 7 that came to nothing: %v", err)
	}
	says(e, 5)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
	e = open()
	says(e, 5)
	if err := f.accept(e, welcome(4)); !errors.Is(err, datadir.ErrStaleLeader) {
		t.Errorf("the leader of epoch 4 after that of 5: %v", err)
	}
	if err := f.accept(e, welcome(6)); err != nil {
		t.Errorf("the leader of epoch 6: %v", err)
	}
	// Its own next epoch is above all of them.
	if got, err := e.Dir().AllotEpoch(0); err != nil || got != 8 {
		t.Errorf("the next own epoch is %d: %v", got, err)
	}
	other := welcome(9)
	other.Instance = make([]byte, len(instance))
	if err := f.accept(e, other); err == nil {
		t.Error("a leader of another instance is accepted")
	}
	says(e, 6)
	if err := e.Close(); err != nil {
		t.Fatal(err)
	}
}
