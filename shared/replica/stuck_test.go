package replica

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"originchain/shared/frame"
	"originchain/shared/lsn"
	pb "originchain/shared/replica/replicapb"
	"originchain/shared/simdisk"
	"originchain/shared/wal"
)

// pipes is a listener of connections in memory.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	select {
	case <-p.done:
	default:
		close(p.done)
	}
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.IPAddr{} }

func (p *pipes) dial(ctx context.Context, _ string) (net.Conn, error) {
	a, b := net.Pipe()
	select {
	case p.conns <- b:
		return a, nil
	case <-p.done:
		return nil, errors.Join(net.ErrClosed, a.Close(), b.Close())
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), a.Close(), b.Close())
	}
}

// filled is a log of so many frames of a MiB that do not compress.
func filled(t *testing.T, frames int) *wal.Log {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	l, err := wal.Open(wal.Options{FS: simdisk.New(), Dir: "log", Instance: [16]byte{1}, SegmentBytes: 64 << 20, Log: log, NoPreallocate: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.BeginEpoch(1); err != nil {
		t.Fatal(err)
	}
	for i := range frames {
		value := make([]byte, 1<<20)
		_, _ = rand.Read(value) // never fails
		e := wal.Entry{
			Kind: frame.KindData, LSN: lsn.LSN(i + 1), Timestamp: int64(i + 1), Wall: int64(i + 1),
			Body: frame.AppendOps(nil, []frame.Op{{Type: frame.Put, Key: []byte("k"), Value: value}}),
		}
		if err := l.Append([]wal.Entry{e}); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	return l
}

// leads serves a log of so many MiB, and dials it; end stops all of it.
func leads(t *testing.T, frames int) (hub *Hub, conn *Conn, end func()) {
	t.Helper()
	quiet := logrus.New()
	quiet.SetOutput(io.Discard)
	l := filled(t, frames)
	hub = NewHub(HubConfig{}, HubDeps{Log: quiet, Durable: l.Durable}, 0)
	hub.Begin(0, nil)
	s := NewServer(ServerConfig{Instance: [16]byte{1}, Node: "leader", Epoch: 1}, ServerDeps{
		Log: quiet, WAL: l, Hub: hub, Now: func() int64 { return 0 }, Shipped: func() lsn.LSN { return 0 },
		Admit: func(context.Context, string, lsn.LSN) error { return nil },
	})
	listener := newPipes()
	served := make(chan error, 1)
	go func() { served <- s.Serve(listener, nil) }()
	conn, err := Dial("leader", nil, listener.dial)
	if err != nil {
		t.Fatal(err)
	}
	return hub, conn, func() {
		s.Stop()
		if err := errors.Join(conn.Close(), <-served, l.Close()); err != nil {
			t.Error(err)
		}
	}
}

// A follower whose process answers and whose disk does not takes nothing, says
// nothing, and keeps its connection: it counts as gone like any other that is
// silent, and is shown so, although the leader is in the middle of a Send.
func TestAFollowerThatTakesNothingIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hub, conn, end := leads(t, 12) // more than may be under way
		stream, err := conn.Open(t.Context(), &pb.Hello{Node: "f"})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if f := hub.Followers(); len(f) != 1 || !f[0].Connected {
			t.Fatalf("it should be connected: %+v", f)
		}
		pass(2 * silentAfter)
		if f := hub.Followers(); len(f) != 1 || f[0].Connected {
			t.Errorf("it has said nothing for %s, and counts as connected: %+v", 2*silentAfter, f)
		}
		stream.Close()
		end()
	})
}

// The log is the queue of a slow follower: what the leader, the connection and the
// follower hold in memory of it is a few messages, however much there is to send.
func TestAFollowerThatTakesNothingCostsBoundedMemory(t *testing.T) {
	const frames = 96 // of a MiB
	synctest.Test(t, func(t *testing.T) {
		_, conn, end := leads(t, frames)
		before := heap()
		stream, err := conn.Open(t.Context(), &pb.Hello{Node: "f"})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // until the leader can send no more
		held := heap() - before
		t.Logf("%d KiB are held for a follower that takes nothing of %d MiB", held>>10, frames)
		// The window is 4 MiB; on each side a message as it is made and as it is sent.
		if held > 16<<20 {
			t.Errorf("%d bytes are held, want at most 16 MiB", held)
		}
		stream.Close()
		end()
	})
}

// heap is how many bytes are reachable.
func heap() int64 {
	runtime.GC()
	runtime.GC() // pools let go at the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// What a handler uses is closed when Serve has returned, so none runs any more.
func TestServeReturnsBehindItsHandlers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quiet := logrus.New()
		quiet.SetOutput(io.Discard)
		l := filled(t, 1)
		hub := NewHub(HubConfig{}, HubDeps{Log: quiet, Durable: l.Durable}, 0)
		hub.Begin(0, nil)
		admitted := make(chan struct{})
		s := NewServer(ServerConfig{Instance: [16]byte{1}, Node: "leader", Epoch: 1}, ServerDeps{
			Log: quiet, WAL: l, Hub: hub,
			Admit: func(context.Context, string, lsn.LSN) error { <-admitted; return nil },
		})
		listener := newPipes()
		served := make(chan error, 1)
		go func() { served <- s.Serve(listener, nil) }()
		conn, err := Dial("leader", nil, listener.dial)
		if err != nil {
			t.Fatal(err)
		}
		opened := make(chan error, 1)
		go func() {
			_, err := conn.Open(t.Context(), &pb.Hello{Node: "f", LastLsn: 9, LastEpoch: 1, Line: []*pb.EpochStart{{Epoch: 1, FirstLsn: 1}}})
			opened <- err
		}()
		synctest.Wait()
		s.Stop()
		pass(time.Minute)
		select {
		case err := <-served:
			t.Fatalf("Serve has returned with a handler under way: %v", err)
		default:
		}
		close(admitted)
		<-opened
		if err := errors.Join(conn.Close(), <-served, l.Close()); err != nil {
			t.Error(err)
		}
	})
}

// A follower that takes nothing of its checkpoint does not keep the others from
// having one.
func TestACheckpointThatIsNotTakenIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		quiet := logrus.New()
		quiet.SetOutput(io.Discard)
		disk := simdisk.New()
		if err := disk.MkdirAll("out", 0o700); err != nil {
			t.Fatal(err)
		}
		file, err := disk.Create("out/000001.sst", vfs.WriteCategoryUnspecified)
		if err == nil {
			_, err = file.Write(make([]byte, 12<<20))
		}
		if err = errors.Join(err, file.Close()); err != nil {
			t.Fatal(err)
		}
		hub := NewHub(HubConfig{}, HubDeps{Log: quiet}, 0)
		hub.Begin(0, nil)
		s := NewServer(ServerConfig{Node: "leader"}, ServerDeps{Log: quiet, Hub: hub, Checkpoint: func(context.Context) (*Checkpoint, error) {
			return &Checkpoint{FS: disk, Dir: "out", LSN: 1, Remove: func() error { return nil }}, nil
		}})
		listener := newPipes()
		served := make(chan error, 1)
		go func() { served <- s.Serve(listener, nil) }()
		stuck, err1 := Dial("leader", nil, listener.dial)
		conn, err2 := Dial("leader", nil, listener.dial)
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		if _, err := pb.NewReplicationClient(stuck.cc).Bootstrap(t.Context(), &pb.BootstrapRequest{Node: "stuck"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		fetch := func() (*Fetched, error) {
			f := &Fetch{Conn: conn, FS: disk, Dir: "in", Instance: make([]byte, 16), Node: "other"}
			return f.Run(t.Context())
		}
		if _, err := fetch(); status.Code(err) != codes.ResourceExhausted {
			t.Errorf("while another one takes a checkpoint: %v", err)
		}
		pass(2 * takenWithin)
		if got, err := fetch(); err != nil || got.Bytes != 12<<20 {
			t.Errorf("the other has taken nothing for %s: %+v %v", 2*takenWithin, got, err)
		}
		s.Stop()
		if err := errors.Join(stuck.Close(), conn.Close(), <-served); err != nil {
			t.Error(err)
		}
	})
}
