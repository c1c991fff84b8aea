package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"originchain/scripts/call"
	"originchain/scripts/child"
)

const (
	// readyWithin is how long the server may take to open its data: a log of
	// many GiB, after a crash, would be replayed in this time.
	readyWithin = 5 * time.Minute
	// stopWithin is how long it may take to drain and sync.
	stopWithin = time.Minute
)

// options are the flags.
type options struct {
	dir, binary, listen string
	listenGiven, once   bool
}

// paths are the files of one demo.
type paths struct {
	data, adminToken, serverLog, record, token, env string
}

func layout(dir string) paths {
	data := filepath.Join(dir, "data")
	return paths{
		data: data, adminToken: filepath.Join(data, "admin.token"),
		serverLog: filepath.Join(dir, "server.log"), record: filepath.Join(dir, "demo.json"),
		token: filepath.Join(dir, "tenant.token"), env: filepath.Join(dir, "env"),
	}
}

// demo is one run.
type demo struct {
	options
	paths
	out    io.Writer
	server *child.Server
	tenant string
	client *call.Client // with the tenant's token
}

// run does the whole demo. Whatever happens, the server has ended when it returns.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	d := &demo{options: o, paths: layout(o.dir), out: out}
	serverLog, err := d.prepare()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, serverLog.Close()) }()
	if d.server, err = child.Start(child.Options{Binary: o.binary, DataDir: d.data, Listen: d.listen, Output: serverLog}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	if err := d.show(ctx); err != nil || o.once {
		return interrupted(ctx, err)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-d.server.Exited():
		return fmt.Errorf("the server ended by itself; run `make demo` again to go on, %s has its log: %w", d.serverLog, d.ended())
	}
}

// interrupted leaves out the errors that a Ctrl-C in the middle of the work causes.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// prepare makes the directory, chooses the address and opens the server's log file.
func (d *demo) prepare() (*os.File, error) {
	if _, err := os.Stat(d.binary); err != nil {
		return nil, fmt.Errorf("%w; run `make build` first (`make demo` does), in the root of the repository", err)
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the demo's directory: %w; choose another with --dir", err)
	}
	if err := d.chooseAddress(); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(d.serverLog, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the server's log file: %w; choose another directory with --dir", err)
	}
	return f, nil
}

func (d *demo) chooseAddress() error {
	l, err := net.Listen("tcp", d.listen)
	if err == nil {
		return l.Close()
	}
	if d.listenGiven {
		return fmt.Errorf("cannot listen on %s: %w; name a free port with --listen, or leave the flag out", d.listen, err)
	}
	taken := d.listen
	if d.listen, err = child.FreeAddress(); err != nil {
		return err
	}
	d.sayf("%s is taken; using %s instead.\n", taken, d.listen)
	return nil
}

func (d *demo) show(ctx context.Context) error {
	d.sayf("Starting %s on http://%s …", d.binary, d.listen)
	started := time.Now()
	ready, cancel := context.WithTimeoutCause(ctx, readyWithin, fmt.Errorf("not within %s", readyWithin))
	defer cancel()
	if err := d.server.WaitReady(ready); err != nil {
		return fmt.Errorf("%w\nthe whole log is in %s", err, d.serverLog)
	}
	d.sayf(" ready after %s.\n", time.Since(started).Round(time.Millisecond))
	for _, step := range []func(context.Context) error{d.enter, d.load, d.tour} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return d.guide()
}

// stop ends the server in order and says so.
func (d *demo) stop() error {
	select {
	case <-d.server.Exited():
		return nil // said already
	default:
	}
	d.sayf("\nStopping the server …")
	ctx, cancel := context.WithTimeoutCause(context.Background(), stopWithin, fmt.Errorf("not within %s; it was killed, and loses nothing by it", stopWithin))
	defer cancel()
	if err := d.server.Stop(ctx); err != nil {
		return fmt.Errorf("stop the server: %w", err)
	}
	d.sayf(" stopped; the data stays in %s.\n", d.dir)
	return nil
}

func (d *demo) ended() error {
	return &child.ExitError{Code: d.server.ExitCode(), Output: d.server.Output()}
}

// sayf prints for the person in front of the terminal. A closed stdout must not
// stop the demo: the server behind it is still of use.
func (d *demo) sayf(format string, args ...any) { _, _ = fmt.Fprintf(d.out, format, args...) }
