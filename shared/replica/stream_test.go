package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"originchain/shared/clock"
	"originchain/shared/engine"
	"originchain/shared/lsn"
	"originchain/shared/mtls"
	pb "originchain/shared/replica/replicapb"
	"originchain/shared/simdisk"
	"originchain/shared/wal"
)

const testInstance = "01JADE00000000000000000001"

// pair is a leader on a loopback address and a follower's engine.
type pair struct {
	t        *testing.T
	leader   *engine.Engine
	follower *engine.Engine
	server   *Server
	addr     string
	tables   int
}

func silent() *logrus.Logger {
	log := logrus.New()
	log.SetOutput(io.Discard)
	return log
}

// newPair starts both; own is what the leader shows.
func newPair(t *testing.T, own *mtls.Identity) *pair {
	t.Helper()
	p := &pair{t: t}
	deps := func() engine.Deps {
		return engine.Deps{FS: simdisk.New(), Log: silent(), Clock: clock.New(clock.Config{}), NoPreallocate: true}
	}
	cfg := engine.Config{DataDir: "data", InstanceID: testInstance, SegmentBytes: 64 << 10}
	var err error
	if p.leader, err = engine.Open(t.Context(), cfg, deps()); err != nil {
		t.Fatal(err)
	}
	cfg.Follower = true
	if p.follower, err = engine.OpenFollower(cfg, deps()); err != nil {
		t.Fatal(err)
	}
	hub := NewHub(HubConfig{}, HubDeps{Log: silent(), Durable: p.leader.Durable, Retained: func(lsn.LSN) int64 { return 0 }}, 0)
	hub.Begin(p.leader.Durable(), nil)
	p.server = NewServer(ServerConfig{Instance: [16]byte(p.leader.Identity().InstanceID), Node: "leader", Epoch: p.leader.Epoch()}, ServerDeps{
		Log: silent(), WAL: p.leader.Log(), Hub: hub, Now: func() int64 { return 0 }, Shipped: func() lsn.LSN { return 0 }, Admit: hub.Readmit,
		Checkpoint: func(context.Context) (*Checkpoint, error) { return nil, errors.New("no checkpoints here") },
	})
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = l.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 3)
	go func() { ended <- p.server.Serve(l, own) }()
	go func() { ended <- p.leader.Run(ctx) }()
	go func() { ended <- p.follower.RunFollower(ctx) }()
	t.Cleanup(func() {
		p.server.Stop()
		cancel()
		if err := errors.Join(<-ended, <-ended, <-ended, p.leader.Close(), p.follower.Close()); err != nil {
			t.Error(err)
		}
	})
	return p
}

func (p *pair) dial(own *mtls.Identity) *Conn {
	p.t.Helper()
	c, err := Dial(p.addr, own, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := c.Close(); err != nil && status.Code(err) != codes.Canceled {
			p.t.Error(err)
		}
	})
	return c
}

// write makes one more frame on the leader.
func (p *pair) write() lsn.LSN {
	p.t.Helper()
	p.tables++
	manifest := fmt.Sprintf("namespace = \"n\"\ntable = \"t%d\"\nprimary_key = [\"id\"]\n[[columns]]\nname = \"id\"\nty = \"i64\"\n", p.tables)
	if _, _, err := p.leader.CreateTable(p.t.Context(), ulid.MustParse("01JADE0000000000000000000A"), []byte(manifest)); err != nil {
		p.t.Fatal(err)
	}
	return p.leader.Durable()
}

// eventually waits for what comes about by itself.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !done(); {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not come about", what)
		}
		<-time.After(time.Millisecond)
	}
}

// recorder is a follower that keeps nothing but how much it was given between two
// syncs.
type recorder struct {
	unsynced, most int
	syncs          int
}

func (r *recorder) Copy(c wal.Chunk) error {
	r.unsynced += len(c.Bytes)
	r.most = max(r.most, r.unsynced)
	return nil
}

func (r *recorder) SyncLog() error {
	r.unsynced = 0
	r.syncs++
	return nil
}

func (*recorder) Advance(lsn.LSN, int64) {}
func (*recorder) Durable() lsn.LSN       { return 0 }
func (*recorder) Visible() lsn.Pos       { return lsn.Pos{} }

// A leader that sends faster than the follower writes does not keep it from making
// durable, and saying, what it has: a group ends at groupBytes.
func TestAGroupOfACatchUpIsBounded(t *testing.T) {
	const chunks = 100
	position := &pb.Position{Epoch: 1}
	messages := make(chan *pb.LeaderMessage, chunks)
	chunk := &pb.LeaderMessage{Kind: &pb.LeaderMessage_Chunk{Chunk: &pb.Chunk{Bytes: make([]byte, chunkBytes), Position: position}}}
	for range chunks {
		messages <- chunk
	}
	s := &Stream{Welcome: &pb.Welcome{Epoch: 1}}
	var r recorder
	for len(messages) > 0 {
		if err := s.group(&r, <-messages, messages); err != nil {
			t.Fatal(err)
		}
	}
	if r.most >= groupBytes+chunkBytes || r.unsynced != 0 {
		t.Errorf("%d bytes were written without a sync, a group has %d", r.most, groupBytes)
	}
	if want := chunks * chunkBytes / groupBytes; r.syncs < want || r.syncs > want+1 {
		t.Errorf("%d syncs for %d chunks, want about %d: what came together is made durable together", r.syncs, chunks, want)
	}
}

// Serve returns when no stream reads the log or the state any more, also when
// streams have to be cut off: what they read is closed next.
func TestServeEndsAfterItsStreams(t *testing.T) {
	begun, served := make(chan struct{}), make(chan struct{})
	s := NewServer(ServerConfig{Node: "leader", Epoch: 1}, ServerDeps{Log: silent(), Hub: NewHub(HubConfig{}, HubDeps{Log: silent()}, 0), Fenced: func(lsn.Epoch) {
		close(begun) // and the stream is busy for longer than it is given
		select {
		case <-served:
			t.Error("Serve has returned while a stream is under way")
		case <-time.After(stopWithin + 500*time.Millisecond):
		}
	}})
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		err := s.Serve(l, nil)
		close(served)
		ended <- err
	}()
	conn, err := Dial(l.Addr().String(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	go func() {
		_, err := conn.Open(context.Background(), &pb.Hello{Node: "f", AcceptedEpoch: 2})
		opened <- err
	}()
	<-begun
	s.Stop()
	if err := <-opened; err == nil {
		t.Error("a stream of a leader that stops is open")
	}
	if err := errors.Join(<-ended, conn.Close()); err != nil {
		t.Error(err)
	}
}
