package failover

import (
	"context"
	"errors"
	"fmt"
	"time"

	"originchain/shared/lease"
	"originchain/shared/lsn"
)

const (
	// stopTimeout bounds a stop that skips the wait for the lease; stopCourtesy one of a
	// writer whose lease has run out, which it fences no better.
	stopTimeout  = 10 * time.Second
	stopCourtesy = time.Second
	// handoverTimeout bounds a planned handover: draining, and the follower's last frames.
	handoverTimeout = 30 * time.Second
	// waitPoll is how often a record is read that is to stay as it is.
	waitPoll = 100 * time.Millisecond
	// waitAtMost is how long a holder may go on to renew after it was to be stopped.
	waitAtMost = 2 * lease.Expiry
)

// fence makes sure that the old writer acknowledges nothing more: it hands over, or its
// process has ended and its epoch is released, or its lease has run out.
func (r *run) fence(ctx context.Context) (string, error) {
	if r.finished || r.given {
		return r.doneBefore(), nil
	}
	r.pause = time.Now()
	if r.planned() {
		return r.handover(ctx)
	}
	rec, unchanged, err := r.readRecord(ctx)
	if err != nil {
		return "", fmt.Errorf("read the record of who writes: %w; nothing was done, run again", err)
	}
	if moved, err := r.movedTo(rec); moved || err != nil {
		return r.doneBefore(), err
	}
	if rec.Released {
		r.fenced = markOf(rec)
		return fmt.Sprintf("%s has released epoch %d", rec.Holder, rec.Epoch), nil
	}
	ended, how, err := r.stop(ctx, r.ranOut(rec, unchanged))
	if err != nil {
		return "", err
	}
	if ended.Reaped {
		is, err := r.release(ctx, rec, ended)
		if is || err != nil {
			return how, err
		}
		how = fmt.Sprintf("a process of %s has ended, and it is not known to be the one that holds epoch %d: its lease must have run out", rec.Holder, rec.Epoch)
	}
	r.tell("%s", how)
	return r.waitOut(ctx)
}

// ranOut says whether the lease of a record has run out: as this process has seen, or one
// before it that has noted of which record.
func (r *run) ranOut(rec lease.Record, unchanged time.Duration) bool {
	return unchanged >= lease.Expiry || markOf(rec) == r.fenced
}

// doneBefore says why a step has nothing to do.
func (r *run) doneBefore() string {
	if r.finished {
		return fmt.Sprintf("%s is the writer of epoch %d already", r.to.ID, r.epoch)
	}
	return fmt.Sprintf("epoch %d is given to %s already", r.epoch, r.to.ID)
}

// movedTo says whether the record was taken for the target since the run began. That it
// was taken for somebody else ends the run.
func (r *run) movedTo(rec lease.Record) (bool, error) {
	began := &r.seen.Record
	switch {
	case rec.Holder == r.to.ID && rec.Epoch > began.Epoch:
		r.given, r.epoch = true, uint64(rec.Epoch)
		r.report.Epoch = r.epoch
		return true, nil
	case rec.Epoch != began.Epoch || rec.Holder != began.Holder:
		return false, &MovedError{What: fmt.Sprintf("%s was to be made the writer after epoch %d of %s", r.to.ID, began.Epoch, began.Holder), Holder: rec.Holder, Epoch: uint64(rec.Epoch)}
	}
	return false, nil
}

// stop ends the old writer's process, and says what is known of it then. Whoever is held by
// that is let go by the journal: it is noted first.
func (r *run) stop(ctx context.Context, ranOut bool) (p Process, how string, err error) {
	if r.holder.ID == r.to.ID {
		return p, r.to.ID + " is not stopped: it is to write", nil
	}
	if r.holder.Machine == "" {
		return p, fmt.Sprintf("%s was not stopped: the registry does not say on which machine it is", r.holder.ID), nil
	}
	if err := r.note(ctx, func(j *journal) { j.stops(r.holder.ID, uint64(r.seen.Record.Epoch)) }); err != nil {
		return p, "", err
	}
	bound := stopTimeout
	if ranOut {
		bound = stopCourtesy
	}
	short, cancel := context.WithTimeout(ctx, bound+pace(r.deps.Control))
	defer cancel()
	p, err = asOf(r.deps.Control, uint64(r.seen.Record.Epoch)).Stop(short, r.holder)
	// A Control may give up a little before its time is over.
	r.gone = err != nil && (short.Err() != nil || errors.Is(err, context.DeadlineExceeded))
	switch {
	case err != nil && ranOut:
		return Process{}, fmt.Sprintf("%s could not be stopped (%v); its lease has run out, and it acknowledges nothing", r.holder.ID, err), nil
	case err != nil:
		return Process{}, fmt.Sprintf("%s could not be stopped (%v): waiting until its lease has run out", r.holder.ID, err), nil
	case !p.Reaped:
		return p, fmt.Sprintf("%s was told to stop, and nobody has seen its process end: its lease must have run out", r.holder.ID), nil
	}
	return p, fmt.Sprintf("the process of %s has ended and is not started again; its epoch %d is released", r.holder.ID, r.seen.Record.Epoch), nil
}

// release says in the record that the epoch's holder has ended, which its supervisor has
// seen. Only that very epoch is released, and only of the process that was reaped: what a
// stop has answered counts for the record as it was before that, and else the supervisor is
// asked after each reading, and the compare-and-set is of what was read, so that no process
// that has begun since, or of another directory, is taken for it. It is false where the
// record may be such a one's.
func (r *run) release(ctx context.Context, before lease.Record, ended Process) (released bool, err error) {
	by := lease.Claim{Node: r.seen.Record.Holder, Epoch: r.seen.Record.Epoch}
	var last error
	for range maxRewrites {
		rec, _, err := r.readRecord(ctx)
		if err != nil {
			return false, fmt.Errorf("read the record of who writes, to release epoch %d of %s: %w; %s is stopped, run again", by.Epoch, by.Node, err, by.Node)
		}
		if moved, err := r.movedTo(rec); moved || err != nil {
			return moved, err
		}
		if rec.Released {
			r.fenced = markOf(rec)
			return true, nil
		}
		if !tellsOf(before, rec, ended) {
			if p, err := r.process(ctx); err != nil || !p.was(rec) {
				return false, ctx.Err()
			}
		}
		next, err := rec.Release(by, 0)
		if err != nil {
			return false, err
		}
		stored, err := r.setRecord(ctx, rec.Version, next)
		if err == nil {
			r.fenced = markOf(stored)
			return true, nil
		}
		if last = err; !again(err) {
			break
		}
	}
	return false, fmt.Errorf("release epoch %d of %s in the record: %w; it is stopped, run again", by.Epoch, by.Node, last)
}

// tellsOf says whether a process that was stopped, and seen to end, is the one that a record
// names which was read after that: the record is as it was before, renewed or not. A process
// that has begun since in the same directory opens another epoch, or says in the record where
// it is.
func tellsOf(before, now lease.Record, ended Process) bool {
	return ended.was(now) && now.Epoch == before.Epoch && now.Holder == before.Holder && now.Place == before.Place && now.ConfirmedEpoch == before.ConfirmedEpoch
}

// process is what instance control knows of the old writer's process now.
func (r *run) process(ctx context.Context) (Process, error) {
	short, cancel := context.WithTimeout(ctx, processTimeout+pace(r.deps.Control))
	defer cancel()
	return r.deps.Control.Process(short, r.holder)
}

// readRecord reads the record, steadily; unchanged is as in Observer.Record.
func (r *run) readRecord(ctx context.Context) (rec lease.Record, unchanged time.Duration, err error) {
	err = steadily(ctx, func() error { rec, unchanged, err = r.observer.Record(ctx); return err })
	return rec, unchanged, err
}

func (r *run) setRecord(ctx context.Context, expect uint64, next lease.Record) (stored lease.Record, err error) {
	err = steadily(ctx, func() error { stored, err = r.deps.Lease.CompareAndSet(ctx, expect, next); return err })
	return stored, err
}

// again says whether a compare-and-set is to be tried again on what is there now.
func again(err error) bool {
	var conflict *lease.ConflictError
	var unknown *lease.OutcomeUnknownError
	return errors.As(err, &conflict) || errors.As(err, &unknown)
}

// waitOut waits until this observer has seen the record unchanged for lease.Expiry.
func (r *run) waitOut(ctx context.Context) (string, error) {
	began := time.Now()
	tick := time.NewTicker(waitPoll)
	defer tick.Stop()
	for {
		rec, unchanged, err := r.readRecord(ctx)
		if err == nil {
			if moved, err := r.movedTo(rec); moved || err != nil {
				return r.doneBefore(), err
			}
			switch {
			case rec.Released:
				r.fenced = markOf(rec)
				return fmt.Sprintf("%s has released epoch %d", rec.Holder, rec.Epoch), nil
			case r.ranOut(rec, unchanged):
				r.fenced = markOf(rec)
				return fmt.Sprintf("the lease of %s has run out: not renewed for %s", rec.Holder, max(unchanged, lease.Expiry).Round(10*time.Millisecond)), nil
			}
		}
		if time.Since(began) >= waitAtMost {
			if err != nil {
				return "", fmt.Errorf("the record of who writes cannot be read: %w; run again when it can", err)
			}
			return "", fmt.Errorf("%s was told to stop and still renews its lease of epoch %d (%s ago): stop it on its machine, and run again", rec.Holder, rec.Epoch, unchanged)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// handover asks the writer to give the next epoch to the target. Where its answer is
// lost, the record tells.
func (r *run) handover(ctx context.Context) (string, error) {
	short, cancel := context.WithTimeout(ctx, handoverTimeout)
	defer cancel()
	out, asked := r.client.handover(short, r.holder, r.to)
	tick := time.NewTicker(waitPoll)
	defer tick.Stop()
	for {
		rec, _, err := r.readRecord(ctx)
		if err == nil {
			moved, err := r.movedTo(rec)
			switch {
			case err != nil:
				return "", err
			case moved && asked == nil:
				return fmt.Sprintf("%s has answered all it had begun, up to LSN %d, and gives epoch %d to %s", r.holder.ID, out.LSN, r.epoch, r.to.ID), nil
			case moved:
				return r.doneBefore(), nil
			case stays(asked):
				return "", r.fail(ctx, fmt.Errorf("%s hands over to %s not now, and writes on: %w", r.holder.ID, r.to.ID, asked))
			}
		}
		if short.Err() != nil || asked != nil && time.Since(r.pause) > handoverTimeout {
			return "", fmt.Errorf("nobody knows whether %s hands over to %s (%w), and the record does not say so; run again", r.holder.ID, r.to.ID, errors.Join(asked, err, short.Err()))
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// fail notes that the target cannot become the writer by this run.
func (r *run) fail(ctx context.Context, err error) error {
	return errors.Join(err, r.note(ctx, func(j *journal) { j.State, j.Error = failed, err.Error() }))
}

func (r *run) wouldFence() string {
	switch {
	case r.finished, r.given:
		return r.doneBefore()
	case r.planned():
		return fmt.Sprintf("%s would hand over to %s", r.holder.ID, r.to.ID)
	case r.seen.Record.Released:
		return fmt.Sprintf("%s has released epoch %d", r.holder.ID, r.seen.Record.Epoch)
	}
	return fmt.Sprintf("%s would be stopped, and epoch %d released once its process was seen to end; else the run would wait until its lease has run out", r.holder.ID, r.seen.Record.Epoch)
}

// candidate is the target as the record is to name it.
func (r *run) candidate(rec lease.Record, last lsn.Pos, acceptLoss bool) lease.Candidate {
	return lease.Candidate{
		Instance: rec.Instance, Node: r.to.ID, ReplicationAddress: r.to.ReplicationAddress, URL: r.to.URL, Last: last,
		AtLeast: lsn.Epoch(max(r.journal.Epoch, 1)) - 1, AcceptLoss: acceptLoss,
	}
}
