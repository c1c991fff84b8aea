package replica

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

	"originchain/shared/durable"
	"originchain/shared/lsn"
	pb "originchain/shared/replica/replicapb"
)

// Fetch takes a checkpoint from a leader.
type Fetch struct {
	Conn *Conn
	FS   vfs.FS
	// Dir is where the files go. What an earlier Fetch left there is used as far as
	// its contents are right.
	Dir      string
	Instance []byte
	Node     string
	// Accepted is the highest epoch of a leader that the node has accepted: nothing is
	// taken of a lower one.
	Accepted lsn.Epoch
	// Checkpoint is the one that an earlier Run began to take; 0: any.
	Checkpoint lsn.LSN
	// Progress is told how many bytes of how many are there; may be nil.
	Progress func(done, total uint64)
}

// Fetched is a checkpoint that is whole, and durable in Fetch.Dir.
type Fetched struct {
	Instance [16]byte
	Epoch    lsn.Epoch
	LSN      lsn.LSN
	Bytes    uint64
}

// DiskError is a failure of the fetching node's own disk: asking again is of no use.
type DiskError struct{ Err error }

// Error implements error.
func (e *DiskError) Error() string { return e.Err.Error() }

// Unwrap gives the cause.
func (e *DiskError) Unwrap() error { return e.Err }

func disk(err error) error {
	if err == nil {
		return nil
	}
	return &DiskError{err}
}

// planWithin is how long a leader may take to make a checkpoint: it flushes its
// state for it.
const planWithin = 2 * time.Minute

var errSilentPlan = errors.New("the leader stopped sending its checkpoint")

// partSuffix marks a file that is not whole.
const partSuffix = ".part"

// Run streams the checkpoint. When it breaks off it can be run again, and takes
// what is missing.
func (f *Fetch) Run(ctx context.Context) (*Fetched, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if err := f.FS.MkdirAll(f.Dir, 0o700); err != nil {
		return nil, disk(err)
	}
	held, err := f.held()
	if err != nil {
		return nil, disk(err)
	}
	r := &fetching{Fetch: f, have: map[string]*pb.HeldFile{}}
	req := &pb.BootstrapRequest{Instance: f.Instance, Node: f.Node, CheckpointLsn: uint64(f.Checkpoint)}
	for _, h := range held {
		r.have[h.GetName()] = h
		req.Held = append(req.Held, h)
	}
	stream, err := pb.NewReplicationClient(f.Conn.cc).Bootstrap(ctx, req)
	if err != nil {
		return nil, err
	}
	r.silent = time.AfterFunc(planWithin, func() { cancel(errSilentPlan) })
	defer r.silent.Stop()
	r.syncing.SetLimit(syncingFiles)
	err = r.receive(stream, func() { cancel(nil) })
	// What is whole keeps its name even if the rest did not come.
	if err = errors.Join(err, disk(r.syncing.Wait())); err == nil {
		err = r.finish()
	}
	if err != nil {
		return nil, errors.Join(reason(ctx, err), r.abandon())
	}
	return &r.out, nil
}

// held lists the whole files that are there, with their sums.
func (f *Fetch) held() (out []*pb.HeldFile, err error) {
	names, err := f.FS.List(f.Dir)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		path := f.FS.PathJoin(f.Dir, name)
		if strings.HasSuffix(name, partSuffix) {
			if err := f.FS.Remove(path); err != nil {
				return nil, err
			}
			continue
		}
		h, err := f.sumOf(name)
		if err != nil {
			return nil, err
		}
		out = append(out, h)
	}
	return out, nil
}

func (f *Fetch) sumOf(name string) (_ *pb.HeldFile, err error) {
	in, err := f.FS.Open(f.FS.PathJoin(f.Dir, name), vfs.SequentialReadsOption)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.Close()) }()
	sum := newChecksum()
	n, err := io.Copy(sum, in)
	return &pb.HeldFile{Name: name, Bytes: uint64(n), Checksum: sum.bytes()}, err
}

// fetching is one stream of a checkpoint.
type fetching struct {
	*Fetch
	out   Fetched
	total uint64
	want  []*pb.BootstrapFile // still to come, in order
	have  map[string]*pb.HeldFile
	end   *pb.BootstrapEnd
	// silent ends the stream if the leader says nothing for too long.
	silent *time.Timer

	file vfs.File // of want[0]
	sum  checksum
	at   uint64

	// syncing makes files durable while the next ones come.
	syncing errgroup.Group
}

const (
	// syncingFiles is how many files are made durable at the same time.
	syncingFiles = 4
	// writeBackBytes is how much of a file is written before the disk is told to
	// begin with it, so that little is left when the file ends.
	writeBackBytes = 1 << 20
	// receivedAhead bounds the messages that have come and are not written yet.
	receivedAhead = 4
)

func (r *fetching) receive(stream grpc.ServerStreamingClient[pb.BootstrapChunk], cancel context.CancelFunc) error {
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	r.silent.Stop()
	plan := first.GetPlan()
	if plan == nil || len(plan.GetInstance()) != len(r.out.Instance) {
		return errors.New("the leader's checkpoint does not begin with a plan")
	}
	if err := r.Conn.shows(stream.Context(), plan.GetInstance(), ""); err != nil {
		return err
	}
	r.out.Epoch, r.out.LSN = lsn.Epoch(plan.GetEpoch()), lsn.LSN(plan.GetCheckpointLsn())
	if r.out.Epoch < r.Accepted {
		return fmt.Errorf("%w: it leads epoch %d, and epoch %d was accepted before", ErrStaleLeader, r.out.Epoch, r.Accepted)
	}
	copy(r.out.Instance[:], plan.GetInstance())
	r.Checkpoint = r.out.LSN
	r.want, r.total = plan.GetFiles(), plan.GetTotalBytes()
	messages := r.ahead(stream)
	if err = r.write(stream.Context(), messages); err != nil {
		cancel()
	}
	for range messages { // until its goroutine has ended
	}
	return err
}

// received is what came of a stream next.
type received struct {
	m   *pb.BootstrapChunk
	err error
}

// ahead receives while what came before is written. The channel is closed when
// its goroutine ends: with the stream, at the latest when the stream's context does.
func (r *fetching) ahead(stream grpc.ServerStreamingClient[pb.BootstrapChunk]) <-chan received {
	out := make(chan received, receivedAhead)
	go func() {
		defer close(out)
		for {
			r.silent.Reset(silentAfter) // while it is waited for, and not while the own disk is
			m, err := stream.Recv()
			r.silent.Stop()
			select {
			case out <- received{m, err}:
			case <-stream.Context().Done():
				return
			}
			if err != nil || m.GetEnd() != nil {
				return
			}
		}
	}()
	return out
}

// write writes what comes, up to the end of the checkpoint.
func (r *fetching) write(ctx context.Context, messages <-chan received) error {
	for got := range messages {
		if got.err != nil {
			return fmt.Errorf("the checkpoint broke off after %d of %d bytes: %w", r.out.Bytes, r.total, got.err)
		}
		if r.end = got.m.GetEnd(); r.end != nil {
			return nil
		}
		if err := r.data(got.m.GetData()); err != nil {
			return err
		}
		if r.Progress != nil {
			r.Progress(r.out.Bytes, r.total)
		}
	}
	return context.Cause(ctx)
}

// data writes one piece of the file that is due.
func (r *fetching) data(d *pb.BootstrapData) error {
	if d == nil || len(r.want) == 0 || r.want[0].GetName() != d.GetName() || r.at != d.GetOffset() || r.at+uint64(len(d.GetBytes())) > r.want[0].GetBytes() {
		return fmt.Errorf("the leader sent a piece of %q at %d that is not due", d.GetName(), d.GetOffset())
	}
	if name := d.GetName(); name == "" || name != filepath.Base(name) || strings.HasSuffix(name, partSuffix) || name == "." || name == ".." {
		return fmt.Errorf("the checkpoint has a file of the name %q", name)
	}
	if r.file == nil {
		f, err := r.FS.Create(r.FS.PathJoin(r.Dir, d.GetName()+partSuffix), vfs.WriteCategoryUnspecified)
		if err != nil {
			return disk(err)
		}
		r.file, r.sum = vfs.NewSyncingFile(f, vfs.SyncingFileOptions{BytesPerSync: writeBackBytes}), newChecksum()
	}
	if _, err := r.file.Write(d.GetBytes()); err != nil {
		return disk(err)
	}
	_, _ = r.sum.Write(d.GetBytes()) // a hash's Write never fails
	r.at += uint64(len(d.GetBytes()))
	r.out.Bytes += uint64(len(d.GetBytes()))
	if r.at < r.want[0].GetBytes() {
		return nil
	}
	w, f := r.want[0], r.file
	r.have[w.GetName()] = &pb.HeldFile{Name: w.GetName(), Bytes: w.GetBytes(), Checksum: r.sum.bytes()}
	r.want, r.at, r.file = r.want[1:], 0, nil
	r.syncing.Go(func() error { return r.whole(f, w.GetName()) })
	return nil
}

// whole makes a file durable and gives it its name.
func (r *fetching) whole(f vfs.File, name string) error {
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	path := r.FS.PathJoin(r.Dir, name)
	return r.FS.Rename(path+partSuffix, path)
}

// finish holds every file against the leader's sums, once all are durable. A file
// that is none of the checkpoint's is taken away.
func (r *fetching) finish() error {
	if len(r.want) > 0 {
		return fmt.Errorf("the checkpoint ended before %s", r.want[0].GetName())
	}
	for _, is := range r.end.GetFiles() {
		got := r.have[is.GetName()]
		if got == nil || got.GetBytes() != is.GetBytes() || !bytes.Equal(got.GetChecksum(), is.GetChecksum()) {
			return fmt.Errorf("%s of the checkpoint did not arrive as it was sent; fetch it again", is.GetName())
		}
		delete(r.have, is.GetName())
	}
	for name := range r.have {
		if err := r.FS.Remove(r.FS.PathJoin(r.Dir, name)); err != nil {
			return disk(err)
		}
	}
	return disk(r.syncNames())
}

// syncNames makes the names of the files durable. When that fails nobody knows
// which of them are, and a second sync could succeed without them: then all is
// fetched anew.
func (r *fetching) syncNames() error {
	err := durable.SyncDir(r.FS, r.Dir)
	if err == nil {
		return nil
	}
	return errors.Join(err, r.FS.RemoveAll(r.Dir))
}

// abandon closes the file that was being written.
func (r *fetching) abandon() error {
	if r.file == nil {
		return nil
	}
	return r.file.Close()
}
