package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"originchain/scripts/call"
	"originchain/shared/api"
)

// inSyncWithin is how long the follower may take to be waited for.
const inSyncWithin = 30 * time.Second

// compare shows how the follower stands to the writer: how far behind it is, that
// its state is the same, and that a write can be read there at once.
func (d *demo) compare(ctx context.Context) error {
	w, f, err := d.converge(ctx, &call.Client{URL: d.at.Followers[0], Token: d.admin.Token})
	if err != nil {
		return err
	}
	took, lsn, err := d.readYourWrite(ctx)
	if err != nil {
		return err
	}
	d.sayf(`
How far behind is the follower?

             durable LSN  visible LSN  digest of the whole state
  writer     %11d  %11d  %s
  follower   %11d  %11d  %s
             lag %d frames; in sync: %t

A row written to the writer (LSN %s) was read from the follower %s later.
`, w.DurableLSN, w.AppliedLSN, w.Digest, f.DurableLSN, f.AppliedLSN, f.Digest, w.AppliedLSN-f.AppliedLSN, len(w.InSync) > 0,
		lsn, took.Round(10*time.Microsecond))
	return nil
}

// converge waits until the follower is in sync and shows what the writer shows.
func (d *demo) converge(ctx context.Context, follower *call.Client) (w, f api.Replication, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, inSyncWithin, fmt.Errorf("not within %s; see %s", inSyncWithin, d.place.Logs()))
	defer cancel()
	for {
		if err := errors.Join(d.admin.Get(ctx, "/v1/admin/replication", &w), follower.Get(ctx, "/v1/admin/replication", &f)); err != nil {
			return w, f, fmt.Errorf("compare the follower with the writer: %w", err)
		}
		if len(w.InSync) > 0 && w.AppliedLSN == f.AppliedLSN {
			if w.Digest != f.Digest {
				return w, f, fmt.Errorf("at LSN %d the writer's state has digest %s and the follower's %s: this must never be; keep %s and report it", w.AppliedLSN, w.Digest, f.Digest, d.dir)
			}
			return w, f, nil
		}
		select {
		case <-ctx.Done():
			return w, f, fmt.Errorf("the follower did not catch up: %w", context.Cause(ctx))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// readYourWrite writes a row that is there already and reads it from the follower
// with the place of the write.
func (d *demo) readYourWrite(ctx context.Context) (took time.Duration, lsn string, err error) {
	path := "/v1/tenants/" + d.at.Tenant + "/rows/demo.airports/HNL"
	there := &call.Client{URL: d.at.Followers[0], Token: d.client.Token}
	// From the follower, which so has the token checked once: that takes as long as
	// a slow hash must.
	row, err := there.Do(ctx, call.Request{Method: http.MethodGet, Path: path})
	if err != nil {
		return 0, "", err
	}
	wrote, err := d.client.Do(ctx, call.Request{Method: http.MethodPut, Path: path, ContentType: api.ContentTypeJSON, Body: row.Body})
	if err != nil {
		return 0, "", err
	}
	if wrote.Status != http.StatusOK {
		return 0, "", fmt.Errorf("write a row: status %d: %s", wrote.Status, wrote.Body)
	}
	lsn = wrote.Header.Get(api.HeaderLSN)
	started := time.Now()
	read, err := there.Do(ctx, call.Request{Method: http.MethodGet, Path: path,
		Header: []string{api.HeaderMinLSN, lsn, api.HeaderMinEpoch, wrote.Header.Get(api.HeaderEpoch)}})
	if err != nil {
		return 0, "", err
	}
	if read.Status != http.StatusOK {
		return 0, "", fmt.Errorf("read the row from the follower: status %d: %s", read.Status, read.Body)
	}
	return time.Since(started), lsn, nil
}
