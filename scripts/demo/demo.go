package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"originchain/lambdas/local/control"
	"originchain/lambdas/local/layout"
	"originchain/scripts/call"
	"originchain/scripts/child"
)

// options are the flags.
type options struct {
	dir, bin string
	once     bool
}

// demo is one run.
type demo struct {
	options
	place layout.Dir
	out   io.Writer
	// lock is held while this demo has the instance up.
	lock *os.File
	// at is where the instance is reached.
	at layout.Endpoints
	// client has the tenant's token, admin the admin's; both go to the endpoint.
	client, admin *call.Client
	// restored is a server on a restored copy, copyLog what it says.
	restored *child.Server
	copyLog  *os.File
}

func newDemo(o options, out io.Writer) (*demo, error) {
	place, err := layout.Open(o.dir)
	return &demo{options: o, place: place, out: out}, err
}

// run does the whole demo. Whatever happens, the instance is down when it returns.
func run(ctx context.Context, o options, out io.Writer) (err error) {
	d, err := newDemo(o, out)
	if err != nil {
		return err
	}
	if err := d.prepare(); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.stop()) }()
	err = d.show(ctx)
	if err == nil && !o.once {
		err = d.watch(ctx)
	}
	if ctx.Err() != nil {
		return nil // what a Ctrl-C in the middle of the work causes is no failure
	}
	return err
}

func (d *demo) show(ctx context.Context) error {
	for _, step := range []func(context.Context) error{d.up, d.load, d.tour, d.compare, d.archived, d.guide} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// runLoad loads the data into an instance that is up already.
func runLoad(ctx context.Context, o options, out io.Writer) error {
	d, err := newDemo(o, out)
	if err != nil {
		return err
	}
	if _, err := d.plane().Status(ctx); err != nil {
		return err
	}
	if err := d.enter(); err != nil {
		return err
	}
	return d.load(ctx)
}

// prepare makes the directory this demo's own.
func (d *demo) prepare() error {
	for _, name := range []string{ocControl, ocServer, ocPITR} {
		if _, err := os.Stat(d.program(name)); err != nil {
			return fmt.Errorf("%w; run `make build` first (`make demo` does), in the root of the repository", err)
		}
	}
	if err := os.MkdirAll(d.dir, 0o700); err != nil {
		return fmt.Errorf("create the demo's directory: %w; choose another with --dir", err)
	}
	// Up to now the demo had two servers of its own, whose files have the same names.
	if _, err := os.Stat(d.file("demo.json")); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is of an older demo, which had no oc-control: remove it, and run the demo again; or name another directory with --dir", d.dir)
	}
	return d.take()
}

// take takes the lock of the directory's demo, which ends with the process at the latest.
func (d *demo) take() (err error) {
	if d.lock, err = os.OpenFile(d.file("demo.lock"), os.O_CREATE|os.O_RDWR, 0o600); err != nil {
		return err
	}
	if err = unix.Flock(int(d.lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("a demo runs in %s already: stop it with Ctrl-C, or name another directory with --dir", d.dir)
	}
	if err != nil {
		return errors.Join(err, d.lock.Close())
	}
	return nil
}

// file is a file of the demo's own, beside those of oc-control.
func (d *demo) file(name string) string { return filepath.Join(d.dir, name) }

// watchEvery is the pause between two looks at the instance.
const watchEvery = 200 * time.Millisecond

// watch says which node becomes the writer, until a Ctrl-C.
func (d *demo) watch(ctx context.Context) error {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	var last control.Status
	for {
		s, err := d.plane().Status(ctx)
		var down *control.DownError
		switch {
		case errors.As(err, &down):
			return fmt.Errorf("the instance was taken down by somebody else, or its control plane has died; run `make demo` again to go on, %s has its log", d.place.Log())
		case err != nil: // the next look tells
		case last.Writer.Node == "":
			last = s
		case s.Epoch > last.Epoch && s.Writer.PID != 0:
			d.sayf("%s  %s (pid %d) is the writer now, of epoch %d.\n", time.Now().Format(time.TimeOnly), s.Writer.Node, s.Writer.PID, s.Epoch)
			last = s
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sayf prints for the person in front of the terminal. A closed stdout must not
// stop the demo: the instance behind it is still of use.
func (d *demo) sayf(format string, args ...any) { _, _ = fmt.Fprintf(d.out, format, args...) }
