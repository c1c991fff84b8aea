package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"originchain/scripts/call"
	"originchain/scripts/child"
	"originchain/shared/api"
)

// pair is a writer and the follower of it, and what was opened of a restored copy.
type pair struct {
	writer, follower, restored *child.Server
	logs                       []*os.File
}

// startPair starts the writer and, once it is ready, the follower: the admin token
// of both is in a file that the writer makes.
func (d *demo) startPair(ctx context.Context) (err error) {
	d.pair = &pair{}
	control, err := filepath.Abs(d.control)
	if err != nil {
		return err
	}
	archive, err := d.archiveURL()
	if err != nil {
		return err
	}
	stream, err := child.FreeAddress()
	if err != nil {
		return err
	}
	started := time.Now()
	d.sayf("Starting %s on http://%s …", d.binary, d.listen)
	d.pair.writer, err = d.start(d.serverLog, child.Options{
		Binary: d.binary, DataDir: d.data, Listen: d.listen,
		Args: []string{"--node-id", "writer", "--advertise", "http://" + d.listen, "--replication-listen", stream,
			"--control", "file://" + control, "--sync-replicas", "1", "--archive", archive, "--tail-ship"},
	})
	if err != nil {
		return err
	}
	if err := d.ready(ctx, d.pair.writer, d.serverLog); err != nil {
		return err
	}
	d.sayf(" ready after %s.\n", time.Since(started).Round(time.Millisecond))
	return d.startFollower(ctx, control, archive, stream)
}

func (d *demo) startFollower(ctx context.Context, control, archive, stream string) error {
	started := time.Now()
	listen, err := child.FreeAddress()
	if err != nil {
		return err
	}
	d.sayf("Starting a follower of it on http://%s …", listen)
	d.pair.follower, err = d.start(d.followerLog, child.Options{
		Binary: d.binary, DataDir: d.followerData, Listen: listen,
		Args: []string{"--mode", "follower", "--node-id", "follower", "--advertise", "http://" + listen, "--leader-addr", stream,
			"--control", "file://" + control, "--admin-token-file", d.adminToken, "--archive", archive, "--tail-ship"},
	})
	if err != nil {
		return err
	}
	if err := d.ready(ctx, d.pair.follower, d.followerLog); err != nil {
		return err
	}
	d.sayf(" ready after %s.\n", time.Since(started).Round(time.Millisecond))
	return nil
}

// start runs one server with its output in a file.
func (d *demo) start(log string, o child.Options) (*child.Server, error) {
	f, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the server's log file: %w; choose another directory with --dir", err)
	}
	d.pair.logs = append(d.pair.logs, f)
	o.Output = f
	return child.Start(o)
}

func (d *demo) ready(ctx context.Context, s *child.Server, log string) error {
	ready, cancel := context.WithTimeoutCause(ctx, readyWithin, fmt.Errorf("not within %s", readyWithin))
	defer cancel()
	if err := s.WaitReady(ready); err != nil {
		return fmt.Errorf("%w\nthe whole log is in %s", err, log)
	}
	return nil
}

// stop ends the servers in order, the writer last, and says so.
func (d *demo) stop() error {
	p := d.pair
	if p == nil {
		return nil
	}
	var errs []error
	said := false
	for _, s := range []*child.Server{p.restored, p.follower, p.writer} {
		if s == nil {
			continue
		}
		select {
		case <-s.Exited():
			continue // said already
		default:
		}
		if !said {
			d.sayf("\nStopping the servers …")
			said = true
		}
		ctx, cancel := context.WithTimeoutCause(context.Background(), stopWithin, fmt.Errorf("not within %s; it was killed, and loses nothing by it", stopWithin))
		if err := s.Stop(ctx); err != nil {
			errs = append(errs, fmt.Errorf("stop the server: %w", err))
		}
		cancel()
	}
	if said && len(errs) == 0 {
		d.sayf(" stopped; the data stays in %s.\n", d.dir)
	}
	for _, f := range p.logs {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// inSyncWithin is how long the follower may take to be waited for.
const inSyncWithin = 30 * time.Second

// compare shows how the follower stands to the writer: how far behind it is, that
// its state is the same, and that a write can be read there at once.
func (d *demo) compare(ctx context.Context) error {
	admin, err := readToken(d.adminToken)
	if err != nil {
		return err
	}
	writer := &call.Client{URL: d.pair.writer.URL(), Token: admin}
	follower := &call.Client{URL: d.pair.follower.URL(), Token: admin}
	w, f, err := d.converge(ctx, writer, follower)
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
func (d *demo) converge(ctx context.Context, writer, follower *call.Client) (w, f api.Replication, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, inSyncWithin, fmt.Errorf("not within %s; see %s", inSyncWithin, d.followerLog))
	defer cancel()
	for {
		if err := errors.Join(writer.Get(ctx, "/v1/admin/replication", &w), follower.Get(ctx, "/v1/admin/replication", &f)); err != nil {
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
	path := "/v1/tenants/" + d.tenant + "/rows/demo.airports/HNL"
	there := &call.Client{URL: d.pair.follower.URL(), Token: d.client.Token}
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
