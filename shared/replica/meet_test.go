package replica

import (
	"context"
	"fmt"
	"io"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"

	"originchain/shared/clock"
	"originchain/shared/engine"
	"originchain/shared/lsn"
	pb "originchain/shared/replica/replicapb"
	"originchain/shared/simdisk"
	"originchain/shared/wal"
)

// wrote is a writer's opening on a disk: it takes the epoch, and creates tables,
// one frame each. Its log is read while the engine is open.
func wrote(t *testing.T, disk *simdisk.Disk, epoch lsn.Epoch, tables int) *wal.Log {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	e, err := engine.Open(t.Context(), engine.Config{DataDir: "data", InstanceID: "01JADE00000000000000000001", SegmentBytes: 32 << 10}, engine.Deps{
		FS: disk, Log: log, Clock: clock.New(clock.Config{}), NoPreallocate: true,
		TakeEpoch: func(context.Context, engine.Opening) (lsn.Epoch, error) {
			return epoch, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	for i := range tables {
		manifest := fmt.Sprintf("namespace = \"n\"\ntable = \"t%d_%d\"\nprimary_key = [\"id\"]\n[[columns]]\nname = \"id\"\nty = \"i64\"\n", epoch, i)
		if _, _, err := e.CreateTable(ctx, ulid.MustParse("01JADE0000000000000000000A"), []byte(manifest)); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e.Log()
}

// helloAt is the Hello of a node with this log, as if it ended at last.
func helloAt(t *testing.T, log *wal.Log, last lsn.LSN) *pb.Hello {
	t.Helper()
	chain, epoch, err := log.ChainAt(last)
	if err != nil {
		t.Fatal(err)
	}
	h := &pb.Hello{Node: "f", LastLsn: uint64(last), LastEpoch: uint64(epoch)}
	if last > 0 {
		h.Chain = chain[:]
	}
	for _, s := range log.Epochs() {
		if s.First <= last {
			h.Line = append(h.Line, &pb.EpochStart{Epoch: uint64(s.Epoch), FirstLsn: uint64(s.First)})
		}
	}
	return h
}

func stateOnly(h *pb.Hello) *pb.Hello {
	h.Line = nil
	return h
}

func wrongChain(h *pb.Hello) *pb.Hello {
	h.Chain = make([]byte, 32)
	return h
}

// The history of the leader: epoch 1 has LSN 1 to 3, epoch 2 4 to 6, epoch 5 7 to
// 9. Another node left it in epoch 2 after LSN 6 and wrote 7 and 8 there itself (it
// was the writer, and nobody had them), then epoch 3 from 9 on.
func TestMeet(t *testing.T) {
	first := simdisk.New()
	wrote(t, first, 1, 2)
	second := first.KillClone()
	wrote(t, second, 2, 2)
	own := second.KillClone()
	leader := wrote(t, own, 5, 2)
	aside := first.KillClone()
	wrote(t, aside, 2, 4)
	other := aside.KillClone()
	forked := wrote(t, other, 3, 1)
	unrelated := simdisk.New()
	stranger := wrote(t, unrelated, 4, 3)
	trimmedDisk := own.KillClone()
	trimmed := wrote(t, trimmedDisk, 6, 1) // LSN 10 and 11
	if err := trimmed.RemoveBefore(7); err != nil || trimmed.FirstLSN() != 7 {
		t.Fatalf("the log begins at %d: %v", trimmed.FirstLSN(), err)
	}
	if leader.Durable() != 9 || forked.Durable() != 10 {
		t.Fatalf("the logs end at %d and %d", leader.Durable(), forked.Durable())
	}
	for _, c := range []struct {
		name  string
		with  *wal.Log
		hello *pb.Hello
		way   pb.Welcome_Way
		at    lsn.LSN // TAIL: the first frame to send; else the fork
	}{
		{"nothing yet", leader, &pb.Hello{}, pb.Welcome_TAIL, 1},
		{"everything", leader, helloAt(t, leader, 9), pb.Welcome_TAIL, 10},
		{"a beginning", leader, helloAt(t, leader, 5), pb.Welcome_TAIL, 6},
		{"a beginning up to an epoch's end", leader, helloAt(t, leader, 6), pb.Welcome_TAIL, 7},
		{"other frames at the end of a shared epoch, and one of its own", leader, helloAt(t, forked, 10), pb.Welcome_FORK, 6},
		{"other frames at the end of a shared epoch", leader, helloAt(t, forked, 8), pb.Welcome_FORK, 6},
		{"more than the leader in its own epoch", leader, func() *pb.Hello {
			h := helloAt(t, leader, 9)
			h.LastLsn = 12
			return wrongChain(h)
		}(), pb.Welcome_FORK, 9},
		{"nothing shared", leader, helloAt(t, stranger, 3), pb.Welcome_FORK, 0},
		{"a checkpoint", leader, stateOnly(helloAt(t, leader, 7)), pb.Welcome_TAIL, 7},
		{"a checkpoint at the end of a segment", leader, stateOnly(helloAt(t, leader, 6)), pb.Welcome_TAIL, 7},
		{"a checkpoint of everything", leader, stateOnly(helloAt(t, leader, 9)), pb.Welcome_TAIL, 7},
		{"a checkpoint of another history", leader, stateOnly(wrongChain(helloAt(t, leader, 8))), pb.Welcome_BOOTSTRAP, 0},
		{"a checkpoint ahead of the leader", leader, stateOnly(helloAt(t, forked, 10)), pb.Welcome_BOOTSTRAP, 0},
		{"trimmed: nothing yet", trimmed, &pb.Hello{}, pb.Welcome_BOOTSTRAP, 0},
		{"trimmed: just enough", trimmed, helloAt(t, leader, 6), pb.Welcome_TAIL, 7},
		{"trimmed: too little, of an epoch that is gone", trimmed, helloAt(t, leader, 4), pb.Welcome_BOOTSTRAP, 0},
		{"trimmed: too little, nothing shared", trimmed, helloAt(t, stranger, 2), pb.Welcome_BOOTSTRAP, 0},
		{"trimmed: parted below", trimmed, helloAt(t, forked, 10), pb.Welcome_FORK, 6},
		{"trimmed: a checkpoint below", trimmed, stateOnly(helloAt(t, leader, 5)), pb.Welcome_BOOTSTRAP, 0},
		{"trimmed: a checkpoint just below", trimmed, stateOnly(helloAt(t, leader, 6)), pb.Welcome_TAIL, 7},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := NewServer(ServerConfig{Node: "l", Epoch: 6}, ServerDeps{WAL: c.with})
			m, err := s.meet(c.hello)
			if err != nil {
				t.Fatal(err)
			}
			at := m.from
			if c.way != pb.Welcome_TAIL {
				at = lsn.LSN(m.welcome.GetForkLsn())
			}
			if m.welcome.GetWay() != c.way || at != c.at {
				t.Fatalf("%s at %d, want %s at %d", m.welcome.GetWay(), at, c.way, c.at)
			}
			if c.way != pb.Welcome_FORK {
				return
			}
			chain, err := chainOf(c.with, c.at)
			if err != nil || string(m.welcome.GetForkChain()) != string(chain) {
				t.Fatalf("the chain of the fork is %x, want %x (%v)", m.welcome.GetForkChain(), chain, err)
			}
		})
	}
}

func chainOf(log *wal.Log, n lsn.LSN) ([]byte, error) {
	if n == 0 {
		return nil, nil
	}
	chain, _, err := log.ChainAt(n)
	return chain[:], err
}
