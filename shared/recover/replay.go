// Package recover brings a state to a place in the log by applying frames. It
// is the one way in which frames reach a state: a restart, a follower, a
// restored copy and the writer's own publishing all go through it, so that they
// prove one another.
package recover

import (
	"context"
	"errors"
	"fmt"
	"io"

	"golang.org/x/sync/errgroup"

	"originchain/shared/frame"
	"originchain/shared/lsn"
	"originchain/shared/table"
)

// Source yields frames in LSN order, already verified against their chain and
// digest; io.EOF ends it. A frame is valid until the next call.
type Source interface {
	Next() (*frame.Frame, error)
}

// Options tune a replay; the zero value is right for production.
type Options struct {
	// Progress is told the last applied LSN after each batch; may be nil.
	Progress func(lsn.LSN)
	// BatchBytes is about how much is applied at once; 0 takes 4 MiB.
	BatchBytes int
	// AcceptMismatch is told of a pair in the state that is not the one that a frame
	// says it replaces, and the replay goes on; nil ends it there. It is for an operator
	// who would rather have a state that is wrong than none.
	AcceptMismatch func(*MismatchError)
}

const (
	defaultBatchBytes = 4 << 20
	// readyBatches is how many batches may wait for the state: one being
	// applied, one ready, one being built.
	readyBatches = 2
)

// MismatchError says that the state is not what the log says it was. Nothing
// that follows can be trusted: the node must stop.
type MismatchError struct {
	LSN  lsn.LSN
	What string
	Want string
	Got  string
}

func (e *MismatchError) Error() string {
	return fmt.Sprintf("state mismatch at LSN %d: %s: the log says %s, the state says %s; the node must not go on: move the directory state away, copy the newest directory in checkpoints to state, and start again, so that it replays the log from there", e.LSN, e.What, e.Want, e.Got)
}

// Replay applies every frame of src to the store, which stands at from. Decoding
// and applying overlap: one goroutine builds batches, another applies them.
func Replay(ctx context.Context, store *table.Store, src Source, from table.Applied, o Options) (table.Applied, error) {
	if o.BatchBytes == 0 {
		o.BatchBytes = defaultBatchBytes
	}
	g, ctx := errgroup.WithContext(ctx)
	ready := make(chan *Batch, readyBatches)
	g.Go(func() error {
		defer close(ready)
		return build(ctx, store, src, from, o, ready)
	})
	at := from
	g.Go(func() error {
		for b := range ready {
			if err := b.Commit(); err != nil {
				return err
			}
			at = b.at
			if o.Progress != nil {
				o.Progress(at.Pos.LSN)
			}
		}
		return nil
	})
	err := g.Wait()
	return at, err
}

func build(ctx context.Context, store *table.Store, src Source, at table.Applied, o Options, ready chan<- *Batch) error {
	b := NewBatch(store, at)
	b.accept = o.AcceptMismatch
	for {
		f, err := src.Next()
		if err != nil && !errors.Is(err, io.EOF) {
			return errors.Join(err, b.Close())
		}
		if err == nil {
			if err := b.AddFrame(f); err != nil {
				return errors.Join(err, b.Close())
			}
			if b.batch.Size() < o.BatchBytes {
				continue
			}
		}
		done := err != nil
		if b.frames == 0 {
			return b.Close()
		}
		next := b.at
		select {
		case ready <- b:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), b.Close())
		}
		if done {
			return nil
		}
		b = NewBatch(store, next)
		b.accept = o.AcceptMismatch
	}
}

// Batch applies consecutive frames to a state at once.
type Batch struct {
	store  *table.Store
	batch  *table.Batch
	at     table.Applied
	frames int
	sample *frame.Op
	first  lsn.LSN
	accept func(*MismatchError)
}

// NewBatch makes a batch for the frames after at.
func NewBatch(store *table.Store, at table.Applied) *Batch {
	return &Batch{store: store, batch: store.NewBatch(), at: at}
}

// AddFrame adds a verified frame. It must follow the one before it.
func (b *Batch) AddFrame(f *frame.Frame) error {
	ops, err := f.Ops()
	if err != nil {
		return fmt.Errorf("frame %d: %w", f.LSN, err)
	}
	if err := b.follow(f.LSN); err != nil {
		return err
	}
	var op frame.Op
	for {
		ok, err := ops.Next(&op)
		if err != nil {
			return fmt.Errorf("frame %d: %w", f.LSN, err)
		}
		if !ok {
			break
		}
		if b.sample == nil && op.Type != frame.RangeDelete {
			b.keepSample(&op, f.LSN)
		}
		if err := b.batch.Add(&op); err != nil {
			return fmt.Errorf("frame %d: %w", f.LSN, err)
		}
	}
	b.advance(&f.Header, f.Chain)
	return nil
}

// AddOps adds a frame whose operations the caller still holds decoded.
func (b *Batch) AddOps(h *frame.Header, chain lsn.Chain, ops []frame.Op) error {
	if err := b.follow(h.LSN); err != nil {
		return err
	}
	for i := range ops {
		if b.sample == nil && ops[i].Type != frame.RangeDelete {
			b.keepSample(&ops[i], h.LSN)
		}
		if err := b.batch.Add(&ops[i]); err != nil {
			return fmt.Errorf("frame %d: %w", h.LSN, err)
		}
	}
	b.advance(h, chain)
	return nil
}

func (b *Batch) follow(next lsn.LSN) error {
	if next != b.at.Pos.LSN+1 {
		return &MismatchError{LSN: next, What: "order of frames", Want: fmt.Sprint(b.at.Pos.LSN + 1), Got: fmt.Sprint(next)}
	}
	return nil
}

func (b *Batch) advance(h *frame.Header, chain lsn.Chain) {
	b.at = table.Applied{Pos: lsn.Pos{Epoch: h.Epoch, LSN: h.LSN}, Chain: chain, Digest: h.Digest, Stamp: h.Timestamp}
	b.frames++
}

// keepSample remembers the batch's first operation: its key was not touched
// before it in this batch, so the state still holds the pair it replaces.
func (b *Batch) keepSample(op *frame.Op, at lsn.LSN) {
	b.sample = &frame.Op{Type: op.Type, Key: append([]byte(nil), op.Key...), HadOld: op.HadOld, Old: op.Old}
	b.first = at
}

// At is where the state stands after Commit.
func (b *Batch) At() table.Applied { return b.at }

// Size is about how many bytes the batch has.
func (b *Batch) Size() int { return b.batch.Size() }

// Commit checks one replaced pair against the state, then applies the batch
// with the position of its last frame. A mismatch applies nothing.
func (b *Batch) Commit() error {
	err := b.checkSample()
	var wrong *MismatchError
	if b.accept != nil && errors.As(err, &wrong) {
		b.accept(wrong)
		err = nil
	}
	if err != nil {
		return errors.Join(err, b.Close())
	}
	if err := b.batch.Commit(b.at); err != nil {
		return fmt.Errorf("apply up to LSN %d: %w", b.at.Pos.LSN, err)
	}
	return b.batch.Close()
}

// Close drops the batch without applying it.
func (b *Batch) Close() error { return b.batch.Close() }

func (b *Batch) checkSample() error {
	if b.sample == nil {
		return nil
	}
	value, ok, err := b.store.Get(b.sample.Key)
	if err != nil {
		return err
	}
	want, got := "absent", "absent"
	if b.sample.HadOld || b.sample.Type == frame.Delete {
		want = b.sample.Old.String()
	}
	if ok {
		got = frame.PairHash(b.sample.Key, value).String()
	}
	if want != got {
		return &MismatchError{LSN: b.first, What: fmt.Sprintf("pair under key %x", b.sample.Key), Want: want, Got: got}
	}
	return nil
}
