package drill

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

const (
	// usualLull is how long the load runs before anything happens, and how long after
	// the first ack of the new writer, where the plan says nothing else.
	usualLull = time.Second
	// overWithin bounds the wait for an ack of a new epoch.
	overWithin = 2 * time.Minute
	// rejoinWithin bounds the wait for the old writer to follow.
	rejoinWithin = 2 * time.Minute
	// undoWithin bounds the end of a fault, settleWithin what is looked up when a drill has
	// gone wrong.
	undoWithin   = 30 * time.Second
	settleWithin = time.Minute
)

// Plan is one drill.
type Plan struct {
	Load Load
	// Fault names what is done.
	Fault string
	// Epoch is the one before the drill.
	Epoch uint64
	// Do makes the fault, and says when it was made, and to the writer of which epoch; 0 is
	// the one that has acknowledged last. Undo, if any, ends it: also one of which Do does
	// not know whether it was made.
	Do   func(ctx context.Context) (at time.Time, epoch uint64, err error)
	Undo func(ctx context.Context) error
	// Rejoined waits until the old writer follows and is in sync.
	Rejoined func(ctx context.Context) error
	// Report gives what the failover itself reports; may be nil.
	Report func(ctx context.Context) (json.RawMessage, error)
	// Before is how long the load runs before the fault, After that after the first ack;
	// 0 is usualLull.
	Before, After time.Duration
	// Say tells a person what happens.
	Say func(format string, args ...any)
}

// Report is what a drill has found. Its JSON is stable.
type Report struct {
	Verdict     string    `json:"verdict"`
	Fault       string    `json:"fault"`
	StartedAt   time.Time `json:"started_at"`
	EpochBefore uint64    `json:"epoch_before"`
	EpochAfter  uint64    `json:"epoch_after"`
	// Writers wrote, and had for Before when the fault was made, in seconds.
	Writers int     `json:"writers"`
	Before  float64 `json:"before_seconds"`
	// FirstAck is the time from the fault to the first write that the new writer has
	// acknowledged, Pause the longest time without an ack from the fault on, Rejoined
	// that from the first ack until the old writer follows in sync; all in seconds.
	FirstAck float64 `json:"first_ack_seconds"`
	Pause    float64 `json:"pause_seconds"`
	Rejoined float64 `json:"rejoined_seconds"`
	// Acked and Unknown count writes, Failed answers that say that nothing was written.
	Acked   int            `json:"acked"`
	Failed  map[string]int `json:"failed"`
	Unknown int            `json:"unknown"`
	// Beside counts the same of a client that had the old writer's own address; nil where
	// there was none.
	Beside *Beside `json:"beside,omitempty"`
	// Lost are the acknowledged writes that are not there, Beside's too; Phantoms those
	// that are there, of which it was said that nothing was written.
	Lost     []string        `json:"lost"`
	Phantoms []string        `json:"phantoms"`
	Failover json.RawMessage `json:"failover,omitempty"`
}

// Beside is what a client saw that had the old writer's own address. Once it follows it
// refuses writes, which counts as failed.
type Beside struct {
	Acked   int            `json:"acked"`
	Failed  map[string]int `json:"failed"`
	Unknown int            `json:"unknown"`
}

// The verdicts.
const (
	Passed = "passed"
	Failed = "failed"
)

// Run makes the fault under load, and gives a report also where something was lost: then
// its verdict is Failed. An error says that the drill could not be done to its end; what
// was acknowledged up to then was looked for all the same.
func Run(ctx context.Context, p Plan) (r Report, err error) {
	p.Before, p.After = cmp.Or(p.Before, usualLull), cmp.Or(p.After, usualLull)
	r = Report{
		Verdict: Failed, Fault: p.Fault, StartedAt: time.Now().UTC(), EpochBefore: p.Epoch, Lost: []string{}, Phantoms: []string{}, Failed: map[string]int{},
		Writers: p.Load.Writers, Before: p.Before.Seconds(),
	}
	load, err := p.Load.Begin(ctx)
	if err != nil {
		return r, err
	}
	defer load.stop() // also where whoever makes the fault ends this goroutine, as a test does
	err = p.during(ctx, &r, load.account)
	err = errors.Join(err, load.End())
	looking, enough := context.WithTimeout(context.WithoutCancel(ctx), settleWithin)
	defer enough()
	missed := load.Found(looking, &r)
	if p.Report != nil {
		var unread error
		r.Failover, unread = p.Report(looking)
		missed = errors.Join(missed, unread)
	}
	if err = errors.Join(err, missed); err == nil && len(r.Lost)+len(r.Phantoms) == 0 {
		r.Verdict = Passed
	}
	return r, err
}

// during is what happens while the load runs.
func (p *Plan) during(ctx context.Context, r *Report, account *Account) (err error) {
	if err := idle(ctx, p.Before); err != nil {
		return err
	}
	// Where nothing was acknowledged before the fault nothing can be found lost by it.
	begun, enough := context.WithTimeoutCause(ctx, overWithin, fmt.Errorf("no write was acknowledged before the fault within %s", overWithin))
	defer enough()
	if _, err := account.first(begun, time.Time{}, 0); err != nil {
		return err
	}
	// What acknowledges now may be of a later epoch than who asked for the drill knew.
	r.EpochBefore = max(r.EpochBefore, account.epoch())
	p.Say("%d writers write; %s …", p.Load.Writers, p.Fault)
	at, epoch, err := p.Do(ctx)
	if err != nil {
		return errors.Join(fmt.Errorf("make the fault: %w", err), p.undo(ctx))
	}
	r.EpochBefore = max(r.EpochBefore, epoch)
	bounded, cancel := context.WithTimeoutCause(ctx, overWithin, fmt.Errorf("no write was acknowledged in an epoch above %d within %s", r.EpochBefore, overWithin))
	defer cancel()
	first, err := account.first(bounded, at, r.EpochBefore)
	rejoining, done := context.WithTimeoutCause(ctx, rejoinWithin, fmt.Errorf("the old writer does not follow in sync within %s", rejoinWithin))
	defer done()
	rejoined := make(chan error, 1)
	var back time.Time
	if err == nil {
		// It may be back long before the load ends.
		go func() {
			err := p.Rejoined(rejoining)
			back = time.Now()
			rejoined <- err
		}()
		r.EpochAfter, r.FirstAck = first.Epoch, first.At.Sub(at).Seconds()
		p.Say("epoch %d acknowledged its first write %.2f s after the fault", first.Epoch, r.FirstAck)
		err = idle(ctx, p.After)
	}
	err = errors.Join(err, p.undo(ctx))
	if first.ID == "" {
		return err
	}
	if err != nil {
		done()
	}
	if late := <-rejoined; err == nil && late != nil {
		err = fmt.Errorf("wait for the old writer: %w", late)
	}
	if err != nil {
		return err
	}
	r.Rejoined, r.Pause = back.Sub(first.At).Seconds(), account.pause(at, time.Now()).Seconds()
	p.Say("the old writer followed in sync %.2f s after that write", r.Rejoined)
	return nil
}

// undo ends the fault, even if the drill is to end.
func (p *Plan) undo(ctx context.Context) error {
	if p.Undo == nil {
		return nil
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoWithin)
	defer cancel()
	if err := p.Undo(ending); err != nil {
		return fmt.Errorf("the fault (%s) may go on, as it could not be ended: %w; take the instance down and up", p.Fault, err)
	}
	return nil
}

func idle(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
