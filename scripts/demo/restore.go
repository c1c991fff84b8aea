package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	"originchain/scripts/call"
	"originchain/scripts/child"
	"originchain/scripts/demo/data"
	"originchain/shared/api"
	"originchain/shared/progress"
	"originchain/shared/restore"
)

const (
	// exitInterrupted is what a shell reports of a command that Ctrl-C has ended.
	exitInterrupted = 130
	// readyWithin is how long a server may take to open the copy.
	readyWithin = 5 * time.Minute
	// before is how long before the table is dropped the moment lies that is restored.
	before = time.Second
)

// errInterrupted says that a Ctrl-C came before the end.
var errInterrupted = errors.New("stopped before it was done; nothing is left up, and no unfinished copy")

// loss is what the demo does to itself.
type loss struct {
	rows   string
	target time.Time
	lsn    uint64
}

// runRestore loses a table and brings it back. Whatever happens, the instance is down
// when it returns, and a copy is whole or gone.
func runRestore(ctx context.Context, o options, out, tools io.Writer) (err error) {
	d, err := newDemo(o, out)
	if err != nil {
		return err
	}
	if err := d.prepare(); err != nil {
		return err
	}
	unfinished := false
	defer func() {
		err = errors.Join(err, d.stop())
		if unfinished {
			err = errors.Join(err, d.removeRestored())
		}
		if ctx.Err() != nil && err != nil {
			err = errInterrupted
		}
	}()
	for _, step := range []func(context.Context) error{
		d.up,
		func(context.Context) error { unfinished = true; return d.removeRestored() },
		d.load,
		func(ctx context.Context) error { return d.loseAndRestore(ctx, tools) },
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	unfinished = false
	d.sayf("\nThe copy stays in %s. %s stays dropped in the demo's own data; `make demo` loads it again.\n", d.copy(), data.FlightsID)
	return nil
}

// copy is the directory of the restored copy.
func (d *demo) copy() string { return d.file("restored") }

// removeRestored removes the copy of an earlier run, and what a killed one left.
func (d *demo) removeRestored() error {
	for _, dir := range []string{d.copy(), d.copy() + ".restoring"} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove the copy of an earlier run: %w", err)
		}
	}
	return nil
}

func (d *demo) loseAndRestore(ctx context.Context, tools io.Writer) error {
	lost, err := d.lose(ctx)
	if err != nil {
		return err
	}
	d.sayf("\nWaiting until the archive has that, too …")
	r, err := d.recoverable(ctx, lost.lsn)
	if err != nil {
		return err
	}
	d.sayf(" recoverable until LSN %d.\n", r.lsn)
	if err := d.restoreTo(ctx, lost.target, tools); err != nil {
		return err
	}
	return d.showRestored(ctx, lost)
}

// lose drops a table, a second after the moment that it notes.
func (d *demo) lose(ctx context.Context) (lost loss, err error) {
	if lost.rows, err = d.count(ctx, d.client); err != nil {
		return lost, err
	}
	lost.target = time.Now()
	d.sayf("\nAt %s %s has %s rows. A second later somebody types:\n\n  DROP TABLE %s\n", moment(lost.target), data.FlightsID, lost.rows, data.FlightsID)
	select {
	case <-time.After(before):
	case <-ctx.Done():
		return lost, context.Cause(ctx)
	}
	dropped, err := d.client.Do(ctx, call.Request{Method: http.MethodPost, Path: "/v1/tenants/" + d.at.Tenant + "/sql",
		ContentType: api.ContentTypeJSON, Body: []byte(`{"sql": "DROP TABLE ` + data.FlightsID + `"}`)})
	if err != nil {
		return lost, err
	}
	if dropped.Status != http.StatusOK {
		return lost, fmt.Errorf("drop %s: status %d: %s", data.FlightsID, dropped.Status, dropped.Body)
	}
	if lost.lsn, err = strconv.ParseUint(dropped.Header.Get(api.HeaderLSN), 10, 64); err != nil {
		return lost, fmt.Errorf("drop %s: the answer does not say where in the log it stands: %w", data.FlightsID, err)
	}
	_, err = d.count(ctx, d.client)
	if call.Code(err) == "" {
		return lost, fmt.Errorf("%s is still there after it was dropped (%w); keep %s and report it", data.FlightsID, err, d.dir)
	}
	d.sayf("\nIt is gone, at LSN %d: %s\n", lost.lsn, code(err))
	return lost, nil
}

// code is what the server says of a request that it refuses.
func code(err error) string {
	var e *call.Error
	if errors.As(err, &e) {
		return e.Envelope.Error + ": " + e.Envelope.Message
	}
	return err.Error()
}

// count is how many rows the table has.
func (d *demo) count(ctx context.Context, c *call.Client) (string, error) {
	out, err := c.Select(ctx, d.at.Tenant, "SELECT COUNT(*) AS n FROM "+data.FlightsID)
	if err != nil {
		return "", err
	}
	if len(out.Rows) != 1 {
		return "", fmt.Errorf("count the rows of %s: %d answers", data.FlightsID, len(out.Rows))
	}
	row, err := decodeRow(out.Rows[0])
	if err != nil {
		return "", err
	}
	n, err := strconv.ParseInt(row["n"].text(), 10, 64)
	return progress.Thousands(n), err
}

// restoreTo restores the moment from the archive, and verifies the copy.
func (d *demo) restoreTo(ctx context.Context, target time.Time, tools io.Writer) error {
	args := []string{"restore", "--archive", d.at.Archive, "--data-dir", d.copy(), "--target", moment(target), "--json"}
	d.sayf("\n  %s restore --archive %s --data-dir %s --target %s --json\n\n", d.program(ocPITR), quote(d.at.Archive), quote(d.copy()), moment(target))
	out, err := d.runTool(ctx, tools, ocPITR, args...)
	if err != nil {
		return err
	}
	var got restore.Result
	if err := json.Unmarshal(out, &got); err != nil {
		return fmt.Errorf("%s answered with something else than its document: %w: %.200q", ocPITR, err, out)
	}
	if !got.Verified {
		return fmt.Errorf("%s says that the copy is not verified; keep %s and report it: %s", ocPITR, d.place.Archive(), out)
	}
	d.sayf("Restored LSN %d, %s, in %.1f s; verified: %t, digest %s.\n\n  %s verify --data-dir %s\n\n",
		got.LSN, moment(got.Timestamp), got.Seconds, got.Verified, got.Digest, d.program(ocServer), quote(d.copy()))
	out, err = d.runTool(ctx, tools, ocServer, "verify", "--data-dir", d.copy())
	if err != nil {
		return err
	}
	d.sayf("%s\n", indented(string(bytes.TrimSpace(out))))
	return nil
}

var delayed = question{
	"Which flights were the latest?",
	`SELECT f.id, f.date, f.origin, a.name AS destination, f.delay
FROM demo.flights f
JOIN demo.airports a ON a.iata = f.destination
ORDER BY f.delay DESC, f.id
LIMIT 5`,
}

// showRestored opens the copy and shows what the table has there. Without --archive and
// --control the copy becomes an instance of its own, and the demo's is left as it is.
func (d *demo) showRestored(ctx context.Context, lost loss) (err error) {
	if err := d.open(ctx); err != nil {
		return err
	}
	there := &call.Client{URL: d.restored.URL(), Token: d.client.Token}
	rows, err := d.count(ctx, there)
	if err != nil {
		return fmt.Errorf("count the restored rows: %w", err)
	}
	if rows != lost.rows {
		return fmt.Errorf("%s had %s rows at %s, and the copy has %s: this must never be; keep %s and report it", data.FlightsID, lost.rows, moment(lost.target), rows, d.place.Archive())
	}
	out, err := there.Select(ctx, d.at.Tenant, delayed.sql)
	if err != nil {
		return fmt.Errorf("ask %q: %w", delayed.title, err)
	}
	text, err := table(out)
	if err != nil {
		return err
	}
	d.sayf("\n%s of %s rows of %s are there again. %s\n\n%s\n\n%s", rows, lost.rows, data.FlightsID, delayed.title, indented(delayed.sql), text)
	return nil
}

// open starts a server on the copy.
func (d *demo) open(ctx context.Context) error {
	listen, err := child.FreeAddress()
	if err != nil {
		return err
	}
	log := d.file("restored.log")
	if d.copyLog, err = os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600); err != nil {
		return err
	}
	started := time.Now()
	d.sayf("\nOpening the copy, as an instance of its own, on http://%s …", listen)
	if d.restored, err = child.Start(child.Options{Binary: d.program(ocServer), DataDir: d.copy(), Listen: listen, Output: d.copyLog}); err != nil {
		return err
	}
	ready, cancel := context.WithTimeoutCause(ctx, readyWithin, fmt.Errorf("not within %s", readyWithin))
	defer cancel()
	if err := d.restored.WaitReady(ready); err != nil {
		return fmt.Errorf("%w\nthe whole log is in %s", err, log)
	}
	d.sayf(" ready after %s.\n", time.Since(started).Round(time.Millisecond))
	return nil
}
