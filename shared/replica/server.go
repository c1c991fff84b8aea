package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"originchain/shared/lsn"
	pb "originchain/shared/replica/replicapb"
	"originchain/shared/wal"
)

// ServerConfig is plain data.
type ServerConfig struct {
	Instance [16]byte
	Node     string
	// URL is where clients reach the leader.
	URL   string
	Epoch lsn.Epoch
}

// ServerDeps are the edges of a Server.
type ServerDeps struct {
	Log logrus.FieldLogger
	WAL *wal.Log
	Hub *Hub
	// Now is the clock of the log's stamps, in microseconds.
	Now func() int64
	// Shipped is the highest LSN in the archive; 0 where there is none.
	Shipped func() lsn.LSN
	// Checkpoint makes a checkpoint of the state in a directory of its own.
	Checkpoint func(ctx context.Context) (*Checkpoint, error)
	// Admit is asked before a follower whose log ends at last is streamed to; it
	// takes out of the record whoever is named there and lacks what it stands for.
	Admit func(ctx context.Context, node string, last lsn.LSN) error
	// Fenced is told that a follower has accepted a leader of a higher epoch.
	Fenced func(lsn.Epoch)
}

// Server is the leader's side of replication.
type Server struct {
	pb.UnimplementedReplicationServer
	cfg  ServerConfig
	deps ServerDeps
	// checkpoints has the copy that a follower takes.
	checkpoints checkpoints
	certified   bool // callers show certificates
	// stopped ends all streams.
	stopped context.Context
	stop    context.CancelFunc
	sending sync.WaitGroup // what sends to followers
}

// NewServer makes a Server.
func NewServer(cfg ServerConfig, deps ServerDeps) *Server {
	s := &Server{cfg: cfg, deps: deps}
	s.stopped, s.stop = context.WithCancel(context.Background())
	return s
}

// Register serves replication on g.
func (s *Server) Register(g grpc.ServiceRegistrar) { pb.RegisterReplicationServer(g, s) }

// Stop ends all streams, and Serve; followers look for a leader again.
func (s *Server) Stop() { s.stop() }

// Follow implements the service.
func (s *Server) Follow(stream grpc.BidiStreamingServer[pb.FollowerMessage, pb.LeaderMessage]) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	hello := first.GetHello()
	if hello == nil {
		return status.Error(codes.InvalidArgument, "the first message of a stream is Hello")
	}
	if err := s.check(stream.Context(), hello.GetInstance(), hello.GetNode()); err != nil {
		return err
	}
	if accepted := lsn.Epoch(hello.GetAcceptedEpoch()); accepted > s.cfg.Epoch {
		s.deps.Fenced(accepted)
		return status.Errorf(codes.FailedPrecondition, "node %s has accepted a leader of epoch %d, this one leads epoch %d: it is no longer the writer", hello.GetNode(), accepted, s.cfg.Epoch)
	}
	if err := s.leads(); err != nil {
		return err
	}
	meeting, err := s.meet(hello)
	if err != nil {
		return err
	}
	log := s.deps.Log.WithField("node", hello.GetNode()).WithField("lsn", hello.GetLastLsn()).WithField("epoch", hello.GetLastEpoch())
	if meeting.welcome.GetWay() != pb.Welcome_TAIL {
		// It has of this history no more than the fork, whatever its record says.
		if err := s.deps.Admit(stream.Context(), hello.GetNode(), lsn.LSN(meeting.welcome.GetForkLsn())); err != nil {
			return status.Error(codes.Unavailable, err.Error())
		}
	}
	if err := stream.Send(&pb.LeaderMessage{Kind: &pb.LeaderMessage_Welcome{Welcome: meeting.welcome}}); err != nil {
		return err
	}
	if meeting.welcome.GetWay() != pb.Welcome_TAIL {
		log.WithField("way", meeting.welcome.GetWay().String()).WithField("fork_lsn", meeting.welcome.GetForkLsn()).Warn("a follower's log does not continue into this one")
		return nil
	}
	log.Info("follower connected")
	err = s.lead(stream, hello, meeting.from)
	log.WithError(err).Info("follower disconnected")
	return err
}

// leads refuses followers while the lease is lost: there may be another leader, and
// whoever stays here would look as if it were up to date.
func (s *Server) leads() error {
	if !s.deps.Hub.held() {
		return status.Errorf(codes.Unavailable, "%s has not renewed its lease of epoch %d: another node may be the writer", s.cfg.Node, s.cfg.Epoch)
	}
	return nil
}

// check holds a caller against the instance and its own certificate.
func (s *Server) check(ctx context.Context, instance []byte, node string) error {
	if len(instance) != 0 && string(instance) != string(s.cfg.Instance[:]) {
		return status.Errorf(codes.PermissionDenied, "node %s belongs to another instance; check its --leader-addr and --data-dir", node)
	}
	if node == "" || node == s.cfg.Node {
		return status.Errorf(codes.InvalidArgument, "the node id %q is empty or the leader's own; give each node its own --node-id", node)
	}
	if !s.deps.Hub.Room(node) {
		return status.Errorf(codes.ResourceExhausted, "there are %d followers already", maxFollowers)
	}
	shown, err := s.shown(ctx)
	if err != nil {
		return status.Error(codes.Unauthenticated, err.Error())
	}
	if shown == nil {
		return nil
	}
	if shown.Node != node {
		return status.Errorf(codes.PermissionDenied, "the certificate is of node %q and the message of node %q; give the node its own certificate", shown.Node, node)
	}
	if err := otherInstance(*shown, s.cfg.Instance[:]); err != nil {
		return status.Error(codes.PermissionDenied, err.Error())
	}
	return nil
}

// lead streams the log from LSN from on, until one side ends it.
func (s *Server) lead(stream grpc.BidiStreamingServer[pb.FollowerMessage, pb.LeaderMessage], hello *pb.Hello, from lsn.LSN) (err error) {
	chunks, err := s.deps.WAL.NewChunkReader(from)
	if err != nil {
		return status.Error(codes.Aborted, err.Error())
	}
	durable := lsn.LSN(hello.GetLastLsn())
	if len(hello.GetLine()) == 0 {
		durable = 0 // it is where its state stands; it has no log
	}
	if err := s.deps.Admit(stream.Context(), hello.GetNode(), durable); err != nil {
		return errors.Join(status.Error(codes.Unavailable, err.Error()), chunks.Close())
	}
	session := s.deps.Hub.Connected(Peer{
		Node: hello.GetNode(), URL: hello.GetUrl(), Promotable: hello.GetPromotable(),
	}, durable)
	defer session.End()
	heard := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() { ended <- s.listen(stream, session, heard) }()
	l := &leading{s: s, stream: stream, chunks: chunks, emptyLog: len(hello.GetLine()) == 0}
	sent := make(chan error, 1)
	s.sending.Go(func() { sent <- errors.Join(l.run(), chunks.Close()) })
	// Returning ends the stream's context, and with it both. Nothing else ends a Send
	// to a follower that lives and takes nothing.
	return s.attend(stream.Context(), silentAfter, heard, sent, ended)
}

// attend returns when a stream is to end: one of its sides has ended it, or nothing
// was heard of the follower for too long.
func (s *Server) attend(ctx context.Context, within time.Duration, heard <-chan struct{}, sent, ended <-chan error) error {
	silent := time.NewTimer(within)
	defer silent.Stop()
	for {
		select {
		case <-heard:
			silent.Reset(within)
		case <-silent.C:
			return status.Errorf(codes.DeadlineExceeded, "nothing was heard of the follower for %s", within)
		case err := <-sent:
			return err
		case err := <-ended:
			return err
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopped.Done():
			return status.Error(codes.Unavailable, "the leader is stopping")
		}
	}
}

// listen takes the follower's acknowledgements.
func (s *Server) listen(stream grpc.BidiStreamingServer[pb.FollowerMessage, pb.LeaderMessage], session *Session, heard chan<- struct{}) error {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		ack := m.GetAck()
		if ack == nil {
			return status.Error(codes.InvalidArgument, "after Hello a follower sends acknowledgements alone")
		}
		if lsn.Epoch(ack.GetEpoch()) != s.cfg.Epoch {
			return status.Errorf(codes.InvalidArgument, "an acknowledgement of epoch %d in a stream of epoch %d", ack.GetEpoch(), s.cfg.Epoch)
		}
		if durable := s.deps.WAL.Durable(); lsn.LSN(ack.GetDurableLsn()) > durable || ack.GetAppliedLsn() > ack.GetDurableLsn() {
			return status.Errorf(codes.InvalidArgument, "an acknowledgement of LSN %d (applied %d), and the leader's log ends at %d", ack.GetDurableLsn(), ack.GetAppliedLsn(), durable)
		}
		session.Acknowledge(lsn.LSN(ack.GetDurableLsn()), lsn.LSN(ack.GetAppliedLsn()))
		select {
		case heard <- struct{}{}:
		default:
		}
	}
}

// leading is one stream to a follower.
type leading struct {
	s      *Server
	stream grpc.BidiStreamingServer[pb.FollowerMessage, pb.LeaderMessage]
	chunks *wal.ChunkReader
	// emptyLog says that the follower has no log yet: the end of a segment that it
	// has never seen is not told.
	emptyLog bool
	told     lsn.LSN // the commit that was sent last
}

// run sends what becomes durable, and the positions, until the stream ends.
func (l *leading) run() error {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	due := true // the positions, at once
	for {
		advanced, changed := l.s.deps.WAL.Advanced(), l.s.deps.Hub.Changed()
		if err := l.catchUp(); err != nil {
			return err
		}
		if err := l.s.leads(); err != nil {
			return err
		}
		if due || l.s.deps.Hub.Committed() > l.told {
			if err := l.sendPosition(); err != nil {
				return err
			}
			due = false
		}
		select {
		case <-advanced:
		case <-changed:
		case <-beat.C:
			due = true
		case <-l.stream.Context().Done():
			return l.stream.Context().Err()
		}
	}
}

// catchUp sends all that is durable. Send waits while the follower is behind, so
// that nothing piles up here.
func (l *leading) catchUp() error {
	for l.stream.Context().Err() == nil {
		c, ok, err := l.chunks.Next(chunkBytes)
		if err != nil {
			return status.Error(codes.Aborted, fmt.Sprintf("read the log: %v", err))
		}
		if !ok {
			return nil
		}
		if l.emptyLog && len(c.Bytes) == 0 {
			continue
		}
		l.emptyLog = false
		position := l.position()
		err = l.stream.Send(&pb.LeaderMessage{Kind: &pb.LeaderMessage_Chunk{Chunk: &pb.Chunk{
			Segment: uint64(c.Segment), Offset: uint64(c.Offset), Bytes: c.Bytes, Sealed: c.Sealed,
			FirstLsn: uint64(c.First), LastLsn: uint64(c.Last), Position: position,
		}}})
		if err != nil {
			return err
		}
	}
	return nil
}

func (l *leading) sendPosition() error {
	return l.stream.Send(&pb.LeaderMessage{Kind: &pb.LeaderMessage_Position{Position: l.position()}})
}

func (l *leading) position() *pb.Position {
	d := &l.s.deps
	commit := d.Hub.Committed()
	l.told = commit
	return &pb.Position{
		Epoch: uint64(l.s.cfg.Epoch), CommitLsn: uint64(commit), DurableLsn: uint64(d.WAL.Durable()),
		ShippedLsn: uint64(d.Shipped()), TimestampMicros: d.Now(),
	}
}
