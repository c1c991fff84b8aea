package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"originchain/shared/lsn"
	pb "originchain/shared/replica/replicapb"
	"originchain/shared/wal"
)

// Follower is the node that follows: what a stream needs of its engine. Copy and
// SyncLog are called by one goroutine.
type Follower interface {
	Copy(wal.Chunk) error
	SyncLog() error
	Advance(commit lsn.LSN, stamp int64)
	Durable() lsn.LSN
	Visible() lsn.Pos
}

// Stream is an open stream from a leader.
type Stream struct {
	// Welcome is what the leader answered.
	Welcome *pb.Welcome
	stream  grpc.BidiStreamingClient[pb.FollowerMessage, pb.LeaderMessage]
	cancel  context.CancelCauseFunc
	// Observe is told of each position of the leader; may be nil.
	Observe func(*pb.Position)

	onEnd func()
	// durable, applied are as acknowledged last, at said.
	durable, applied lsn.LSN
	said             time.Time
}

// ErrStaleLeader is in the chain of an error of Open or of a Fetch when the leader's
// epoch is below one that this node has accepted.
var ErrStaleLeader = errors.New("the leader is no longer the writer")

// errSilent is why a stream is ended whose leader says nothing.
var errSilent = fmt.Errorf("the leader said nothing for %s", silentAfter)

// Open says Hello and waits for the leader's Welcome.
func (c *Conn) Open(ctx context.Context, hello *pb.Hello) (_ *Stream, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer func() {
		if err != nil {
			cancel(err)
		}
	}()
	timer := time.AfterFunc(silentAfter, func() { cancel(errSilent) })
	defer timer.Stop()
	stream, err := pb.NewReplicationClient(c.cc).Follow(ctx)
	if err != nil {
		return nil, err
	}
	if err := stream.Send(&pb.FollowerMessage{Kind: &pb.FollowerMessage_Hello{Hello: hello}}); err != nil {
		return nil, reason(ctx, err)
	}
	m, err := stream.Recv()
	if status.Code(err) == codes.FailedPrecondition {
		return nil, fmt.Errorf("%w: %w", ErrStaleLeader, err)
	} else if err != nil {
		return nil, reason(ctx, err)
	}
	w := m.GetWelcome()
	if w == nil || w.GetWay() == pb.Welcome_WAY_UNSPECIFIED {
		return nil, errors.New("the leader's first message is no Welcome that this version knows; run the same version on both")
	}
	if err := c.shows(stream.Context(), w.GetInstance(), w.GetNode()); err != nil {
		return nil, err
	}
	return &Stream{Welcome: w, stream: stream, cancel: cancel}, nil
}

// reason is why a stream ended: what ended it here, if that was it.
func reason(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return err
}

// OnEnd sets what is called when the stream has ended; its connection, which
// nothing else uses, is closed there.
func (s *Stream) OnEnd(f func()) { s.onEnd = f }

// Close ends the stream.
func (s *Stream) Close() {
	s.cancel(context.Canceled)
	if s.onEnd != nil {
		s.onEnd()
	}
}

// queued bounds the messages that are received and not yet written. Together with
// the window it is what a stream holds in memory.
const queued = 8

// Run copies what the leader sends, until the stream ends; it always returns an
// error. Each group of messages that came together is made durable by one fsync,
// and only then acknowledged.
func (s *Stream) Run(f Follower) error {
	ctx := s.stream.Context()
	messages := make(chan *pb.LeaderMessage, queued)
	ended := make(chan error, 1)
	go func() { ended <- s.receive(ctx, messages) }()
	err := s.follow(ctx, f, messages, ended)
	err = reason(ctx, err)
	s.Close()
	return err
}

func (s *Stream) receive(ctx context.Context, messages chan<- *pb.LeaderMessage) error {
	timer := time.AfterFunc(silentAfter, func() { s.cancel(errSilent) })
	defer timer.Stop()
	for {
		m, err := s.stream.Recv()
		if err != nil {
			return err
		}
		timer.Stop() // a full queue is ours, not the leader's silence
		select {
		case messages <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
		timer.Reset(silentAfter)
	}
}

func (s *Stream) follow(ctx context.Context, f Follower, messages <-chan *pb.LeaderMessage, ended <-chan error) error {
	look := time.NewTicker(appliedEvery)
	defer look.Stop()
	for {
		select {
		case m := <-messages:
			if err := s.group(f, m, messages); err != nil {
				return err
			}
			// A position alone makes nothing durable: what it shows is told with what
			// comes next, or by the clock.
			if f.Durable() == s.durable {
				continue
			}
		case <-look.C:
			if min(f.Visible().LSN, f.Durable()) == s.applied && time.Since(s.said) < heartbeat {
				continue
			}
		case err := <-ended:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := s.acknowledge(f); err != nil {
			return err
		}
	}
}

// group writes a message and those that have come meanwhile, then syncs once.
func (s *Stream) group(f Follower, m *pb.LeaderMessage, messages <-chan *pb.LeaderMessage) error {
	var position *pb.Position
	taken := 0
	for more := true; more; {
		p, err := s.take(f, m)
		if err != nil {
			return err
		}
		position = p
		if taken += len(m.GetChunk().GetBytes()); taken >= groupBytes {
			break // so that the leader hears of it, however much more there is
		}
		select {
		case m = <-messages:
		default:
			more = false
		}
	}
	if err := f.SyncLog(); err != nil {
		return err
	}
	if s.Observe != nil {
		s.Observe(position)
	}
	f.Advance(lsn.LSN(position.GetCommitLsn()), position.GetTimestampMicros())
	return nil
}

// take writes what one message has, and returns the leader's position.
func (s *Stream) take(f Follower, m *pb.LeaderMessage) (*pb.Position, error) {
	position := m.GetPosition()
	if c := m.GetChunk(); c != nil {
		position = c.GetPosition()
	}
	if position == nil {
		return nil, errors.New("the leader sent a message that is neither log nor position")
	}
	if position.GetEpoch() != s.Welcome.GetEpoch() {
		return nil, fmt.Errorf("the leader speaks of epoch %d in a stream of epoch %d", position.GetEpoch(), s.Welcome.GetEpoch())
	}
	c := m.GetChunk()
	if c == nil {
		return position, nil
	}
	return position, f.Copy(wal.Chunk{
		Segment: lsn.LSN(c.GetSegment()), Offset: int64(c.GetOffset()), Bytes: c.GetBytes(), Sealed: c.GetSealed(),
		First: lsn.LSN(c.GetFirstLsn()), Last: lsn.LSN(c.GetLastLsn()),
	})
}

func (s *Stream) acknowledge(f Follower) error {
	// A state that came as a checkpoint may be ahead of the log, for a while.
	durable := f.Durable()
	s.durable, s.applied, s.said = durable, min(f.Visible().LSN, durable), time.Now()
	return s.stream.Send(&pb.FollowerMessage{Kind: &pb.FollowerMessage_Ack{Ack: &pb.Ack{
		Epoch: s.Welcome.GetEpoch(), DurableLsn: uint64(durable), AppliedLsn: uint64(s.applied),
	}}})
}
