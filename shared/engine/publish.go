package engine

import (
	"errors"

	"originchain/shared/frame"
	"originchain/shared/lsn"
	recovery "originchain/shared/recover"
)

// publish makes durable groups visible, in log order, and answers.
func (e *Engine) publish() {
	defer close(e.rolled)
	for g := range e.durable {
		e.publishOne(g)
		e.handed.Add(-1)
	}
	err := errors.New("the engine has stopped")
	if f := e.failure.Load(); f != nil {
		err = f.err
	}
	e.answers.abandon(e.errFailed(err))
}

// publishOne publishes a group unless the engine has failed. It is called by the
// publisher, or by the appender while the publisher has nothing to do.
func (e *Engine) publishOne(g group) {
	if !e.admitted(g) {
		return
	}
	if err := e.publishGroup(g); err != nil {
		e.fail("apply durable frames", err)
	}
}

func (e *Engine) publishGroup(g group) error {
	size := 0
	for _, r := range g.entries {
		size += len(r.Body)
		for tenant, c := range r.catalogs {
			// Before the state has it: a snapshot that contains the frame must
			// find the catalog that goes with it.
			e.catalogs.put(tenant, r.LSN, c)
		}
	}
	if err := e.applyGroup(g.entries, g.chain); err != nil {
		return err
	}
	// Before the answers: whoever goes on at once finds room.
	e.pendingBytes.Add(-int64(size))
	e.answers.release(e, e.applied.Pos.LSN)
	for _, r := range g.entries {
		r.recycle()
	}
	return nil
}

// apply makes entries that are durable visible; the log's tail is their end.
func (e *Engine) apply(entries []*entryRef) error {
	return e.applyGroup(entries, e.log.Tail().Chain)
}

// applyGroup applies a whole group in one batch: readers see all of it or
// nothing, and a crash leaves a prefix of the log.
func (e *Engine) applyGroup(entries []*entryRef, chain lsn.Chain) error {
	b := recovery.NewBatch(e.store, e.applied)
	for _, r := range entries {
		h := frame.Header{LSN: r.LSN, Epoch: e.epoch, Timestamp: r.Timestamp, Digest: r.Digest}
		if err := b.AddOps(&h, chain, r.ops); err != nil {
			return errors.Join(err, b.Close())
		}
	}
	if err := b.Commit(); err != nil {
		return err
	}
	e.applied = b.At()
	e.visible.Store(uint64(e.applied.Pos.LSN))
	return nil
}
