package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"originchain/shared/lsn"
	pb "originchain/shared/replica/replicapb"
	"originchain/shared/simdisk"
)

// source is a leader that has checkpoints to give, and a wire that can be cut or
// damaged between it and who takes them.
type source struct {
	pb.UnimplementedReplicationServer
	t      *testing.T
	disk   *simdisk.Disk
	server *Server
	conn   *Conn
	// made counts the checkpoints; the next one is of this LSN and these files.
	made  int
	at    lsn.LSN
	files map[string][]byte
	// wire is told of each message that is about to be sent, by its number in the
	// stream from 0; an error ends the stream there.
	wire atomic.Pointer[wireFunc]
	sent atomic.Int64 // bytes of files
}

type wireFunc func(n int, m *pb.BootstrapChunk) error

func (s *source) on(f wireFunc) { s.wire.Store(&f) }

// heal is a wire that does nothing to what it carries.
func (s *source) heal() { s.on(func(int, *pb.BootstrapChunk) error { return nil }) }

// Bootstrap implements the service.
func (s *source) Bootstrap(req *pb.BootstrapRequest, stream grpc.ServerStreamingServer[pb.BootstrapChunk]) error {
	return s.server.Bootstrap(req, &wired{ServerStreamingServer: stream, s: s})
}

type wired struct {
	grpc.ServerStreamingServer[pb.BootstrapChunk]
	s *source
	n int
}

func (w *wired) Send(m *pb.BootstrapChunk) error {
	if err := (*w.s.wire.Load())(w.n, m); err != nil {
		return err
	}
	w.n++
	w.s.sent.Add(int64(len(m.GetData().GetBytes())))
	return w.ServerStreamingServer.Send(m)
}

// newSource is a leader with its first checkpoint, of files of every size that
// matters: none, one byte, one message, one byte more, several.
func newSource(t *testing.T) *source {
	s := &source{t: t, disk: simdisk.New(), at: 5, files: map[string][]byte{
		"CURRENT": noise(1, 1), "EMPTY": {}, "000001.sst": noise(2, chunkBytes), "000002.sst": noise(3, chunkBytes+1), "000003.sst": noise(4, 2*chunkBytes+7), "OPTIONS": noise(5, 300),
	}}
	s.heal()
	s.restart()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage))
	pb.RegisterReplicationServer(g, s)
	ended := make(chan error, 1)
	go func() { ended <- g.Serve(l) }()
	if s.conn, err = Dial(l.Addr().String(), nil, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.conn.Close(); err != nil {
			t.Error(err)
		}
		g.Stop()
		if err := errors.Join(<-ended, s.server.checkpoints.close()); err != nil {
			t.Error(err)
		}
	})
	return s
}

// noise is content that repeats nothing.
func noise(seed uint64, n int) []byte {
	var key [32]byte
	key[0] = byte(seed)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(b) // never fails
	return b
}

// restart is a leader that has forgotten what it was sending.
func (s *source) restart() {
	log := logrus.New()
	log.SetOutput(io.Discard)
	if s.server != nil {
		if err := s.server.checkpoints.close(); err != nil {
			s.t.Fatal(err)
		}
	}
	hub := NewHub(HubConfig{}, HubDeps{Log: log}, 0)
	hub.Begin(0, nil)
	s.server = NewServer(ServerConfig{Node: "leader", Epoch: 3}, ServerDeps{Log: log, Hub: hub, Checkpoint: s.checkpoint})
}

func (s *source) checkpoint(context.Context) (*Checkpoint, error) {
	s.made++
	dir := fmt.Sprintf("/checkpoint.%d", s.made)
	if err := s.disk.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for name, content := range s.files {
		f, err := s.disk.Create(dir+"/"+name, vfs.WriteCategoryUnspecified)
		if err != nil {
			return nil, err
		}
		_, err = f.Write(content)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	}
	return &Checkpoint{FS: s.disk, Dir: dir, LSN: s.at, Remove: func() error { return s.disk.RemoveAll(dir) }}, nil
}

const fetchDir = "/data/state.next"

func (s *source) fetch(to *simdisk.Disk) *Fetch {
	return &Fetch{Conn: s.conn, FS: to, Dir: fetchDir, Instance: make([]byte, 16), Node: "follower"}
}

// run is a fetch that asks again while the leader has not noticed that the stream
// before has ended.
func run(t *testing.T, f *Fetch) (*Fetched, error) {
	for {
		got, err := f.Run(t.Context())
		if status.Code(err) != codes.ResourceExhausted {
			return got, err
		}
		runtime.Gosched()
	}
}

// taken requires that the directory is the checkpoint, byte for byte, whatever a
// crash takes.
func (s *source) taken(what string, got *Fetched, err error, to *simdisk.Disk) {
	s.t.Helper()
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
	if got.LSN != s.at || got.Epoch != 3 {
		s.t.Fatalf("%s: a checkpoint of LSN %d in epoch %d, want LSN %d in 3", what, got.LSN, got.Epoch, s.at)
	}
	s.same(what, to)
	// Its own name is for whoever puts it in its place to make durable.
	d, err := to.OpenDir("/")
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err == nil {
		d, err = to.OpenDir("/data")
	}
	if err == nil {
		err = errors.Join(d.Sync(), d.Close())
	}
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
	s.same(what+", and a crash", to.CrashClone(rand.New(rand.NewPCG(1, 2))))
}

func (s *source) same(what string, to *simdisk.Disk) {
	s.t.Helper()
	names, err := to.List(fetchDir)
	if err != nil {
		s.t.Fatalf("%s: %v", what, err)
	}
	if len(names) != len(s.files) {
		s.t.Fatalf("%s: the files %q, want %d", what, names, len(s.files))
	}
	for name, want := range s.files {
		got, err := to.ReadFile(fetchDir + "/" + name)
		if err != nil || !bytes.Equal(got, want) {
			s.t.Fatalf("%s: %s is not the leader's (%d bytes, want %d): %v", what, name, len(got), len(want), err)
		}
	}
}

// The follower's disk fails at every call: the error says that it is its own disk.
// When it is run again, what is there is taken into account and all is well.
func TestAFetchWhoseDiskFailsAnywhereIsRunAgain(t *testing.T) {
	s := newSource(t)
	calls := 0
	for n := 1; ; n++ {
		to := simdisk.New()
		to.FailAt(n, syscall.EIO)
		_, err := run(t, s.fetch(to))
		if to.Armed() > 0 {
			break
		}
		calls = n
		failedOnDisk(t, fmt.Sprintf("call %d fails", n), err)
		got, err := run(t, s.fetch(to))
		s.taken(fmt.Sprintf("call %d had failed", n), got, err, to)
	}
	if calls < 20 {
		t.Errorf("only %d calls to the disk", calls)
	}
	// Those that change nothing, on a directory that has something already.
	for _, op := range []simdisk.Op{simdisk.OpOpen, simdisk.OpRead, simdisk.OpList} {
		hit := 0
		for skip := 0; ; skip++ {
			to := s.half()
			to.Inject(simdisk.Fault{Ops: op, Skip: skip, Err: syscall.EIO})
			_, err := run(t, s.fetch(to))
			if to.Armed() > 0 {
				break
			}
			hit++
			failedOnDisk(t, fmt.Sprintf("%s %d fails", op, skip), err)
			got, err := run(t, s.fetch(to))
			s.taken(fmt.Sprintf("%s %d had failed", op, skip), got, err, to)
		}
		if hit == 0 {
			t.Errorf("no %s failed", op)
		}
	}
}

func failedOnDisk(t *testing.T, what string, err error) {
	t.Helper()
	var local *DiskError
	if !errors.As(err, &local) || !errors.Is(err, syscall.EIO) {
		t.Fatalf("%s: it should be the error of the own disk, which asking again does not help: %v", what, err)
	}
}

// half is a disk whose fetch was cut in the middle.
func (s *source) half() *simdisk.Disk {
	s.t.Helper()
	to := simdisk.New()
	s.on(func(n int, _ *pb.BootstrapChunk) error {
		if n == 4 {
			return status.Error(codes.Unavailable, "cut")
		}
		return nil
	})
	if got, err := run(s.t, s.fetch(to)); err == nil {
		s.t.Fatalf("a stream that was cut is whole: %+v", got)
	}
	s.heal()
	return to
}

// The power of the follower goes at every call to its disk.
func TestAFetchThatIsCutByACrashAnywhereGoesOn(t *testing.T) {
	s := newSource(t)
	for n := 0; ; n++ {
		to := simdisk.New()
		to.CrashAfter(n)
		_, err := run(t, s.fetch(to))
		if !to.Crashed() {
			if err != nil {
				t.Fatal(err)
			}
			break
		}
		for _, after := range []*simdisk.Disk{to.CrashClone(rand.New(rand.NewPCG(uint64(n), 4))), to.KillClone()} {
			got, err := run(t, s.fetch(after))
			s.taken(fmt.Sprintf("crash after call %d", n), got, err, after)
		}
	}
}

// The stream breaks at every message; the next one brings what is missing, of the
// same checkpoint, or of a newer one if the leader has begun anew.
func TestAFetchThatIsCutAtAnyMessageGoesOn(t *testing.T) {
	for _, newer := range []bool{false, true} {
		t.Run(fmt.Sprintf("newer=%t", newer), func(t *testing.T) {
			for cut := 0; ; cut++ {
				s := newSource(t)
				total := int64(0)
				for _, f := range s.files {
					total += int64(len(f))
				}
				to := simdisk.New()
				broken := false
				s.on(func(n int, _ *pb.BootstrapChunk) error {
					if n == cut {
						broken = true
						return status.Error(codes.Unavailable, "cut")
					}
					return nil
				})
				f := s.fetch(to)
				got, err := run(t, f)
				if !broken {
					s.taken("no cut", got, err, to)
					if cut < 8 {
						t.Errorf("only %d messages", cut)
					}
					return
				}
				var local *DiskError
				if err == nil || errors.As(err, &local) {
					t.Fatalf("cut at message %d: %v", cut, err)
				}
				what := fmt.Sprintf("cut at message %d", cut)
				before, whole := s.sent.Load(), s.wholeFiles(to)
				s.heal()
				if newer {
					s.newer()
				}
				got, err = run(t, f)
				s.taken(what, got, err, to)
				if again := s.sent.Load() - before; !newer && again != total-whole {
					t.Errorf("%s: %d bytes are sent again, and %d of %d were there", what, again, whole, total)
				}
				want := 1
				if newer || cut == 0 { // it does not know yet which one it was to get
					want = 2
				}
				if s.made != want {
					t.Errorf("%s: the leader made %d checkpoints, want %d", what, s.made, want)
				}
			}
		})
	}
}

// wholeFiles is how many bytes a disk has in files that are whole.
func (s *source) wholeFiles(to *simdisk.Disk) (n int64) {
	names, err := to.List(fetchDir)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, name := range names {
		if !strings.HasSuffix(name, partSuffix) {
			n += int64(len(s.files[name]))
		}
	}
	return n
}

// newer is a leader that was started again and makes a checkpoint of its newer
// state: one file is gone, one new, one has other bytes of the same length.
func (s *source) newer() {
	s.at = 9
	s.files = map[string][]byte{"CURRENT": noise(7, 1), "EMPTY": {}, "000002.sst": s.files["000002.sst"], "000003.sst": noise(8, 2*chunkBytes+7), "000004.sst": noise(9, 77)}
	s.restart()
}

// A byte that changes on its way is found, wherever it is; and so is a file of an
// earlier run that has rotted since. Both are sent again.
func TestAFetchFindsDamage(t *testing.T) {
	s := newSource(t)
	for n := 1; ; n++ {
		damaged := ""
		s.on(func(i int, m *pb.BootstrapChunk) error {
			if d := m.GetData(); i == n && len(d.GetBytes()) > 0 {
				damaged = d.GetName()
				d.Bytes = slices.Clone(d.GetBytes())
				d.Bytes[len(d.GetBytes())/2] ^= 1
			} else if i == n && m.GetEnd() != nil {
				damaged = "the end"
			}
			return nil
		})
		to := simdisk.New()
		got, err := run(t, s.fetch(to))
		if damaged == "the end" {
			break
		}
		if damaged == "" { // an empty file
			continue
		}
		if err == nil || !strings.Contains(err.Error(), damaged+" of the checkpoint did not arrive as it was sent") {
			t.Fatalf("message %d, of %s, was damaged: %+v, %v", n, damaged, got, err)
		}
		s.heal()
		got, err = run(t, s.fetch(to))
		s.taken("damaged "+damaged, got, err, to)
	}
	s.heal()
	for name, content := range s.files {
		if len(content) == 0 {
			continue
		}
		to := simdisk.New()
		if _, err := run(t, s.fetch(to)); err != nil {
			t.Fatal(err)
		}
		if err := to.FlipBit(fetchDir+"/"+name, int64(len(content)/2)); err != nil {
			t.Fatal(err)
		}
		before := s.sent.Load()
		got, err := run(t, s.fetch(to))
		s.taken("rotten "+name, got, err, to)
		if again := s.sent.Load() - before; again != int64(len(content)) {
			t.Errorf("rotten %s: %d bytes are sent again, and it has %d", name, again, len(content))
		}
	}
}

// What a leader may not send is refused, and nothing is written outside of the
// directory.
func TestAFetchRefusesWhatIsNotDue(t *testing.T) {
	for name, spoil := range map[string]func(m *pb.BootstrapChunk){
		"another file": func(m *pb.BootstrapChunk) { m.GetData().Name = "CURRENT.other" },
		"a gap":        func(m *pb.BootstrapChunk) { m.GetData().Offset++ },
		"too much": func(m *pb.BootstrapChunk) {
			m.GetData().Bytes = append(slices.Clone(m.GetData().GetBytes()), make([]byte, chunkBytes)...)
		},
		"no data": func(m *pb.BootstrapChunk) { m.Kind = nil },
		"the end": func(m *pb.BootstrapChunk) {
			m.Kind = &pb.BootstrapChunk_End{End: &pb.BootstrapEnd{}}
		},
	} {
		s := newSource(t)
		s.on(func(n int, m *pb.BootstrapChunk) error {
			if n == 1 {
				spoil(m)
			}
			return nil
		})
		if got, err := run(t, s.fetch(simdisk.New())); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, name := range []string{"../escape", "a/b", ".", "..", "", "x.part"} {
		s := newSource(t)
		s.on(func(n int, m *pb.BootstrapChunk) error {
			if n == 0 {
				m.GetPlan().Files = []*pb.BootstrapFile{{Name: name, Bytes: 3}}
			} else if m.GetData() != nil {
				m.GetData().Name, m.GetData().Offset, m.GetData().Bytes = name, 0, []byte("abc")
			}
			return nil
		})
		to := simdisk.New()
		got, err := run(t, s.fetch(to))
		if err == nil {
			t.Errorf("a file of the name %q: %+v", name, got)
		}
		for _, path := range to.Names() {
			if f, err := to.Stat(path); err == nil && !f.IsDir() {
				t.Errorf("a file of the name %q is written to %s", name, path)
			}
		}
	}
}
