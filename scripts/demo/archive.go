package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"originchain/shared/api"
)

const (
	// recoverableWithin is how long the archive may take to have a write: two windows
	// of the tail are a second, the rest is for a machine that is busy.
	recoverableWithin = time.Minute
	// archivePoll is the pause between two looks at the archive.
	archivePoll = 100 * time.Millisecond
)

// archived shows how far the archive is, once it has all that was written so far, and
// the command that restores it.
func (d *demo) archived(ctx context.Context) error {
	var at api.Replication
	if err := d.admin.Get(ctx, "/v1/admin/replication", &at); err != nil {
		return fmt.Errorf("ask the writer where its log stands: %w", err)
	}
	a, err := d.recoverable(ctx, at.DurableLSN)
	if err != nil {
		return err
	}
	d.sayf(`
What does the archive in %s hold? (GET /v1/admin/archive)

  recoverable until LSN %d, %s; the writer's log ends at LSN %d
  lost with this machine now: the last %.1f s; tail shipping is %s

  To restore that moment, or any other before it, into a directory of its own:

  %s restore --archive %s --data-dir %s --target %s
`, d.place.Archive(), a.lsn, moment(a.until), at.DurableLSN, a.rpoSeconds, a.tail, d.program(ocPITR), quote(d.at.Archive), quote(d.file("copy")), moment(a.until))
	return nil
}

// reach is how far the archive is.
type reach struct {
	lsn        uint64
	until      time.Time
	rpoSeconds float64
	tail       string
}

// recoverable waits until the archive holds the log up to a frame, and all before it:
// parts of the tail arrive in any order, so that the newest alone says too little.
func (d *demo) recoverable(ctx context.Context, at uint64) (reach, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, recoverableWithin, fmt.Errorf("not within %s", recoverableWithin))
	defer cancel()
	tick := time.NewTicker(archivePoll)
	defer tick.Stop()
	for {
		r, err := d.reached(ctx)
		if err == nil && r.lsn >= at && r.rpoSeconds == 0 {
			return r, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			if err == nil || errors.Is(err, ctx.Err()) {
				err = context.Cause(ctx)
			}
			return r, fmt.Errorf("wait until the archive in %s holds LSN %d: %w; the check \"archive\" of /ready, and the logs in %s, say what it waits for", d.place.Archive(), at, err, d.place.Logs())
		}
	}
}

// reached asks the writer how far the archive is.
func (d *demo) reached(ctx context.Context) (r reach, err error) {
	var out api.Archive
	if err := d.admin.Get(ctx, "/v1/admin/archive", &out); err != nil {
		return r, err
	}
	if out.RPOSeconds == nil {
		return r, fmt.Errorf("%s ships nothing to the archive", d.at.Endpoint)
	}
	r.rpoSeconds, r.tail = *out.RPOSeconds, out.TailStatus
	// The newest come first. A checkpoint alone would not lead to a moment before it.
	for _, x := range out.Segments {
		if x.Kind == "checkpoint" {
			continue
		}
		r.lsn, r.until = x.LSNEnd, time.Now().Add(-time.Duration(r.rpoSeconds*float64(time.Second)))
		if x.SealedAt != nil {
			r.until = *x.SealedAt
		}
		break
	}
	return r, nil
}

// moment is a time as oc-pitr takes it.
func moment(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000000Z") }
