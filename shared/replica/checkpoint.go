package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"originchain/shared/lsn"
	pb "originchain/shared/replica/replicapb"
)

// Checkpoint is a copy of the leader's state that nothing changes.
type Checkpoint struct {
	FS  vfs.FS
	Dir string
	// LSN is the last frame that the copy has.
	LSN lsn.LSN
	// Remove takes the copy away.
	Remove func() error
}

// keptFor is how long a checkpoint waits for a follower that broke off.
const keptFor = 10 * time.Minute

// checkpoints hands out one checkpoint at a time: a second follower that comes
// while one is streamed is told to come again.
type checkpoints struct {
	mu    sync.Mutex
	busy  bool
	kept  *Checkpoint
	until *time.Timer
}

// lease returns the kept checkpoint if it is the one asked for, or makes another.
func (c *checkpoints) lease(ctx context.Context, want lsn.LSN, create func(context.Context) (*Checkpoint, error)) (*Checkpoint, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.busy {
		return nil, status.Error(codes.ResourceExhausted, "another follower takes a checkpoint just now: ask again")
	}
	if c.kept != nil && c.kept.LSN != want {
		if err := c.drop(); err != nil {
			return nil, err
		}
	}
	if c.kept == nil {
		made, err := create(ctx)
		if err != nil {
			return nil, err
		}
		c.kept = made
	}
	if c.until != nil {
		c.until.Stop()
	}
	c.busy = true
	return c.kept, nil
}

// release keeps the checkpoint for a while if it was not sent to its end.
func (c *checkpoints) release(sent bool, failed func(error)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = false
	if sent {
		if err := c.drop(); err != nil {
			failed(err)
		}
		return
	}
	c.until = time.AfterFunc(keptFor, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.busy {
			return
		}
		if err := c.drop(); err != nil {
			failed(err)
		}
	})
}

// drop takes the kept checkpoint away. The caller holds mu.
func (c *checkpoints) drop() error {
	k := c.kept
	c.kept = nil
	if k == nil {
		return nil
	}
	return k.Remove()
}

// close takes what is left away.
func (c *checkpoints) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.until != nil {
		c.until.Stop()
	}
	return c.drop()
}

// Bootstrap implements the service.
func (s *Server) Bootstrap(req *pb.BootstrapRequest, stream grpc.ServerStreamingServer[pb.BootstrapChunk]) error {
	if err := s.check(stream.Context(), req.GetInstance(), req.GetNode()); err != nil {
		return err
	}
	if !s.deps.Hub.Begun() {
		return status.Error(codes.Unavailable, "the leader's epoch is not confirmed, and until then its state is not for others: ask again")
	}
	log := s.deps.Log.WithField("node", req.GetNode())
	cp, err := s.checkpoints.lease(stream.Context(), lsn.LSN(req.GetCheckpointLsn()), s.deps.Checkpoint)
	if err != nil {
		log.WithError(err).Error("no checkpoint for a follower")
		return err
	}
	// The log behind the checkpoint stays until the follower streams it.
	s.deps.Hub.Expect(req.GetNode(), cp.LSN)
	b := &sending{s: s, cp: cp, stream: stream, moved: make(chan struct{}, 1)}
	ended := make(chan error, 1)
	s.sending.Go(func() { ended <- b.toItsEnd(req, log) })
	// As with a stream of the log: nothing else ends a Send to a follower that takes
	// nothing, and no other one could have a checkpoint meanwhile.
	return s.attend(stream.Context(), takenWithin, b.moved, ended, nil)
}

// takenWithin is how long a follower may take for one piece of a checkpoint: it makes
// files durable in between.
const takenWithin = 2 * time.Minute

// toItsEnd sends the checkpoint and lets go of it.
func (b *sending) toItsEnd(req *pb.BootstrapRequest, log logrus.FieldLogger) error {
	start := time.Now()
	err := b.run(req)
	b.s.checkpoints.release(err == nil, func(err error) { log.WithError(err).Error("remove the checkpoint of a follower") })
	if err != nil {
		log.WithError(err).Warn("the checkpoint was not sent to its end")
		return err
	}
	log.WithField("lsn", uint64(b.cp.LSN)).WithField("bytes", b.total).WithField("seconds", time.Since(start).Seconds()).Info("sent a checkpoint to a follower")
	return nil
}

// sending is one checkpoint on its way.
type sending struct {
	s      *Server
	cp     *Checkpoint
	stream grpc.ServerStreamingServer[pb.BootstrapChunk]
	total  uint64
	sums   []*pb.HeldFile
	moved  chan struct{} // has one when something was sent or summed
}

func (b *sending) move() {
	select {
	case b.moved <- struct{}{}:
	default:
	}
}

func (b *sending) run(req *pb.BootstrapRequest) error {
	files, err := b.plan(req)
	if err != nil {
		return err
	}
	plan := &pb.BootstrapPlan{Instance: b.s.cfg.Instance[:], Epoch: uint64(b.s.cfg.Epoch), CheckpointLsn: uint64(b.cp.LSN), TotalBytes: b.total, Files: files}
	if err := b.stream.Send(&pb.BootstrapChunk{Kind: &pb.BootstrapChunk_Plan{Plan: plan}}); err != nil {
		return err
	}
	buf := make([]byte, chunkBytes)
	for _, f := range files {
		if err := b.file(f, buf); err != nil {
			return err
		}
	}
	return b.stream.Send(&pb.BootstrapChunk{Kind: &pb.BootstrapChunk_End{End: &pb.BootstrapEnd{Files: b.sums}}})
}

// plan lists what the follower does not have. A file that it says to have is
// compared by its contents.
func (b *sending) plan(req *pb.BootstrapRequest) (files []*pb.BootstrapFile, err error) {
	held := map[string]*pb.HeldFile{}
	for _, h := range req.GetHeld() {
		held[h.GetName()] = h
	}
	names, err := b.cp.FS.List(b.cp.Dir)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	for _, name := range names {
		b.move()
		path := b.cp.FS.PathJoin(b.cp.Dir, name)
		info, err := b.cp.FS.Stat(path)
		if err != nil {
			return nil, err
		}
		if info.IsDir() {
			return nil, fmt.Errorf("%s is a directory, which a checkpoint has none of", path)
		}
		if h := held[name]; h != nil && h.GetBytes() == uint64(info.Size()) {
			sum, err := b.sum(path)
			if err != nil {
				return nil, err
			}
			if string(sum) == string(h.GetChecksum()) {
				b.sums = append(b.sums, h)
				continue
			}
		}
		files = append(files, &pb.BootstrapFile{Name: name, Bytes: uint64(info.Size())})
		b.total += uint64(info.Size())
	}
	return files, nil
}

func (b *sending) sum(path string) (_ []byte, err error) {
	f, err := b.cp.FS.Open(path, vfs.SequentialReadsOption)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := newChecksum()
	if _, err := io.Copy(h, f); err != nil {
		return nil, err
	}
	return h.bytes(), nil
}

// file sends one file and keeps its sum for the end.
func (b *sending) file(f *pb.BootstrapFile, buf []byte) (err error) {
	in, err := b.cp.FS.Open(b.cp.FS.PathJoin(b.cp.Dir, f.GetName()), vfs.SequentialReadsOption)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	sum := newChecksum()
	for at := uint64(0); at < f.GetBytes() || at == 0; {
		n := min(uint64(len(buf)), f.GetBytes()-at)
		if _, err := io.ReadFull(in, buf[:n]); err != nil {
			return fmt.Errorf("read %s of the checkpoint at %d: %w", f.GetName(), at, err)
		}
		_, _ = sum.Write(buf[:n]) // a hash's Write never fails
		if err := b.stream.Send(&pb.BootstrapChunk{Kind: &pb.BootstrapChunk_Data{Data: &pb.BootstrapData{Name: f.GetName(), Offset: at, Bytes: buf[:n]}}}); err != nil {
			return err
		}
		b.move()
		if at += n; n == 0 {
			break
		}
	}
	b.sums = append(b.sums, &pb.HeldFile{Name: f.GetName(), Bytes: f.GetBytes(), Checksum: sum.bytes()})
	return nil
}
