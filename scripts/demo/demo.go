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
	dir, binary, pitr, listen string
	listenGiven, once         bool
}

// paths are the files of one demo.
type paths struct {
	data, adminToken, serverLog, record, token, env string
	followerData, followerLog, control              string
	archive, restored, restoredLog                  string
}

func layout(dir string) paths {
	data := filepath.Join(dir, "data")
	return paths{
		data: data, adminToken: filepath.Join(data, "admin.token"),
		serverLog: filepath.Join(dir, "server.log"), record: filepath.Join(dir, "demo.json"),
		token: filepath.Join(dir, "tenant.token"), env: filepath.Join(dir, "env"),
		followerData: filepath.Join(dir, "follower"), followerLog: filepath.Join(dir, "follower.log"), control: filepath.Join(dir, "control"),
		archive: filepath.Join(dir, "archive"), restored: filepath.Join(dir, "restored"), restoredLog: filepath.Join(dir, "restored.log"),
	}
}

// demo is one run.
type demo struct {
	options
	paths
	out io.Writer
	// tools is where the programs that it runs show their progress.
	tools  io.Writer
	pair   *pair
	tenant string
	client *call.Client // with the tenant's token
}

// run does the whole demo. Whatever happens, the servers have ended when it returns.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	d := &demo{options: o, paths: layout(o.dir), out: out}
	if err := d.prepare(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	if err := d.show(ctx); err != nil || o.once {
		return interrupted(ctx, err)
	}
	select {
	case <-ctx.Done():
		return nil
	case <-d.pair.writer.Exited():
		return ended(d.pair.writer, d.serverLog)
	case <-d.pair.follower.Exited():
		return ended(d.pair.follower, d.followerLog)
	}
}

// interrupted leaves out the errors that a Ctrl-C in the middle of the work causes.
func interrupted(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// prepare makes the directory and chooses the address.
func (d *demo) prepare() error {
	for _, binary := range []string{d.binary, d.pitr} {
		if _, err := os.Stat(binary); err != nil {
			return fmt.Errorf("%w; run `make build` first (`make demo` does), in the root of the repository", err)
		}
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("create the demo's directory: %w; choose another with --dir", err)
	}
	return d.chooseAddress()
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
	if err := d.startPair(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{d.enter, d.load, d.tour, d.compare, d.archived} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return d.guide()
}

func ended(s *child.Server, log string) error {
	return fmt.Errorf("a server ended by itself; run `make demo` again to go on, %s has its log: %w", log, &child.ExitError{Code: s.ExitCode(), Output: s.Output()})
}

// sayf prints for the person in front of the terminal. A closed stdout must not
// stop the demo: the server behind it is still of use.
func (d *demo) sayf(format string, args ...any) { _, _ = fmt.Fprintf(d.out, format, args...) }
