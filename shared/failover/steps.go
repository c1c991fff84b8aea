package failover

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"originchain/shared/lease"
	"originchain/shared/lsn"
	"originchain/shared/serverunit"
)

const (
	// raisePatience is how long a target that was fit may not answer when its epoch is
	// to be taken.
	raisePatience = 10 * time.Second
	// promoteTimeout bounds one call, and how long a node may be between two roles;
	// promoteTries is how many calls there are before the node is restarted.
	promoteTimeout = 5 * time.Second
	promoteTries   = 3
	// restartTimeout bounds a restart, and a start, which may have to wait for one that ends:
	// a server may take all of its unit's TimeoutStopSec.
	restartTimeout = serverunit.StopTimeout + 15*time.Second
	// smokeTimeout bounds how long a node may take to open as the writer: it applies what
	// it has, and under --sync-strict waits for followers.
	smokeTimeout = 60 * time.Second
	smokePoll    = 20 * time.Millisecond
	// aloneAfter is how long a new writer may not be ready before the servers are started that
	// are held, and the pause after a start that has failed.
	aloneAfter = 5 * time.Second
	// hungAfter is how long a node that opens in its process may answer nothing before it
	// is restarted instead.
	hungAfter = 10 * time.Second
	// dnsTimeout bounds the zone's change on all its servers.
	dnsTimeout = 2 * time.Minute
)

// raise takes the next epoch for the target, in the record that fence saw.
func (r *run) raise(ctx context.Context) (string, error) {
	if r.finished || r.given {
		return r.doneBefore(), nil
	}
	var last error
	for range maxRewrites {
		rec, _, err := r.readRecord(ctx)
		if err != nil {
			return "", fmt.Errorf("read the record of who writes: %w; %s is fenced, run again", err, r.holder.ID)
		}
		if moved, err := r.movedTo(rec); moved || err != nil {
			return r.doneBefore(), err
		}
		if !rec.Released && markOf(rec) != r.fenced {
			lives := Decision{Verdict: Wait, Reasons: []Reason{{Code: LeaseRuns, Detail: fmt.Sprintf("%s has renewed epoch %d", rec.Holder, rec.Epoch)}}}
			return "", fmt.Errorf("%s has renewed epoch %d after its lease had run out here: it lives, and nobody was made a writer beside it; stop it on its machine, and run again: %w", rec.Holder, rec.Epoch, &RefusedError{lives})
		}
		next, err := r.fitting(ctx, rec)
		if err != nil {
			return "", err
		}
		stored, err := r.setRecord(ctx, rec.Version, next)
		if err == nil {
			r.given, r.epoch, r.report.Epoch = true, uint64(stored.Epoch), uint64(stored.Epoch)
			return fmt.Sprintf("epoch %d is given to %s", stored.Epoch, r.to.ID), nil
		}
		if last = err; !again(err) {
			break
		}
	}
	return "", fmt.Errorf("take the next epoch for %s in the record: %w; %s is fenced, run again", r.to.ID, last, r.holder.ID)
}

// fitting is the record with the target as its holder, if the target is fit by what it
// says now: a step has passed since it was decided, in which the writer may have gone on.
func (r *run) fitting(ctx context.Context, rec lease.Record) (lease.Record, error) {
	began := time.Now()
	for {
		o := r.seen
		o.Record, o.RecordAge, o.RecordUnchanged, o.RecordError, o.Planned = rec, 0, lease.Expiry, nil, false
		short, cancel := context.WithTimeout(ctx, standingTimeout)
		o.Target = r.observer.askTarget(short, r.to)
		cancel()
		o.Target.Writer = false // of no epoch that the record knows
		o.Writer = Writer{Stopped: true, Silent: 1, Durable: max(r.seen.Writer.Durable, r.observer.heard())}
		if rec.Holder != r.to.ID {
			o.Writer.Durable = max(o.Writer.Durable, o.Target.heard)
		}
		d := Decide(o, r.req.Allow)
		if d.Verdict == Wait && time.Since(began) < raisePatience && ctx.Err() == nil {
			pause := time.NewTimer(d.After)
			select {
			case <-pause.C:
			case <-ctx.Done():
				pause.Stop()
			}
			continue
		}
		if d.Verdict != Promote {
			err := fmt.Errorf("%s is fenced, and %s is not fit any more: %w. Choose another node, or start %s again", r.holder.ID, r.to.ID, &RefusedError{d}, r.holder.ID)
			if d.Verdict == Page && ctx.Err() == nil {
				err = r.fail(ctx, err)
			}
			return lease.Record{}, err
		}
		next, err := rec.Take(r.candidate(rec, o.Target.Last, d.AcceptLoss))
		if err != nil {
			return lease.Record{}, r.fail(ctx, fmt.Errorf("%s is fenced, and the record does not take %s: %w", r.holder.ID, r.to.ID, err))
		}
		return next, r.note(ctx, func(j *journal) {
			if j.AcceptedAt = (time.Time{}); d.AcceptLoss {
				j.AcceptedAt = time.Now().UTC()
			}
			j.Epoch, j.AcceptLoss, j.LostFrom, j.LostTo = uint64(next.Epoch), d.AcceptLoss, d.From, max(d.To, j.LostTo)
		})
	}
}

// heard is the last LSN that the holder was heard to have durable.
func (w *Observer) heard() lsn.LSN {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.durable
}

func (r *run) wouldRaise() string {
	if r.finished || r.given {
		return r.doneBefore()
	}
	next, err := r.seen.Record.Take(r.candidate(r.seen.Record, r.seen.Target.Last, r.decision.AcceptLoss))
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("epoch %d would be given to %s, whose log ends at %s", next.Epoch, r.to.ID, r.seen.Target.Last)
}

// promote has the target open its epoch: in its process, or by a restart.
func (r *run) promote(ctx context.Context) (string, error) {
	if r.finished {
		return r.doneBefore(), nil
	}
	var last error
	began := time.Now()
	for try := 1; ; {
		short, cancel := context.WithTimeout(ctx, promoteTimeout)
		out, err := r.client.promote(short, r.to, r.epoch)
		cancel()
		switch {
		case err == nil && out.Writer:
			return fmt.Sprintf("%s is the writer of epoch %d", r.to.ID, out.Epoch), nil
		case err == nil:
			r.inProcess = true
			return fmt.Sprintf("%s opens epoch %d in its process", r.to.ID, out.Epoch), nil
		case ctx.Err() != nil:
			return "", ctx.Err()
		case r.writes(ctx) == nil: // the answer was lost, or it was there before
			return fmt.Sprintf("%s is the writer of epoch %d", r.to.ID, r.epoch), nil
		}
		// A node between two roles, as another process that does the same has called it
		// first, opens already: a restart would cost a second epoch, and the time.
		between := again503(err) && time.Since(began) < promoteTimeout
		if last = err; refused(err) || try == promoteTries && !between {
			break
		}
		if !between {
			try++
		}
		if err := r.pauseFor(ctx, waitPoll); err != nil {
			return "", err
		}
	}
	// What it did not take it may have no claim to any more, and then a restart would only
	// cost the new writer a follower.
	rec, _, err := r.readRecord(ctx)
	switch {
	case err != nil:
		return "", fmt.Errorf("epoch %d was given to %s, which did not take it in its process (%w); it is not restarted, as the record of who writes cannot be read: %w; run again", r.epoch, r.to.ID, last, err)
	case rec.Holder != r.to.ID || uint64(rec.Epoch) < r.epoch:
		return "", &MovedError{What: fmt.Sprintf("%s was given epoch %d and did not come to write", r.to.ID, r.epoch), Holder: rec.Holder, Epoch: uint64(rec.Epoch)}
	case uint64(rec.Epoch) > r.epoch:
		r.epoch = uint64(rec.Epoch)
		return fmt.Sprintf("%s has begun anew, and opens epoch %d", r.to.ID, r.epoch), nil
	}
	r.tell("%s did not take epoch %d in its process (%v): it is restarted by its unit", r.to.ID, r.epoch, last)
	short, cancel := context.WithTimeout(ctx, restartTimeout+pace(r.deps.Control))
	defer cancel()
	if err := asOf(r.deps.Control, r.epoch).Restart(short, r.to); err != nil {
		return "", fmt.Errorf("epoch %d is given to %s, which neither took it in its process (%w) nor was restarted (%w): start it by hand as a writer, or run again", r.epoch, r.to.ID, last, err)
	}
	return fmt.Sprintf("%s was restarted to open epoch %d", r.to.ID, r.epoch), nil
}

func (r *run) pauseFor(ctx context.Context, d time.Duration) error {
	pause := time.NewTimer(d)
	defer pause.Stop()
	select {
	case <-pause.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writes is nil if the target says that it is the writer of this run's epoch or above.
func (r *run) writes(ctx context.Context) error {
	short, cancel := context.WithTimeout(ctx, standingTimeout)
	defer cancel()
	s, err := r.client.standing(short, r.to)
	if err != nil {
		return err
	}
	if s.Role != roleWriter || s.Epoch < r.epoch {
		return fmt.Errorf("it is a %s of epoch %d", s.Role, s.Epoch)
	}
	r.epoch = s.Epoch
	return nil
}

// smoke waits until the target serves as the writer, and the record agrees.
func (r *run) smoke(ctx context.Context) (string, error) {
	back := r.bringBack(ctx)
	defer back.end()
	began := time.Now()
	heard := began
	for {
		err := r.serves(ctx)
		if err == nil {
			break
		}
		var moved *MovedError
		if errors.As(err, &moved) || ctx.Err() != nil {
			return "", errors.Join(err, ctx.Err())
		}
		var silent *silentError
		if !errors.As(err, &silent) {
			heard = time.Now()
		}
		back.tell()
		if hung := time.Since(heard) >= hungAfter; hung || time.Since(began) >= smokeTimeout {
			restarted, failed := r.restartOpening(ctx, hung)
			if restarted {
				began, heard = time.Now(), time.Now()
				continue
			}
			err = errors.Join(err, failed)
		}
		if time.Since(began) >= smokeTimeout {
			return "", fmt.Errorf("%s does not serve as the writer of epoch %d after %s: %w; read its log, and run again", r.to.ID, r.epoch, smokeTimeout, err)
		}
		if err := r.pauseFor(ctx, smokePoll); err != nil {
			return "", err
		}
	}
	if !r.pause.IsZero() {
		r.report.PauseSeconds = time.Since(r.pause).Seconds()
	}
	r.report.Epoch = r.epoch
	return fmt.Sprintf("%s serves as the writer of epoch %d", r.to.ID, r.epoch), nil
}

// restartOpening restarts a node that was to open in its process and hangs there: once,
// and only while its epoch is its own. One that answers, and has confirmed its epoch, opens
// as fast as it can.
func (r *run) restartOpening(ctx context.Context, hung bool) (bool, error) {
	if !r.inProcess {
		return false, nil
	}
	rec, _, err := r.readRecord(ctx)
	if err != nil || rec.Holder != r.to.ID || uint64(rec.Epoch) != r.epoch || !hung && rec.Confirmed() {
		return false, err
	}
	r.inProcess = false
	// Noted first: whoever goes on after this process does not restart it a second time.
	if err := r.note(ctx, func(j *journal) { j.InProcess = false }); err != nil {
		return false, err
	}
	r.tell("%s was told to open epoch %d in its process, and hangs: it is restarted by its unit", r.to.ID, r.epoch)
	short, cancel := context.WithTimeout(ctx, restartTimeout+pace(r.deps.Control))
	defer cancel()
	if err := asOf(r.deps.Control, r.epoch).Restart(short, r.to); err != nil {
		return false, fmt.Errorf("restart %s: %w", r.to.ID, err)
	}
	return true, nil
}

// silentError says that a node gave no answer at all.
type silentError struct{ error }

func (e *silentError) Unwrap() error { return e.error }

// heardOf is an error of asking the target, which says whether it has answered.
func heardOf(err error) error {
	var transport *url.Error
	if errors.As(err, &transport) {
		return &silentError{err}
	}
	return err
}

func (r *run) serves(ctx context.Context) error {
	if err := heardOf(r.writes(ctx)); err != nil {
		if rec, _, e := r.readRecord(ctx); e == nil && rec.Holder != r.to.ID {
			return &MovedError{What: fmt.Sprintf("%s was given epoch %d and did not come to write", r.to.ID, r.epoch), Holder: rec.Holder, Epoch: uint64(rec.Epoch)}
		}
		return err
	}
	short, cancel := context.WithTimeout(ctx, standingTimeout)
	defer cancel()
	h, status, _, err := r.client.health(short, r.to)
	switch {
	case err != nil:
		return fmt.Errorf("/health: %w", heardOf(err))
	case status != http.StatusOK || h.Mode != roleWriter:
		return fmt.Errorf("/health is %d as %s: %s", status, h.Mode, h.Reason)
	}
	if err := heardOf(r.client.ready(short, r.to)); err != nil {
		return err
	}
	// What the node says of itself it may say for as long as it does not know better.
	rec, _, err := r.readRecord(ctx)
	if err != nil {
		return fmt.Errorf("read the record of who writes: %w", err)
	}
	if rec.Holder != r.to.ID {
		return r.lostIt(rec)
	}
	return nil
}

// lostIt says that the target wrote, and another node has the record by now.
func (r *run) lostIt(rec lease.Record) error {
	return &MovedError{What: fmt.Sprintf("%s was made the writer of epoch %d", r.to.ID, r.epoch), Holder: rec.Holder, Epoch: uint64(rec.Epoch)}
}

// dns points the instance's name at the new writer.
func (r *run) dns(ctx context.Context) (string, error) {
	switch {
	case r.deps.DNS == nil || r.req.Zone == "":
		return "the instance has no name in DNS", nil
	case r.to.Address == "":
		return "", leave("the registry has no address of %s for %s", r.to.ID, r.req.Zone)
	}
	// This run may have stood still since smoke: nobody would point it away from here again.
	rec, _, err := r.readRecord(ctx)
	if err != nil {
		return "", leave("%s does not name %s (%s) yet, as the record of who writes cannot be read: %w", r.req.Zone, r.to.ID, r.to.Address, err)
	}
	if rec.Holder != r.to.ID {
		return "", r.lostIt(rec)
	}
	short, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	if err := r.deps.DNS.Point(short, r.req.Zone, r.to.Address, RecordTTL*time.Second); err != nil {
		return "", leave("%s does not name %s (%s) yet: %w", r.req.Zone, r.to.ID, r.to.Address, err)
	}
	return fmt.Sprintf("%s is %s, TTL %d s", r.req.Zone, r.to.Address, RecordTTL), nil
}

func (r *run) wouldDNS() string {
	if r.deps.DNS == nil || r.req.Zone == "" {
		return "the instance has no name in DNS"
	}
	return fmt.Sprintf("%s would be %s, TTL %d s", r.req.Zone, r.to.Address, RecordTTL)
}

// record leaves the report, and closes the journal unless something was left.
func (r *run) record(ctx context.Context) (string, error) {
	if r.journal.Run == "" {
		return "it was reported before", nil
	}
	if err := r.lost(ctx); err != nil {
		return "", err
	}
	own := Step{N: len(stepNames()), Name: stepRecord, Outcome: OK, Detail: reportKey}
	rep := r.report
	rep.Run, rep.StartedAt, rep.Planned = r.journal.Run, r.journal.StartedAt, r.journal.Planned
	rep.LostFrom, rep.LostTo = r.journal.LostFrom, r.journal.LostTo
	rep.Seconds = r.took().Seconds()
	rep.Steps = append(rep.Steps[:len(rep.Steps):len(rep.Steps)], own)
	if left := r.left(); len(left) > 0 {
		rep.Error = (&LeftError{To: r.to.ID, Epoch: r.epoch, Steps: left}).Error()
	}
	err := rewrite(ctx, r.deps.Registry, reportKey, func(now *Report) bool {
		if now.Epoch > rep.Epoch {
			return false // of a failover that came after
		}
		if now.Run == rep.Run && now.LostExact { // the old writer is back already
			rep.LostFrom, rep.LostTo, rep.LostExact = now.LostFrom, now.LostTo, true
		}
		*now = rep
		return true
	})
	if err != nil {
		return "", fmt.Errorf("%s is the writer of epoch %d; its report was not left in the registry: %w; run again", r.to.ID, r.epoch, err)
	}
	return reportKey, r.note(ctx, func(j *journal) {
		j.ended(own)
		if j.Step = ""; len(r.left()) == 0 {
			j.State = done
		}
	})
}

// lost makes exact what was lost: the new writer's log may have had more when it opened
// than when its epoch was taken.
func (r *run) lost(ctx context.Context) error {
	if r.journal.LostTo == 0 {
		return nil
	}
	rec, _, err := r.readRecord(ctx)
	if err != nil {
		return fmt.Errorf("%s is the writer of epoch %d; read in the record where it began: %w; run again", r.to.ID, r.epoch, err)
	}
	return r.note(ctx, func(j *journal) {
		for _, o := range rec.Line {
			if uint64(o.Epoch) >= j.Epoch && rec.ConfirmedEpoch >= o.Epoch {
				j.LostFrom = uint64(o.FirstLSN) // of a later epoch, where the node was started again
				break
			}
		}
		if j.LostFrom > j.LostTo || j.LostFrom == 0 {
			j.LostFrom, j.LostTo = 0, 0
		}
	})
}
