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
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
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
	// before is how long before the table is dropped the moment lies that is restored.
	before = time.Second
)

// errInterrupted says that a Ctrl-C came before the end.
var errInterrupted = errors.New("stopped before it was done; no server is left, and no unfinished copy")

// loss is what the demo does to itself.
type loss struct {
	rows   string
	target time.Time
	lsn    uint64
}

// runRestore loses a table and brings it back. Whatever happens, the servers have
// ended when it returns, and a copy is whole or gone.
func runRestore(ctx context.Context, o options, out, tools io.Writer) (err error) {
	d := &demo{options: o, paths: layout(o.dir), out: out, tools: tools}
	if err := d.prepare(); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, d.stop())
		if ctx.Err() != nil && err != nil {
			err = errInterrupted
		}
	}()
	if err := d.startPair(ctx); err != nil {
		return busy(err, d.dir)
	}
	// The writer holds the directory from here on, so nobody else works on the copy.
	if err := d.removeRestored(); err != nil {
		return err
	}
	done := false
	defer func() {
		if !done {
			err = errors.Join(err, d.discard())
		}
	}()
	for _, step := range []func(context.Context) error{d.enter, d.load, d.loseAndRestore} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	done = true
	d.sayf("\nThe copy stays in %s. %s stays dropped in the demo's own data; `make demo` loads it again.\n", d.restored, data.FlightsID)
	return nil
}

// busyCode is oc-server's exit code for a directory that another process has open.
const busyCode = 4

// busy says what to do where another demo has the directory.
func busy(err error, dir string) error {
	var exit *child.ExitError
	if errors.As(err, &exit) && exit.Code == busyCode {
		return fmt.Errorf("a demo runs in %s already: stop it with Ctrl-C, or name another directory with --dir: %w", dir, err)
	}
	return err
}

// removeRestored removes the copy of an earlier run, and what a killed one left.
func (d *demo) removeRestored() error {
	for _, dir := range []string{d.restored, d.restored + ".restoring"} {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("remove the copy of an earlier run: %w", err)
		}
	}
	return nil
}

// discard removes a copy that nobody has seen whole, once no server has it open.
func (d *demo) discard() error {
	if s := d.pair.restored; s != nil {
		if err := s.Kill(); err != nil {
			return err
		}
	}
	return d.removeRestored()
}

func (d *demo) loseAndRestore(ctx context.Context) error {
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
	if err := d.restoreTo(ctx, lost.target); err != nil {
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
	dropped, err := d.client.Do(ctx, call.Request{Method: http.MethodPost, Path: "/v1/tenants/" + d.tenant + "/sql",
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
	out, err := c.Select(ctx, d.tenant, "SELECT COUNT(*) AS n FROM "+data.FlightsID)
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
func (d *demo) restoreTo(ctx context.Context, target time.Time) error {
	archive, err := d.archiveURL()
	if err != nil {
		return err
	}
	args := []string{"restore", "--archive", archive, "--data-dir", d.restored, "--target", moment(target), "--json"}
	d.sayf("\n  %s restore --archive %s --data-dir %s --target %s --json\n\n", d.pitr, quote(archive), quote(d.restored), moment(target))
	out, err := d.runTool(ctx, d.pitr, args...)
	if err != nil {
		return err
	}
	var got restore.Result
	if err := json.Unmarshal(out, &got); err != nil {
		return fmt.Errorf("%s answered with something else than its document: %w: %.200q", d.pitr, err, out)
	}
	if !got.Verified {
		return fmt.Errorf("%s says that the copy is not verified; keep %s and report it: %s", d.pitr, d.archive, out)
	}
	d.sayf("Restored LSN %d, %s, in %.1f s; verified: %t, digest %s.\n\n  %s verify --data-dir %s\n\n",
		got.LSN, moment(got.Timestamp), got.Seconds, got.Verified, got.Digest, d.binary, quote(d.restored))
	out, err = d.runTool(ctx, d.binary, "verify", "--data-dir", d.restored)
	if err != nil {
		return err
	}
	d.sayf("%s\n", indented(string(bytes.TrimSpace(out))))
	return nil
}

// runTool runs a program to its end and returns what it printed; its progress goes to
// where ours does. Cancelled, it is asked to stop, and has ended on return. Like a
// server it has a process group of its own, so that Ctrl-C reaches it through us.
func (d *demo) runTool(ctx context.Context, program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, d.tools
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopWithin
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w; `%s --help` says what the code means\n%s", filepath.Base(program), args[0], err, program, bytes.TrimSpace(out.Bytes()))
	}
	return out.Bytes(), nil
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
	listen, err := child.FreeAddress()
	if err != nil {
		return err
	}
	started := time.Now()
	d.sayf("\nOpening the copy, as an instance of its own, on http://%s …", listen)
	d.pair.restored, err = d.start(d.restoredLog, child.Options{Binary: d.binary, DataDir: d.restored, Listen: listen})
	if err != nil {
		return err
	}
	if err := d.ready(ctx, d.pair.restored, d.restoredLog); err != nil {
		return err
	}
	d.sayf(" ready after %s.\n", time.Since(started).Round(time.Millisecond))
	there := &call.Client{URL: d.pair.restored.URL(), Token: d.client.Token}
	rows, err := d.count(ctx, there)
	if err != nil {
		return fmt.Errorf("count the restored rows: %w", err)
	}
	if rows != lost.rows {
		return fmt.Errorf("%s had %s rows at %s, and the copy has %s: this must never be; keep %s and report it", data.FlightsID, lost.rows, moment(lost.target), rows, d.archive)
	}
	out, err := there.Select(ctx, d.tenant, delayed.sql)
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
