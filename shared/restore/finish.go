package restore

import (
	"context"
	"errors"
	"fmt"
	iofs "io/fs"
	"time"

	"originchain/shared/datadir"
	"originchain/shared/durable"
	"originchain/shared/lsn"
	recovery "originchain/shared/recover"
	"originchain/shared/table"
)

func isMissing(err error) bool { return errors.Is(err, iofs.ErrNotExist) }

// verify reads every key of the state from the disk, and compares the digest with the
// one that the target frame carries. Nothing less is called verified.
func (r *run) verify(ctx context.Context, at table.Applied) (err error) {
	s, err := r.open(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	snap, err := s.Snapshot()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, snap.Close()) }()
	if snap.Applied() != at || at.Pos.LSN != r.plan.Target.LSN || at.Pos.Epoch != r.plan.Target.Epoch {
		return fmt.Errorf("the restored state stands at LSN %d of epoch %d, the target is LSN %d of epoch %d", snap.Applied().Pos.LSN, snap.Applied().Pos.Epoch, r.plan.Target.LSN, r.plan.Target.Epoch)
	}
	advance, end := r.o.Begin("scan", "keys", table.CountedKeys(snap))
	defer end()
	scanned, err := recovery.VerifyView(&stoppable{View: snap, ctx: ctx, advance: advance}, at)
	if stopped := ctx.Err(); stopped != nil {
		return fmt.Errorf("the restore was stopped before its end: %w; run it again with the same arguments, and it goes on", context.Cause(ctx))
	}
	r.result.Verified, r.result.Keys = err == nil, scanned.Keys
	var wrong *recovery.MismatchError
	if errors.As(err, &wrong) && r.o.AcceptMismatch {
		r.result.Mismatch = &datadir.Mismatch{Want: wrong.Want, Got: wrong.Got}
		return nil
	}
	if err == nil && r.mismatch != nil {
		// The scan agrees, and a pair did not on the way: the sum is what counts, and
		// what was met is told.
		r.result.Mismatch = &datadir.Mismatch{Want: r.mismatch.Want, Got: r.mismatch.Got}
	}
	return digestFault(err)
}

// stoppable is a View whose reading ends with a context.
type stoppable struct {
	table.View
	ctx     context.Context //nolint:containedctx // a View has no other way to end
	advance func(int64)
}

// Iter implements table.View.
func (v *stoppable) Iter(lower, upper []byte, reverse bool) (table.Iterator, error) {
	it, err := v.View.Iter(lower, upper, reverse)
	if err != nil {
		return nil, err
	}
	return &stoppableIter{Iterator: it, v: v}, nil
}

type stoppableIter struct {
	table.Iterator
	v *stoppable
	n int64
}

// stopEvery is after how many keys a scan looks whether it is to stop.
const stopEvery = 1024

// Next implements table.Iterator.
func (i *stoppableIter) Next() bool {
	if i.n++; i.n%stopEvery == 0 {
		i.v.advance(stopEvery)
		if i.v.ctx.Err() != nil {
			return false
		}
	}
	return i.Iterator.Next()
}

// finish lays out the data directory and takes note that it is whole.
func (r *run) finish(ctx context.Context, at table.Applied) error {
	// What was read before a purge has come to its end may hold the rows.
	if err := r.holdPurges(ctx, len(r.plan.survey.Redactions)); err != nil {
		return err
	}
	made := datadir.Restored{
		Instance: r.plan.Instance, Archive: r.o.Store.String(), Time: time.Now().UTC(), Paused: r.o.Pause, Mismatch: r.result.Mismatch,
		Purged: len(r.plan.survey.Lacks(at.Pos)) > 0, Purges: len(r.plan.survey.Redactions),
		Base: datadir.Base{LSN: at.Pos.LSN, Epoch: at.Pos.Epoch, Chain: at.Chain, Digest: at.Digest, Stamp: at.Stamp},
	}
	if err := durable.SyncDir(r.fs(), r.stage.state()); err != nil {
		return local(err)
	}
	if err := datadir.Create(r.fs(), r.stage.data(), r.o.NodeID, r.plan.Newest, made); err != nil {
		return local(err)
	}
	if r.o.Finish != nil {
		if err := r.o.Finish(ctx, r.stage.data(), r.plan); err != nil {
			return err
		}
	}
	accepted, err := r.acceptance()
	if err != nil {
		return err
	}
	res := &r.result
	res.LSN, res.Epoch, res.Timestamp, res.Digest = at.Pos.LSN, at.Pos.Epoch, moment(at.Stamp), at.Digest
	res.Segments, res.BytesFetched, res.Seconds = len(r.plan.Pieces), r.store.read.Load(), time.Since(r.begun).Seconds()
	res.Instance, res.Line, res.DataDir, res.Gaps, res.Paused, res.AcceptedEpoch = r.plan.Instance, r.plan.Line, r.o.DataDir, r.plan.Gaps, r.o.Pause, accepted
	res.Purged, res.Unread = made.Purged, r.plan.Unread()
	if c := r.plan.Checkpoint; c != nil {
		res.CheckpointLSN = c.LSN
	}
	r.stage.work.Phase, r.stage.work.Result = finished, res
	return r.stage.save()
}

// acceptance is the epoch that Finish has taken, if it has.
func (r *run) acceptance() (_ lsn.Epoch, err error) {
	d, err := datadir.OpenExisting(r.fs(), r.stage.data())
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	got, err := d.Restored()
	if err != nil || got.Accepted == nil {
		return 0, err
	}
	return got.Accepted.Epoch, nil
}
